//! Backends: which instructions a prediction uses. All of them give the same bits; the scalar one is the
//! specification.

mod float_environment;
mod sqrt;

pub(crate) use float_environment::with_default_float_environment;
pub(crate) use sqrt::sqrt;

/// Proof that this machine can run a backend: only this module can make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    tier: Tier,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tier {
    Scalar,
}

impl Backend {
    /// The specification: runs everywhere.
    pub const SCALAR: Self = Self { tier: Tier::Scalar };

    /// The fastest backend of this machine.
    #[must_use]
    pub const fn detect() -> Self {
        Self::SCALAR
    }

    /// The backends of this machine, slowest first.
    #[must_use]
    pub const fn available() -> &'static [Self] {
        &[Self::SCALAR]
    }

    /// The name `--backend` takes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.tier {
            Tier::Scalar => "scalar",
        }
    }
}
