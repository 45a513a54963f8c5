//! One model image: checked once, then asked for facts, predictions, batches and its golden vectors.

use core::ffi::{CStr, c_char, c_void};

use qsc_kernel::model::{Body, DecisionRule};
use qsc_kernel::{Backend, Model, Scratch};

use crate::codes::{action, qsc_action};
use crate::memory::{Handle, Span, apart, get, get_mut, many, many_mut, place, put, room};
use crate::status::status;
use crate::{QSC_IMAGE_ALIGNMENT, qsc_status, qsc_str};

/// A checked model image. Opaque; lives in memory of the caller.
///
/// The image must stay where it is, unchanged, for as long as the model or an engine made from it is used. Any number of threads may
/// use a model at the same time; only `qsc_model_init` and `qsc_model_set_backend` need it alone.
pub struct qsc_model(());

impl Handle for qsc_model {
    type Content = Model<'static>;
    const TAG: u64 = u64::from_le_bytes(*b"QSCmodel");
}

/// Memory that holds any model of this ABI version, for static arrays; `qsc_model_bytes` is exact.
pub const QSC_MODEL_BYTES: usize = 768;

const _: () = assert!(crate::memory::bytes::<qsc_model>() <= QSC_MODEL_BYTES, "room for a model");

/// Promises of this page that the compiler can check: a model may be used by many threads.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Model<'static>>();
};

/// A tree ensemble.
pub const QSC_KIND_TREES: u32 = 1;
/// A network.
pub const QSC_KIND_NET: u32 = 2;

/// The outputs are no votes.
pub const QSC_RULE_NONE: u32 = 0;
/// The most probable class, first of equals.
pub const QSC_RULE_CLASSES: u32 = 1;
/// One probability with a dead zone.
pub const QSC_RULE_DEAD_ZONE: u32 = 2;
/// A forecast's return over its horizon.
pub const QSC_RULE_HORIZON_RETURN: u32 = 3;

/// What is to be known of a model.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct qsc_model_facts {
    /// Its name, e.g. `xgb`.
    pub name: qsc_str,
    /// Library that trained it.
    pub library: qsc_str,
    /// Version of that library.
    pub library_version: qsc_str,
    /// Objective or architecture, in the library's words.
    pub objective: qsc_str,
    /// The backend predictions run on.
    pub backend: qsc_str,
    /// Features per step.
    pub n_features: usize,
    /// Steps of a row; 1 for tabular models.
    pub seq_len: usize,
    /// Values of a row: `seq_len · n_features`.
    pub row_len: usize,
    /// Margins or logits per row.
    pub n_raw: usize,
    /// Outputs per row.
    pub n_outputs: usize,
    /// Classes, as many as outputs; 0 for models without classes.
    pub n_classes: usize,
    /// Golden vectors in the image.
    pub golden_rows: usize,
    /// Scratch memory of a prediction or the golden check in bytes, at any address.
    pub scratch_bytes: usize,
    /// Scratch memory of a batch of any number of rows in bytes, at any address.
    pub batch_scratch_bytes: usize,
    /// Bytes of the image.
    pub image_bytes: usize,
    /// Trees: proven bound of the error of a raw output; NaN for networks.
    pub max_abs_error: f64,
    /// `QSC_KIND_…`.
    pub kind: u32,
    /// How outputs become an action, `QSC_RULE_…`.
    pub rule: u32,
    /// Major version of the image's format.
    pub format_major: u32,
    /// Minor version.
    pub format_minor: u32,
    /// SHA-256 of the image but its own digest.
    pub sha256: [u8; 32],
    /// Zero.
    pub reserved: [u64; 8],
}

/// Bytes of memory `qsc_model_init` needs.
#[unsafe(no_mangle)]
pub extern "C" fn qsc_model_bytes() -> usize {
    crate::memory::bytes::<qsc_model>()
}

