//! The packer: an intermediate tree model becomes an image, and the image is proven against it.
//!
//! | file | does |
//! | --- | --- |
//! | `ranks` | splits become slots and ranks |
//! | `tree` | what is left of each tree, with numbered leaves |
//! | `leaves` | leaf values become what is summed |
//! | `layout` | how trees are stored |
//! | `probe` | rows that visit thresholds from both sides, and the finished image on them |
//!
//! Nothing leaves here before the finished image, read back through the kernel's own check, agrees with the interpreter on
//! golden and probe rows.

mod layout;
mod leaves;
mod probe;
mod ranks;
mod tree;

use anyhow::{bail, ensure};
use bytemuck::{Zeroable as _, bytes_of};
use qsc_kernel::Action;
use qsc_kernel::image::SectionKind;
use qsc_kernel::image::records::{GroupRecord, ModelRecord, TreesRecord, compare, decision, kind, link};
use qsc_kernel::trees::TreeLayout;

use super::golden::{Vectors, read_back};
use super::ir::{Library, LibraryRules, Link, TreeModel};
use super::writer::{self, Strings, Writer};
use super::{DEAD_ZONE_HIGH, DEAD_ZONE_LOW};
use crate::image::ImageBytes;
use layout::{Shape, Trees};
use leaves::Leaves;
use ranks::Quantizer;
use tree::Forest;

/// Golden rows stored in an image: the first of the probes.
const STORED: usize = 16;

/// What the image says beyond the trained model.
#[derive(Clone, Debug)]
pub struct PackOptions {
    /// The model's name, e.g. `xgb`.
    pub name: String,
    /// Action of each class; `None` takes HOLD, BUY, SELL for three classes, a dead zone for one probability, and makes all else
    /// predict-only.
    pub classes: Option<Vec<Action>>,
    /// Keep the library's leaves and summation order: bit parity with its margins.
    pub exact: bool,
    /// Name of the trained file.
    pub source_file: String,
    /// SHA-256 of the trained file.
    pub source_sha256: [u8; 32],
}

/// Packs a tree model into an image and proves it.
///
/// # Errors
/// A model beyond the format's limits, classes that do not fit, or an image that does not agree with the model.
pub fn pack(model: &TreeModel, options: &PackOptions) -> anyhow::Result<ImageBytes> {
    pack_as(model, options, None)
}

/// As [`pack`], in a given layout instead of the one estimated to be fastest.
///
/// # Errors
/// Those of [`pack`], and a layout that cannot hold the model.
pub fn pack_as(
    model: &TreeModel,
    options: &PackOptions,
    layout: Option<TreeLayout>,
) -> anyhow::Result<ImageBytes> {
    ensure!(model.groups() > 0, "the model has no output");
    let quantizer = Quantizer::new(model)?;
    let forest = Forest::new(model, &quantizer)?;
    let leaves = Leaves::new(model, &forest.values, options.exact)?;
    let shape = Shape::new(&forest, &quantizer, &leaves);
    let layout = layout.unwrap_or_else(|| shape.cheapest());
    ensure!(shape.fits(layout), "the layout {layout} cannot hold the model");
    let trees = Trees::new(&forest, layout, &leaves)?;
    let decision = Decision::new(model, options.classes.as_deref())?;
    let rows = probe::rows(&quantizer, model.feature_names.len());

    // Without golden vectors first: the kernel itself says which bits they are.
    let image = Parts {
        model,
        options,
        quantizer: &quantizer,
        groups: &forest.ranges()?,
        trees: &trees,
        leaves: &leaves,
        decision: &decision,
    };
    let draft = image.write(&Vectors::default())?;
    let vectors = Vectors::of(&read_back(&draft)?, rows.iter().take(STORED))?;
    let finished = image.write(&vectors)?;
    probe::prove(&read_back(&finished)?, model, &rows, options.exact)?;
    Ok(finished)
}

/// How the outputs vote.
struct Decision {
    kind: u32,
    classes: Vec<u8>,
}

impl Decision {
    fn new(model: &TreeModel, classes: Option<&[Action]>) -> anyhow::Result<Self> {
        let groups = model.groups();
        let softmax = matches!(model.link, Link::Softmax);
        let probabilities = softmax || matches!(model.link, Link::Sigmoid { .. });
        // XGBoost's sigmoids of several outputs are those of labels that do not exclude each other.
        let exclusive = softmax || (probabilities && model.library == Library::LightGbm);
        let standard = [Action::Hold, Action::Buy, Action::Sell];
        let classes = match (groups, classes) {
            (_, Some(_)) if !probabilities || groups == 1 => {
                bail!(
                    "--classes needs one probability per class, but objective {} gives {groups} output(s)",
                    model.objective
                )
            }
            (_, Some(given)) if given.len() != groups => {
                bail!("--classes names {} classes, but the model has {groups}", given.len())
            }
            (_, Some(given)) => given,
            // A softmax of one is always 1.
            (1, None) if probabilities && !softmax => {
                return Ok(Self { kind: decision::DEAD_ZONE, classes: Vec::new() });
            }
            (3, None) if exclusive => &standard,
            _ => return Ok(Self { kind: decision::NONE, classes: Vec::new() }),
        };
        Ok(Self { kind: decision::CLASSES, classes: classes.iter().map(|action| action.code()).collect() })
    }
}

