//! An engine beside an exchange: one thread, pinned to one core, which spins on its events and never allocates, locks or calls the
//! operating system between two of them.
//!
//! `cargo run --release --example colocated [CORE]`

use std::hint::black_box;
use std::time::Instant;

use qsc_kernel::ensemble::{Degeneracy, Feature, Member, Pipeline, Ppm, VoteRules, Window};
use qsc_kernel::guard::FingerprintLayout;
use qsc_kernel::{Model, Scratch};

type Error = Box<dyn std::error::Error>;

/// Binds this thread to a core, so that caches stay warm and no migration falls into a decision.
#[cfg(target_os = "linux")]
fn pin(core: usize) -> Result<(), Error> {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &cores)?)
}

#[cfg(not(target_os = "linux"))]
fn pin(_: usize) -> Result<(), Error> {
    Err("cores are pinned on Linux only".into())
}

fn main() -> Result<(), Error> {
    // A test harness has arguments of its own.
    let core = std::env::args().nth(1).and_then(|core| core.parse().ok()).unwrap_or(0);
    if let Err(error) = pin(core) {
        eprintln!("core {core} is not ours alone: {error}");
    }

    // Everything is loaded, checked, proven and allocated before the first event.
    let models = [
        Model::check(qsc_models::XGB)?,
        Model::check(qsc_models::LGBM)?,
        Model::check(qsc_models::PATCHTST)?,
    ];
    let mut names: Vec<&str> = Vec::new();
    let mut scratch_bytes = 0;
    for model in &models {
        names.extend(model.feature_names());
        scratch_bytes = scratch_bytes.max(model.scratch_bytes());
    }
    names.sort_unstable();
    names.dedup();
    let bytes = FingerprintLayout::<Vec<u8>>::bytes(names.iter().copied()).ok_or("the names are too long")?;
    let layout = FingerprintLayout::new(names.iter().copied(), vec![0; bytes])?;
    let mut pipeline: Pipeline<Model<'_>, Vec<u16>, Vec<u8>, 3> =
        Pipeline::new(VoteRules::STANDARD, Degeneracy::Enforce, layout);
    let mut memory = vec![0; scratch_bytes + 64];
    for model in models {
        model.check_golden(Scratch::new(&mut memory))?;
        let place = |name: &str| names.iter().position(|&known| known == name);
        let places: Option<Vec<usize>> = model.feature_names().map(place).collect();
        let indices = places
            .ok_or("a feature has no place")?
            .into_iter()
            .map(u16::try_from)
            .collect::<Result<_, _>>()?;
        pipeline.push(Member::new(Some(model), Ppm::ONE), indices)?;
    }
    let mut memory = vec![0; pipeline.scratch_bytes(scratch_bytes) + 64];
    let mut windows = Vec::new();
    for (seq_len, n_features) in pipeline.windows() {
        windows.push(Window::new(seq_len, n_features, vec![0.0; 2 * seq_len * n_features])?);
    }

    // The hot loop. A feed handler would write its features here.
    let mut features = vec![Feature::Number(0.5); names.len()];
    let mut nanoseconds = Vec::with_capacity(2000);
    let mut sides = 0;
    for event in 0..2000_u16 {
        for (at, feature) in (0_u16..).zip(&mut features) {
            *feature = Feature::Number(f32::from((event + at) % 97) / 97.0);
        }
        let start = Instant::now();
        let decided = pipeline.decide(black_box(&features), &mut windows, None, Scratch::new(&mut memory));
        nanoseconds.push(start.elapsed().as_nanos());
        sides += usize::from(decided.round.vote.is_ok());
    }
    nanoseconds.sort_unstable();
    let at = |share: usize| nanoseconds[nanoseconds.len() * share / 100];
    println!("2000 events, {sides} with a vote: p50 {} ns, p99 {} ns", at(50), at(99));
    if sides == 0 {
        return Err("no event was decided".into());
    }
    Ok(())
}

#[cfg(test)]
#[test]
fn runs() {
    main().unwrap();
}
