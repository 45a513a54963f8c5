//! Where the time of a decision or a prediction goes: a hook called once a stage. It is no type parameter, so that predictions are
//! compiled once, here, and not again by every listener.

/// A part of the work; `qsc bench` prints the share of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Stage {
    /// Features became a member's validated row.
    Bind,
    /// Member `.0` predicted.
    Member(usize),
    /// A member's degeneracy window was kept up.
    Guards,
    /// The feature vector was hashed.
    Fingerprint,
    /// The votes were counted.
    Vote,
    /// Trees: a row became ranks.
    Quantize,
    /// Trees: leaves were found and summed.
    Walk,
    /// Network: step `.0` of [`crate::nets::Net::layers`] ran. A ReLU behind an 8-bit layer has run with it.
    Step(usize),
    /// Margins or logits became outputs.
    Link,
}

/// What hears that a stage has ended. `()` hears nothing.
pub trait Observer {
    /// The work since the last call was `stage`.
    fn ended(&mut self, stage: Stage);
}

impl Observer for () {
    fn ended(&mut self, _stage: Stage) {}
}
