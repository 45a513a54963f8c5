//! Progress on stderr: hidden where stderr is no terminal, and where `NO_COLOR` asks for plain output.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over `length` steps; without a length, a spinner.
pub(super) fn bar(length: Option<u64>) -> ProgressBar {
    let target = if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr_with_hz(5)
    };
    let bar = ProgressBar::with_draw_target(length, target);
    if length.is_none() { bar.with_style(ProgressStyle::default_spinner()) } else { bar }
}
