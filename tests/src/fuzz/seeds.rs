//! Where fuzzing begins: files of real libraries among the fixtures, images packed from them, and what was found before.

use std::fs;
use std::path::{Path, PathBuf};

use qsc_cli::canary::audit::{Chain, Transition};
use qsc_cli::canary::state::State;
use qsc_cli::compile::import;
use serde_json::Map;

use super::BETWEEN;
use crate::capture::Capture;
use crate::{canary, fixtures, models, nets};

/// Larger files make slow seeds and teach nothing that smaller ones do not.
const LARGEST: usize = 16 << 10;

/// Inputs that once were findings, in one directory per target.
#[must_use]
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions")
}

/// The seeds of a target, its earlier findings first.
///
/// # Panics
/// If there is no such target, or a fixture cannot be read.
#[must_use]
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let mut seeds = files(&directory().join(target));
    seeds.extend(match target {
        "image" => images(),
        "xgboost_json" => trained(".json"),
        "xgboost_ubjson" => trained(".ubj"),
        "lightgbm_text" => trained(".txt"),
        "safetensors" => networks(),
        "events" => captures(),
        "models_toml" => ensembles(),
        "settings_toml" => settings(),
        "rows" => rows(),
        "state" => states(),
        _ => panic!("there is no target {target:?}"),
    });
    seeds.retain(|seed| seed.len() <= LARGEST);
    assert!(!seeds.is_empty(), "{target} has no seed");
    seeds
}

/// Every layout and sum on small models, and the smallest networks.
fn images() -> Vec<Vec<u8>> {
    let trees = models::one_of_each().into_iter().map(|(_, image)| image);
    let small =
        nets::cases().into_iter().filter(|case| case.name != "hf-eight-channels").map(|case| case.image());
    let trained =
        fixtures::models().into_iter().filter(|case| case.name.contains("categorical")).map(|case| {
            let model = import(&case.path, &case.options).expect("a fixture is a model");
            models::image(&model, false, None)
        });
    trees.chain(small).chain(trained).map(|image| image.as_bytes().to_vec()).collect()
}

/// Trained files whose name ends so, those that are refused among them.
fn trained(ending: &str) -> Vec<Vec<u8>> {
    let accepted = fixtures::models().into_iter().map(|case| case.path);
    let refused = fixtures::refused_models().into_iter().map(|case| case.path);
    let paths = accepted.chain(refused).filter(|path| path.to_string_lossy().ends_with(ending));
    paths.map(|path| read(&path)).collect()
}

/// Networks behind their configs.
fn networks() -> Vec<Vec<u8>> {
    let accepted = nets::cases().into_iter().map(|case| case.path);
    let refused = nets::refused().into_iter().map(|case| case.path);
    let behind = |path: PathBuf| {
        let mut bytes = fs::read(path.join("config.json")).unwrap_or_default();
        bytes.push(BETWEEN);
        bytes.extend(read(&path.join("model.safetensors")));
        bytes
    };
    accepted.chain(refused).map(behind).collect()
}

fn captures() -> Vec<Vec<u8>> {
    let features: Vec<&str> = qsc_models::FEATURES_CAPTURE.lines().take(3).collect();
    let agreeing = canary::agreeing(3).text();
    let mut odd = Capture::new();
    odd.push("trade.intent", r#"{"symbol":"B","features":{"x":NaN},"model_breakdown":{"xgb":{"action":"BUY","confidence":"0.5"},"b":{"action":"UP","confidence":7,"inactive":true,"inactive_reason":"dead_zone"}}}"#);
    odd.push(
        "market.features",
        r#"{"symbol":"B","timestamp":"2026-01-10T05:43:15Z","features":{"rsi_14":1e-5,"macd":-Infinity}}"#,
    );
    odd.push("market.ticks", "[]");
    let payloads = canary::payload(1, &canary::breakdown(1));
    vec![
        features.join("\n").into_bytes(),
        agreeing.into_bytes(),
        odd.text().into_bytes(),
        payloads.into_bytes(),
    ]
}

fn ensembles() -> Vec<Vec<u8>> {
    let all = "[ensemble]\nmax_confidence = 0.9\ndegeneracy = \"observe\"\nmax_age_ms = 5000\nmultipliers = { unanimous = 1.2, \
               strong = 1.0, split = 0.9, weak = 0.5 }\n[[model]]\nname = 'a'\nimage = \"a.qsm\"\nweight = 2.5e-1\nmode = \
               \"shadow\"\nmissing = \"native\"\nconfidence = \"margin\"\n[[model]]\nname = \"b\\u00df\"\nimage = '''b'''\n";
    vec![qsc_models::MODELS_TOML.into(), all.into()]
}

fn settings() -> Vec<Vec<u8>> {
    let file = "source = \"file:a.jsonl\"\ncount = 500\n[quality-gate]\nmode = \"canary\"\nrequire = \"all\"\n[rules]\nhold_collapse \
                = 80\n[model.compile]\nclasses = [\"HOLD\", \"BUY\", \"SELL\"]\nexact = true\n";
    let values = [
        "redis://user:pass@host:6379/2",
        "rediss://[::1]:6380",
        "redis-sentinel://a:1,b:2/master/3",
        "redis-cluster://a:1,b:2",
        "redis+unix:///run/redis.sock?db=1",
        "1736478123456-18446744073709551615",
        "2026-01-10T05:43:15.123+01:00",
        "6h 30m",
    ];
    values.iter().map(|value| value.as_bytes().to_vec()).chain([file.into()]).collect()
}

fn rows() -> Vec<Vec<u8>> {
    let mut seeds = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/rows"));
    seeds.extend(
        [
            "a,\"b, c\"\r\n1,\"2\"\r\n3,4e0\r\n",
            "1,nan\n,-inf\n",
            "[1,NaN,null]\n[2,-0,1e-45]\n",
            "{\"a\":1,\"\\u00df\":2}\n",
        ]
        .map(Vec::from),
    );
    seeds
}

/// A state directory as commands leave it: never used, and with two entries in its log.
fn states() -> Vec<Vec<u8>> {
    let directory = tempfile::tempdir().expect("a scratch directory can be made");
    let state = State::new(directory.path());
    let weights = r#"{"generation":1,"canary":"xgb","weights":{"lgbm":0.9,"xgb":0.1}}"#;
    let baseline = r#"{"generation":0,"origin":"MODELS.toml","weights":{"lgbm":0.5,"xgb":0.5}}"#;
    let (log, mut chain) = (state.log(), Chain::default());
    for (event, generation) in [(Transition::Activated, 1), (Transition::WatchStarted, 1)] {
        let mut details = Map::new();
        details.insert("weights_sha256".to_owned(), qsc_cli::digest::sha256(format!("{weights}\n")).into());
        log.append(&mut chain, event, Some("xgb"), generation, details).expect("an entry can be written");
    }
    let file = |name: &str| read(&directory.path().join(name));
    let parts = [weights.into(), baseline.into(), b"{}".to_vec(), file("audit.jsonl"), file("audit.head")];
    vec![parts.join(&BETWEEN), weights.into()]
}

fn files(directory: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("the directory can be read").path()).collect();
    paths.sort();
    paths.iter().filter(|path| path.is_file()).map(|path| read(path)).collect()
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
