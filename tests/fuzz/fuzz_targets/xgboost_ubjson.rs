#![no_main]

use qsc_tests::fuzz;

libfuzzer_sys::fuzz_target!(init: fuzz::write_seeds("xgboost_ubjson"), |data: &[u8]| fuzz::xgboost_ubjson(data));
