//! A canary's scene: an ensemble of the four bundled models, intents that agree as they should, a state directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bundle;
use crate::capture::{Capture, FIRST_MS, spread};
use crate::qsc::{self, Run};

/// The trading system's ensemble.
pub const MODELS: [(&str, f64); 4] = [("xgb", 0.25), ("lgbm", 0.25), ("nhits", 0.30), ("patchtst", 0.20)];
/// `--cutover` of the first event.
pub const CUTOVER: &str = "2026-01-10T05:43:15Z";
/// Weights of [`MODELS`] with `xgb` at 10 %: the others keep 1 : 1.2 : 0.8.
pub const CANARY_WEIGHTS: [(&str, f64); 4] =
    [("lgbm", 0.30), ("nhits", 0.36), ("patchtst", 0.24), ("xgb", 0.10)];

/// What the four models say in event `index`: three agree, one holds or, where the others hold, buys. Agreement is 75 %,
/// hard disagreement 0 %, and every model's figures are healthy.
#[must_use]
pub fn breakdown(index: usize) -> Value {
    let common = ["BUY", "SELL", "HOLD"][index % 3];
    let dissent = if common == "HOLD" { "BUY" } else { "HOLD" };
    let entry = |at: usize, name: &str| {
        let action = if index / 3 % 4 == at { dissent } else { common };
        let confidence = 0.4 + 0.5 * spread(index + 13 * at);
        (
            name.to_owned(),
            json!({"action": action, "confidence": confidence, "model": format!("{name}_model")}),
        )
    };
    MODELS.iter().enumerate().map(|(at, (name, _))| entry(at, name)).collect::<serde_json::Map<_, _>>().into()
}

/// An intent's payload with this breakdown, under the canary's weights.
#[must_use]
pub fn payload(index: usize, breakdown: &Value) -> String {
    let weights: serde_json::Map<String, Value> =
        CANARY_WEIGHTS.iter().map(|(name, weight)| ((*name).to_owned(), json!(weight))).collect();
    json!({
        "symbol": "BTCUSDT",
        "features": {"rsi_14": spread(index), "macd": spread(index + 31)},
        "effective_weights": weights,
        "model_breakdown": breakdown,
    })
    .to_string()
}

/// `count` agreeing intents.
#[must_use]
pub fn agreeing(count: usize) -> Capture {
    let mut capture = Capture::new();
    for index in 0..count {
        capture.push("trade.intent", &payload(index, &breakdown(index)));
    }
    capture
}

/// A scratch directory with `MODELS.toml` and `intents.jsonl`.
#[derive(Debug)]
pub struct Scene {
    directory: TempDir,
}

impl Default for Scene {
    fn default() -> Self {
        Self::new(&agreeing(300))
    }
}

impl Scene {
    /// A scene with these intents.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn new(intents: &Capture) -> Self {
        let directory = TempDir::new().expect("a scratch directory");
        let mut config = String::new();
        for (name, weight) in MODELS {
            let image = bundle::file(&format!("images/{name}.qsm"));
            config += &format!(
                "[[model]]\nname = \"{name}\"\nweight = {weight}\nimage = {:?}\n",
                bundle::text(&image)
            );
        }
        fs::write(directory.path().join("MODELS.toml"), config).expect("the ensemble is written");
        intents.write(directory.path(), "intents.jsonl");
        Self { directory }
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A path in the scene.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The content of a file in the scene; `None` if it is not there.
    #[must_use]
    pub fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path(name)).ok()
    }

    /// `state/weights.json`; null if it is not there.
    ///
    /// # Panics
    /// If it is torn.
    #[must_use]
    pub fn weights(&self) -> Value {
        self.read("state/weights.json")
            .map_or(Value::Null, |text| serde_json::from_str(&text).expect("weights.json is whole"))
    }

    /// Every line of the audit log.
    ///
    /// # Panics
    /// If one is no JSON.
    #[must_use]
    pub fn log(&self) -> Vec<Value> {
        let text = self.read("state/audit.jsonl").unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line of the log")).collect()
    }

    /// A command that runs in the scene.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = qsc::command(arguments);
        command.current_dir(self.directory());
        command
    }

    /// Runs `qsc` in the scene.
    #[must_use]
    pub fn qsc(&self, arguments: &[&str]) -> Run {
        qsc::finish(self.command(arguments), &[])
    }

    /// Arguments that activate `xgb` from the capture.
    #[must_use]
    pub fn activation<'a>(&self, more: &[&'a str]) -> Vec<&'a str> {
        let mut arguments = vec!["canary", "activate", "--format", "json", "--models", "MODELS.toml"];
        let given = |name: &str| more.contains(&name);
        for (name, value) in [("--model", "xgb"), ("--cutover", CUTOVER), ("--source", "file:intents.jsonl")]
        {
            if !given(name) {
                arguments.extend([name, value]);
            }
        }
        arguments.extend(more);
        arguments
    }

    /// Activates `xgb`.
    #[must_use]
    pub fn activate(&self, more: &[&str]) -> Run {
        self.qsc(&self.activation(more))
    }

    /// Activates `xgb`, which must succeed.
    ///
    /// # Panics
    /// If it does not.
    pub fn activated(&self) {
        let run = self.activate(&[]);
        assert_eq!(run.code, Some(0), "{run:?}");
        assert_eq!(self.weights()["canary"], "xgb");
    }

    /// Activates `xgb` and watches it to a clean end.
    ///
    /// # Panics
    /// If the watch does not end clean.
    pub fn watched(&self) {
        self.activated();
        let source = ["--source", "file:intents.jsonl", "--duration", "4s", "--interval", "2s"];
        let mut monitor = self.command(&[&["canary", "monitor"], &source[..]].concat());
        let mut monitor = monitor.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        let checked = || {
            let watch = self.read("state/watch.json")?;
            serde_json::from_str::<Value>(&watch).ok()?["checks"].as_u64().filter(|&checks| checks > 0)
        };
        while checked().is_none() && monitor.try_wait().expect("a child can be asked").is_none() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        self.intents(340);
        assert!(monitor.wait().expect("a child can be waited for").success(), "the watch is clean");
    }

    /// Puts `count` agreeing intents in the place of those there are.
    ///
    /// # Panics
    /// If they cannot be written.
    pub fn intents(&self, count: usize) {
        let path = agreeing(count).write(self.directory(), "new.jsonl");
        fs::rename(path, self.path("intents.jsonl")).expect("the intents are replaced");
    }

    /// Rolls back.
    #[must_use]
    pub fn rollback(&self, more: &[&str]) -> Run {
        self.qsc(&[&["canary", "rollback", "--format", "json"], more].concat())
    }

    /// Exit code of `audit verify`.
    #[must_use]
    pub fn verify(&self) -> Option<i32> {
        self.qsc(&["canary", "audit", "verify"]).code
    }
}

/// The weights of [`MODELS`] as a weights file holds them.
#[must_use]
pub fn baseline() -> Value {
    json!({"lgbm": 0.25, "nhits": 0.3, "patchtst": 0.2, "xgb": 0.25})
}

/// Unix ms of the event `index` of a capture.
#[must_use]
pub const fn ms_of(index: u64) -> u64 {
    FIRST_MS + 1000 * index
}
