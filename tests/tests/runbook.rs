//! The runbook walked from end to end: the shipped units under a real systemd, a real Redis, the commands of the page.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use qsc_tests::qsc::{self, Run};
use qsc_tests::systemd::Systemd;
use serde_json::{Value, json};

const PAGE: &str = include_str!("../../docs/runbook.md");
const FEATURES: &str = "quantum:stream:market.features";
const INTENTS: &str = "quantum:stream:trade.intent";
const REDIS: &str = "redis://127.0.0.1:6379";
const MODELS: &str = "/etc/qsc/MODELS.toml";
/// Events of the bundled capture until every network's window is full, and the ensemble agrees as it should.
const WARM_UP: usize = 1100;

/// A machine as the page finds it: systemd, Redis, the program and the models in place.
struct Machine {
    systemd: Systemd,
    redis: redis::Connection,
    /// Feature events so far.
    fed: usize,
}

impl Machine {
    fn new() -> Option<Self> {
        if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
            qsc_tests::skip("redis-server is not installed");
            return None;
        }
        let systemd = Systemd::boot()?;
        systemd.unit(
            "redis-server.service",
            "ExecStart=redis-server --bind 127.0.0.1 --save '' --unixsocket /run/redis.sock --dir /run",
        );
        systemd.sh("systemctl start redis-server");
        let pam =
            "auth sufficient pam_rootok.so\naccount required pam_permit.so\nsession required pam_permit.so\n";
        systemd.write("/etc/pam.d/runuser", pam);
        let models = qsc_models::MODELS_TOML.replace("images/", "/qsc/models-bin/images/");
        systemd.write(MODELS, models);
        systemd.wait("Redis listens", |systemd| systemd.path("/run/redis.sock").exists());
        let client =
            redis::Client::open(format!("redis+unix://{}", systemd.path("/run/redis.sock").display()));
        let redis = client.unwrap().get_connection().unwrap();
        Some(Self { systemd, redis, fed: 0 })
    }

    /// Step 1 of the page.
    fn install(&self) {
        let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host-cli/units");
        for file in ["qsc.service", "qsc-monitor.service", "qsc-sysusers.conf"] {
            self.systemd.write(&format!("/run/units/{file}"), fs::read(units.join(file)).unwrap());
        }
        let engine = format!(
            "QSC_SOURCE={REDIS}\nQSC_SINK={REDIS}\nQSC_MODELS={MODELS}\nQSC_STATE_DIR=/var/lib/qsc/state\n"
        );
        self.systemd.write("/run/units/engine.env", engine);
        // Six hours in four seconds.
        let monitor = format!("QSC_SOURCE={REDIS}\nQSC_DURATION=4s\nQSC_INTERVAL=1s\n");
        self.systemd.write("/run/units/monitor.env", monitor);
        self.systemd.sh("cd /run/units
            install -m 644 qsc-sysusers.conf /etc/sysusers.d/qsc.conf -D
            install -m 644 qsc.service qsc-monitor.service /etc/systemd/system/
            systemd-sysusers
            systemctl daemon-reload
            install -m 640 -g qsc engine.env monitor.env /etc/qsc/");
    }

    fn feed(&mut self, count: usize) {
        feed(&self.systemd, &mut self.redis, &mut self.fed, count);
    }

    /// `qsc …` as root.
    fn qsc(&self, line: &str) -> Run {
        self.run(&format!("qsc {line}"))
    }

    /// `qsc canary …` as the page gives it: as the engine's user, in its directory.
    fn canary(&self, line: &str) -> Run {
        self.run(&format!("cd /var/lib/qsc && runuser -u qsc -- qsc canary {line}"))
    }

    fn run(&self, script: &str) -> Run {
        run(&self.systemd, script)
    }

    fn weights(&self) -> Value {
        serde_json::from_str(&self.systemd.read("/var/lib/qsc/state/weights.json")).unwrap()
    }

    fn wait_for_generation(&self, generation: u64) {
        wait_for_generation(&self.systemd, generation);
    }

    /// What the monitor's unit has said.
    fn log(&self) -> String {
        self.systemd.sh("journalctl --unit=qsc-monitor --output=cat")
    }

    /// How the monitor's unit ended: its result and exit code.
    fn wait_for_monitor(&mut self, feeding: bool) -> (String, String) {
        self.systemd.sh("systemctl start qsc-monitor");
        let state = |systemd: &Systemd| systemd.property("qsc-monitor", "ActiveState");
        // Longer than the watch on any machine, and not beyond the stretch in which the ensemble agrees as it should.
        for _ in 0..70 {
            if !feeding || state(&self.systemd) != "active" {
                break;
            }
            self.feed(10);
            thread::sleep(Duration::from_millis(100));
        }
        self.systemd.wait("the monitor ends", |systemd| state(systemd) != "active");
        let of = |name: &str| self.systemd.property("qsc-monitor", name);
        (of("Result"), of("ExecMainStatus"))
    }
}

