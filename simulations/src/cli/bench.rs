//! `simulate bench`: how fast the simulator is, beside what it is to be.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::args::{BenchArgs, Item};
use super::source::Source;
use super::{Ending, Refusal, Verdict, selftest, summary, swarm, terminal};
use crate::case::COMMIT;
use crate::execute::execute;
use crate::plan::{Plan, Workload};
use crate::report::experiment::partition;
use crate::swarm::{Item as Run, Order, Swarm};

/// Two of five nodes are cut off for 20 of 60 s while topics come and go and answers are checked.
const FIVE: (&str, &str) = ("partition-5", "fault.0.for=20s");

/// Changes per second in the whole cluster, as in `partition-5`.
const CHURN: f64 = 3.0;

/// The scenario with every kind of fault, 5 nodes and 60 s. It does about three times as much.
const CHAOS: &str = "swarm";

/// Says in the environment of a child that it is the one that is measured.
const CHILD: &str = "GRAPEVINE_BENCH_CHILD";

/// One measurement and its target.
struct Reading {
    item: Item,
    what: &'static str,
    value: f64,
    unit: &'static str,
    /// `None`: it is measured for comparisons only.
    target: Option<f64>,
    /// Whether more is better.
    is_rate: bool,
    /// The first rule that was broken, and in which run.
    broken: Option<String>,
}

impl Reading {
    fn is_met(&self) -> bool {
        let is_met = |target: f64| {
            if self.is_rate { self.value >= target } else { self.value <= target }
        };
        self.broken.is_none() && self.target.is_none_or(is_met)
    }
}

pub(super) fn run(args: &BenchArgs) -> Ending {
    if std::env::var_os(CHILD).is_some() {
        return child();
    }
    let wanted = |item| args.only.is_empty() || args.only.contains(&item);
    let jobs = args.jobs.unwrap_or_else(swarm::cores);
    let mut readings = Vec::new();
    if wanted(Item::Five) {
        let source = Source::open(FIVE.0, &[FIVE.1.to_owned()])?;
        let what = "runs/s: 5 nodes, 60 s, a partition";
        let target = (Item::Five, what, Some(400.0));
        readings.push(rate(target, args.time, jobs, &|seed| source.plan(seed)));
    }
    if wanted(Item::Chaos) {
        let source = Source::open(CHAOS, &[])?;
        let target = (Item::Chaos, "runs/s: 5 nodes, 60 s, every kind of trouble", None);
        readings.push(rate(target, args.time, jobs, &|seed| source.plan(seed)));
    }
    if wanted(Item::Hundred) {
        let hundred = |churn| {
            move |seed| {
                let s = Duration::from_secs;
                let mut plan = Plan { end: s(60), ..partition(100, seed, s(20)) };
                plan.workload = Workload { initial: 1, churn, ..plan.workload };
                plan
            }
        };
        let what = "runs/s: 100 nodes, 60 s, a partition";
        readings.push(rate((Item::Hundred, what, Some(10.0)), args.time, jobs, &hundred(0.0)));
        let what = "runs/s: the same, and 3 changes/s";
        readings.push(rate((Item::Hundred, what, None), args.time, jobs, &hundred(CHURN)));
    }
    if wanted(Item::Thousand) {
        readings.extend(thousand()?);
    }
    let is_met = readings.iter().all(Reading::is_met);
    let verdict = if is_met { Verdict::Pass } else { Verdict::Violation };
    if args.json {
        let readings: Vec<Value> = readings.iter().map(json_of).collect();
        let value = json!({
            "verdict": verdict.name(), "commit": COMMIT, "jobs": jobs, "readings": readings,
        });
        terminal::out(&format!("{value:#}\n"));
        return Ok(verdict);
    }
    show(&readings, jobs);
    Ok(verdict)
}

fn show(readings: &[Reading], jobs: usize) {
    let mut table = summary::table();
    table.set_header(["", "measured", "target", ""]);
    for reading in readings {
        let sign = if reading.is_rate { ">=" } else { "<=" };
        let mark = if reading.is_met() { "ok" } else { "MISSED" };
        table.add_row([
            reading.what.to_owned(),
            format!("{:.1} {}", reading.value, reading.unit),
            reading
                .target
                .map(|target| format!("{sign} {target} {}", reading.unit))
                .unwrap_or_default(),
            mark.to_owned(),
        ]);
    }
    terminal::out(&format!("{table}\n"));
    for broken in readings.iter().filter_map(|reading| reading.broken.as_ref()) {
        terminal::out(&format!("FAIL {broken}\n"));
    }
    terminal::out(&format!(
        "All rules on. Runs/s with {jobs} threads, 1000 nodes in one; nothing else should run.\n"
    ));
}

