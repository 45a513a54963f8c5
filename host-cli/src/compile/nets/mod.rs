//! Networks from safetensors files: importers, exact folding, quantization, and the proof of what it costs.
//!
//! | file | does |
//! | --- | --- |
//! | [`ir`] | the intermediate network every importer produces |
//! | `tensors` | the file: every tensor by name and shape, none left over |
//! | `config` | the config beside it: architecture, shapes, preprocessing, decision |
//! | `patchtst`, `hugging_face`, `simple_nhits`, `nhits` | one architecture each |
//! | `builder` | hands out regions of the arena while steps are written |
//! | `fold` | neighbouring linear maps into one: norms, pools, interpolations |
//! | [`reference`](mod@reference) | the network in f64: its meaning, and where error comes from |
//! | [`mod@pack`] | the network becomes an image |
//! | `measure` | the image against the network |

mod builder;
mod config;
mod fold;
mod hugging_face;
pub mod ir;
mod measure;
mod nhits;
pub mod pack;
mod patchtst;
pub mod reference;
mod simple_nhits;
mod tensors;

use anyhow::{Result, bail};
use qsc_kernel::Action;
use serde_json::Value;

use config::Architecture;
use ir::{NetDecision, NetLink, NetModel};
use tensors::Tensors;

/// Which family of networks a caller expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `PatchTSTModel` and `PatchTSTForClassification`.
    PatchTst,
    /// `SimpleNHiTS` and `NHITS`.
    NHits,
}

/// True for bytes that begin as a safetensors file does: a length, then a JSON object.
#[must_use]
pub fn is_safetensors(bytes: &[u8]) -> bool {
    bytes.get(8) == Some(&b'{') && bytes.get(6..8) == Some(&[0, 0])
}

/// Reads a trained network from the bytes of a safetensors file and of its config.
///
/// # Errors
/// One sentence that names the tensor, key or option that is damaged, missing or not supported.
pub fn import(bytes: &[u8], config: Option<&Value>, family: Option<Family>) -> Result<NetModel> {
    let tensors = Tensors::read(bytes)?;
    let architecture = match config {
        Some(config) => Architecture::of(config)?,
        // neuralforecast's files say everything in their own header.
        None if tensors.metadata("model_class").is_some() => Architecture::NHits,
        None => bail!("the file does not say its architecture; give its config with --config config.json"),
    };
    let found = match architecture {
        Architecture::PatchTst | Architecture::HuggingFacePatchTst => Family::PatchTst,
        Architecture::SimpleNHits | Architecture::NHits => Family::NHits,
    };
    if family.is_some_and(|family| family != found) {
        bail!("the config's architecture is of another family than --from names; leave --from away");
    }
    let model = match (architecture, config) {
        (Architecture::PatchTst, Some(config)) => patchtst::import(&tensors, config)?,
        (Architecture::HuggingFacePatchTst, Some(config)) => hugging_face::import(&tensors, config)?,
        (Architecture::SimpleNHits, Some(config)) => simple_nhits::import(&tensors, config)?,
        (_, config) => nhits::import(&tensors, config)?,
    };
    tensors.all_used()?;
    Ok(model)
}

impl NetModel {
    /// The same network with these actions for its classes.
    ///
    /// # Errors
    /// It gives no probability per class, or another number of them.
    pub fn with_classes(self, classes: &[Action]) -> Result<Self> {
        let outputs = self.output.len;
        if self.link != NetLink::Softmax {
            bail!(
                "--classes needs one probability per class, but {} gives {outputs} output(s)",
                self.architecture
            );
        }
        if classes.len() != outputs {
            bail!("--classes names {} classes, but the model has {outputs}", classes.len());
        }
        Ok(Self { decision: NetDecision::Classes(classes.to_vec()), ..self })
    }
}
