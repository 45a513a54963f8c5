#![no_main]

use qsc_tests::fuzz;

libfuzzer_sys::fuzz_target!(init: fuzz::write_seeds("xgboost_json"), |data: &[u8]| fuzz::xgboost_json(data));
