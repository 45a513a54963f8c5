//! The packed image means what the model means: random models and hostile rows, kernel against interpreter.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use qsc_cli::compile::interpret::decide;
use qsc_cli::compile::ir::{LibraryRules, Link, Node, Test, Tree, TreeModel};
use qsc_cli::compile::pack::{PackOptions, pack, pack_as};
use qsc_cli::image::ImageBytes;
use qsc_kernel::ensemble::ConfidenceRule;
use qsc_kernel::model::{Body, DecisionRule};
use qsc_kernel::trees::{LeafType, TreeLayout};
use qsc_kernel::{Action, Backend, Inactive, Model, PredictError, Scratch, ScratchBuffer};
use qsc_tests::property;
use qsc_tests::tree_cases::{Case, Growing, cases, packed_as, sized};

const CASES: u32 = 5000;
const ROWS: usize = 24;

type Verdict = Result<(), TestCaseError>;

#[test]
fn packed_models_predict_what_the_interpreter_says() {
    let seen = RefCell::new(BTreeMap::<String, u32>::new());
    property::check(CASES, &cases(ROWS), |case| {
        for exact in [false, true] {
            let options = options(&case.model, exact);
            let image =
                pack(&case.model, &options).map_err(|error| TestCaseError::fail(format!("{error:#}")))?;
            let again = pack(&case.model, &options).unwrap();
            prop_assert_eq!(image.as_bytes(), again.as_bytes(), "packing is deterministic");
            let model =
                Model::check(image.as_bytes()).map_err(|error| TestCaseError::fail(error.to_string()))?;
            describes_itself(&case.model, &options, &image, &model)?;
            for backend in Backend::available() {
                predicts(&case, exact, &model.clone().with_backend(backend))?;
            }
            let mut seen = seen.borrow_mut();
            // Two of the ten layouts in turn: what fits gives the same bits.
            let turn = TreeLayout::ALL.iter().skip(case.model.trees.len() % 5).step_by(5);
            for &layout in turn {
                if let Some(other) = packed_as(&case.model, &options, layout) {
                    same_bits(&case, &model, &other, layout)?;
                    *seen.entry(layout.to_string()).or_default() += 1;
                }
            }
            for trait_of_model in traits(&case.model, &model) {
                *seen.entry(trait_of_model).or_default() += 1;
            }
        }
        Ok(())
    });
    // A strategy that no longer reaches a path would pass without having tried it.
    let seen = seen.into_inner();
    println!("{seen:?}");
    let expected = [
        "u8",
        "u16",
        "i32",
        "i64",
        "f32-exact",
        "f64-exact",
        "Identity",
        "Sigmoid",
        "Softmax",
        "Exp",
        "Step",
        "SignedSquare",
        "Log1pExp",
        "XgBoost",
        "LightGbm",
        "no tree",
        "single leaf",
        "CategoryRight",
        "CategoryLeft",
        "empty set",
        "average",
        "None",
        "Classes",
        "DeadZone",
        "plain",
        "blocks-3",
        "blocks-4",
        "blocks-5",
        "blocks-6",
        "blocks-7",
        "blocks-8",
        "blocks-9",
        "masks-32",
        "masks-64",
    ];
    for name in expected {
        assert!(seen.get(name).copied().unwrap_or(0) >= 5, "hardly ever tried: {name}");
    }
}

/// Another layout of the same model: every backend gives the bits the scalar one gives for the chosen layout.
fn same_bits(case: &Case, model: &Model<'_>, other: &ImageBytes, layout: TreeLayout) -> Verdict {
    let other = Model::check(other.as_bytes()).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let Body::Trees(trees) = other.body() else { unreachable!("packed from trees") };
    prop_assert_eq!(trees.layout(), layout);
    let model = model.clone().with_backend(Backend::SCALAR);
    let (mut one, mut two) = (ScratchBuffer::<8192>::new(), ScratchBuffer::<8192>::new());
    for backend in Backend::available() {
        let other = other.clone().with_backend(backend);
        for row in &case.rows {
            let bits = |raw: &[f64]| raw.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            let want = bits(model.predict(row, one.scratch()).unwrap().raw);
            let got = bits(other.predict(row, two.scratch()).unwrap().raw);
            prop_assert_eq!(got, want, "{} on {} for {:?}", layout, backend.name(), row);
        }
    }
    Ok(())
}

