//! Strategies for intermediate tree models of both libraries' rules, and for rows that try them where it hurts:
//! on thresholds, one step beside them, at zeros, infinities, denormals and between categories.

use std::fmt;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use qsc_cli::compile::ir::{Library, LibraryRules, Link, Missing, Node, Test, Tree, TreeModel};
use qsc_cli::compile::pack::{PackOptions, pack_as};
use qsc_cli::image::ImageBytes;
use qsc_kernel::trees::TreeLayout;

/// A model and rows for it, each `[n_features] f32`.
#[derive(Clone)]
pub struct Case {
    /// What was trained.
    pub model: TreeModel,
    /// What it is asked.
    pub rows: Vec<Vec<f32>>,
}

impl fmt::Debug for Case {
    /// On two lines even where `{:#?}` is asked for: a row is read as a row.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}\nrows {:?}", self.model, self.rows)
    }
}

/// Deepest leaf of a leaf-wise tree.
const MAX_DEPTH: usize = 10;
/// The magnitude LightGBM takes for zero.
const ZERO: f32 = 1e-35;

/// Models of every shape with `rows` rows each.
pub fn cases(rows: usize) -> impl Strategy<Value = Case> {
    (model(), vec(vec(cell(), MAX_FEATURES), rows)).prop_map(|(model, cells)| {
        let pools: Vec<Vec<f32>> =
            (0..model.n_features()).map(|feature| questions(&model, feature)).collect();
        let row = |cells: Vec<Cell>| pools.iter().zip(&cells).map(|(pool, cell)| cell.value(pool)).collect();
        Case { rows: cells.into_iter().map(row).collect(), model }
    })
}

/// The model in this layout; `None` if the layout cannot hold it.
///
/// # Panics
/// If the packer refuses it for anything else: a wrong image must not pass for a layout that does not fit.
#[must_use]
pub fn packed_as(model: &TreeModel, options: &PackOptions, layout: TreeLayout) -> Option<ImageBytes> {
    match pack_as(model, options, Some(layout)) {
        Ok(image) => Some(image),
        Err(error) => {
            let error = format!("{error:#}");
            assert!(error.ends_with("cannot hold the model"), "{layout}: {error}");
            None
        }
    }
}

const MAX_FEATURES: usize = 6;

fn rules() -> impl Strategy<Value = LibraryRules> {
    prop_oneof![Just(LibraryRules::XgBoost), Just(LibraryRules::LightGbm)]
}

/// A whole model: first what its splits can draw on, then the splits.
pub fn model() -> impl Strategy<Value = TreeModel> {
    let shape = (rules(), 1..=MAX_FEATURES, 1_usize..=4, leaf_scale());
    let pools = (vec(vec(threshold(), 1..12), MAX_FEATURES), vec(categories(), 1..6));
    let trees = prop_oneof![
        8 => vec(tree(), 0..40),
        // One feature with more thresholds than u8 ranks can tell apart.
        1 => (vec(tree(), 0..4), wide_tree()).prop_map(|(mut trees, wide)| { trees.push(wide); trees }),
    ];
    let ends = (vec(any::<Index>(), 4), link(), proptest::option::weighted(0.2, 1_u32..500), any::<u64>());
    (shape, pools, trees, ends).prop_map(
        |((rules, n_features, groups, scale), (thresholds, sets), trees, (bases, link, average, salt))| {
            let grower = Grower { rules, n_features, groups, scale, thresholds, sets };
            let trees =
                trees.iter().enumerate().map(|(number, tree)| grower.grow(tree, salt ^ number as u64));
            let xgboost = rules == LibraryRules::XgBoost;
            let base = |index: &Index| if xgboost { grower.leaf(index.index(1 << 20) as u64) } else { 0.0 };
            TreeModel {
                library: if xgboost { Library::XgBoost } else { Library::LightGbm },
                version: if xgboost { "3.2.0" } else { "v4" }.to_owned(),
                objective: format!("{link:?}"),
                feature_names: (0..n_features).map(|feature| format!("feature {feature} é")).collect(),
                base: bases.iter().take(groups).map(base).collect(),
                trees: trees.collect(),
                rules,
                link: link.of(rules),
                average: average.filter(|_| !xgboost),
            }
        },
    )
}

/// Every link; what only one library has is another one for the other.
#[derive(Clone, Copy, Debug)]
enum AnyLink {
    Identity,
    Sigmoid(f64),
    Softmax,
    Exp,
    SquareOrStep,
    Log1pExp,
}

