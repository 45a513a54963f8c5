//! Imported models against the libraries that trained them, and imports of damaged files.

use std::fs;

use qsc_cli::compile::ir::TreeModel;
use qsc_cli::compile::{ImportOptions, Iterations, import, import_bytes};
use qsc_tests::fixtures::{self, ModelCase};

/// The tolerance, for everything that is not compared bit for bit.
fn is_close(ours: f64, theirs: f64) -> bool {
    (ours - theirs).abs() <= 5e-6 * (1.0 + theirs.abs())
}

fn imported(case: &ModelCase) -> TreeModel {
    import(&case.path, &case.options).unwrap_or_else(|error| panic!("{}: {error:#}", case.name))
}

#[test]
fn margins_are_the_librarys_bit_for_bit() {
    let cases = fixtures::models();
    assert!(cases.len() >= 120, "only {} cases found", cases.len());
    for case in &cases {
        let model = imported(case);
        assert_eq!(case.margins.len(), case.rows.n_rows() * model.groups(), "{}", case.name);
        for (index, (row, theirs)) in case.rows.iter().zip(case.margins.chunks(model.groups())).enumerate() {
            let ours = model.margins_library(row);
            let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert_eq!(
                bits(&ours),
                bits(theirs),
                "{} row {index}: {ours:?} instead of {theirs:?}",
                case.name
            );
            for (ours, theirs) in model.margins_f64(row).iter().zip(theirs) {
                assert!(is_close(*ours, *theirs), "{} row {index}: {ours} instead of {theirs}", case.name);
            }
        }
    }
}

#[test]
fn outputs_are_the_librarys() {
    for case in &fixtures::models() {
        let model = imported(case);
        let width = if case.outputs_are_classes { 1 } else { model.groups() };
        assert_eq!(case.outputs.len(), case.rows.n_rows() * width, "{}", case.name);
        for (index, (row, theirs)) in case.rows.iter().zip(case.outputs.chunks(width)).enumerate() {
            let ours = model.outputs(&model.margins_f64(row));
            if case.outputs_are_classes {
                let largest = ours.iter().copied().fold(f64::MIN, f64::max);
                let class = ours.iter().position(|&output| output == largest).unwrap();
                assert_eq!(class as f64, theirs[0], "{} row {index}", case.name);
                continue;
            }
            for (ours, theirs) in ours.iter().zip(theirs) {
                assert!(is_close(*ours, *theirs), "{} row {index}: {ours} instead of {theirs}", case.name);
            }
        }
    }
}

/// A case proves something only if its rows tell left from right.
#[test]
fn cases_can_fail() {
    for case in &fixtures::models() {
        let trees = &imported(case).trees;
        if trees.iter().all(|tree| tree.nodes.len() == 1) {
            continue;
        }
        let groups = case.margins.len() / case.rows.n_rows();
        let mut seen: Vec<_> = case
            .margins
            .chunks(groups)
            .map(|row| row.iter().map(|value| value.to_bits()).collect::<Vec<_>>())
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.len() >= 5, "{} has only {} different margins", case.name, seen.len());
    }
}

#[test]
fn json_and_ubjson_of_one_model_are_the_same_model() {
    let cases = fixtures::models();
    let mut pairs = 0;
    for case in &cases {
        let ubjson = cases.iter().find(|other| other.name == format!("{}-ubj", case.name));
        if let Some(ubjson) = ubjson {
            assert_eq!(imported(case), imported(ubjson), "{}", case.name);
            pairs += 1;
        }
    }
    assert!(pairs >= 8, "only {pairs} pairs found");
}

#[test]
fn refused_files_are_refused_by_name() {
    let cases = fixtures::refused_models();
    assert!(cases.len() >= 12, "only {} cases found", cases.len());
    for case in cases {
        let error = match import(&case.path, &ImportOptions::default()) {
            Ok(_) => panic!("{} is imported", case.name),
            Err(error) => format!("{error:#}"),
        };
        for word in &case.words {
            assert!(error.contains(word), "{}: {word:?} is not in: {error}", case.name);
        }
        assert!(error.starts_with("cannot import ") && !error.contains('\n'), "{}: {error}", case.name);
    }
}

#[test]
fn files_that_cannot_be_read_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    for path in [directory.path().join("absent.json"), directory.path().to_path_buf()] {
        let error = format!("{:#}", import(&path, &ImportOptions::default()).unwrap_err());
        assert!(error.starts_with("cannot read "), "{error}");
    }
}

/// Imports `bytes`; what is imported must also be safe to walk.
fn import_and_walk(bytes: &[u8]) -> Option<TreeModel> {
    let options = ImportOptions { iterations: Some(Iterations::All), ..ImportOptions::default() };
    let model = import_bytes(bytes, &options).ok()?;
    for value in [0.0, f32::NAN, 1e30] {
        let margins = model.margins_library(&vec![value; model.n_features()]);
        assert_eq!(model.outputs(&margins).len(), model.groups());
    }
    Some(model)
}

#[test]
fn cut_off_files_are_refused() {
    for case in fixtures::models() {
        let bytes = fs::read(&case.path).unwrap();
        let whole = import_and_walk(&bytes).unwrap();
        // What follows LightGBM's trees is for people.
        let needed = match bytes.windows(12).position(|window| window == b"end of trees") {
            Some(at) => at + 12,
            None => bytes.trim_ascii_end().len(),
        };
        let step = bytes.len() / 150 + 1;
        for length in (0..bytes.len()).step_by(step).chain(needed - 12..bytes.len()) {
            match import_and_walk(&bytes[..length]) {
                None => assert!(length < needed, "{} cut off at {length} is refused", case.name),
                Some(model) => {
                    assert!(length >= needed, "{} cut off at {length} is imported", case.name);
                    assert_eq!(model, whole, "{} cut off at {length}", case.name);
                }
            }
        }
    }
}

#[test]
fn damaged_files_never_panic() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 11) as usize % below
    };
    let (mut imported, mut refused) = (0, 0);
    for case in fixtures::models() {
        let whole = fs::read(&case.path).unwrap();
        for round in 0..240 {
            let mut bytes = whole.clone();
            let at = next(bytes.len());
            match round % 6 {
                0 => bytes[at] ^= 1 << next(8),
                1 => bytes[at] = b"0123456789-.,:[]{}\"NEeLdlU#$ \n="[next(31)],
                2 => bytes[at] = next(256) as u8,
                3 => drop(bytes.drain(at..(at + 1 + next(40)).min(whole.len()))),
                4 => {
                    let copy = whole[at..(at + 1 + next(200)).min(whole.len())].to_vec();
                    let target = next(whole.len());
                    bytes.splice(target..target, copy);
                }
                // A huge length, wherever UBJSON has one.
                _ => {
                    let marker = whole[at..]
                        .iter()
                        .position(|&byte| byte == b'L')
                        .map_or(at, |offset| at + offset + 1);
                    for byte in bytes.iter_mut().skip(marker).take(8) {
                        *byte = 0x7f;
                    }
                }
            }
            match import_and_walk(&bytes) {
                Some(_) => imported += 1,
                None => refused += 1,
            }
        }
    }
    assert!(imported > 1000 && refused > 10_000, "{imported} imported, {refused} refused");
}
