//! Tree walks: 32 nodes are two byte comparisons, their ranks looked up in tables of 64 bytes.
#![allow(unsafe_code, reason = "pointer loads, and the calls into code compiled for NEON")]

use core::arch::aarch64::{
    uint8x16_t, uint8x16x4_t, uint32x4_t, uint64x2_t, vandq_u8, vandq_u32, vandq_u64, vcgtq_u8, vcombine_u8,
    vdupq_n_u8, vdupq_n_u32, vdupq_n_u64, vget_high_s8, vget_high_s16, vget_high_s32, vget_low_s8,
    vget_low_s16, vget_low_s32, vgetq_lane_u32, vgetq_lane_u64, vld1_u8, vld1q_u8, vld1q_u32, vld1q_u64,
    vmovl_s8, vmovl_s16, vmovl_s32, vorrq_u8, vorrq_u32, vorrq_u64, vpaddq_u8, vqtbl4q_u8,
    vreinterpretq_s8_u8, vreinterpretq_u32_s32, vreinterpretq_u32_u8, vreinterpretq_u64_s64,
    vreinterpretq_u64_u8, vreinterpretq_u64_u32, vsubq_u8,
};

use crate::image::records::{BlockRecord, MaskTree32Record, MaskTree64Record, TopBlocksRecord};
use crate::num::index;
use crate::simd::Neon;
use crate::simd::blocks::walk;
use crate::trees::{Blocks, Leaf, Leaf32, Masks, Row};

/// Sums the leaves of the trees, in tree order, onto `sum`; `slots` are in use.
pub(crate) fn blocks<L: Leaf32>(_: Neon, trees: &Blocks<'_>, slots: usize, row: &Row, sum: L) -> L {
    // SAFETY: the token proves the feature the function is compiled for.
    unsafe { blocks_by_slots(trees, slots, row, sum) }
}

/// Sums one of each tree's 32 leaves, in tree order, onto `sum`; `slots` are in use.
pub(crate) fn masks32<L: Leaf>(
    _: Neon,
    trees: &Masks<'_, MaskTree32Record>,
    leaves: &[L],
    slots: usize,
    row: &Row,
    sum: L,
) -> L {
    // SAFETY: the token proves the feature the function is compiled for.
    unsafe { masks32_by_slots(trees, leaves, slots, row, sum) }
}

/// Sums one of each tree's 64 leaves, in tree order, onto `sum`; `slots` are in use.
pub(crate) fn masks64<L: Leaf>(
    _: Neon,
    trees: &Masks<'_, MaskTree64Record>,
    leaves: &[L],
    slots: usize,
    row: &Row,
    sum: L,
) -> L {
    // SAFETY: the token proves the feature the function is compiled for.
    unsafe { masks64_by_slots(trees, leaves, slots, row, sum) }
}

#[target_feature(enable = "neon")]
fn blocks_by_slots<L: Leaf32>(trees: &Blocks<'_>, slots: usize, row: &Row, sum: L) -> L {
    match slots {
        0..=64 => blocks_of::<L, 1>(trees, row, sum),
        65..=128 => blocks_of::<L, 2>(trees, row, sum),
        _ => blocks_of::<L, 4>(trees, row, sum),
    }
}

#[target_feature(enable = "neon")]
fn masks32_by_slots<L: Leaf>(
    trees: &Masks<'_, MaskTree32Record>,
    leaves: &[L],
    slots: usize,
    row: &Row,
    sum: L,
) -> L {
    match slots {
        0..=64 => masks32_of::<L, 1>(trees, leaves, row, sum),
        65..=128 => masks32_of::<L, 2>(trees, leaves, row, sum),
        _ => masks32_of::<L, 4>(trees, leaves, row, sum),
    }
}

#[target_feature(enable = "neon")]
fn masks64_by_slots<L: Leaf>(
    trees: &Masks<'_, MaskTree64Record>,
    leaves: &[L],
    slots: usize,
    row: &Row,
    sum: L,
) -> L {
    match slots {
        0..=64 => masks64_of::<L, 1>(trees, leaves, row, sum),
        65..=128 => masks64_of::<L, 2>(trees, leaves, row, sum),
        _ => masks64_of::<L, 4>(trees, leaves, row, sum),
    }
}

/// A row's ranks, 64 to a table.
#[derive(Clone, Copy)]
struct Lookup<const TABLES: usize>([uint8x16x4_t; TABLES]);

