//! A checked model: what it is, what it predicts, and the golden vectors that prove a machine predicts its rows right.

use crate::answer::Action;
use crate::error::{BatchError, GoldenError, ImageError, PredictError};
use crate::image::records::{DecileRecord, MAX_GOLDEN_ROWS, ModelRecord, StringRef, decision, kind};
use crate::image::{SectionKind, Sections};
use crate::link::{Link, Output};
use crate::nets::Net;
use crate::num::index;
use crate::observe::Observer;
use crate::rows::{copy, each_row, each_row_mut};
use crate::scratch::Scratch;
use crate::simd::{Backend, with_default_float_environment};
use crate::trees::Trees;

/// A model image that passed its check. Borrows the image: a clone copies some hundred bytes.
#[derive(Clone, Debug)]
pub struct Model<'image> {
    record: &'image ModelRecord,
    digest: &'image [u8; 32],
    version: (u16, u16),
    bytes: usize,
    strings: &'image str,
    feature_names: &'image [StringRef],
    classes: &'image [u8],
    decision: DecisionRule,
    golden: Golden<'image>,
    deciles: &'image [DecileRecord],
    body: Body<'image>,
    backend: Backend,
}

/// What a model computes with.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[cfg_attr(
    not(feature = "nets"),
    allow(clippy::large_enum_variant, reason = "the other variant has no value at all")
)]
pub enum Body<'image> {
    /// A tree ensemble.
    Trees(Trees<'image>),
    /// A network.
    Net(Net<'image>),
}

/// How a model's outputs become an action.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum DecisionRule {
    /// They do not: the model cannot vote.
    None,
    /// The most probable class, first of equals.
    Classes,
    /// One probability: above `high` BUY, below `low` SELL, between no answer.
    DeadZone {
        /// Below: SELL.
        low: f32,
        /// Above: BUY.
        high: f32,
    },
    /// A forecast's return over its horizon: above `high` BUY, below `low` SELL, between HOLD.
    HorizonReturn {
        /// Below: SELL. Negative.
        low: f32,
        /// Above: BUY. Positive.
        high: f32,
    },
}

#[derive(Clone, Copy, Debug)]
struct Golden<'image> {
    rows: &'image [f32],
    raw: &'image [u64],
    outputs: &'image [u32],
}

impl<'image> Model<'image> {
    /// Checks an image and borrows it. `bytes` must start on a 64-byte boundary.
    ///
    /// The image is treated as hostile: every index, offset, size and the digest are checked here, so that
    /// predictions cannot leave its bounds. Golden vectors are checked by [`Model::check_golden`].
    ///
    /// # Errors
    /// The first thing found wrong.
    ///
    /// ```
    /// use qsc_kernel::{ImageError, Model};
    ///
    /// let model = Model::check(qsc_models::XGB)?;
    /// assert_eq!((model.name(), model.n_features(), model.seq_len()), ("xgb", 23, 1));
    /// let (expected, actual) = (qsc_models::XGB.len() as u64, 4096);
    /// let cut = Model::check(&qsc_models::XGB[..4096]);
    /// assert_eq!(cut.unwrap_err(), ImageError::Length { expected, actual });
    /// # Ok::<(), ImageError>(())
    /// ```
    pub fn check(bytes: &'image [u8]) -> Result<Self, ImageError> {
        let sections = Sections::check(bytes)?;
        let header = sections.header();
        let record: &ModelRecord = sections.record(SectionKind::Model)?;
        let body = match header.kind {
            kind::TREES => Body::Trees(Trees::check(&sections, record)?),
            kind::NET => Body::Net(Net::check(&sections, record)?),
            other => return Err(ImageError::Kind(other)),
        };
        let strings = core::str::from_utf8(sections.slice(SectionKind::Strings)?)
            .map_err(|_| ImageError::Invalid(SectionKind::Strings))?;
        let model = Self {
            record,
            digest: &header.sha256,
            version: (header.version_major, header.version_minor),
            bytes: bytes.len(),
            strings,
            feature_names: sections.exactly(SectionKind::FeatureNames, index(record.n_features))?,
            classes: sections.slice(SectionKind::Classes)?,
            decision: decision_rule(record).ok_or(ImageError::Invalid(SectionKind::Model))?,
            golden: golden(&sections, record)?,
            deciles: sections.optional(SectionKind::Deciles)?,
            body,
            backend: Backend::detect(),
        };
        model.texts_hold()?;
        model.classes_hold()?;
        model.deciles_hold()?;
        Ok(model)
    }

    /// The same model on another backend: same bits, other speed.
    #[must_use]
    pub fn with_backend(self, backend: Backend) -> Self {
        Self { backend, ..self }
    }

