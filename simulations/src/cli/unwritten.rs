//! What could not be written though the run is over.

use super::{Refusal, Verdict, terminal};

/// Files that could not be written. A broken rule is worth more than a file, so it is told first
/// and has the exit code; what is in here comes after it.
#[derive(Debug, Default)]
pub(super) struct Unwritten(Vec<Refusal>);

impl Unwritten {
    /// Remembers what went wrong, if something did.
    pub(super) fn add(&mut self, refusal: Option<Refusal>) {
        self.0.extend(refusal);
    }

    /// The result, if there is one.
    pub(super) fn take<T>(&mut self, result: Result<T, Refusal>) -> Option<T> {
        result.map_err(|refusal| self.0.push(refusal)).ok()
    }

    /// For machines.
    pub(super) fn json(&self) -> serde_json::Value {
        self.0.iter().map(ToString::to_string).collect()
    }

    /// Says what was not written. The verdict stays if something was found; else the command did
    /// not do what it was asked.
    pub(super) fn tell(self, verdict: Verdict) -> Verdict {
        for refusal in &self.0 {
            terminal::err(&format!("simulate: {refusal}\n"));
        }
        match verdict {
            Verdict::Pass | Verdict::Undecided if !self.0.is_empty() => Verdict::Usage,
            verdict => verdict,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_written_spoils_a_success_and_hides_no_failure() {
        for (before, after) in [
            (Verdict::Pass, Verdict::Usage),
            (Verdict::Undecided, Verdict::Usage),
            (Verdict::Violation, Verdict::Violation),
            (Verdict::Nondeterminism, Verdict::Nondeterminism),
        ] {
            assert_eq!(Unwritten::default().tell(before), before);
            let mut unwritten = Unwritten::default();
            assert_eq!(unwritten.take::<()>(Err(Refusal::new("x: no space"))), None);
            assert_eq!(unwritten.tell(before), after);
        }
    }
}
