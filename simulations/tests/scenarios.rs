//! The files in `scenarios/`: each does what it says, and the cluster comes through.

use std::collections::BTreeMap;
use std::path::PathBuf;

use grapevine_simulations::execute::execute;
use grapevine_simulations::outcome::Outcome;
use grapevine_simulations::plan::Plan;
use grapevine_simulations::scenario::{Scenario, builtin, schema};
use grapevine_simulations::trace::{Record, Recorder, What};

/// What happened in a run, counted.
#[derive(Debug, Default)]
struct Seen {
    /// By kind and word: `drop cut`, `life crashed`, `member down`, `send snapshot`, ...
    counts: BTreeMap<String, u64>,
    counters: BTreeMap<String, u64>,
    /// By class, those that began.
    faults: BTreeMap<&'static str, u64>,
    /// Some links translate addresses.
    is_translated: bool,
}

impl Seen {
    fn count(&mut self, kind: &str, word: &str) {
        *self.counts.entry(format!("{kind} {word}")).or_default() += 1;
    }

    /// How often something was recorded: `drop cut`.
    fn had(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    /// A counter of the cores, of all nodes together.
    fn counted(&self, counter: &str) -> u64 {
        self.counters.get(counter).copied().unwrap_or(0)
    }

    /// Faults of a class that began.
    fn began(&self, class: &str) -> u64 {
        self.faults.get(class).copied().unwrap_or(0)
    }
}

struct Watch<'a> {
    plan: &'a Plan,
    seen: Seen,
}

impl Recorder for Watch<'_> {
    fn record(&mut self, record: &Record) {
        match &record.what {
            What::Send { msg, .. } => self.seen.count("send", msg),
            What::Drop { reason, .. } => self.seen.count("drop", reason),
            What::Member { to, .. } => self.seen.count("member", to),
            What::Life { to, .. } => self.seen.count("life", to),
            What::Write { live, .. } => {
                self.seen.count("write", if *live { "new" } else { "gone" })
            }
            What::Fault { index, begins: true } => {
                let class = self.plan.faults[*index as usize].fault.class();
                *self.seen.faults.entry(class).or_default() += 1;
            }
            _ => {}
        }
    }
}

fn play(plan: &Plan) -> (Outcome, Seen) {
    let mut watch = Watch { plan, seen: Seen::default() };
    let outcome = execute(plan, Some(&mut watch));
    let mut seen = watch.seen;
    seen.is_translated = plan.link_rules.iter().any(|rule| rule.link.nat);
    seen.counters = outcome.stats.counters.clone();
    (outcome, seen)
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios"))
}

fn files() -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = std::fs::read_dir(folder())
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).expect("a text"))
        })
        .collect();
    files.sort();
    files
}

/// Where a file is too long for a test: what is changed.
const SHORTER: &[(u32, &str, &str)] =
    &[(1, "fault.0.for", "20s"), (7, "fault.2.crash.restart", "15s"), (30, "run.heal", "25m")];

/// Runs that once broke a rule, by file and seed; they may not do it again.
const ONCE_BROKEN: &[(u32, u64)] = &[(11, 0x81)];

/// What must have been seen in every run of a file, so that it deserves its name.
type Proof = fn(&Seen) -> bool;
const PROOFS: &[(u32, &str, Proof)] = &[
    (1, "links are cut, and both sides notice", |s| {
        s.had("drop cut") > 0 && s.had("member down") > 1
    }),
    (2, "one direction is cut, and nobody is declared down", |s| {
        s.had("drop cut") > 0 && s.had("member down") == 0
    }),
    (3, "a link is cut, and nobody is declared down", |s| {
        s.had("drop cut") > 0 && s.had("member down") == 0
    }),
    (4, "it heals in two steps", |s| s.began("partition") == 2 && s.had("drop cut") > 0),
    (5, "the rest is cut off for longer than it is remembered", |s| s.had("member down") > 1),
    (6, "the link comes and goes", |s| s.began("partition") >= 6 && s.had("drop cut") > 0),
    (7, "processes are killed", |s| s.began("crash") == 4 && s.had("life crashed") >= 3),
    (8, "clocks jump, and processes restart", |s| {
        s.began("clock") > 6 && s.had("life crashed") > 3
    }),
    (9, "all are killed, twice", |s| s.had("life crashed") >= 6),
    (10, "everybody leaves once and is killed once", |s| {
        s.had("life left") > 2 && s.had("life left") == s.had("life crashed")
    }),
    (11, "twins notice each other", |s| {
        s.counted("own_id_elsewhere") + s.had("member renewed") > 0
    }),
    (12, "two disks are lost", |s| s.had("life crashed") == 2),
    (13, "two nodes move", |s| s.had("life crashed") == 2),
    (14, "the goodbye is lost", |s| s.had("life left") == 1 && s.had("drop cut") > 0),
    (15, "many are killed", |s| s.had("life crashed") >= 3),
    (16, "hundreds of deletions", |s| s.had("write gone") >= 100 && s.had("drop cut") > 0),
    (17, "deletions, and a cut", |s| s.had("write gone") >= 100 && s.had("drop cut") > 0),
    (18, "11,000 writes, and as many deletions", |s| s.had("write gone") >= 11_000),
    (19, "what an owner has is on its way and it is killed", |s| {
        s.began("start") == 1 && s.had("send deltas") > 0 && s.had("life crashed") == 1
    }),
    (20, "two join while others catch up", |s| s.began("start") == 2 && s.had("write new") > 800),
    (21, "buffers overflow", |s| s.had("drop buffer") > 0),
    (22, "old epochs speak", |s| {
        s.had("life crashed") >= 6 && s.counted("dropped_not_a_member") > 0
    }),
    (23, "the stranger is refused", |s| s.counted("dropped_frame") > 0),
    (24, "versions are not understood", |s| s.counted("dropped_wire_version") > 0),
    (25, "junk is refused", |s| s.counted("dropped_damaged") + s.counted("dropped_malformed") > 0),
    (26, "large datagrams are lost", |s| s.had("drop mtu") > 0),
    (27, "sources differ", |s| s.is_translated && s.had("life crashed") == 1),
    (28, "disks are in trouble at starts", |s| s.began("disk") == 3 && s.had("life crashed") == 3),
    (29, "the line is full", |s| s.had("write new") > 500),
    (30, "a life of all kinds", |s| {
        s.had("life crashed") > 0 && s.had("life paused") > 0 && s.had("drop cut") > 0
    }),
];