    /// Predicts one row, `[seq_len, n_features] f32` in C order.
    ///
    /// To a tree model NaN is a missing value and infinities are ordinary values; a network takes neither.
    ///
    /// # Errors
    /// A row of another length, scratch memory smaller than [`Model::scratch_bytes`], a value a network cannot take, or memory that
    /// changed after its check.
    ///
    /// ```
    /// use qsc_kernel::ensemble::ConfidenceRule;
    /// use qsc_kernel::{Model, Scratch};
    ///
    /// let model = Model::check(qsc_models::XGB)?;
    /// let mut memory = vec![0; model.scratch_bytes() + 63];
    /// let row = vec![0.5; model.row_len()];
    /// let output = model.predict(&row, Scratch::new(&mut memory))?;
    /// let prediction = model.decide(&row, &output, ConfidenceRule::Max);
    /// assert!(prediction.is_ok_and(|prediction| prediction.confidence() >= 1.0 / 3.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn predict<'s>(&self, row: &[f32], scratch: Scratch<'s>) -> Result<Output<'s>, PredictError> {
        self.predict_observed(row, scratch, &mut ())
    }

    /// The same, telling `observer` where the time goes.
    ///
    /// # Errors
    /// As [`Model::predict`].
    pub fn predict_observed<'s>(
        &self,
        row: &[f32],
        scratch: Scratch<'s>,
        observer: &mut dyn Observer,
    ) -> Result<Output<'s>, PredictError> {
        let expected = self.row_len();
        if row.len() != expected {
            return Err(PredictError::RowLength { expected, actual: row.len() });
        }
        with_default_float_environment(|| match &self.body {
            Body::Trees(trees) => trees.predict(row, scratch, self.backend, observer),
            Body::Net(net) => net.predict(row, scratch, self.backend, observer),
        })
    }

    /// Predicts `rows`, `[n, row_len] f32`, into `raw`, `[n, n_raw]`, and `values`, `[n, n_outputs]`, with the bits that
    /// [`Model::predict`] gives row by row.
    ///
    /// Trees take 256 rows at a time, which is faster from about ten rows on; networks take row by row.
    ///
    /// # Errors
    /// Slices that are not of the same number of rows, scratch memory smaller than [`Model::batch_scratch_bytes`], a
    /// value a network cannot take, or memory that changed after its check. After an error the outputs are undefined.
    ///
    /// ```
    /// use qsc_kernel::{Model, Scratch};
    ///
    /// let model = Model::check(qsc_models::LGBM)?;
    /// let rows = vec![0.5; 100 * model.row_len()];
    /// let (mut raw, mut values) = (vec![0.0; 100 * model.n_raw()], vec![0.0; 100 * model.n_outputs()]);
    /// let mut memory = vec![0; model.batch_scratch_bytes() + 63];
    /// model.predict_batch(&rows, &mut raw, &mut values, Scratch::new(&mut memory))?;
    /// assert_eq!(values[..3], values[297..]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn predict_batch(
        &self,
        rows: &[f32],
        raw: &mut [f64],
        values: &mut [f32],
        mut scratch: Scratch<'_>,
    ) -> Result<(), BatchError> {
        let (row_len, n_raw, n_outputs) = (self.row_len(), self.n_raw(), self.n_outputs());
        let n = rows.len().checked_div(row_len).unwrap_or(0);
        let whole = |len: usize, per_row: usize| n.checked_mul(per_row) == Some(len);
        if !whole(rows.len(), row_len) || !whole(raw.len(), n_raw) || !whole(values.len(), n_outputs) {
            return Err(BatchError::Lengths);
        }
        match &self.body {
            Body::Trees(trees) => with_default_float_environment(|| {
                trees.predict_batch(rows, raw, values, scratch, self.backend)
            }),
            Body::Net(_) => {
                let outputs = each_row_mut(raw, n_raw).zip(each_row_mut(values, n_outputs));
                for (row, (input, (raw, values))) in each_row(rows, row_len).zip(outputs).enumerate() {
                    let output = self
                        .predict(input, scratch.reborrow())
                        .map_err(|error| BatchError::Row { row, error })?;
                    copy(output.raw, raw).ok_or(BatchError::Lengths)?;
                    copy(output.values, values).ok_or(BatchError::Lengths)?;
                }
                Ok(())
            }
        }
    }

    /// Predicts every golden row, one by one, and compares all bits with those the compiler recorded. Batches take another path, with
    /// the same bits, which is not run here.
    ///
    /// # Errors
    /// The first row that differs or cannot be predicted; an image without golden rows.
    pub fn check_golden(&self, mut scratch: Scratch<'_>) -> Result<(), GoldenError> {
        if self.golden_rows() == 0 {
            return Err(GoldenError::Absent);
        }
        let raw_bits = each_row(self.golden.raw, self.n_raw());
        let output_bits = each_row(self.golden.outputs, self.n_outputs());
        let rows = each_row(self.golden.rows, self.row_len());
        for (row, (values, (raw, outputs))) in rows.zip(raw_bits.zip(output_bits)).enumerate() {
            let got = self.predict(values, scratch.reborrow()).map_err(GoldenError::Predict)?;
            let same = got.raw.iter().map(|v| v.to_bits()).eq(raw.iter().copied())
                && got.values.iter().map(|v| v.to_bits()).eq(outputs.iter().copied());
            if !same {
                return Err(GoldenError::Mismatch { row });
            }
        }
        Ok(())
    }

    /// The model's name, e.g. `xgb`.
    #[must_use]
    pub fn name(&self) -> &'image str {
        self.text(self.record.name)
    }

    /// File the image was compiled from.
    #[must_use]
    pub fn source_file(&self) -> &'image str {
        self.text(self.record.source_file)
    }

    /// Library that trained the model.
    #[must_use]
    pub fn library(&self) -> &'image str {
        self.text(self.record.library)
    }

    /// Version of that library.
    #[must_use]
    pub fn library_version(&self) -> &'image str {
        self.text(self.record.library_version)
    }

    /// Objective or architecture, in the library's words.
    #[must_use]
    pub fn objective(&self) -> &'image str {
        self.text(self.record.objective)
    }

    /// SHA-256 of the source file.
    #[must_use]
    pub const fn source_sha256(&self) -> &'image [u8; 32] {
        &self.record.source_sha256
    }

    /// The digest in the image's header: SHA-256 of all bytes but its own.
    #[must_use]
    pub const fn digest(&self) -> &'image [u8; 32] {
        self.digest
    }

    /// Format version, major and minor.
    #[must_use]
    pub const fn format_version(&self) -> (u16, u16) {
        self.version
    }

    /// Size of the image in bytes.
    #[must_use]
    pub const fn image_bytes(&self) -> usize {
        self.bytes
    }

    /// Scratch memory one prediction needs, in bytes.
    #[must_use]
    pub const fn scratch_bytes(&self) -> usize {
        index(self.record.scratch_bytes)
    }

    /// Scratch memory a batch of any number of rows needs, in bytes.
    #[must_use]
    pub fn batch_scratch_bytes(&self) -> usize {
        match &self.body {
            Body::Trees(trees) => trees.batch_scratch_bytes(),
            Body::Net(_) => self.scratch_bytes(),
        }
    }

    /// Features per step.
    #[must_use]
    pub const fn n_features(&self) -> usize {
        index(self.record.n_features)
    }

    /// Time steps of a row; 1 for tabular models.
    #[must_use]
    pub const fn seq_len(&self) -> usize {
        index(self.record.seq_len)
    }

    /// Values of a row: `seq_len · n_features`.
    #[must_use]
    pub const fn row_len(&self) -> usize {
        self.seq_len().saturating_mul(self.n_features())
    }

    /// Margins or logits per row.
    #[must_use]
    pub const fn n_raw(&self) -> usize {
        index(self.record.n_raw)
    }

    /// Outputs per row.
    #[must_use]
    pub const fn n_outputs(&self) -> usize {
        index(self.record.n_outputs)
    }

    /// Names of the features, in row order.
    pub fn feature_names(&self) -> impl ExactSizeIterator<Item = &'image str> + use<'image> {
        let strings = self.strings;
        self.feature_names.iter().map(move |&at| text(strings, at).unwrap_or_default())
    }

    /// Actions of the classes, in output order; none for models without classes.
    pub fn classes(&self) -> impl Iterator<Item = Action> + use<'image> {
        // `classes_hold` has seen that every code is an action's: none is left out.
        self.classes.iter().filter_map(|&code| Action::from_code(code))
    }

    /// The action of output `at`.
    pub(crate) fn class(&self, at: usize) -> Option<Action> {
        self.classes.get(at).and_then(|&code| Action::from_code(code))
    }

    /// Where the training values of each feature lie, in row order; empty unless the model was calibrated.
    #[must_use]
    pub const fn deciles(&self) -> &'image [DecileRecord] {
        self.deciles
    }

    /// How outputs become an action.
    #[must_use]
    pub const fn decision(&self) -> DecisionRule {
        self.decision
    }

    /// Trees: proven bound of |raw output as f32 − exact sum of the trained leaves|; NaN for networks.
    #[must_use]
    pub const fn max_abs_error(&self) -> f64 {
        self.record.max_abs_error
    }

    /// Golden vectors in the image.
    #[must_use]
    pub const fn golden_rows(&self) -> usize {
        index(self.record.golden_rows)
    }

    /// The golden rows, `[golden_rows, seq_len, n_features] f32`.
    #[must_use]
    pub const fn golden_inputs(&self) -> &'image [f32] {
        self.golden.rows
    }

    /// What the model computes with.
    #[must_use]
    pub const fn body(&self) -> &Body<'image> {
        &self.body
    }

    /// The backend predictions run on.
    #[must_use]
    pub const fn backend(&self) -> Backend {
        self.backend
    }

    const fn link(&self) -> Link {
        match &self.body {
            Body::Trees(trees) => trees.link(),
            Body::Net(net) => net.link(),
        }
    }

    fn text(&self, at: StringRef) -> &'image str {
        text(self.strings, at).unwrap_or_default()
    }

    /// Every reference into the strings holds, so that the accessors cannot fail.
    fn texts_hold(&self) -> Result<(), ImageError> {
        let record = self.record;
        let own = [record.name, record.source_file, record.library, record.library_version, record.objective];
        let mut all = own.iter().chain(self.feature_names);
        if all.all(|&at| text(self.strings, at).is_some()) {
            Ok(())
        } else {
            Err(ImageError::Invalid(SectionKind::Strings))
        }
    }

    /// Deciles are of every feature or of none; they ascend, are finite, and bound at least one training value.
    fn deciles_hold(&self) -> Result<(), ImageError> {
        let holds = |record: &DecileRecord| {
            let ascending = record.edges.is_sorted() && record.edges.iter().all(|edge| edge.is_finite());
            ascending && record.counts.iter().any(|&count| count > 0)
        };
        let complete = self.deciles.is_empty() || self.deciles.len() == self.n_features();
        if complete && self.deciles.iter().all(holds) {
            Ok(())
        } else {
            Err(ImageError::Invalid(SectionKind::Deciles))
        }
    }

    /// Classes are there exactly where the decision needs them, one action per output; a vote by probabilities has some, and the
    /// one that a softmax gives is none.
    fn classes_hold(&self) -> Result<(), ImageError> {
        let expected = if self.decision == DecisionRule::Classes { self.n_outputs() } else { 0 };
        let known = self.classes.iter().all(|&code| Action::from_code(code).is_some());
        let outputs_fit = match self.decision {
            DecisionRule::DeadZone { .. } => self.n_outputs() == 1 && self.link().gives_one_probability(),
            // The return is taken from the row's last value.
            DecisionRule::HorizonReturn { .. } => self.n_features() == 1,
            DecisionRule::Classes => self.n_outputs() > 1 && self.link().gives_probabilities(),
            DecisionRule::None => true,
        };
        if self.classes.len() == expected && known && outputs_fit {
            Ok(())
        } else {
            Err(ImageError::Invalid(SectionKind::Classes))
        }
    }
}

