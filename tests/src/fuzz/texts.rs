//! Events, rows, settings and state: what is accepted is written back as it was read.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use qsc_cli::canary::audit::AuditLog;
use qsc_cli::canary::state::{Recovered, State};
use qsc_cli::canary::watch::Watch;
use qsc_cli::canary::weights::{Baseline, WeightsFile};
use qsc_cli::engine::config::ModelsConfig;
use qsc_cli::engine::intent::intent;
use qsc_cli::engine::load::Images;
use qsc_cli::engine::panic_guard::PanicGuard;
use qsc_cli::engine::{Candidate, Engine, MAX_MODELS, bundled};
use qsc_cli::gate::{Mode, QualityGate, Require, Rules, SanityGate, Terms};
use qsc_cli::report::{self, Header, sanity_document, sanity_text};
use qsc_cli::rows::{self as rows_of, Rows};
use qsc_cli::settings::Settings;
use qsc_cli::stream::{
    Event, EventId, Item, Json, LinkOptions, MARKET_FEATURES, RedisAddress, Source, SourceSpec, TRADE_INTENT,
    Window, parse_duration, parse_timestamp,
};
use qsc_cli::{args, settings};
use qsc_kernel::Model;

use super::{BETWEEN, with_file};

/// Events of one input that are judged and decided.
const MOST_EVENTS: usize = 32;

/// A capture file; and the same bytes as one payload.
pub fn events(data: &[u8]) {
    let mut items = with_file("capture.jsonl", data, read_capture);
    items.truncate(MOST_EVENTS);
    if let Ok(text) = std::str::from_utf8(data) {
        json(text);
        for event_type in [TRADE_INTENT, MARKET_FEATURES] {
            items.push(Ok(event_of(event_type, text)));
        }
    }
    judge(&items);
    ENGINE.with_borrow_mut(|engine| {
        for event in items.iter().flatten() {
            decide(engine, event);
        }
    });
}

