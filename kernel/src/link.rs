//! Outputs, and how margins become them.

use crate::image::records::link;
use crate::math::{exp, log1p_exp, sigmoid, softmax};
use crate::num::single;

/// One prediction, in the caller's scratch memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Output<'s> {
    /// Margins or logits, `[n_raw] f64`.
    pub raw: &'s [f64],
    /// Probabilities, values or forecasts, `[n_outputs] f32`.
    pub values: &'s [f32],
}

/// The link of a model: `n` margins or logits in f64 give `n` outputs in f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Link {
    function: Function,
    scale: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Identity,
    Sigmoid,
    Softmax,
    Exp,
    SignedSquare,
    Log1pExp,
    Step,
}

impl Link {
    /// The link of this number; `None` for an unknown one or a scale that is no positive finite number.
    pub(crate) fn parse(number: u32, scale: f64) -> Option<Self> {
        let function = match number {
            link::IDENTITY => Function::Identity,
            link::SIGMOID => Function::Sigmoid,
            link::SOFTMAX => Function::Softmax,
            link::EXP => Function::Exp,
            link::SIGNED_SQUARE => Function::SignedSquare,
            link::LOG1P_EXP => Function::Log1pExp,
            link::STEP => Function::Step,
            _ => return None,
        };
        (scale.is_finite() && scale > 0.0).then_some(Self { function, scale })
    }

    /// Whether outputs are from 0 to 1 and mean how likely something is.
    pub(crate) const fn gives_probabilities(self) -> bool {
        matches!(self.function, Function::Sigmoid | Function::Softmax)
    }

    /// Whether an output means that without others beside it: a softmax of one is always 1.
    pub(crate) const fn gives_one_probability(self) -> bool {
        matches!(self.function, Function::Sigmoid)
    }

    /// Fills `outputs` from `margins`, both `[groups]`.
    pub(crate) fn apply(self, margins: &[f64], outputs: &mut [f32]) {
        let largest = margins.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        for (&margin, output) in margins.iter().zip(outputs.iter_mut()) {
            let m = margin * self.scale;
            *output = match self.function {
                Function::Identity => single(m),
                // Subtracted before rounding to f32: large margins keep what tells them apart.
                Function::Softmax => single(m - largest * self.scale),
                Function::Sigmoid => sigmoid(single(m)),
                Function::Exp => exp(single(m)),
                Function::SignedSquare => single(if m < 0.0 { -(m * m) } else { m * m }),
                Function::Log1pExp => log1p_exp(single(m)),
                Function::Step => {
                    if m > 0.0 {
                        1.0
                    } else {
                        0.0
                    }
                }
            };
        }
        if self.function == Function::Softmax {
            softmax(outputs);
        }
    }
}
