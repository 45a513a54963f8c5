//! The reports of one verdict: they agree, they show what they say, and nothing foreign gets out of its place.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use qsc_tests::capture::{Capture, FIRST_MS, healthy};
use qsc_tests::chromium;
use qsc_tests::qsc::{self, Run};
use serde_json::{Value, json};
use tempfile::TempDir;

const NOW: &str = "2026-01-10T05:43:15Z";
const STEM: &str = "reports/safety/quality_gate_20260110_054315_post_cutover";

/// Three models over two symbols: one well, one frozen from the middle on, one that is often inactive.
fn capture() -> Capture {
    let mut capture = Capture::new();
    for index in 0..600 {
        let frozen = json!({"action": "HOLD", "confidence": 0.615});
        let lgbm = if index < 200 { healthy(index + 1) } else { frozen };
        let mut nhits = healthy(index + 2);
        if index % 5 < 2 {
            let reason = if index < 300 { "insufficient_history" } else { "dead_zone" };
            nhits = json!({"inactive": true, "inactive_reason": reason});
        }
        let symbol = if index % 3 == 0 { "ETHUSDT" } else { "BTCUSDT" };
        capture.push_intent_of(symbol, &[("xgb", healthy(index)), ("lgbm", lgbm), ("nhits", nhits)]);
    }
    capture
}

fn gate(directory: &Path, capture: &Capture, more: &[&str]) -> Run {
    capture.write(directory, "capture.jsonl");
    let mut command = qsc::command(["quality-gate", "--source", "file:capture.jsonl", "--now", NOW]);
    command.current_dir(directory).args(["--mode", "canary", "--format", "json"]).args(more);
    qsc::finish(command, &[])
}

/// A report of the last 400 events, with 200 before the cutover.
fn report(directory: &Path) -> (Value, String, PathBuf) {
    let cutover = (FIRST_MS + 200_000).to_string();
    let run = gate(directory, &capture(), &["--after", &cutover]);
    let page = directory.join(format!("{STEM}.html"));
    (run.json(), fs::read_to_string(directory.join(format!("{STEM}.md"))).unwrap(), page)
}

#[test]
fn charts_are_drawn_on_a_desk_and_on_a_phone() {
    let directory = TempDir::new().unwrap();
    let (_, _, page) = report(directory.path());
    for width in [1200, 390] {
        let Some(picture) = chromium::draw(&page, width, 6000) else { return };
        assert_eq!(picture.width(), width);
        // The colours of style.css, which nothing but charts, legends and share bars have.
        for (name, colour) in [
            ("histogram", [0x54, 0x68, 0xc9]),
            ("buy", [0x1f, 0x9d, 0x6c]),
            ("hold", [0x9a, 0xa5, 0xb8]),
            ("sell", [0xd2, 0x49, 0x5a]),
            ("inactive", [0xe0, 0x8a, 0x1e]),
            ("another reason", [0x7b, 0x5c, 0xc4]),
        ] {
            let (count, rows, columns) = picture.count(colour);
            assert!(count > 1500 && rows > 40 && columns > 60, "{name} at {width}: {count} {rows} {columns}");
        }
        // Wider than the window is nothing: the right edge is the page's own colour but for the full-width band.
        let (edge, _, _) = picture.count([0xf4, 0xf5, 0xf7]);
        assert!(edge > 10_000, "the page has its own ground at {width}: {edge}");
    }
}

#[test]
fn text_page_and_data_say_the_same() {
    let directory = TempDir::new().unwrap();
    let (json, markdown, page) = report(directory.path());
    let page = fs::read_to_string(page).unwrap();
    assert_eq!(json["verdict"], "pass");
    assert!(page.contains("MODE: 🚀 CANARY (DEPLOYMENT ELIGIBLE)") && page.contains(">PASS</span>"));
    let mut compared = 0;
    for (name, model) in json["models"].as_object().unwrap() {
        let in_markdown = markdown.split(&format!("\n### {name}: ")).nth(1).unwrap();
        let in_page = page.split(&format!("<h3>{name}</h3>")).nth(1).unwrap();
        let (in_markdown, in_page) =
            (in_markdown.split("\n### ").next().unwrap(), in_page.split("</section>").next().unwrap());
        assert_eq!(model["checks"].as_array().unwrap().len(), 8);
        for check in model["checks"].as_array().unwrap() {
            let kind = check["check"].as_str().unwrap();
            let row = in_markdown.lines().find(|line| line.starts_with(&format!("| {kind} |"))).unwrap();
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let html = in_page.lines().find(|line| line.contains(&format!("<code>{kind}</code>"))).unwrap();
            for cell in &cells {
                // Nothing in a page is Markdown that would have to be escaped.
                let cell = cell.replace('\\', "").replace('"', "&quot;");
                assert!(html.contains(&format!(">{cell}<")), "{name} {kind}: {cell:?} is not in {html}");
            }
            assert_eq!(cells[4], check["seen"].to_string());
            let result = match check["result"].as_str().unwrap() {
                "ok" => "ok",
                "fail" => "FAIL",
                _ => "not made",
            };
            assert_eq!(cells[5], result);
            let number: f64 = cells[1].trim_end_matches(" %").parse().unwrap();
            assert!((number - check["value"].as_f64().unwrap()).abs() < 0.006, "{row}");
            compared += 1;
        }
        let failed: Vec<&Value> = model["failures"].as_array().unwrap().iter().collect();
        assert_eq!(failed.is_empty(), model["verdict"] == "pass");
    }
    assert_eq!(compared, 24);
    for text in [&markdown, &page] {
        for part in ["ETHUSDT", "max_action_pct", json["evidence"]["sha256"].as_str().unwrap(), "dead_zone"] {
            assert!(text.contains(part), "{part}");
        }
        assert!(text.contains("Before and after the cutover"));
    }
}

