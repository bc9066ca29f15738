//! What a failure leaves behind: three lines, a case, and a smaller scenario that fails too.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::args::Failures;
use super::source::Source;
use super::unwritten::Unwritten;
use super::{Refusal, terminal};
use crate::case::{COMMIT, Case};
use crate::execute::execute;
use crate::outcome::{Outcome, Violation};
use crate::plan::Plan;
use crate::shrink::{Shrunk, shrink, text_of};

/// A failure on its way to the person who looks at it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    /// What is broken.
    pub(super) fail: Violation,
    /// Words that repeat it.
    pub(super) repro: String,
    /// The file of the run; `None`: it could not be written.
    pub(super) case: Option<PathBuf>,
    /// The file of the smaller one.
    pub(super) shrunk: Option<Small>,
    /// Why there is none.
    pub(super) not_shrunk: Option<String>,
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
    /// Writes the files of a failure, those that can be written.
    pub(super) fn make(
        source: &Source,
        plan: &Plan,
        outcome: &Outcome,
        violation: &Violation,
        options: &Failures,
        unwritten: &mut Unwritten,
    ) -> Self {
        let path = |ending: &str| {
            let name = format!("{}.{ending}", file_stem(&source.name, plan.seed));
            options.cases.join(name)
        };
        let case = path("sim");
        let written = create_folder(&options.cases).and_then(|()| {
            let content = Case::new(&source.name, &source.text, plan, outcome);
            content.write(&case).map_err(Refusal::new)
        });
        let case = unwritten.take(written).map(|()| case);
        let shrunk = if options.no_shrink {
            Err("not tried (--no-shrink)".to_owned())
        } else if case.is_none() {
            Err("not tried, since no file can be written".to_owned())
        } else {
            let spinner = terminal::spinner("looking for a smaller run that fails in the same way");
            let found = shrink(plan, &violation.rule, options.shrink_budget, &execute);
            spinner.finish_and_clear();
            let found = found.ok_or_else(|| "no, once more it did not fail".to_owned());
            found.and_then(|shrunk| {
                Small::write(&shrunk, &path("min.toml")).map_err(|refusal| format!("no, {refusal}"))
            })
        };
        let not_shrunk = shrunk.as_ref().err().cloned();
        Self {
            fail: violation.clone(),
            repro: format!("simulate replay --seed {:#x} {}", plan.seed, source.words()),
            case,
            shrunk: shrunk.ok(),
            not_shrunk,
        }
    }

    /// The three lines.
    pub(super) fn text(&self) -> String {
        let shrunk = match &self.shrunk {
            Some(small) => small.text(),
            None => self.not_shrunk.clone().unwrap_or_default(),
        };
        format!("FAIL {}\nrepro: {} (commit {COMMIT})\nshrunk: {shrunk}\n", self.fail, self.repro)
    }
}

/// Creates a folder for cases, if it is not there.
///
/// # Errors
///
/// It cannot be created.
pub(super) fn create_folder(folder: &Path) -> Result<(), Refusal> {
    std::fs::create_dir_all(folder)
        .map_err(|error| Refusal::new(format!("{}: {error}", folder.display())))
}

/// `case-split-brain-2a`: what files of a failure of `scenarios/split-brain.toml` are called.
///
/// The smaller scenario of a case, run in turn, has a name of its own and overwrites nothing.
fn file_stem(scenario: &str, seed: u64) -> String {
    let name = scenario.rsplit(['/', '\\']).next().unwrap_or(scenario);
    let name = name.strip_suffix(".toml").unwrap_or(name);
    let name = name.strip_prefix("case-").unwrap_or(name);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let plain = name.chars().map(|c| if is_plain(c) { c } else { '-' });
    let name: String = plain.take(NAME_CHARS_MAX).collect();
    format!("case-{name}-{seed:x}")
}

/// Characters of a scenario's name in names of files, which systems limit to 255 bytes.
const NAME_CHARS_MAX: usize = 100;