/// Checks an image and makes a model of it in `memory`.
///
/// The image is treated as hostile: its digest and every index, offset and size are checked here, once. It must start on a boundary of
/// `QSC_IMAGE_ALIGNMENT` bytes. After an error `*model` is null.
///
/// # Safety
/// Pointers are null or valid for the sizes given; the image stays where it is, unchanged, while the model is used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qsc_model_init(
    memory: *mut c_void,
    memory_bytes: usize,
    image: *const c_void,
    image_bytes: usize,
    model: *mut *mut qsc_model,
) -> qsc_status {
    status(|| {
        // SAFETY: the caller's pointer for the result.
        unsafe { put(model, core::ptr::null_mut()) }?;
        room::<qsc_model>(memory, memory_bytes, qsc_model_bytes())?;
        if image.is_null() {
            return Err(qsc_status::Null);
        }
        if image_bytes == 0 {
            return Err(qsc_status::ImageMagic);
        }
        if !image.addr().is_multiple_of(QSC_IMAGE_ALIGNMENT) {
            return Err(qsc_status::ImageMisaligned);
        }
        let image = image.cast::<u8>();
        apart([Span::of(memory.cast::<u8>(), memory_bytes)], Span::of(image, image_bytes))?;
        // SAFETY: the caller promises that the image stays while the model is used.
        let image = unsafe { many::<'static>(image, image_bytes) }?;
        let checked = Model::check(image)?;
        // SAFETY: `room` has held, and the memory is the caller's to give.
        let handle = unsafe { place(memory, checked) };
        // SAFETY: the caller's pointer for the result, as above.
        unsafe { put(model, handle) }
    })
}

/// Fills `facts`.
///
/// # Safety
/// Pointers are null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qsc_model_describe(
    model: *const qsc_model,
    facts: *mut qsc_model_facts,
) -> qsc_status {
    status(|| {
        // SAFETY: the caller's handle.
        let model = unsafe { get(model) }?;
        // SAFETY: the caller's pointer for the result.
        unsafe { put(facts, describe(model)) }
    })
}

/// Memory of any address in which `bytes` on a 64-byte boundary fit.
pub(crate) const fn unaligned(bytes: usize) -> usize {
    bytes.saturating_add(qsc_kernel::scratch::ALIGNMENT)
}

fn describe(model: &Model<'static>) -> qsc_model_facts {
    let (format_major, format_minor) = model.format_version();
    qsc_model_facts {
        name: qsc_str::new(model.name()),
        library: qsc_str::new(model.library()),
        library_version: qsc_str::new(model.library_version()),
        objective: qsc_str::new(model.objective()),
        backend: qsc_str::new(model.backend().name()),
        n_features: model.n_features(),
        seq_len: model.seq_len(),
        row_len: model.row_len(),
        n_raw: model.n_raw(),
        n_outputs: model.n_outputs(),
        n_classes: model.classes().count(),
        golden_rows: model.golden_rows(),
        scratch_bytes: unaligned(model.scratch_bytes()),
        batch_scratch_bytes: unaligned(model.batch_scratch_bytes()),
        image_bytes: model.image_bytes(),
        max_abs_error: model.max_abs_error(),
        kind: match model.body() {
            Body::Trees(_) => QSC_KIND_TREES,
            _ => QSC_KIND_NET,
        },
        rule: match model.decision() {
            DecisionRule::None => QSC_RULE_NONE,
            DecisionRule::Classes => QSC_RULE_CLASSES,
            DecisionRule::DeadZone { .. } => QSC_RULE_DEAD_ZONE,
            DecisionRule::HorizonReturn { .. } => QSC_RULE_HORIZON_RETURN,
        },
        format_major: format_major.into(),
        format_minor: format_minor.into(),
        sha256: *model.digest(),
        reserved: [0; 8],
    }
}

