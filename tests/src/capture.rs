//! Captures of events, made by the tests, as files and as Redis streams.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// Id of the first event, Unix ms; the others follow at one per second.
pub const FIRST_MS: u64 = 1_768_023_795_000;

/// One stream entry: id, event type, payload text.
type Entry = (String, String, String);

/// Events in the making.
#[derive(Clone, Debug, Default)]
pub struct Capture {
    entries: Vec<Entry>,
    /// Text after the last line of the file form; Redis streams cannot have it.
    tail: String,
}

impl Capture {
    /// No events.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an event of any type with any payload text, one second after the last.
    pub fn push(&mut self, event_type: &str, payload: &str) {
        let ms = FIRST_MS + 1000 * self.entries.len() as u64;
        self.entries.push((format!("{ms}-0"), event_type.to_owned(), payload.to_owned()));
    }

    /// Adds an intent in which each model says what `models` has for it.
    pub fn push_intent(&mut self, models: &[(&str, Value)]) {
        self.push_intent_of("BTCUSDT", models);
    }

    /// The same for another symbol.
    pub fn push_intent_of(&mut self, symbol: &str, models: &[(&str, Value)]) {
        let index = self.entries.len();
        let breakdown: serde_json::Map<String, Value> =
            models.iter().map(|(name, entry)| ((*name).to_owned(), entry.clone())).collect();
        let payload = json!({
            "symbol": symbol,
            "features": {"rsi_14": spread(index), "macd": spread(index + 31)},
            "model_breakdown": breakdown,
        });
        self.push("trade.intent", &payload.to_string());
    }

    /// Appends text to the file form, after the last line.
    pub fn push_tail(&mut self, text: &str) {
        self.tail += text;
    }

    /// Writes the capture file `name` in `directory`.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, directory: &Path, name: &str) -> PathBuf {
        let path = directory.join(name);
        fs::write(&path, self.text()).expect("the capture is written");
        path
    }

    /// The file form.
    #[must_use]
    pub fn text(&self) -> String {
        let line = |(id, event_type, payload): &Entry| {
            format!("{}\n", json!({"id": id, "fields": {"event_type": event_type, "payload": payload}}))
        };
        self.entries.iter().map(line).chain([self.tail.clone()]).collect()
    }

    /// Adds every event to the stream `key`.
    ///
    /// # Panics
    /// If the server refuses.
    pub fn load(&self, connection: &mut redis::Connection, key: &str) {
        for (id, event_type, payload) in &self.entries {
            let mut add = redis::cmd("XADD");
            add.arg(key).arg(id).arg("event_type").arg(event_type).arg("payload").arg(payload);
            add.exec(connection).expect("the entry is added");
        }
    }
}

/// A number in [0, 1) that moves with `index`.
#[must_use]
pub fn spread(index: usize) -> f64 {
    (index * 37 % 101) as f64 / 101.0
}

/// What a healthy model says in the event `index`: all three actions, well spread confidences.
#[must_use]
pub fn healthy(index: usize) -> Value {
    let action = ["BUY", "SELL", "HOLD"][index % 3];
    json!({"action": action, "confidence": 0.4 + 0.5 * spread(index), "model": "xgb_model"})
}

/// `count` intents of one healthy model named `xgb`.
#[must_use]
pub fn healthy_capture(count: usize) -> Capture {
    let mut capture = Capture::new();
    for index in 0..count {
        capture.push_intent(&[("xgb", healthy(index))]);
    }
    capture
}
