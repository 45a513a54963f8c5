//! The canary: one model at a small weight, watched, then promoted by a person or rolled back by anything.
//!
//! | file | does |
//! | --- | --- |
//! | [`state`] | the files of the state directory, their locks, what they say together, what a crash left |
//! | [`status`] | the same at a glance, and what is broken |
//! | [`weights`] | weights that always sum to one; `weights.json` and `baseline.json` |
//! | [`audit`] | the hash-chained log |
//! | [`baseline`] | what the log says a rollback restores, and the next canary starts from |
//! | [`evidence`] | is a report on disk what it claims to be? |
//! | [`activate`], `conditions` | judges everything here and now, and any doubt blocks; what must be shown |
//! | [`monitor`], [`watch`] | re-judges at every interval, and rolls back on the first violation |
//! | [`rollback`] | restores the baseline; nothing may block it |
//! | [`promote`] | a person makes the canary's weights the baseline |
//! | [`telemetry`], [`compare`] | what intents say about the canary, and the others beside it |
//! | [`live`] | `qsc run` takes new weights up |
//! | [`hooks`] | tells others, after the fact |
//! | [`actor`], [`clock`] | who acts, and when |

pub mod activate;
pub mod actor;
pub mod audit;
pub mod baseline;
pub mod clock;
pub mod compare;
mod conditions;
pub mod evidence;
pub mod hooks;
pub mod live;
pub mod monitor;
pub mod promote;
pub mod rollback;
pub mod state;
pub mod status;
pub mod telemetry;
pub mod watch;
pub mod weights;