#[test]
fn there_are_thirty_cases_and_each_says_what_it_is() {
    let files = files();
    assert_eq!(files.len(), 30);
    for (index, (name, text)) in files.iter().enumerate() {
        assert!(name.starts_with(&format!("{:02}-", index + 1)), "{name}");
        let scenario = Scenario::parse(text, name).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(&scenario.name, name);
        assert!(!scenario.description.is_empty(), "{name}");
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("#:schema schema.json"), "{name}");
        assert!(lines.next().is_some_and(|line| line.starts_with("# ")), "{name}");
    }
}

#[test]
fn each_case_does_what_it_says_and_the_cluster_comes_through() {
    let mut failures = Vec::new();
    for (name, text) in files() {
        let number: u32 = name[..2].parse().expect("a number");
        let mut scenario = Scenario::parse(&text, &name).expect("a scenario");
        let mut words = String::new();
        for (_, key, value) in SHORTER.iter().filter(|(file, ..)| *file == number) {
            scenario = scenario.set(key, value).expect("a key of the file");
            words += &format!("--set {key}={value} ");
        }
        let proofs: Vec<_> = PROOFS.iter().filter(|(file, ..)| *file == number).collect();
        assert!(!proofs.is_empty(), "{name}: nothing is asked of it");
        let once_broken = ONCE_BROKEN.iter().filter(|(file, _)| *file == number);
        for seed in (1..=3).chain(once_broken.map(|(_, seed)| *seed)) {
            let plan = scenario.plan(seed);
            let (outcome, seen) = play(&plan);
            let repro =
                format!("simulate run {words}--seed {seed} simulations/scenarios/{name}.toml");
            if let Some(violation) = outcome.violation {
                failures.push(format!("{violation}\n  {repro}"));
                continue;
            }
            for (_, what, proof) in &proofs {
                if !proof(&seen) {
                    failures.push(format!("not seen: {what}\n  {repro}\n  {seen:?}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_schema_for_editors_is_that_of_the_program() {
    let text = std::fs::read_to_string(folder().join("schema.json")).expect("the schema");
    let kept: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert!(
        kept == schema(),
        "write it again: simulate schema > simulations/scenarios/schema.json"
    );
}

#[test]
fn what_ships_passes_with_more_seeds_than_one() {
    let small = builtin::list().iter().filter(|builtin| builtin.name != "hundred");
    for builtin in small {
        let scenario = Scenario::parse(builtin.text, builtin.name).expect("a scenario");
        for seed in 0..3 {
            let (outcome, _) = play(&scenario.plan(seed));
            let repro = format!("simulate run --seed {seed} {}", builtin.name);
            assert_eq!(outcome.violation, None, "{repro}");
        }
    }
}

#[test]
fn a_misspelt_key_is_refused_in_every_table_with_its_line_and_the_right_one() {
    for (table, wrong, right) in [
        ("[cluster]", "node = 5", "nodes"),
        ("[net]", "los = 0.1", "loss"),
        ("[[net.between]]", "form = 1", "from"),
        ("[topics]", "counts = 5", "count"),
        ("[workload]", "lookup = 5.0", "lookups"),
        ("[knobs]", "suspicions = \"4s\"", "suspicion"),
        ("[[fault]]", "partiton = \"halves\"", "partition"),
        ("[chaos]", "clases = [\"crash\"]", "classes"),
        ("[run]", "heel = \"5s\"", "heal"),
        ("[expect]", "phantom = \"5s\"", "phantom_max"),
        ("[broker]", "consumer = 2", "consumers"),
    ] {
        let text = format!("schema = 1\n{table}\n{wrong}\n");
        let error = Scenario::parse(&text, "mine.toml").expect_err(wrong).to_string();
        assert!(error.starts_with("mine.toml:3:1: unknown key"), "{error}");
        assert!(error.contains(&format!("did you mean \"{right}\"?")), "{error}");
    }
}
