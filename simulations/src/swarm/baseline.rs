//! Figures of many runs that must not get much worse: what no single run can show.
//!
//! A change that makes convergence three times slower may stay within every bound of every run.
//! Compared with what the same scenarios came to before, it is plain.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Population;
use crate::rules::Rule;

/// Figures may be this much above those of the baseline, as a share of them.
pub const WORSE_MAX: f64 = 0.2;

/// A figure that is compared.
#[derive(Clone, Copy, Debug)]
struct Watched {
    rule: &'static str,
    name: &'static str,
    figure: &'static str,
    /// Differences of at most this mean nothing, whatever the share.
    noise: f64,
}

const fn watched(
    rule: &'static str,
    name: &'static str,
    figure: &'static str,
    noise: f64,
) -> Watched {
    Watched { rule, name, figure, noise }
}

const WATCHED: [Watched; 9] = [
    watched("P1", "convergence", "members_agreed_p50_ms", 100.0),
    watched("P1", "convergence", "members_agreed_p95_ms", 200.0),
    watched("P1", "convergence", "lookups_agreed_p50_ms", 100.0),
    watched("P1", "convergence", "lookups_agreed_p95_ms", 200.0),
    watched("P1", "convergence", "left_p50_ms", 2.0),
    watched("P1", "convergence", "left_p95_ms", 50.0),
    watched("P2", "staleness", "staleness_p99_ms", 20.0),
    watched("P3", "traffic", "bytes_per_node_s", 20.0),
    watched("P4", "renewals", "renewals_per_run", 0.05),
];

/// The rules that are about many runs.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        id: "P1",
        name: "convergence",
        meaning: "Over many runs, the median and the 95th percentile of the time from the healing \
            until all agree, on the members and on every topic, are at most 20 % above those of \
            the baseline; so is the time for a node that says goodbye to be in no \
            view. A bug that only delays, such as telling each change once, breaks no rule in any \
            single run; it shows here.",
        source: "simulate swarm --baseline",
    },
    Rule {
        id: "P2",
        name: "staleness",
        meaning: "Over many runs, the 99th percentile of the time for a change to reach all is at \
            most 20 % above that of the baseline. Changes are spread more slowly, or get lost and \
            are only found by comparing digests.",
        source: "simulate swarm --baseline",
    },
    Rule {
        id: "P3",
        name: "traffic",
        meaning: "Over many runs, the bytes that a node sends per second are at most 20 % above \
            those of the baseline, on average. Something is sent too often, or to too many.",
        source: "simulate swarm --baseline",
    },
    Rule {
        id: "P4",
        name: "renewals",
        meaning: "Over many runs, nodes take a new identity at most 20 % more often than in the \
            baseline. They are declared dead more often, or told so when they need not be.",
        source: "simulate swarm --baseline",
    },
];

/// What a swarm came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Scenarios, with what was changed in them, as on the command line.
    pub scenarios: Vec<String>,
    /// First seed, and the one after the last.
    pub seeds: (u64, u64),
    /// The program that ran it.
    pub commit: String,
    /// The figures by name; those that could not be measured are missing.
    pub figures: BTreeMap<String, f64>,
}

/// One figure, then and now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Id of the rule.
    pub rule: &'static str,
    /// Its name.
    pub name: &'static str,
    /// The figure.
    pub figure: &'static str,
    /// What it was.
    pub before: f64,
    /// What it is.
    pub now: f64,
    /// Whether it is not too much worse.
    pub is_kept: bool,
}

impl std::fmt::Display for Comparison {
    /// `P1 convergence members_agreed_p95_ms=7500 baseline=4000 (+88 %)`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rule, name, figure, before, now, .. } = self;
        let worse = 100.0 * (now / before.max(1e-9) - 1.0);
        write!(f, "{rule} {name} {figure}={now:.2} baseline={before:.2} ({worse:+.0} %)")
    }
}

