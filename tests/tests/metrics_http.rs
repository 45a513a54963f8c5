//! `qsc run --metrics`: what is served equals what was done, and nobody who asks can disturb the engine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use qsc_cli::stream::Shard;
use qsc_tests::bundle::{self, names_in, text};
use qsc_tests::qsc;
use qsc_tests::redis::{Options, RedisServer};
use qsc_tests::serving::Serving;
use serde_json::Value;
use tempfile::TempDir;

/// The bundled ensemble of four.
fn serve(directory: &Path, arguments: &[&str]) -> Serving {
    let models = bundle::file("MODELS.toml");
    let mut command = qsc::command(["run", "--metrics", "127.0.0.1:0", "--models", text(&models)]);
    command.args(arguments).current_dir(directory);
    Serving::start(command)
}

const FROM_STDIN: [&str; 6] = ["--source", "-", "--sink", "file:intents.jsonl", "--format", "json"];

fn events(count: usize) -> impl Iterator<Item = &'static str> {
    qsc_models::FEATURES_CAPTURE.lines().take(count)
}

/// Fails with what `promtool` has to say against a page.
fn promtool(page: &str) {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        qsc_tests::skip("promtool (Debian package prometheus) is not installed");
        return;
    };
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn counters_equal_the_summary_and_promtool_has_nothing_against_them() {
    let directory = TempDir::new().unwrap();
    let mut serving = serve(directory.path(), &FROM_STDIN);
    serving.wait_until("ready", |serving| serving.get("/readyz").status == 200);
    serving.feed(events(400).chain(["no capture line"]));
    serving.wait_until("all decided", |serving| serving.metric("qsc_events_total") == Some(401.0));

    let page = serving.get("/metrics");
    assert!(page.head.contains("content-type: text/plain; version=0.0.4"), "{}", page.head);
    promtool(&page.body);
    let asked = serving
        .send(b"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n\r\n");
    assert!(
        asked.head.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{}",
        asked.head
    );
    assert!(asked.body.ends_with("# EOF\n") && asked.body.contains("# TYPE qsc_events counter\n"));

    let of = |series: &str| serving.metric(series).unwrap_or_else(|| panic!("no {series}"));
    let sides: Vec<(String, f64)> = ["BUY", "SELL", "HOLD", "tie", "no_active_model"]
        .map(|side| (side.to_owned(), of(&format!("qsc_decisions_total{{side=\"{side}\"}}"))))
        .into();
    let inactive: Vec<(String, String, f64)> = page
        .body
        .lines()
        .filter_map(|line| {
            let (model, rest) =
                line.strip_prefix("qsc_inactive_total{model=\"")?.split_once("\",reason=\"")?;
            let (reason, count) = rest.split_once("\"} ")?;
            Some((model.to_owned(), reason.to_owned(), count.parse().ok()?))
        })
        .collect();
    assert_eq!(inactive.len(), 4 * 12, "every model and reason is there from the beginning");
    for stage in ["parse", "bind", "decide", "write"] {
        assert_eq!(of(&format!("qsc_stage_seconds_count{{stage=\"{stage}\"}}")), 400.0, "{stage}");
        assert_eq!(of(&format!("qsc_stage_seconds_bucket{{stage=\"{stage}\",le=\"+Inf\"}}")), 400.0);
    }
    assert_eq!(of("qsc_kernel_stage_seconds_count{stage=\"vote\"}"), 400.0);
    assert_eq!(of("qsc_model_seconds_count{model=\"xgb\"}"), 400.0);
    let nhits = inactive.iter().filter(|(model, ..)| model == "nhits").map(|(.., count)| count).sum::<f64>();
    let votes = ["BUY", "SELL", "HOLD"]
        .map(|action| of(&format!("qsc_predictions_total{{model=\"nhits\",action=\"{action}\"}}")));
    assert_eq!(nhits + votes.iter().sum::<f64>(), 400.0, "each model has one outcome for each event");
    let rejects = of("qsc_rejects_total");

    let board = serving.scoreboard();
    assert_eq!(
        (&board["events"], &board["rejects"], &board["ready"]),
        (&401.into(), &1.into(), &true.into())
    );
    let names: Vec<&str> =
        board["models"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["xgb", "lgbm", "nhits", "patchtst"]);

    let (code, stdout) = serving.end();
    assert_eq!(code, Some(0));
    let summary: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(summary["rejects"].as_f64(), Some(rejects));
    for (side, count) in sides {
        assert_eq!(summary["sides"][&side].as_f64().unwrap_or(0.0), count, "{side}");
    }
    for (model, reason, count) in inactive {
        assert_eq!(summary["inactive"][&model][&reason].as_f64().unwrap_or(0.0), count, "{model} {reason}");
    }
}

