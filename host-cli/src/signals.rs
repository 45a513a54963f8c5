//! What SIGINT and SIGTERM do: a finite command ends at once, with its own exit code; `run` shuts down cleanly.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Context as _;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Exit codes of interrupted commands: 128 + the signal's number.
const CODES: [(i32, i32); 2] = [(SIGINT, 130), (SIGTERM, 143)];

/// Ends the process at the first signal. Files are unharmed: they take their names only when complete.
///
/// # Errors
/// The system refuses the handlers.
pub fn exit_at_once() -> anyhow::Result<()> {
    let always = Arc::new(AtomicBool::new(true));
    for (signal, code) in CODES {
        flag::register_conditional_shutdown(signal, code, Arc::clone(&always))
            .context("cannot watch signals")?;
    }
    Ok(())
}

/// Set by the first signal; the second one ends the process.
#[derive(Debug)]
pub struct Stop {
    requested: Arc<AtomicBool>,
    /// The last signal; 0 before any.
    signal: Arc<AtomicUsize>,
}

impl Stop {
    /// Watches for signals from now on.
    ///
    /// # Errors
    /// The system refuses the handlers.
    pub fn watch() -> anyhow::Result<Self> {
        let (stop, last) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        for (signal, code) in CODES {
            // In this order: the first signal must not meet a flag it has just set itself.
            flag::register_conditional_shutdown(signal, code, Arc::clone(&stop))
                .context("cannot watch signals")?;
            let number = usize::try_from(signal).context("signals are positive")?;
            flag::register_usize(signal, Arc::clone(&last), number).context("cannot watch signals")?;
            flag::register(signal, Arc::clone(&stop)).context("cannot watch signals")?;
        }
        Ok(Self { requested: stop, signal: last })
    }

    /// The signal that came.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        let signal = self.signal.load(Ordering::Relaxed);
        i32::try_from(signal).ok().filter(|&signal| signal > 0)
    }

    /// True once a signal came.
    #[must_use]
    pub fn requested(&self) -> bool {
        self.requested.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signal_that_came_is_known() {
        let stop = Stop::watch().unwrap();
        assert_eq!((stop.requested(), stop.signal()), (false, None));
        signal_hook::low_level::raise(SIGINT).unwrap();
        assert_eq!((stop.requested(), stop.signal()), (true, Some(SIGINT)));
    }
}
