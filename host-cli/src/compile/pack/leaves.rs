//! Leaf values to what is summed: fixed point with a proven bound, or the library's own floats.

use anyhow::{Context as _, ensure};
use bytemuck::cast_slice;
use qsc_kernel::image::records::sum;

use crate::compile::ir::{LibraryRules, TreeModel};

/// Half an f32 unit in the last place, relative: what rounding the raw output to f32 may cost.
const F32_ROUNDING: f64 = 1.0 / 16_777_216.0;
/// Half the smallest f32 above zero: what rounding to f32 costs where it is not relative any more.
const F32_UNDERFLOW: f64 = f64::from_bits((1023 - 150) << 52);
/// Half an f64 unit in the last place, relative.
const F64_ROUNDING: f64 = 1.0 / 9_007_199_254_740_992.0;
/// Fixed-point leaves must keep the sum of their rounding errors below this share of the largest possible margin …
const RELATIVE_LIMIT: f64 = 1e-6;
/// … and below this in absolute terms; typical errors are two orders smaller than the bound.
const ABSOLUTE_LIMIT: f64 = 5e-5;

/// Leaf values by number, tree and group.
#[derive(Default)]
pub(super) struct LeafValues {
    values: Vec<f64>,
    tree_ends: Vec<usize>,
    group_ends: Vec<usize>,
}

impl LeafValues {
    /// Adds a leaf of the current tree; gives its number.
    pub(super) fn push(&mut self, value: f64) -> anyhow::Result<u32> {
        let number = u32::try_from(self.values.len()).context("more than 2^32 leaves")?;
        self.values.push(value);
        Ok(number)
    }

    pub(super) fn end_tree(&mut self) {
        self.tree_ends.push(self.values.len());
    }

    pub(super) fn end_group(&mut self) {
        self.group_ends.push(self.tree_ends.len());
    }

    /// For each group, the sum over its trees of the largest `of(leaf)`.
    fn sum_of_largest(&self, of: impl Fn(f64) -> f64) -> Vec<f64> {
        let starts = std::iter::once(0).chain(self.tree_ends.iter().copied());
        let largest: Vec<f64> = starts
            .zip(&self.tree_ends)
            .map(|(start, &end)| self.values[start..end].iter().map(|&value| of(value)).fold(0.0, f64::max))
            .collect();
        let starts = std::iter::once(0).chain(self.group_ends.iter().copied());
        starts.zip(&self.group_ends).map(|(start, &end)| largest[start..end].iter().sum()).collect()
    }
}

/// Leaves by number, in the type they are stored in.
pub(super) enum Encoded {
    I32(Vec<i32>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
}

impl Encoded {
    /// Bytes of a leaf.
    pub(super) const fn width(&self) -> usize {
        match self {
            Self::I32(_) | Self::F32(_) => 4,
            Self::I64(_) | Self::F64(_) => 8,
        }
    }

    const fn sum(&self) -> u32 {
        match self {
            Self::I32(_) => sum::FIXED_I32,
            Self::I64(_) => sum::FIXED_I64,
            Self::F32(_) => sum::EXACT_F32,
            Self::F64(_) => sum::EXACT_F64,
        }
    }

    /// The leaves with these numbers; `None` is the one that changes no sum, 0 or −0.
    pub(super) fn bytes(&self, places: &[Option<u32>]) -> Vec<u8> {
        fn pick<T: Copy + bytemuck::NoUninit>(all: &[T], neutral: T, places: &[Option<u32>]) -> Vec<u8> {
            let of = |place: &Option<u32>| place.map_or(neutral, |number| all[number as usize]);
            cast_slice(&places.iter().map(of).collect::<Vec<T>>()).to_vec()
        }
        match self {
            Self::I32(all) => pick(all, 0, places),
            Self::I64(all) => pick(all, 0, places),
            Self::F32(all) => pick(all, -0.0, places),
            Self::F64(all) => pick(all, -0.0, places),
        }
    }