/// The signals are the ones that the scoreboard gives for the intents that were written.
#[test]
fn the_live_scoreboard_says_what_the_gate_says_of_the_intents() {
    let directory = TempDir::new().unwrap();
    let mut serving = serve(directory.path(), &FROM_STDIN);
    serving.feed(events(2500));
    serving.wait_until("all decided", |serving| serving.metric("qsc_events_total") == Some(2500.0));
    serving.wait_until("a fresh document", |serving| serving.scoreboard()["events"] == 2500);
    let live = serving.scoreboard();
    assert_eq!(serving.end().0, Some(0));
    let mut command = qsc::command(["scoreboard", "--source", "file:intents.jsonl", "--count", "2000"]);
    command.args(["--format", "json", "--report-dir", "reports"]).current_dir(directory.path());
    let offline = qsc::finish(command, &[]).json();
    assert_eq!(live["judged"]["events"], 2000);
    for model in live["models"].as_array().unwrap() {
        let name = model["name"].as_str().unwrap();
        let standing = &offline["signals"][name];
        assert_eq!(
            (&model["signal"], &model["reasons"]),
            (&standing["signal"], &standing["reasons"]),
            "{name}"
        );
        for figure in ["predictions", "inactive", "actions"] {
            assert_eq!(model[figure], offline["models"][name][figure], "{name} {figure}");
        }
        let mean = |confidence: &Value| confidence["mean"].as_f64().unwrap();
        assert_eq!(mean(&model["confidence"]), mean(&offline["models"][name]["confidence"]), "{name}");
    }
    assert_eq!(live["agreement_pct"], offline["ensemble"]["agreement_pct"]);
}

#[test]
fn slow_huge_and_foreign_requests_are_refused_and_disturb_nobody() {
    let directory = TempDir::new().unwrap();
    let mut serving = serve(directory.path(), &FROM_STDIN);
    for (request, status) in [
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi".to_vec(), 405),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), 400),
        (b"GET /../etc/passwd HTTP/1.1\r\n\r\n".to_vec(), 404),
        (b"GET /metrics HTTP/7\r\n\r\n".to_vec(), 400),
        ([b"GET /metrics HTTP/1.1\r\nx: ".to_vec(), vec![b'a'; 1 << 20]].concat(), 431),
        ([b"GET /metrics HTTP/1.1\r\n".to_vec(), b"a: b\r\n".repeat(500)].concat(), 431),
        ([b"GET /".to_vec(), vec![b'a'; 100_000], b" HTTP/1.1\r\n\r\n".to_vec()].concat(), 431),
    ] {
        let answer = serving.send(&request);
        assert_eq!(answer.status, status, "{}", String::from_utf8_lossy(&request[..request.len().min(40)]));
        assert!(answer.head.contains("connection: close"), "{}", answer.head);
    }
    let head = serving.send(b"HEAD /metrics HTTP/1.1\r\n\r\n");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(!head.head.contains("content-length: 0"), "{}", head.head);

    // Twice as many as are served at a time, and none of them ever says what it wants.
    let slow: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = TcpStream::connect(serving.address).unwrap();
            stream.write_all(b"GET /metr").unwrap();
            stream
        })
        .collect();
    let began = Instant::now();
    serving.feed(events(300));
    assert_eq!(serving.get("/healthz").status, 200);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    serving.wait_until("the engine goes on", |serving| serving.metric("qsc_events_total") == Some(300.0));
    for mut stream in slow {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut rest = Vec::new();
        // Closed without an answer, by a reset or an end.
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty());
    }
    assert_eq!(serving.end().0, Some(0));
}

/// Nobody reads stdout, so the loop hangs in the sink; the server goes on and says so.
#[test]
fn a_loop_that_hangs_is_unhealthy() {
    let directory = TempDir::new().unwrap();
    let mut serving = serve(directory.path(), &["--source", "-", "--sink", "-"]);
    serving.wait_until("healthy at first", |serving| serving.get("/readyz").status == 200);
    serving.feed(events(600));
    serving.wait_until("it says that it hangs", |serving| serving.get("/healthz").status == 503);
    let answer = serving.get("/healthz").body;
    assert!(answer.starts_with("loop: FAIL (last sign of life 1"), "{answer}");
    assert_eq!(serving.get("/readyz").status, 503);
    assert_eq!(serving.metric("qsc_ready"), Some(0.0));
    assert!(serving.metric("qsc_loop_silence_seconds").unwrap() > 10.0);
}

#[test]
fn an_address_that_cannot_be_served_is_refused_before_anything_is_consumed() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (address, part) in [
        (taken.as_str(), "the port is in use"),
        ("localhost:9464", "give IP:PORT"),
        ("9464", "give IP:PORT"),
        ("192.0.2.1:9464", "no such address"),
    ] {
        let directory = TempDir::new().unwrap();
        let models = bundle::write_models(directory.path(), "", "");
        let mut command = qsc::command(["run", "--source", "-", "--sink", "file:intents.jsonl"]);
        command.args(["--models", text(&models), "--metrics", address]).current_dir(directory.path());
        qsc::finish(command, qsc_models::FEATURES_CAPTURE.as_bytes()).assert_refused(&[part]);
        assert_eq!(names_in(directory.path()), ["MODELS.toml"]);
    }
}