/// The name of feature `at`, in row order.
///
/// # Safety
/// Pointers are null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qsc_model_feature_name(
    model: *const qsc_model,
    at: usize,
    name: *mut qsc_str,
) -> qsc_status {
    status(|| {
        // SAFETY: the caller's handle.
        let model = unsafe { get(model) }?;
        let found = model.feature_names().nth(at).ok_or(qsc_status::Index)?;
        // SAFETY: the caller's pointer for the result.
        unsafe { put(name, qsc_str::new(found)) }
    })
}

/// The action of class `at`, in output order.
///
/// # Safety
/// Pointers are null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qsc_model_class(
    model: *const qsc_model,
    at: usize,
    class: *mut qsc_action,
) -> qsc_status {
    status(|| {
        // SAFETY: the caller's handle.
        let model = unsafe { get(model) }?;
        let found = model.classes().nth(at).ok_or(qsc_status::Index)?;
        // SAFETY: the caller's pointer for the result.
        unsafe { put(class, action(found)) }
    })
}

/// The arrays of a prediction as C gives them: where each begins, and how many values it has.
#[derive(Clone, Copy)]
struct Arrays {
    rows: (*const f32, usize),
    raw: (*mut f64, usize),
    values: (*mut f32, usize),
    /// In bytes.
    scratch: (*mut c_void, usize),
}

/// The same, checked.
struct Lent<'a> {
    rows: &'a [f32],
    raw: &'a mut [f64],
    values: &'a mut [f32],
    scratch: Scratch<'a>,
}

impl Arrays {
    /// Fails unless every array is one, and none that is written to overlaps another.
    ///
    /// # Safety
    /// Unless a check fails: all are valid for their lengths, and those that are written to are nobody else's during `'a`.
    unsafe fn lend<'a>(self) -> Result<Lent<'a>, qsc_status> {
        let ((rows, rows_len), (raw, raw_len), (values, values_len)) = (self.rows, self.raw, self.values);
        let (scratch, scratch_bytes) = (self.scratch.0.cast::<u8>(), self.scratch.1);
        let written =
            [Span::of(raw, raw_len), Span::of(values, values_len), Span::of(scratch, scratch_bytes)];
        apart(written, Span::of(rows, rows_len))?;
        // SAFETY: the caller's rows.
        let rows = unsafe { many(rows, rows_len) }?;
        // SAFETY: the caller's memory, apart from everything else.
        let raw = unsafe { many_mut(raw, raw_len) }?;
        // SAFETY: likewise.
        let values = unsafe { many_mut(values, values_len) }?;
        // SAFETY: likewise.
        let scratch = Scratch::new(unsafe { many_mut(scratch, scratch_bytes) }?);
        Ok(Lent { rows, raw, values, scratch })
    }
}

/// Predicts one row of `row_len` floats, `[seq_len, n_features]`, into `n_outputs` floats.
///
/// `raw` takes `n_raw` margins or logits, or is null with `raw_len` 0. To a tree model NaN is a missing value and an infinity an
/// ordinary one; a network takes neither. Lengths count values. After an error nothing was written but scratch memory.
///
/// # Safety
/// Pointers are null or valid for the lengths given; scratch memory, `raw` and `values` are this call's alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qsc_model_predict(
    model: *const qsc_model,
    row: *const f32,
    row_len: usize,
    raw: *mut f64,
    raw_len: usize,
    values: *mut f32,
    values_len: usize,
    scratch: *mut c_void,
    scratch_bytes: usize,
) -> qsc_status {
    let given = Arrays {
        rows: (row, row_len),
        raw: (raw, raw_len),
        values: (values, values_len),
        scratch: (scratch, scratch_bytes),
    };
    status(|| {
        // SAFETY: the caller's arrays.
        let Lent { rows: row, raw, values, scratch } = unsafe { given.lend() }?;
        // SAFETY: the caller's handle.
        let model = unsafe { get(model) }?;
        if values.len() != model.n_outputs() || !(raw.is_empty() || raw.len() == model.n_raw()) {
            return Err(qsc_status::Length);
        }
        let output = model.predict(row, scratch)?;
        copy(output.values, values);
        copy(output.raw, raw);
        Ok(())
    })
}

