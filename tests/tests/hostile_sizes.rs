//! A small file cannot ask for much: every reader of `qsc`, in a process that has no more address space than it needs, is
//! handed sizes, nesting and lines without end. It answers in one sentence, soon.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use qsc_tests::qsc::{self, Run};
use qsc_tests::{bundle, nets};
use serde_json::json;

/// Address space of a run in KiB: three times what loading the demo's models takes, less than half of any size asked for
/// here.
const ADDRESS_SPACE: u32 = 1 << 20;
/// CPU seconds of a run.
const CPU_SECONDS: u32 = 20;
/// What nests deeper than any stack.
const DEEP: usize = 100_000;

/// A directory with files, and what `qsc` says about them within its bounds.
struct Scene(tempfile::TempDir);

impl Scene {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        bundle::text(&path).to_owned()
    }

    /// A name for bytes without end.
    fn endless(&self, name: &str) -> String {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink("/dev/zero", &path).unwrap();
        bundle::text(&path).to_owned()
    }

    fn run(&self, arguments: &[&str]) -> Run {
        let mut command = Command::new("sh");
        let limits = format!("ulimit -v {ADDRESS_SPACE} && ulimit -t {CPU_SECONDS} && exec \"$@\"");
        command.args(["-c", &limits, "sh"]).arg(qsc::binary()).args(arguments).current_dir(self.0.path());
        let run = qsc::finish(command, &[]);
        assert!(run.code.is_some_and(|code| code != 101), "{arguments:?} crashed: {run:?}");
        run
    }

    fn refuses(&self, arguments: &[&str], words: &[&str]) {
        self.run(arguments).assert_refused(words);
    }
}

fn nested(open: &str) -> String {
    open.repeat(DEEP)
}

/// The text with four billion wherever a number stands between `before` and `after`.
fn huge(text: &str, before: &str, after: char) -> String {
    let mut parts = text.split(before);
    let first = parts.next().unwrap().to_owned();
    let changed = parts.map(|part| format!("{before}4000000000{}", &part[part.find(after).unwrap()..]));
    let changed: Vec<String> = changed.collect();
    assert!(!changed.is_empty(), "{before:?} is not there");
    first + &changed.concat()
}

#[test]
fn the_bound_on_memory_is_in_force() {
    let copies = |block: u32| {
        let script =
            format!("ulimit -v {ADDRESS_SPACE} && exec dd if=/dev/zero of=/dev/null count=1 bs={block}K");
        Command::new("sh").args(["-c", &script]).output().unwrap().status.success()
    };
    assert!(copies(64) && !copies(ADDRESS_SPACE), "one block as large as the bound is one too large");
    let scene = Scene::new();
    let run = scene.run(&["model", "inspect", bundle::text(&bundle::file("images/xgb.qsm"))]);
    assert_eq!(run.code, Some(0), "an honest image has room: {run:?}");
}

#[test]
fn images() {
    let scene = Scene::new();
    let honest = fs::read(bundle::file("images/nhits.qsm")).unwrap();
    let altered = |at: usize, bytes: &[u8]| {
        let mut image = honest.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        bundle::reseal(image)
    };
    let model = bundle::section(&honest, 1).start;
    let net = bundle::section(&honest, 32).start;
    for (name, bytes) in [
        ("length", altered(16, &u64::MAX.to_le_bytes())),
        ("sections", altered(24, &u32::MAX.to_le_bytes())),
        ("features", altered(model, &u32::MAX.to_le_bytes())),
        ("steps", altered(model + 4, &u32::MAX.to_le_bytes())),
        ("outputs", altered(model + 8, &u32::MAX.to_le_bytes())),
        ("golden rows", altered(model + 16, &u32::MAX.to_le_bytes())),
        ("scratch", altered(model + 20, &u32::MAX.to_le_bytes())),
        ("arena", altered(net, &u32::MAX.to_le_bytes())),
        ("a header", honest[..64].to_vec()),
    ] {
        let path = scene.write(&format!("{name}.qsm"), bytes);
        scene.refuses(&["model", "verify", &path], &["cannot use"]);
    }
    scene.refuses(&["model", "inspect", &scene.endless("endless.qsm")], &["not a model image"]);
}

