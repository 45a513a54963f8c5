//! Misuse of every kind that can be checked is a status, and leaves everything as it was, but for memory that was given to `init`.

extern crate std;

use core::ffi::{CStr, c_char, c_void};
use core::ptr::{null, null_mut};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::vec;
use std::vec::Vec;

use crate::codes::*;
use crate::engine::config::{QSC_MAX_MEMBERS, qsc_engine_config, qsc_member};
use crate::engine::decide::*;
use crate::engine::windows::*;
use crate::engine::*;
use crate::model::*;
use crate::qsc_status as Status;
use crate::*;

/// Zeroed memory on a 64-byte boundary.
#[derive(Debug)]
struct Memory {
    words: Vec<[u64; 9]>,
}

impl Memory {
    fn new(bytes: usize) -> Self {
        Self { words: vec![[0; 9]; bytes / 64 + 2] }
    }

    fn at(&mut self) -> *mut c_void {
        let start = self.words.as_mut_ptr().cast::<u8>();
        // SAFETY: at most 63 bytes on, where there are at least two elements of 72.
        unsafe { start.add(start.align_offset(64)) }.cast()
    }
}

/// A bundled model in its own memory.
struct Loaded {
    _memory: Memory,
    model: *mut qsc_model,
}

fn load(image: &'static [u8]) -> Loaded {
    let mut memory = Memory::new(qsc_model_bytes());
    let mut model = null_mut();
    // SAFETY: memory and image are valid for the sizes given.
    let status = unsafe {
        qsc_model_init(memory.at(), qsc_model_bytes(), image.as_ptr().cast(), image.len(), &mut model)
    };
    assert_eq!(status, Status::Ok);
    Loaded { _memory: memory, model }
}

fn facts(model: *const qsc_model) -> qsc_model_facts {
    let mut facts = core::mem::MaybeUninit::uninit();
    // SAFETY: the handle is valid, and so is the place for the result.
    assert_eq!(unsafe { qsc_model_describe(model, facts.as_mut_ptr()) }, Status::Ok);
    // SAFETY: the call has filled it.
    unsafe { facts.assume_init() }
}

fn text(text: qsc_str) -> &'static str {
    // SAFETY: bundled images and static texts live as long as the program.
    let bytes = unsafe { core::slice::from_raw_parts(text.data.cast::<u8>(), text.len) };
    core::str::from_utf8(bytes).unwrap()
}

#[test]
fn numbers_and_texts_are_told_apart() {
    let texts: BTreeSet<_> = (0..=255)
        .map(|number| {
            // SAFETY: every text is static and ends in NUL.
            unsafe { CStr::from_ptr(qsc_status_text(number)) }.to_str().unwrap()
        })
        .collect();
    // 31 statuses, and one text for all other numbers.
    assert_eq!(texts.len(), 32);
    assert!(texts.iter().any(|text| text.starts_with("a pointer is null that must not be")));
    for (number, reason) in (1..).zip(qsc_kernel::Inactive::ALL) {
        assert_eq!(text(qsc_inactive_name(number)), reason.wire_name());
    }
    assert_eq!([1, 2, 3].map(|code| text(qsc_action_name(code))), ["BUY", "SELL", "HOLD"]);
    assert_eq!(
        [1, 2, 3, 4].map(|code| text(qsc_consensus_name(code))),
        ["unanimous", "strong", "split", "weak"]
    );
    for unknown in [0, 14, u32::MAX] {
        assert_eq!(text(qsc_action_name(unknown)), "");
        assert_eq!(text(qsc_inactive_name(unknown)), "");
        assert_eq!(text(qsc_consensus_name(unknown)), "");
    }
    assert_eq!(text(qsc_version()), env!("CARGO_PKG_VERSION"));
    assert!((0..=6).all(|which| qsc_struct_bytes(which) > 0) && qsc_struct_bytes(7) == 0);
}