impl AnyLink {
    const fn of(self, rules: LibraryRules) -> Link {
        match (self, rules) {
            (Self::Identity, _) => Link::Identity,
            (Self::Sigmoid(_), LibraryRules::XgBoost) => Link::Sigmoid { scale: 1.0 },
            (Self::Sigmoid(scale), LibraryRules::LightGbm) => Link::Sigmoid { scale },
            (Self::Softmax, _) => Link::Softmax,
            (Self::Exp, _) => Link::Exp,
            (Self::SquareOrStep, LibraryRules::XgBoost) => Link::Step,
            (Self::SquareOrStep, LibraryRules::LightGbm) => Link::SignedSquare,
            (Self::Log1pExp, _) => Link::Log1pExp,
        }
    }
}

fn link() -> impl Strategy<Value = AnyLink> {
    prop_oneof![
        Just(AnyLink::Identity),
        (0.05_f64..5.0).prop_map(AnyLink::Sigmoid),
        Just(AnyLink::Softmax),
        Just(AnyLink::Exp),
        Just(AnyLink::SquareOrStep),
        Just(AnyLink::Log1pExp),
    ]
}

/// How large leaves are.
#[derive(Clone, Copy, Debug)]
enum LeafScale {
    /// Uniform in ±this.
    Uniform(f64),
    /// From 1e-6 to 10 within one model, as dart weights make them.
    Mixed,
    /// Multiples of 1/64: sums without rounding.
    Coarse,
    /// About a thousand: large margins that lie close together.
    Shifted,
    /// All zero.
    Zero,
}

fn leaf_scale() -> impl Strategy<Value = LeafScale> {
    prop_oneof![
        6 => Just(LeafScale::Uniform(0.3)),
        2 => Just(LeafScale::Mixed),
        1 => Just(LeafScale::Coarse),
        1 => Just(LeafScale::Shifted),
        1 => Just(LeafScale::Zero),
        2 => Just(LeafScale::Uniform(1e4)),
        1 => Just(LeafScale::Uniform(1e9)),
        1 => Just(LeafScale::Uniform(1e36)),
        1 => Just(LeafScale::Uniform(1e-9)),
        1 => Just(LeafScale::Uniform(1e-36)),
        1 => Just(LeafScale::Uniform(1e-43)),
    ]
}

/// A threshold before it is known which library compares with it.
#[derive(Clone, Copy, Debug)]
struct Threshold {
    value: f32,
    /// LightGBM: how many f64 steps beside the f32.
    steps: i8,
    /// LightGBM: an f64 beyond f32 instead.
    beyond: Option<f64>,
}

impl Threshold {
    fn of(self, rules: LibraryRules) -> f64 {
        let wide = f64::from(self.value);
        match rules {
            LibraryRules::XgBoost => wide,
            LibraryRules::LightGbm => match self.beyond {
                Some(value) => value,
                None if self.steps > 0 => (0..self.steps).fold(wide, |value, _| value.next_up()),
                None => (self.steps..0).fold(wide, |value, _| value.next_down()),
            },
        }
    }
}

fn threshold() -> impl Strategy<Value = Threshold> {
    let value = prop_oneof![
        // A coarse grid, so that trees share thresholds and neighbours are one step apart.
        4 => (-8_i8..8, -1_i8..=1).prop_map(|(at, step)| beside(f32::from(at) / 4.0, step)),
        2 => -100.0_f32..100.0,
        1 => any::<f32>().prop_filter("NaN is no threshold", |value| !value.is_nan()),
        2 => (special(), -1_i8..=1).prop_map(|(value, step)| beside(value, step)),
    ];
    let beyond = prop_oneof![
        20 => Just(None),
        1 => prop::sample::select(vec![0.1, -0.1, 1e-300, -1e-300, 1e300, -1e300, 5e-324, 1e-50, -1e-50, 1.5e-45])
            .prop_map(Some),
    ];
    let steps = prop_oneof![3 => Just(0_i8), 1 => -2_i8..=2];
    (value, steps, beyond).prop_map(|(value, steps, beyond)| Threshold { value, steps, beyond })
}

/// Values at which comparisons change their mind.
fn special() -> impl Strategy<Value = f32> {
    prop::sample::select(vec![
        0.0,
        -0.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
        f32::MIN,
        f32::MIN_POSITIVE,
        -f32::MIN_POSITIVE,
        1e-45,
        -1e-45,
        1e-40,
        -1e-40,
        ZERO,
        -ZERO,
        1e-36,
        -1e-36,
        1.0,
    ])
}

fn beside(value: f32, step: i8) -> f32 {
    let moved = match step {
        1 => value.next_up(),
        -1 => value.next_down(),
        _ => value,
    };
    if moved.is_nan() { value } else { moved }
}

/// A category set: often small, sometimes empty, rarely far out.
fn categories() -> impl Strategy<Value = Vec<u32>> {
    let category = prop_oneof![60 => 0_u32..40, 20 => 0_u32..300, 1 => Just(70_000_u32), 1 => Just(99_999)];
    vec(category, 0..12).prop_map(|mut set| {
        set.sort_unstable();
        set.dedup();
        set
    })
}