fn copy<T: Copy>(from: &[T], to: &mut [T]) {
    for (place, &value) in to.iter_mut().zip(from) {
        *place = value;
    }
}

/// Predicts `rows`, `[n, row_len]`, into `raw`, `[n, n_raw]`, and `values`, `[n, n_outputs]`, with the bits `qsc_model_predict` gives
/// row by row. Trees are faster so from about ten rows on.
///
/// Lengths count values. After an error the outputs are undefined.
///
/// # Safety
/// Pointers are null or valid for the lengths given; scratch memory, `raw` and `values` are this call's alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qsc_model_predict_batch(
    model: *const qsc_model,
    rows: *const f32,
    rows_len: usize,
    raw: *mut f64,
    raw_len: usize,
    values: *mut f32,
    values_len: usize,
    scratch: *mut c_void,
    scratch_bytes: usize,
) -> qsc_status {
    let given = Arrays {
        rows: (rows, rows_len),
        raw: (raw, raw_len),
        values: (values, values_len),
        scratch: (scratch, scratch_bytes),
    };
    status(|| {
        // SAFETY: the caller's arrays.
        let Lent { rows, raw, values, scratch } = unsafe { given.lend() }?;
        // SAFETY: the caller's handle.
        let model = unsafe { get(model) }?;
        Ok(model.predict_batch(rows, raw, values, scratch)?)
    })
}

/// Predicts every golden row of the image, one by one, and compares all bits with those recorded at compile time: `QSC_STATUS_OK` proves
/// that this machine predicts rows as the model was compiled. A batch takes another path, which gives the same bits but is not run here.
///
/// # Safety
/// Pointers are null or valid for the sizes given; scratch memory is this call's alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qsc_model_check_golden(
    model: *const qsc_model,
    scratch: *mut c_void,
    scratch_bytes: usize,
) -> qsc_status {
    status(|| {
        // SAFETY: the caller's handle.
        let model = unsafe { get(model) }?;
        // SAFETY: the caller's memory.
        let scratch = unsafe { many_mut(scratch.cast::<u8>(), scratch_bytes) }?;
        Ok(model.check_golden(Scratch::new(scratch))?)
    })
}

/// The name of this machine's backend `at`, slowest first: `QSC_STATUS_INDEX` ends the list. All backends give the same bits.
///
/// # Safety
/// `name` is null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qsc_backend_name(at: usize, name: *mut qsc_str) -> qsc_status {
    status(|| {
        let backend = Backend::available().nth(at).ok_or(qsc_status::Index)?;
        // SAFETY: the caller's pointer for the result.
        unsafe { put(name, qsc_str::new(backend.name())) }
    })
}

/// Makes predictions of this model run on a backend, by its name; `auto` is the fastest, which a model starts with.
///
/// Engines made from the model before keep theirs. After an error the model is as it was.
///
/// # Safety
/// `model` is null or a model nobody else uses meanwhile; `name` is null or ends in NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qsc_model_set_backend(model: *mut qsc_model, name: *const c_char) -> qsc_status {
    status(|| {
        // SAFETY: the caller's handle, nobody else's meanwhile.
        let model = unsafe { get_mut(model) }?;
        if name.is_null() {
            return Err(qsc_status::Null);
        }
        // SAFETY: not null, and the caller promises a NUL at its end.
        let name = unsafe { CStr::from_ptr(name) };
        let backend = match name.to_bytes() {
            b"auto" => Backend::detect(),
            name => {
                let named = |backend: &Backend| backend.name().as_bytes() == name;
                Backend::available().find(named).ok_or(qsc_status::Backend)?
            }
        };
        *model = model.clone().with_backend(backend);
        Ok(())
    })
}