#[test]
fn a_model_refuses_what_it_cannot_use() {
    let image = qsc_models::XGB;
    let (at, len) = (image.as_ptr().cast::<c_void>(), image.len());
    let bytes = qsc_model_bytes();
    let mut memory = Memory::new(bytes);
    let place = memory.at();
    let mut model = null_mut();
    let mut init = |memory: *mut c_void, bytes, image: *const c_void, len| {
        model = core::ptr::dangling_mut();
        // SAFETY: what is not valid is refused before it is read.
        let status = unsafe { qsc_model_init(memory, bytes, image, len, &mut model) };
        assert_eq!(model.is_null(), status != Status::Ok, "{status:?}");
        status
    };
    assert_eq!(init(null_mut(), bytes, at, len), Status::Null);
    assert_eq!(init(place, bytes, null(), len), Status::Null);
    assert_eq!(init(place.wrapping_byte_add(4), bytes, at, len), Status::Misaligned);
    assert_eq!(init(place, bytes - 1, at, len), Status::TooSmall);
    assert_eq!(init(place, usize::MAX, at, len), Status::Argument);
    assert_eq!(init(place, bytes, at.wrapping_byte_add(1), len - 1), Status::ImageMisaligned);
    assert_eq!(init(place, bytes, place, bytes), Status::Overlap);
    assert_eq!(init(place, bytes, at, len - 64), Status::ImageLength);
    assert_eq!(init(place, bytes, at, 0), Status::ImageMagic);
    assert_eq!(init(place, bytes, at, len), Status::Ok);
    // SAFETY: all valid but the place for the result, which is refused.
    assert_eq!(unsafe { qsc_model_init(place, bytes, at, len, null_mut()) }, Status::Null);

    let mut altered = Memory::new(len);
    let copy = altered.at().cast::<u8>();
    // SAFETY: the copy has room for the image.
    unsafe { copy.copy_from_nonoverlapping(image.as_ptr(), len) };
    // SAFETY: the copy has as many bytes, and nobody else has them.
    let bytes_of_copy = unsafe { core::slice::from_raw_parts_mut(copy, len) };
    bytes_of_copy[len - 1] ^= 1;
    assert_eq!(init(place, bytes, copy.cast_const().cast(), len), Status::ImageDigest);
}

#[test]
fn a_handle_is_told_from_other_memory() {
    let loaded = load(qsc_models::XGB);
    let mut zeros = Memory::new(QSC_MODEL_BYTES);
    let mut name = qsc_str::new("untouched");
    for (model, expected) in [
        (null(), Status::Null),
        (zeros.at().cast_const().cast(), Status::NoHandle),
        (loaded.model.cast_const().wrapping_byte_add(4), Status::Misaligned),
    ] {
        // SAFETY: null, zeroed or misaligned handles are refused.
        assert_eq!(unsafe { qsc_model_feature_name(model, 0, &mut name) }, expected);
    }
    assert_eq!(text(name), "untouched");
    // A handle of another kind.
    // SAFETY: its tag is read, and it is refused.
    assert_eq!(unsafe { qsc_windows_clear(loaded.model.cast()) }, Status::NoHandle);
    // SAFETY: valid.
    assert_eq!(unsafe { qsc_model_feature_name(loaded.model, 22, &mut name) }, Status::Ok);
    assert_eq!(text(name), "high_low_range");
    // SAFETY: valid.
    assert_eq!(unsafe { qsc_model_feature_name(loaded.model, 23, &mut name) }, Status::Index);
    let mut class = 0;
    // SAFETY: valid.
    let mut class_of = |at| (unsafe { qsc_model_class(loaded.model, at, &mut class) }, class);
    assert_eq!(class_of(0), (Status::Ok, QSC_ACTION_HOLD));
    assert_eq!(class_of(2), (Status::Ok, QSC_ACTION_SELL));
    assert_eq!(class_of(3).0, Status::Index);
    let facts = facts(loaded.model);
    assert_eq!((text(facts.name), text(facts.library)), ("xgb", "xgboost"));
    assert_eq!(
        (facts.kind, facts.rule, facts.n_classes, facts.seq_len),
        (QSC_KIND_TREES, QSC_RULE_CLASSES, 3, 1)
    );
}