impl<const TABLES: usize> Lookup<TABLES> {
    #[inline]
    #[target_feature(enable = "neon")]
    fn new(row: &Row) -> Self {
        let none = vdupq_n_u8(0);
        let mut tables = [uint8x16x4_t(none, none, none, none); TABLES];
        let (sixteens, _) = row.as_chunks::<16>();
        let (sixty_fours, _) = sixteens.as_chunks::<4>();
        for (table, [a, b, c, d]) in tables.iter_mut().zip(sixty_fours) {
            *table = uint8x16x4_t(load(a), load(b), load(c), load(d));
        }
        Self(tables)
    }

    /// All ones for each of sixteen nodes that sends the row right.
    #[inline]
    #[target_feature(enable = "neon")]
    fn right(&self, slots: uint8x16_t, ranks: uint8x16_t) -> uint8x16_t {
        let mut row = vdupq_n_u8(0);
        let mut place = slots;
        for &table in &self.0 {
            // A lookup gives 0 for places that are not in the table.
            row = vorrq_u8(row, vqtbl4q_u8(table, place));
            place = vsubq_u8(place, vdupq_n_u8(64));
        }
        vcgtq_u8(row, ranks)
    }
}

/// Bit i of each byte for byte i of eight: what a movemask would give, once bytes are added up by eights.
const BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];

#[target_feature(enable = "neon")]
fn blocks_of<L: Leaf32, const TABLES: usize>(trees: &Blocks<'_>, row: &Row, sum: L) -> L {
    let lookup = Lookup::<TABLES>::new(row);
    let bits = load(&BITS);
    let decide = |slots, ranks| vandq_u8(lookup.right(slots, ranks), bits);
    let four = |[a, b, c, d]: [&BlockRecord; 4]| {
        let low = decide(join(&a.slots, &b.slots), join(&a.ranks, &b.ranks));
        let high = decide(join(&c.slots, &d.slots), join(&c.ranks, &d.ranks));
        let pairs = vpaddq_u8(low, high);
        let fours = vpaddq_u8(pairs, pairs);
        vgetq_lane_u32::<0>(vreinterpretq_u32_u8(vpaddq_u8(fours, fours)))
    };
    let eight = |top: &TopBlocksRecord| {
        let ([s0, s1, s2, s3, s4, s5, s6, s7], [r0, r1, r2, r3, r4, r5, r6, r7]) = (&top.slots, &top.ranks);
        let first = vpaddq_u8(decide(join(s0, s1), join(r0, r1)), decide(join(s2, s3), join(r2, r3)));
        let second = vpaddq_u8(decide(join(s4, s5), join(r4, r5)), decide(join(s6, s7), join(r6, r7)));
        let fours = vpaddq_u8(first, second);
        vgetq_lane_u64::<0>(vreinterpretq_u64_u8(vpaddq_u8(fours, fours)))
    };
    walk(trees, sum, four, eight)
}

#[target_feature(enable = "neon")]
fn masks32_of<L: Leaf, const TABLES: usize>(
    trees: &Masks<'_, MaskTree32Record>,
    leaves: &[L],
    row: &Row,
    mut sum: L,
) -> L {
    let lookup = Lookup::<TABLES>::new(row);
    let (leaves, _) = leaves.as_chunks::<32>();
    for (tree, leaves) in trees.trees().iter().zip(leaves) {
        let (slots, _) = tree.slots.as_chunks::<16>();
        let (ranks, _) = tree.ranks.as_chunks::<16>();
        let (masks, _) = tree.masks.as_chunks::<16>();
        let mut excluded = vdupq_n_u32(0);
        for ((slots, ranks), masks) in slots.iter().zip(ranks).zip(masks) {
            let right = lookup.right(load(slots), load(ranks));
            excluded = vorrq_u32(excluded, excluded_32(right, masks));
        }
        let halves = either(vreinterpretq_u64_u32(excluded));
        sum = sum.plus(pick(leaves, halves | halves >> 32));
    }
    sum
}

