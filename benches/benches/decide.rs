//! One decision of the bundled ensemble, from bound features to the vote, on every backend.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use qsc_benches::with_engine;
use qsc_cli::engine::bundled;
use qsc_kernel::Backend;

/// Events to rotate over.
const EVENTS: usize = 512;

fn decide(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide");
    group.throughput(Throughput::Elements(1));
    let mut expected = Vec::new();
    for backend in Backend::available() {
        with_engine(backend, |engine| {
            let mut events = bundled::events(engine.schema()).expect("the bundled capture is valid");
            events.truncate(EVENTS);
            // Every decision against the scalar backend's, which comes first, before anything is measured.
            let decided: Vec<_> =
                events.iter().map(|event| engine.decide_features("S", event, None, &mut ())).collect();
            if expected.is_empty() {
                expected.clone_from(&decided);
            }
            assert!(decided == expected, "{} decides otherwise than scalar", backend.name());
            assert!(
                decided.iter().any(|decided| decided
                    .round
                    .outcomes
                    .iter()
                    .all(|outcome| outcome.is_active()))
            );
            let mut next = events.iter().cycle();
            group.bench_function(backend.name(), |bencher| {
                bencher.iter(|| {
                    let event = next.next().expect("a cycle does not end");
                    engine.decide_features("S", black_box(event), None, &mut ())
                });
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decide);
criterion_main!(benches);
