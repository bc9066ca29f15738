//! `simulate mutants`: which planted bugs are found, by which rule, and how fast.

use std::collections::BTreeMap;
use std::time::Instant;

use comfy_table::Table;
use grapevine_gossip::mutant::{IS_AVAILABLE, Mutant, Shelf, plant};
use serde_json::{Value, json};

use super::args::{MutantsArgs, ShelfName};
use super::source::Source;
use super::{Ending, Refusal, Verdict, summary, swarm, terminal};
use crate::case::COMMIT;
use crate::execute::execute;
use crate::hunt::{Hunt, Quarry};
use crate::shrink::{self, shrink};

/// How to get a program that has bugs to find.
const HOW_TO_BUILD: &str = "this program has no planted bugs; build one that has:\n  \
    cargo run --release --features mutants -- simulate mutants";

pub(super) fn run(args: &MutantsArgs) -> Ending {
    if !IS_AVAILABLE {
        return Err(Refusal::new(HOW_TO_BUILD));
    }
    let source = Source::open(&args.scenario, &args.sets)?;
    let hunt = Hunt {
        mutants: chosen(args)?,
        seeds_max: args.seeds,
        budget: args.budget,
        jobs: args.jobs.unwrap_or_else(swarm::cores),
        more: if args.matrix { args.more } else { 0 },
        twice: args.twice,
        population: args.population,
    };
    let started = Instant::now();
    let bar = terminal::bar(hunt.mutants.len() as u64, "bugs");
    let plan = |seed: u64| source.plan(seed);
    let run =
        |mutant: Option<Mutant>, plan: &crate::plan::Plan| plant(mutant, || execute(plan, None));
    let all = hunt.start(&plan, &run, &|quarry| {
        bar.inc(1);
        bar.set_message(quarry.mutant.id());
    });
    bar.finish_and_clear();
    let took = started.elapsed();
    let small: BTreeMap<Mutant, Small> = if args.shrink {
        all.iter().filter_map(|quarry| Some((quarry.mutant, Small::of(quarry, &source)?))).collect()
    } else {
        BTreeMap::new()
    };
    let verdict = verdict(&all);
    if args.json {
        let value = json!({
            "verdict": verdict.name(),
            "commit": COMMIT,
            "took_s": took.as_secs_f64(),
            "mutants": all.iter().map(|quarry| json_of(quarry, &small)).collect::<Vec<_>>(),
        });
        terminal::out(&format!("{value:#}\n"));
        return Ok(verdict);
    }
    terminal::out(&format!("{}\n", table(&all, &small)));
    if args.matrix {
        terminal::out(&format!("{}\n", matrix(&all)));
    }
    let killed = all.iter().filter(|quarry| quarry.kill.is_some()).count();
    terminal::out(&format!(
        "{killed} of {} planted bugs were found in {}, each with a run of the same seed that \
         passes without it.\n{}",
        all.len(),
        terminal::spoken_time(took),
        Small::text(&small)
    ));
    Ok(verdict)
}

fn chosen(args: &MutantsArgs) -> Result<Vec<Mutant>, Refusal> {
    if args.only.is_empty() {
        let shelves: &[Shelf] = match args.shelf {
            ShelfName::First => &[Shelf::First, Shelf::Canary],
            ShelfName::Second => &[Shelf::Second, Shelf::Canary],
            ShelfName::Rules => &[Shelf::Rules, Shelf::Canary],
            ShelfName::Brokers => &[Shelf::Brokers],
            ShelfName::All => &[Shelf::First, Shelf::Second, Shelf::Rules, Shelf::Canary],
        };
        return Ok(shelves.iter().flat_map(|&shelf| Mutant::on(shelf)).collect());
    }
    let by_id = |id: &String| {
        let ids: Vec<&str> = Mutant::ALL.iter().map(|mutant| mutant.id()).collect();
        Mutant::by_id(id).ok_or_else(|| {
            Refusal::new(format!("there is no planted bug {id:?}; there are {}", ids.join(" ")))
        })
    };
    args.only.iter().map(by_id).collect()
}

/// Found all: pass. One lives: a violation, or undecided if time was over.
fn verdict(all: &[Quarry]) -> Verdict {
    let lives = |quarry: &&Quarry| quarry.kill.is_none();
    match all.iter().filter(lives).map(|quarry| quarry.is_cut_short).max() {
        None => Verdict::Pass,
        Some(false) => Verdict::Violation,
        Some(true) => Verdict::Undecided,
    }
}