#[test]
fn xgboost() {
    let scene = Scene::new();
    let compile = |name: &str, bytes: &[u8], words: &[&str]| {
        let path = scene.write(name, bytes);
        scene.refuses(&["model", "compile", &path, "--output", "out.qsm", "--iterations", "all"], words);
    };
    let path = qsc_tests::fixtures::models()
        .into_iter()
        .find(|case| case.name == "xgboost-3.2.0-binary")
        .unwrap()
        .path;
    let honest = fs::read_to_string(path).unwrap();
    for key in ["num_feature", "num_class", "num_target", "num_trees", "num_nodes"] {
        let huge = huge(&honest, &format!("\"{key}\":\""), '"');
        compile(&format!("{key}.json"), huge.as_bytes(), &["cannot import"]);
    }
    compile("deep.json", format!("{{\"learner\":{}", nested("[")).as_bytes(), &["nested deeper"]);
    compile("deep-objects.json", nested("{\"a\":").as_bytes(), &["nested deeper"]);
    compile("deep.ubj", format!("{{i\u{1}a{}", nested("[")).as_bytes(), &["nested deeper"]);
    compile("deep-objects.ubj", nested("{i\u{1}a").as_bytes(), &["nested deeper"]);
    // Billions of elements that take no byte each, and of elements that do.
    for kind in [b'Z', b'T', b'F', b'N', b'[', b'{', b'S', b'U', b'D'] {
        let mut bytes = b"{i\x01a[$".to_vec();
        bytes.extend([kind, b'#', b'L']);
        bytes.extend(10_000_000_000_i64.to_be_bytes());
        compile("typed.ubj", &bytes, &["damaged"]);
    }
    compile("counted.ubj", b"{i\x01a[#L\0\0\0\x02\x54\x0b\xe4\0Z", &["damaged"]);
    compile("text.ubj", b"{i\x01aSL\0\0\0\x02\x54\x0b\xe4\0x", &["damaged"]);
    scene.refuses(
        &["model", "compile", &scene.endless("endless.json"), "--output", "out.qsm"],
        &["endless.json"],
    );
}

#[test]
fn lightgbm() {
    let scene = Scene::new();
    let honest = fs::read_to_string(bundle::small("binary.txt")).unwrap();
    let keys = ["max_feature_idx", "num_class", "num_tree_per_iteration", "num_leaves", "num_cat"];
    for key in keys {
        // Without the sizes of its trees, which would tell of the change first.
        let huge = huge(&honest.replace("tree_sizes=", "monotone_constraints="), &format!("\n{key}="), '\n');
        let path = scene.write(&format!("{key}.txt"), huge);
        scene.refuses(&["model", "compile", &path, "--output", "out.qsm"], &["cannot import"]);
    }
}

/// A safetensors file of tensors full of 0.5.
fn safetensors(metadata: serde_json::Value, tensors: &[(&str, &[usize])]) -> Vec<u8> {
    let (mut header, mut at) = (json!({ "__metadata__": metadata }), 0);
    for (name, shape) in tensors {
        let end = at + 4 * shape.iter().product::<usize>();
        header[name] = json!({"dtype": "F32", "shape": shape, "data_offsets": [at, end]});
        at = end;
    }
    let header = header.to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend((0..at / 4).flat_map(|_| 0.5_f32.to_le_bytes()));
    bytes
}

fn of_config(case: &str, changes: &[(&str, u32)]) -> String {
    let path = nets::cases().into_iter().find(|found| found.name == case).unwrap().path;
    let mut config: serde_json::Value =
        serde_json::from_slice(&fs::read(path.join("config.json")).unwrap()).unwrap();
    for (key, value) in changes {
        assert!(config.get(key).is_some(), "{key}");
        config[key] = (*value).into();
    }
    config.to_string()
}