#[test]
fn the_page_is_alive_in_a_browser_and_asks_nobody_else() {
    let directory = TempDir::new().unwrap();
    let mut serving = serve(directory.path(), &FROM_STDIN);
    let page = serving.get("/");
    assert!(page.head.contains("content-type: text/html; charset=utf-8"));
    assert!(page.head.contains("default-src 'none'"));
    let addresses =
        page.body.matches("://").count() - page.body.matches("http://www.w3.org/2000/svg").count();
    assert_eq!(addresses, 0, "nothing is loaded from elsewhere");
    assert!(page.body.contains("width=device-width") && page.body.contains("prefers-color-scheme:dark"));
    serving.feed(events(700));
    serving.wait_until("all decided", |serving| serving.metric("qsc_events_total") == Some(700.0));
    let profile = TempDir::new().unwrap();
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=8000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("http://{}/", serving.address))
        .stderr(Stdio::null())
        .output();
    let Ok(output) = output else {
        qsc_tests::skip("chromium is not installed");
        return;
    };
    let page = String::from_utf8(output.stdout).unwrap();
    for part in [">READY</span>", "<b>700</b>", "<h3>patchtst</h3>", "<polyline", "4 of 4 loaded"] {
        assert!(page.contains(part), "{part} is not on the page: {page}");
    }
}

/// Names of metrics in an expression of the dashboard.
fn metrics_in(expression: &str) -> impl Iterator<Item = &str> {
    expression
        .split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
        .filter(|word| word.starts_with("qsc_"))
}

fn expressions<'json>(value: &'json Value, found: &mut BTreeSet<&'json str>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match value.as_str() {
                    Some(text) if name == "expr" || name == "query" => found.extend(metrics_in(text)),
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

/// From shards of one stream to those of another every metric there is is served; dashboard and documentation know them.
#[test]
fn dashboard_and_documentation_name_what_is_served() {
    let Some(server) = RedisServer::start(&Options::default()) else { return };
    let mut connection = server.connection();
    for line in events(50) {
        let event: Value = serde_json::from_str(line).unwrap();
        let text = event["fields"]["payload"].as_str().unwrap();
        let payload: Value = serde_json::from_str(text).unwrap();
        let shard = Shard::of(payload["symbol"].as_str().unwrap(), 2.try_into().unwrap());
        let mut add = redis::cmd("XADD");
        add.arg(shard.key("f")).arg("*").arg("event_type").arg("market.features").arg("payload").arg(text);
        add.exec(&mut connection).unwrap();
    }
    let directory = TempDir::new().unwrap();
    let url = server.url();
    let keys = ["--stream", "f", "--sink-stream", "i", "--shards", "all", "--shard-count", "2"];
    let serving = serve(directory.path(), &[&["--source", &url, "--sink", &url][..], &keys].concat());
    serving.wait_until("all settled", |serving| serving.metric("qsc_settled_intents_total") == Some(50.0));
    assert_eq!(serving.get("/readyz").status, 200);
    serving.wait_until("no lag is left", |serving| serving.metric("qsc_lag_entries") == Some(0.0));
    serving.wait_until("nothing is pending", |serving| serving.metric("qsc_pending_entries") == Some(0.0));
    // Nothing came after the last batch: the read behind it, of 100 ms, is not counted with it.
    let settle = |of| serving.metric(&format!("qsc_stage_seconds_{of}{{stage=\"settle\"}}")).unwrap();
    assert!(settle("count") >= 1.0 && settle("sum") / settle("count") < 0.09, "{}", settle("sum"));
    let page = serving.get("/metrics").body;
    promtool(&page);
    let families: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, _)| name)
        .collect();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");

    let dashboard = fs::read_to_string(docs.join("grafana.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    assert!(
        dashboard["schemaVersion"].as_u64() >= Some(38) && dashboard["panels"].as_array().unwrap().len() > 8
    );
    let mut named = BTreeSet::new();
    expressions(&dashboard, &mut named);
    assert!(named.len() > 12, "{named:?}");
    for name in named {
        let family =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(families.contains(family), "{name} of the dashboard is not served");
    }

    let documented = fs::read_to_string(docs.join("metrics.md")).unwrap();
    let rows = documented.lines().filter_map(|line| line.strip_prefix("| `qsc_")?.split_once('`'));
    // Alerts are expressions.
    let names = rows.map(|(name, _)| name).filter(|name| !name.contains(' '));
    let documented: BTreeSet<String> = names.map(|name| format!("qsc_{name}")).collect();
    let served: BTreeSet<String> = families.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(documented, served);
    assert_eq!(serving.end().0, Some(0));
}
