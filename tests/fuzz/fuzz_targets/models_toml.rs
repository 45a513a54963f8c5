#![no_main]

use qsc_tests::fuzz;

libfuzzer_sys::fuzz_target!(init: fuzz::write_seeds("models_toml"), |data: &[u8]| fuzz::models_toml(data));