/// Everything an image is written from.
struct Parts<'a> {
    model: &'a TreeModel,
    options: &'a PackOptions,
    quantizer: &'a Quantizer,
    groups: &'a [(u32, u32)],
    trees: &'a Trees,
    leaves: &'a Leaves,
    decision: &'a Decision,
}

impl Parts<'_> {
    fn write(&self, vectors: &Vectors) -> anyhow::Result<ImageBytes> {
        let (model, options) = (self.model, self.options);
        let mut strings = Strings::default();
        let groups = u32::try_from(model.groups())?;
        let dead_zone = self.decision.kind == decision::DEAD_ZONE;
        let record = ModelRecord {
            n_features: u32::try_from(model.feature_names.len())?,
            seq_len: 1,
            n_raw: groups,
            n_outputs: groups,
            golden_rows: vectors.rows,
            scratch_bytes: self.scratch_bytes()?,
            decision: self.decision.kind,
            low: if dead_zone { DEAD_ZONE_LOW } else { 0.0 },
            high: if dead_zone { DEAD_ZONE_HIGH } else { 0.0 },
            max_abs_error: self.leaves.max_abs_error,
            name: strings.push(&options.name)?,
            source_file: strings.push(&options.source_file)?,
            library: strings.push(match model.library {
                Library::XgBoost => "xgboost",
                Library::LightGbm => "lightgbm",
            })?,
            library_version: strings.push(&model.version)?,
            objective: strings.push(&model.objective)?,
            source_sha256: options.source_sha256,
            ..ModelRecord::zeroed()
        };
        let names =
            model.feature_names.iter().map(|name| strings.push(name)).collect::<anyhow::Result<Vec<_>>>()?;
        let group_records = self.groups.iter().zip(&self.leaves.base);
        let group_records: Vec<GroupRecord> = group_records
            .map(|(&(first_tree, count), &base)| GroupRecord { base, first_tree, count })
            .collect();

        let mut writer = Writer::new(kind::TREES);
        writer.section(SectionKind::Model, bytes_of(&record));
        writer.section(SectionKind::Strings, strings.as_bytes());
        writer.slice(SectionKind::FeatureNames, &names);
        writer.section(SectionKind::Classes, &self.decision.classes);
        vectors.write(&mut writer);
        writer.section(SectionKind::Trees, bytes_of(&self.trees_record()));
        writer.slice(SectionKind::Features, &self.quantizer.features);
        writer.slice(SectionKind::Thresholds, &self.quantizer.thresholds);
        writer.slice(SectionKind::Slots, &self.quantizer.slots);
        writer.slice(SectionKind::Categories, &self.quantizer.categories);
        writer.slice(SectionKind::Groups, &group_records);
        self.trees.write(&mut writer, self.leaves);
        writer.finish()
    }

    fn trees_record(&self) -> TreesRecord {
        let model = self.model;
        let (link, scale) = match model.link {
            Link::Identity => (link::IDENTITY, 1.0),
            Link::Sigmoid { scale } => (link::SIGMOID, scale),
            Link::Softmax => (link::SOFTMAX, 1.0),
            Link::Exp => (link::EXP, 1.0),
            Link::SignedSquare => (link::SIGNED_SQUARE, 1.0),
            Link::Log1pExp => (link::LOG1P_EXP, 1.0),
            Link::Step => (link::STEP, 1.0),
        };
        TreesRecord {
            rank_bits: self.quantizer.rank_bits,
            sum: self.leaves.sum,
            scale_log2: self.leaves.scale_log2,
            link,
            link_scale: scale / model.average.map_or(1.0, f64::from),
            compare: match model.rules {
                LibraryRules::XgBoost => compare::LESS,
                LibraryRules::LightGbm => compare::LESS_EQUAL,
            },
            layout: self.trees.layout.code(),
        }
    }

    /// As `FORMAT.md` defines it: margins, outputs and ranks, each padded to 64 bytes.
    fn scratch_bytes(&self) -> anyhow::Result<u32> {
        let groups = self.model.groups();
        let slots = self.quantizer.slots.len();
        let ranks = if self.quantizer.rank_bits == 8 { slots.max(256) } else { slots * 2 };
        writer::scratch_bytes(&[groups * 8, groups * 4, ranks])
    }
}
