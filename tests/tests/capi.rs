//! The C library as it is installed: what it exports, and its C and C++ examples, which must give the kernel's bits plain, under
//! sanitizers, under valgrind, and in a hostile float environment.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use qsc_cli::engine::{bind::Schema, bundled};
use qsc_kernel::ensemble::{
    Action, ConfidenceRule, Consensus, Decided, Decision, Degeneracy, Feature, Member, Outcome, Pipeline,
    Ppm, Prediction, VoteRules, Window,
};
use qsc_kernel::guard::FingerprintLayout;
use qsc_kernel::{Backend, Inactive, Model, Scratch};
use qsc_tests::skip;

/// Warnings are errors, and nothing but the standards is used.
const STRICT: [&str; 6] = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-O1", "-g"];

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernel/capi")
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Those that are missing, said aloud; true if there are none.
fn all_there(programs: &[&str]) -> bool {
    let missing: Vec<_> = programs.iter().filter(|program| !has(program)).collect();
    if !missing.is_empty() {
        skip(&format!(
            "the C library is not tested: {missing:?} are missing (apt-get install gcc g++ binutils pkgconf valgrind)"
        ));
    }
    missing.is_empty()
}

/// Runs a command that must end well.
fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    output
}

/// The library, built and installed once; `None`, said aloud, where that cannot be.
fn installed() -> Option<&'static Path> {
    static PREFIX: OnceLock<Option<PathBuf>> = OnceLock::new();
    let install = || {
        if !all_there(&["bash", "cc", "c++", "ar", "nm", "objcopy", "pkg-config"]) {
            return None;
        }
        let prefix = Path::new(env!("CARGO_TARGET_TMPDIR")).join("capi");
        let _ = fs::remove_dir_all(&prefix);
        // What the caller builds with is not what the library is built with.
        run(Command::new(package().join("install.sh"))
            .arg(&prefix)
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS"));
        Some(prefix)
    };
    PREFIX.get_or_init(install).as_deref()
}

/// What `of` finds in each line, sorted.
fn words<'a>(text: &'a str, of: impl Fn(&'a str) -> Option<&'a str>) -> Vec<&'a str> {
    let mut words: Vec<_> = text.lines().filter_map(of).collect();
    words.sort_unstable();
    words
}

#[test]
fn exactly_the_abi_is_exported() {
    let Some(prefix) = installed() else { return };
    let map = fs::read_to_string(package().join("qsc.map")).unwrap();
    let header = fs::read_to_string(package().join("include/qsc.h")).unwrap();
    let abi = words(&map, |line| line.trim().strip_suffix(';').filter(|name| name.starts_with("qsc_")));
    let declares = |name: &str| [' ', '*'].iter().any(|before| header.contains(&format!("{before}{name}(")));
    assert!(abi.iter().all(|name| declares(name)), "the header lacks some of {abi:?}");
    assert!(abi.len() > 20 && abi.contains(&"qsc_engine_decide"), "{abi:?}");

    let nm = |arguments: &[&str], file: &str| {
        let output = run(Command::new("nm").args(arguments).arg(prefix.join("lib").join(file)));
        String::from_utf8(output.stdout).unwrap()
    };
    let shared = nm(&["--dynamic", "--defined-only", "--extern-only"], "libqsc.so");
    let versioned: Vec<_> = abi.iter().map(|name| format!("{name}@@QSC_1")).collect();
    assert_eq!(words(&shared, |line| line.split(" T ").nth(1)), versioned);
    let archive = nm(&["--defined-only", "--extern-only"], "libqsc.a");
    assert_eq!(words(&archive, |line| line.split(" T ").nth(1)), abi);
    assert!(
        archive.lines().filter(|line| line.contains(' ')).all(|line| line.contains(" T qsc_")),
        "{archive}"
    );
    // What it asks of a host is C's own, and neither an allocator nor a panic.
    let needed = nm(&["--undefined-only"], "libqsc.a");
    let needed = words(&needed, |line| line.split(" U ").nth(1));
    assert!(
        needed.iter().all(|name| ["bcmp", "memcmp", "memcpy", "memmove", "memset", "strlen"].contains(name)),
        "{needed:?}"
    );
}

/// How the examples are built and run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Build {
    Shared,
    Static,
    Sanitized,
    Hostile,
}

struct Examples {
    directory: PathBuf,
    valgrind: bool,
}

