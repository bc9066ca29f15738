//! `simulate swarm`: many seeds.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::args::SwarmArgs;
use super::compare::Parting;
use super::failure::Report;
use super::source::Source;
use super::summary;
use super::unwritten::Unwritten;
use super::{Ending, Refusal, Verdict, terminal};
use crate::case::COMMIT;
use crate::execute::execute;
use crate::expect;
use crate::swarm::baseline::{self, Baseline, Comparison};
use crate::swarm::{Item, Order, Stopped, Swarm};

/// Seeds where neither seeds nor a budget are given.
const SEEDS: u64 = 1_000;

pub(super) fn run(args: &SwarmArgs) -> Ending {
    let sources = args
        .scenarios
        .iter()
        .map(|name| Source::open(name, &args.sets))
        .collect::<Result<Vec<_>, _>>()?;
    let baseline = args.baseline.as_deref().map(|path| opened(path, &sources)).transpose()?;
    // Without seeds, a budget is not something to stay within but the length of the swarm.
    let open_end = args.seeds.is_none() && baseline.is_none() && args.budget.is_some();
    let default = match &baseline {
        Some(baseline) => baseline.seeds.0..baseline.seeds.1,
        None if open_end => 0..u64::MAX / sources.len() as u64,
        None => 0..SEEDS,
    };
    let order = Order {
        scenarios: sources.len(),
        seeds: args.seeds.clone().unwrap_or(default),
        jobs: args.jobs.unwrap_or_else(cores),
        budget: args.budget,
        until_coverage_stable: args.until_coverage_stable,
        twice: args.twice,
        keep_going: args.keep_going,
    };
    let swarm = work(&order, &sources);
    let figures = baseline::figures(&swarm.population);
    let compared =
        baseline.iter().flat_map(|before| baseline::compare(&before.figures, &figures)).collect();
    let mut unwritten = Unwritten::default();
    let end = End::of(args, &swarm, &sources, open_end, compared, &mut unwritten);
    if let Some(path) = &args.write_baseline {
        unwritten.take(write_baseline(path, &order, &swarm, &sources, figures));
    }
    if args.json {
        let mut value = summary::json_of_swarm(&swarm);
        value["verdict"] = json!(end.verdict.name());
        value["never_reached"] = json!(end.missed);
        value["failure"] = json!(end.report);
        value["failures"] = failures(&swarm, &sources);
        value["population"] = json!(end.compared);
        value["unwritten"] = unwritten.json();
        terminal::out(&format!("{value:#}\n"));
    } else {
        tell(args, &swarm, &sources, &end);
    }
    Ok(unwritten.tell(end.verdict))
}

/// How a swarm ended.
struct End {
    verdict: Verdict,
    /// About the first run that broke a rule.
    report: Option<Report>,
    /// Points that no run reached.
    missed: Vec<String>,
    /// Figures beside those of the baseline.
    compared: Vec<Comparison>,
}

impl End {
    fn of(
        args: &SwarmArgs,
        swarm: &Swarm,
        sources: &[Source],
        open_end: bool,
        compared: Vec<Comparison>,
        unwritten: &mut Unwritten,
    ) -> Self {
        let report = swarm.failures.first().and_then(|failure| {
            let source = &sources[failure.item.scenario];
            let (plan, outcome) = (&failure.plan, &failure.outcome);
            let violation = outcome.violation.as_ref()?;
            Some(Report::make(source, plan, outcome, violation, &args.failures, unwritten))
        });
        let missed = never_reached(swarm, sources);
        let is_worse = compared.iter().any(|comparison| !comparison.is_kept);
        let verdict = match verdict(swarm, open_end, &missed) {
            Verdict::Pass | Verdict::Undecided if is_worse => Verdict::Violation,
            verdict => verdict,
        };
        Self { verdict, report, missed, compared }
    }
}

/// For people.
fn tell(args: &SwarmArgs, swarm: &Swarm, sources: &[Source], end: &End) {
    if !args.quiet {
        terminal::out(&format!("{}\n", summary::of_swarm(swarm)));
        terminal::out(&summary::lines_of_swarm(swarm));
    }
    if let Some(report) = &end.report {
        terminal::out(&report.text());
        more_failures(swarm, sources);
    }
    let (kept, worse): (Vec<_>, Vec<_>) =
        end.compared.iter().partition(|comparison| comparison.is_kept);
    for comparison in &worse {
        terminal::out(&format!("FAIL {comparison}\n"));
    }
    for mismatch in swarm.mismatches.iter().take(1) {
        show(mismatch, &sources[mismatch.item.scenario]);
    }
    if args.quiet {
        return;
    }
    if !end.compared.is_empty() {
        terminal::out(&format!(
            "{} of {} figures of all runs are at most {:.0} % above the baseline.\n",
            kept.len(),
            end.compared.len(),
            100.0 * baseline::WORSE_MAX
        ));
    }
    terminal::out(&sentence(swarm, end.verdict, &end.missed));
}

/// What the scenarios are called in a baseline.
fn words_of(sources: &[Source]) -> Vec<String> {
    sources.iter().map(Source::words).collect()
}

/// Reads a baseline of these scenarios.
fn opened(path: &Path, sources: &[Source]) -> Result<Baseline, Refusal> {
    let baseline = Baseline::read(path).map_err(Refusal::new)?;
    let words = words_of(sources);
    if baseline.scenarios == words {
        return Ok(baseline);
    }
    let (path, theirs) = (path.display(), baseline.scenarios.join(" "));
    Err(Refusal::new(format!("{path} is of {theirs}, this swarm of {}", words.join(" "))))
}

