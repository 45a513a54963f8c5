//! `include/qsc.h` is what cbindgen makes of this crate. `QSC_HEADER_UPDATE=1` writes it anew.

use std::fs;
use std::path::Path;

#[test]
fn the_header_is_that_of_the_source() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(package.join("cbindgen.toml")).expect("cbindgen.toml is valid");
    let mut generated = Vec::new();
    cbindgen::Builder::new()
        .with_config(config)
        .with_crate(package)
        .generate()
        .expect("the crate is one that C can use")
        .write(&mut generated);
    let generated = String::from_utf8(generated).expect("a header is text");

    let path = package.join("include/qsc.h");
    if std::env::var_os("QSC_HEADER_UPDATE").is_some_and(|value| value == "1") {
        fs::write(&path, &generated).expect("the header can be written");
    }
    let committed = fs::read_to_string(&path).expect("the header is there");
    let line = committed.lines().zip(generated.lines()).position(|(old, new)| old != new);
    assert!(
        committed == generated,
        "include/qsc.h is not that of the source from line {} on: run this test with QSC_HEADER_UPDATE=1, and think of \
         QSC_ABI_VERSION",
        line.map_or_else(|| committed.lines().count().min(generated.lines().count()), |line| line + 1)
    );
}
