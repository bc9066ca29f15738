//! Measures real processes, so that the simulator can be held against them.
//!
//! ```text
//! cargo run --release --example fidelity -- PROGRAM OUT.json [REPETITIONS [WHERE..]]
//! cargo run --release --example fidelity -- compare OUT.json
//! ```
//!
//! `WHERE` is `loopback` (all nodes on 127.0.0.1) or `namespaces` (a network namespace for each
//! node, joined by a bridge; needs root); without one, both. What is measured: a change until all
//! nodes answer with it, `kill -9` and `SIGSTOP` until nobody lists the node, a restart and
//! `SIGCONT` until everyone does, and in namespaces a partition of halves from its healing until
//! everyone lists everyone. `simulate report --fidelity OUT.json` shows it beside the simulator.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a program")]

mod cluster;
mod http;
mod namespaces;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use grapevine_simulations::report::fidelity::{Measured, RUNS, Series, compare, table};

use cluster::{Cluster, Wait};
use namespaces::Network;

/// Nodes of the cluster: two halves of three.
const NODES: usize = 6;

/// Repetitions unless told otherwise.
const REPETITIONS: usize = 40;

/// How long the halves are apart: long enough that each side takes the other for dead.
const APART: Duration = Duration::from_secs(9);

type Anyhow<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [program, out, rest @ ..] = words.as_slice() else {
        eprintln!(
            "usage: fidelity PROGRAM OUT.json [REPETITIONS [loopback|namespaces]..]\n       \
             fidelity compare OUT.json"
        );
        return ExitCode::from(2);
    };
    if program == "compare" {
        return beside_the_simulator(out);
    }
    let repetitions = rest.first().and_then(|word| word.parse().ok()).unwrap_or(REPETITIONS);
    let places: Vec<&str> = rest.iter().skip(1).map(String::as_str).collect();
    match measure(program.into(), repetitions, &places) {
        Ok(measured) => match serde_json::to_string_pretty(&measured) {
            Ok(text) if std::fs::write(out, format!("{text}\n")).is_ok() => {
                println!("{} series in {out}", measured.series.len());
                ExitCode::SUCCESS
            }
            Ok(_) | Err(_) => {
                eprintln!("cannot write {out}");
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            eprintln!("fidelity: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Fails if the simulator is too far from what was measured.
fn beside_the_simulator(file: &str) -> ExitCode {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let measured: Measured = match serde_json::from_str(&text) {
        Ok(measured) => measured,
        Err(error) => {
            eprintln!("{file}: {error}");
            return ExitCode::from(2);
        }
    };
    let rows = compare(&measured, RUNS);
    println!("{}", table(&rows));
    if rows.iter().all(|row| row.is_within) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn measure(program: PathBuf, repetitions: usize, places: &[&str]) -> Anyhow<Measured> {
    let mut measured = Measured { nodes: NODES, delay_us: 0, series: Vec::new() };
    let wanted = |place| places.is_empty() || places.contains(&place);
    if wanted("loopback") {
        let mut cluster = Cluster::start(program.clone(), Network::loopback(), NODES)?;
        measured.delay_us = cluster.delay_us()?;
        measured.series.extend(Bench::new("loopback", cluster, repetitions).run()?);
    }
    if wanted("namespaces") {
        match Network::namespaces(NODES) {
            Ok(network) => {
                let mut cluster = Cluster::start(program, network, NODES)?;
                measured.delay_us = cluster.delay_us()?;
                measured.series.extend(Bench::new("namespaces", cluster, repetitions).run()?);
            }
            Err(error) => {
                eprintln!("SKIPPED: no network namespaces here ({error}); they need root");
            }
        }
    }
    Ok(measured)
}

struct Bench {
    place: &'static str,
    cluster: Cluster,
    repetitions: usize,
    seconds: BTreeMap<&'static str, Vec<f64>>,
    luck: u64,
}

impl Bench {
    fn new(place: &'static str, cluster: Cluster, repetitions: usize) -> Self {
        let luck = u64::from(std::process::id()) | 1;
        Self { place, cluster, repetitions, seconds: BTreeMap::new(), luck }
    }

    fn run(mut self) -> Anyhow<Vec<Series>> {
        self.cluster.wait(Wait::AllListed)?;
        for round in 0..self.repetitions {
            self.change(round)?;
        }
        for round in 0..self.repetitions {
            self.kill(round)?;
        }
        for round in 0..self.repetitions {
            self.freeze(round)?;
        }
        for round in 0..self.repetitions {
            if !self.part(round)? {
                break;
            }
        }
        let place = self.place;
        let series = self.seconds.into_iter().map(|(what, seconds)| Series {
            what: what.to_owned(),
            place: place.to_owned(),
            seconds,
        });
        Ok(series.collect())
    }

    fn change(&mut self, round: usize) -> Anyhow<()> {
        self.some_time();
        let (node, topic) = (round % NODES, format!("change-{round}"));
        let started = Instant::now();
        self.cluster.create_topic(node, &topic)?;
        self.cluster.wait(Wait::Topic { topic: &topic, at: node })?;
        self.note("change", started);
        Ok(())
    }

    fn kill(&mut self, round: usize) -> Anyhow<()> {
        self.some_time();
        let node = 1 + round % (NODES - 1);
        let started = Instant::now();
        self.cluster.kill(node)?;
        self.cluster.wait(Wait::Gone(node))?;
        self.note("kill", started);
        std::thread::sleep(Duration::from_secs(1));
        self.cluster.launch(node)?;
        self.cluster.wait(Wait::AllListed)?;
        Ok(())
    }

    fn freeze(&mut self, round: usize) -> Anyhow<()> {
        self.some_time();
        let node = 1 + round % (NODES - 1);
        let started = Instant::now();
        self.cluster.signal(node, "STOP")?;
        self.cluster.wait(Wait::Gone(node))?;
        self.note("freeze", started);
        std::thread::sleep(Duration::from_secs(1));
        let started = Instant::now();
        self.cluster.signal(node, "CONT")?;
        self.cluster.wait(Wait::AllListed)?;
        self.note("thaw", started);
        Ok(())
    }

    /// False if the network cannot be parted.
    fn part(&mut self, round: usize) -> Anyhow<bool> {
        if !self.cluster.part(NODES / 2)? {
            return Ok(false);
        }
        std::thread::sleep(APART);
        self.cluster.wait(Wait::Halves(NODES / 2))?;
        self.some_time();
        self.cluster.heal()?;
        let started = Instant::now();
        self.cluster.wait(Wait::AllListed)?;
        self.note("heal", started);
        println!("{}: heal {} of {}", self.place, round + 1, self.repetitions);
        Ok(true)
    }

    /// So that what is measured begins at any phase of the nodes' periods.
    fn some_time(&mut self) {
        self.luck ^= self.luck << 13;
        self.luck ^= self.luck >> 7;
        self.luck ^= self.luck << 17;
        std::thread::sleep(Duration::from_millis(500 + self.luck % 1500));
    }

    fn note(&mut self, what: &'static str, started: Instant) {
        let seconds = started.elapsed().as_secs_f64();
        println!("{}: {what} {seconds:.3} s", self.place);
        self.seconds.entry(what).or_default().push(seconds);
    }
}
