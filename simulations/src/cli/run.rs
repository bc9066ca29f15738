//! `simulate run`: one run, and how it went.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::args::RunArgs;
use super::failure::Report;
use super::live::Live;
use super::recorders::Recorders;
use super::source::Source;
use super::summary;
use super::trace_file::TraceFile;
use super::{Ending, Refusal, Verdict, render, terminal};
use crate::case::Case;
use crate::execute::execute;
use crate::expect;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::render::Film;

pub(super) fn run(args: &RunArgs) -> Ending {
    let source = Source::open(&args.chosen.scenario, &args.chosen.sets)?;
    let plan = source.plan(args.chosen.seed);
    let (outcome, took) = executed(args, &plan, &source)?;
    if let Some(path) = &args.case {
        Case::new(&source.name, &source.text, &plan, &outcome).write(path).map_err(Refusal::new)?;
    }
    let report = match &outcome.violation {
        Some(violation) => Some(Report::make(&source, &plan, &outcome, violation, &args.failures)?),
        None => None,
    };
    let missed: Vec<&str> =
        expect::never_reached(&plan, 1, |point| outcome.stats.coverage.contains(point)).collect();
    let verdict = match (&report, missed.is_empty()) {
        (Some(_), _) => Verdict::Violation,
        (None, true) => Verdict::Pass,
        (None, false) => Verdict::Undecided,
    };
    if args.json {
        let mut value = summary::json_of_run(&plan, &outcome);
        value["verdict"] = json!(verdict.name());
        value["took_s"] = json!(took.as_secs_f64());
        value["never_reached"] = json!(missed);
        value["failure"] = json!(report);
        terminal::out(&format!("{value:#}\n"));
        return Ok(verdict);
    }
    if !args.quiet {
        terminal::out(&format!(
            "{}\n{}\n",
            headline(&plan, &outcome, took),
            summary::of_run(&plan, &outcome)
        ));
    }
    match &report {
        Some(report) => terminal::out(&report.text()),
        None if args.quiet => {}
        None if missed.is_empty() => {
            terminal::out(&format!("PASS {}\n", summary::sentence(&plan, &outcome)));
        }
        None => terminal::out(&format!(
            "UNDECIDED No rule was broken, but this was never reached: {}\n",
            missed.join(", ")
        )),
    }
    Ok(verdict)
}

/// Runs the plan and writes what was asked for while it runs.
fn executed(args: &RunArgs, plan: &Plan, source: &Source) -> Result<(Outcome, Duration), Refusal> {
    let mut trace = args.trace.as_deref().map(|path| create(path, plan)).transpose()?;
    let mut film = args.html.as_ref().map(|_| Film::new(plan).named(source.words()));
    let mut live = args.speed.map(|speed| Live::new(plan, speed));
    let mut recorders = Recorders::default();
    recorders.add(trace.as_mut());
    recorders.add(film.as_mut());
    recorders.add(live.as_mut());
    let spinner = if args.speed.is_some() {
        indicatif::ProgressBar::hidden()
    } else {
        terminal::spinner(&format!("{} with {} nodes", plan.name, plan.nodes))
    };
    let started = Instant::now();
    let outcome = execute(plan, recorders.as_option());
    let took = started.elapsed();
    spinner.finish_and_clear();
    if let (Some(trace), Some(path)) = (trace, &args.trace) {
        trace.finish().map_err(|error| Refusal::new(format!("{}: {error}", path.display())))?;
    }
    if let (Some(film), Some(path)) = (film, &args.html) {
        render::write(&crate::render::html(&film, plan, &outcome), path)?;
    }
    Ok((outcome, took))
}

/// Creates a file for a trace.
///
/// # Errors
///
/// It cannot be created.
pub(super) fn create(path: &Path, plan: &Plan) -> Result<TraceFile, Refusal> {
    TraceFile::create(path, plan)
        .map_err(|error| Refusal::new(format!("{}: {error}", path.display())))
}

/// `split-brain, seed 0x2a: 5 nodes, 60.0 s simulated in 31 ms (1,935 times life)`
fn headline(plan: &Plan, outcome: &Outcome, took: Duration) -> String {
    let simulated = outcome.violation.as_ref().map_or(plan.end, |violation| violation.at);
    let speed = simulated.as_secs_f64() / took.as_secs_f64().max(1e-9);
    format!(
        "{}, seed {:#x}: {} nodes, {} simulated in {} ({} times life)",
        plan.name,
        plan.seed,
        plan.nodes,
        terminal::spoken_time(simulated),
        terminal::spoken_time(took),
        terminal::grouped(speed as u64)
    )
}
