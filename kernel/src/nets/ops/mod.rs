//! The operations of networks, one per file: shapes and rounding stand there. Each is one text for all backends; over
//! plain arrays (`simd::Scalar`) it is the specification.
//!
//! Sums run in the orders of [`reduce`]; products and sums are never fused; dot products of 8-bit values are exact.

pub(crate) mod attention;
pub(crate) mod gather;
pub(crate) mod gelu;
#[cfg(test)]
mod identity;
pub(crate) mod layer_norm;
pub(crate) mod linear_f32;
pub(crate) mod linear_i8;
pub(crate) mod max_pool;
pub(crate) mod quantize;
pub(crate) mod reduce;
pub(crate) mod relu;
pub(crate) mod softmax;
pub(crate) mod token_pool;
pub(crate) mod window;

use crate::simd::{LANES, Simd};

/// A chunk size: at least 1 by the image's check. Saying so again keeps the zero-size panic out of the program.
#[inline(always)]
fn size(checked: usize) -> usize {
    checked.max(1)
}

/// A few registers.
#[inline(always)]
fn load<S: Simd, const N: usize>(simd: S, from: &[[f32; LANES]; N]) -> [S::F; N] {
    let mut registers = [simd.splat(0.0); N];
    for (register, from) in registers.iter_mut().zip(from) {
        *register = simd.load(from);
    }
    registers
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec;
    use std::vec::Vec;

    use sha2::{Digest as _, Sha256};

    use super::attention::Attention;
    use super::linear_f32::LinearF32;
    use super::linear_i8::{LinearI8, Quantized};
    use super::quantize::Token;
    use super::token_pool::TokenPool;
    use super::window::{Statistics, normalize};
    use crate::simd::Scalar;

    /// Values in [−4, 4) that no platform computes differently.
    fn values(count: usize, seed: u32) -> Vec<f32> {
        let hash =
            |i: u32| (i ^ seed).wrapping_mul(0x9E37_79B1).rotate_left(13).wrapping_mul(0x85EB_CA6B) >> 8;
        (0..count as u32).map(|i| (f64::from(hash(i)) / 2_097_152.0 - 4.0) as f32).collect()
    }

    /// One small encoder layer through every operation; its bits were recorded on x86-64 in a debug build.
    ///
    /// Release builds, builds with `+fma,+avx2` and other architectures must give the same.
    #[test]
    #[cfg_attr(
        miri,
        ignore = "minutes under Miri; scalar code without a pointer, and `identity` runs each operation there"
    )]
    fn bits_do_not_depend_on_the_build() {
        let (tokens, width, wide) = (20, 24, 32);
        let mut x = values(tokens * width, 1);
        let mut statistics = vec![0.0; 2 * width];
        for (kind, shift) in [
            (Statistics::MeanAbs, 0.5),
            (Statistics::Std, 0.25),
            (Statistics::StdUnderRoot, -0.125),
            (Statistics::MinMax, -0.5),
        ] {
            kind.run(Scalar, &x, (tokens, width), 1e-5, tokens as f32, &mut statistics).unwrap();
            normalize(Scalar, &mut x, &statistics, width).unwrap();
            x.iter_mut().for_each(|x| *x += shift);
        }
        let weights: Vec<[i8; 64]> = values(6 * 6 * 64, 2)
            .chunks_exact(64)
            .map(|block| core::array::from_fn(|i| (block[i] * 31.0) as i8))
            .collect();
        let (scale, units, bias) = (vec![0.004; 96], values(96, 3), values(2 * 96, 4));
        let mut qkv = vec![0.0; tokens * 3 * width];
        let (mut quantized, mut ranges) = (vec![[0; 4]; 2 * tokens * 6], vec![Token::default(); tokens]);
        for (add, fine) in [(false, false), (true, true)] {
            let quantized = Quantized { values: &mut quantized, tokens: &mut ranges };
            let weights = &weights[..5 * 6];
            let layer =
                LinearI8 { weights, scale: &scale[..80], units: &units[..80], bias: &bias[..160], add, fine };
            layer.run(Scalar, (&x, width), (&mut qkv, 3 * width), false, quantized).unwrap();
        }
        let mut attended = vec![0.0; tokens * width];
        let attention = Attention { width, heads: 3, tokens: 10 };
        attention.run(Scalar, &qkv, &mut attended, &mut [0.0; 80]).unwrap();
        super::layer_norm::layer_norm(
            Scalar,
            &mut attended,
            &values(width, 5),
            &values(width, 6),
            1e-5,
            width as f32,
        );
        super::gelu::gelu(Scalar, &mut attended);
        let flat = values(wide * width, 7);
        let layer = LinearF32 { weights: flat.as_chunks().0, bias: &bias[..wide], add: false };
        let mut hidden = vec![0.0; tokens * wide];
        layer.run(Scalar, &attended, width, &mut hidden, wide).unwrap();
        let mut pooled = vec![0.0; 2 * wide];
        TokenPool::Mean.run(Scalar, &hidden, wide, 10, 10.0, &mut pooled).unwrap();
        super::softmax::softmax(Scalar, &mut pooled[..wide]);
        assert!(pooled.iter().chain(&hidden).all(|value| value.is_finite()));
        let mut hash = Sha256::new();
        for value in x.iter().chain(&qkv).chain(&attended).chain(&hidden).chain(&pooled) {
            hash.update(value.to_bits().to_le_bytes());
        }
        let digest: [u8; 32] = hash.finalize().into();
        assert_eq!(digest[..8], [0x79, 0x3e, 0x60, 0x50, 0x6d, 0xde, 0x29, 0x6c], "{:02x?}", &digest[..8]);
    }
}
