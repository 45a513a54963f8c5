//! Turns the job that `run.sh` describes in the environment into constants, and links an engine written in C.
//!
//! EMBEDDED_ROWS          f32 rows, little-endian, C order
//! EMBEDDED_FEATURES, EMBEDDED_OUTPUTS   values of a row, and of its answer
//! EMBEDDED_MODEL         image (qsc) or .tflite (microflow)
//! EMBEDDED_SCRATCH       bytes of scratch memory (qsc)
//! EMBEDDED_OBJECT        relocatable object that has `engine_start` and `engine_predict` (c)

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap());
    fs::copy("memory.x", out.join("memory.x")).unwrap();
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rerun-if-changed=memory.x");

    let features: usize = variable("EMBEDDED_FEATURES").parse().unwrap();
    let outputs: usize = variable("EMBEDDED_OUTPUTS").parse().unwrap();
    let rows = file("EMBEDDED_ROWS");
    let bytes = fs::read(&rows).unwrap();
    let values: Vec<u32> = bytes.as_chunks().0.iter().map(|&word| u32::from_le_bytes(word)).collect();
    let mut job = format!("pub const FEATURES: usize = {features};\npub const OUTPUTS: usize = {outputs};\n");
    writeln!(job, "pub static ROWS: [[f32; FEATURES]; {}] = [", values.len() / features).unwrap();
    for row in values.chunks_exact(features) {
        let row: Vec<String> = row.iter().map(|bits| format!("f32::from_bits({bits})")).collect();
        writeln!(job, "[{}],", row.join(", ")).unwrap();
    }
    job.push_str("];\n");
    if env::var_os("CARGO_FEATURE_QSC").is_some() {
        let scratch: usize = variable("EMBEDDED_SCRATCH").parse().unwrap();
        let image = file("EMBEDDED_MODEL");
        writeln!(job, "pub const SCRATCH: usize = {scratch};").unwrap();
        writeln!(job, "pub static IMAGE: Aligned<[u8; {}]> =", fs::metadata(&image).unwrap().len()).unwrap();
        writeln!(job, "    Aligned(*include_bytes!({image:?}));").unwrap();
    }
    if env::var_os("CARGO_FEATURE_MICROFLOW").is_some() {
        let model = file("EMBEDDED_MODEL");
        writeln!(job, "#[microflow::model({model:?})]\npub struct Net;").unwrap();
    }
    if env::var_os("CARGO_FEATURE_C").is_some() {
        println!("cargo:rustc-link-arg={}", file("EMBEDDED_OBJECT").display());
    }
    fs::write(out.join("job.rs"), job).unwrap();
}

fn variable(name: &str) -> String {
    println!("cargo:rerun-if-env-changed={name}");
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run.sh sets it"))
}

fn file(name: &str) -> PathBuf {
    let path = Path::new(&variable(name)).canonicalize().unwrap_or_else(|error| panic!("{name}: {error}"));
    println!("cargo:rerun-if-changed={}", path.display());
    path
}