/// Leaves, levels, slots and trees at every number where a layout, a lookup or a group of trees ends, and one beside it.
#[test]
fn sizes_at_each_boundary_give_the_same_bits() {
    let leaves = [1, 2, 31, 32, 33, 63, 64, 65].map(|leaves| (9, leaves, 20));
    let levels = [3, 4, 6, 7, 8, 9, 10].map(|levels| (5, 1 << levels, 20));
    let slots =
        [15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257].map(|slots| (20, 31, slots));
    let trees = [1, 3, 4, 5, 7, 8, 9, 15, 16, 17].map(|trees| (trees, 20, 5));
    let mut seen = BTreeMap::<String, u32>::new();
    for (trees, leaves, features) in leaves.into_iter().chain(levels).chain(slots).chain(trees) {
        for growth in [Growing::LevelByLevel, Growing::LeafWise] {
            let case = sized(trees, leaves, features, growth);
            for exact in [false, true] {
                let options = options(&case.model, exact);
                let plain = pack_as(&case.model, &options, Some(TreeLayout::Plain)).unwrap();
                let model = Model::check(plain.as_bytes()).unwrap();
                for layout in TreeLayout::ALL {
                    if let Some(image) = packed_as(&case.model, &options, layout) {
                        same_bits(&case, &model, &image, layout).unwrap_or_else(|error| {
                            panic!("{trees} trees, {leaves} leaves, {features} slots: {error}")
                        });
                        *seen.entry(layout.to_string()).or_default() += 1;
                    }
                }
            }
        }
    }
    println!("{seen:?}");
    assert!(TreeLayout::ALL.iter().all(|layout| seen[&layout.to_string()] >= 10), "{seen:?}");
}

fn options(model: &TreeModel, exact: bool) -> PackOptions {
    let probabilities = matches!(model.link, Link::Sigmoid { .. } | Link::Softmax);
    let actions = [Action::Buy, Action::Hold, Action::Sell, Action::Buy];
    // Three classes take their standard meaning where the caller is silent.
    let named = probabilities && matches!(model.groups(), 2 | 4);
    PackOptions {
        name: "näme".to_owned(),
        classes: named.then(|| actions[..model.groups()].to_vec()),
        exact,
        source_file: "model.ubj".to_owned(),
        source_sha256: [7; 32],
    }
}

fn traits(model: &TreeModel, image: &Model<'_>) -> Vec<String> {
    let Body::Trees(trees) = image.body() else { unreachable!("packed from trees") };
    let quantization = trees.quantization();
    let first_word = |text: String| text.split([' ', '{']).next().unwrap_or_default().to_owned();
    let mut traits = vec![
        format!("u{}", quantization.rank_bits),
        quantization.leaf.name().to_owned(),
        first_word(format!("{:?}", model.link)),
        format!("{:?}", model.rules),
        first_word(format!("{:?}", image.decision())),
    ];
    let nodes = || model.trees.iter().flat_map(|tree| &tree.nodes);
    let tests =
        || nodes().filter_map(|node| if let Node::Split { test, .. } = node { Some(test) } else { None });
    let has = |found: bool, name: &str| found.then(|| name.to_owned());
    let empty = |test: &Test| match test {
        Test::CategoryRight { set, .. } | Test::CategoryLeft { set } => set.is_empty(),
        Test::Number { .. } => false,
    };
    traits.extend(has(model.trees.is_empty(), "no tree"));
    traits.extend(has(model.trees.iter().any(|tree| tree.nodes.len() == 1), "single leaf"));
    traits.extend(has(tests().any(|test| matches!(test, Test::CategoryRight { .. })), "CategoryRight"));
    traits.extend(has(tests().any(|test| matches!(test, Test::CategoryLeft { .. })), "CategoryLeft"));
    traits.extend(has(tests().any(empty), "empty set"));
    traits.extend(has(model.average.is_some(), "average"));
    traits
}

