//! The square root, correctly rounded on every target: `core` has none on stable.
#![allow(unsafe_code, reason = "the instruction is reached by intrinsics or inline assembly only")]

/// √x, rounded to nearest; NaN below 0. All forms give the same bits.
#[inline]
pub(crate) fn sqrt(x: f32) -> f32 {
    form::sqrt(x)
}

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod form {
    use core::arch::x86_64::{_mm_cvtss_f32, _mm_set_ss, _mm_sqrt_ss};

    #[target_feature(enable = "sse2")]
    fn with_sse2(x: f32) -> f32 {
        _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)))
    }

    #[inline]
    pub(super) fn sqrt(x: f32) -> f32 {
        // SAFETY: this module is compiled only where the whole build has the feature.
        unsafe { with_sse2(x) }
    }
}

#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod form {
    use core::arch::aarch64::{vdup_n_f32, vget_lane_f32, vsqrt_f32};

    #[target_feature(enable = "neon")]
    fn with_neon(x: f32) -> f32 {
        vget_lane_f32::<0>(vsqrt_f32(vdup_n_f32(x)))
    }

    #[inline]
    pub(super) fn sqrt(x: f32) -> f32 {
        // SAFETY: this module is compiled only where the whole build has the feature.
        unsafe { with_neon(x) }
    }
}

#[cfg(all(target_arch = "arm", target_abi = "eabihf", not(miri)))]
mod form {
    pub(super) fn sqrt(x: f32) -> f32 {
        let mut bits = x.to_bits();
        // SAFETY: a square root between registers; hard-float targets have the unit, and s0 is declared as clobbered.
        unsafe {
            core::arch::asm!(
                "vmov s0, {bits}",
                "vsqrt.f32 s0, s0",
                "vmov {bits}, s0",
                bits = inout(reg) bits,
                out("s0") _,
                options(pure, nomem, nostack, preserves_flags)
            )
        };
        f32::from_bits(bits)
    }
}

#[cfg(not(any(
    all(target_arch = "x86_64", target_feature = "sse2"),
    all(target_arch = "aarch64", target_feature = "neon"),
    all(target_arch = "arm", target_abi = "eabihf", not(miri))
)))]
mod form {
    pub(super) use super::software::sqrt;
}

/// By integers alone, for targets without the instruction.
#[cfg_attr(
    any(
        all(target_arch = "x86_64", target_feature = "sse2"),
        all(target_arch = "aarch64", target_feature = "neon"),
        all(target_arch = "arm", target_abi = "eabihf", not(miri))
    ),
    allow(dead_code, reason = "the tests compare it with the instruction")
)]
mod software {
    pub(super) fn sqrt(x: f32) -> f32 {
        if x.is_nan() || x < 0.0 {
            return f32::NAN;
        }
        // Zeros keep their sign; +∞ is its own root.
        if x.abs() == 0.0 || x.is_infinite() {
            return x;
        }
        let bits = x.to_bits();
        // x = mantissa · 2^exponent with a mantissa of 24 bits, also for subnormal numbers.
        let (mantissa, exponent) = match bits >> 23 {
            0 => {
                let shift = bits.leading_zeros().wrapping_sub(8);
                (bits << shift, 1_i32.wrapping_sub(shift.cast_signed()))
            }
            biased => (bits & 0x7F_FFFF | 0x80_0000, biased.cast_signed()),
        };
        let exponent = exponent.wrapping_sub(150);
        // 49 or 50 bits over an even exponent make a root of 25: the 24 of the result and one to round by. It is never a
        // tie: an odd root has an odd square, and the shifted mantissa is even.
        let shift = if exponent & 1 == 0 { 26 } else { 25 };
        let root = (u64::from(mantissa) << shift).isqrt();
        let exponent = exponent.wrapping_sub(shift) >> 1;
        // 150 and the halved bit give the biased exponent; a mantissa rounded up to 2^24 carries into it.
        let exponent = exponent.wrapping_add(151).cast_unsigned() << 23;
        let mantissa = u32::try_from(root.wrapping_add(1) >> 1).unwrap_or(0);
        f32::from_bits(exponent.wrapping_add(mantissa).wrapping_sub(0x80_0000))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::{software, sqrt};

    fn agree(bits: u32) {
        let x = f32::from_bits(bits);
        let exact = x.sqrt();
        for root in [sqrt(x), software::sqrt(x)] {
            assert!(root.to_bits() == exact.to_bits() || root.is_nan() && exact.is_nan(), "sqrt({x:e})");
        }
    }

    #[test]
    fn every_form_gives_the_bits_of_the_platform() {
        // Every mantissa at an even and an odd exponent, then a walk over all patterns.
        let (mantissas, patterns) = if cfg!(miri) { (99_991, 19_999_999) } else { (1, 509) };
        (0x3F80_0000..0x4080_0000).step_by(mantissas).for_each(agree);
        (0..u32::MAX).step_by(patterns).for_each(agree);
        for bits in [
            0,
            1,
            2,
            0x7F_FFFF,
            0x80_0000,
            0x7F7F_FFFF,
            0x7F80_0000,
            0x8000_0000,
            0x8000_0001,
            0xFF80_0000,
            0x7FC0_0000,
        ] {
            agree(bits);
        }
    }
}