#[target_feature(enable = "neon")]
fn masks64_of<L: Leaf, const TABLES: usize>(
    trees: &Masks<'_, MaskTree64Record>,
    leaves: &[L],
    row: &Row,
    mut sum: L,
) -> L {
    let lookup = Lookup::<TABLES>::new(row);
    let (leaves, _) = leaves.as_chunks::<64>();
    for (tree, leaves) in trees.trees().iter().zip(leaves) {
        let (slots, _) = tree.slots.as_chunks::<16>();
        let (ranks, _) = tree.ranks.as_chunks::<16>();
        let (masks, _) = tree.masks.as_chunks::<16>();
        let mut excluded = vdupq_n_u64(0);
        for ((slots, ranks), masks) in slots.iter().zip(ranks).zip(masks) {
            let right = lookup.right(load(slots), load(ranks));
            excluded = vorrq_u64(excluded, excluded_64(right, masks));
        }
        sum = sum.plus(pick(leaves, either(excluded)));
    }
    sum
}

/// ORs the masks of those of sixteen nodes that go right, into four lanes.
#[inline]
#[target_feature(enable = "neon")]
fn excluded_32(right: uint8x16_t, masks: &[u32; 16]) -> uint32x4_t {
    // Sign extension keeps a lane all ones.
    let bytes = vreinterpretq_s8_u8(right);
    let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_s8(vget_high_s8(bytes)));
    let lanes = [
        vmovl_s16(vget_low_s16(low)),
        vmovl_s16(vget_high_s16(low)),
        vmovl_s16(vget_low_s16(high)),
        vmovl_s16(vget_high_s16(high)),
    ];
    let (fours, _) = masks.as_chunks::<4>();
    let mut excluded = vdupq_n_u32(0);
    for (lanes, masks) in lanes.into_iter().zip(fours) {
        // SAFETY: four u32 are 16 bytes.
        let masks = unsafe { vld1q_u32(masks.as_ptr()) };
        excluded = vorrq_u32(excluded, vandq_u32(vreinterpretq_u32_s32(lanes), masks));
    }
    excluded
}

/// As [`excluded_32`], into two lanes.
#[inline]
#[target_feature(enable = "neon")]
fn excluded_64(right: uint8x16_t, masks: &[u64; 16]) -> uint64x2_t {
    let bytes = vreinterpretq_s8_u8(right);
    let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_s8(vget_high_s8(bytes)));
    let fours = [
        vmovl_s16(vget_low_s16(low)),
        vmovl_s16(vget_high_s16(low)),
        vmovl_s16(vget_low_s16(high)),
        vmovl_s16(vget_high_s16(high)),
    ];
    let (pairs, _) = masks.as_chunks::<2>();
    let (pairs, _) = pairs.as_chunks::<2>();
    let mut excluded = vdupq_n_u64(0);
    for (four, [first, second]) in fours.into_iter().zip(pairs) {
        // SAFETY: two u64 are 16 bytes.
        let first = unsafe { vld1q_u64(first.as_ptr()) };
        // SAFETY: two u64 are 16 bytes.
        let second = unsafe { vld1q_u64(second.as_ptr()) };
        let low = vreinterpretq_u64_s64(vmovl_s32(vget_low_s32(four)));
        let high = vreinterpretq_u64_s64(vmovl_s32(vget_high_s32(four)));
        excluded = vorrq_u64(excluded, vorrq_u64(vandq_u64(low, first), vandq_u64(high, second)));
    }
    excluded
}

/// Both lanes in one.
#[inline]
#[target_feature(enable = "neon")]
fn either(lanes: uint64x2_t) -> u64 {
    vgetq_lane_u64::<0>(lanes) | vgetq_lane_u64::<1>(lanes)
}

/// The first leaf that is not excluded; the check has proven that there is one.
#[inline]
fn pick<L: Leaf, const LEAVES: usize>(leaves: &[L; LEAVES], excluded: u64) -> L {
    let at = index(excluded.trailing_ones()) & LEAVES.wrapping_sub(1);
    // SAFETY: LEAVES is a power of two, 32 or 64, and `at` below it.
    unsafe { *leaves.get_unchecked(at) }
}

#[inline]
#[target_feature(enable = "neon")]
fn load(bytes: &[u8; 16]) -> uint8x16_t {
    // SAFETY: sixteen bytes.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

/// Two times eight bytes.
#[inline]
#[target_feature(enable = "neon")]
fn join(low: &[u8; 8], high: &[u8; 8]) -> uint8x16_t {
    // SAFETY: eight bytes.
    let low = unsafe { vld1_u8(low.as_ptr()) };
    // SAFETY: eight bytes.
    let high = unsafe { vld1_u8(high.as_ptr()) };
    vcombine_u8(low, high)
}
