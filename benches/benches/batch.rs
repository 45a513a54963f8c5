//! Trees from f32 features to margins: single rows, and batches of 4096, on every backend of this machine.
//!
//! Three random forests: complete trees of depth 6, leaf-wise trees of 31 leaves, and complete trees of depth 8 that fit no
//! cache near the core. Every batch is compared with the bits of single rows on the scalar backend.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use qsc_cli::compile::ir::{Library, LibraryRules, Link, Missing, Node, Test, Tree, TreeModel};
use qsc_cli::compile::pack::{PackOptions, pack};
use qsc_kernel::{Backend, Model, Scratch};

const FEATURES: usize = 32;
/// Thresholds are multiples of 1/256.
const GRID: u64 = 255;
const ROWS: usize = 4096;

/// xorshift64* (Vigna 2016).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) * limit) >> 31
    }

    fn split(&mut self, left: usize) -> Node {
        let threshold = (1 + self.below(GRID)) as f64 / 256.0;
        let test = Test::Number { threshold, missing: Missing::Nan { left: true } };
        Node::Split { feature: self.below(FEATURES as u64) as usize, test, left, right: left + 1 }
    }

    /// A tree in which `grow` says which of the open leaves is split next.
    fn tree(&mut self, leaves: usize, grow: impl Fn(&mut Self, usize) -> usize) -> Tree {
        let mut nodes = vec![Node::Leaf(0.0)];
        let mut open = vec![0];
        while open.len() < leaves {
            let leaf = open.remove(grow(self, open.len()));
            let left = nodes.len();
            open.extend([left, left + 1]);
            nodes.extend([Node::Leaf(0.0), Node::Leaf(0.0)]);
            nodes[leaf] = self.split(left);
        }
        for leaf in open {
            nodes[leaf] = Node::Leaf(self.below(1 << 20) as f64 / f64::from(1 << 23) - 0.0625);
        }
        Tree { group: 0, nodes }
    }
}

fn forest(trees: usize, mut tree: impl FnMut() -> Tree) -> TreeModel {
    TreeModel {
        library: Library::XgBoost,
        version: "3".to_owned(),
        objective: "reg:squarederror".to_owned(),
        feature_names: (0..FEATURES).map(|feature| format!("f{feature}")).collect(),
        base: vec![0.5],
        trees: (0..trees).map(|_| tree()).collect(),
        rules: LibraryRules::XgBoost,
        link: Link::Identity,
        average: None,
    }
}

fn forests() -> Vec<(&'static str, TreeModel)> {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    // The oldest leaf next, or any.
    vec![
        ("500 trees of depth 6", forest(500, || random.tree(64, |_, _| 0))),
        (
            "500 trees of 31 leaves",
            forest(500, || random.tree(31, |random, open| random.below(open as u64) as usize)),
        ),
        (
            "600 trees of 63 leaves",
            forest(600, || random.tree(63, |random, open| random.below(open as u64) as usize)),
        ),
        ("2000 trees of depth 8", forest(2000, || random.tree(256, |_, _| 0))),
    ]
}

fn batches(criterion: &mut Criterion) {
    let mut random = Random(0x5153_4D32);
    let rows: Vec<f32> = (0..ROWS * FEATURES).map(|_| random.below(1 << 16) as f32 / 65536.0).collect();
    for (name, trained) in forests() {
        let options = PackOptions {
            name: "bench".to_owned(),
            classes: None,
            exact: false,
            source_file: "bench".to_owned(),
            source_sha256: [0; 32],
        };
        let image = pack(&trained, &options).expect("the forest can be packed");
        let model = Model::check(image.as_bytes()).expect("a packed image is valid");
        let mut scratch = vec![0; model.scratch_bytes().max(model.batch_scratch_bytes()) + 64];
        let scalar = model.clone().with_backend(Backend::SCALAR);
        let expected: Vec<u64> = rows
            .chunks_exact(FEATURES)
            .map(|row| scalar.predict(row, Scratch::new(&mut scratch)).expect("a valid row").raw[0].to_bits())
            .collect();
        let (mut raw, mut values) = (vec![0.0; ROWS], vec![0.0; ROWS]);
        let mut group = criterion.benchmark_group(name);
        for backend in Backend::available() {
            let model = model.clone().with_backend(backend);
            group.throughput(Throughput::Elements(1));
            group.bench_function(BenchmarkId::new("row", backend.name()), |bencher| {
                let mut at = 0;
                bencher.iter(|| {
                    at = (at + FEATURES) % rows.len();
                    let row = black_box(&rows[at..][..FEATURES]);
                    model.predict(row, Scratch::new(&mut scratch)).expect("a valid row").raw[0]
                });
            });
            model
                .predict_batch(&rows, &mut raw, &mut values, Scratch::new(&mut scratch))
                .expect("a valid batch");
            assert!(
                raw.iter().map(|margin| margin.to_bits()).eq(expected.iter().copied()),
                "{name} on {}: a batch gives other bits than single rows",
                backend.name()
            );
            raw.fill(f64::NAN);
            group.throughput(Throughput::Elements(ROWS as u64));
            group.bench_function(BenchmarkId::new("batch", backend.name()), |bencher| {
                bencher.iter(|| {
                    let scratch = Scratch::new(&mut scratch);
                    model
                        .predict_batch(black_box(&rows), &mut raw, &mut values, scratch)
                        .expect("a valid batch");
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, batches);
criterion_main!(benches);