#[test]
fn networks() {
    let scene = Scene::new();
    let compile = |name: &str, file: &[u8], config: Option<&str>, words: &[&str]| {
        let file = scene.write(&format!("{name}.safetensors"), file);
        let mut arguments = vec!["model", "compile", &file, "--output", "out.qsm"];
        let config = config.map(|config| scene.write(&format!("{name}.json"), config));
        if let Some(config) = &config {
            arguments.extend(["--config", config]);
        }
        scene.refuses(&arguments, words);
    };
    let nothing = safetensors(json!({}), &[]);
    let mut long = (1_u64 << 40).to_le_bytes().to_vec();
    long.extend(b"{\"a\":1}");
    compile("header", &long, Some(&of_config("hf", &[])), &["safetensors"]);
    let mut far =
        br#"{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}"#.to_vec();
    far.splice(0..0, (far.len() as u64).to_le_bytes());
    compile("far", &far, Some(&of_config("hf", &[])), &["safetensors"]);
    let mut deep = format!("{{\"a\":{}", nested("[")).into_bytes();
    deep.splice(0..0, (deep.len() as u64).to_le_bytes());
    compile("deep", &deep, Some(&of_config("hf", &[])), &["safetensors"]);
    compile("deep config", &nothing, Some(&nested("[")), &["no JSON"]);

    // Sizes that multiply: patches of all channels are numbered before a tensor is looked at.
    let wide = [
        ("context_length", 65_536),
        ("num_input_channels", 65_536),
        ("patch_length", 1),
        ("patch_stride", 1),
    ];
    compile("patches", &nothing, Some(&of_config("hf", &wide)), &["num_input_channels", "at most 1048576"]);
    // The row of a PatchTST is steps times features, and its tensors know only one of each.
    let long = [
        ("seq_len", 65_536),
        ("n_features", 60_000),
        ("patch_len", 1),
        ("d_model", 1),
        ("n_heads", 1),
        ("n_layers", 1),
        ("ffn_dim", 1),
    ];
    let layer = |part: &'static str| format!("transformer.layers.0.{part}");
    let names = [
        ("self_attn.in_proj_weight", &[3, 1][..]),
        ("self_attn.in_proj_bias", &[3]),
        ("self_attn.out_proj.weight", &[1, 1]),
        ("self_attn.out_proj.bias", &[1]),
        ("norm1.weight", &[1]),
        ("norm1.bias", &[1]),
        ("linear1.weight", &[1, 1]),
        ("linear1.bias", &[1]),
        ("linear2.weight", &[1, 1]),
        ("linear2.bias", &[1]),
        ("norm2.weight", &[1]),
        ("norm2.bias", &[1]),
    ]
    .map(|(part, shape)| (layer(part), shape));
    let mut tensors: Vec<(&str, &[usize])> =
        names.iter().map(|(name, shape)| (name.as_str(), *shape)).collect();
    tensors.extend([
        ("patch_embedding.weight", &[1, 60_000][..]),
        ("patch_embedding.bias", &[1]),
        ("pos_encoding", &[1, 65_536, 1]),
        ("output_proj.weight", &[1, 1]),
        ("output_proj.bias", &[1]),
    ]);
    let mut config: serde_json::Value = serde_json::from_str(&of_config("patchtst", &long)).unwrap();
    config.as_object_mut().unwrap().retain(|key, _| key != "feature_names" && key != "preprocess");
    compile("row", &safetensors(json!({}), &tensors), Some(&config.to_string()), &["an image holds 1048576"]);

    // Pools and interpolations become matrices that no file holds.
    let hyper = |pooling: &str, kernel: usize, h: usize| {
        json!({"h": h, "input_size": 65_536, "loss": {"cls": "MAE"}, "scaler_type": null, "stack_types": ["identity"],
            "n_blocks": [1], "mlp_units": [[4096, 1]], "n_pool_kernel_size": [kernel], "n_freq_downsample": [2],
            "pooling_mode": pooling, "interpolation_mode": "linear", "dropout_prob_theta": 0.0, "activation": "ReLU"})
    };
    let metadata =
        |hyper: serde_json::Value| json!({"model_class": "NHITS", "hyper_parameters": hyper.to_string()});
    let first: [(&str, &[usize]); 2] =
        [("blocks.0.layers.0.weight", &[4096, 1]), ("blocks.0.layers.0.bias", &[4096])];
    let file = safetensors(metadata(hyper("AvgPool1d", 65_536, 1)), &first);
    compile("pool", &file, None, &["input_size", "at most 16777216"]);
    let theta = 65_536 + 32_768;
    let mut tensors = first.to_vec();
    let theta = [theta, 1];
    tensors.extend([
        ("blocks.0.layers.1.weight", &[1, 4096][..]),
        ("blocks.0.layers.1.bias", &[1]),
        ("blocks.0.layers.3.weight", &theta),
        ("blocks.0.layers.3.bias", &theta[..1]),
    ]);
    let file = safetensors(metadata(hyper("MaxPool1d", 65_536, 65_536)), &tensors);
    compile("interpolation", &file, None, &["interpolated", "at most 16777216"]);
}

