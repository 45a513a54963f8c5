//! Counts the instructions of the hot functions under callgrind and compares them with `benches/guard.toml`.
//!
//! The program runs itself under valgrind. Callgrind writes its counts and begins anew whenever [`guard_start`] or [`guard_mark`] is
//! entered and [`guard_measured`] left; the mark splits a prediction into quantizer and walk. Inputs are fixed, and so is what
//! valgrind tells of the processor: the counts depend on the compiler and this source alone. Valgrind knows no AVX-512.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode};

use qsc_benches::{rows, scratch, subjects, with_engine};
use qsc_cli::engine::bundled;
use qsc_cli::image::ImageBytes;
use qsc_kernel::ensemble::{ConfidenceRule, Degeneracy, Ensemble, Input, Member, Ppm, Predict, VoteRules};
use qsc_kernel::guard::FingerprintLayout;
use qsc_kernel::model::Body;
use qsc_kernel::observe::{Observer, Stage};
use qsc_kernel::{Action, Backend, Inactive, Model, Prediction, Scratch};

/// Growth that fails, and shrinkage that should be written down, in percent.
const TOLERANCE: f64 = 2.0;
/// Rows of each count.
const ROWS: usize = 8;
/// Backends valgrind can run.
const BACKENDS: [&str; 3] = ["scalar", "wide", "avx2"];
/// Tells the program that it runs under valgrind; its value is the directory of the images.
const INSIDE: &str = "QSC_GUARD_IMAGES";
/// Set to 1: the table is written instead of compared.
const UPDATE: &str = "QSC_GUARD_UPDATE";
/// When callgrind writes a file: its counts begin anew then.
const DUMPS: [&str; 3] =
    ["--dump-before=*guard_start*", "--dump-before=*guard_mark*", "--dump-after=*guard_measured*"];
/// The files that count something, by what callgrind says in them.
const COUNTS: [&str; 2] =
    ["Trigger: --dump-before=guard::guard_mark", "Trigger: --dump-after=guard::guard_measured"];

type Table = BTreeMap<String, u64>;

