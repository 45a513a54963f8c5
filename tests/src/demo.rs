//! The demo's four models as a kernel pipeline, and its events as bound features.

use qsc_kernel::ensemble::{Degeneracy, Ensemble, Feature, Member, Pipeline, Ppm, VoteRules, Window};
use qsc_kernel::guard::FingerprintLayout;
use qsc_kernel::{Backend, Model};

use crate::bundle::captured_features;

/// Weights of the bundled `MODELS.toml`.
const WEIGHTS: [u32; 4] = [250_000, 250_000, 300_000, 200_000];

/// The pipeline of the bundled models in memory of its own.
pub type DemoPipeline = Pipeline<Model<'static>, Vec<u16>, Vec<u8>, 4>;

/// The demo's ensemble and what it is asked.
pub struct Demo {
    /// Ready to decide.
    pub pipeline: DemoPipeline,
    /// The features of every bundled event, in the pipeline's order.
    pub events: Vec<Vec<Feature>>,
    /// Scratch memory of a decision, with what alignment may cost.
    pub scratch_bytes: usize,
}

impl Demo {
    /// On the fastest backend.
    #[must_use]
    pub fn new() -> Self {
        Self::on(Backend::detect())
    }

    /// On this backend.
    ///
    /// # Panics
    /// If a bundled file is damaged.
    #[must_use]
    pub fn on(backend: Backend) -> Self {
        let models: Vec<Model<'_>> = qsc_models::IMAGES
            .iter()
            .map(|(_, image)| Model::check(image).expect("bundled images are valid").with_backend(backend))
            .collect();
        let mut names: Vec<&str> = Vec::new();
        let mut bindings = Vec::new();
        for model in &models {
            let place = |name: &'static str| {
                let at = names.iter().position(|known| *known == name).unwrap_or_else(|| {
                    names.push(name);
                    names.len() - 1
                });
                u16::try_from(at).expect("a few features")
            };
            bindings.push(model.feature_names().map(place).collect::<Vec<u16>>());
        }
        let bytes = vec![0; FingerprintLayout::<Vec<u8>>::bytes(names.iter().copied()).expect("a few names")];
        let layout = FingerprintLayout::new(names.iter().copied(), bytes).expect("there is room");
        let mut pipeline = Pipeline::new(Ensemble::new(VoteRules::STANDARD, Degeneracy::Enforce), layout);
        let model_bytes = models.iter().map(Model::scratch_bytes).max().unwrap_or(0);
        for ((model, indices), weight) in models.into_iter().zip(bindings).zip(WEIGHTS) {
            let weight = Ppm::new(weight).expect("in range");
            pipeline.push(Member::new(Some(model), weight), indices).expect("four places");
        }
        let events = captured_features()
            .iter()
            .map(|features| {
                let value = |name: &&str| Feature::Number(features[name].as_f64().expect("a number") as f32);
                names.iter().map(value).collect()
            })
            .collect();
        let scratch_bytes = pipeline.scratch_bytes(model_bytes) + qsc_kernel::scratch::ALIGNMENT;
        Self { pipeline, events, scratch_bytes }
    }

    /// Empty windows for one symbol.
    ///
    /// # Panics
    /// Never: the memory is taken by what the pipeline says.
    #[must_use]
    pub fn windows(&self) -> Vec<Window<Vec<f32>>> {
        let window = |(seq_len, n_features)| {
            Window::new(seq_len, n_features, vec![0.0; 2 * seq_len * n_features]).expect("two windows")
        };
        self.pipeline.windows().map(window).collect()
    }
}

impl Default for Demo {
    fn default() -> Self {
        Self::new()
    }
}
