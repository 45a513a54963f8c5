//! Where the image format ends: the last model that fits is packed and right, the first that does not is refused by name.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use qsc_cli::compile::ir::{LibraryRules, Link, Missing, Node, Test, TreeModel};
use qsc_cli::compile::pack::{PackOptions, pack};
use qsc_kernel::model::Body;
use qsc_kernel::trees::Quantization;
use qsc_kernel::{Model, Scratch};
use qsc_tests::models::{model, number, tree};

const RIGHT: Missing = Missing::Nan { left: false };

fn options(exact: bool) -> PackOptions {
    PackOptions {
        name: "m".to_owned(),
        classes: None,
        exact,
        source_file: "m".to_owned(),
        source_sha256: [0; 32],
    }
}

fn regression(rules: LibraryRules) -> TreeModel {
    model(rules, &["a"], 1, Link::Identity)
}

/// A balanced search tree over the thresholds 0, 1, 2, …; its leaf is the number of thresholds at most the value.
fn search(count: u32) -> TreeModel {
    fn grow(nodes: &mut Vec<Node>, first: u32, last: u32) -> usize {
        let at = nodes.len();
        if first == last {
            nodes.push(Node::Leaf(f64::from(first)));
            return at;
        }
        nodes.push(Node::Leaf(0.0));
        let middle = u32::midpoint(first, last);
        let left = grow(nodes, first, middle);
        let right = grow(nodes, middle + 1, last);
        nodes[at] = number(0, f64::from(middle), RIGHT, left, right);
        at
    }
    let mut searching = regression(LibraryRules::XgBoost);
    let mut nodes = Vec::new();
    grow(&mut nodes, 0, count);
    searching.trees = vec![tree(0, nodes)];
    searching
}

/// What the packed model says of these values, and how it is encoded.
fn answers(model: &TreeModel, exact: bool, values: &[f32]) -> (Vec<f64>, Quantization) {
    let image = pack(model, &options(exact)).unwrap_or_else(|error| panic!("{error:#}"));
    let checked = Model::check(image.as_bytes()).unwrap();
    let mut scratch = vec![0; checked.scratch_bytes() + 64];
    let mut answer = |&value: &f32| checked.predict(&[value], Scratch::new(&mut scratch)).unwrap().raw[0];
    let answers = values.iter().map(&mut answer).collect();
    let Body::Trees(trees) = checked.body() else { panic!("packed from trees") };
    (answers, trees.quantization())
}

fn refusal(model: &TreeModel, exact: bool) -> String {
    format!("{:#}", pack(model, &options(exact)).map(|_| ()).unwrap_err())
}

#[test]
fn ranks_widen_at_256_thresholds_and_end_at_65536() {
    for (count, bits) in [(255, 8), (256, 16), (65_535, 16)] {
        let end = count as f32 - 1.0;
        let values = [-1.0, 0.0, 0.5, end - 1.0, end.next_down(), end, 1e9, f32::NAN];
        let below = f64::from(count) - 1.0;
        let expected = [0.0, 1.0, 1.0, below, below, f64::from(count), f64::from(count), f64::from(count)];
        let (got, quantization) = answers(&search(count), false, &values);
        assert_eq!(quantization.rank_bits, bits, "{count} thresholds");
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-3, "{count} thresholds: {got} instead of {expected}");
        }
    }
    let error = refusal(&search(65_536), false);
    assert!(error.contains("65536 thresholds") && error.contains("65535"), "{error}");
}

#[test]
fn slots_end_at_65534() {
    // Every set of one category is a slot of its own.
    let many = |count: u32| {
        let mut many = regression(LibraryRules::LightGbm);
        let stump = |category: u32| {
            let test = Test::CategoryLeft { set: vec![category % 200, 200 + category / 200] };
            let split = Node::Split { feature: 0, test, left: 1, right: 2 };
            tree(0, vec![split, Node::Leaf(0.0), Node::Leaf(0.0)])
        };
        many.trees = (0..count).map(stump).collect();
        many
    };
    assert!(pack(&many(65_534), &options(false)).is_ok());
    let error = refusal(&many(65_535), false);
    assert!(error.contains("65535 slots") && error.contains("65534"), "{error}");
}

#[test]
fn category_sets_are_bounded() {
    let mut far = regression(LibraryRules::XgBoost);
    let test = Test::CategoryRight { set: vec![u32::MAX], nan_left: true };
    far.trees = vec![tree(
        0,
        vec![Node::Split { feature: 0, test, left: 1, right: 2 }, Node::Leaf(0.0), Node::Leaf(1.0)],
    )];
    let error = refusal(&far, false);
    assert!(error.contains("256 MiB"), "{error}");
}

#[test]
fn margins_beyond_f32_are_refused() {
    for rules in [LibraryRules::XgBoost, LibraryRules::LightGbm] {
        for exact in [false, true] {
            let mut huge = regression(rules);
            huge.trees = (0..4).map(|_| tree(0, vec![Node::Leaf(f64::from(1e38_f32))])).collect();
            let error = refusal(&huge, exact);
            assert!(error.contains("beyond f32"), "{error}");
            huge.trees.pop();
            let sum = 3.0 * f64::from(1e38_f32);
            let (got, _) = answers(&huge, exact, &[0.0]);
            assert!((got[0] / sum - 1.0).abs() < 1e-6, "{got:?}");
        }
    }
    for bad in [f64::NAN, f64::INFINITY] {
        let mut broken = regression(LibraryRules::LightGbm);
        broken.trees = vec![tree(0, vec![Node::Leaf(bad)])];
        assert!(refusal(&broken, false).contains("NaN or infinite"));
    }
}

#[test]
fn the_smallest_leaves_are_kept() {
    for leaf in [1e-40, 5e-46, f64::from(f32::MIN_POSITIVE), 1e-300, 0.0] {
        for exact in [false, true] {
            let mut tiny = regression(LibraryRules::LightGbm);
            tiny.trees = vec![tree(0, vec![Node::Leaf(leaf)])];
            let (got, _) = answers(&tiny, exact, &[0.0]);
            assert!((got[0] - leaf).abs() <= leaf * 1e-6 + 1e-280, "{leaf:e}: {got:?}");
        }
    }
}
