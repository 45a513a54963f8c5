#![no_main]

use qsc_tests::fuzz;

libfuzzer_sys::fuzz_target!(init: fuzz::write_seeds("lightgbm_text"), |data: &[u8]| fuzz::lightgbm_text(data));
