//! The packer: an intermediate tree model becomes an image, and the image is proven against it.
//!
//! `ranks` turns splits into slots and ranks, `leaves` turns leaf values into what is summed, `golden` chooses
//! rows, `writer` lays sections out. Nothing leaves here before the finished image, read back through the
//! kernel's own check, agrees with the interpreter on golden and probe rows.

mod golden;
mod leaves;
mod ranks;
pub(super) mod writer;

use anyhow::{Context as _, bail, ensure};
use bytemuck::{Zeroable as _, bytes_of};
use qsc_kernel::image::SectionKind;
use qsc_kernel::image::records::{
    GroupRecord, LEAF, ModelRecord, NodeRecord, TreeRecord, TreesRecord, compare, decision, kind, link,
};
use qsc_kernel::{Action, Model, Scratch};

use super::ir::{Library, LibraryRules, Link, TreeModel};
use crate::image::ImageBytes;
use leaves::Leaves;
use ranks::{Quantizer, RankedNode};
use writer::{Strings, Writer};

/// Outputs below this are SELL for a one-probability model.
const DEAD_ZONE_LOW: f32 = 0.4;
/// Outputs above this are BUY for a one-probability model.
const DEAD_ZONE_HIGH: f32 = 0.6;

/// What the image says beyond the trained model.
#[derive(Clone, Debug)]
pub struct PackOptions {
    /// The model's name, e.g. `xgb`.
    pub name: String,
    /// Action of each class; `None` takes HOLD, BUY, SELL for three classes and makes other counts predict-only.
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
    let groups = model.groups();
    ensure!(groups > 0, "the model has no output");
    let quantizer = Quantizer::new(model)?;
    let plain = PlainLayout::new(model, &quantizer)?;
    let leaves = Leaves::new(model, &plain.leaf_values, options.exact)?;
    let decision = Decision::new(model, options.classes.as_deref())?;
    let rows = golden::rows(&quantizer, model.feature_names.len());

    // Without golden vectors first: the kernel itself says which bits they are.
    let image =
        Parts { model, options, quantizer: &quantizer, plain: &plain, leaves: &leaves, decision: &decision };
    let draft = image.write(&golden::Vectors::default())?;
    let vectors = golden::record(&check(&draft)?, &rows)?;
    let finished = image.write(&vectors)?;
    golden::prove(&check(&finished)?, model, &rows, options.exact)?;
    Ok(finished)
}

/// Reads an image of this process back; a refusal is a defect of the packer, not of the input.
fn check(image: &ImageBytes) -> anyhow::Result<Model<'_>> {
    Model::check(image.as_bytes())
        .context("the packed image does not pass its own check; please report this model")
}

/// Trees in group order, nodes in breadth-first order with children side by side.
struct PlainLayout {
    groups: Vec<(u32, u32)>,
    trees: Vec<TreeRecord>,
    nodes: Vec<NodeRecord>,
    /// Value of each leaf, and for each tree the number of its first.
    leaf_values: leaves::LeafValues,
}

impl PlainLayout {
    fn new(model: &TreeModel, quantizer: &Quantizer) -> anyhow::Result<Self> {
        let mut layout = Self {
            groups: Vec::new(),
            trees: Vec::new(),
            nodes: Vec::new(),
            leaf_values: leaves::LeafValues::default(),
        };
        for group in 0..model.groups() {
            let first = u32::try_from(layout.trees.len())?;
            for tree in model.trees.iter().filter(|tree| tree.group == group) {
                layout.push(&quantizer.tree(tree)?)?;
            }
            let count = u32::try_from(layout.trees.len())? - first;
            layout.groups.push((first, count));
            layout.leaf_values.end_group();
        }
        Ok(layout)
    }

