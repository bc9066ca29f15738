//! `simulate replay`: exactly one run, again.

use std::path::Path;

use serde_json::json;

use super::args::{ReplayArgs, Stop};
use super::compare::Parting;
use super::recorders::Recorders;
use super::run::{create, failed};
use super::source::{self, Source};
use super::summary;
use super::unwritten::Unwritten;
use super::window::Window;
use super::{Ending, Refusal, Verdict, terminal};
use crate::case::{COMMIT, Case, Exactness};
use crate::execute::execute;
use crate::outcome::Outcome;
use crate::plan::Plan;

pub(super) fn run(args: &ReplayArgs) -> Ending {
    let path = Path::new(&args.case);
    let Some(seed) = args.seed else {
        let case = source::case(path, "replay")?;
        let mut unwritten = Unwritten::default();
        let replay = Replay::of(args, &case.plan, &mut unwritten)?;
        let verdict = told(args, &case, &replay, &unwritten);
        return Ok(unwritten.tell(verdict));
    };
    if source::is_case(path) {
        source::refuse_changes(&args.case, "case", args.seed, &args.sets)?;
    }
    let source = Source::open(&args.case, &args.sets)?;
    let plan = source.plan(seed);
    let mut unwritten = Unwritten::default();
    let replay = Replay::of(args, &plan, &mut unwritten)?;
    let verdict = verdict_of(&replay.outcome);
    if args.json {
        replay.print_json(&plan, verdict, None, &unwritten);
    } else {
        terminal::out(&ending(&plan, &replay.outcome));
    }
    Ok(unwritten.tell(verdict))
}

/// A run that was done again, and the part of it that was asked for.
struct Replay {
    outcome: Outcome,
    window: Option<Window>,
}

impl Replay {
    /// Runs the plan and shows the part that was asked for.
    fn of(args: &ReplayArgs, plan: &Plan, unwritten: &mut Unwritten) -> Result<Self, Refusal> {
        refuse_outside(args, plan)?;
        let mut trace = args.trace.as_deref().map(|path| create(path, plan)).transpose()?;
        let mut window = match (args.until, args.stop_at, args.node) {
            (Some(until), _, node) => Some(Window::until(until, node, args.lines)),
            (None, Some(stop), node) => Some(Window::around(stop, node, args.lines)),
            (None, None, Some(node)) => {
                Some(Window::around(Stop::Invariant, Some(node), args.lines))
            }
            (None, None, None) => None,
        };
        let mut recorders = Recorders::default();
        recorders.add(trace.as_mut());
        recorders.add(window.as_mut());
        let outcome = execute(plan, recorders.as_option());
        if let (Some(trace), Some(path)) = (trace, &args.trace) {
            unwritten.add(trace.finish().err().map(|error| failed(path, &error)));
        }
        let events = outcome.stats.events;
        if let Some(Stop::Event(number)) = args.stop_at.filter(|_| args.until.is_none())
            && number > events
        {
            let what = format!("there is no event {number}: the run has {events}");
            unwritten.add(Some(Refusal::new(what)));
        } else if let Some(window) = window.as_ref().filter(|_| !args.json) {
            terminal::out(&window.text(plan));
        }
        Ok(Self { outcome, window })
    }

    fn print_json(
        &self,
        plan: &Plan,
        verdict: Verdict,
        is_exact: Option<bool>,
        unwritten: &Unwritten,
    ) {
        let mut value = summary::json_of_run(plan, &self.outcome);
        value["verdict"] = json!(verdict.name());
        value["exact"] = json!(is_exact);
        value["shown"] = json!(self.window.as_ref().map(Window::json));
        value["unwritten"] = unwritten.json();
        terminal::out(&format!("{value:#}\n"));
    }
}

/// Refuses to look where nothing can be, as far as the plan says so.
fn refuse_outside(args: &ReplayArgs, plan: &Plan) -> Result<(), Refusal> {
    let nodes = plan.nodes;
    if let Some(node) = args.node
        && node as usize >= nodes
    {
        let last = nodes.saturating_sub(1);
        return Err(Refusal::new(format!("there is no node {node}: they are 0 to {last}")));
    }
    if let Some(Stop::Time(at)) = args.stop_at
        && at > plan.end
    {
        let (at, end) = (terminal::spoken_time(at), terminal::spoken_time(plan.end));
        return Err(Refusal::new(format!("--break t={at} is after the end of the run, {end}")));
    }
    Ok(())
}

fn verdict_of(outcome: &Outcome) -> Verdict {
    if outcome.violation.is_some() { Verdict::Violation } else { Verdict::Pass }
}

/// Compares the replay of a case with what the case says.
fn told(args: &ReplayArgs, case: &Case, replay: &Replay, unwritten: &Unwritten) -> Verdict {
    let outcome = &replay.outcome;
    let exactness = case.exactness(outcome, COMMIT);
    let verdict = match exactness {
        Exactness::Broken => Verdict::Nondeterminism,
        Exactness::Exact | Exactness::OtherProgram => verdict_of(outcome),
    };
    if args.json {
        let is_exact = Some(exactness == Exactness::Exact);
        replay.print_json(&case.plan, verdict, is_exact, unwritten);
        return verdict;
    }
    terminal::out(&ending(&case.plan, outcome));
    terminal::out(&match exactness {
        Exactness::Exact => format!(
            "Exact: {} events and the hash {:016x} are those of the case.\n",
            terminal::grouped(outcome.stats.events),
            outcome.hash
        ),
        Exactness::Broken => format!(
            "NONDETERMINISM the case has the hash {:016x}, this run {:016x}, and both are of \
             commit {COMMIT}.\n{}",
            case.hash,
            outcome.hash,
            parting(case, outcome)
        ),
        Exactness::OtherProgram => format!(
            "Not exact: the case was written by commit {}, this is {COMMIT}. The timeline is the \
             same, the events are not.\n",
            case.commit
        ),
    });
    if exactness == Exactness::OtherProgram
        && let (Some(before), None) = (&case.violation, &outcome.violation)
    {
        terminal::out(&format!("The case ended with FAIL {before}; this run did not.\n"));
    }
    verdict
}

/// Where the case and its replay part. A case has no events, only the hash after each so many, so
/// the plan is executed twice more in the hope that it happens again.
fn parting(case: &Case, outcome: &Outcome) -> String {
    let (left, right) = ((&case.plan, case.into()), (&case.plan, outcome.into()));
    let found = Parting::find(left, right, &execute);
    let names = (("done once more", &case.plan), ("and again", &case.plan));
    found.map(|parting| parting.text(names.0, names.1)).unwrap_or_default()
}

fn ending(plan: &Plan, outcome: &Outcome) -> String {
    match &outcome.violation {
        Some(violation) => format!("FAIL {violation}\n"),
        None => format!("PASS {}\n", summary::sentence(plan, outcome)),
    }
}
