//! The live scoreboard: a page without anything from elsewhere, and the document it polls.
//!
//! Signals come from the quality gate itself, over the newest decisions of this engine: page, `qsc scoreboard` and a
//! promotion cannot differ in what they would say of the same predictions.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use qsc_kernel::{Action, Inactive};
use serde::Serialize;
use serde_json::{Value, json};

use super::board::{Board, HostStage, ModelBoard, SIDES, known};
use super::boards::Boards;
use super::recent::{KEPT, Record, Said};
use super::{health, histogram};
use crate::gate::{Mode, ModelVerdict, QualityGate, QualityVerdict, Require, Rules, Scoreboard, Terms};
use crate::identity;
use crate::stream::{Event, EventId, TRADE_INTENT, millis};

/// However many look, the gate judges no more often than this.
const FRESH: Duration = Duration::from_secs(1);

static PAGE: LazyLock<String> = LazyLock::new(|| {
    include_str!("page.html")
        .replace("/*STYLE*/", concat!(include_str!("../report/style.css"), include_str!("page.css")))
        .replace("/*SCRIPT*/", include_str!("page.js"))
});

/// What the live scoreboard needs besides the board.
#[derive(Debug)]
pub struct Live {
    rules: Rules,
    /// Where events come from, without secrets.
    source: String,
    /// The last document, and when it was made. Only the server's threads wait for each other here.
    last: Mutex<Option<(Instant, String)>>,
}

impl Live {
    /// A scoreboard by these rules.
    #[must_use]
    pub const fn new(rules: Rules, source: String) -> Self {
        Self { rules, source, last: Mutex::new(None) }
    }

    /// The page.
    #[must_use]
    pub fn page(&self) -> &'static str {
        &PAGE
    }

    /// The document, at most a second old.
    #[must_use]
    pub fn json(&self, boards: &Boards) -> String {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((made, text)) if made.elapsed() < FRESH => text.clone(),
            _ => {
                let text = self.document(boards).to_string();
                *last = Some((Instant::now(), text.clone()));
                text
            }
        }
    }

    fn document(&self, boards: &Boards) -> Value {
        let records = boards.recent();
        boards.read(|board| self.document_of(board, &records))
    }

    fn document_of(&self, board: &Board, records: &[Record]) -> Value {
        let verdict = judge(board, records, &self.rules);
        let scoreboard = Scoreboard::of(&verdict);
        let number = |cell: &std::sync::atomic::AtomicU64| cell.load(Ordering::Relaxed);
        let sides: BTreeMap<_, _> = SIDES.into_iter().zip(board.sides.iter().map(number)).collect();
        let stages: BTreeMap<_, _> = HostStage::ALL
            .iter()
            .zip(&board.stages)
            .map(|(stage, of)| (stage.name(), quantiles(of)))
            .collect();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let models: Vec<Value> =
            board.models.iter().map(|model| figures(model, &verdict, &scoreboard)).collect();
        let health = health::health(board);
        let ready = health::readiness(board);
        json!({
            "now_ms": millis(now),
            "build": identity::build(),
            "version": env!("CARGO_PKG_VERSION"),
            "source": self.source,
            "started": board.started_at,
            "healthy": health.well,
            "ready": ready.well,
            "findings": ready.findings.iter()
                .map(|(name, well, words)| json!({"name": name, "well": well, "words": words}))
                .collect::<Vec<_>>(),
            "events": number(&board.events),
            "rejects": number(&board.rejects),
            "sides": sides,
            "newest_event_ms": known(&board.newest_event),
            "stream": board.stream.is_one.load(Ordering::Relaxed).then(|| {
                let stream = &board.stream;
                json!({
                    "lag": number(&stream.lag),
                    "settled": number(&stream.settled),
                    "dead": number(&stream.dead),
                    "lost": number(&stream.lost),
                    "reconnects": number(&stream.reconnects),
                    "leases_lost": number(&stream.leases_lost),
                })
            }),
            "generation": number(&board.generation),
            "stages_us": stages,
            "judged": {"events": verdict.events.count, "kept": KEPT, "min": verdict.events.min},
            "agreement_pct": scoreboard.ensemble.agreement_pct,
            "hard_disagreement_pct": scoreboard.ensemble.hard_disagreement_pct,
            "reasons": scoreboard.reasons,
            "loosened": verdict.loosened,
            "models": models,
        })
    }
}

/// Quantiles in microseconds; `null` beyond the last bound.
fn quantiles(histogram: &histogram::Histogram) -> Value {
    let snapshot = histogram.snapshot();
    let us = |share| snapshot.quantile(share).map(|seconds| seconds * 1e6);
    json!({"count": snapshot.count, "p50": us(0.5), "p99": us(0.99)})
}

fn figures(model: &ModelBoard, verdict: &QualityVerdict, scoreboard: &Scoreboard) -> Value {
    let standing = scoreboard.signals.get(&model.name);
    let judged = verdict.models.get(&model.name);
    let of = |read: fn(&ModelVerdict) -> Value| judged.map_or(Value::Null, read);
    json!({
        "name": model.name,
        "shadow": model.shadow,
        "loaded": model.loaded.load(Ordering::Relaxed),
        "weight": Board::weight(model),
        "signal": standing.map(|standing| standing.signal),
        "reasons": standing.map(|standing| &standing.reasons),
        "predictions": of(|judged| json!(judged.predictions)),
        "inactive": of(|judged| json!(judged.inactive)),
        "inactive_reasons": of(|judged| json!(judged.inactive_reasons)),
        "actions": of(|judged| json!(judged.actions)),
        "confidence": of(|judged| json!(judged.confidence)),
        "recent": of(|judged| json!(judged.recent)),
        "time_us": quantiles(&model.time),
    })
}

/// What the quality gate says of these decisions.
fn judge(board: &Board, records: &[Record], rules: &Rules) -> QualityVerdict {
    let terms = Terms { mode: Mode::Canary, require: Require::Any, requested: KEPT, cutover: None };
    let mut gate = QualityGate::new(terms);
    for record in records {
        gate.observe(&Ok(Event {
            id: EventId { ms: record.ms, seq: 0 },
            event_type: TRADE_INTENT.to_owned(),
            payload: breakdown(board, record),
            trace_id: None,
            timestamp: None,
            source: None,
        }));
    }
    gate.finish(rules, None)
}

/// The `model_breakdown` of a decision, as its intent has it.
fn breakdown(board: &Board, record: &Record) -> String {
    let models = board.models.iter().zip(&record.said).map(|(model, said)| (&model.name, Entry::from(said)));
    let breakdown: BTreeMap<_, _> = models.collect();
    let payload = BTreeMap::from([("model_breakdown", breakdown)]);
    serde_json::to_string(&payload).expect("names are strings and every number serializes")
}

/// One model; a confidence is spelled with the digits an f32 needs, as in an intent.
#[derive(Serialize)]
struct Entry {
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<Action>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<f32>,
    inactive: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    inactive_reason: Option<&'static str>,
}

impl From<&Said> for Entry {
    fn from(said: &Said) -> Self {
        let (action, confidence) = said.prediction.unzip();
        let inactive_reason = said.inactive.map(Inactive::wire_name);
        Self { action, confidence, inactive: inactive_reason.is_some(), inactive_reason }
    }
}
