//! One decision of the bundled ensemble: two really trained models, guards and vote, from bound rows to the round.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use qsc_cli::compile::ir::TreeModel;
use qsc_cli::compile::{ImportOptions, import};
use qsc_cli::stream::{Item, Json, MARKET_FEATURES, Source, SourceSpec, Window};
use qsc_kernel::ensemble::{Decision, Degeneracy, Ensemble, Input, Member, Outcome, Ppm, VoteRules};
use qsc_kernel::{Action, Model, Scratch, ScratchBuffer};

/// Outputs closer than this may be ordered differently by f32 and f64.
const TOO_CLOSE: f64 = 2e-5;

/// A bundled model, and what it was compiled from.
struct Bundled {
    image: Model<'static>,
    trained: TreeModel,
}

fn bundled() -> Vec<Bundled> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models-bin/trained");
    let source = |name: &str| directory.join(if name == "xgb" { "xgb.ubj" } else { "lgbm.txt" });
    qsc_models::IMAGES
        .iter()
        .map(|(name, bytes)| Bundled {
            image: Model::check(bytes).expect("bundled images are valid"),
            trained: import(&source(name), &ImportOptions::default()).expect("trained files can be read"),
        })
        .collect()
}

/// The rows of every bundled event, `[events][models]`, each `[n_features] f32`.
fn rows(models: &[Bundled]) -> Vec<Vec<Vec<f32>>> {
    let mut rows = Vec::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models-bin/capture/features.jsonl");
    let spec = SourceSpec::parse(&format!("file:{}", path.display())).expect("a file source");
    let window = Window { after: None, newest: None, event_types: &[MARKET_FEATURES] };
    let mut bind = |payload: &Json| {
        let features: &BTreeMap<String, Json> =
            payload.get("features").and_then(Json::as_object).expect("features");
        let value = |name: &str| features[name].as_number().expect("a number") as f32;
        rows.push(models.iter().map(|model| model.image.feature_names().map(value).collect()).collect());
    };
    Source::open(&spec, "")
        .and_then(|source| {
            source.for_each(&window, &mut |item: Item| {
                bind(&Json::parse(&item.expect("a valid event").payload).expect("a valid payload"));
                Ok(())
            })
        })
        .expect("the bundled capture can be read");
    rows
}

/// What the trained model says of a row by the interpreter; `None` where the answer hangs on the last bits.
fn interpreted(model: &Bundled, row: &[f32]) -> Option<(Action, f64)> {
    let outputs = model.trained.outputs(&model.trained.margins_f64(row));
    let mut order: Vec<usize> = (0..outputs.len()).collect();
    order.sort_by(|&a, &b| outputs[b].total_cmp(&outputs[a]));
    let (first, second) = (order[0], order[1]);
    let action = model.image.classes().nth(first).expect("a class per output");
    (outputs[first] - outputs[second] > TOO_CLOSE).then_some((action, outputs[first]))
}

fn ensemble(models: &[Bundled]) -> Ensemble<Model<'static>, 4> {
    let mut ensemble = Ensemble::new(VoteRules::STANDARD, Degeneracy::Enforce);
    for model in models {
        // Different weights, so that a split vote has a side.
        let weight =
            Ppm::new(if ensemble.members().is_empty() { 600_000 } else { 400_000 }).expect("in range");
        ensemble.push(Member::new(Some(model.image.clone()), weight)).expect("there is room");
    }
    ensemble
}

/// Every decision against the interpreter, before anything is measured.
fn answers_are_right(models: &[Bundled], rows: &[Vec<Vec<f32>>]) {
    let mut ensemble = ensemble(models);
    let mut scratch = ScratchBuffer::<4096>::new();
    let mut checked = 0;
    for of_models in rows {
        let inputs: Vec<Input<'_>> = of_models.iter().map(|row| Input::Row(row)).collect();
        let round = ensemble.decide(&inputs, scratch.scratch());
        let expected: Option<Vec<_>> =
            models.iter().zip(of_models).map(|(model, row)| interpreted(model, row)).collect();
        let Some(expected) = expected else { continue };
        for (outcome, &(action, confidence)) in round.outcomes.iter().zip(&expected) {
            let Outcome::Active { prediction, .. } = outcome else { panic!("{outcome:?}") };
            assert_eq!(prediction.action(), action);
            assert!(
                (f64::from(prediction.confidence()) - confidence).abs() < 1e-5,
                "{prediction:?} {confidence}"
            );
        }
        // The first model outweighs the second; agreement averages their confidence.
        let (action, first) = expected[0];
        let agree = expected[1].0 == action;
        let confidence = if agree { f64::midpoint(first, expected[1].1) } else { first };
        let Ok(Decision::Side(side)) = round.vote else { panic!("{:?}", round.vote) };
        assert_eq!((side.action, side.chose), (action, if agree { 2 } else { 1 }));
        assert!((f64::from(side.confidence) - confidence.min(0.95)).abs() < 1e-5, "{side:?} {confidence}");
        checked += 1;
    }
    assert!(checked * 100 >= rows.len() * 99, "only {checked} of {} decisions were checked", rows.len());
}

fn decide(criterion: &mut Criterion) {
    let models = bundled();
    let rows = rows(&models);
    answers_are_right(&models, &rows);

    let mut ensemble = ensemble(&models);
    let bytes = models.iter().map(|model| model.image.scratch_bytes()).max().unwrap_or(0);
    let mut memory = vec![0; bytes + qsc_kernel::scratch::ALIGNMENT];
    let inputs: Vec<[Input<'_>; 2]> =
        rows.iter().map(|of_models| [Input::Row(&of_models[0]), Input::Row(&of_models[1])]).collect();
    let mut next = inputs.iter().cycle();
    let mut group = criterion.benchmark_group("decide");
    group.throughput(Throughput::Elements(1));
    group.bench_function("bundled", |bencher| {
        bencher.iter(|| {
            let inputs = next.next().expect("a cycle does not end");
            ensemble.decide(black_box(inputs), Scratch::new(&mut memory))
        });
    });
    group.finish();
}

criterion_group!(benches, decide);
criterion_main!(benches);
