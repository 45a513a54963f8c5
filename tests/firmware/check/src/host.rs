//! The firmware's work on this machine, as the lines the firmware logs.

use anyhow::anyhow;
use qsc_kernel::ensemble::Decided;

use crate::work::{self, Images, Machine, Memory};

/// Memory on the boundary that images need.
#[repr(C, align(64))]
struct Aligned<T>(T);

static DEPTH_6: Aligned<[u8; include_bytes!("../../depth-6.qsm").len()]> =
    Aligned(*include_bytes!("../../depth-6.qsm"));
const TREES: Images<'static> = &[("xgb", qsc_models::XGB), ("lgbm", qsc_models::LGBM)];

/// What the firmware says of its work, with networks or without.
pub(crate) fn work(nets: bool) -> anyhow::Result<Vec<String>> {
    let mut lines = Lines(Vec::new());
    let (mut scratch, mut row, mut windows) = (vec![0; 65_536 + 64], vec![0.0; 2048], vec![0.0; 8192]);
    let mut layout = [0; 528];
    let mut memory =
        Memory { scratch: &mut scratch, row: &mut row, layout: &mut layout, windows: &mut windows };
    let done = if nets {
        work::work::<4>(&mut lines, &qsc_models::IMAGES, &[("depth-6", &DEPTH_6.0)], &mut memory)
    } else {
        work::work::<2>(&mut lines, TREES, &[], &mut memory)
    };
    done.map_err(|reason| anyhow!("this machine: {reason}"))?;
    Ok(lines.0)
}

struct Lines(Vec<String>);

impl Machine for Lines {
    fn call<R>(&mut self, _: &'static str, _: &'static str, work: impl FnOnce() -> R) -> R {
        work()
    }

    fn decided<const N: usize>(&mut self, event: usize, decided: &Decided<N>) {
        for (at, outcome) in decided.round.outcomes.iter().enumerate() {
            self.0.push(format!("event {event}, member {at}: {outcome:?}"));
        }
        let fingerprint = decided.fingerprint;
        self.0.push(format!("event {event}: {:?}, {fingerprint}", decided.round.vote));
    }

    fn digest(&mut self, of: &'static str, digest: [u8; 32]) {
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        self.0.push(format!("digest of {of}: {hex}"));
    }
}
