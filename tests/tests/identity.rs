//! One body over every backend of this machine: the bits are those of the scalar one, for real and random models, at every
//! boundary of size, in whatever float environment the caller left.
//!
//! The digests printed are over all outputs and over the firmware's work: `./ci.sh arm64` compares those of AArch64 with those of this
//! machine, and `./ci.sh embedded` the latter with those of Cortex-M.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unsafe_code, reason = "the caller's float environment is set by inline assembly")]

#[path = "../firmware/check/src/host.rs"]
mod host;
#[path = "../firmware/src/work.rs"]
mod work;

use std::collections::BTreeSet;

use proptest::strategy::{Strategy, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use qsc_cli::compile::import;
use qsc_cli::compile::ir::{LibraryRules, Link, Missing, Node, TreeModel};
use qsc_cli::engine::panic_guard::PanicGuard;
use qsc_cli::engine::{Engine, bundled};
use qsc_kernel::{Backend, Model, Scratch};
use qsc_tests::models::{image, ladder, model, number, one_of_each, tree};
use qsc_tests::tree_cases::{Case, cases};
use qsc_tests::{fixtures, nets, skip};
use sha2::{Digest as _, Sha256};

/// Random tree models.
const RANDOM_MODELS: usize = 300;
const RANDOM_ROWS: usize = 12;
/// Rows of a fixture that are tried.
const FIXTURE_ROWS: usize = 24;

/// What callers may have set: rounding modes, and flushing of subnormal results and inputs.
#[derive(Clone, Copy, Debug)]
enum Environment {
    Default,
    Hostile(u32),
}

#[cfg(target_arch = "x86_64")]
mod control {
    /// MXCSR: toward zero; down; up with flush-to-zero and denormals-are-zero; flushing alone.
    pub(super) const HOSTILE: [u32; 4] = [0x6000, 0x2000, 0xc040, 0x8040];

    pub(super) fn read() -> u32 {
        let mut value = 0_u32;
        // SAFETY: stmxcsr stores 32 bits to the address of a live u32.
        unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack)) };
        value
    }

    pub(super) fn write(value: u32) {
        // SAFETY: ldmxcsr loads 32 bits from a live u32 in which no reserved bit is set.
        unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack)) };
    }
}

#[cfg(target_arch = "aarch64")]
mod control {
    /// FPCR: toward zero; down; up with flush-to-zero; flush-to-zero and default NaN.
    pub(super) const HOSTILE: [u32; 4] = [0x00c0_0000, 0x0080_0000, 0x0140_0000, 0x0300_0000];

    pub(super) fn read() -> u32 {
        let value: u64;
        // SAFETY: reading FPCR only writes the output register.
        unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) value, options(nostack)) };
        value as u32
    }

    pub(super) fn write(value: u32) {
        // SAFETY: only control bits that every AArch64 has are set.
        unsafe { std::arch::asm!("msr fpcr, {}", in(reg) u64::from(value), options(nostack)) };
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod control {
    pub(super) const HOSTILE: [u32; 0] = [];

    pub(super) fn read() -> u32 {
        0
    }

    pub(super) fn write(_value: u32) {}
}

impl Environment {
    fn all() -> impl Iterator<Item = Self> {
        [Self::Default].into_iter().chain(control::HOSTILE.map(Self::Hostile))
    }

    /// Runs `work` in this environment. Nothing but `work` may compute here.
    fn with<R>(self, work: impl FnOnce() -> R) -> R {
        let before = control::read();
        if let Self::Hostile(bits) = self {
            control::write(before | bits);
        }
        let result = std::hint::black_box(work)();
        let left = control::read();
        control::write(before);
        // Exception flags (x86: the low six bits) may have been raised; what the caller had set must be as it was.
        let bits = if let Self::Hostile(bits) = self { bits } else { 0 };
        assert_eq!(left & bits, bits, "the caller's float environment was not put back");
        result
    }
}

/// Bits of raw and final outputs of every row, `None` for a row that is refused.
type Answers = Vec<Option<(Vec<u64>, Vec<u32>)>>;

fn answers(model: &Model<'_>, rows: &[Vec<f32>], environment: Environment) -> Answers {
    // What lies in scratch memory must not matter either: each backend finds other contents.
    let fill = model.backend().name().len() as u8;
    let mut scratch = vec![fill; model.scratch_bytes() + 64];
    let answer = |row: &Vec<f32>| {
        let output = environment.with(|| model.predict(row, Scratch::new(&mut scratch))).ok()?;
        let raw = output.raw.iter().map(|value| value.to_bits()).collect();
        Some((raw, output.values.iter().map(|value| value.to_bits()).collect()))
    };
    rows.iter().map(answer).collect()
}

/// The one body: what is compared, and what is remembered of it.
struct Identity {
    backends: Vec<Backend>,
    digest: Sha256,
    models: usize,
    rows: usize,
}

impl Identity {
    fn new() -> Self {
        Self { backends: Backend::available().collect(), digest: Sha256::new(), models: 0, rows: 0 }
    }

    fn check(&mut self, name: &str, image: &[u8], rows: &[Vec<f32>]) {
        let model = Model::check(image).unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected = answers(&model.clone().with_backend(Backend::SCALAR), rows, Environment::Default);
        for &backend in &self.backends {
            let model = model.clone().with_backend(backend);
            for environment in Environment::all() {
                let got = answers(&model, rows, environment);
                for (at, (got, expected)) in got.iter().zip(&expected).enumerate() {
                    assert_eq!(
                        got,
                        expected,
                        "{name}, {}, {environment:?}, row {at}: {:?}",
                        backend.name(),
                        rows[at]
                    );
                }
            }
        }
        for (raw, values) in expected.iter().flatten() {
            // Which NaN it is differs between architectures, and is no number on any.
            let raw =
                raw.iter().map(|&bits| if f64::from_bits(bits).is_nan() { f64::NAN.to_bits() } else { bits });
            let values = values
                .iter()
                .map(|&bits| if f32::from_bits(bits).is_nan() { f32::NAN.to_bits() } else { bits });
            raw.for_each(|bits| self.digest.update(bits.to_le_bytes()));
            values.for_each(|bits| self.digest.update(bits.to_le_bytes()));
        }
        self.models += 1;
        self.rows += rows.len();
    }
}

/// Rows over what an image's golden rows hold, mixed anew, with everything floats can be now and then.
fn mixed_rows(model: &Model<'_>, count: usize) -> Vec<Vec<f32>> {
    let golden = model.golden_inputs();
    let mut state = 0x1234_5678_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let specials = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-45, -0.0, f32::MAX, 1e-35, -1e-35];
    let mut value = |at: usize| {
        let draw = next() as usize;
        // Mostly what the model asks about at this place.
        match draw % 16 {
            0 if model.seq_len() == 1 => specials[draw / 16 % specials.len()],
            _ => golden[(at + draw / 16 * model.row_len()) % golden.len()],
        }
    };
    (0..count).map(|_| (0..model.row_len()).map(&mut value).collect()).collect()
}

