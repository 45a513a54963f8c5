//! Images and trained files: what is accepted predicts the same on every backend, and what its interpreter says.

use qsc_cli::compile::interpret::LIGHTGBM_ZERO;
use qsc_cli::compile::ir::{Node, Test, TreeModel};
use qsc_cli::compile::pack::{PackOptions, pack};
use qsc_cli::compile::{ImportOptions, Iterations, Source, import_bytes, nets};
use qsc_cli::image::ImageBytes;
use qsc_kernel::model::Body;
use qsc_kernel::{Backend, Model, PredictError, Scratch};

use super::BETWEEN;
use crate::surgery::{HEADER, reseal};

/// Rows an accepted image predicts.
const ROWS: usize = 6;
/// Larger models are accepted, and not run: one input would take seconds.
const MOST_NODES: usize = 600;
const MOST_INPUTS: usize = 4096;
const MOST_WORK: usize = 1 << 20;

/// A model image whose length and digest are those of its bytes: what a hostile writer can hand over.
pub fn image(data: &[u8]) {
    let mut image = ImageBytes::zeroed(data.len().next_multiple_of(64));
    image.as_bytes_mut()[..data.len()].copy_from_slice(data);
    let total = image.as_bytes().len() as u64;
    if total >= HEADER as u64 {
        image.as_bytes_mut()[16..24].copy_from_slice(&total.to_le_bytes());
        reseal(image.as_bytes_mut());
    }
    let Ok(model) = Model::check(image.as_bytes()) else { return };
    assert!(
        model.scratch_bytes() <= MOST_SCRATCH,
        "{} bytes of an image ask for {}",
        data.len(),
        model.scratch_bytes()
    );
    if !is_small(&model) {
        return;
    }
    let mut draw = Draw::new(data);
    let rows: Vec<Vec<f32>> = (0..ROWS).map(|_| draw.row(model.golden_inputs(), model.row_len())).collect();
    // Golden vectors of a changed image need not hold; to look at them must do no harm.
    let mut scratch = vec![0; model.scratch_bytes() + 63];
    let _ = model.check_golden(Scratch::new(&mut scratch));
    backends_agree(&model, &rows);
}

/// More than any network or forest that passes the check may ask for.
const MOST_SCRATCH: usize = 256 << 20;

/// XGBoost's JSON.
pub fn xgboost_json(data: &[u8]) {
    trees(data, Source::XgBoost);
}

/// XGBoost's UBJSON.
pub fn xgboost_ubjson(data: &[u8]) {
    trees(data, Source::XgBoost);
}

/// LightGBM's text.
pub fn lightgbm_text(data: &[u8]) {
    trees(data, Source::LightGbm);
}

/// A safetensors file behind its config, which is empty or a JSON text: `config \0 file`.
pub fn safetensors(data: &[u8]) {
    let Some(end) = data.iter().position(|&byte| byte == BETWEEN) else { return };
    let (config, file) = (&data[..end], &data[end + 1..]);
    let config = match config {
        [] => None,
        text => match serde_json::from_slice(text) {
            Ok(config) => Some(config),
            Err(_) => return,
        },
    };
    let Ok(model) = nets::import(file, config.as_ref(), None) else { return };
    let work: usize = model.steps.iter().map(|step| step.rows * step.width * step.target.len.max(1)).sum();
    if model.arena > MOST_INPUTS || work > MOST_WORK << 4 {
        return;
    }
    let options = nets::pack::NetPackOptions {
        name: "net".to_owned(),
        source_file: "model.safetensors".to_owned(),
        source_sha256: [0; 32],
    };
    match nets::pack::pack(&model, &options) {
        Ok(image) => {
            let model = Model::check(image.as_bytes()).expect("the packer proves its image");
            let mut draw = Draw::new(data);
            let mut rows: Vec<Vec<f32>> =
                (0..2).map(|_| draw.row(model.golden_inputs(), model.row_len())).collect();
            rows.extend(model.golden_inputs().chunks(model.row_len()).take(2).map(<[f32]>::to_vec));
            golden_holds(&model);
            backends_agree(&model, &rows);
        }
        Err(error) => is_no_defect(&error),
    }
}