/// The figures of a population that are compared, by name.
pub fn figures(population: &Population) -> BTreeMap<String, f64> {
    let members = population.members_agreed_ms.summary();
    let lookups = population.lookups_agreed_ms.summary();
    let left = population.left_ms.summary();
    let staleness = population.staleness_ms.summary();
    let runs = population.runs as f64;
    let all = [
        ("members_agreed_p50_ms", members.map(|it| it.p50)),
        ("members_agreed_p95_ms", members.map(|it| it.p95)),
        ("lookups_agreed_p50_ms", lookups.map(|it| it.p50)),
        ("lookups_agreed_p95_ms", lookups.map(|it| it.p95)),
        ("left_p50_ms", left.map(|it| it.p50)),
        ("left_p95_ms", left.map(|it| it.p95)),
        ("staleness_p99_ms", staleness.map(|it| it.p99)),
        ("bytes_per_node_s", population.bytes.mean()),
        ("renewals_per_run", (runs > 0.0).then(|| population.renewals as f64 / runs)),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// Compares figures with those of before. What is missing on one side is not compared.
pub fn compare(before: &BTreeMap<String, f64>, now: &BTreeMap<String, f64>) -> Vec<Comparison> {
    let one = |watched: &Watched| {
        let (&before, &now) = (before.get(watched.figure)?, now.get(watched.figure)?);
        let is_kept = now <= before * (1.0 + WORSE_MAX) || now - before <= watched.noise;
        let Watched { rule, name, figure, .. } = *watched;
        Some(Comparison { rule, name, figure, before, now, is_kept })
    };
    WATCHED.iter().filter_map(one).collect()
}

impl Baseline {
    /// Reads a baseline.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is none; in words for people.
    pub fn read(path: &Path) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
        serde_json::from_str(&text).map_err(|error| wrong(&error))
    }

    /// Writes it.
    ///
    /// # Errors
    ///
    /// The file cannot be written; in words for people.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = serde_json::to_string_pretty(self).map_err(|error| wrong(&error))?;
        std::fs::write(path, text + "\n").map_err(|error| wrong(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{failing_plan, outcome_of};

    fn population(agreed_ms: u64, bytes: u32, renewals: u64) -> Population {
        let mut population = Population::default();
        for run in 0..100 {
            let mut outcome = outcome_of(&failing_plan(), 9);
            let took = std::time::Duration::from_millis(agreed_ms + run);
            outcome.stats.members_agreed = Some(took);
            outcome.stats.lookups_agreed = Some(took);
            outcome.stats.bytes_by_second = vec![bytes; 3];
            outcome.stats.renewals = renewals;
            population.add(&failing_plan(), &outcome);
        }
        population
    }

    fn broken(before: &Population, now: &Population) -> Vec<&'static str> {
        let all = compare(&figures(before), &figures(now));
        let mut rules: Vec<_> = all.iter().filter(|it| !it.is_kept).map(|it| it.rule).collect();
        rules.dedup();
        rules
    }

    #[test]
    fn each_figure_that_got_much_worse_breaks_its_rule() {
        let before = population(2_000, 1_000, 2);
        assert!(broken(&before, &before).is_empty());
        assert!(broken(&before, &population(2_300, 1_150, 2)).is_empty(), "less than 20 %");
        assert!(broken(&before, &population(500, 500, 0)).is_empty(), "better");
        assert_eq!(broken(&before, &population(2_700, 1_000, 2)), ["P1"]);
        assert_eq!(broken(&before, &population(2_000, 1_300, 2)), ["P3"]);
        assert_eq!(broken(&before, &population(2_000, 1_000, 3)), ["P4"]);
        let all = compare(&figures(&before), &figures(&before));
        assert_eq!(all.len(), 6, "no staleness was measured, so it is not compared");
    }

    #[test]
    fn a_baseline_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("baseline.json");
        let baseline = Baseline {
            scenarios: vec!["swarm".to_owned()],
            seeds: (0, 100),
            commit: "1a2b3c4".to_owned(),
            figures: figures(&population(2_000, 1_000, 2)),
        };
        baseline.write(&path).unwrap();
        assert_eq!(Baseline::read(&path), Ok(baseline));
        std::fs::write(&path, "{}").unwrap();
        assert!(Baseline::read(&path).unwrap_err().contains("baseline.json"));
    }
}