/// `trees` trees of each shape whose leaf counts lie at a boundary, over `features` features.
fn sized(rules: LibraryRules, features: usize, trees: usize, leaves: usize) -> TreeModel {
    let names: Vec<String> = (0..features).map(|at| format!("f{at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut sized = model(rules, &names, 1, Link::Sigmoid { scale: 1.0 });
    for number_of_tree in 0..trees {
        // Level by level: the oldest leaf is split next, so depths differ by at most one.
        let mut nodes = vec![Node::Leaf(0.0)];
        let mut open = std::collections::VecDeque::from([0]);
        for split in 0..leaves.saturating_sub(1) {
            let at = open.pop_front().unwrap();
            let (left, right) = (nodes.len(), nodes.len() + 1);
            let feature = (split * 7 + number_of_tree) % features;
            let threshold = f64::from(((split * 5 + number_of_tree * 3) % 31) as f32 * 0.25 - 3.5);
            nodes[at] = number(feature, threshold, Missing::Nan { left: split % 2 == 0 }, left, right);
            nodes.extend([Node::Leaf(0.0), Node::Leaf(0.0)]);
            open.extend([left, right]);
        }
        for (at, node) in nodes.iter_mut().enumerate() {
            if let Node::Leaf(value) = node {
                *value = ((at * 37 + number_of_tree * 11) % 101) as f64 / 128.0 - 0.375;
            }
        }
        sized.trees.push(tree(0, nodes));
    }
    sized
}

fn boundaries(of: &[usize]) -> BTreeSet<usize> {
    of.iter().flat_map(|&at| at.saturating_sub(1)..=at + 1).filter(|&size| size > 0).collect()
}

#[test]
fn every_backend_gives_the_bits_of_scalar() {
    let mut identity = Identity::new();
    for (name, image) in qsc_models::IMAGES {
        let model = Model::check(image).unwrap();
        let rows = mixed_rows(&model, if model.seq_len() == 1 { 64 } else { 8 });
        identity.check(name, image, &rows);
    }
    for case in fixtures::models() {
        let trained = import(&case.path, &case.options).unwrap();
        for exact in [false, true] {
            let image = image(&trained, exact, None);
            let mut rows: Vec<Vec<f32>> = case.rows.iter().take(FIXTURE_ROWS).map(<[f32]>::to_vec).collect();
            rows.extend(mixed_rows(&Model::check(image.as_bytes()).unwrap(), 4));
            identity.check(&case.name, image.as_bytes(), &rows);
        }
    }
    for case in nets::cases() {
        let rows: Vec<Vec<f32>> = case.rows.iter().take(4).map(<[f32]>::to_vec).collect();
        identity.check(&case.name, case.image().as_bytes(), &rows);
    }
    for (name, image) in one_of_each() {
        let rows = mixed_rows(&Model::check(image.as_bytes()).unwrap(), 32);
        identity.check(name, image.as_bytes(), &rows);
    }
    sizes(&mut identity);
    random(&mut identity);

    let names: Vec<&str> = identity.backends.iter().map(|backend| backend.name()).collect();
    let digest: String = identity.digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    println!(
        "{} models, {} rows, {} float environments",
        identity.models,
        identity.rows,
        Environment::all().count()
    );
    println!("tiers run: {}", names.join(", "));
    println!("digest of all outputs: {digest}");
    let wanted: &[&str] = if cfg!(target_arch = "aarch64") { &["neon"] } else { &["avx2", "avx512"] };
    for tier in wanted.iter().filter(|tier| !names.contains(tier)) {
        skip(&format!("this machine has no {tier}: that backend was not compared"));
    }
}

/// Leaves at the bounds of masks and blocks, trees at the bounds of interleaving, features and thresholds at the bounds of
/// registers and rank widths.
fn sizes(identity: &mut Identity) {
    let mut check = |name: String, sized: &TreeModel| {
        let image = image(sized, false, None);
        let rows = mixed_rows(&Model::check(image.as_bytes()).unwrap(), 8);
        identity.check(&name, image.as_bytes(), &rows);
    };
    for leaves in boundaries(&[1, 8, 16, 32, 64, 128, 256, 512]) {
        for rules in [LibraryRules::XgBoost, LibraryRules::LightGbm] {
            check(format!("{leaves} leaves, {rules:?}"), &sized(rules, 5, 9, leaves));
        }
    }
    for trees in boundaries(&[1, 4, 8, 16, 32, 64]) {
        check(format!("{trees} trees"), &sized(LibraryRules::XgBoost, 9, trees, 33));
    }
    for features in boundaries(&[1, 4, 8, 16, 32, 64, 128, 256]) {
        check(format!("{features} features"), &sized(LibraryRules::LightGbm, features, 20, 31));
    }
    for thresholds in boundaries(&[1, 8, 16, 32, 64, 128, 255, 256, 512]) {
        let mut ladders = model(LibraryRules::XgBoost, &["a", "b"], 1, Link::Sigmoid { scale: 1.0 });
        let count = u32::try_from(thresholds).unwrap();
        ladders.trees =
            vec![ladder(0, count, Missing::Nan { left: false }), ladder(0, 3, Missing::Nan { left: true })];
        check(format!("{thresholds} thresholds"), &ladders);
    }
}

/// Random models of every kind, the same on every machine.
fn random(identity: &mut Identity) {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = cases(RANDOM_ROWS);
    for at in 0..RANDOM_MODELS {
        let Case { model: trained, rows } = strategy.new_tree(&mut runner).unwrap().current();
        let image = image(&trained, at % 2 == 1, None);
        identity.check(&format!("random model {at}"), image.as_bytes(), &rows);
    }
}

/// What Cortex-M boards do too, on the best backend of this machine.
#[test]
fn the_firmwares_work_ends_in_a_digest() {
    // A line of its own, also behind the name of a test that runs alone.
    println!();
    for (name, nets) in [("trees", false), ("networks", true)] {
        let lines = host::work(nets).unwrap();
        let digest = lines.last().unwrap().strip_prefix("digest of all: ").unwrap();
        println!("digest of the firmware of {name}: {digest}");
    }
}

/// The whole decision, windows and guards included, is the same on every backend.
#[test]
fn every_backend_decides_alike() {
    let (config, images) = (bundled::config().unwrap(), bundled::images());
    let mut decisions: Vec<(Backend, Vec<_>)> = Vec::new();
    for backend in Backend::available() {
        let mut candidates = images.load(&config, &mut |_| ()).unwrap();
        for candidate in &mut candidates {
            candidate.predictor =
                candidate.predictor.take().map(|PanicGuard(model)| PanicGuard(model.with_backend(backend)));
        }
        let mut engine = Engine::new(&config, candidates).unwrap();
        let events = bundled::events(engine.schema()).unwrap();
        let decide = |event: &Vec<_>| engine.decide_features("S", event, None, &mut ());
        decisions.push((backend, events.iter().take(160).map(decide).collect()));
    }
    let (first, others) = decisions.split_first().unwrap();
    for (backend, decided) in others {
        for (event, (got, expected)) in decided.iter().zip(&first.1).enumerate() {
            assert_eq!(got, expected, "event {event} on {}", backend.name());
        }
    }
    assert!(
        first.1.iter().skip(130).any(|decided| decided
            .round
            .outcomes
            .iter()
            .all(|outcome| outcome.is_active()))
    );
}
