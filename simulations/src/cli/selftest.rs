//! `simulate selftest`: does the simulator see what is broken, and is a run a function of its plan?

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::args::SelftestArgs;
use super::source::Source;
use super::{Ending, Refusal, Verdict, terminal};
use crate::case::{COMMIT, Case, Exactness};
use crate::execute::execute;
use crate::plan::{Link, Plan};
use crate::swarm::{Item, Order, Swarm};

/// The scenario with every kind of fault.
const SCENARIO: &str = "swarm";

/// What another process may differ in without making another run.
const ENVIRONMENTS: [[(&str, &str); 4]; 2] = [
    [("TZ", "Asia/Kathmandu"), ("LANG", "C"), ("LC_ALL", "C"), ("RAYON_NUM_THREADS", "1")],
    [
        ("TZ", "America/St_Johns"),
        ("LANG", "tr_TR.UTF-8"),
        ("LC_ALL", "tr_TR.UTF-8"),
        ("RAYON_NUM_THREADS", "7"),
    ],
];

pub(super) fn run(args: &SelftestArgs) -> Ending {
    let started = Instant::now();
    let source = Source::open(SCENARIO, &[])?;
    let mut worst = Verdict::Pass;
    let mut checks = Vec::new();
    let mut say = |what: &str, result: Result<String, (Verdict, String)>| {
        let (mark, verdict, text) = match result {
            Ok(text) => ("ok  ", Verdict::Pass, text),
            Err((verdict, text)) => ("FAIL", verdict, text),
        };
        worst = worst.max(verdict);
        if !args.json {
            terminal::out(&format!("{mark} {what}: {text}\n"));
        }
        checks.push(json!({ "what": what, "verdict": verdict.name(), "text": text }));
    };
    say("canary", canary(&source));
    let (swarm, result) = double_run(&source, args.seeds);
    say("double run", result);
    say("replay of a case", golden(&source));
    for environment in ENVIRONMENTS {
        let what = format!("another process, TZ={}, {}", environment[0].1, environment[1].1);
        say(&what, other_process(args.seeds, &swarm, &environment)?);
    }
    let took = started.elapsed();
    if args.json {
        let took = took.as_secs_f64();
        let value = json!({
            "verdict": worst.name(), "commit": COMMIT, "took_s": took, "checks": checks,
        });
        terminal::out(&format!("{value:#}\n"));
    } else {
        terminal::out(&format!("{}\n", terminal::spoken_time(took)));
    }
    Ok(worst)
}

/// A good network, and nobody is told an address: the nodes never find each other, and a simulator
/// that does not notice notices nothing. The network is good because rules excuse a bad one.
fn canary(source: &Source) -> Result<String, (Verdict, String)> {
    let mut plan = Plan { faults: Vec::new(), strangers: Vec::new(), ..source.plan(0) };
    plan.link = Link::LAN;
    plan.seeds.clear();
    plan.link_rules.clear();
    plan.broker = None;
    plan.core = None;
    plan.heal_at = Some(Duration::from_secs(10));
    plan.end = Duration::from_secs(60);
    match execute(&plan, None).violation {
        Some(violation) => {
            Ok(format!("a cluster whose nodes never meet breaks {}", violation.rule))
        }
        None => Err((Verdict::Violation, "nodes that never meet break no rule".to_owned())),
    }
}

fn double_run(source: &Source, seeds: u64) -> (Swarm, Result<String, (Verdict, String)>) {
    let order = Order {
        scenarios: 1,
        seeds: 0..seeds,
        jobs: 2,
        budget: None,
        until_coverage_stable: None,
        twice: 1.0,
        keep_going: true,
    };
    let plan = |item: Item| source.plan(item.seed);
    let swarm = Swarm::run(&order, &plan, &execute, &|_| ());
    let result = if let Some(mismatch) = swarm.mismatches.first() {
        let seed = mismatch.item.seed;
        Err((Verdict::Nondeterminism, format!("seed {seed:#x} is not the same run twice")))
    } else if let Some(failure) = swarm.failures.first() {
        let what = failure.outcome.violation.as_ref().map(ToString::to_string);
        let seed = failure.item.seed;
        Err((Verdict::Violation, format!("seed {seed:#x}: {}", what.unwrap_or_default())))
    } else {
        Ok(format!("{} seeds of {SCENARIO} are the same run twice", swarm.repeated))
    };
    (swarm, result)
}

fn golden(source: &Source) -> Result<String, (Verdict, String)> {
    let plan = source.plan(1);
    let outcome = execute(&plan, None);
    let case = Case::new(SCENARIO, &source.text, &plan, &outcome);
    let bytes = case.to_bytes().map_err(|error| (Verdict::Usage, error.to_string()))?;
    let case = Case::from_bytes(&bytes).map_err(|error| (Verdict::Usage, error))?;
    let again = execute(&case.plan, None);
    match case.exactness(&again, COMMIT) {
        Exactness::Exact => Ok(format!("{} bytes, hash {:016x}", bytes.len(), again.hash)),
        Exactness::Broken | Exactness::OtherProgram => Err((
            Verdict::Nondeterminism,
            format!("{:016x} became {:016x}", outcome.hash, again.hash),
        )),
    }
}

/// The same swarm in a process of its own: other addresses of memory, other threads, other names
/// of days. It must come to the same digest.
fn other_process(
    seeds: u64,
    swarm: &Swarm,
    environment: &[(&str, &str)],
) -> Result<Result<String, (Verdict, String)>, Refusal> {
    let program = std::env::current_exe().map_err(Refusal::new)?;
    let mut command = Command::new(&program);
    if is_subcommand() {
        command.arg("simulate");
    }
    command.args(["swarm", SCENARIO, "--json", "--keep-going", "--no-shrink", "--jobs", "3"]);
    command.args(["--seeds", &format!("0..{seeds}"), "--cases"]);
    command.arg(std::env::temp_dir());
    command.envs(environment.iter().copied());
    let output = command
        .output()
        .map_err(|error| Refusal::new(format!("{}: {error}", name_of(&program))))?;
    let digest = serde_json::from_slice::<serde_json::Value>(&output.stdout)
        .ok()
        .and_then(|value| Some(value.get("digest")?.as_str()?.to_owned()));
    let own = format!("{:016x}", swarm.population.digest);
    Ok(match digest {
        Some(digest) if digest == own => Ok(format!("digest {digest} of {seeds} seeds")),
        Some(digest) => Err((Verdict::Nondeterminism, format!("digest {digest}, here {own}"))),
        None => Err((Verdict::Usage, String::from_utf8_lossy(&output.stderr).into_owned())),
    })
}

/// Whether this is `grapevine simulate` rather than a program that only simulates.
pub(super) fn is_subcommand() -> bool {
    std::env::args().nth(1).is_some_and(|word| word == "simulate")
}

fn name_of(program: &Path) -> std::path::Display<'_> {
    program.display()
}
