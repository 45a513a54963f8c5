//! What is measured: the bundled models, and one made in code for each layout, leaf type and rank width.

pub mod server;

use std::collections::VecDeque;

use qsc_cli::compile::ir::{Library, LibraryRules, Link, Missing, Node, Test, Tree, TreeModel};
use qsc_cli::compile::pack::{PackOptions, pack};
use qsc_cli::engine::panic_guard::PanicGuard;
use qsc_cli::engine::{Engine, bundled};
use qsc_cli::image::ImageBytes;
use qsc_kernel::{Backend, Model, Scratch};

/// An image to measure.
pub struct Subject {
    /// Its name in tables.
    pub name: &'static str,
    /// The image.
    pub image: ImageBytes,
}

/// How trees grow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Growth {
    /// Level by level, as XGBoost's default.
    DepthWise,
    /// Leaf by leaf, uneven, as LightGBM.
    LeafWise,
}

/// Everything that is measured on its own.
///
/// # Panics
/// If a model made here cannot be packed.
#[must_use]
pub fn subjects() -> Vec<Subject> {
    use Growth::{DepthWise, LeafWise};
    let mut subjects: Vec<Subject> = qsc_models::IMAGES
        .iter()
        .map(|(name, image)| Subject { name, image: ImageBytes::copy_of(image) })
        .collect();
    let mut made =
        |name, model: &TreeModel, exact| subjects.push(Subject { name, image: packed(model, exact) });
    made("depth-6", &trees(DepthWise, 100, 64, 31), false);
    made("depth-8", &trees(DepthWise, 50, 256, 31), false);
    made("leaves-31", &trees(LeafWise, 100, 31, 31), false);
    made("leaves-63", &trees(LeafWise, 100, 63, 31), false);
    made("leaves-255", &trees(LeafWise, 50, 255, 31), false);
    made("u16-ranks", &trees(DepthWise, 50, 64, 1000), false);
    made("exact", &trees(DepthWise, 100, 64, 31), true);
    subjects
}

fn packed(model: &TreeModel, exact: bool) -> ImageBytes {
    let options = PackOptions {
        name: "bench".to_owned(),
        classes: None,
        exact,
        source_file: String::new(),
        source_sha256: [0; 32],
    };
    pack(model, &options).expect("a model made in code can be packed")
}

/// A binary classifier over 32 features with about `thresholds` different thresholds each.
fn trees(growth: Growth, count: usize, leaves: usize, thresholds: usize) -> TreeModel {
    let mut random = Random(leaves as u64);
    let rules = match growth {
        Growth::DepthWise => LibraryRules::XgBoost,
        Growth::LeafWise => LibraryRules::LightGbm,
    };
    let mut tree = |_| {
        let mut nodes = vec![Node::Leaf(0.0)];
        let mut open = VecDeque::from([0]);
        for _ in 1..leaves {
            let at = match growth {
                Growth::DepthWise => 0,
                Growth::LeafWise => random.below(open.len()),
            };
            let split = open.remove(at).unwrap_or_default();
            let threshold = random.below(thresholds) as f64 / 4.0;
            let test = Test::Number { threshold, missing: Missing::Nan { left: random.below(2) == 0 } };
            let (left, right) = (nodes.len(), nodes.len() + 1);
            nodes[split] = Node::Split { feature: random.below(32), test, left, right };
            nodes.extend([
                Node::Leaf(random.below(1000) as f64 / 1024.0 - 0.5),
                Node::Leaf(random.below(1000) as f64 / 1024.0 - 0.5),
            ]);
            open.extend([left, right]);
        }
        Tree { group: 0, nodes }
    };
    TreeModel {
        library: match rules {
            LibraryRules::XgBoost => Library::XgBoost,
            LibraryRules::LightGbm => Library::LightGbm,
        },
        version: "1".to_owned(),
        objective: "binary".to_owned(),
        feature_names: (0..32).map(|at| format!("f{at}")).collect(),
        base: vec![0.0],
        trees: (0..count).map(&mut tree).collect(),
        rules,
        link: Link::Sigmoid { scale: 1.0 },
        average: None,
    }
}

/// SplitMix64: the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// `count` rows for a model, `[count, row_len]`: each value one the model's golden rows hold at that place, drawn anew.
#[must_use]
pub fn rows(model: &Model<'_>, count: usize) -> Vec<f32> {
    let golden = model.golden_inputs();
    let per_row = model.row_len();
    let rows = golden.len() / per_row;
    let mut random = Random(count as u64);
    (0..count * per_row)
        .map(|at| {
            let value = golden[random.below(rows) * per_row + at % per_row];
            if value.is_finite() { value } else { 0.0 }
        })
        .collect()
}

/// Scratch memory for a model, with what alignment may cost.
#[must_use]
pub fn scratch(model: &Model<'_>) -> Vec<u8> {
    vec![0; model.scratch_bytes() + qsc_kernel::scratch::ALIGNMENT]
}

/// Every row on this backend gives the bits of the scalar one.
///
/// # Panics
/// If one does not.
pub fn assert_right(model: &Model<'_>, rows: &[f32]) {
    let (mut memory, mut other) = (scratch(model), scratch(model));
    let scalar = model.clone().with_backend(Backend::SCALAR);
    for row in rows.chunks_exact(model.row_len()) {
        let got = model.predict(row, Scratch::new(&mut memory)).expect("the row has the model's length");
        let expected = scalar.predict(row, Scratch::new(&mut other)).expect("the row has the model's length");
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(got.values), bits(expected.values), "{} on {}", model.name(), model.backend().name());
    }
}

/// Runs `work` with an engine of the bundled models on this backend.
///
/// # Panics
/// If the bundled files are damaged.
pub fn with_engine<R>(backend: Backend, work: impl FnOnce(&mut Engine<PanicGuard<Model<'_>>>) -> R) -> R {
    let (config, images) = (bundled::config().expect("it is valid"), bundled::images());
    let mut candidates = images.load(&config, &mut |_| ()).expect("bundled models load");
    for candidate in &mut candidates {
        candidate.predictor =
            candidate.predictor.take().map(|PanicGuard(model)| PanicGuard(model.with_backend(backend)));
    }
    work(&mut Engine::new(&config, candidates).expect("four models fit"))
}
