//! Images: read into memory the host owns, checked, golden vectors held on this machine.

use anyhow::{Context as _, ensure};
use qsc_kernel::model::{Body, DecisionRule};
use qsc_kernel::{Model, Scratch};

use super::Candidate;
use super::config::{ModelConfig, ModelsConfig};
use super::panic_guard::PanicGuard;
use crate::identity;
use crate::image::ImageBytes;

/// The images of an ensemble, in model order; `Err` says why one could not be read.
pub struct Images(Vec<Result<ImageBytes, String>>);

impl Images {
    /// Reads the image of every model. A model whose image cannot be read stays out; the others go on.
    #[must_use]
    pub fn read(config: &ModelsConfig) -> Self {
        let read = |model: &ModelConfig| ImageBytes::read(&model.image).map_err(|error| format!("{error:#}"));
        Self(config.models.iter().map(read).collect())
    }

    /// Images that are in memory already, e.g. bundled ones.
    #[must_use]
    pub fn from_bytes(images: impl IntoIterator<Item = ImageBytes>) -> Self {
        Self(images.into_iter().map(Ok).collect())
    }

    /// Checks every image and runs its golden vectors; logs what was loaded, and why what was not.
    ///
    /// # Errors
    /// A model that loads but cannot vote: its outputs are no probabilities of known classes; another number of images
    /// than models.
    pub fn load<'images>(
        &'images self,
        config: &ModelsConfig,
        log: &mut dyn FnMut(String),
    ) -> anyhow::Result<Vec<Candidate<PanicGuard<Model<'images>>>>> {
        // A model without an image must not vanish from the ensemble unsaid.
        ensure!(
            self.0.len() == config.models.len(),
            "{} images were given for the {} models of MODELS.toml; give one for each",
            self.0.len(),
            config.models.len()
        );
        log(identity::log_line());
        let mut candidates = Vec::new();
        for (entry, image) in config.models.iter().zip(&self.0) {
            let tag = tag(&entry.name);
            log(format!("{tag} Model file: {}", entry.image.display()));
            let loaded = image.as_ref().map_err(Clone::clone).and_then(|bytes| {
                let model = check(bytes).map_err(|error| format!("{error:#}"))?;
                Ok((model, bytes.sha256()))
            });
            let candidate = match loaded {
                Ok((model, sha256)) => {
                    ensure!(
                        model.decision() != DecisionRule::None,
                        "model {:?} cannot vote, for its {} outputs ({}) are not probabilities of known classes; compile a \
                         classifier with --classes, or take the model out of MODELS.toml",
                        entry.name,
                        model.n_outputs(),
                        model.objective()
                    );
                    log(format!("{tag} Image sha256: {sha256}"));
                    log(format!("{tag} Expected feature_dim: {}", model.n_features()));
                    if model.seq_len() > 1 {
                        log(format!("{tag} Window: {} steps of every symbol", model.seq_len()));
                    }
                    if let Some((patches, steps)) = patches(&model) {
                        log(format!("{tag} Patch config: {patches} patches x {steps} timesteps"));
                    }
                    Candidate {
                        config: entry.clone(),
                        feature_names: model.feature_names().map(str::to_owned).collect(),
                        scratch_bytes: model.scratch_bytes(),
                        predictor: Some(PanicGuard(model)),
                    }
                }
                Err(reason) => {
                    log(format!("{tag} model_not_loaded: {reason}"));
                    Candidate {
                        config: entry.clone(),
                        feature_names: Vec::new(),
                        scratch_bytes: 0,
                        predictor: None,
                    }
                }
            };
            candidates.push(candidate);
        }
        Ok(candidates)
    }
}

/// What the lines of a model begin with: its name as the contract writes it.
fn tag(name: &str) -> String {
    if name.eq_ignore_ascii_case("patchtst") {
        "[PatchTST-INIT]".to_owned()
    } else {
        format!("[{}-INIT]", name.to_uppercase())
    }
}

/// How a PatchTST cuts its window: patches, and steps of a patch, from the shape of its embedding.
fn patches(model: &Model<'_>) -> Option<(usize, usize)> {
    let Body::Net(net) = model.body() else { return None };
    let channels = model.n_features();
    let named = |name: &str| net.layers().find(|layer| layer.name == name);
    if let Some(shared) = named("patch_embedding") {
        return Some((shared.rows, shared.width / channels));
    }
    let alone = named("embedder.input_embedding")?;
    // A class token is one more row of every channel.
    let patches = (alone.rows / channels).checked_sub(usize::from(named("cls_token").is_some()))?;
    Some((patches, alone.width))
}

/// A model that passed its check and gives its golden bits on this machine.
///
/// # Errors
/// Which of the two does not hold.
pub fn check(bytes: &ImageBytes) -> anyhow::Result<Model<'_>> {
    let model = Model::check(bytes.as_bytes()).context("the image was refused")?;
    let mut scratch = vec![0; model.scratch_bytes() + qsc_kernel::scratch::ALIGNMENT];
    model.check_golden(Scratch::new(&mut scratch)).context("the golden vectors do not hold")?;
    Ok(model)
}
