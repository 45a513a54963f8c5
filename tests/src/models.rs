//! Small models written by hand: one for every way an image can be encoded.

use qsc_cli::compile::ir::{Library, LibraryRules, Link, Missing, Node, Test, Tree, TreeModel};
use qsc_cli::compile::pack::{PackOptions, pack_as};
use qsc_cli::image::ImageBytes;
use qsc_kernel::Action;
use qsc_kernel::trees::TreeLayout;

/// Packs a model.
///
/// # Panics
/// If the packer refuses it.
#[must_use]
pub fn image(model: &TreeModel, exact: bool, classes: Option<&[Action]>) -> ImageBytes {
    image_as(model, exact, classes, None)
}

/// Packs a model in a given layout.
///
/// # Panics
/// If the packer refuses it.
#[must_use]
pub fn image_as(
    model: &TreeModel,
    exact: bool,
    classes: Option<&[Action]>,
    layout: Option<TreeLayout>,
) -> ImageBytes {
    let options = PackOptions {
        name: "m".to_owned(),
        classes: classes.map(<[Action]>::to_vec),
        exact,
        source_file: "m.json".to_owned(),
        source_sha256: [1; 32],
    };
    pack_as(model, &options, layout).expect("a model written by hand can be packed")
}

/// A model without trees.
#[must_use]
pub fn model(rules: LibraryRules, features: &[&str], groups: usize, link: Link) -> TreeModel {
    TreeModel {
        library: match rules {
            LibraryRules::XgBoost => Library::XgBoost,
            LibraryRules::LightGbm => Library::LightGbm,
        },
        version: "1".to_owned(),
        objective: "o".to_owned(),
        feature_names: features.iter().map(ToString::to_string).collect(),
        base: vec![0.0; groups],
        trees: Vec::new(),
        rules,
        link,
        average: None,
    }
}

/// A split on a number.
#[must_use]
pub const fn number(feature: usize, threshold: f64, missing: Missing, left: usize, right: usize) -> Node {
    Node::Split { feature, test: Test::Number { threshold, missing }, left, right }
}

/// A tree of these nodes.
#[must_use]
pub const fn tree(group: usize, nodes: Vec<Node>) -> Tree {
    Tree { group, nodes }
}

/// A tree that asks feature 0 about `count` thresholds: 0, 1, 2, ….
#[must_use]
pub fn ladder(group: usize, count: u32, missing: Missing) -> Tree {
    let mut nodes = Vec::new();
    for step in 0..count {
        let at = nodes.len();
        nodes.push(number(0, f64::from(step), missing, at + 1, at + 2));
        nodes.push(Node::Leaf(f64::from(step % 7) * 0.125));
    }
    nodes.push(Node::Leaf(-1.0));
    tree(group, nodes)
}

/// One image for every sum mode and layout, with number and category slots; one has u16 ranks.
#[must_use]
pub fn one_of_each() -> Vec<(&'static str, ImageBytes)> {
    use LibraryRules::{LightGbm, XgBoost};
    let left = Missing::Nan { left: true };
    let right = Missing::Nan { left: false };

    let mut boosted = model(XgBoost, &["a", "b"], 1, Link::Sigmoid { scale: 1.0 });
    let category = Test::CategoryRight { set: vec![1, 33], nan_left: false };
    boosted.base = vec![0.25];
    boosted.trees = vec![
        tree(
            0,
            vec![
                number(0, 0.5, left, 1, 2),
                Node::Split { feature: 1, test: category, left: 3, right: 4 },
                number(0, 1.5, right, 5, 6),
                Node::Leaf(-0.5),
                Node::Leaf(0.75),
                Node::Leaf(1.25),
                Node::Leaf(-2.0),
            ],
        ),
        tree(0, vec![number(0, f64::NEG_INFINITY, left, 1, 2), Node::Leaf(0.1_f32 as f64), Node::Leaf(0.0)]),
    ];

    let mut classes = model(LightGbm, &["a", "b"], 3, Link::Softmax);
    for group in 0..3 {
        let set = Test::CategoryLeft { set: vec![0, 2, 40] };
        let size = 10.0_f64.powi(6 * group as i32 - 6);
        classes.trees.push(tree(
            group,
            vec![
                number(0, 0.1, Missing::Zero { left: group == 1 }, 1, 2),
                number(1, -0.5, Missing::NanIsZero, 3, 4),
                Node::Split { feature: 1, test: set, left: 5, right: 6 },
                Node::Leaf(size),
                Node::Leaf(-size * 0.3),
                Node::Leaf(size / 3.0),
                Node::Leaf(0.0),
            ],
        ));
    }

    let mut wide = model(XgBoost, &["a"], 1, Link::Sigmoid { scale: 1.0 });
    wide.trees = vec![ladder(0, 256, right), tree(0, vec![Node::Leaf(0.5)])];

    let actions = [Action::Sell, Action::Hold, Action::Buy];
    vec![
        ("i32", image(&boosted, false, None)),
        ("i64", image(&classes, false, Some(&actions))),
        ("f32", image(&boosted, true, None)),
        ("f64", image(&classes, true, Some(&actions))),
        ("u16", image(&wide, false, None)),
        ("plain", image_as(&boosted, false, None, Some(TreeLayout::Plain))),
        ("blocks-4", image_as(&boosted, true, None, Some(TreeLayout::Blocks { levels: 4 }))),
        ("blocks-7", image_as(&boosted, false, None, Some(TreeLayout::Blocks { levels: 7 }))),
        ("masks-32", image_as(&boosted, true, None, Some(TreeLayout::Masks { leaves: 32 }))),
        ("masks-64", image_as(&boosted, false, None, Some(TreeLayout::Masks { leaves: 64 }))),
    ]
}
