//! What stands between a model and the vote: input validation, the degeneracy window, the feature fingerprint.

pub mod degeneracy;
pub mod fingerprint;
pub mod input;

pub use degeneracy::DegeneracyWindow;
pub use fingerprint::{Fingerprint, FingerprintLayout, FingerprintRing};