fn write_baseline(
    path: &Path,
    order: &Order,
    swarm: &Swarm,
    sources: &[Source],
    figures: BTreeMap<String, f64>,
) -> Result<(), Refusal> {
    let done = swarm.population.runs / sources.len() as u64;
    let seeds = (order.seeds.start, order.seeds.start + done);
    let scenarios = words_of(sources);
    let baseline = Baseline { scenarios, seeds, commit: COMMIT.to_owned(), figures };
    baseline.write(path).map_err(Refusal::new)
}

/// Threads, unless the user says otherwise.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn work(order: &Order, sources: &[Source]) -> Swarm {
    let runs = order.seeds.end.saturating_sub(order.seeds.start);
    let wanted = runs.saturating_mul(sources.len() as u64);
    let by_time = order.budget.filter(|_| wanted > u64::from(u32::MAX));
    let length = by_time.map_or(wanted, |budget| budget.as_millis() as u64);
    let unit = if by_time.is_some() { "ms" } else { "runs" };
    let bar = terminal::bar(length, unit);
    let plan = |item: Item| sources[item.scenario].plan(item.seed);
    let swarm = Swarm::run(order, &plan, &execute, &|swarm| {
        let done = swarm.population.runs;
        bar.set_position(by_time.map_or(done, |_| swarm.took.as_millis() as u64));
        bar.set_message(format!(
            "{:.0} runs/s, {} points, {} failed",
            done as f64 / swarm.took.as_secs_f64().max(1e-9),
            swarm.population.coverage.len(),
            swarm.failed
        ));
    });
    bar.finish_and_clear();
    swarm
}

/// Points that a scenario wants and that no run reached.
fn never_reached(swarm: &Swarm, sources: &[Source]) -> Vec<String> {
    let mut missed = Vec::new();
    for source in sources {
        let plan = source.plan(0);
        let reached = |point: &str| swarm.population.coverage.contains_key(point);
        let runs = swarm.population.runs / sources.len() as u64;
        missed.extend(expect::never_reached(&plan, runs, reached).map(str::to_owned));
    }
    missed.sort();
    missed.dedup();
    missed
}

fn verdict(swarm: &Swarm, open_end: bool, missed: &[String]) -> Verdict {
    if !swarm.mismatches.is_empty() {
        return Verdict::Nondeterminism;
    }
    match swarm.stopped {
        _ if swarm.failed > 0 => Verdict::Violation,
        Stopped::Budget if !open_end => Verdict::Undecided,
        _ if swarm.population.runs == 0 || !missed.is_empty() => Verdict::Undecided,
        Stopped::Done | Stopped::Budget | Stopped::Stable | Stopped::Failed => Verdict::Pass,
    }
}

fn sentence(swarm: &Swarm, verdict: Verdict, missed: &[String]) -> String {
    let runs = terminal::grouped(swarm.population.runs);
    match verdict {
        Verdict::Pass => {
            let why = match swarm.stopped {
                Stopped::Stable => "; the last of them reached nothing new",
                Stopped::Done | Stopped::Budget | Stopped::Failed => "",
            };
            let twice = match swarm.repeated {
                0 => String::new(),
                repeated => {
                    format!(" {} were done twice and were equal.", terminal::grouped(repeated))
                }
            };
            format!("PASS All rules held in {runs} runs{why}.{twice}\n")
        }
        Verdict::Undecided if missed.is_empty() => format!(
            "UNDECIDED No rule was broken in {runs} runs, but time was over before all {} were \
             done.\n",
            terminal::grouped(swarm.wanted)
        ),
        Verdict::Undecided => format!(
            "UNDECIDED No rule was broken in {runs} runs, but none reached: {}\n",
            missed.join(", ")
        ),
        Verdict::Violation if swarm.failed == 0 => {
            format!("All rules held in each of {runs} runs, but together they got worse.\n")
        }
        Verdict::Violation => {
            format!("{} of {runs} runs broke a rule.\n", terminal::grouped(swarm.failed))
        }
        Verdict::Nondeterminism | Verdict::Usage => format!(
            "NONDETERMINISM {} of {} runs that were done twice were not the same.\n",
            swarm.mismatches.len(),
            terminal::grouped(swarm.repeated)
        ),
    }
}

/// One line for each failure after the first.
fn more_failures(swarm: &Swarm, sources: &[Source]) {
    for failure in swarm.failures.iter().skip(1) {
        let words = sources[failure.item.scenario].words();
        if let Some(violation) = &failure.outcome.violation {
            let seed = failure.item.seed;
            terminal::out(&format!(
                "FAIL {violation}\nrepro: simulate replay --seed {seed:#x} {words} (commit \
                 {COMMIT})\n"
            ));
        }
    }
}

fn failures(swarm: &Swarm, sources: &[Source]) -> serde_json::Value {
    let all = swarm.failures.iter().map(|failure| {
        json!({
            "scenario": sources[failure.item.scenario].name,
            "seed": format!("{:#x}", failure.item.seed),
            "violation": failure.outcome.violation,
        })
    });
    all.collect()
}

/// The first event at which a repeated run was another one.
fn show(mismatch: &crate::swarm::Mismatch, source: &Source) {
    let plan = &mismatch.plan;
    terminal::out(&format!(
        "DIFFERS {} seed {:#x}: hash {:016x} and {:016x}\n",
        source.name, mismatch.item.seed, mismatch.first.hash, mismatch.second.hash
    ));
    let (left, right) = ((plan, (&mismatch.first).into()), (plan, (&mismatch.second).into()));
    match Parting::find(left, right, &execute) {
        Some(parting) => {
            terminal::out(&parting.text(("first run", plan), ("second run", plan)));
        }
        None => terminal::out("The events are equal; the figures differ.\n"),
    }
}
