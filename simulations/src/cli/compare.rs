//! Two runs that should be one: where they part.
//!
//! The hashes at the checkpoints say roughly where. Both plans are executed again, and only the
//! events around that place are kept and compared one by one.

use std::ops::Range;

use super::window;
use crate::case::Case;
use crate::execute::Execute;
use crate::outcome::{CHECKPOINT_EVENTS, Outcome};
use crate::plan::Plan;
use crate::trace::{Record, Recorder};

/// Equal events shown before the first that differs.
const BEFORE_LINES: usize = 5;

/// Events shown from the first that differs.
const AFTER_LINES: usize = 3;

/// The part of a run between two checkpoints.
struct Span {
    events: Range<u64>,
    records: Vec<Record>,
}

impl Recorder for Span {
    fn record(&mut self, record: &Record) {
        if self.events.contains(&record.i) {
            self.records.push(record.clone());
        }
    }
}

/// What tells one run from another, whether it was just done or is written down.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Track<'a> {
    hash: u64,
    checkpoints: &'a [u64],
}

impl<'a> From<&'a Outcome> for Track<'a> {
    fn from(outcome: &'a Outcome) -> Self {
        Self { hash: outcome.hash, checkpoints: &outcome.checkpoints }
    }
}

impl<'a> From<&'a Case> for Track<'a> {
    fn from(case: &'a Case) -> Self {
        Self { hash: case.hash, checkpoints: &case.checkpoints }
    }
}

/// Where two runs part.
pub(super) struct Parting {
    /// Number of the first checkpoint at which they differ.
    pub(super) checkpoint: usize,
    /// Events of both around the place.
    left: Vec<Record>,
    right: Vec<Record>,
    /// Index of the first that differs, in both.
    at: usize,
}

impl Parting {
    /// Compares two runs; `None` if they were one.
    pub(super) fn find(
        left: (&Plan, Track<'_>),
        right: (&Plan, Track<'_>),
        execute: &Execute<'_>,
    ) -> Option<Self> {
        if left.1 == right.1 {
            return None;
        }
        let same = left.1.checkpoints.iter().zip(right.1.checkpoints);
        let checkpoint = same.take_while(|(left, right)| left == right).count();
        let start = checkpoint as u64 * CHECKPOINT_EVENTS;
        // An event more on both sides, whatever a checkpoint counts exactly.
        let events = start.saturating_sub(1)..start + CHECKPOINT_EVENTS + 2;
        let again = |plan: &Plan| {
            let mut span = Span { events: events.clone(), records: Vec::new() };
            execute(plan, Some(&mut span));
            span.records
        };
        let (left, right) = (again(left.0), again(right.0));
        let at = left.iter().zip(&right).take_while(|(left, right)| left == right).count();
        Some(Self { checkpoint, left, right, at })
    }

    /// The number of the first event that differs; `None` if the runs did not differ this time.
    pub(super) fn event(&self) -> Option<u64> {
        let first = self.left.get(self.at).or_else(|| self.right.get(self.at))?;
        Some(first.i)
    }

    /// The events on both sides, for people.
    pub(super) fn text(&self, left: (&str, &Plan), right: (&str, &Plan)) -> String {
        let start = self.checkpoint as u64 * CHECKPOINT_EVENTS;
        let mut text =
            format!("They are equal up to checkpoint {}, event {start}", self.checkpoint);
        let Some(event) = self.event() else {
            text.push_str(&format!(
                ", and differ before event {}. Executed once more they did not differ there: what \
                 differs is not in the plan.\n",
                start + CHECKPOINT_EVENTS
            ));
            return text;
        };
        text.push_str(&format!(", and differ first in event {event}:\n"));
        let before = self.at.saturating_sub(BEFORE_LINES);
        for record in self.left.get(before..self.at).unwrap_or_default() {
            text.push_str(&format!("   {}", window::line(record, left.1)));
        }
        for (name, records, plan) in [(left.0, &self.left, left.1), (right.0, &self.right, right.1)]
        {
            text.push_str(&format!("{name}:\n"));
            let end = (self.at + AFTER_LINES).min(records.len());
            let shown = records.get(self.at..end).unwrap_or_default();
            for record in shown {
                text.push_str(&format!(" > {}", window::line(record, plan)));
            }
            if shown.is_empty() {
                text.push_str(" > the run is over\n");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{failing_plan, outcome_of};
    use crate::trace::What;

    /// Runs of 3,000 events; with an odd seed event 2,000 is another one.
    fn execute(plan: &Plan, recorder: Option<&mut dyn Recorder>) -> Outcome {
        let mut outcome = outcome_of(plan, 3_000);
        let odd = plan.seed & 1;
        outcome.checkpoints = vec![1, 2 + odd];
        outcome.hash = 3 + odd;
        if let Some(recorder) = recorder {
            for i in 0..3_000 {
                let lamport = if i >= 2_000 { odd } else { 0 };
                recorder.record(&Record { i, t: i, n: Some(0), lamport, what: What::Timer, h: i });
            }
        }
        outcome
    }

    #[test]
    fn the_first_event_that_differs_is_found() {
        let left = failing_plan();
        let right = Plan { seed: 7, ..failing_plan() };
        let (a, b) = (execute(&left, None), execute(&right, None));
        let (a, b) = (Track::from(&a), Track::from(&b));
        let parting = Parting::find((&left, a), (&right, b), &execute).expect("they differ");
        assert_eq!((parting.checkpoint, parting.event()), (1, Some(2_000)));
        let text = parting.text(("A", &left), ("B", &right));
        assert_eq!(text.lines().count(), 1 + 5 + 2 * 4, "{text}");
        assert!(Parting::find((&left, a), (&left, a), &execute).is_none());
    }

    #[test]
    fn a_difference_that_does_not_show_again_is_said_so() {
        let plan = failing_plan();
        let a = execute(&plan, None);
        let mut b = a.clone();
        b.checkpoints[1] ^= 8;
        let (a, b) = (Track::from(&a), Track::from(&b));
        let parting = Parting::find((&plan, a), (&plan, b), &execute).expect("they differ");
        assert_eq!(parting.event(), None);
        assert!(parting.text(("A", &plan), ("B", &plan)).contains("not in the plan"));
    }
}
