//! Backends: which instructions a prediction uses. All of them give the same bits; the scalar one is the
//! specification.
//!
//! A backend is chosen once, when a model is loaded, and matched where its instructions are entered: once for a row's ranks, once for each
//! group of trees, once for each layer. Its token is the proof that this
//! machine has the instructions: only `detect` can make one.

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
pub(crate) mod avx2;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
pub(crate) mod avx512;
#[cfg(any(
    all(target_arch = "x86_64", target_feature = "sse2"),
    all(target_arch = "aarch64", target_feature = "neon")
))]
mod blocks;
mod detect;
mod float_environment;
mod lanes;
#[cfg(any(
    all(target_arch = "x86_64", target_feature = "sse2"),
    all(target_arch = "aarch64", target_feature = "neon")
))]
mod masks;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
pub(crate) mod neon;
mod sqrt;
#[cfg(any(target_feature = "sse2", target_feature = "neon", target_feature = "simd128"))]
pub(crate) mod wide;

pub(crate) use float_environment::with_default_float_environment;
#[cfg(test)]
pub(crate) use float_environment::with_hostile_float_environment;
#[cfg(test)]
pub(crate) use lanes::Scalar;
pub(crate) use lanes::{Block, Elementwise, Function, LANES, Simd, Single, Work, dispatch};
pub(crate) use sqrt::sqrt;

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
pub(crate) use detect::{Avx2, Avx512};

#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
pub(crate) use detect::Neon;

/// Proof that this machine can run a backend: only this module can make one.
///
/// ```
/// use qsc_kernel::{Backend, Model, Scratch};
///
/// let model = Model::check(qsc_models::XGB)?;
/// let (row, mut memory) = (vec![0.5; model.row_len()], vec![0; model.scratch_bytes() + 63]);
/// let expected = model.clone().with_backend(Backend::SCALAR).predict(&row, Scratch::new(&mut memory))?.raw.to_vec();
/// for backend in Backend::available() {
///     let model = model.clone().with_backend(backend);
///     assert_eq!(model.predict(&row, Scratch::new(&mut memory))?.raw, expected, "{}", backend.name());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    tier: Tier,
}

/// What a backend runs on; the tokens of SIMD tiers cannot be made without asking the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    /// Plain code, the specification.
    Scalar,
    /// Portable SIMD of the `wide` crate: the instructions the whole build was compiled for.
    Wide,
    /// AVX2 with BMI1, BMI2, LZCNT and POPCNT (x86-64-v3 without its FMA, which nothing here may use).
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    Avx2(Avx2),
    /// AVX-512 F, BW, VL, DQ, CD, VBMI and VNNI: Ice Lake, Zen 4 and later.
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    Avx512(Avx512),
    /// NEON, part of every AArch64.
    #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
    Neon(Neon),
}

impl Backend {
    /// The specification: runs everywhere.
    pub const SCALAR: Self = Self { tier: Tier::Scalar };

    /// The fastest backend of this machine.
    #[must_use]
    pub fn detect() -> Self {
        Self::available().last().unwrap_or(Self::SCALAR)
    }

    /// The backends of this machine, slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        let native = detect::native().into_iter().flatten();
        [Tier::Scalar, Tier::Wide].into_iter().chain(native).map(|tier| Self { tier })
    }

    /// The name `--backend` takes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.tier {
            Tier::Scalar => "scalar",
            Tier::Wide => "wide",
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            Tier::Avx2(_) => "avx2",
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
            Tier::Avx512(_) => "avx512",
            #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
            Tier::Neon(_) => "neon",
        }
    }

    /// What a prediction is to run on.
    pub(crate) const fn tier(self) -> Tier {
        self.tier
    }
}
