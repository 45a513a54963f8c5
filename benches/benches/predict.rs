//! Single rows of every subject on every backend; for trees also the quantizer alone.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use qsc_benches::{assert_right, rows, scratch, subjects};
use qsc_kernel::model::Body;
use qsc_kernel::observe::{Observer, Stage};
use qsc_kernel::{Backend, Model, Scratch};

/// Tabular rows to rotate over, and windows.
const ROWS: usize = 512;
const WINDOWS: usize = 32;

/// Time until a row has become ranks.
struct UntilQuantized {
    started: Instant,
    took: Duration,
}

impl Observer for UntilQuantized {
    fn ended(&mut self, stage: Stage) {
        if stage == Stage::Quantize {
            self.took += self.started.elapsed();
        }
    }
}

fn predict(criterion: &mut Criterion) {
    for subject in subjects() {
        let model = Model::check(subject.image.as_bytes()).expect("subjects are valid");
        let is_trees = matches!(model.body(), Body::Trees(_));
        let rows = rows(&model, if is_trees { ROWS } else { WINDOWS });
        let mut group = criterion.benchmark_group(subject.name);
        for backend in Backend::available() {
            let model = model.clone().with_backend(backend);
            assert_right(&model, &rows);
            let mut memory = scratch(&model);
            let mut next = rows.chunks_exact(model.row_len()).cycle();
            let mut row = || next.next().expect("a cycle does not end");
            group.throughput(Throughput::Elements(1));
            group.bench_function(BenchmarkId::new("predict", backend.name()), |bencher| {
                bencher.iter(|| {
                    let output = model.predict(black_box(row()), Scratch::new(&mut memory));
                    black_box(output.map(|output| output.values[0]))
                });
            });
            if !is_trees {
                continue;
            }
            group.bench_function(BenchmarkId::new("quantize", backend.name()), |bencher| {
                bencher.iter_custom(|calls| {
                    let mut watch = UntilQuantized { started: Instant::now(), took: Duration::ZERO };
                    for _ in 0..calls {
                        watch.started = Instant::now();
                        let output =
                            model.predict_observed(black_box(row()), Scratch::new(&mut memory), &mut watch);
                        let _ = black_box(output);
                    }
                    watch.took
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, predict);
criterion_main!(benches);