/// Everything `qsc model inspect` shows.
fn describes_itself(
    model: &TreeModel,
    options: &PackOptions,
    bytes: &ImageBytes,
    image: &Model<'_>,
) -> Verdict {
    prop_assert_eq!(image.name(), &options.name);
    prop_assert_eq!(image.source_file(), &options.source_file);
    prop_assert_eq!(image.source_sha256(), &options.source_sha256);
    prop_assert_eq!(image.library_version(), &model.version);
    prop_assert_eq!(image.objective(), &model.objective);
    prop_assert_eq!(image.format_version(), (1, 0));
    prop_assert_eq!(image.image_bytes(), bytes.as_bytes().len());
    prop_assert_eq!(&image.digest()[..], &bytes.as_bytes()[32..64]);
    prop_assert_eq!((image.n_features(), image.seq_len()), (model.n_features(), 1));
    prop_assert_eq!((image.n_raw(), image.n_outputs()), (model.groups(), model.groups()));
    prop_assert!(image.feature_names().eq(model.feature_names.iter().map(String::as_str)));
    prop_assert!(image.golden_rows() > 0);
    prop_assert!(image.max_abs_error() >= 0.0 && image.max_abs_error().is_finite());

    let Body::Trees(trees) = image.body() else { unreachable!("packed from trees") };
    let leaves = model.trees.iter().flat_map(|tree| &tree.nodes).filter(|node| matches!(node, Node::Leaf(_)));
    prop_assert_eq!(trees.n_trees(), model.trees.len());
    // A split that no number passes is folded away, with what hung below it.
    prop_assert!(trees.n_leaves() <= leaves.count() && trees.n_leaves() >= model.trees.len());
    let exact = match model.rules {
        LibraryRules::XgBoost => LeafType::ExactF32,
        LibraryRules::LightGbm => LeafType::ExactF64,
    };
    prop_assert_eq!(trees.quantization().leaf == exact, options.exact);
    prop_assert_eq!(trees.quantization().step.is_some(), !options.exact);

    let probabilities = matches!(model.link, Link::Sigmoid { .. } | Link::Softmax);
    let labels = model.rules == LibraryRules::XgBoost && model.link != Link::Softmax;
    let classes: Vec<Action> = image.classes().collect();
    // A softmax of one is always 1, and labels of XGBoost do not exclude each other.
    let says_nothing = match model.groups() {
        1 => model.link == Link::Softmax,
        3 => labels && options.classes.is_none(),
        _ => false,
    };
    match (probabilities && !says_nothing, model.groups()) {
        (false, _) => prop_assert!(image.decision() == DecisionRule::None && classes.is_empty()),
        (true, 1) => {
            prop_assert_eq!(image.decision(), DecisionRule::DeadZone { low: 0.4, high: 0.6 });
            prop_assert!(classes.is_empty());
        }
        (true, 3) => prop_assert_eq!(classes, vec![Action::Hold, Action::Buy, Action::Sell]),
        (true, _) => prop_assert_eq!(Some(classes), options.classes.clone()),
    }
    Ok(())
}

fn predicts(case: &Case, exact: bool, image: &Model<'_>) -> Verdict {
    let mut buffer = ScratchBuffer::<8192>::new();
    let mut exact_size = vec![0_u8; image.scratch_bytes() + 63];
    prop_assert!(image.check_golden(buffer.scratch()).is_ok(), "golden vectors hold");
    for row in &case.rows {
        let got = image.predict(row, buffer.scratch()).unwrap();
        let (raw, values) = (got.raw.to_vec(), got.values.to_vec());
        margins_hold(&case.model, exact, image.max_abs_error(), row, &raw)?;
        outputs_hold(&case.model, image.max_abs_error(), row, &raw, &values)?;
        votes(
            image,
            &values,
            image.decide(row, &got, ConfidenceRule::Max).map(|vote| (vote.action(), vote.confidence())),
        )?;

        // The memory it says it needs is enough, and what lies in it does not matter.
        exact_size.fill(0xa5);
        let again = image.predict(row, Scratch::new(&mut exact_size)).unwrap();
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits(again.values), bits(&values));
    }
    let mut short = exact_size;
    short.truncate(image.scratch_bytes() - 1);
    prop_assert_eq!(
        image.predict(&case.rows[0], Scratch::new(&mut short)).unwrap_err(),
        PredictError::ScratchTooSmall
    );
    let narrow = &case.rows[0][1..];
    let refused = PredictError::RowLength { expected: narrow.len() + 1, actual: narrow.len() };
    prop_assert_eq!(image.predict(narrow, buffer.scratch()).unwrap_err(), refused);
    Ok(())
}

/// The proven bound against the exact sum; exact mode: the library's own bits.
fn margins_hold(model: &TreeModel, exact: bool, bound: f64, row: &[f32], raw: &[f64]) -> Verdict {
    let sums = model.margins_f64(row);
    for (group, (&got, exact)) in raw.iter().zip(exact_sums(model, row)).enumerate() {
        let got = f64::from(got as f32);
        let error = ((got - exact.0) - exact.1).abs().max((got - sums[group]).abs());
        prop_assert!(
            error <= bound,
            "group {group} of {row:?}: {got:e} is {error:e} from {exact:?}, bound {bound:e}"
        );
    }
    if exact {
        let library = model.margins_library(row);
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits(raw), bits(&library), "{:?}: {:?} is not {:?}", row, raw, library);
    }
    Ok(())
}

