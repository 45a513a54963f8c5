//! Why a server takes no writes for now.

use super::Trouble;

/// A state of a server in which it takes no writes. It passes, and nothing is dropped meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its memory is full.
    Memory,
    /// Its disk is full, or fails.
    Disk,
    /// Too few replicas are in touch with it.
    Replicas,
    /// A script of somebody else does not end.
    Script,
}

impl Refusal {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Memory, Self::Disk, Self::Replicas, Self::Script];

    /// The server's name for it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Memory => "OOM",
            Self::Disk => "MISCONF",
            Self::Replicas => "NOREPLICAS",
            Self::Script => "BUSY",
        }
    }

    /// The refusal in an answer, if it is one.
    #[must_use]
    pub fn of(trouble: &Trouble) -> Option<Self> {
        let code = trouble.code()?;
        Self::ALL.into_iter().find(|refusal| refusal.code() == code)
    }
}
