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
use super::unwritten::Unwritten;
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
    let mut unwritten = Unwritten::default();
    let (outcome, took) = executed(args, &plan, &source, &mut unwritten)?;
    if let Some(path) = &args.case {
        let case = Case::new(&source.name, &source.text, &plan, &outcome);
        unwritten.take(case.write(path).map_err(Refusal::new));
    }
    let report = outcome.violation.as_ref().map(|violation| {
        Report::make(&source, &plan, &outcome, violation, &args.failures, &mut unwritten)
    });
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
        value["unwritten"] = unwritten.json();
        terminal::out(&format!("{value:#}\n"));
        return Ok(unwritten.tell(verdict));
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
    Ok(unwritten.tell(verdict))
}

/// Runs the plan and writes what was asked for while it runs.
fn executed(
    args: &RunArgs,
    plan: &Plan,
    source: &Source,
    unwritten: &mut Unwritten,
) -> Result<(Outcome, Duration), Refusal> {
    let mut trace = args.trace.as_deref().map(|path| create(path, plan)).transpose()?;
    let mut film = args.html.as_ref().map(|_| Film::new(plan).named(again(plan, source)));
    let mut live = args.speed.map(|speed| Live::new(plan, speed));
    let mut recorders = Recorders::default();
    recorders.add(trace.as_mut());
    recorders.add(film.as_mut());
    recorders.add(live.as_mut());
    let spinner = if args.speed.is_some() {
        indicatif::ProgressBar::hidden()
    } else {
        terminal::spinner(&format!("{} with {} nodes", terminal::name(&plan.name), plan.nodes))
    };
    let started = Instant::now();
    let outcome = execute(plan, recorders.as_option());
    let took = started.elapsed();
    spinner.finish_and_clear();
    if let (Some(trace), Some(path)) = (trace, &args.trace) {
        unwritten.add(trace.finish().err().map(|error| failed(path, &error)));
    }
    if let (Some(film), Some(path)) = (film, &args.html) {
        unwritten.take(render::write(&crate::render::html(&film, plan, &outcome), path));
    }
    Ok((outcome, took))
}

/// The command that makes this run's page again.
pub(super) fn again(plan: &Plan, source: &Source) -> String {
    format!("simulate run {} --seed {:#x} --html run.html", source.words(), plan.seed)
}

/// What is wrong with a file.
pub(super) fn failed(path: &Path, error: &std::io::Error) -> Refusal {
    Refusal::new(format!("{}: {error}", path.display()))
}

/// Creates a file for a trace.
///
/// # Errors
///
/// It cannot be created.
pub(super) fn create(path: &Path, plan: &Plan) -> Result<TraceFile, Refusal> {
    TraceFile::create(path, plan).map_err(|error| failed(path, &error))
}

/// `split-brain, seed 0x2a: 5 nodes, 60.0 s simulated in 31 ms (1,935 times life)`
fn headline(plan: &Plan, outcome: &Outcome, took: Duration) -> String {
    let simulated = outcome.violation.as_ref().map_or(plan.end, |violation| violation.at);
    let speed = simulated.as_secs_f64() / took.as_secs_f64().max(1e-9);
    format!(
        "{}, seed {:#x}: {} nodes, {} simulated in {} ({} times life)",
        terminal::name(&plan.name),
        plan.seed,
        plan.nodes,
        terminal::spoken_time(simulated),
        terminal::spoken_time(took),
        terminal::grouped(speed as u64)
    )
}
