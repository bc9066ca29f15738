//! `simulate report`: is what the protocol promises true, and how do figures depend on a key?

use comfy_table::{Cell as TableCell, CellAlignment, Table};
use serde_json::{Value, json};

use super::args::ReportArgs;
use super::failure::create_folder;
use super::source::Source;
use super::unwritten::Unwritten;
use super::{Ending, Refusal, Verdict, render, summary, swarm, terminal};
use crate::case::{COMMIT, Case};
use crate::execute::execute;
use crate::report::convergence::{Broken, Cell, LINES, Order, Report, Unit};
use crate::report::fidelity::{self, Measured, Row};
use crate::report::page::{self, amount, figure_text};
use crate::report::sweep::Sweep;
use crate::scenario::Scenario;

/// Seeds for each value of a sweep.
const SWEEP_RUNS: u64 = 50;

pub(super) fn run(args: &ReportArgs) -> Ending {
    match &args.scenario {
        Some(name) => along_an_axis(args, name),
        None => beside_targets(args),
    }
}

fn beside_targets(args: &ReportArgs) -> Ending {
    let order = order(args)?;
    let measured = args.fidelity.as_deref().map(read_measured).transpose()?;
    let bar = terminal::bar(1, "node-seconds");
    let report = Report::make(&order, &|done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let spinner = terminal::spinner("doing to simulated nodes what was done to real ones");
    let runs = args.runs.unwrap_or(fidelity::RUNS);
    let real = measured.map_or_else(Vec::new, |measured| fidelity::compare(&measured, runs));
    spinner.finish_and_clear();
    let mut unwritten = Unwritten::default();
    let cases = write_cases(args, &report, &mut unwritten);
    if let Some(path) = &args.html {
        unwritten.take(render::write(&page::convergence(&report, &real), path));
    }
    let is_apart = real.iter().any(|row| !row.is_within);
    let verdict = if report.missed() > 0 || !report.broken.is_empty() || is_apart {
        Verdict::Violation
    } else if report.unknown() > 0 || report.runs.0 < report.runs.1 {
        Verdict::Undecided
    } else {
        Verdict::Pass
    };
    if args.json {
        let mut value = json_of(&report, &real, verdict);
        value["unwritten"] = unwritten.json();
        terminal::out(&format!("{value:#}\n"));
        return Ok(unwritten.tell(verdict));
    }
    terminal::out(&format!("{}\n", table(&report)));
    if !real.is_empty() {
        terminal::out(&format!("{}\n", fidelity::table(&real)));
    }
    for (broken, case) in report.broken.iter().zip(&cases) {
        terminal::out(&format!("FAIL {}\n", broken.violation));
        if let Some(case) = case {
            let name = &broken.plan.name;
            terminal::out(&format!("repro: simulate replay {case} ({name}, commit {COMMIT})\n"));
        }
    }
    terminal::out(&sentence(&report, verdict, is_apart));
    Ok(unwritten.tell(verdict))
}

fn order(args: &ReportArgs) -> Result<Order, Refusal> {
    let mut names: Vec<&str> = LINES.iter().map(|line| line.name).collect();
    names.dedup();
    if let Some(unknown) = args.only.iter().find(|name| !names.contains(&name.as_str())) {
        let names = names.join(", ");
        return Err(Refusal::new(format!("there is no figure {unknown:?}; there are {names}")));
    }
    let mut nodes = args.nodes.clone();
    nodes.sort_unstable();
    nodes.dedup();
    Ok(Order {
        nodes,
        only: args.only.clone(),
        runs: args.runs,
        budget: args.budget,
        jobs: args.jobs.unwrap_or_else(swarm::cores),
    })
}

fn read_measured(path: &std::path::Path) -> Result<Measured, Refusal> {
    let refused =
        |error: &dyn std::fmt::Display| Refusal::new(format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| refused(&error))?;
    serde_json::from_str(&text).map_err(|error| refused(&error))
}

/// Files with the runs that broke a rule, in order; `None`: it could not be written.
fn write_cases(
    args: &ReportArgs,
    report: &Report,
    unwritten: &mut Unwritten,
) -> Vec<Option<String>> {
    let mut write = |broken: &Broken| {
        let plan = &broken.plan;
        let path = args.cases.join(format!("{}-{:x}.sim", plan.name, plan.seed));
        let outcome = execute(plan, None);
        let text = Scenario::from_plan(plan).to_toml();
        let case = Case::new(&plan.name, &text, plan, &outcome);
        let written =
            create_folder(&args.cases).and_then(|()| case.write(&path).map_err(Refusal::new));
        unwritten.take(written).map(|()| path.display().to_string())
    };
    report.broken.iter().map(&mut write).collect()
}

fn table(report: &Report) -> Table {
    let mut table = summary::table();
    let sizes = report.lines.first().into_iter().flat_map(|(_, cells)| cells);
    let head = sizes.map(|cell| right(format!("{} nodes", cell.nodes)));
    table.set_header(std::iter::once(TableCell::new("")).chain(head));
    for (line, cells) in &report.lines {
        let cells = cells.iter().map(|cell| right(text_of(cell, line.unit)));
        table.add_row(std::iter::once(TableCell::new(line.what)).chain(cells));
    }
    table
}

fn right(text: String) -> TableCell {
    TableCell::new(text).set_alignment(CellAlignment::Right)
}

/// `0.31 s of 0.50 s`, or `MISSED 0.62 s > 0.50 s`.
fn text_of(cell: &Cell, unit: Unit) -> String {
    let Some(value) = cell.value.map(|value| amount(value, unit)) else { return "-".to_owned() };
    match (cell.target.map(|target| amount(target, unit)), cell.is_met) {
        (Some(target), Some(false)) => format!("MISSED {value} > {target}"),
        (Some(target), _) => format!("{value} of {target}"),
        (None, _) => value,
    }
}

fn sentence(report: &Report, verdict: Verdict, is_apart: bool) -> String {
    let figures = report.lines.iter().map(|(_, cells)| cells.len()).sum::<usize>();
    let what = format!(
        "{figures} figures from {} runs, {:.1} node-days simulated in {}, all rules on. A figure \
         stands left of its target.\n",
        terminal::grouped(report.runs.0 as u64),
        report.node_days,
        terminal::spoken_time(report.took)
    );
    let end = match verdict {
        Verdict::Pass => "PASS Every figure is within its target.".to_owned(),
        Verdict::Undecided => format!(
            "UNDECIDED No target was missed, but only {} of {} runs were done, and {} figures have \
             no readings.",
            report.runs.0,
            report.runs.1,
            report.unknown()
        ),
        Verdict::Violation | Verdict::Usage | Verdict::Nondeterminism => {
            let apart =
                if is_apart { " Real processes are too far from simulated ones." } else { "" };
            format!(
                "FAIL {} figures miss their targets, {} runs broke a rule.{apart}",
                report.missed(),
                report.broken.len()
            )
        }
    };
    format!("{what}{end}\n")
}

fn json_of(report: &Report, real: &[Row], verdict: Verdict) -> Value {
    let lines = report.lines.iter().map(|(line, cells)| {
        json!({ "name": line.name, "what": line.what, "unit": line.unit, "cells": cells })
    });
    let broken = report.broken.iter().map(|broken| {
        json!({
            "scenario": broken.plan.name,
            "seed": format!("{:#x}", broken.plan.seed),
            "violation": broken.violation,
        })
    });
    json!({
        "verdict": verdict.name(),
        "commit": COMMIT,
        "runs": report.runs.0,
        "wanted": report.runs.1,
        "node_days": report.node_days,
        "took_s": report.took.as_secs_f64(),
        "lines": lines.collect::<Vec<_>>(),
        "broken": broken.collect::<Vec<_>>(),
        "fidelity": real,
    })
}

fn along_an_axis(args: &ReportArgs, name: &str) -> Ending {
    let source = Source::open(name, &args.sets)?;
    let refused = |error: String| Refusal::new(format!("{name}: {error}"));
    let runs = args.runs.unwrap_or(SWEEP_RUNS);
    let jobs = args.jobs.unwrap_or_else(swarm::cores);
    let bar = terminal::spinner("run by run");
    let progress = || bar.inc(1);
    let sweep =
        Sweep::make(source.scenario(), runs, jobs, args.budget, &progress).map_err(refused)?;
    bar.finish_and_clear();
    let mut unwritten = Unwritten::default();
    if let Some(path) = &args.html {
        unwritten.take(render::write(&page::sweep(&sweep), path));
    }
    let verdict = if sweep.points.iter().any(|point| point.failed > 0) {
        Verdict::Violation
    } else if sweep.is_cut_short {
        Verdict::Undecided
    } else {
        Verdict::Pass
    };
    if args.json {
        let mut value = json!(sweep);
        value["verdict"] = json!(verdict.name());
        value["commit"] = json!(COMMIT);
        value["took"] = Value::Null;
        value["took_s"] = json!(sweep.took.as_secs_f64());
        value["unwritten"] = unwritten.json();
        terminal::out(&format!("{value:#}\n"));
        return Ok(unwritten.tell(verdict));
    }
    terminal::out(&format!("{}\n", table_of_sweep(&sweep)));
    for point in &sweep.points {
        if let Some((seed, violation)) = &point.failure {
            let words = source.words();
            terminal::out(&format!(
                "FAIL {violation}\nrepro: simulate replay --seed {seed:#x} --set {}={} {words} \
                 (commit {COMMIT})\n",
                sweep.x, point.value
            ));
        }
    }
    terminal::out(&format!(
        "{} with {runs} seeds for each value of {}, in {}\n",
        terminal::name(&sweep.scenario),
        sweep.x,
        terminal::spoken_time(sweep.took)
    ));
    Ok(unwritten.tell(verdict))
}

fn table_of_sweep(sweep: &Sweep) -> Table {
    let mut table = summary::table();
    let names = sweep.y.iter().map(|figure| figure.name.clone());
    let rest = ["runs", "failed"].map(str::to_owned);
    let head = names.chain(rest).map(right);
    table.set_header(std::iter::once(TableCell::new(&sweep.x)).chain(head));
    for point in &sweep.points {
        let figures = sweep.y.iter().zip(&point.figures);
        let texts = figures.map(|(figure, value)| figure_text(figure, *value));
        let counts = [point.runs, point.failed].map(terminal::grouped);
        let cells = texts.chain(counts).map(right);
        table.add_row(std::iter::once(TableCell::new(&point.value)).chain(cells));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_stands_beside_its_target_and_says_if_it_is_missed() {
        let cell = |value: f64, is_met| Cell {
            nodes: 10,
            value: Some(value),
            target: Some(0.5),
            is_met: Some(is_met),
            count: 3.0,
            spread: None,
        };
        assert_eq!(text_of(&cell(0.312, true), Unit::Seconds), "0.31 s of 0.50 s");
        assert_eq!(text_of(&cell(0.62, false), Unit::Seconds), "MISSED 0.62 s > 0.50 s");
        let nothing = Cell { value: None, is_met: None, ..cell(0.0, true) };
        assert_eq!(text_of(&nothing, Unit::Seconds), "-");
    }
}