/// The sum of base and leaves of each group as an unevaluated pair, exact to about 2^-100.
fn exact_sums(model: &TreeModel, row: &[f32]) -> Vec<(f64, f64)> {
    let mut sums: Vec<(f64, f64)> = model.base.iter().map(|&base| (base, 0.0)).collect();
    for tree in &model.trees {
        let (high, low) = sums[tree.group];
        let leaf = leaf(tree, model.rules, row);
        // Knuth's two-sum: `high + leaf` without rounding is `sum + error`.
        let sum = high + leaf;
        let part = sum - high;
        let error = (high - (sum - part)) + (leaf - part);
        sums[tree.group] = (sum, low + error);
    }
    sums
}

fn leaf(tree: &Tree, rules: LibraryRules, row: &[f32]) -> f64 {
    let mut at = 0;
    loop {
        match &tree.nodes[at] {
            Node::Leaf(value) => return *value,
            Node::Split { feature, test, left, right } => {
                at = if decide(test, rules, row[*feature]) { *left } else { *right };
            }
        }
    }
}

/// Outputs against the links in f64: of the kernel's own margins, and of the model's with what the bound allows.
fn outputs_hold(model: &TreeModel, bound: f64, row: &[f32], raw: &[f64], values: &[f32]) -> Verdict {
    let scale = 1.0 / model.average.map_or(1.0, f64::from);
    let sums = model.margins_f64(row);
    let of_raw = model.outputs(raw);
    let of_sums = model.outputs(&sums);
    for (at, &value) in values.iter().enumerate() {
        let margin = raw[at] * scale;
        let off = bound * scale;
        prop_assert!(
            close(value, of_raw[at], link_error(model.link, margin, of_raw[at])),
            "{row:?}: link of {margin:e} gave {value:e}, not {:e}",
            of_raw[at]
        );
        let moved = match model.link {
            Link::Identity | Link::Log1pExp => off,
            Link::Sigmoid { scale } => off * scale / 4.0,
            Link::Softmax => off / 2.0,
            // Nothing can be said where the bound alone spans all of e^m.
            Link::Exp if off > 1.0 => continue,
            Link::Exp => of_sums[at] * off.exp_m1(),
            Link::SignedSquare => (2.0 * margin.abs() + off) * off,
            Link::Step if sums[at].abs() * scale <= off => 1.0,
            Link::Step => 0.0,
        };
        let allowed = moved + link_error(model.link, margin, of_sums[at]);
        prop_assert!(
            close(value, of_sums[at], allowed),
            "{row:?}: {value:e} is not {:e} within {allowed:e}",
            of_sums[at]
        );
    }
    Ok(())
}

/// What a link may add; e^m in f32 keeps the rounding of m, which is the library's own domain.
fn link_error(link: Link, margin: f64, value: f64) -> f64 {
    match link {
        Link::Exp => 5e-6 + value * (2e-7 + margin.abs() * 2.0_f64.powi(-24)),
        Link::Step => 0.0,
        _ => 5e-6 * (1.0 + value.abs()),
    }
}

/// Equal within `allowed`, or both at the end of what f32 can say.
fn close(got: f32, want: f64, allowed: f64) -> bool {
    let (got, end) = (f64::from(got), 0.99 * f64::from(f32::MAX));
    let both_beyond = want.abs() >= end && got.abs() >= end && want.signum() == got.signum();
    both_beyond || (want.is_finite() && (got - want).abs() <= allowed)
}

/// A vote is the first largest output, or the dead zone's, or a reason.
fn votes(image: &Model<'_>, values: &[f32], got: Result<(Action, f32), Inactive>) -> Verdict {
    let finite = values.iter().all(|value| value.is_finite());
    let expected = match image.decision() {
        _ if !finite => Err(Inactive::NonFiniteOutput),
        DecisionRule::None => Err(Inactive::ExceptionInPredict),
        DecisionRule::DeadZone { .. } => match values[0] {
            p if p > 0.6 => Ok((Action::Buy, p)),
            p if p < 0.4 => Ok((Action::Sell, 1.0 - p)),
            _ => Err(Inactive::DeadZone),
        },
        DecisionRule::Classes => {
            let largest = values.iter().copied().fold(0.0, f32::max);
            let at = values.iter().position(|&value| value == largest).unwrap();
            Ok((image.classes().nth(at).unwrap(), largest))
        }
        DecisionRule::HorizonReturn { .. } => unreachable!("trees forecast nothing"),
    };
    prop_assert_eq!(got, expected);
    Ok(())
}