#[test]
fn predictions_check_every_buffer() {
    let loaded = load(qsc_models::XGB);
    let facts = facts(loaded.model);
    let row = vec![0.5_f32; facts.row_len];
    let (mut raw, mut values) = (vec![7.0_f64; 3], vec![7.0_f32; 3]);
    let mut scratch = vec![0_u8; facts.scratch_bytes];
    let (raw_at, values_at, scratch_at) = (raw.as_mut_ptr(), values.as_mut_ptr(), scratch.as_mut_ptr());
    let predict = |row_at: *const f32,
                   row_len,
                   raw_len,
                   values_at: *mut f32,
                   values_len,
                   scratch_at: *mut u8,
                   bytes| {
        let scratch_at = scratch_at.cast::<c_void>();
        let model = loaded.model;
        // SAFETY: buffers are valid for the lengths given, or refused.
        unsafe {
            qsc_model_predict(
                model, row_at, row_len, raw_at, raw_len, values_at, values_len, scratch_at, bytes,
            )
        }
    };
    let (at, len, bytes) = (row.as_ptr(), row.len(), scratch.len());
    assert_eq!(predict(null(), len, 3, values_at, 3, scratch_at, bytes), Status::Null);
    assert_eq!(predict(at, len, 3, null_mut(), 3, scratch_at, bytes), Status::Null);
    assert_eq!(predict(at, len, 3, values_at.wrapping_byte_add(2), 2, scratch_at, bytes), Status::Misaligned);
    assert_eq!(predict(at, len - 1, 3, values_at, 3, scratch_at, bytes), Status::Length);
    assert_eq!(predict(at, len, 2, values_at, 3, scratch_at, bytes), Status::Length);
    assert_eq!(predict(at, len, 3, values_at, 2, scratch_at, bytes), Status::Length);
    assert_eq!(predict(at, len, 3, values_at, 3, scratch_at, 16), Status::TooSmall);
    assert_eq!(predict(at, len, 3, raw_at.cast(), 3, scratch_at, bytes), Status::Overlap);
    assert_eq!(predict(at, len, 3, at.cast_mut(), 3, scratch_at, bytes), Status::Overlap);
    assert_eq!(predict(at, len, 3, scratch_at.cast(), 3, scratch_at, bytes), Status::Overlap);
    assert_eq!((&raw[..], &values[..]), (&[7.0; 3][..], &[7.0; 3][..]));
    assert_eq!(predict(at, len, 3, values_at, 3, scratch_at, bytes), Status::Ok);
    assert!((values.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{values:?}");
    // SAFETY: valid; raw outputs are not wanted.
    let without_raw = unsafe {
        qsc_model_predict(loaded.model, at, len, null_mut(), 0, values_at, 3, scratch_at.cast(), bytes)
    };
    assert_eq!(without_raw, Status::Ok);
    // SAFETY: valid; the lengths are not of one number of rows.
    let lengths = unsafe {
        qsc_model_predict_batch(loaded.model, at, len, raw_at, 3, values_at, 2, scratch_at.cast(), bytes)
    };
    assert_eq!(lengths, Status::Length);
}

#[test]
fn backends_are_named_and_unknown_ones_refused() {
    let loaded = load(qsc_models::XGB);
    let set = |name: *const c_char| {
        // SAFETY: the handle is ours alone, and names end in NUL.
        unsafe { qsc_model_set_backend(loaded.model, name) }
    };
    assert_eq!(set(c"mmx".as_ptr()), Status::Backend);
    assert_eq!(set(null()), Status::Null);
    let mut name = qsc_str::new("");
    let mut at = 0;
    // SAFETY: the place for the result is valid.
    while unsafe { qsc_backend_name(at, &mut name) } == Status::Ok {
        assert_eq!(set(CString::new(text(name)).unwrap().as_ptr()), Status::Ok);
        assert_eq!(text(facts(loaded.model).backend), text(name));
        at += 1;
    }
    assert!(at >= 2, "scalar and wide run everywhere");
    assert_eq!(set(c"auto".as_ptr()), Status::Ok);
    assert_eq!(text(facts(loaded.model).backend), text(name), "the last is the fastest");
}

/// The features of the bundled XGBoost model.
fn names() -> Vec<CString> {
    let model = qsc_kernel::Model::check(qsc_models::XGB).unwrap();
    model.feature_names().map(|name| CString::new(name).unwrap()).collect()
}

const MEMBER: qsc_member = qsc_member {
    model: null(),
    indices: null(),
    n_indices: 0,
    weight_ppm: 1_000_000,
    mode: QSC_MODE_VOTE,
    missing: QSC_MISSING_REJECT,
    confidence: QSC_CONFIDENCE_MAX,
    reserved: [0; 4],
};

fn config(names: &[*const c_char], members: &[qsc_member]) -> qsc_engine_config {
    qsc_engine_config {
        abi_version: QSC_ABI_VERSION,
        degeneracy: QSC_DEGENERACY_ENFORCE,
        feature_names: names.as_ptr(),
        n_features: names.len(),
        members: members.as_ptr(),
        n_members: members.len(),
        max_confidence: 0.95,
        unanimous: 1.0,
        strong: 1.0,
        split: 1.0,
        weak: 1.0,
        reserved_word: 0,
        reserved: [0; 4],
    }
}

/// What `qsc_engine_bytes` says of a configuration.
fn bytes(config: &qsc_engine_config) -> Result<usize, Status> {
    let mut bytes = 0;
    // SAFETY: everything the configuration points to is valid or refused.
    match unsafe { qsc_engine_bytes(config, &mut bytes) } {
        Status::Ok => Ok(bytes),
        status => Err(status),
    }
}

fn init(config: &qsc_engine_config) -> Result<(Memory, *mut qsc_engine), Status> {
    let bytes = bytes(config)?;
    let mut memory = Memory::new(bytes);
    let mut engine = null_mut();
    // SAFETY: the memory is that large, and the configuration as above.
    match unsafe { qsc_engine_init(memory.at(), bytes, config, &mut engine) } {
        Status::Ok => Ok((memory, engine)),
        status => {
            assert!(engine.is_null());
            Err(status)
        }
    }
}

#[test]
fn a_configuration_is_checked_to_the_last_word() {
    let loaded = load(qsc_models::XGB);
    let names = names();
    let names: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    let member = qsc_member { model: loaded.model, ..MEMBER };
    let members = [member];
    let good = config(&names, &members);
    assert!(bytes(&good).unwrap() > size_of::<f32>() * names.len());
    type Change = fn(&mut qsc_engine_config);
    let changes: [(Change, Status); 12] = [
        (|c| c.abi_version += 1, Status::Abi),
        (|c| c.degeneracy = 3, Status::Argument),
        (|c| c.reserved_word = 1, Status::Argument),
        (|c| c.reserved[3] = 1, Status::Argument),
        (|c| c.n_features = 0, Status::Argument),
        (|c| c.n_features = 65_537, Status::Argument),
        (|c| c.feature_names = null(), Status::Null),
        (|c| c.n_members = 0, Status::Members),
        (|c| c.n_members = QSC_MAX_MEMBERS + 1, Status::Members),
        (|c| c.members = null(), Status::Null),
        (|c| c.max_confidence = f32::NAN, Status::Argument),
        (|c| c.weak = -1.0, Status::Argument),
    ];
    for (at, (change, expected)) in changes.into_iter().enumerate() {
        let mut config = good;
        change(&mut config);
        assert_eq!(bytes(&config), Err(expected), "change {at}");
    }
    let indices = [0_u16; 23];
    for (member, expected) in [
        (qsc_member { weight_ppm: 0, ..member }, Status::Argument),
        (qsc_member { weight_ppm: 1_000_001, ..member }, Status::Argument),
        (qsc_member { mode: 2, ..member }, Status::Argument),
        (qsc_member { missing: 2, ..member }, Status::Argument),
        (qsc_member { confidence: 2, ..member }, Status::Argument),
        (qsc_member { n_indices: 1, ..member }, Status::Argument),
        (qsc_member { reserved: [0, 0, 0, 1], ..member }, Status::Argument),
        (qsc_member { indices: indices.as_ptr(), n_indices: 22, ..member }, Status::Length),
    ] {
        assert_eq!(bytes(&config(&names, &[member])), Err(expected));
    }
    let beyond = [23_u16; 23];
    let member = [qsc_member { indices: beyond.as_ptr(), n_indices: 23, ..member }];
    assert_eq!(init(&config(&names, &member)).unwrap_err(), Status::Index);
    // A name too few, one twice, one that is no text.
    assert_eq!(init(&config(&names[1..], &members)).unwrap_err(), Status::UnknownFeature);
    let mut wrong = names.clone();
    wrong.push(names[0]);
    assert_eq!(init(&config(&wrong, &members)).unwrap_err(), Status::AmbiguousFeature);
    wrong[0] = c"\xff".as_ptr();
    assert_eq!(init(&config(&wrong, &members)).unwrap_err(), Status::Text);
    wrong[0] = null();
    assert_eq!(init(&config(&wrong, &members)).unwrap_err(), Status::Null);
    // Memory.
    let mut memory = Memory::new(bytes(&good).unwrap());
    let mut engine = null_mut();
    for (at, bytes, expected) in [
        (null_mut(), usize::MAX, Status::Null),
        (memory.at().wrapping_byte_add(4), bytes(&good).unwrap(), Status::Misaligned),
        (memory.at(), bytes(&good).unwrap() - 1, Status::TooSmall),
    ] {
        // SAFETY: refused before anything is written.
        assert_eq!(unsafe { qsc_engine_init(at, bytes, &good, &mut engine) }, expected);
    }
}

#[test]
fn an_engine_that_was_written_over_decides_nothing() {
    let loaded = load(qsc_models::XGB);
    let names = names();
    let names: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    let members = [qsc_member { model: loaded.model, ..MEMBER }];
    let good = config(&names, &members);
    let room = bytes(&good).unwrap();
    let (mut memory, old) = init(&good).unwrap();
    let mut facts = core::mem::MaybeUninit::<qsc_engine_facts>::uninit();
    // SAFETY: valid.
    assert_eq!(unsafe { qsc_engine_describe(old, facts.as_mut_ptr()) }, Status::Ok);
    // A reload in place whose vector lacks a feature: the parts of the old engine are gone, and so is its handle.
    let mut engine = null_mut();
    let mut wrong = names.clone();
    wrong[22] = c"another".as_ptr();
    // SAFETY: valid, but for a name that the model does not know.
    let status = unsafe { qsc_engine_init(memory.at(), room, &config(&wrong, &members), &mut engine) };
    assert_eq!((status, engine.is_null()), (Status::UnknownFeature, true));
    // SAFETY: the memory is still there; what is no handle is refused.
    assert_eq!(unsafe { qsc_engine_describe(old, facts.as_mut_ptr()) }, Status::NoHandle);
    let values = [0.5_f32; 23];
    let mut decision = core::mem::MaybeUninit::<qsc_decision>::uninit();
    // SAFETY: likewise.
    let status =
        unsafe { qsc_engine_decide(old, values.as_ptr(), null(), 23, null_mut(), 0, decision.as_mut_ptr()) };
    assert_eq!(status, Status::NoHandle);
    // What is refused before anything is written leaves the engine.
    let (mut memory, old) = init(&good).unwrap();
    // SAFETY: valid, but for the size.
    let status = unsafe { qsc_engine_init(memory.at(), room - 1, &good, &mut engine) };
    assert_eq!(status, Status::TooSmall);
    // SAFETY: valid.
    assert_eq!(unsafe { qsc_engine_describe(old, facts.as_mut_ptr()) }, Status::Ok);
}

#[test]
fn a_decision_is_made_or_said_not_to_be() {
    let (xgb, patchtst) = (load(qsc_models::XGB), load(qsc_models::PATCHTST));
    let names = names();
    let mut names: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    names.push(c"di_spread".as_ptr());
    let members = [
        qsc_member { model: xgb.model, ..MEMBER },
        qsc_member { model: patchtst.model, ..MEMBER },
        // One that could not be loaded.
        MEMBER,
    ];
    let (_memory, engine) = init(&config(&names, &members)).unwrap();
    let mut facts = core::mem::MaybeUninit::<qsc_engine_facts>::uninit();
    // SAFETY: valid.
    assert_eq!(unsafe { qsc_engine_describe(engine, facts.as_mut_ptr()) }, Status::Ok);
    // SAFETY: the call has filled it.
    let facts = unsafe { facts.assume_init() };
    assert_eq!((facts.n_members, facts.n_features, facts.n_windows), (3, 24, 1));
    let mut memory = Memory::new(facts.windows_bytes);
    let mut windows = null_mut();
    let bytes = facts.windows_bytes;
    // SAFETY: the memory is that large, or said to be smaller.
    assert_eq!(unsafe { qsc_windows_init(memory.at(), bytes - 1, engine, &mut windows) }, Status::TooSmall);
    // SAFETY: valid.
    assert_eq!(unsafe { qsc_windows_init(memory.at(), bytes, engine, &mut windows) }, Status::Ok);

    let values = [0.5_f32; 24];
    let mut decision = core::mem::MaybeUninit::<qsc_decision>::uninit();
    let mut decide = |windows, states: &[u8], n, refused| {
        let states = if states.is_empty() { null() } else { states.as_ptr() };
        // SAFETY: handles are valid, and so are arrays as far as their length is not refused.
        let status = unsafe {
            qsc_engine_decide(engine, values.as_ptr(), states, n, windows, refused, decision.as_mut_ptr())
        };
        // SAFETY: every call fills it.
        (status, unsafe { decision.assume_init() })
    };
    for (windows, states, n, refused, expected) in [
        (null_mut(), &[][..], 24, 0, Status::Windows),
        (windows, &[], 23, 0, Status::Length),
        (windows, &[], 24, 14, Status::Argument),
        (windows, &[], 24, QSC_INACTIVE_FALLBACK_RULES, Status::Argument),
        (windows, &[], 24, QSC_INACTIVE_DEAD_ZONE, Status::Argument),
        (windows, &[3; 24], 24, 0, Status::Argument),
    ] {
        let (status, decision) = decide(windows, states, n, refused);
        assert_eq!(status, expected);
        assert_eq!((decision.verdict, decision.action, decision.active), (0, 0, 0));
        assert!(decision.confidence.is_nan());
    }
    let (status, decision) = decide(windows, &[], 24, 0);
    assert_eq!(
        (status, decision.verdict, decision.n_members, decision.active),
        (Status::Ok, QSC_VERDICT_SIDE, 3, 1)
    );
    assert_ne!(decision.action, QSC_ACTION_NONE);
    let inactive = [0, 1, 2].map(|at: usize| decision.outcomes[at].inactive);
    assert_eq!(
        inactive,
        [QSC_INACTIVE_NONE, QSC_INACTIVE_INSUFFICIENT_HISTORY, QSC_INACTIVE_MODEL_NOT_LOADED]
    );
    // An absent feature, and an event that nobody may see.
    let mut states = [QSC_FEATURE_NUMBER; 24];
    states[0] = QSC_FEATURE_ABSENT;
    let (status, decision) = decide(windows, &states, 24, 0);
    assert_eq!(
        (status, decision.verdict, decision.confidence.is_nan()),
        (Status::Ok, QSC_VERDICT_NO_ACTIVE_MODEL, true)
    );
    assert_eq!(decision.outcomes[0].inactive, QSC_INACTIVE_MISSING_FEATURE);
    states[0] = QSC_FEATURE_NOT_A_NUMBER;
    assert_eq!(decide(windows, &states, 24, 0).1.outcomes[0].inactive, QSC_INACTIVE_NAN_INPUT);
    let (_, decision) = decide(windows, &[], 24, QSC_INACTIVE_STALE_INPUT);
    assert_eq!(decision.outcomes[0].inactive, QSC_INACTIVE_STALE_INPUT);

    let set = |weights: &[u32]| {
        // SAFETY: the handle is ours alone, and the array as long as it says.
        unsafe { qsc_engine_set_weights(engine, weights.as_ptr(), weights.len()) }
    };
    assert_eq!(set(&[1, 2]), Status::Length);
    assert_eq!(set(&[1, 0, 1]), Status::Argument);
    assert_eq!(set(&[1, 2, 3]), Status::Ok);
    // SAFETY: valid.
    assert_eq!(unsafe { qsc_windows_clear(windows) }, Status::Ok);
    // SAFETY: the place for the result is refused; nothing else is touched.
    let nowhere = unsafe { qsc_engine_decide(engine, values.as_ptr(), null(), 24, windows, 0, null_mut()) };
    assert_eq!(nowhere, Status::Null);
}
