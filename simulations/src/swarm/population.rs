//! Figures over many runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::outcome::Outcome;
use crate::plan::Plan;

/// Digits that quantiles keep: an error of one in a thousand.
const DIGITS: u8 = 3;

/// Runs per step of [`Population::news`].
const NEWS_STEP: u64 = 100;

/// What many runs have in common. Fed in the order of seeds.
#[derive(Clone, Debug)]
pub struct Population {
    /// Runs.
    pub runs: u64,
    /// Events in them.
    pub events: u64,
    /// Time simulated.
    pub simulated: Duration,
    /// Time until all agreed on the members after the healing, in ms.
    pub members_agreed_ms: Quantiles,
    /// ... and on every topic.
    pub lookups_agreed_ms: Quantiles,
    /// Runs with a healing that had not agreed at their end.
    pub never_agreed: u64,
    /// Time for a change to reach all, in ms.
    pub staleness_ms: Quantiles,
    /// Time for a node that is gone to be in no view, in ms.
    pub gone_ms: Quantiles,
    /// The same for those that said goodbye.
    pub left_ms: Quantiles,
    /// Bytes per node and second while nothing happens.
    pub idle_bytes: Quantiles,
    /// Bytes per node and second, each second of each run.
    pub bytes: Quantiles,
    /// Renewals of identities.
    pub renewals: u64,
    /// Live members declared down while little was wrong.
    pub false_downs: u64,
    /// Points of the code, and how many runs reached each.
    pub coverage: BTreeMap<String, u64>,
    /// New points in each hundred runs.
    pub news: Vec<u64>,
    /// Kinds of faults, and in how many runs they were.
    pub faults: BTreeMap<&'static str, u64>,
    /// Rules that were off since the network itself is bad, and in how many runs.
    pub rules_off: BTreeMap<&'static str, u64>,
    /// Hash over the hashes of all runs: equal for equal swarms, whatever the threads.
    pub digest: u64,
    last_news: u64,
}

/// A distribution.
#[derive(Clone, Debug)]
pub struct Quantiles(Histogram<u64>);

impl Default for Quantiles {
    fn default() -> Self {
        Self(Histogram::new(DIGITS).expect("three digits are allowed"))
    }
}

/// A distribution in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Values.
    pub count: u64,
    /// Half are lower.
    pub p50: f64,
    /// One in twenty is higher.
    pub p95: f64,
    /// One in a hundred is higher.
    pub p99: f64,
    /// The highest.
    pub max: f64,
}

impl Quantiles {
    /// Thousandths are kept, so that sub-millisecond times are not all zero.
    const SCALE: f64 = 1_000.0;

    /// Adds a value. What is negative or no number counts as 0.
    pub fn add(&mut self, value: f64) {
        // `saturating_record` would cut at the size the histogram has by now. Growing fails only
        // for values beyond its range, of thousands of years.
        let _ = self.0.record((value * Self::SCALE) as u64);
    }

    /// Adds values.
    pub fn extend(&mut self, values: impl IntoIterator<Item = f64>) {
        for value in values {
            self.add(value);
        }
    }

    /// The average; `None` without values.
    pub fn mean(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.mean() / Self::SCALE)
    }

    /// The usual quantiles; `None` without values.
    pub fn summary(&self) -> Option<Summary> {
        if self.0.is_empty() {
            return None;
        }
        let at = |quantile: f64| self.0.value_at_quantile(quantile) as f64 / Self::SCALE;
        Some(Summary {
            count: self.0.len(),
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            max: self.0.max() as f64 / Self::SCALE,
        })
    }
}

impl Default for Population {
    fn default() -> Self {
        Self {
            runs: 0,
            events: 0,
            simulated: Duration::ZERO,
            members_agreed_ms: Quantiles::default(),
            lookups_agreed_ms: Quantiles::default(),
            never_agreed: 0,
            staleness_ms: Quantiles::default(),
            gone_ms: Quantiles::default(),
            left_ms: Quantiles::default(),
            idle_bytes: Quantiles::default(),
            bytes: Quantiles::default(),
            renewals: 0,
            false_downs: 0,
            coverage: BTreeMap::new(),
            news: Vec::new(),
            faults: BTreeMap::new(),
            rules_off: BTreeMap::new(),
            digest: 0,
            last_news: 0,
        }
    }
}

impl Population {
    /// Counts one more run.
    pub fn add(&mut self, plan: &Plan, outcome: &Outcome) {
        let stats = &outcome.stats;
        if self.runs.is_multiple_of(NEWS_STEP) {
            self.news.push(0);
        }
        self.runs += 1;
        self.events += stats.events;
        self.simulated += outcome.violation.as_ref().map_or(plan.end, |violation| violation.at);
        let ms = |time: Option<Duration>| time.map(|time| time.as_secs_f64() * 1e3);
        self.members_agreed_ms.extend(ms(stats.members_agreed));
        self.lookups_agreed_ms.extend(ms(stats.lookups_agreed));
        self.never_agreed += u64::from(plan.heal_at.is_some() && stats.lookups_agreed.is_none());
        self.staleness_ms.extend(stats.staleness_ms.iter().map(|&ms| f64::from(ms)));
        self.gone_ms.extend(stats.gone_ms.iter().map(|&(_, ms)| f64::from(ms)));
        let left = stats.gone_ms.iter().filter(|(why, _)| why == "leave");
        self.left_ms.extend(left.map(|&(_, ms)| f64::from(ms)));
        self.idle_bytes.extend(Some(stats.idle_bytes).filter(|bytes| *bytes > 0.0));
        self.bytes.extend(stats.bytes_by_second.iter().map(|&bytes| f64::from(bytes)));
        self.renewals += stats.renewals;
        self.false_downs += stats.false_downs;
        for point in &stats.coverage {
            if !self.coverage.contains_key(point) {
                self.last_news = self.runs;
                if let Some(news) = self.news.last_mut() {
                    *news += 1;
                }
            }
            *self.coverage.entry(point.clone()).or_default() += 1;
        }
        let classes: BTreeSet<_> = plan.faults.iter().map(|fault| fault.fault.class()).collect();
        for class in classes {
            *self.faults.entry(class).or_default() += 1;
        }
        for rule in crate::oracle::rules_off(plan) {
            *self.rules_off.entry(rule).or_default() += 1;
        }
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.digest.to_le_bytes());
        bytes[8..].copy_from_slice(&outcome.hash.to_le_bytes());
        self.digest = xxhash_rust::xxh3::xxh3_64(&bytes);
    }

    /// Runs since the last that reached something new.
    pub fn runs_without_news(&self) -> u64 {
        self.runs - self.last_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_values_within_one_in_a_thousand() {
        let mut quantiles = Quantiles::default();
        assert_eq!(quantiles.summary(), None);
        quantiles.extend((1..=1_000).map(f64::from));
        let summary = quantiles.summary().unwrap();
        assert_eq!(summary.count, 1_000);
        for (measured, right) in
            [(summary.p50, 500.0), (summary.p95, 950.0), (summary.p99, 990.0), (summary.max, 1e3)]
        {
            assert!((measured / right - 1.0_f64).abs() < 2e-3, "{measured} is not {right}");
        }
    }
}
