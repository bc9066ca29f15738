//! What a failure leaves behind: three lines, a case, and a smaller scenario that fails too.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::args::Failures;
use super::source::Source;
use super::{Refusal, terminal};
use crate::case::{COMMIT, Case};
use crate::execute::execute;
use crate::outcome::{Outcome, Violation};
use crate::plan::Plan;
use crate::scenario::Scenario;
use crate::shrink::{Shrunk, shrink};

/// A failure on its way to the person who looks at it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    /// What is broken.
    pub(super) fail: Violation,
    /// Words that repeat it.
    pub(super) repro: String,
    /// The file of the run.
    pub(super) case: PathBuf,
    /// The file of the smaller one.
    pub(super) shrunk: Option<Small>,
}

/// A smaller scenario that fails in the same way.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Small {
    /// Its file.
    pub(super) file: PathBuf,
    /// How many are left of each.
    pub(super) faults: usize,
    pub(super) nodes: usize,
    pub(super) topics: usize,
    /// Runs the search took.
    pub(super) runs: u32,
    /// Whether the search ended by itself.
    pub(super) is_complete: bool,
}

impl Report {
    /// Writes the files of a failure.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub(super) fn make(
        source: &Source,
        plan: &Plan,
        outcome: &Outcome,
        violation: &Violation,
        options: &Failures,
    ) -> Result<Self, Refusal> {
        let stem = options.cases.join(format!("case-{:x}", plan.seed));
        let case = stem.with_extension("sim");
        std::fs::create_dir_all(&options.cases)
            .map_err(|error| Refusal::new(format!("{}: {error}", options.cases.display())))?;
        Case::new(&source.name, &source.text, plan, outcome).write(&case).map_err(Refusal::new)?;
        let mut small = None;
        if !options.no_shrink {
            let spinner = terminal::spinner("looking for a smaller run that fails in the same way");
            let found = shrink(plan, &violation.rule, options.shrink_budget, &execute);
            spinner.finish_and_clear();
            if let Some(shrunk) = found {
                small = Some(Small::write(&shrunk, &stem.with_extension("min.toml"))?);
            }
        }
        Ok(Self {
            fail: violation.clone(),
            repro: format!("simulate replay --seed {:#x} {}", plan.seed, source.words()),
            case,
            shrunk: small,
        })
    }

    /// The three lines.
    pub(super) fn text(&self) -> String {
        let shrunk = match &self.shrunk {
            Some(small) => small.text(),
            None => "no".to_owned(),
        };
        format!("FAIL {}\nrepro: {} (commit {COMMIT})\nshrunk: {shrunk}\n", self.fail, self.repro)
    }
}

impl Small {
    /// Writes a plan as a scenario whose timeline is explicit.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub(super) fn write(shrunk: &Shrunk, path: &Path) -> Result<Self, Refusal> {
        let plan = &shrunk.plan;
        let fail = shrunk.outcome.violation.as_ref().map(ToString::to_string).unwrap_or_default();
        let text = format!(
            "# FAIL {fail}\n# simulate run --seed {:#x} {} (commit {COMMIT})\n{}",
            plan.seed,
            path.display(),
            Scenario::from_plan(plan).to_toml()
        );
        std::fs::write(path, text)
            .map_err(|error| Refusal::new(format!("{}: {error}", path.display())))?;
        Ok(Self {
            file: path.to_owned(),
            faults: plan.faults.len(),
            nodes: plan.nodes,
            topics: plan.topics,
            runs: shrunk.runs,
            is_complete: shrunk.is_complete,
        })
    }

    /// `case-3f21.min.toml (2 faults, 3 nodes, 1 topic)`
    pub(super) fn text(&self) -> String {
        let counted = |count: usize, noun: &str| {
            format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
        };
        format!(
            "{} ({}, {}, {})",
            self.file.strip_prefix(".").unwrap_or(&self.file).display(),
            counted(self.faults, "fault"),
            counted(self.nodes, "node"),
            counted(self.topics, "topic")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::violation;

    #[test]
    fn a_failure_is_three_lines() {
        let report = Report {
            fail: Violation {
                node: 3,
                ..violation("S4", std::time::Duration::from_millis(71_204))
            },
            repro: "simulate replay --seed 0x3f21 asymmetric-minority".to_owned(),
            case: PathBuf::from("./case-3f21.sim"),
            shrunk: Some(Small {
                file: PathBuf::from("./case-3f21.min.toml"),
                faults: 2,
                nodes: 3,
                topics: 1,
                runs: 20,
                is_complete: true,
            }),
        };
        let commit = format!("(commit {COMMIT})");
        assert_eq!(
            report.text().replace(&commit, "(commit 1a2b3c4)"),
            "FAIL S4 lost-key node=3 owner=1 key=t007 t=71.204s\n\
             repro: simulate replay --seed 0x3f21 asymmetric-minority (commit 1a2b3c4)\n\
             shrunk: case-3f21.min.toml (2 faults, 3 nodes, 1 topic)\n"
        );
    }
}
