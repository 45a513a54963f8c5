#![no_main]

use qsc_tests::fuzz;

libfuzzer_sys::fuzz_target!(init: fuzz::write_seeds("settings_toml"), |data: &[u8]| fuzz::settings_toml(data));
