//! The exit codes of the contract: the only place that turns an outcome into a number. What a signal ends is in `signals`.

use std::process::ExitCode;

/// How a command ended. Only [`Exit::Pass`] ever enables a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done; for a gate: passed, promotion is allowed.
    Pass,
    /// The tool could not do its work. Never a verdict.
    Error,
    /// A verdict: blocked.
    Fail,
    /// Collection mode complete; never promotes.
    Collection,
    /// Wrong arguments.
    Usage,
}

impl Exit {
    /// The number the process returns.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Error => 1,
            Self::Fail => 2,
            Self::Collection => 3,
            Self::Usage => 64,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
