//! Waiting for a condition, with a bound.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Between two looks at a condition: short against every bound, long against a look.
const POLL: Duration = Duration::from_millis(20);

/// Waits until `condition` holds; panics with `what` after `bound`.
#[track_caller]
pub(crate) fn eventually(bound: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    eventually_ok(bound, what, || if condition() { Ok(()) } else { Err("it is not so".into()) });
}

/// Waits until `look` succeeds and returns its value; panics with the last reason after `bound`.
#[track_caller]
pub(crate) fn eventually_ok<T>(
    bound: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T, String>,
) -> T {
    let end = Instant::now() + bound;
    loop {
        match look() {
            Ok(value) => return value,
            Err(reason) => {
                assert!(Instant::now() < end, "not within {bound:?}: {what}: {reason}");
            }
        }
        std::thread::sleep(POLL);
    }
}

/// Checks for the whole of `duration` that `condition` keeps holding.
#[track_caller]
pub(crate) fn for_a_while(duration: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + duration;
    while Instant::now() < end {
        assert!(condition(), "did not stay so for {duration:?}: {what}");
        std::thread::sleep(POLL);
    }
}

/// Puts a pipe in the place of a file: who reads it waits until somebody has written to it.
#[track_caller]
pub(crate) fn put_pipe(path: &Path) {
    std::fs::remove_file(path).expect("the file is there");
    let made = Command::new("mkfifo").arg(path).status().expect("mkfifo runs");
    assert!(made.success(), "{}: {made}", path.display());
}