#[test]
fn rows() {
    let scene = Scene::new();
    let image = bundle::file("images/xgb.qsm");
    let image = bundle::text(&image);
    let predict = |path: &str, words: &[&str]| scene.refuses(&["predict", image, "--input", path], words);
    let npy = |shape: &str| {
        let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\0".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend([0; 64]);
        bytes
    };
    for (at, shape) in [
        "(10000000000,)",
        "(1000000000, 1000000000)",
        "(4611686018427387904, 4)",
        "(99999999999999999999999,)",
    ]
    .iter()
    .enumerate()
    {
        predict(&scene.write(&format!("{at}.npy"), npy(shape)), &[".npy"]);
    }
    let many = format!("({})", "1,".repeat(20_000));
    predict(&scene.write("dimensions.npy", npy(&many)), &["dimensions"]);
    predict(&scene.write("header.npy", b"\x93NUMPY\x02\0\xff\xff\xff\xff{"), &["truncated"]);
    predict(&scene.write("deep.jsonl", nested("[")), &["no JSON"]);
    predict(&scene.write("deep-nan.jsonl", format!("{}NaN", nested("[1,"))), &["no JSON"]);
    predict(&scene.write("line.csv", "1,".repeat(9 << 20)), &["line 1 is longer than 16 MiB"]);
    predict(
        &scene.write("line.jsonl", format!("[{}", "1,".repeat(9 << 20))),
        &["line 1 is longer than 16 MiB"],
    );
    predict(&scene.endless("endless.csv"), &["line 1 is longer than 16 MiB"]);
    predict(&scene.endless("endless.jsonl"), &["line 1 is longer than 16 MiB"]);
    predict(&scene.endless("endless.npy"), &["no .npy file"]);
}

#[test]
fn events() {
    let scene = Scene::new();
    let line = |payload: &str| {
        json!({"id": "1768023795000-0", "fields": {"event_type": "trade.intent", "payload": payload}})
            .to_string()
    };
    for (name, text) in [
        ("deep-line", format!("{{\"id\":{}", nested("["))),
        (
            "deep-field",
            format!(
                "{{\"id\":\"1-0\",\"fields\":{{\"event_type\":\"trade.intent\",\"payload\":\"{{}}\",\"trace_id\":{}",
                nested("[")
            ),
        ),
        ("deep-payload", line(&nested("["))),
        ("deep-objects", line(&nested("{\"model_breakdown\":"))),
        ("deep-nan", line(&format!("{}NaN", nested("[")))),
        ("long-line", "x".repeat(17 << 20)),
        (
            "many",
            line(&format!(
                "{{\"model_breakdown\":{{{}}}}}",
                (0..50_000).map(|at| format!("\"{at}\":{{}}")).collect::<Vec<_>>().join(",")
            )),
        ),
    ] {
        let path = format!("file:{}", scene.write(&format!("{name}.jsonl"), text + "\n"));
        for gate in [&["quality-gate", "--mode", "canary"][..], &["feature-sanity", "--after", "0"]] {
            let run = scene.run(&[gate, &["--source", &path]].concat());
            assert_eq!(run.code, Some(2), "{name}: {:?} {:?}", run.code, run.stderr);
        }
    }
    let path = format!("file:{}", scene.endless("endless.jsonl"));
    // An endless line is skipped in bounded memory: only the bound on time ends it.
    let run = qsc::finish(endless(&scene, &path), &[]);
    assert_eq!(run.code, Some(124), "timeout ends it, not a lack of memory: {run:?}");
}

/// A gate over bytes without end, ended after three seconds.
fn endless(scene: &Scene, source: &str) -> Command {
    let mut command = Command::new("sh");
    let limits = format!("ulimit -v {ADDRESS_SPACE} && exec timeout 3 \"$@\"");
    command.args(["-c", &limits, "sh"]).arg(qsc::binary());
    command.args(["feature-sanity", "--after", "0", "--source", source]).current_dir(scene.0.path());
    command
}

