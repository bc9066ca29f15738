//! A run in a file: enough to repeat it bit for bit, and to know whether it was.
//!
//! A `.sim` file is JSON, compressed with zstd. On the commit that wrote it, a replay ends with the
//! same hash or determinism is broken. On another commit the resolved timeline is executed again:
//! the same faults at the same times with the same luck, but other code may decide otherwise.

mod check;

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use self::check::problem;
use crate::outcome::{Outcome, Violation};
use crate::plan::Plan;

/// The commit this program was built from; ends with `+` if files were changed, `unknown` without
/// git.
pub const COMMIT: &str = env!("GRAPEVINE_COMMIT");

/// Version of the file format.
const FORMAT: u32 = 1;

/// A case is a few KiB; what unpacks to more than this is none.
const CASE_BYTES_MAX: u64 = 64 << 20;

/// Good compression for little time; cases are small.
const ZSTD_LEVEL: i32 = 9;

/// A run that can be repeated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// Version of the file format, 1.
    pub format: u32,
    /// Version of the program that wrote it.
    pub version: String,
    /// See [`COMMIT`].
    pub commit: String,
    /// What the scenario was called on the command line.
    pub scenario: String,
    /// Its file, after changes from the command line.
    pub text: String,
    /// The seed that made the plan of it.
    pub seed: u64,
    /// What was executed.
    pub plan: Plan,
    /// The rule that was broken, where and when; its event is the number of the last one.
    pub violation: Option<Violation>,
    /// Events of the run.
    pub events: u64,
    /// Hash over all events.
    pub hash: u64,
    /// The hash after each [`crate::outcome::CHECKPOINT_EVENTS`] events.
    pub checkpoints: Vec<u64>,
}

impl Exactness {
    /// Of a run that is, or is not, the one that a program built from `commit` wrote down.
    pub fn of(is_same: bool, commit: &str) -> Self {
        Self::between(is_same, commit, COMMIT)
    }

    fn between(is_same: bool, left: &str, right: &str) -> Self {
        match (is_same, is_one_program(left, right)) {
            (true, _) => Self::Exact,
            (false, true) => Self::Broken,
            (false, false) => Self::OtherProgram,
        }
    }
}

/// Whether programs built from these commits are surely one.
pub fn is_one_program(left: &str, right: &str) -> bool {
    left == right && left != "unknown" && !left.ends_with('+')
}

/// Why a case cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// The file.
    #[error("{}: {error}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It is no case, or a damaged one.
    #[error("{}: not a case of `simulate`: {reason}", .path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// What a replay proved.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exactness {
    /// The same hash: the same run, bit for bit.
    Exact,
    /// Another hash on the same commit: determinism is broken.
    Broken,
    /// Another hash, but this program is not the one that wrote the case.
    OtherProgram,
}

impl Case {
    /// A case of a run that is over.
    pub fn new(scenario: &str, text: &str, plan: &Plan, outcome: &Outcome) -> Self {
        Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: COMMIT.to_owned(),
            scenario: scenario.to_owned(),
            text: text.to_owned(),
            seed: plan.seed,
            plan: plan.clone(),
            violation: outcome.violation.clone(),
            events: outcome.stats.events,
            hash: outcome.hash,
            checkpoints: outcome.checkpoints.clone(),
        }
    }

    /// Compares a replay on a program built from `commit` with the run that was written down.
    pub fn exactness(&self, replay: &Outcome, commit: &str) -> Exactness {
        let is_same = replay.hash == self.hash && replay.checkpoints == self.checkpoints;
        Exactness::between(is_same, &self.commit, commit)
    }

    /// Reads a case from a file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or holds something else.
    pub fn read(path: &Path) -> Result<Self, CaseError> {
        let packed =
            fs::read(path).map_err(|error| CaseError::File { path: path.to_owned(), error })?;
        Self::from_bytes(&packed)
            .map_err(|reason| CaseError::Content { path: path.to_owned(), reason })
    }

    /// Writes the case to a file.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), CaseError> {
        self.to_bytes()
            .and_then(|bytes| fs::write(path, bytes))
            .map_err(|error| CaseError::File { path: path.to_owned(), error })
    }

    /// The bytes of a file.
    ///
    /// # Errors
    ///
    /// A number that JSON does not know, such as an infinite rate.
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        zstd::encode_all(serde_json::to_vec(self)?.as_slice(), ZSTD_LEVEL)
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    ///
    /// What is wrong with them, in words.
    pub fn from_bytes(packed: &[u8]) -> Result<Self, String> {
        let mut json = Vec::new();
        zstd::Decoder::new(packed)
            .and_then(|decoder| decoder.take(CASE_BYTES_MAX).read_to_end(&mut json))
            .map_err(|error| error.to_string())?;
        let case: Self = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
        if case.format != FORMAT {
            return Err(format!("format {}, this program knows {FORMAT}", case.format));
        }
        match problem(&case.plan) {
            Some(problem) => Err(format!("its plan cannot be run: {problem}")),
            None => Ok(case),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{failing_plan, outcome_of};

    fn case() -> Case {
        let plan = failing_plan();
        let mut case = Case::new("storm", "schema = 1\n", &plan, &outcome_of(&plan, 12));
        case.commit = "1a2b3c4".to_owned();
        case
    }

    #[test]
    fn a_case_comes_back_from_its_file_as_it_was_to_the_last_bit_of_a_fraction() {
        let mut case = case();
        case.plan.link.loss = 0.1 + 0.2;
        case.plan.workload.churn = 1.0 / 3.0;
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("case-2a.sim");
        case.write(&path).unwrap();
        assert_eq!(Case::read(&path).unwrap(), case);
    }

    #[test]
    fn a_file_that_is_no_case_is_refused_with_its_name() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("x.sim");
        assert!(Case::read(&path).unwrap_err().to_string().contains("x.sim"));
        let mut later = case();
        later.format = 2;
        for bytes in [b"hello".to_vec(), zstd::encode_all(&b"{}"[..], 1).unwrap(), {
            later.to_bytes().unwrap()
        }] {
            fs::write(&path, bytes).unwrap();
            let error = Case::read(&path).unwrap_err().to_string();
            assert!(error.contains("x.sim: not a case"), "{error}");
        }
    }

    #[test]
    fn a_replay_is_exact_if_the_hash_is_the_same_and_broken_if_it_is_not_on_the_same_commit() {
        let case = case();
        let same = outcome_of(&case.plan, 12);
        let mut other = same.clone();
        other.hash ^= 1;
        assert_eq!(case.exactness(&same, "1a2b3c4"), Exactness::Exact);
        assert_eq!(case.exactness(&same, "fffffff"), Exactness::Exact);
        assert_eq!(case.exactness(&other, "1a2b3c4"), Exactness::Broken);
        assert_eq!(case.exactness(&other, "fffffff"), Exactness::OtherProgram);
        let changed = Case { commit: "1a2b3c4+".to_owned(), ..case };
        assert_eq!(changed.exactness(&other, "1a2b3c4+"), Exactness::OtherProgram);
    }
}