/// A tree before its questions are known: how it grows, and numbers to draw from.
#[derive(Clone, Debug)]
struct Growth {
    shape: Shape,
    splits: Vec<Draw>,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    /// Any leaf is split next.
    LeafWise,
    /// The oldest leaf is split next.
    DepthWise,
    /// A child of the newest split is split next: as deep as there are splits.
    Chain,
    /// Depth-wise over different thresholds of feature 0.
    Wide,
}

#[derive(Clone, Copy, Debug)]
struct Draw {
    leaf: u16,
    feature: u16,
    test: u8,
    value: u16,
    missing: u8,
}

fn tree() -> impl Strategy<Value = Growth> {
    let shape = prop_oneof![Just(Shape::LeafWise), Just(Shape::DepthWise), Just(Shape::Chain)];
    let splits = prop_oneof![1 => vec(draw(), 0..2), 4 => vec(draw(), 1..16), 1 => vec(draw(), 16..64)];
    (shape, splits).prop_map(|(shape, splits)| Growth { shape, splits })
}

fn wide_tree() -> impl Strategy<Value = Growth> {
    vec(draw(), 250..700).prop_map(|splits| Growth { shape: Shape::Wide, splits })
}

fn draw() -> impl Strategy<Value = Draw> {
    (any::<u16>(), any::<u16>(), any::<u8>(), any::<u16>(), any::<u8>())
        .prop_map(|(leaf, feature, test, value, missing)| Draw { leaf, feature, test, value, missing })
}

/// What the trees of one model have in common.
struct Grower {
    rules: LibraryRules,
    n_features: usize,
    groups: usize,
    scale: LeafScale,
    thresholds: Vec<Vec<Threshold>>,
    sets: Vec<Vec<u32>>,
}

impl Grower {
    fn grow(&self, growth: &Growth, salt: u64) -> Tree {
        let mut nodes = vec![Node::Leaf(0.0)];
        // Leaves with their depth.
        let mut open = vec![(0_usize, 0_usize)];
        for (number, draw) in growth.splits.iter().enumerate() {
            let at = match growth.shape {
                Shape::LeafWise => usize::from(draw.leaf) % open.len(),
                Shape::DepthWise | Shape::Wide => 0,
                Shape::Chain => open.len() - 1 - usize::from(draw.leaf % 2).min(open.len() - 1),
            };
            let (leaf, depth) = open[at];
            if depth >= MAX_DEPTH && matches!(growth.shape, Shape::LeafWise) {
                continue;
            }
            open.remove(at);
            let (left, right) = (nodes.len(), nodes.len() + 1);
            nodes.extend([Node::Leaf(0.0), Node::Leaf(0.0)]);
            open.extend([(left, depth + 1), (right, depth + 1)]);
            let (feature, test) = self.question(growth.shape, number, draw);
            nodes[leaf] = Node::Split { feature, test, left, right };
        }
        for (at, node) in nodes.iter_mut().enumerate() {
            if let Node::Leaf(value) = node {
                *value = self.leaf(salt.wrapping_add(at as u64));
            }
        }
        Tree { group: (mix(salt) % self.groups as u64) as usize, nodes }
    }

    fn question(&self, shape: Shape, number: usize, draw: &Draw) -> (usize, Test) {
        let feature = usize::from(draw.feature) % self.n_features;
        let xgboost = self.rules == LibraryRules::XgBoost;
        if matches!(shape, Shape::Wide) {
            return (0, self.number(number as f64 * 0.5 - 60.0, draw));
        }
        if draw.test.is_multiple_of(4) {
            let set = self.sets[usize::from(draw.value) % self.sets.len()].clone();
            let test = if xgboost {
                Test::CategoryRight { set, nan_left: draw.missing.is_multiple_of(2) }
            } else {
                Test::CategoryLeft { set }
            };
            return (feature, test);
        }
        let pool = &self.thresholds[feature];
        (feature, self.number(pool[usize::from(draw.value) % pool.len()].of(self.rules), draw))
    }

    fn number(&self, threshold: f64, draw: &Draw) -> Test {
        let left = draw.missing.is_multiple_of(2);
        let missing = match (self.rules, draw.missing / 2 % 3) {
            (LibraryRules::XgBoost, _) | (_, 0) => Missing::Nan { left },
            (_, 1) => Missing::NanIsZero,
            _ => Missing::Zero { left },
        };
        Test::Number { threshold, missing }
    }

    fn leaf(&self, salt: u64) -> f64 {
        let bits = mix(salt);
        let unit = (bits >> 11) as f64 / (1_u64 << 52) as f64 - 1.0;
        let value = match self.scale {
            LeafScale::Uniform(scale) => unit * scale,
            LeafScale::Mixed => unit * 10.0_f64.powi(1 - (bits % 8) as i32),
            LeafScale::Coarse => (unit * 64.0).round() / 64.0,
            LeafScale::Shifted => 1000.0 + unit,
            LeafScale::Zero => 0.0,
        };
        match self.rules {
            LibraryRules::XgBoost => f64::from(value as f32),
            LibraryRules::LightGbm => value,
        }
    }
}

