//! Makes a failing run small: what is left is what the failure needs.
//!
//! Delta debugging over a [`Plan`]: faults go, first by cause and then one by one, then traffic,
//! nodes and topics, then time. A candidate counts only if the *same* rule is broken, so the search
//! cannot wander off to another failure. It works because luck is keyed by what it is about: what
//! is taken away does not reshuffle the rest.

mod edit;

use std::time::{Duration, Instant};

pub(crate) use self::edit::nodes_of;
use crate::execute::Execute;
use crate::outcome::Outcome;
use crate::plan::{Knobs, Link, Plan};
use crate::scenario::Scenario;

/// Time for a search, unless the user says otherwise. Most end within a second.
pub const BUDGET: Duration = Duration::from_secs(10);

/// A fault that lasts no longer than this is not shortened further: no timer is as fine.
const FAULT_SHORTEST: Duration = Duration::from_millis(100);

/// Rounds over everything. The second round finds little, the third next to nothing.
const ROUNDS_MAX: u32 = 4;

/// Time left after the last moment that matters, so that a picture shows it.
const TAIL: Duration = Duration::from_secs(1);

/// A failing run that was made small.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What still fails.
    pub plan: Plan,
    /// How it ends.
    pub outcome: Outcome,
    /// Runs it took.
    pub runs: u32,
    /// The search ended by itself; otherwise the budget was over.
    pub is_complete: bool,
}

/// Searches for a smaller plan that breaks the same rule.
///
/// `None` if `plan` does not break `rule`, as on another commit.
pub fn shrink(plan: &Plan, rule: &str, budget: Duration, execute: &Execute<'_>) -> Option<Shrunk> {
    let deadline = Instant::now().checked_add(budget);
    let outcome = execute(plan, None);
    if !breaks(&outcome, rule) {
        return None;
    }
    let best = Shrunk { plan: plan.clone(), outcome, runs: 1, is_complete: true };
    let is_scenario = text_of(plan).is_ok();
    let mut search = Search { best, rule, execute, deadline, is_scenario };
    search.make_scenario();
    for _ in 0..ROUNDS_MAX {
        let before = search.best.plan.clone();
        search.drop_fault_groups();
        search.drop_faults();
        search.drop_nodes();
        search.drop_conditions();
        search.drop_topics();
        search.shorten_faults();
        search.shorten_run();
        if search.best.plan == before {
            break;
        }
    }
    Some(search.best)
}

/// The plan as a scenario file with an explicit timeline.
///
/// # Errors
///
/// Why such a file would be refused.
pub fn text_of(plan: &Plan) -> Result<String, String> {
    let text = Scenario::from_plan(plan).to_toml();
    match Scenario::parse(&text, &plan.name) {
        Ok(_) => Ok(text),
        Err(error) => Err(error.message),
    }
}

fn breaks(outcome: &Outcome, rule: &str) -> bool {
    outcome.violation.as_ref().is_some_and(|violation| violation.rule == rule)
}

struct Search<'a> {
    best: Shrunk,
    rule: &'a str,
    execute: &'a Execute<'a>,
    /// `None`: later than clocks go.
    deadline: Option<Instant>,
    /// A scenario file can say the best plan.
    is_scenario: bool,
}