fn json_of(reading: &Reading) -> Value {
    json!({
        "name": format!("{:?}", reading.item).to_lowercase(),
        "what": reading.what,
        "value": reading.value,
        "unit": reading.unit,
        "target": reading.target,
        "is_met": reading.is_met(),
        "broken": reading.broken,
    })
}

/// Runs seeds for a while.
fn rate(
    (item, what, target): (Item, &'static str, Option<f64>),
    budget: Duration,
    jobs: usize,
    plan: &(dyn Fn(u64) -> Plan + Sync),
) -> Reading {
    let bar = terminal::bar(budget.as_millis() as u64, "ms");
    let order = Order {
        scenarios: 1,
        seeds: 0..u64::MAX,
        jobs,
        budget: Some(budget),
        until_coverage_stable: None,
        twice: 0.0,
        keep_going: true,
    };
    let swarm = Swarm::run(&order, &|run: Run| plan(run.seed), &execute, &|swarm| {
        bar.set_position(swarm.took.as_millis() as u64);
    });
    bar.finish_and_clear();
    let broken = swarm.failures.first().and_then(|failure| {
        let violation = failure.outcome.violation.as_ref()?;
        Some(format!("{} seed {:#x}: {violation}", failure.plan.name, failure.item.seed))
    });
    let value = swarm.population.runs as f64 / swarm.took.as_secs_f64().max(1e-9);
    Reading { item, what, value, unit: "/s", target, is_rate: true, broken }
}

/// In a process of its own, whose memory nothing else was in.
fn thousand() -> Result<[Reading; 2], Refusal> {
    let spinner = terminal::spinner("1000 nodes, halves apart for 60 s");
    let program = std::env::current_exe().map_err(Refusal::new)?;
    let mut command = Command::new(program);
    if selftest::is_subcommand() {
        command.arg("simulate");
    }
    let output = command.arg("bench").env(CHILD, "1").output().map_err(Refusal::new)?;
    spinner.finish_and_clear();
    let value: Value = serde_json::from_slice(&output.stdout).map_err(|error| {
        let stderr = String::from_utf8_lossy(&output.stderr);
        Refusal::new(format!("the process with 1000 nodes failed: {error} {stderr}"))
    })?;
    let number = |key: &str| value[key].as_f64().unwrap_or(f64::NAN);
    let broken = value["broken"].as_str().map(str::to_owned);
    let reading = |what, value, unit, target| Reading {
        item: Item::Thousand,
        what,
        value,
        unit,
        target,
        is_rate: false,
        broken: broken.clone(),
    };
    let time = "time: 1000 nodes, halves apart for 60 s, one core";
    Ok([
        reading(time, number("took_s"), "s", Some(120.0)),
        reading("... peak memory", number("peak_mb"), "MB", Some(512.0)),
    ])
}

/// Runs it once and says how long it took, and the most memory that this process ever had.
fn child() -> Ending {
    let plan = partition(1_000, 0, Duration::from_secs(60));
    let started = Instant::now();
    let outcome = execute(&plan, None);
    let took = started.elapsed();
    let broken = outcome.violation.map(|violation| format!("{} seed 0x0: {violation}", plan.name));
    let value = json!({ "took_s": took.as_secs_f64(), "peak_mb": peak_mb(), "broken": broken });
    terminal::out(&format!("{value}\n"));
    Ok(Verdict::Pass)
}

/// Peak of this process's resident memory in MB (2^20 bytes); `None` where there is no `/proc`.
fn peak_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kb: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kb / 1_024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_runs_and_less_memory_are_better() {
        let reading = |value: f64, target, is_rate| Reading {
            item: Item::Five,
            what: "",
            value,
            unit: "",
            target: Some(target),
            is_rate,
            broken: None,
        };
        assert!(reading(401.0, 400.0, true).is_met() && !reading(399.0, 400.0, true).is_met());
        assert!(reading(511.0, 512.0, false).is_met() && !reading(513.0, 512.0, false).is_met());
        assert!(!reading(f64::NAN, 512.0, false).is_met(), "what is not known is not met");
        let broken = Reading { broken: Some(String::new()), ..reading(401.0, 400.0, true) };
        assert!(!broken.is_met());
    }

    #[test]
    fn a_process_knows_its_peak_of_memory() {
        if cfg!(target_os = "linux") {
            assert!(peak_mb().is_some_and(|mb| mb > 1.0));
        }
    }
}
