//! The clocks, held against each other: a watch of six hours means nothing on a clock that jumps.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::stream::now_ms;

/// How far the clocks may come apart between two checks. Slewing (at most 0.05 %) stays far below.
const TOLERANCE_MS: u64 = 2000;

/// All clocks at one moment, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moment {
    /// Wall clock, Unix ms.
    pub wall: u64,
    /// Since boot, sleep included.
    pub boot: u64,
    /// Since boot, without sleep.
    pub awake: u64,
    /// Which boot.
    pub boot_id: String,
}

impl Moment {
    /// Now.
    ///
    /// # Errors
    /// The wall clock stands before 1970, or the kernel does not say which boot this is.
    pub fn now() -> anyhow::Result<Self> {
        let ms = |clock| {
            let time = clock_gettime(clock);
            // Neither clock is ever negative.
            time.tv_sec.unsigned_abs() * 1000 + time.tv_nsec.unsigned_abs() / 1_000_000
        };
        Ok(Self {
            wall: now_ms()?,
            boot: ms(ClockId::Boottime),
            awake: ms(ClockId::Monotonic),
            boot_id: boot_id(Path::new("/proc/sys/kernel/random/boot_id"))?,
        })
    }

    /// Time from `earlier` to this moment.
    ///
    /// # Errors
    /// In words, which clock jumped and how far. After a reboot only the wall clock is left to compare.
    pub fn since(&self, earlier: &Self) -> Result<Duration, String> {
        let wall = self.wall.checked_sub(earlier.wall);
        if self.boot_id != earlier.boot_id {
            return wall.map(Duration::from_millis).ok_or_else(|| {
                format!("the wall clock went back by {} ms over a reboot", earlier.wall - self.wall)
            });
        }
        let (Some(boot), Some(awake)) =
            (self.boot.checked_sub(earlier.boot), self.awake.checked_sub(earlier.awake))
        else {
            return Err("the clock since boot went back".to_owned());
        };
        let wall_moved = i128::from(self.wall) - i128::from(earlier.wall);
        let jump = wall_moved - i128::from(boot);
        if jump.unsigned_abs() > u128::from(TOLERANCE_MS) {
            return Err(format!(
                "the wall clock jumped by {jump} ms against the clock since boot, at most {TOLERANCE_MS} ms is allowed"
            ));
        }
        let asleep = boot.saturating_sub(awake);
        if asleep > TOLERANCE_MS {
            return Err(format!(
                "the machine slept for {asleep} ms between two checks, at most {TOLERANCE_MS} ms is allowed"
            ));
        }
        Ok(Duration::from_millis(boot))
    }
}

/// Without it every boot would look like the same one, whose clock goes back.
fn boot_id(path: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read {}: a unit with ProcSubset=pid hides it", path.display()))?;
    let id = text.trim();
    ensure!(!id.is_empty(), "{} is empty", path.display());
    Ok(id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall: u64, boot: u64, awake: u64, boot_id: &str) -> Moment {
        Moment { wall, boot, awake, boot_id: boot_id.to_owned() }
    }

    #[test]
    fn clocks_that_agree_tell_the_time_between() {
        let earlier = at(1_000_000, 5000, 5000, "a");
        assert_eq!(at(1_030_000, 35_100, 35_100, "a").since(&earlier), Ok(Duration::from_millis(30_100)));
        assert_eq!(at(1_090_000, 100, 100, "b").since(&earlier), Ok(Duration::from_secs(90)), "rebooted");
        let now = Moment::now().unwrap();
        assert!(Moment::now().unwrap().since(&now).unwrap() < Duration::from_secs(5));
    }

    #[test]
    fn a_boot_that_cannot_be_named_is_no_boot() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("boot_id");
        assert!(boot_id(&path).unwrap_err().to_string().contains("ProcSubset=pid"));
        fs::write(&path, "\n").unwrap();
        assert!(boot_id(&path).is_err());
        fs::write(&path, "a\n").unwrap();
        assert_eq!(boot_id(&path).unwrap(), "a");
    }

    #[test]
    fn every_jump_is_named() {
        let earlier = at(1_000_000, 5000, 5000, "a");
        for (later, words) in [
            (at(1_033_000, 35_000, 35_000, "a"), "jumped by 3000 ms"),
            (at(900_000, 35_000, 35_000, "a"), "jumped by -130000 ms"),
            (at(1_030_000, 35_000, 30_000, "a"), "slept for 5000 ms"),
            (at(1_030_000, 4000, 4000, "a"), "went back"),
            (at(900_000, 100, 100, "b"), "went back by 100000 ms"),
        ] {
            assert!(later.since(&earlier).unwrap_err().contains(words), "{words}");
        }
    }
}