fn main() -> ExitCode {
    if let Some(directory) = std::env::var_os(INSIDE) {
        count(Path::new(&directory));
        return ExitCode::SUCCESS;
    }
    let directory = std::env::temp_dir().join(format!("qsc-guard-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("the temporary directory can be written");
    let measured = measure(&directory);
    // What valgrind left is of no use to anybody.
    let _ = fs::remove_dir_all(&directory);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("guard.toml");
    if std::env::var_os(UPDATE).is_some_and(|value| value == "1") {
        fs::write(&path, text(&measured)).expect("benches/guard.toml can be written");
        println!(
            "benches/guard.toml holds {} figures now: look at the difference, and commit it",
            measured.len()
        );
        return ExitCode::SUCCESS;
    }
    let committed = fs::read_to_string(&path).expect("benches/guard.toml can be read");
    let committed: BTreeMap<String, Table> =
        toml::from_str(&committed).expect("benches/guard.toml is a table of tables");
    compare(&measured, &committed["figures"])
}

/// Prints every figure that differs; fails for those that grew, are new, or are gone.
fn compare(measured: &Table, committed: &Table) -> ExitCode {
    let (mut failed, mut better) = (false, false);
    for (name, &now) in measured {
        let Some(&before) = committed.get(name) else {
            println!("NEW    {name}: {now} is not in benches/guard.toml");
            failed = true;
            continue;
        };
        let change = (now as f64 / before.max(1) as f64 - 1.0) * 100.0;
        if change > TOLERANCE {
            println!("WORSE  {name}: {now}, was {before} ({change:+.2} %, allowed {TOLERANCE} %)");
            failed = true;
        } else if change < -TOLERANCE {
            println!("better {name}: {now}, was {before} ({change:+.2} %)");
            better = true;
        }
    }
    for name in committed.keys().filter(|name| !measured.contains_key(*name)) {
        println!("GONE   {name}: in benches/guard.toml, but not measured here");
        failed = true;
    }
    println!("{} figures compared", measured.len());
    if failed || better {
        println!("where that is meant to be: {UPDATE}=1 ./ci.sh bench-guard, and commit benches/guard.toml");
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn text(table: &Table) -> String {
    let mut text = String::from(
        "# What ./ci.sh bench-guard compares: instructions of a call under callgrind (mean over fixed rows), bytes of images and of the\n\
         # scratch memory a call touches. Written by QSC_GUARD_UPDATE=1 ./ci.sh bench-guard.\n\n[figures]\n",
    );
    for (name, figure) in table {
        writeln!(text, "{name:?} = {figure}").expect("a string takes text");
    }
    text
}

/// Sizes, and the counts of this program under valgrind.
fn measure(directory: &Path) -> Table {
    let mut table = Table::new();
    for subject in subjects() {
        let model = Model::check(subject.image.as_bytes()).expect("subjects are valid");
        table.insert(format!("{} image bytes", subject.name), model.image_bytes() as u64);
        table.insert(format!("{} scratch bytes", subject.name), model.scratch_bytes() as u64);
        fs::write(directory.join(format!("{}.qsm", subject.name)), subject.image.as_bytes())
            .expect("images can be written");
    }
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .args(DUMPS)
        .arg(format!("--callgrind-out-file={}", directory.join("out").display()))
        .arg(std::env::current_exe().expect("a program has a path"))
        .env(INSIDE, directory)
        .output()
        .expect("valgrind runs; ./ci.sh setup installs it");
    assert!(output.status.success(), "under valgrind:\n{}", String::from_utf8_lossy(&output.stderr));
    let mut sums: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut dumps = (1..).map_while(|at| fs::read_to_string(directory.join(format!("out.{at}"))).ok());
    for name in String::from_utf8_lossy(&output.stdout).lines() {
        // What was done before a measured call, or after the last one, is nobody's.
        let mut counted = dumps.by_ref().filter(|dump| COUNTS.iter().any(|trigger| dump.contains(trigger)));
        let dump = counted.next().expect("callgrind writes a file for every count");
        let totals = dump.lines().find_map(|line| line.strip_prefix("totals: "));
        let count: u64 = totals.and_then(|count| count.trim().parse().ok()).expect("callgrind writes totals");
        assert!(count > 0, "{name}: nothing was counted");
        let (sum, calls) = sums.entry(name.to_owned()).or_default();
        (*sum, *calls) = (*sum + count, *calls + 1);
    }
    assert!(!sums.is_empty(), "nothing was counted at all");
    table.extend(sums.into_iter().map(|(name, (sum, calls))| (name, sum / calls)));
    table
}

/// What is counted: from [`guard_start`] to the return.
#[inline(never)]
fn guard_measured<R>(work: impl FnOnce() -> R) -> R {
    guard_start();
    black_box(work())
}

/// Where counting begins.
#[inline(never)]
fn guard_start() {
    black_box(0_u8);
}

/// Where callgrind writes a file in between. Another body than [`guard_start`], or the two would become one.
#[inline(never)]
fn guard_mark() {
    black_box(1_u16);
}

/// Marks the end of the quantizer.
struct AfterQuantizer;

impl Observer for AfterQuantizer {
    fn ended(&mut self, stage: Stage) {
        if stage == Stage::Quantize {
            guard_mark();
        }
    }
}

/// Runs every case; prints one line per file that callgrind writes.
fn count(directory: &Path) {
    let backends: Vec<Backend> =
        Backend::available().filter(|backend| BACKENDS.contains(&backend.name())).collect();
    let mut names: Vec<String> = fs::read_dir(directory)
        .expect("the images are there")
        .filter_map(|entry| {
            entry.ok()?.file_name().into_string().ok()?.strip_suffix(".qsm").map(str::to_owned)
        })
        .collect();
    names.sort();
    for name in names {
        let image = ImageBytes::read(&directory.join(format!("{name}.qsm"))).expect("an image just written");
        let model = Model::check(image.as_bytes()).expect("subjects are valid");
        for &backend in &backends {
            predict(&name, &model.clone().with_backend(backend));
        }
    }
    for &backend in &backends {
        decide(backend);
    }
    vote();
    fingerprint();
}

fn predict(name: &str, model: &Model<'_>) {
    let (rows, mut memory) = (rows(model, ROWS), scratch(model));
    let backend = model.backend().name();
    for row in rows.chunks_exact(model.row_len()) {
        match model.body() {
            Body::Trees(_) => {
                let output = guard_measured(|| {
                    model.predict_observed(black_box(row), Scratch::new(&mut memory), &mut AfterQuantizer)
                });
                assert!(output.is_ok());
                println!("{name} quantize {backend}\n{name} walk {backend}");
            }
            _ => {
                assert!(guard_measured(|| model.predict(black_box(row), Scratch::new(&mut memory))).is_ok());
                println!("{name} predict {backend}");
            }
        }
    }
}

fn decide(backend: Backend) {
    with_engine(backend, |engine| {
        let events = bundled::events(engine.schema()).expect("the bundled capture is valid");
        let (warm, measured) = events.split_at(200);
        // Refused events fill the windows without a prediction.
        for event in warm {
            engine.decide_features("S", event, Some(Inactive::StaleInput), &mut ());
        }
        for event in measured.iter().take(ROWS) {
            let decided = guard_measured(|| engine.decide_features("S", black_box(event), None, &mut ()));
            assert_eq!(decided.round.outcomes.len(), 4);
            println!("decide {}", backend.name());
        }
    });
}

/// Says what it was made to say.
struct Fixed(Prediction);

impl Predict for Fixed {
    fn row_len(&self) -> usize {
        1
    }

    fn n_features(&self) -> usize {
        1
    }

    fn predict(&self, _: &[f32], _: ConfidenceRule, _: Scratch<'_>) -> Result<Prediction, Inactive> {
        Ok(self.0)
    }
}

fn vote() {
    let mut ensemble = Ensemble::<Fixed, 4>::new(VoteRules::STANDARD, Degeneracy::Enforce);
    for (at, action) in [Action::Buy, Action::Sell, Action::Hold, Action::Buy].into_iter().enumerate() {
        let prediction = Prediction::new(action, 0.5 + at as f32 / 8.0).expect("a confidence");
        ensemble.push(Member::new(Some(Fixed(prediction)), Ppm::ONE)).expect("four places");
    }
    for _ in 0..ROWS {
        let round =
            guard_measured(|| ensemble.decide(black_box(&[Input::Row(&[1.0]); 4]), Scratch::new(&mut [])));
        assert!(round.vote.is_ok());
        println!("vote and guards");
    }
}

fn fingerprint() {
    let names: Vec<String> = (0..26).map(|at| format!("feature_name_{at}")).collect();
    let names = || names.iter().map(String::as_str);
    let bytes = FingerprintLayout::<Vec<u8>>::bytes(names()).expect("a few names");
    let mut layout = FingerprintLayout::new(names(), vec![0; bytes]).expect("there is room");
    let values: Vec<Option<f32>> = (0..26_u8).map(|at| Some(f32::from(at) * 0.37)).collect();
    for _ in 0..ROWS {
        guard_measured(|| layout.fingerprint(black_box(&values).iter().copied()));
        println!("fingerprint of 26 features");
    }
}