    /// One leaf of four bytes.
    pub(super) fn bits(&self, place: Option<u32>) -> anyhow::Result<u32> {
        let bytes = self.bytes(&[place]);
        Ok(u32::from_le_bytes(bytes.as_slice().try_into().context("a leaf in a block has four bytes")?))
    }
}

/// Leaves as the image stores them.
pub(super) struct Leaves {
    pub(super) sum: u32,
    pub(super) scale_log2: i32,
    pub(super) values: Encoded,
    /// Start of each group's sum, in the encoding of the sum mode.
    pub(super) base: Vec<u64>,
    /// Largest possible |raw output as f32 − sum in f64|, for the exact sum as for one rounded in tree order.
    pub(super) max_abs_error: f64,
}

impl Leaves {
    pub(super) fn new(model: &TreeModel, values: &LeafValues, exact: bool) -> anyhow::Result<Self> {
        let finite = |value: &f64| value.is_finite();
        ensure!(values.values.iter().all(finite), "a leaf of the model is NaN or infinite; train it again");
        ensure!(
            model.base.iter().all(finite),
            "the base score of the model is NaN or infinite; train it again"
        );
        let of_leaves = values.sum_of_largest(f64::abs);
        let largest =
            of_leaves.iter().zip(&model.base).map(|(leaves, base)| leaves + base.abs()).fold(0.0, f64::max);
        ensure!(
            largest < f64::from(f32::MAX),
            "the margins of the model can reach {largest:e}, which is beyond f32; train it on a smaller target"
        );
        // Also a sum that is rounded after each of its terms is within the bound.
        let terms = values.tree_ends.len() as f64 + 4.0;
        let to_f32 = largest * (F32_ROUNDING + terms * F64_ROUNDING) + F32_UNDERFLOW;
        if exact {
            return Ok(Self::floats(model, values, largest, to_f32));
        }
        let narrow = Fixed::new(model, values, largest, f64::from(i32::MAX));
        if narrow.error <= ABSOLUTE_LIMIT && narrow.error <= largest * RELATIVE_LIMIT {
            let leaves: Vec<i32> =
                narrow.leaves.iter().map(|&leaf| i32::try_from(leaf)).collect::<Result<_, _>>()?;
            return Ok(narrow.into_leaves(Encoded::I32(leaves), to_f32));
        }
        // 2^61 leaves room for one unit of rounding per tree below i64::MAX.
        let wide = Fixed::new(model, values, largest, 2.0_f64.powi(61));
        let leaves = wide.leaves.clone();
        Ok(wide.into_leaves(Encoded::I64(leaves), to_f32))
    }

    /// The library's own leaves; the bound is that of a sequential sum (Higham, Accuracy and Stability, §4.2).
    fn floats(model: &TreeModel, values: &LeafValues, largest: f64, to_f32: f64) -> Self {
        let (encoded, error) = match model.rules {
            LibraryRules::XgBoost => {
                let leaves = values.values.iter().map(|&value| value as f32).collect();
                let terms = values.tree_ends.len() as f64 + 1.0;
                let gamma = terms * F32_ROUNDING / (1.0 - terms * F32_ROUNDING).max(f64::MIN_POSITIVE);
                (Encoded::F32(leaves), largest * gamma)
            }
            LibraryRules::LightGbm => (Encoded::F64(values.values.clone()), 0.0),
        };
        let base = model.base.iter().map(|base| base.to_bits()).collect();
        Self { sum: encoded.sum(), scale_log2: 0, values: encoded, base, max_abs_error: error + to_f32 }
    }
}

/// Fixed-point leaves before their width is chosen.
struct Fixed {
    scale_log2: i32,
    leaves: Vec<i64>,
    base: Vec<u64>,
    /// Largest possible |sum of the rounded leaves − sum of the trained ones|.
    error: f64,
}

impl Fixed {
    /// Multiples of the smallest power of two with which no sum exceeds `limit`.
    fn new(model: &TreeModel, values: &LeafValues, largest: f64, limit: f64) -> Self {
        // Rounding adds at most half a unit for each tree and the base.
        let room = limit - (values.tree_ends.len() as f64 + 2.0);
        let scale_log2 =
            if largest > 0.0 { (room / largest).log2().floor().clamp(-900.0, 900.0) as i32 } else { 0 };
        let unit = 2.0_f64.powi(-scale_log2);
        let round = |value: f64| (value / unit).round_ties_even() as i64;
        let error = |value: f64| (value - round(value) as f64 * unit).abs();
        let of_leaves = values.sum_of_largest(error);
        let errors = of_leaves.iter().zip(&model.base).map(|(leaves, &base)| leaves + error(base));
        Self {
            scale_log2,
            leaves: values.values.iter().map(|&value| round(value)).collect(),
            base: model.base.iter().map(|&base| round(base).cast_unsigned()).collect(),
            error: errors.fold(0.0, f64::max),
        }
    }

    fn into_leaves(self, values: Encoded, to_f32: f64) -> Leaves {
        let Self { scale_log2, base, error, .. } = self;
        Leaves { sum: values.sum(), scale_log2, values, base, max_abs_error: error + to_f32 }
    }
}