fn text(strings: &str, at: StringRef) -> Option<&str> {
    strings.get(index(at.offset)..)?.get(..index(at.len))
}

fn decision_rule(record: &ModelRecord) -> Option<DecisionRule> {
    let (low, high) = (record.low, record.high);
    let no_zone = low.to_bits() == 0 && high.to_bits() == 0;
    match record.decision {
        decision::NONE if no_zone => Some(DecisionRule::None),
        decision::CLASSES if no_zone => Some(DecisionRule::Classes),
        decision::DEAD_ZONE if 0.0 <= low && low <= high && high <= 1.0 => {
            Some(DecisionRule::DeadZone { low, high })
        }
        decision::HORIZON_RETURN if low < 0.0 && 0.0 < high && low.is_finite() && high.is_finite() => {
            Some(DecisionRule::HorizonReturn { low, high })
        }
        _ => None,
    }
    .filter(|_| record.reserved == 0 && record.n_features > 0 && record.n_outputs > 0 && record.seq_len > 0)
}

fn golden<'image>(sections: &Sections<'image>, record: &ModelRecord) -> Result<Golden<'image>, ImageError> {
    if record.golden_rows > MAX_GOLDEN_ROWS {
        return Err(ImageError::Invalid(SectionKind::Model));
    }
    let count = |per_row: u32| index(record.golden_rows).checked_mul(index(per_row));
    let of = |kind| move |count: Option<usize>| count.ok_or(ImageError::Invalid(kind));
    let row_len = record.seq_len.checked_mul(record.n_features).and_then(count);
    let rows = of(SectionKind::GoldenRows)(row_len)?;
    let raw = of(SectionKind::GoldenRaw)(count(record.n_raw))?;
    let outputs = of(SectionKind::GoldenOutputs)(count(record.n_outputs))?;
    Ok(Golden {
        rows: sections.exactly(SectionKind::GoldenRows, rows)?,
        raw: sections.exactly(SectionKind::GoldenRaw, raw)?,
        outputs: sections.exactly(SectionKind::GoldenOutputs, outputs)?,
    })
}