impl Small {
    /// Writes a plan as a scenario whose timeline is explicit.
    ///
    /// # Errors
    ///
    /// The file cannot be written, or a scenario file cannot say this plan.
    pub(super) fn write(shrunk: &Shrunk, path: &Path) -> Result<Self, Refusal> {
        let plan = &shrunk.plan;
        let fail = shrunk.outcome.violation.as_ref().map(ToString::to_string).unwrap_or_default();
        let scenario = text_of(plan).map_err(|reason| {
            let (faults, nodes) =
                (counted(plan.faults.len(), "fault"), counted(plan.nodes, "node"));
            Refusal::new(format!("what is left ({faults}, {nodes}) is no scenario file: {reason}"))
        })?;
        let text = format!(
            "# FAIL {fail}\n# simulate run --seed {:#x} {} (commit {COMMIT})\n{scenario}",
            plan.seed,
            path.display(),
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

    /// `case-split-brain-3f21.min.toml (2 faults, 3 nodes, 1 topic)`
    pub(super) fn text(&self) -> String {
        let late = if self.is_complete { "" } else { ", until time was over" };
        format!(
            "{} ({}, {}, {}){late}",
            self.file.strip_prefix(".").unwrap_or(&self.file).display(),
            counted(self.faults, "fault"),
            counted(self.nodes, "node"),
            counted(self.topics, "topic")
        )
    }
}

/// `1 fault`, `2 faults`
pub(super) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{failing_plan, outcome_of, violation};

    fn small() -> Small {
        Small {
            file: PathBuf::from("./case-storm-3f21.min.toml"),
            faults: 2,
            nodes: 3,
            topics: 1,
            runs: 20,
            is_complete: true,
        }
    }

    #[test]
    fn a_failure_is_three_lines() {
        let report = Report {
            fail: Violation {
                node: Some(3),
                ..violation("S4", std::time::Duration::from_millis(71_204))
            },
            repro: "simulate replay --seed 0x3f21 asymmetric-minority".to_owned(),
            case: Some(PathBuf::from("./case-storm-3f21.sim")),
            shrunk: Some(small()),
            not_shrunk: None,
        };
        let commit = format!("(commit {COMMIT})");
        let text = |report: &Report| report.text().replace(&commit, "(commit 1a2b3c4)");
        assert_eq!(
            text(&report),
            "FAIL S4 lost-key node=3 owner=1 key=t007 t=71.204s\n\
             repro: simulate replay --seed 0x3f21 asymmetric-minority (commit 1a2b3c4)\n\
             shrunk: case-storm-3f21.min.toml (2 faults, 3 nodes, 1 topic)\n"
        );
        let late = Small { is_complete: false, ..small() };
        assert!(late.text().ends_with("1 topic), until time was over"), "{}", late.text());
        let why = Some("not tried (--no-shrink)".to_owned());
        let alone = Report { shrunk: None, not_shrunk: why, ..report };
        assert!(text(&alone).ends_with("\nshrunk: not tried (--no-shrink)\n"), "{}", text(&alone));
    }

    #[test]
    fn files_of_a_failure_are_called_like_its_scenario_and_seed() {
        assert_eq!(file_stem("split-brain", 0x2a), "case-split-brain-2a");
        assert_eq!(file_stem("../mine/a b.toml", 0), "case-a-b-0");
        assert_eq!(file_stem("case-a-2a.min.toml", 0x2a), "case-a-2a-min-2a");
        assert!(file_stem(&"x".repeat(500), u64::MAX).len() < 200);
    }

    #[test]
    fn what_no_scenario_file_can_say_is_not_written() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("case.min.toml");
        let plan = failing_plan();
        let plan = Plan { end: plan.heal_at.unwrap() / 2, ..plan };
        let outcome = outcome_of(&plan, 9);
        let shrunk = Shrunk { plan, outcome, runs: 1, is_complete: true };
        let refusal = Small::write(&shrunk, &path).unwrap_err().to_string();
        assert!(refusal.contains("is no scenario file: "), "{refusal}");
        assert!(!path.exists());
    }
}
