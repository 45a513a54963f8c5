//! `.npy` files made by NumPy itself (`fixtures/rows/make.py`) are read, and ours are its own byte for byte.

use std::fs;
use std::path::{Path, PathBuf};

use qsc_cli::rows::{self, RowShape, Rows};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/rows").join(name)
}

/// The values of every fixture, as make.py has them.
const VALUES: [f64; 12] = [
    0.1,
    -0.0,
    f64::NAN,
    1e-45,
    3.402_823_5e38,
    f64::INFINITY,
    -2.5,
    1.0 / 3.0,
    7.0,
    8.0,
    9.0,
    1.000_000_059_604_645,
];

fn f64_bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn f32_bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn f32_is_read_and_written_as_numpy_does() {
    let rows = rows::read(&fixture("f4.npy")).unwrap();
    assert_eq!((rows.n_rows(), rows.shape()), (3, RowShape::flat(4)));
    assert_eq!(f32_bits(rows.data()), VALUES.map(|value| (value as f32).to_bits()));
    let mut written = Vec::new();
    rows::write_npy(&mut written, &rows).unwrap();
    assert_eq!(written, fs::read(fixture("f4.npy")).unwrap());
}

#[test]
fn f64_of_every_layout_and_format_is_read() {
    let shapes: [(&str, &[usize]); 5] = [
        ("f8.npy", &[3, 4]),
        ("f8_fortran.npy", &[2, 3, 2]),
        ("f8_flat.npy", &[12]),
        ("f8_format_2.npy", &[3, 4]),
        ("f8_format_3.npy", &[3, 4]),
    ];
    for (name, shape) in shapes {
        let array = rows::read_f64(&fixture(name)).unwrap();
        assert_eq!(array.shape(), shape, "{name}");
        assert_eq!(f64_bits(array.data()), VALUES.map(f64::to_bits), "{name}");
        let rows = rows::read(&fixture(name)).unwrap();
        assert_eq!(f32_bits(rows.data()), VALUES.map(|value| (value as f32).to_bits()), "{name}");
        assert_eq!((rows.n_rows(), rows.shape().values()), (shape[0], 12 / shape[0]), "{name}");
    }
}

#[test]
fn what_is_no_array_of_floats_is_refused_by_name() {
    let refusals = [
        ("i8.npy", "type is `<i8`"),
        ("big_endian.npy", "type is `>f8`"),
        ("scalar.npy", "a single number"),
        ("empty.npy", "shape [0, 4] holds no values"),
        ("fields.npy", "named fields"),
    ];
    for (name, reason) in refusals {
        let message = format!("{:#}", rows::read(&fixture(name)).unwrap_err());
        assert!(message.contains(name) && message.contains(reason), "{message}");
    }
}

#[test]
fn headers_are_numpys_own() {
    let headers = fs::read_to_string(fixture("headers.json")).unwrap();
    let headers: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&headers).unwrap();
    assert_eq!(headers.len(), 27);
    for (shape, expected) in headers {
        let sizes: Vec<usize> = shape.split('x').map(|size| size.parse().unwrap()).collect();
        let row = match sizes[1..] {
            [n_features] => RowShape::flat(n_features),
            [seq_len, n_features] => RowShape::sequence(seq_len, n_features),
            _ => panic!("{shape}"),
        };
        let rows = Rows::new(row, vec![0.0; sizes.iter().product()], None).unwrap();
        let mut file = Vec::new();
        rows::write_npy(&mut file, &rows).unwrap();
        let header = &file[..file.len() - 4 * rows.data().len()];
        let hex: String = header.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected.as_str().unwrap(), "{shape}");
    }
}