impl Examples {
    /// Compiles the three with these compilers.
    fn build(prefix: &Path, [cc, cxx]: [&str; 2], build: Build) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("capi-{build:?}-{cc}"));
        fs::create_dir_all(&directory).unwrap();
        let flags = run(Command::new("pkg-config")
            .args(["--cflags", "--libs", "qsc"])
            .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")));
        let flags = String::from_utf8(flags.stdout).unwrap();
        for (compiler, standard, source) in
            [(cc, "-std=c11", "predict.c"), (cc, "-std=c11", "decide.c"), (cxx, "-std=c++17", "engine.cpp")]
        {
            let mut command = Command::new(compiler);
            command.arg(standard).args(STRICT).arg(package().join("examples").join(source));
            match build {
                Build::Sanitized => {
                    command.args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
                }
                Build::Hostile => {
                    let hostile = directory.join("hostile.o");
                    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/capi/hostile.c");
                    run(Command::new(cc).arg("-c").args(STRICT).arg(source).arg("-o").arg(&hostile));
                    command.arg(hostile);
                }
                Build::Shared | Build::Static => {}
            }
            if build == Build::Shared {
                command.args(flags.split_whitespace());
                command.arg(format!("-Wl,-rpath,{}", prefix.join("lib").display()));
            } else {
                command.args(flags.split_whitespace().filter(|flag| *flag != "-lqsc"));
                command.arg(prefix.join("lib/libqsc.a"));
            }
            run(command.arg("-lm").arg("-o").arg(directory.join(source.split('.').next().unwrap())));
        }
        Self { directory, valgrind: false }
    }

    fn command(&self, example: &str) -> Command {
        let program = self.directory.join(example);
        if !self.valgrind {
            return Command::new(program);
        }
        let mut command = Command::new("valgrind");
        command.args(["--quiet", "--error-exitcode=9", "--leak-check=full", "--show-leak-kinds=all"]);
        command.arg(program);
        command
    }

    /// What the example prints.
    fn output(&self, example: &str, arguments: &[&Path], more: &[&str]) -> String {
        let output = run(self.command(example).args(arguments).args(more));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Every bundled model: the example's bits are those of the scalar backend.
    fn predict(&self, images: &Images, backends: &[&str]) {
        for ((name, image), path) in qsc_models::IMAGES.iter().zip(&images.paths) {
            let model = Model::check(image).unwrap().with_backend(Backend::SCALAR);
            let golden = model.golden_inputs();
            // Enough rows for a block of a batch and a rest; networks take row by row.
            let times = if model.seq_len() > 1 { 1 } else { 20 };
            let rows = golden.repeat(times);
            let file = images.file(&format!("{name}.f32"), &floats(&rows));
            let expected = predictions(&model, &rows);
            assert!(expected.lines().count() >= 3, "{name}");
            for backend in backends {
                assert_eq!(
                    self.output("predict", &[path.as_path(), file.as_path()], &[backend]),
                    expected,
                    "{name} on {backend}"
                );
            }
        }
    }

    /// The bundled ensemble over events of two symbols.
    fn engine(&self, images: &Images) {
        let (names, events) = events();
        let names_file = images.file("names", names.join("\n").as_bytes());
        let values: Vec<f32> = events.concat();
        let events_file = images.file("events.f32", &floats(&values));
        let mut arguments = vec![names_file.as_path(), events_file.as_path()];
        arguments.extend(images.paths.iter().map(PathBuf::as_path));
        let expected = decisions(&names, &events);
        let sides = expected.lines().filter(|line| line.starts_with("1 ")).count();
        // Every member has voted, also those that wait for their windows.
        assert!(
            sides > EVENTS / 2 && expected.lines().last().unwrap().matches(" 0 ").count() >= 2,
            "{sides} sides"
        );
        assert_eq!(self.output("engine", &arguments, &[]), expected);
    }

    /// One tabular decision, and none for an empty vector.
    fn decide(&self, images: &Images) {
        let model = Model::check(qsc_models::XGB).unwrap();
        // A missing value would make the member inactive.
        let there = |&value: &f32| if value.is_finite() { value } else { 0.5 };
        let row: Vec<f32> = model.golden_inputs()[..model.row_len()].iter().map(there).collect();
        let texts: Vec<String> = row.iter().map(f32::to_string).collect();
        let mut memory = vec![0; model.scratch_bytes() + 63];
        let output = model.predict(&row, Scratch::new(&mut memory)).unwrap();
        let decided = model.decide(&row, &output, ConfidenceRule::Max).unwrap();
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        let told = self.output("decide", &[images.paths[0].as_path()], &texts);
        let (action, confidence) = told.trim().split_once(' ').unwrap();
        assert_eq!(action, decided.action().wire_name());
        assert_eq!(confidence.parse::<f32>().unwrap(), decided.confidence().min(0.95));

        let output = self.command("decide").arg(&images.paths[0]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert_eq!(output.stdout, b"no side: nan_input\n");
        // What is no number, and a number too many, are told and not dropped.
        let mut many = texts.clone();
        many.push("1");
        for (texts, why) in
            [(vec!["abc"], "abc is no number"), (vec!["1x"], "1x is no number"), (many, "24 values")]
        {
            let output = self.command("decide").arg(&images.paths[0]).args(texts).output().unwrap();
            assert_eq!((output.status.code(), output.stdout.len()), (Some(64), 0), "{output:?}");
            assert!(String::from_utf8_lossy(&output.stderr).contains(why), "{output:?}");
        }
        let torn = images.file("torn.f32", &floats(&row)[..row.len() * 4 - 2]);
        let output = self.command("predict").arg(&images.paths[0]).arg(torn).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(64), 0), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("torn"), "{output:?}");
    }
}

