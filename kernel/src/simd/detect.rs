//! What this processor can do, and the tokens that prove it.
//!
//! `core` cannot ask (`is_x86_feature_detected!` is std only), so CPUID and XCR0 are read here: Intel SDM volume 2A, CPUID
//! leaves 1 and 7; volume 1, 13.3 for the state the operating system saves.

use super::Tier;

/// Proof of AVX2, BMI1, BMI2, LZCNT and POPCNT.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx2(());

/// Proof of everything [`Avx2`] proves and of AVX-512 F, BW, VL, DQ, CD, VBMI and VNNI.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx512(());

/// Proof of NEON.
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neon(());

/// The SIMD tiers of this machine beyond the portable one, slowest first.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
pub(super) fn native() -> [Option<Tier>; 2] {
    let found = x86::Features::read();
    [found.avx2().then_some(Tier::Avx2(Avx2(()))), found.avx512().then_some(Tier::Avx512(Avx512(())))]
}

#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
pub(super) fn native() -> [Option<Tier>; 1] {
    [Some(Tier::Neon(Neon(())))]
}

#[cfg(not(any(
    all(target_arch = "x86_64", target_feature = "sse2"),
    all(target_arch = "aarch64", target_feature = "neon")
)))]
pub(super) fn native() -> [Option<Tier>; 0] {
    []
}

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod x86 {
    #![allow(unsafe_code, reason = "XCR0 is reached by inline assembly only")]

    use core::arch::x86_64::{__cpuid, __cpuid_count};

    /// Feature bits as the processor gives them; all 0 where it does not know the leaf.
    #[derive(Clone, Copy, Debug, Default)]
    pub(super) struct Features {
        leaf1_ecx: u32,
        leaf7_ebx: u32,
        leaf7_ecx: u32,
        extended_ecx: u32,
        /// State the operating system saves.
        xcr0: u32,
    }

    const POPCNT: u32 = 1 << 23;
    const OSXSAVE: u32 = 1 << 27;
    const AVX: u32 = 1 << 28;
    const BMI1: u32 = 1 << 3;
    const AVX2: u32 = 1 << 5;
    const BMI2: u32 = 1 << 8;
    const AVX512F: u32 = 1 << 16;
    const AVX512DQ: u32 = 1 << 17;
    const AVX512CD: u32 = 1 << 28;
    const AVX512BW: u32 = 1 << 30;
    const AVX512VL: u32 = 1 << 31;
    const AVX512VBMI: u32 = 1 << 1;
    const AVX512VNNI: u32 = 1 << 11;
    const LZCNT: u32 = 1 << 5;
    /// SSE and AVX state.
    const XMM_YMM: u32 = 0b110;
    /// Also the mask registers and both halves of the new ones.
    const ZMM: u32 = 0b1110_0110;

    const fn all(bits: u32, wanted: u32) -> bool {
        bits & wanted == wanted
    }

    impl Features {
        pub(super) fn read() -> Self {
            if cfg!(miri) {
                return Self::of_the_build();
            }
            let highest = __cpuid(0).eax;
            let leaf1_ecx = __cpuid(1).ecx;
            if highest < 7 || !all(leaf1_ecx, OSXSAVE) {
                return Self::default();
            }
            let leaf7 = __cpuid_count(7, 0);
            let extended = __cpuid(0x8000_0000).eax;
            let extended_ecx = if extended > 0x8000_0000 { __cpuid(0x8000_0001).ecx } else { 0 };
            Self { leaf1_ecx, leaf7_ebx: leaf7.ebx, leaf7_ecx: leaf7.ecx, extended_ecx, xcr0: xcr0() }
        }

        /// What Miri has, which knows no CPUID: AVX2 if it was told to know it. It lacks too much of AVX-512.
        fn of_the_build() -> Self {
            let avx2 = cfg!(all(
                target_feature = "avx2",
                target_feature = "bmi1",
                target_feature = "bmi2",
                target_feature = "lzcnt",
                target_feature = "popcnt"
            ));
            if !avx2 {
                return Self::default();
            }
            Self {
                leaf1_ecx: POPCNT | AVX,
                leaf7_ebx: BMI1 | AVX2 | BMI2,
                leaf7_ecx: 0,
                extended_ecx: LZCNT,
                xcr0: XMM_YMM,
            }
        }

        pub(super) const fn avx2(self) -> bool {
            all(self.leaf1_ecx, POPCNT | AVX)
                && all(self.leaf7_ebx, BMI1 | AVX2 | BMI2)
                && all(self.extended_ecx, LZCNT)
                && all(self.xcr0, XMM_YMM)
        }

        pub(super) const fn avx512(self) -> bool {
            self.avx2()
                && all(self.leaf7_ebx, AVX512F | AVX512DQ | AVX512CD | AVX512BW | AVX512VL)
                && all(self.leaf7_ecx, AVX512VBMI | AVX512VNNI)
                && all(self.xcr0, ZMM)
        }
    }

    /// The low half of XCR0. Call only where CPUID says OSXSAVE.
    fn xcr0() -> u32 {
        let low: u32;
        // SAFETY: xgetbv exists where OSXSAVE is set, which the one caller has checked; it reads register 0 and changes
        // nothing but the outputs named.
        unsafe {
            core::arch::asm!(
                "xgetbv",
                in("ecx") 0,
                out("eax") low,
                out("edx") _,
                options(nomem, nostack, preserves_flags)
            )
        };
        low
    }

    #[cfg(test)]
    mod tests {
        extern crate std;
        use super::*;

        #[test]
        fn agrees_with_the_standard_library() {
            let found = Features::read();
            let avx2 = std::is_x86_feature_detected!("avx2")
                && std::is_x86_feature_detected!("bmi1")
                && std::is_x86_feature_detected!("bmi2")
                && std::is_x86_feature_detected!("lzcnt")
                && std::is_x86_feature_detected!("popcnt");
            assert_eq!(found.avx2(), avx2);
            let avx512 = avx2
                && std::is_x86_feature_detected!("avx512f")
                && std::is_x86_feature_detected!("avx512bw")
                && std::is_x86_feature_detected!("avx512vl")
                && std::is_x86_feature_detected!("avx512dq")
                && std::is_x86_feature_detected!("avx512cd")
                && std::is_x86_feature_detected!("avx512vbmi")
                && std::is_x86_feature_detected!("avx512vnni");
            assert_eq!(found.avx512(), avx512);
        }
    }
}