/// A tree model: what is accepted packs, and predicts what the interpreter says.
fn trees(data: &[u8], from: Source) {
    let options = ImportOptions { from, iterations: Some(Iterations::All) };
    let Ok(model) = import_bytes(data, &options) else { return };
    let nodes: usize = model.trees.iter().map(|tree| tree.nodes.len()).sum();
    if nodes > MOST_NODES
        || model.n_features() > MOST_INPUTS
        || model.groups() > 64
        || sets(&model) > MOST_INPUTS
    {
        return;
    }
    let mut draw = Draw::new(data);
    let asked = asked_about(&model);
    let rows: Vec<Vec<f32>> = (0..ROWS).map(|_| draw.row(&asked, model.n_features())).collect();
    for exact in [false, true] {
        let options = PackOptions {
            name: "m".to_owned(),
            classes: None,
            exact,
            source_file: "m".to_owned(),
            source_sha256: [0; 32],
        };
        match pack(&model, &options) {
            Ok(image) => agrees(&model, exact, &image, &rows),
            Err(error) => is_no_defect(&error),
        }
    }
}

/// What a model was compiled to says what its interpreter says.
fn agrees(trained: &TreeModel, exact: bool, image: &ImageBytes, rows: &[Vec<f32>]) {
    let model = Model::check(image.as_bytes()).expect("the packer proves its image");
    golden_holds(&model);
    backends_agree(&model, rows);
    let mut scratch = vec![0; model.scratch_bytes() + 63];
    for row in rows {
        let got =
            model.predict(row, Scratch::new(&mut scratch)).expect("trees take every value").raw.to_vec();
        if exact {
            assert_eq!(bits(&got), bits(&trained.margins_library(row)), "the library's own bits for {row:?}");
        }
        for (got, wanted) in got.iter().zip(trained.margins_f64(row)) {
            let error = (f64::from(*got as f32) - wanted).abs();
            assert!(error <= model.max_abs_error(), "{got:e} is not {wanted:e} within its bound for {row:?}");
        }
    }
}

/// Every backend, one row at a time and in a batch, gives the bits of the scalar one.
fn backends_agree(model: &Model<'_>, rows: &[Vec<f32>]) {
    let scalar = answers(&model.clone().with_backend(Backend::SCALAR), rows);
    for backend in Backend::available() {
        let model = model.clone().with_backend(backend);
        let at = backend.name();
        assert!(answers(&model, rows) == scalar, "{at} gives other bits than scalar");
        let (mut raw, mut values) =
            (vec![0.0; rows.len() * model.n_raw()], vec![0.0; rows.len() * model.n_outputs()]);
        let mut scratch = vec![0xa5; model.batch_scratch_bytes() + 63];
        let batch = model.predict_batch(&rows.concat(), &mut raw, &mut values, Scratch::new(&mut scratch));
        assert_eq!(batch.is_ok(), scalar.iter().all(Option::is_some), "{at} in a batch");
        if batch.is_ok() {
            let single =
                |of: fn(&Answer) -> Vec<u64>| scalar.iter().flatten().flat_map(of).collect::<Vec<_>>();
            assert!(bits(&raw) == single(|answer| answer.0.clone()), "{at} in a batch gives other margins");
            assert!(
                bits(&wide(&values)) == single(|answer| answer.1.clone()),
                "{at} in a batch gives other outputs"
            );
        }
    }
}

/// Bits of raw and final outputs of a row.
type Answer = (Vec<u64>, Vec<u64>);