/// The bundled images as files.
struct Images {
    directory: tempfile::TempDir,
    paths: Vec<PathBuf>,
}

impl Images {
    fn new() -> Self {
        let mut images = Self { directory: tempfile::tempdir().unwrap(), paths: Vec::new() };
        images.paths = qsc_models::IMAGES
            .iter()
            .map(|(name, image)| images.file(&format!("{name}.qsm"), image))
            .collect();
        images
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// What `predict` must print.
fn predictions(model: &Model<'_>, rows: &[f32]) -> String {
    let mut memory = vec![0; model.scratch_bytes() + 63];
    let mut lines = String::new();
    for row in rows.chunks_exact(model.row_len()) {
        let output = model.predict(row, Scratch::new(&mut memory)).unwrap();
        for raw in output.raw {
            write!(lines, "{:016x} ", raw.to_bits()).unwrap();
        }
        let values: Vec<_> = output.values.iter().map(|value| format!("{:08x}", value.to_bits())).collect();
        writeln!(lines, "{}", values.join(" ")).unwrap();
    }
    lines
}

/// Events of the two symbols together: enough to fill both of every window.
const EVENTS: usize = 300;

/// The names of all features, and the first events of the bundled capture over them.
fn events() -> (Vec<String>, Vec<Vec<f32>>) {
    let mut schema = Schema::default();
    for (_, image) in qsc_models::IMAGES {
        let names: Vec<String> = Model::check(image).unwrap().feature_names().map(str::to_owned).collect();
        schema.bind(&names).unwrap();
    }
    let values = |event: Vec<Feature>| {
        event.into_iter().map(|feature| feature.shown().unwrap_or(f32::NAN)).collect::<Vec<_>>()
    };
    let mut events: Vec<Vec<f32>> =
        bundled::events(&schema).unwrap().into_iter().take(EVENTS).map(values).collect();
    // Two events lack a feature, which is another thing than a missing value.
    (events[2][0], events[5][1]) = (f32::NAN, f32::NAN);
    (schema.names().map(str::to_owned).collect(), events)
}

/// What `engine` must print.
fn decisions(names: &[String], events: &[Vec<f32>]) -> String {
    let models: Vec<_> = qsc_models::IMAGES.iter().map(|(_, image)| Model::check(image).unwrap()).collect();
    let names = || names.iter().map(String::as_str);
    let bytes = FingerprintLayout::<Vec<u8>>::bytes(names()).unwrap();
    let layout = FingerprintLayout::new(names(), vec![0; bytes]).unwrap();
    let mut pipeline: Pipeline<_, Vec<u16>, _, 4> =
        Pipeline::new(VoteRules::STANDARD, Degeneracy::Enforce, layout);
    let scratch_bytes = models.iter().map(Model::scratch_bytes).max().unwrap();
    for model in models {
        let place = |feature: &str| u16::try_from(names().position(|name| name == feature).unwrap()).unwrap();
        let indices = model.feature_names().map(place).collect();
        pipeline.push(Member::new(Some(model.with_backend(Backend::SCALAR)), Ppm::ONE), indices).unwrap();
    }
    let mut memory = vec![0; pipeline.scratch_bytes(scratch_bytes) + 63];
    let windows = || {
        let window = |(seq_len, n_features)| {
            Window::new(seq_len, n_features, vec![0.0; 2 * seq_len * n_features]).unwrap()
        };
        pipeline.windows().map(window).collect::<Vec<_>>()
    };
    let mut symbols = [windows(), windows()];
    let mut lines = String::new();
    for (at, event) in events.iter().enumerate() {
        if at == events.len() / 2 {
            pipeline.set_weight(0, Ppm::new(500_000).unwrap());
        }
        let there = |&value: &f32| if value.is_nan() { Feature::Absent } else { value.into() };
        let features: Vec<Feature> = event.iter().map(there).collect();
        let decided = pipeline.decide(&features, &mut symbols[at % 2], None, Scratch::new(&mut memory));
        lines += &line(&decided);
    }
    lines
}

fn line(decided: &Decided<4>) -> String {
    let action = |action| match action {
        Action::Buy => 1,
        Action::Sell => 2,
        Action::Hold => 3,
    };
    let consensus = |consensus| match consensus {
        Consensus::Unanimous => 1,
        Consensus::Strong => 2,
        Consensus::Split => 3,
        Consensus::Weak => 4,
    };
    let (verdict, side, confidence, agreed) = match decided.round.vote {
        Ok(Decision::Side(side)) => {
            (1, action(side.prediction.action()), side.prediction.confidence(), consensus(side.consensus))
        }
        Ok(Decision::Tie { .. }) => (2, 0, f32::NAN, 0),
        Err(_) => (3, 0, f32::NAN, 0),
    };
    let mut line = format!("{verdict} {side} {:08x} {agreed} {}", confidence.to_bits(), decided.fingerprint);
    for (outcome, weight) in decided.round.outcomes.iter().zip(&decided.round.effective_weights) {
        let (prediction, reason) = match *outcome {
            Outcome::Active { prediction, .. } => (Some(prediction), 0),
            Outcome::Inactive { reason, prediction, .. } => {
                (prediction, 1 + Inactive::ALL.iter().position(|&known| known == reason).unwrap())
            }
        };
        let told = prediction.map_or(0, |prediction: Prediction| action(prediction.action()));
        let confidence = prediction.map_or(f32::NAN, Prediction::confidence);
        write!(line, " | {told} {:08x} {reason} {:016x}", confidence.to_bits(), weight.to_bits()).unwrap();
    }
    line + "\n"
}

#[test]
fn examples_give_the_kernels_bits_on_every_backend() {
    let Some(prefix) = installed() else { return };
    let images = Images::new();
    let mut backends: Vec<_> = Backend::available().map(Backend::name).collect();
    backends.push("auto");
    let mut compilers = vec![["cc", "c++"]];
    compilers.extend((has("clang") && has("clang++")).then_some(["clang", "clang++"]));
    for compilers in compilers {
        for build in [Build::Shared, Build::Static] {
            let examples = Examples::build(prefix, compilers, build);
            examples.predict(&images, &backends);
            examples.engine(&images);
            examples.decide(&images);
        }
    }
}

#[test]
fn sanitizers_find_nothing() {
    let Some(prefix) = installed() else { return };
    let images = Images::new();
    let examples = Examples::build(prefix, ["cc", "c++"], Build::Sanitized);
    examples.predict(&images, &["auto"]);
    examples.engine(&images);
    examples.decide(&images);
}

#[test]
fn valgrind_finds_nothing() {
    let Some(prefix) = installed() else { return };
    if !all_there(&["valgrind"]) {
        return;
    }
    let images = Images::new();
    let examples = Examples { valgrind: true, ..Examples::build(prefix, ["cc", "c++"], Build::Static) };
    examples.predict(&images, &["auto"]);
    examples.engine(&images);
    examples.decide(&images);
}

#[test]
fn a_hosts_float_environment_changes_no_bit_and_is_put_back() {
    let Some(prefix) = installed() else { return };
    let images = Images::new();
    let backends: Vec<_> = Backend::available().map(Backend::name).collect();
    let examples = Examples::build(prefix, ["cc", "c++"], Build::Hostile);
    examples.predict(&images, &backends);
    examples.engine(&images);
}
