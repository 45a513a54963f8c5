//! What this binary was built from.
//!
//! `build.rs` asks git at every build in which HEAD, the index or a tracked file may have changed, so the answer
//! cannot go stale; `QSC_GIT_SHA` overrides it where there is no repository.

use qsc_kernel::Backend;

/// The version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

const BUILD: &str = env!("QSC_BUILD");

/// The compiler, as it names itself.
pub const RUSTC: &str = env!("QSC_RUSTC");

/// The target triple.
pub const TARGET: &str = env!("QSC_TARGET");

/// A build that does not know its commit.
pub const UNKNOWN: &str = "<unknown>";
/// What ends a build with changes nobody has recorded.
pub const DIRTY: &str = "-dirty";
/// What stands before the build in the log of an engine.
pub const MARKER: &str = "AI_ENGINE_BUILD:";

/// `<full git sha>`, `<full git sha>-dirty` if a tracked file differed from it, or `<unknown>`.
#[must_use]
pub const fn build() -> &'static str {
    BUILD
}

/// The full git SHA, or `<unknown>`.
#[must_use]
pub fn git_sha() -> &'static str {
    BUILD.strip_suffix(DIRTY).unwrap_or(BUILD)
}

/// Whether a tracked file differed from [`git_sha`]; `None` if that is unknown.
#[must_use]
pub fn is_dirty() -> Option<bool> {
    (BUILD != UNKNOWN).then(|| BUILD.ends_with(DIRTY))
}

/// The line a deployment looks for in the journal: [`MARKER`] and [`build`].
#[must_use]
pub fn log_line() -> String {
    format!("{MARKER} {BUILD}")
}

/// Names of the kernel's backends this machine can run.
pub fn backends() -> impl Iterator<Item = &'static str> {
    Backend::available().map(Backend::name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_is_a_full_sha_or_owns_up() {
        let sha = git_sha();
        let is_full = matches!(sha.len(), 40 | 64) && sha.bytes().all(|digit| digit.is_ascii_hexdigit());
        assert!(is_full || (sha == UNKNOWN && is_dirty().is_none()), "{BUILD}");
        assert_eq!(is_dirty() == Some(true), BUILD == format!("{sha}-dirty"));
        assert_eq!(log_line(), format!("{MARKER} {BUILD}"));
    }

    #[test]
    fn compiler_and_target_are_known() {
        assert!(RUSTC.starts_with("rustc "), "{RUSTC}");
        assert!(TARGET.contains(std::env::consts::ARCH), "{TARGET}");
    }
}
