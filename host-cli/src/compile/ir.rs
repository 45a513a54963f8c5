//! The intermediate model: what a tree importer produces and everything after it consumes.
//!
//! It says what the trained file means, without saying how to run it. Trees are binary; every split sends a
//! row either left or right; leaves are added per output group.

/// A tree ensemble as trained: `groups` margins, each the sum of the leaves its trees choose.
#[derive(Clone, Debug, PartialEq)]
pub struct TreeModel {
    /// Which library wrote the file, for the image's provenance.
    pub library: Library,
    /// The library's own version, e.g. `3.2.0`; `v4` for LightGBM's text format.
    pub version: String,
    /// The objective as written in the file, e.g. `multi:softprob`.
    pub objective: String,
    /// Names of the input features, `[n_features]`. XGBoost without names: `f0`, `f1`, ….
    pub feature_names: Vec<String>,
    /// Margin every sum starts from, `[groups]`; zeros for LightGBM.
    pub base: Vec<f64>,
    /// Trees in the library's summation order.
    pub trees: Vec<Tree>,
    /// How numbers are compared, missing values found and sums rounded: the library's own rules.
    pub rules: LibraryRules,
    /// From margins to outputs.
    pub link: Link,
    /// The margins are divided by this count before the link (LightGBM `average_output`); raw output is the sum.
    pub average: Option<u32>,
}

/// The library a model came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// XGBoost.
    XgBoost,
    /// LightGBM.
    LightGbm,
}

/// What differs between the libraries for every node of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LibraryRules {
    /// `x < threshold` goes left, compared in f32; margins are summed in f32 in tree order.
    XgBoost,
    /// `x <= threshold` goes left, compared in f64; |x| ≤ 1e-35 counts as 0; margins are summed in f64.
    LightGbm,
}

/// One tree. Node 0 is the root; children come after their parent.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    /// The output group its leaves are added to.
    pub group: usize,
    /// Nodes; every child index is larger than its parent's, and every node but the root has one parent.
    pub nodes: Vec<Node>,
}

/// A node of a tree.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// The value added to the group's margin (learning rate and dart weight applied).
    /// XGBoost: an f32 widened; LightGBM: the f64 of the file.
    Leaf(f64),
    /// Sends a row to `left` or `right`.
    Split {
        /// Input feature.
        feature: usize,
        /// The question asked.
        test: Test,
        /// Child for rows that pass the test.
        left: usize,
        /// Child for rows that do not.
        right: usize,
    },
}

/// A split's question: true sends the row left.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// A number against a threshold, by the model's [`LibraryRules`]. XGBoost: an f32 widened.
    Number {
        /// The threshold; never NaN.
        threshold: f64,
        /// What counts as missing, and where it goes.
        missing: Missing,
    },
    /// XGBoost: the truncated value in `set` goes **right**; not in the set, negative, ≥ 2^24 or beyond it: left.
    CategoryRight {
        /// Category numbers, ascending.
        set: Vec<u32>,
        /// Where NaN goes.
        nan_left: bool,
    },
    /// LightGBM: the truncated value in `set` goes **left**; anything else, and NaN: right.
    CategoryLeft {
        /// Category numbers, ascending.
        set: Vec<u32>,
    },
}

/// What a numeric split takes for a missing value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// NaN goes to the default child (XGBoost; LightGBM missing type NaN).
    Nan {
        /// The default child is the left one.
        left: bool,
    },
    /// NaN is read as 0.0 and compared (LightGBM missing type None).
    NanIsZero,
    /// NaN and zero go to the default child (LightGBM missing type Zero).
    Zero {
        /// The default child is the left one.
        left: bool,
    },
}

/// From margins to outputs. `groups` margins give `groups` outputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Link {
    /// The margin itself.
    Identity,
    /// 1 / (1 + exp(−scale · m)), per group.
    Sigmoid {
        /// LightGBM's `sigmoid:`; 1 for XGBoost.
        scale: f64,
    },
    /// exp(mᵢ) / Σ exp(mⱼ).
    Softmax,
    /// exp(m).
    Exp,
    /// sign(m) · m² (LightGBM `regression sqrt`).
    SignedSquare,
    /// ln(1 + exp(m)) (LightGBM `cross_entropy_lambda`).
    Log1pExp,
    /// 1 where m > 0, else 0 (XGBoost `binary:hinge`).
    Step,
}

impl TreeModel {
    /// Number of output groups (margins).
    #[must_use]
    pub fn groups(&self) -> usize {
        self.base.len()
    }
}
