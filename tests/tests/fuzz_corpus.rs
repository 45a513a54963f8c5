//! The fuzz targets without a fuzzer: over their seeds, over every input that once was a finding, and over seeds cut short,
//! with bits flipped and with their pieces swapped. `./ci.sh fuzz` searches further.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use qsc_tests::fuzz::{TARGETS, Target, seeds};

/// Changed seeds a target is given, as far as they fit into its time.
const CHANGES: usize = 400;
/// Time for the changed seeds of one target.
const BUDGET: Duration = Duration::from_secs(4);

#[test]
fn every_target_has_its_binary() {
    let manifest = include_str!("../fuzz/Cargo.toml");
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is not fuzzed");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
}

#[test]
fn seeds_and_earlier_findings_do_no_harm() {
    for (name, target) in TARGETS {
        for seed in seeds(name) {
            run(name, target, &seed);
        }
    }
}

#[test]
fn changed_seeds_do_no_harm() {
    for (name, target) in TARGETS {
        let (seeds, deadline) = (seeds(name), Instant::now() + BUDGET);
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut tried = 0;
        while tried < CHANGES && Instant::now() < deadline {
            run(name, target, &changed(&seeds, &mut random));
            tried += 1;
        }
        println!("{name}: {} seeds, {tried} changed ones", seeds.len());
        assert!(tried > 0, "{name}: not one changed seed in {BUDGET:?}");
    }
}

/// Runs a target; a failure prints the input, which belongs into `fuzz/regressions`.
fn run(name: &str, target: Target, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        eprintln!("{name} fails on {} bytes: {:?}", input.len(), String::from_utf8_lossy(input));
        std::panic::resume_unwind(panic);
    }
}

fn changed(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    let at = |bytes: &[u8], random: &mut Random| random.below(bytes.len().max(1));
    match random.below(4) {
        0 => bytes.truncate(at(&bytes, random)),
        1 => {
            let other = &seeds[random.below(seeds.len())];
            let (from, to) = (random.below(other.len().max(1)), at(&bytes, random));
            let piece = other[from..].iter().take(1 + random.below(64)).copied();
            bytes.splice(to..to, piece);
        }
        2 if !bytes.is_empty() => {
            let from = at(&bytes, random);
            let to = (from + 1 + random.below(32)).min(bytes.len());
            bytes.drain(from..to);
        }
        _ => {
            for _ in 0..=random.below(8) {
                let at = at(&bytes, random);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
    bytes
}

/// Xorshift: the same changes every time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }
}