impl Search<'_> {
    /// Takes the candidate if it breaks the same rule.
    fn accepts(&mut self, candidate: Plan) -> bool {
        if candidate == self.best.plan {
            return false;
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            self.best.is_complete = false;
            return false;
        }
        self.breaks_too(candidate)
    }

    /// The same, however late it is.
    fn breaks_too(&mut self, candidate: Plan) -> bool {
        // What is left is for people to run, so a file must be able to say it.
        let is_scenario = text_of(&candidate).is_ok();
        if self.is_scenario && !is_scenario {
            return false;
        }
        self.best.runs += 1;
        let outcome = (self.execute)(&candidate, None);
        let same = breaks(&outcome, self.rule);
        if same {
            (self.best.plan, self.best.outcome) = (candidate, outcome);
            self.is_scenario = is_scenario;
        }
        same
    }

    /// A run that was cut short before it was mended, or that has faults which never happen, is one
    /// that no file can say. This is done even if there is no time for anything else.
    fn make_scenario(&mut self) {
        if !self.is_scenario {
            let mut plan = self.best.plan.clone();
            edit::leave_out_what_never_happens(&mut plan);
            if plan != self.best.plan {
                self.breaks_too(plan);
            }
        }
    }

    /// The same, of the best plan after a change.
    fn accepts_with(&mut self, change: impl FnOnce(&mut Plan)) -> bool {
        let mut candidate = self.best.plan.clone();
        change(&mut candidate);
        self.accepts(candidate)
    }

    /// Removes runs of parts: all at once, then halves, quarters, ... single ones.
    fn drop_parts(
        &mut self,
        count: impl Fn(&Plan) -> usize,
        remove: impl Fn(&mut Plan, std::ops::Range<usize>),
    ) {
        let mut size = count(&self.best.plan);
        while size > 0 {
            let mut start = 0;
            while start < count(&self.best.plan) {
                let end = (start + size).min(count(&self.best.plan));
                if !self.accepts_with(|plan| remove(plan, start..end)) {
                    start = end;
                }
            }
            size /= 2;
        }
    }

    fn drop_fault_groups(&mut self) {
        let groups = |plan: &Plan| {
            let mut groups: Vec<u32> = plan.faults.iter().map(|fault| fault.group).collect();
            groups.sort_unstable();
            groups.dedup();
            groups
        };
        self.drop_parts(
            |plan| groups(plan).len(),
            |plan, range| {
                let gone = groups(plan)[range].to_vec();
                plan.faults.retain(|fault| !gone.contains(&fault.group));
            },
        );
    }

    fn drop_faults(&mut self) {
        self.drop_parts(|plan| plan.faults.len(), |plan, range| drop(plan.faults.drain(range)));
    }

    /// Nodes go from the end, many at a time while that works.
    fn drop_nodes(&mut self) {
        let mut step = self.best.plan.nodes / 2;
        while step > 0 {
            let nodes = self.best.plan.nodes;
            let fewer = nodes > step
                && self.accepts_with(|plan| *plan = edit::with_nodes(plan, nodes - step));
            if !fewer {
                step /= 2;
            }
        }
        // A node in the middle that nothing needs: those behind it take its place.
        for node in (0..self.best.plan.nodes.saturating_sub(1)).rev() {
            if self.best.plan.nodes > 1 && !edit::is_named(&self.best.plan, node) {
                self.accepts_with(|plan| *plan = edit::without_node(plan, node));
            }
        }
    }

    /// Whatever else makes a run special is put back to what is usual.
    fn drop_conditions(&mut self) {
        const USUAL: [fn(&mut Plan); 14] = [
            |plan| plan.workload.lookups = 0.0,
            |plan| plan.workload.churn = 0.0,
            |plan| plan.workload.foreign = 0,
            |plan| plan.workload.bursts = 0.0,
            |plan| plan.workload.initial = plan.workload.initial.min(1),
            |plan| plan.workload.initial = 0,
            |plan| plan.workload.channels = plan.workload.channels.min(1),
            |plan| plan.link_rules.clear(),
            |plan| plan.link = Link::LAN,
            |plan| plan.knobs = Knobs::default(),
            |plan| plan.knobs.buggify = 0.0,
            |plan| plan.strangers.clear(),
            |plan| plan.broker = None,
            |plan| plan.regions.clear(),
        ];
        let all = self.accepts_with(|plan| USUAL.iter().for_each(|usual| usual(plan)));
        if !all {
            for usual in USUAL {
                self.accepts_with(usual);
            }
            self.drop_parts(
                |plan| plan.link_rules.len(),
                |plan, range| {
                    drop(plan.link_rules.drain(range));
                },
            );
        }
    }

    fn drop_topics(&mut self) {
        while self.best.plan.topics > 1 && self.accepts_with(|plan| plan.topics /= 2) {}
        self.accepts_with(|plan| plan.topics = plan.topics.saturating_sub(1));
    }

    fn shorten_faults(&mut self) {
        for index in 0..self.best.plan.faults.len() {
            let halve = |plan: &mut Plan| edit::halve(&mut plan.faults[index], FAULT_SHORTEST);
            while self.accepts_with(halve) {}
            // Whole tenths of a second are easier to read; they cost one run.
            self.accepts_with(|plan| edit::round(&mut plan.faults[index]));
        }
    }

    /// The healing comes soon after the last fault, and the end soon after the failure.
    fn shorten_run(&mut self) {
        let last_fault = self.best.plan.faults.iter().map(|fault| {
            fault.at + fault.lasts.unwrap_or_default() + edit::restart_of(&fault.fault)
        });
        let last_fault = last_fault.max().unwrap_or_default();
        self.accepts_with(|plan| {
            plan.heal_at = plan.heal_at.map(|at| at.min(edit::ceil(last_fault + TAIL)));
        });
        let Some(violation) = &self.best.outcome.violation else { return };
        let end = edit::ceil(violation.at + TAIL);
        // A run that ends before it is mended is one in which nothing is: a file has to say so.
        if self.best.plan.heal_at.is_some_and(|heal| heal >= end)
            && self.accepts_with(|plan| {
                edit::leave_unmended(plan);
                edit::end_by(plan, end);
            })
        {
            return;
        }
        self.accepts_with(|plan| {
            let mended = plan.heal_at.map(|heal| edit::ceil(heal + TAIL));
            edit::end_by(plan, mended.map_or(end, |mended| mended.max(end)));
        });
    }
}

#[cfg(test)]
mod tests;