/// The answer to each row; `None` where a network refuses what is not finite. What passed the check has no other error.
fn answers(model: &Model<'_>, rows: &[Vec<f32>]) -> Vec<Option<Answer>> {
    let mut scratch = vec![0xa5; model.scratch_bytes() + 63];
    let mut answer = |row: &Vec<f32>| match model.predict(row, Scratch::new(&mut scratch)) {
        Ok(output) => Some((bits(output.raw), bits(&wide(output.values)))),
        Err(PredictError::NonFiniteInput) if row.iter().any(|value| !value.is_finite()) => None,
        Err(error) => panic!("a checked image fails: {error} for {row:?}"),
    };
    rows.iter().map(&mut answer).collect()
}

/// Which NaN it is says nothing.
fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| if value.is_nan() { f64::NAN } else { *value }.to_bits()).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

fn golden_holds(model: &Model<'_>) {
    let mut scratch = vec![0; model.scratch_bytes() + 63];
    for backend in Backend::available() {
        let model = model.clone().with_backend(backend);
        model.check_golden(Scratch::new(&mut scratch)).expect("the packer's golden vectors hold");
    }
}

/// A refusal of the packer must be the model's fault.
fn is_no_defect(error: &anyhow::Error) {
    let words = format!("{error:#}");
    assert!(!words.contains("please report"), "the packer blames itself: {words}");
}

fn is_small(model: &Model<'_>) -> bool {
    let small =
        model.row_len() <= MOST_INPUTS && model.n_raw() <= MOST_INPUTS && model.image_bytes() <= 1 << 16;
    let Body::Net(net) = model.body() else { return small };
    // An attention looks at each pair of its rows.
    let work = net.layers().map(|layer| {
        let partners = if layer.op == "attention" { layer.rows } else { layer.out };
        layer.rows.saturating_mul(layer.width).saturating_mul(partners)
    });
    small && work.fold(0_usize, usize::saturating_add) <= MOST_WORK
}

/// Categories of all sets: each may become a bit of a rank table.
fn sets(model: &TreeModel) -> usize {
    splits(model).map(|test| set_of(test).len()).sum()
}

fn set_of(test: &Test) -> &[u32] {
    match test {
        Test::CategoryRight { set, .. } | Test::CategoryLeft { set } => set,
        Test::Number { .. } => &[],
    }
}

fn splits(model: &TreeModel) -> impl Iterator<Item = &Test> {
    let nodes = model.trees.iter().flat_map(|tree| &tree.nodes);
    nodes.filter_map(|node| if let Node::Split { test, .. } = node { Some(test) } else { None })
}

/// The numbers a model asks about.
fn asked_about(model: &TreeModel) -> Vec<f32> {
    let asked = splits(model).flat_map(|test| match test {
        Test::Number { threshold, .. } => vec![*threshold as f32],
        other => set_of(other).iter().take(8).map(|category| *category as f32).collect(),
    });
    asked.collect()
}

/// Rows drawn from an input: the same for the same one.
struct Draw(u64);

impl Draw {
    /// FNV-1a over the input.
    fn new(data: &[u8]) -> Self {
        let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Self(data.iter().fold(0xcbf2_9ce4_8422_2325, hash) | 1)
    }

    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize
    }

    /// Values on, beside and far from what is `asked` about.
    fn row(&mut self, asked: &[f32], len: usize) -> Vec<f32> {
        const SPECIAL: [f32; 12] = [
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            0.0,
            -0.0,
            1e-45,
            f32::MAX,
            LIGHTGBM_ZERO as f32,
            -1.1e-35,
            1.0,
            -0.5,
            16_777_216.0,
        ];
        // Networks refuse what is not finite: most rows have none of it.
        let special = self.next().is_multiple_of(2);
        let mut value = || match (self.next() % 8, asked) {
            (0, _) if special => SPECIAL[self.next() % SPECIAL.len()],
            (_, []) => self.next() as f32 / 1e9,
            (1, asked) => asked[self.next() % asked.len()].next_down(),
            (2, asked) => asked[self.next() % asked.len()].next_up(),
            (_, asked) => asked[self.next() % asked.len()],
        };
        (0..len).map(|_| value()).collect()
    }
}
