//! Text for the person at the terminal.

use std::io::Write as _;

/// Writes to stdout. A reader that went away, such as `head`, is no reason to crash.
pub(super) fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Writes to stderr, with one write.
pub(super) fn err(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