fn table(all: &[Quarry], small: &BTreeMap<Mutant, Small>) -> Table {
    let mut table = summary::table();
    table.set_header(["bug", "what is wrong", "found by", "seed", "time", "shrunk to"]);
    for quarry in all {
        let (rule, seed, time) = match &quarry.kill {
            Some(kill) => (
                format!("{} {}", kill.rule, kill.name),
                if kill.is_of_many { format!("0..{}", kill.seed) } else { kill.seed.to_string() },
                terminal::spoken_time(kill.took),
            ),
            None if quarry.is_cut_short => {
                ("time was over".to_owned(), format!("0..{}", quarry.seeds), String::new())
            }
            None => ("NOT FOUND".to_owned(), format!("0..{}", quarry.seeds), String::new()),
        };
        let shrunk = small.get(&quarry.mutant).map(|small| {
            format!(
                "{} faults, {} nodes, {}",
                small.faults,
                small.nodes,
                terminal::spoken(small.ms)
            )
        });
        let meaning = quarry.mutant.meaning();
        let shrunk = shrunk.unwrap_or_default();
        table.add_row([quarry.mutant.id(), meaning, &rule, &seed, &time, &shrunk]);
    }
    table
}

/// Rules down, bugs across: how many seeds of each bug a rule noticed.
fn matrix(all: &[Quarry]) -> String {
    let mut rules: Vec<&String> = all.iter().flat_map(|quarry| quarry.rules.keys()).collect();
    rules.sort();
    rules.dedup();
    let mut text = String::from("    ");
    for quarry in all {
        text.push_str(&format!("{:>4}", quarry.mutant.id().replace("Canary", "C")));
    }
    for rule in rules {
        text.push_str(&format!("\n{rule:<4}"));
        for quarry in all {
            let count = quarry.rules.get(rule).map_or_else(|| ".".to_owned(), u64::to_string);
            text.push_str(&format!("{count:>4}"));
        }
    }
    let silent: Vec<&str> = crate::rules::all()
        .map(|rule| rule.id)
        .filter(|id| !all.iter().any(|quarry| quarry.rules.contains_key(*id)))
        .collect();
    if !silent.is_empty() {
        text.push_str(&format!("\nrules that found none of these: {}", silent.join(" ")));
    }
    text
}

fn json_of(quarry: &Quarry, small: &BTreeMap<Mutant, Small>) -> Value {
    json!({
        "id": quarry.mutant.id(),
        "meaning": quarry.mutant.meaning(),
        "kill": quarry.kill.as_ref().map(|kill| json!({
            "rule": kill.rule, "name": kill.name, "seed": kill.seed,
            "is_of_many": kill.is_of_many,
            "took_s": kill.took.as_secs_f64(),
        })),
        "seeds": quarry.seeds,
        "rules": quarry.rules,
        "unclean": quarry.unclean,
        "cut_short": quarry.is_cut_short,
        "took_s": quarry.took.as_secs_f64(),
        "shrunk": small.get(&quarry.mutant).map(|small| json!({
            "faults": small.faults, "nodes": small.nodes, "took_ms": small.ms,
        })),
    })
}

/// What shrinking made of a kill.
struct Small {
    faults: usize,
    nodes: usize,
    ms: f64,
}

impl Small {
    fn of(quarry: &Quarry, source: &Source) -> Option<Self> {
        let kill = quarry.kill.as_ref()?;
        let plan = source.plan(kill.seed);
        let started = Instant::now();
        let execute = |plan: &crate::plan::Plan,
                       recorder: Option<&mut dyn crate::trace::Recorder>| {
            plant(Some(quarry.mutant), || execute(plan, recorder))
        };
        let shrunk = shrink(&plan, &kill.rule, shrink::BUDGET, &execute)?;
        Some(Self {
            faults: shrunk.plan.faults.len(),
            nodes: shrunk.plan.nodes,
            ms: started.elapsed().as_secs_f64() * 1e3,
        })
    }

    fn text(all: &BTreeMap<Mutant, Self>) -> String {
        let mut faults: Vec<usize> = all.values().map(|small| small.faults).collect();
        let mut times: Vec<f64> = all.values().map(|small| small.ms).collect();
        faults.sort_unstable();
        times.sort_by(f64::total_cmp);
        let at = crate::expect::quantile_of(&faults, 0.5);
        let (Some(median), Some(most)) = (at, faults.last()) else { return String::new() };
        let middle = crate::expect::quantile_of(&times, 0.5).unwrap_or_default();
        let longest = times.last().copied().unwrap_or_default();
        format!(
            "Shrunk to {median} faults (median; {most} at most) in {} (median; {} at most).\n",
            terminal::spoken(middle),
            terminal::spoken(longest)
        )
    }
}