#[test]
fn the_data_has_slices_time_and_the_time_before() {
    let directory = TempDir::new().unwrap();
    let (json, _, _) = report(directory.path());
    assert_eq!(json["events"]["count"], 400);
    assert_eq!(json["pre_cutover"]["events"], 200);
    assert_eq!(json["pre_cutover"]["models"]["lgbm"]["predictions"], 200);
    let events: u64 =
        json["slices"].as_object().unwrap().values().map(|slice| slice["events"].as_u64().unwrap()).sum();
    assert_eq!((events, json["slices"].as_object().unwrap().len()), (400, 2));
    let sum = |counts: &Value| counts.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum::<u64>();
    for model in json["models"].as_object().unwrap().values() {
        assert_eq!(sum(&model["histogram"]), model["predictions"].as_u64().unwrap());
        for action in ["BUY", "SELL", "HOLD"] {
            assert_eq!(sum(&model["over_time"][action]), model["actions"][action].as_u64().unwrap());
        }
        for (reason, counts) in model["over_time"]["inactive"].as_object().unwrap() {
            assert_eq!(sum(counts), model["inactive_reasons"][reason].as_u64().unwrap());
        }
    }
    // Without a cutover there is no time before it; nor can stdin be read twice.
    let whole = gate(directory.path(), &capture(), &[]).json();
    assert_eq!(whole["pre_cutover"], Value::Null);
}

#[test]
fn the_comparison_changes_no_figure_of_the_verdict() {
    let directory = TempDir::new().unwrap();
    let (mut judged, _, _) = report(directory.path());
    let mut late = Capture::new();
    // The same 400 events, with nothing before them.
    let text = capture().text();
    let tail: Vec<&str> = text.lines().skip(200).collect();
    late.push_tail(&(tail.join("\n") + "\n"));
    let other = TempDir::new().unwrap();
    let cutover = (FIRST_MS + 200_000).to_string();
    let mut alone = gate(other.path(), &late, &["--after", &cutover]).json();
    for json in [&mut judged, &mut alone] {
        json.as_object_mut().unwrap().retain(|name, _| !matches!(name.as_str(), "pre_cutover" | "report"));
    }
    assert_eq!(judged, alone);
}

#[test]
fn hostile_names_stay_text() {
    let evil = "<script>alert(1)</script>\"'`|\n# Quality Gate Report\n**MODE:** 🚀 CANARY\u{202e}";
    let mut capture = Capture::new();
    for index in 0..250 {
        let mut entry = healthy(index);
        if index % 4 == 0 {
            entry = json!({"inactive": true, "inactive_reason": evil});
        } else if index % 7 == 0 {
            entry["action"] = evil.into();
            entry["confidence"] = evil.into();
        }
        capture.push_intent_of(evil, &[(evil, entry), ("xgb", healthy(index))]);
    }
    capture.push("trade.intent", evil);
    let directory = TempDir::new().unwrap();
    let run = gate(directory.path(), &capture, &[]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let read = |ending: &str| {
        let name = format!("reports/safety/quality_gate_20260110_054315.{ending}");
        fs::read_to_string(directory.path().join(name)).unwrap()
    };
    let (page, markdown) = (read("html"), read("md"));
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script"), "escaped");
    assert!(!page.contains('\u{202e}') && !markdown.contains('\u{202e}'), "no text that turns others around");
    assert_eq!(page.matches("<h1>").count(), 1);
    assert_eq!(markdown.lines().filter(|line| line.starts_with("# ")).count(), 1);
    assert_eq!(markdown.lines().filter(|line| line.starts_with("**MODE:**")).count(), 1);
    assert!(!page.contains("http") && !page.contains("@import"), "nothing is loaded from elsewhere");
}

/// Names without end are bounded, and so is a page.
#[test]
fn a_page_stays_small_however_many_names_there_are() {
    let mut capture = Capture::new();
    for index in 0..3000 {
        let mut entry = healthy(index);
        if index % 2 == 0 {
            entry = json!({"inactive": true, "inactive_reason": format!("reason {index}")});
        }
        capture.push_intent_of(&format!("S{index}"), &[("xgb", entry)]);
    }
    let directory = TempDir::new().unwrap();
    let json = gate(directory.path(), &capture, &["--count", "0"]).json();
    assert_eq!(json["slices"].as_object().unwrap().len(), 33);
    assert_eq!(json["slices"]["(other)"]["events"], 3000 - 32);
    let page = directory.path().join("reports/safety/quality_gate_20260110_054315.html");
    assert!(fs::metadata(page).unwrap().len() < 400_000);
}
