#![no_main]

use qsc_tests::fuzz;

libfuzzer_sys::fuzz_target!(init: fuzz::write_seeds("rows"), |data: &[u8]| fuzz::rows(data));
