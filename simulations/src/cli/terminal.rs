//! Text for the person at the terminal.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Redraws per second of a progress bar: smooth, and free.
const REDRAWS_PER_SECOND: u8 = 10;

/// The first error of [`out`].
static ERROR: Mutex<Option<io::Error>> = Mutex::new(None);

/// Writes to stdout. A reader that went away, such as `head`, is no error; others are kept for
/// [`take_error`], since a full disk must not look like success.
pub(super) fn out(text: &str) {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(shown(text).as_bytes()).and_then(|()| stdout.flush());
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        ERROR.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

/// The first error of [`out`], if there was one.
pub(super) fn take_error() -> Option<io::Error> {
    ERROR.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Writes to stderr, with one write.
pub(super) fn err(text: &str) {
    let _ = io::stderr().write_all(shown(text).as_bytes());
}

/// The text without anything that a terminal would obey: names in files are somebody's.
fn shown(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c.is_control() && c != '\n' && c != '\t')
}

/// A name in one line, whatever is in it.
pub(super) fn name(text: &str) -> Cow<'_, str> {
    escaped(text, char::is_control)
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return text.into();
    }
    let mut plain = String::new();
    for c in text.chars() {
        if is_escaped(c) {
            plain.extend(c.escape_default());
        } else {
            plain.push(c);
        }
    }
    plain.into()
}

/// Whether somebody looks at stdout.
pub(super) fn is_watched() -> bool {
    std::io::stdout().is_terminal()
}

/// A bar on stderr; nothing where stderr is no terminal.
pub(super) fn bar(length: u64, what: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(
        Some(length),
        ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND),
    );
    let template = "{prefix} [{bar:30}] {human_pos}/{human_len} {eta} left  {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(what.to_owned());
    bar
}

/// A line on stderr that shows that work goes on; nothing where stderr is no terminal.
pub(super) fn spinner(what: &str) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND);
    let bar = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_secs(1) / u32::from(REDRAWS_PER_SECOND));
    bar
}

/// A number in groups of three: `12,345`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time as people say it: `34 ms`, `1.2 s`, `2 min 5 s`, `3.5 h`.
pub(super) fn spoken(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        ms if ms < 100_000.0 => format!("{:.1} s", ms / 1e3),
        ms if ms >= 7_200_000.0 => format!("{:.1} h", ms / 3.6e6),
        ms => {
            let seconds = (ms / 1e3).round() as u64;
            format!("{} min {} s", seconds / 60, seconds % 60)
        }
    }
}

/// The same of a [`Duration`].
pub(super) fn spoken_time(time: Duration) -> String {
    spoken(time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_command_the_terminal() {
        assert_eq!(shown("a\u{1b}[2Jb\r\u{9b}1m\n\tc"), "a\\u{1b}[2Jb\\r\\u{9b}1m\n\tc");
        assert_eq!(name("x\nPASS"), "x\\nPASS");
        assert_eq!(name("gc-pause"), "gc-pause");
    }

    #[test]
    fn numbers_and_times_are_written_for_people() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(spoken(0.25), "0.2 ms");
        assert_eq!(spoken(840.0), "840 ms");
        assert_eq!(spoken(1_240.0), "1.2 s");
        assert_eq!(spoken(125_000.0), "2 min 5 s");
        assert_eq!(spoken(12_600_000.0), "3.5 h");
    }
}