fn run(systemd: &Systemd, script: &str) -> Run {
    let mut command = systemd.command("sh");
    command.args(["-c", script]);
    qsc::finish(command, &[])
}

/// Sends `count` further events of the bundled capture, as events of this moment, and waits until the engine has decided.
fn feed(systemd: &Systemd, redis: &mut redis::Connection, fed: &mut usize, count: usize) {
    let now = now_ms();
    for (index, line) in qsc_models::FEATURES_CAPTURE.lines().skip(*fed).take(count).enumerate() {
        let event: Value = serde_json::from_str(line).unwrap();
        let mut add = redis::cmd("XADD");
        add.arg(FEATURES).arg(format!("{now}-{index}"));
        for (name, value) in event["fields"].as_object().unwrap() {
            add.arg(name).arg(value.as_str().unwrap());
        }
        add.exec(redis).unwrap();
    }
    *fed += count;
    systemd.wait("the engine decides", |_| {
        redis::cmd("XLEN").arg(INTENTS).query::<usize>(redis).unwrap() == *fed
    });
}

/// Waits until the engine has taken up weights of this generation.
fn wait_for_generation(systemd: &Systemd, generation: u64) {
    let line = format!("EFFECTIVE_WEIGHTS generation={generation} ");
    systemd.wait("the engine takes the weights up", |systemd| {
        systemd.sh("journalctl --unit=qsc --output=cat").contains(&line)
    });
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

fn assert_exit(run: &Run, code: i32) -> &Run {
    assert_eq!(run.code, Some(code), "{run:?}");
    run
}

#[test]
fn the_page_walks_from_deployment_to_promotion_and_back() {
    let Some(mut machine) = Machine::new() else { return };
    machine.install();

    // Deploy, up to the canary gate. What a test is built from may be dirty, which no deployment takes: then the rehearsal has to do.
    let info = machine.qsc("build-info --format json").json();
    let (sha, clean) = (info["git_sha"].as_str().unwrap(), info["dirty"] == json!(false));
    let how = if clean { format!("--gate --source {REDIS}") } else { "--warn-only".to_owned() };
    let expect = &sha[..7];
    let deploy = format!("qsc deploy --unit qsc.service --expect {expect} --settle 1s {how} --format json");
    let deployed = thread::scope(|scope| {
        let systemd = &machine.systemd;
        let deployed = scope.spawn(move || run(systemd, &deploy));
        systemd.wait("the service is started, or the deployment over", |systemd| {
            deployed.is_finished() || systemd.property("qsc.service", "ActiveState") == "active"
        });
        wait_for_generation(systemd, 0);
        feed(systemd, &mut machine.redis, &mut machine.fed, WARM_UP);
        deployed.join().unwrap()
    });
    let deployed = assert_exit(&deployed, 0).json();
    assert_eq!(deployed["verdict"], if clean { "pass" } else { "fail" }, "{deployed:#}");
    let cutover = deployed["cutover"].as_str().unwrap();

    // Judge the build once more, step by step.
    let judged = |command: &str| machine.qsc(&format!("{command} --source {REDIS} --after {cutover}"));
    assert_exit(&judged("feature-sanity"), 0);
    assert_exit(&judged("quality-gate --mode collection"), 3);
    assert_exit(&judged("quality-gate --mode canary"), 0);

    // Try, activate, and once more: one activation.
    let cutover = format_ms(now_ms());
    machine.feed(500);
    let activation = |model: &str| {
        format!("activate --model {model} --cutover {cutover} --models {MODELS} --source {REDIS}")
    };
    let tried = machine.canary(&format!("{} --dry-run", activation("xgb")));
    assert!(assert_exit(&tried, 0).stdout.contains("dry run, nothing changed"), "{tried:?}");
    assert!(!machine.systemd.path("/var/lib/qsc/state/weights.json").exists());
    assert_exit(&machine.canary(&activation("xgb")), 0);
    assert_exit(&machine.canary(&activation("xgb")), 0);
    assert_eq!((&machine.weights()["canary"], &machine.weights()["generation"]), (&json!("xgb"), &json!(1)));
    machine.wait_for_generation(1);

    // Watch, prove the weight, promote.
    assert_eq!(machine.wait_for_monitor(true), ("success".to_owned(), "0".to_owned()), "{}", machine.log());
    let status = machine.canary(&format!("status --source {REDIS}"));
    let text = &assert_exit(&status, 0).stdout;
    assert!(text.contains("canary xgb (active), generation 1\n"), "{text}");
    assert!(text.contains(", as the weights in force give it since "), "{text}");
    assert_exit(&machine.canary("promote"), 0);
    machine.wait_for_generation(2);

    // The next canary falls silent: the monitor's unit rolls back, fails for everybody to see, and stays so.
    assert_exit(&machine.canary(&activation("lgbm")), 0);
    machine.wait_for_generation(3);
    assert_eq!(
        machine.wait_for_monitor(false),
        ("exit-code".to_owned(), "2".to_owned()),
        "{}",
        machine.log()
    );
    assert!(machine.log().contains("VIOLATION: the canary is silent"), "{}", machine.log());
    assert_eq!(machine.systemd.property("qsc-monitor", "NRestarts"), "0");
    assert_eq!(machine.weights()["canary"], Value::Null);
    machine.wait_for_generation(4);

    // And one that a person takes back.
    assert_exit(&machine.canary(&activation("nhits")), 0);
    assert_exit(&machine.canary("rollback --reason 'spread widened'"), 0);
    assert_eq!(machine.weights()["weights"]["xgb"], 0.1, "what was promoted is the baseline");
    machine.wait_for_generation(6);
    assert_exit(&machine.canary("audit verify"), 0);

    // A report in doubt.
    let reports = machine.systemd.sh("ls /var/lib/qsc/reports/safety/*_post_cutover.json");
    let report = reports.lines().next().unwrap();
    let verify = format!("report verify {report} --model xgb --cutover {cutover} --max-age 1h");
    assert_exit(&machine.qsc(&verify), 0);

    // The audit log breaks: it is kept as evidence, and a new one begun.
    machine.systemd.sh("sed -i 's/xgb/XGB/' /var/lib/qsc/state/audit.jsonl");
    assert_exit(&machine.canary("audit verify"), 2);
    machine.systemd.sh("cd /var/lib/qsc && runuser -u qsc -- sh -c \
         'mkdir state/broken && mv state/audit.jsonl state/audit.head state/broken/'");
    let anew = machine.canary("rollback --reason 'audit log broken, see state/broken'");
    assert_exit(&anew, 1);
    assert!(anew.stdout.contains("BROKEN: "), "{anew:?}");
    assert_exit(&machine.canary("audit verify"), 0);
    assert_exit(&machine.canary("rollback"), 0);
}

fn format_ms(ms: u64) -> String {
    qsc_cli::stream::format_rfc3339(ms)
}

/// Every command of the page is one: its flags exist and its values are such.
#[test]
fn every_command_of_the_page_parses() {
    let mut seen = 0;
    let code = PAGE.lines().filter(|line| line.starts_with("    ")).collect::<Vec<_>>().join("\n");
    for line in code.replace("\\\n", " ").lines().map(str::trim) {
        if !line.starts_with("qsc ") {
            continue;
        }
        let line = line.replace(" …", "");
        let script = format!("for word in {line}; do printf '%s\\n' \"$word\"; done");
        let words = Command::new("sh").args(["-c", &script]).output().unwrap();
        let words: Vec<String> =
            String::from_utf8(words.stdout).unwrap().lines().map(str::to_owned).collect();
        let parsed = qsc_cli::args::command_tree().try_get_matches_from(&words);
        if let Err(error) = parsed {
            // A line with an ellipsis leaves out what another one has.
            let incomplete = format!("{:?}", error.kind()) == "MissingRequiredArgument";
            assert!(incomplete, "{line}: {error}");
        }
        seen += 1;
    }
    assert!(seen >= 15, "{seen} commands");
}