#[test]
fn configurations() {
    let scene = Scene::new();
    let huge = "#".repeat(5 << 20);
    let deep = format!("a = {}", nested("["));
    let tables = format!("[{}]", ["a"; DEEP].join("."));
    let inline = format!("a = {}", nested("{ a = "));
    for (name, text) in [("huge", &huge), ("deep", &deep), ("inline", &inline), ("tables", &tables)] {
        let path = scene.write(&format!("{name}.toml"), text);
        scene.refuses(
            &["run", "--models", &path, "--source", "file:absent.jsonl", "--sink", "file:out"],
            &[&path],
        );
        scene.refuses(&["--settings", &path, "config", "show"], &[&path]);
    }
    let path = scene.endless("endless.toml");
    scene.refuses(&["--settings", &path, "config", "show"], &["larger than 4 MiB"]);
    scene.refuses(
        &["run", "--models", &path, "--source", "file:absent.jsonl", "--sink", "file:out"],
        &["larger than 4 MiB"],
    );
    let models: String = (0..10_000).map(|at| format!("[[model]]\nname = 'm{at}'\nimage = 'x'\n")).collect();
    let path = scene.write("many.toml", models);
    let run = scene.run(&["run", "--models", &path, "--source", "file:absent.jsonl", "--sink", "file:out"]);
    assert!(run.code == Some(1) && run.stderr.contains("at most 16"), "{:?}", run.code);
}

#[test]
fn state_and_reports() {
    let scene = Scene::new();
    let head = r#"{"seq":1,"hash":"0"}"#;
    for (name, log) in
        [("deep", format!("{}\n", nested("["))), ("long", format!("{}\n", "x".repeat(1 << 20)))]
    {
        scene.write(&format!("{name}/audit.jsonl"), log);
        scene.write(&format!("{name}/audit.head"), head);
        let run = scene.run(&["canary", "audit", "verify", "--state-dir", name]);
        assert!(matches!(run.code, Some(1 | 2)), "{run:?}");
    }
    for file in ["weights.json", "baseline.json", "watch.json", "audit.jsonl", "audit.head"] {
        let directory = format!("of-{file}");
        scene.endless(&format!("{directory}/{file}"));
        let run = scene.run(&["canary", "status", "--state-dir", &directory]);
        assert!(matches!(run.code, Some(0..=2)), "{file}: {run:?}");
        scene.write(&format!("nested-{file}/{file}"), nested("{\"weights\":"));
        let run = scene.run(&["canary", "status", "--state-dir", &format!("nested-{file}")]);
        assert!(matches!(run.code, Some(0..=2)), "{file}: {run:?}");
    }
    let report = scene.write("r/quality_gate_1.json", nested("{\"a\":"));
    scene.write("r/quality_gate_1.md", "# Quality Gate Report\n");
    scene.refuses(&["report", "verify", &report], &["no JSON"]);
}

/// A server that greets as Redis does and then answers with one hostile reply.
fn hostile_server(reply: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut block = [0; 4096];
            while let Ok(1..) = stream.read(&mut block) {
                if stream.write_all(&reply).is_err() {
                    break;
                }
            }
        }
    });
    format!("redis://{address}")
}

#[test]
fn redis_replies() {
    let scene = Scene::new();
    let array = nested("*1\r\n");
    for (name, reply) in [
        ("array", "*1000000000\r\n"),
        ("larger array", "*9000000000000000000\r\n"),
        ("map", "%1000000000\r\n"),
        ("bulk", "$10000000000\r\n"),
        ("negative", "$-9\r\n"),
        ("deep", &array),
        ("line", "+"),
    ] {
        let server = hostile_server(reply.as_bytes().to_vec());
        let started = Instant::now();
        let run = scene.run(&["quality-gate", "--mode", "canary", "--source", &server, "--stream", "s"]);
        run.assert_refused(&["Redis"]);
        assert!(started.elapsed() < Duration::from_secs(60), "{name}: {:?}", started.elapsed());
    }
}

#[test]
fn the_binary_runs_within_its_bound() {
    // What every test here rests on: this much is enough for honest work.
    let scene = Scene::new();
    let run = scene.run(&["demo"]);
    assert_eq!(run.code, Some(0), "{:?}", run.stderr);
    assert!(Path::new(&scene.0.path().join("reports/demo")).is_dir());
}