/// The output function of SplitMix64.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// One value of a row before the model is known.
#[derive(Clone, Copy, Debug)]
enum Cell {
    /// A value the model asks about, this many f32 steps beside it.
    Asked(Index, i8),
    /// A category, and what is added to it.
    Category(u32, f32),
    Value(f32),
}

impl Cell {
    fn value(self, asked: &[f32]) -> f32 {
        match self {
            Self::Asked(_, _) if asked.is_empty() => 0.0,
            Self::Asked(index, step) => beside(*index.get(asked), step),
            Self::Category(category, shift) => category as f32 + shift,
            Self::Value(value) => value,
        }
    }
}

fn cell() -> impl Strategy<Value = Cell> {
    let category = prop_oneof![8 => 0_u32..40, 2 => 0_u32..400, 1 => prop::sample::select(vec![
        69_999_u32, 70_000, 99_999, 100_000, 16_777_215, 16_777_216, 2_147_483_648, u32::MAX])];
    let shift = prop::sample::select(vec![0.0_f32, 0.0, 0.5, 0.999, -0.001, -0.5, -1.0]);
    prop_oneof![
        8 => (any::<Index>(), -1_i8..=1).prop_map(|(index, step)| Cell::Asked(index, step)),
        3 => (category, shift).prop_map(|(category, shift)| Cell::Category(category, shift)),
        2 => special().prop_map(Cell::Value),
        2 => Just(Cell::Value(f32::NAN)),
        1 => Just(Cell::Value(f32::from_bits(0xffc1_2345))),
        1 => any::<f32>().prop_map(Cell::Value),
        2 => (-100.0_f32..100.0).prop_map(Cell::Value),
    ]
}

/// How a tree of a given size grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growing {
    /// As shallow as it can be.
    LevelByLevel,
    /// Any leaf is split next.
    LeafWise,
}

/// `trees` XGBoost trees of `leaves` leaves each that ask `features` features in turn, and rows for them.
#[must_use]
pub fn sized(trees: usize, leaves: usize, features: usize, growing: Growing) -> Case {
    let mut draw = 0_u64;
    let mut below = |limit: usize| {
        draw += 1;
        (mix(draw) % limit as u64) as usize
    };
    let mut feature = 0;
    let mut model = TreeModel {
        library: Library::XgBoost,
        version: "3.2.0".to_owned(),
        objective: "reg:squarederror".to_owned(),
        feature_names: (0..features).map(|feature| format!("f{feature}")).collect(),
        base: vec![0.5],
        trees: Vec::new(),
        rules: LibraryRules::XgBoost,
        link: Link::Identity,
        average: None,
    };
    for _ in 0..trees {
        let mut nodes = vec![Node::Leaf(0.0)];
        let mut open = std::collections::VecDeque::from([0_usize]);
        while open.len() < leaves {
            let at = if growing == Growing::LevelByLevel { 0 } else { below(open.len()) };
            let Some(leaf) = open.remove(at) else { break };
            let (left, right) = (nodes.len(), nodes.len() + 1);
            nodes.extend([Node::Leaf(0.0), Node::Leaf(0.0)]);
            open.extend([left, right]);
            let test = Test::Number { threshold: below(200) as f64, missing: Missing::Nan { left: false } };
            nodes[leaf] = Node::Split { feature, test, left, right };
            feature = (feature + 1) % features;
        }
        for node in &mut nodes {
            if let Node::Leaf(value) = node {
                *value = f64::from((below(2001) as f32 - 1000.0) * 1e-4);
            }
        }
        model.trees.push(Tree { group: 0, nodes });
    }
    let mut value = || if below(20) == 0 { f32::NAN } else { below(402) as f32 / 2.0 - 0.5 };
    let rows = (0..24).map(|_| (0..features).map(|_| value()).collect()).collect();
    Case { model, rows }
}

/// Every value a feature is compared with, as f32.
fn questions(model: &TreeModel, feature: usize) -> Vec<f32> {
    let mut values = Vec::new();
    for node in model.trees.iter().flat_map(|tree| &tree.nodes) {
        match node {
            Node::Split { feature: of, test, .. } if *of == feature => match test {
                Test::Number { threshold, .. } => values.push(*threshold as f32),
                Test::CategoryRight { set, .. } | Test::CategoryLeft { set } => {
                    values.extend(set.iter().map(|&category| category as f32));
                }
            },
            Node::Split { .. } | Node::Leaf(_) => {}
        }
    }
    values
}