    fn push(&mut self, ranked: &[RankedNode]) -> anyhow::Result<()> {
        let first_node = u32::try_from(self.nodes.len()).context("more than 2^32 nodes")?;
        // Places are handed out breadth-first; `order[i]` is the ranked node at place i.
        let mut order = vec![0_usize];
        let mut at = 0;
        while at < order.len() {
            if let RankedNode::Split { left, right, .. } = ranked[order[at]] {
                order.extend([left, right]);
            }
            at += 1;
        }
        let mut next_child = 1_u32;
        for &node in &order {
            self.nodes.push(match ranked[node] {
                RankedNode::Leaf(value) => {
                    NodeRecord { slot: LEAF, rank: 0, child: self.leaf_values.push(value)? }
                }
                RankedNode::Split { slot, rank, .. } => {
                    let child = next_child;
                    next_child += 2;
                    NodeRecord { slot, rank, child }
                }
            });
        }
        self.leaf_values.end_tree();
        self.trees.push(TreeRecord { first_node, count: u32::try_from(order.len())? });
        Ok(())
    }
}

/// How the outputs vote.
struct Decision {
    kind: u32,
    classes: Vec<u8>,
}

impl Decision {
    fn new(model: &TreeModel, classes: Option<&[Action]>) -> anyhow::Result<Self> {
        let groups = model.groups();
        let probabilities = matches!(model.link, Link::Sigmoid { .. } | Link::Softmax);
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
            (1, None) if probabilities => return Ok(Self { kind: decision::DEAD_ZONE, classes: Vec::new() }),
            (3, None) if probabilities => &standard,
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
    plain: &'a PlainLayout,
    leaves: &'a Leaves,
    decision: &'a Decision,
}

impl Parts<'_> {
    fn write(&self, vectors: &golden::Vectors) -> anyhow::Result<ImageBytes> {
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
        let group_records = self.plain.groups.iter().zip(&self.leaves.base);
        let group_records: Vec<GroupRecord> = group_records
            .map(|(&(first_tree, count), &base)| GroupRecord { base, first_tree, count })
            .collect();

        let mut writer = Writer::new(kind::TREES);
        writer.section(SectionKind::Model, bytes_of(&record));
        writer.section(SectionKind::Strings, strings.as_bytes());
        writer.slice(SectionKind::FeatureNames, &names);
        writer.section(SectionKind::Classes, &self.decision.classes);
        writer.slice(SectionKind::GoldenRows, &vectors.inputs);
        writer.slice(SectionKind::GoldenRaw, &vectors.raw);
        writer.slice(SectionKind::GoldenOutputs, &vectors.outputs);
        writer.section(SectionKind::Trees, bytes_of(&self.trees_record()));
        writer.slice(SectionKind::Features, &self.quantizer.features);
        writer.slice(SectionKind::Thresholds, &self.quantizer.thresholds);
        writer.slice(SectionKind::Slots, &self.quantizer.slots);
        writer.slice(SectionKind::Categories, &self.quantizer.categories);
        writer.slice(SectionKind::Groups, &group_records);
        writer.slice(SectionKind::PlainTrees, &self.plain.trees);
        writer.slice(SectionKind::PlainNodes, &self.plain.nodes);
        writer.section(SectionKind::Leaves, &self.leaves.bytes);
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
            reserved: 0,
        }
    }

    /// As `FORMAT.md` defines it: margins, outputs and ranks, each padded to 64 bytes.
    fn scratch_bytes(&self) -> anyhow::Result<u32> {
        let groups = self.model.groups();
        let rank = self.quantizer.rank_bits as usize / 8;
        let parts = [groups * 8, groups * 4, self.quantizer.slots.len() * rank];
        Ok(u32::try_from(parts.iter().map(|part| part.next_multiple_of(64)).sum::<usize>())?)
    }
}

/// Predicts one row and copies the answer out of the scratch memory.
fn predict(model: &Model<'_>, row: &[f32], scratch: &mut Vec<u8>) -> anyhow::Result<(Vec<f64>, Vec<f32>)> {
    scratch.resize(model.scratch_bytes() + qsc_kernel::scratch::ALIGNMENT, 0);
    let output = model.predict(row, Scratch::new(scratch))?;
    Ok((output.raw.to_vec(), output.values.to_vec()))
}