/// `MODELS.toml`, to an ensemble of models that were not loaded.
pub fn models_toml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(config) = ModelsConfig::parse(text, Path::new("models")) else { return };
    let rules = config.vote_rules();
    assert!((0.0..=1.0).contains(&rules.max_confidence()), "{rules:?}");
    assert!(config.models.iter().all(|model| !model.name.is_empty() && model.weight.get() <= 1_000_000));
    let absent = |config: &qsc_cli::engine::config::ModelConfig| Candidate::<Model<'_>> {
        config: config.clone(),
        feature_names: vec!["x".to_owned()],
        scratch_bytes: 0,
        predictor: None,
    };
    match Engine::new(&config, config.models.iter().map(absent).collect()) {
        Ok(mut engine) => {
            decide(&mut engine, &event_of(MARKET_FEATURES, r#"{"symbol":"S","features":{"x":1}}"#))
        }
        Err(error) => assert!(config.models.len() > MAX_MODELS, "{error:#}"),
    }
}

/// A settings file; and the same text as each kind of value a flag takes.
pub fn settings_toml(data: &[u8]) {
    thread_local! {
        static TREE: clap::Command = settings::environment(args::command_tree());
    }
    TREE.with(|tree| {
        if let Ok(settings) = with_file("qsc.toml", data, |path| Settings::read(path, tree)) {
            let _ = settings.rules();
        }
    });
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(id) = text.parse::<EventId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    let _ = (parse_timestamp(text), parse_duration(text), SourceSpec::parse(text), RedisAddress::parse(text));
}

/// The same bytes as `.npy`, as CSV and as JSONL.
pub fn rows(data: &[u8]) {
    for name in ["rows.npy", "rows.csv", "rows.jsonl"] {
        let Ok(read) = with_file(name, data, rows_of::read) else { continue };
        let again = with_file(name, b"", |path| {
            // JSON cannot say infinity, and says so.
            rows_of::write(path, &read)
                .ok()
                .map(|()| rows_of::read(path).expect("what was written can be read"))
        });
        let infinite = read.data().iter().any(|value| value.is_infinite());
        let Some(again) = again else {
            assert!(name.ends_with("jsonl") && infinite, "{name} was read and cannot be written");
            continue;
        };
        let bits = |rows: &Rows| {
            rows.data()
                .iter()
                .map(|value| if value.is_nan() { 0 } else { value.to_bits() })
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (again.shape(), again.names(), bits(&again)),
            (read.shape(), read.names(), bits(&read)),
            "{name}"
        );
    }
    let _ = with_file("rows.npy", data, rows_of::read_f64);
}

/// The files of a state directory, one behind the other: weights, baseline, watch, audit log, its head.
pub fn state(data: &[u8]) {
    const FILES: [&str; 5] = ["weights.json", "baseline.json", "watch.json", "audit.jsonl", "audit.head"];
    let directory = tempfile::tempdir().expect("a scratch directory can be made");
    for (name, part) in FILES.iter().zip(data.split(|&byte| byte == BETWEEN)) {
        fs::write(directory.path().join(name), part).expect("a scratch file can be written");
    }
    let state = State::new(directory.path());
    if let Ok(Some(file)) = state.weights() {
        let weights: u64 = file.weights.iter().map(|(_, weight)| u64::from(weight.get())).sum();
        assert_eq!(weights, 1_000_000, "{file:?}");
        assert_eq!(WeightsFile::parse(&file.text()).expect("what is written can be read"), file);
    }
    if let Ok(Some(baseline)) = state.baseline() {
        assert_eq!(Baseline::parse(&baseline.text()).expect("what is written can be read"), baseline);
    }
    let _ = Watch::read(&state);
    let log = AuditLog::new(directory.path());
    if let Ok(chain) = log.read() {
        let _ = state.standing(&chain);
    }
    // Whatever recovery makes of it holds from then on.
    if let Ok(Recovered { chain, .. }) = state.recover() {
        let again = log.read().expect("a recovered log holds");
        assert!(!again.beyond_head && again.entries.len() == chain.entries.len());
    }
}

fn read_capture(path: &Path) -> Vec<Item> {
    let source = Source::open(&SourceSpec::File(path.to_owned()), "", &LinkOptions::default());
    let window = Window { after: None, newest: None, event_types: &[TRADE_INTENT, MARKET_FEATURES] };
    let mut items = Vec::new();
    let read = source.expect("a file can be opened").for_each(&window, |item| {
        items.push(item);
        Ok(())
    });
    read.expect("a file that can be read is read to its end");
    items
}

/// Payloads are read as serde_json reads them, but for names that are there twice and Python's bare tokens.
fn json(text: &str) {
    let ours = Json::parse(text);
    match (serde_json::from_str::<serde_json::Value>(text), &ours) {
        (Ok(_), Err(error)) => assert!(error.contains("appears twice"), "{text:?} is refused: {error}"),
        (Err(_), Ok(_)) => {
            assert!(["NaN", "Infinity"].iter().any(|token| text.contains(token)), "{text:?} is accepted");
        }
        _ => {}
    }
}

/// Both gates, to a verdict and its text.
fn judge(items: &[Item]) {
    let terms = Terms { mode: Mode::Canary, require: Require::Any, requested: 0, cutover: None };
    let (mut quality, mut sanity) = (QualityGate::new(terms), SanityGate::new());
    for item in items {
        quality.observe(item);
        quality.observe_before(item);
        sanity.observe(item);
    }
    let rules = Rules::default();
    let verdict = quality.finish(&rules, None);
    assert!(verdict.events.count + verdict.events.malformed <= items.len() as u64);
    assert!(verdict.eligible.is_empty(), "a model is eligible after {} events", items.len());
    serde_json::to_string(&verdict).expect("a verdict serializes");
    let verdict = sanity.finish(&rules, None);
    let header = Header { now: 0, source: "s".to_owned(), build: "b".to_owned(), synthetic: false };
    let text = report::json(&sanity_document(&verdict, &header));
    serde_json::from_str::<serde_json::Value>(&text).expect("a report is JSON");
    assert!(!sanity_text(&verdict, &header).is_empty());
}

/// A decision becomes an intent, which reads back from its capture line and is no corrupt event to a gate.
fn decide<P: qsc_kernel::ensemble::Predict>(engine: &mut Engine<P>, event: &Event) {
    let models = engine.models().to_vec();
    let Ok(decided) = engine.decide(event, 1_768_023_795_000) else { return };
    let intent = intent(event, &decided, &models);
    let line = intent.to_capture_line();
    let read = with_file("intent.jsonl", line.as_bytes(), read_capture);
    assert_eq!(read, [Ok(intent)], "an intent changes on its way through a capture");
    let mut gate =
        QualityGate::new(Terms { mode: Mode::Canary, require: Require::Any, requested: 0, cutover: None });
    gate.observe(&read[0]);
    let verdict = gate.finish(&Rules::default(), None);
    assert_eq!(verdict.events.malformed, 0, "{line}");
}

fn event_of(event_type: &str, payload: &str) -> Event {
    Event {
        id: EventId { ms: 1_768_023_795_000, seq: 0 },
        event_type: event_type.to_owned(),
        payload: payload.to_owned(),
        trace_id: None,
        timestamp: None,
        source: None,
    }
}

thread_local! {
    /// The bundled ensemble, without the guard that would turn a panic of a model into a reason.
    static ENGINE: RefCell<Engine<Model<'static>>> = RefCell::new(bundled_engine());
}

fn bundled_engine() -> Engine<Model<'static>> {
    static IMAGES: LazyLock<Images> = LazyLock::new(bundled::images);
    let config = bundled::config().expect("the bundled configuration is valid");
    let candidates = IMAGES.load(&config, &mut |_| ()).expect("the bundled images vote").into_iter();
    let bare = candidates.map(|candidate| Candidate {
        config: candidate.config,
        feature_names: candidate.feature_names,
        scratch_bytes: candidate.scratch_bytes,
        predictor: candidate.predictor.map(|PanicGuard(model)| model),
    });
    Engine::new(&config, bare.collect()).expect("the bundled ensemble is one")
}
