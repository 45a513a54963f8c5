//! Tree walks: 32 nodes are two byte comparisons, their ranks looked up in tables of 64 bytes.
#![allow(unsafe_code, reason = "pointer loads, and the calls into code compiled for NEON")]

use core::arch::aarch64::{
    uint8x16_t, uint8x16x4_t, vandq_u8, vcgeq_u8, vcgtq_u8, vcombine_u8, vdupq_laneq_u8, vdupq_n_u8,
    vextq_u8, vgetq_lane_u32, vgetq_lane_u64, vld1_u8, vld1q_u8, vmaxq_u8, vorrq_u8, vpaddq_u8, vqtbl4q_u8,
    vreinterpretq_u32_u8, vreinterpretq_u64_u8, vsubq_u8,
};

use crate::image::records::{BlockRecord, TopBlocksRecord};
use crate::simd::Neon;
use crate::simd::blocks::walk;
use crate::simd::masks::{from_end, walk as walk_masks};
use crate::trees::{Blocks, Leaf, Leaf32, Masks, Row};

/// Sums the leaves of the trees, in tree order, onto `sum`; `slots` are in use.
pub(crate) fn blocks<L: Leaf32>(_: Neon, trees: &Blocks<'_>, slots: usize, row: &Row, sum: L) -> L {
    // SAFETY: the token proves the feature the function is compiled for.
    unsafe { blocks_by_slots(trees, slots, row, sum) }
}

/// Sums one of each tree's leaves, in tree order, onto `sum`; `slots` are in use.
pub(crate) fn masks<L: Leaf>(_: Neon, trees: &Masks<'_>, leaves: &[L], slots: usize, row: &Row, sum: L) -> L {
    // SAFETY: the token proves the feature the function is compiled for.
    unsafe { masks_by_slots(trees, leaves, slots, row, sum) }
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
fn masks_by_slots<L: Leaf>(trees: &Masks<'_>, leaves: &[L], slots: usize, row: &Row, sum: L) -> L {
    match (trees.leaves(), slots) {
        (32, 0..=64) => masks_of::<L, 1, 32>(trees, leaves, row, sum),
        (32, 65..=128) => masks_of::<L, 2, 32>(trees, leaves, row, sum),
        (32, _) => masks_of::<L, 4, 32>(trees, leaves, row, sum),
        (_, 0..=64) => masks_of::<L, 1, 64>(trees, leaves, row, sum),
        (_, 65..=128) => masks_of::<L, 2, 64>(trees, leaves, row, sum),
        _ => masks_of::<L, 4, 64>(trees, leaves, row, sum),
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
    let eight = |[a, b, c, d, e, f, g, h]: [&BlockRecord; 8]| {
        u64::from(four([a, b, c, d])) | u64::from(four([e, f, g, h])) << 32
    };
    let first = |top: &TopBlocksRecord| {
        let ([s0, s1, s2, s3, s4, s5, s6, s7], [r0, r1, r2, r3, r4, r5, r6, r7]) = (&top.slots, &top.ranks);
        let first = vpaddq_u8(decide(join(s0, s1), join(r0, r1)), decide(join(s2, s3), join(r2, r3)));
        let second = vpaddq_u8(decide(join(s4, s5), join(r4, r5)), decide(join(s6, s7), join(r6, r7)));
        let fours = vpaddq_u8(first, second);
        vgetq_lane_u64::<0>(vreinterpretq_u64_u8(vpaddq_u8(fours, fours)))
    };
    walk(trees, sum, first, eight)
}

#[target_feature(enable = "neon")]
fn masks_of<L: Leaf, const TABLES: usize, const LEAVES: u32>(
    trees: &Masks<'_>,
    leaves: &[L],
    row: &Row,
    sum: L,
) -> L {
    let lookup = Lookup::<TABLES>::new(row);
    let bits = load(&BITS);
    let places = vdupq_n_u8(if LEAVES == 32 { 32 } else { 64 });
    // Counted from the end, a node's interval starts at LEAVES − first: what is above the place of a leaf excludes it.
    let from_end = from_end(LEAVES);
    let [end0, end1, end2, end3] = sixteens(&from_end);
    walk_masks::<L, LEAVES>(trees, leaves, sum, |record| {
        let [slots0, slots1, slots2, slots3] = sixteens(&record.slots);
        let [ranks0, ranks1, ranks2, ranks3] = sixteens(&record.ranks);
        let [firsts0, firsts1, firsts2, firsts3] = sixteens(&record.firsts);
        let farthest = |slots, ranks, firsts| {
            farthest(vandq_u8(lookup.right(load(slots), load(ranks)), vsubq_u8(places, load(firsts))))
        };
        let behind = |bytes, behind| vmaxq_u8(bytes, vdupq_laneq_u8::<0>(behind));
        let fourth = farthest(slots3, ranks3, firsts3);
        let third = behind(farthest(slots2, ranks2, firsts2), fourth);
        let second = farthest(slots1, ranks1, firsts1);
        let second = if LEAVES == 64 { behind(second, third) } else { second };
        let first = behind(farthest(slots0, ranks0, firsts0), second);
        let excluded = |starts, end| vandq_u8(vcgeq_u8(starts, load(end)), bits);
        let low = vpaddq_u8(excluded(first, end0), excluded(second, end1));
        let high = vpaddq_u8(excluded(third, end2), excluded(fourth, end3));
        let fours = vpaddq_u8(low, high);
        vgetq_lane_u64::<0>(vreinterpretq_u64_u8(vpaddq_u8(fours, fours)))
    })
}

/// The largest of each byte and those behind it.
#[inline]
#[target_feature(enable = "neon")]
fn farthest(bytes: uint8x16_t) -> uint8x16_t {
    let none = vdupq_n_u8(0);
    let bytes = vmaxq_u8(bytes, vextq_u8::<1>(bytes, none));
    let bytes = vmaxq_u8(bytes, vextq_u8::<2>(bytes, none));
    let bytes = vmaxq_u8(bytes, vextq_u8::<4>(bytes, none));
    vmaxq_u8(bytes, vextq_u8::<8>(bytes, none))
}

/// 64 bytes by sixteens.
#[inline]
fn sixteens(bytes: &[u8; 64]) -> [&[u8; 16]; 4] {
    let none = &[0; 16];
    let (all, _) = bytes.as_chunks::<16>();
    let mut sixteens = [none; 4];
    for (place, sixteen) in sixteens.iter_mut().zip(all) {
        *place = sixteen;
    }
    sixteens
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
