//! `simulate replay`: exactly one run, again.

use std::path::Path;

use serde_json::json;

use super::args::{ReplayArgs, Stop};
use super::recorders::Recorders;
use super::run::create;
use super::source::Source;
use super::summary;
use super::window::Window;
use super::{Ending, Refusal, Verdict, terminal};
use crate::case::{COMMIT, Case, Exactness};
use crate::execute::execute;
use crate::outcome::Outcome;
use crate::plan::Plan;

pub(super) fn run(args: &ReplayArgs) -> Ending {
    let Some(seed) = args.seed else {
        let case = Case::read(Path::new(&args.case)).map_err(Refusal::new)?;
        let outcome = executed(args, &case.plan)?;
        return told(args, &case, &outcome);
    };
    let source = Source::open(&args.case, &args.sets)?;
    let plan = source.plan(seed);
    let outcome = executed(args, &plan)?;
    let verdict = verdict_of(&outcome);
    if args.json {
        print_json(&plan, &outcome, verdict, None);
    } else {
        terminal::out(&ending(&plan, &outcome));
    }
    Ok(verdict)
}

/// Runs the plan and shows the part that was asked for.
fn executed(args: &ReplayArgs, plan: &Plan) -> Result<Outcome, Refusal> {
    let mut trace = args.trace.as_deref().map(|path| create(path, plan)).transpose()?;
    let mut window = match (args.until, args.stop_at, args.node) {
        (Some(until), _, node) => Some(Window::until(until, node, args.lines)),
        (None, Some(stop), node) => Some(Window::around(stop, node, args.lines)),
        (None, None, Some(node)) => Some(Window::around(Stop::Invariant, Some(node), args.lines)),
        (None, None, None) => None,
    };
    let mut recorders = Recorders::default();
    recorders.add(trace.as_mut());
    recorders.add(window.as_mut());
    let outcome = execute(plan, recorders.as_option());
    if let (Some(trace), Some(path)) = (trace, &args.trace) {
        trace.finish().map_err(|error| Refusal::new(format!("{}: {error}", path.display())))?;
    }
    if let Some(window) = window.filter(|_| !args.json) {
        terminal::out(&window.text(plan));
    }
    Ok(outcome)
}

fn verdict_of(outcome: &Outcome) -> Verdict {
    if outcome.violation.is_some() { Verdict::Violation } else { Verdict::Pass }
}

/// Compares the replay of a case with what the case says.
fn told(args: &ReplayArgs, case: &Case, outcome: &Outcome) -> Ending {
    let exactness = case.exactness(outcome, COMMIT);
    let verdict = match exactness {
        Exactness::Broken => Verdict::Nondeterminism,
        Exactness::Exact | Exactness::OtherProgram => verdict_of(outcome),
    };
    if args.json {
        print_json(&case.plan, outcome, verdict, Some(exactness == Exactness::Exact));
        return Ok(verdict);
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
             commit {COMMIT}.\n",
            case.hash, outcome.hash
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
    Ok(verdict)
}

fn ending(plan: &Plan, outcome: &Outcome) -> String {
    match &outcome.violation {
        Some(violation) => format!("FAIL {violation}\n"),
        None => format!("PASS {}\n", summary::sentence(plan, outcome)),
    }
}

fn print_json(plan: &Plan, outcome: &Outcome, verdict: Verdict, is_exact: Option<bool>) {
    let mut value = summary::json_of_run(plan, outcome);
    value["verdict"] = json!(verdict.name());
    value["exact"] = json!(is_exact);
    terminal::out(&format!("{value:#}\n"));
}
