//! `[chaos]`: what a seed adds to the timeline by luck.
//!
//! All faults a little in every run hide bugs, so each class is off in half of the seeds, and how
//! bad it is when on is drawn on a logarithmic scale. Each fault is keyed by its class and number:
//! without one the others stay as they are.

mod usual;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::{Burst, Delay, DiskFate, DiskTrouble, Fault, Knobs, Link, Partition, TimedFault};
use crate::scenario::drawn::{Dice, Drawn, rounded};
use crate::scenario::expand::{self, Ground};
use crate::scenario::file::Chaos;
use crate::scenario::nodes::{Nodes, Roster};

use usual::{FAULT_PAUSE_S, FAULTS_MAX, GROUPS_PER_CLASS, LASTS_MAX_S, LASTS_MIN_S, USUAL};
pub(crate) use usual::{GROUPS, LONGEST};

/// A kind of trouble.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ChaosClass {
    /// Halves, minorities, single nodes.
    Partition,
    /// Cuts in one direction.
    Oneway,
    /// Bridges, rings, chains, stars, random cuts.
    Shapes,
    /// A partition that comes and goes.
    Flap,
    /// Nodes cut off one by one, back in another order.
    Swizzle,
    /// Datagrams are lost everywhere.
    Loss,
    /// ... in bursts.
    BurstLoss,
    /// The network is slow.
    Delay,
    /// Datagrams arrive twice.
    Dup,
    /// Datagrams arrive late, up to minutes.
    Reorder,
    /// Bits are flipped.
    Corrupt,
    /// Ends are missing.
    Truncate,
    /// Little bandwidth.
    Rate,
    /// Large datagrams are lost.
    Mtu,
    /// Single links are bad for a while.
    Link,
    /// Processes stand still.
    Pause,
    /// Processes are slow.
    SlowCpu,
    /// Processes are killed.
    Crash,
    /// Machines lose power.
    PowerLoss,
    /// Disks are lost.
    DiskLoss,
    /// Disks hold what they held some time ago.
    Rollback,
    /// Disks are copied: two nodes of one identity.
    Clone,
    /// Nodes come back at another address.
    Move,
    /// Nodes leave.
    Leave,
    /// Clocks jump and run at wrong rates.
    Clock,
    /// Disks are slow, full, or lie.
    Disk,
    /// Nodes speak another version of the wire format.
    Wire,
    /// Random bytes.
    Junk,
    /// Many topics at once.
    Burst,
    /// Producers are hidden by operators.
    Tombstone,
    /// Stock nsqds register over TCP.
    Foreign,
    /// Parameters of the protocol are unusual.
    Knobs,
    /// Deviations built into the code are armed.
    Buggify,
    /// In the end only some nodes are mended and must agree among themselves.
    Core,
}

/// What luck adds.
#[derive(Debug, Default)]
pub(crate) struct Drawing {
    /// Faults.
    pub faults: Vec<TimedFault>,
    /// Parameters, where the file says nothing.
    pub knobs: Knobs,
    /// Stock nsqds per node.
    pub foreign: usize,
    /// Nodes that are mended.
    pub core: Option<Vec<usize>>,
}

/// The luck of one class, or of one fault of it.
struct Luck<'a> {
    class: ChaosClass,
    /// From 0 to 1.
    intensity: f64,
    /// Number of the fault within its class.
    number: u64,
    ground: &'a Ground<'a>,
    dice: Dice,
    roster: &'a Roster<'a>,
}

/// What the seed makes of `[chaos]`.
pub(crate) fn draw(ground: &Ground<'_>, table: &Chaos) -> Drawing {
    let dice = ground.roster.dice;
    let mut drawing = Drawing::default();
    let mut everywhere = ground.link.clone();
    let mut names: Vec<&str> = Vec::new();
    let default = Drawn::Range(0.1, 1.0);
    let intensity = table.intensity.as_ref().unwrap_or(&default);
    for &class in table.classes.as_deref().unwrap_or(&USUAL) {
        let ids = [class as u64];
        if dice.share("chaos.on", &ids) < 0.5 {
            continue;
        }
        let intensity = dice.log(intensity.least(), intensity.most(), "chaos.intensity", &ids);
        let intensity = intensity.clamp(0.0, 1.0);
        let luck = Luck { class, intensity, number: 0, ground, dice, roster: &ground.roster };
        if let Some(name) = luck.worsen(&mut everywhere) {
            names.push(name);
            continue;
        }
        match class {
            ChaosClass::Knobs => luck.knobs(&mut drawing.knobs),
            ChaosClass::Buggify => drawing.knobs.buggify = 0.25,
            ChaosClass::Foreign => drawing.foreign = 1 + luck.index(3, "foreign"),
            ChaosClass::Core => {
                let seeds: Vec<usize> = (0..ground.roster.nodes.min(2)).collect();
                drawing.core = Some(expand::core(&Nodes::Random, &ground.roster, &seeds));
            }
            _ => drawing.faults.extend(luck.timeline()),
        }
    }
    if !names.is_empty() {
        let (from, to) = ground.window;
        drawing.faults.push(TimedFault {
            at: from,
            lasts: Some(to.saturating_sub(from)),
            fault: Fault::Link { from: Vec::new(), to: Vec::new(), link: everywhere },
            group: GROUPS,
            label: names.join(", "),
        });
    }
    drawing
}

/// Parameters by luck, where nothing is said.
pub(crate) fn merge_knobs(said: &mut Knobs, drawn: Knobs) {
    let or = |said: &mut Option<Duration>, drawn: Option<Duration>| *said = said.or(drawn);
    or(&mut said.probe_period, drawn.probe_period);
    or(&mut said.suspicion, drawn.suspicion);
    or(&mut said.spread_period, drawn.spread_period);
    or(&mut said.digest_period, drawn.digest_period);
    or(&mut said.reconnect_period, drawn.reconnect_period);
    or(&mut said.deletions_kept, drawn.deletions_kept);
    or(&mut said.detached_kept, drawn.detached_kept);
    if said.buggify == 0.0 {
        said.buggify = drawn.buggify;
    }
}

impl Luck<'_> {
    fn ids(&self) -> [u64; 2] {
        [self.class as u64, self.number]
    }

    fn place(what: &str) -> String {
        format!("chaos.{what}")
    }

    fn share(&self, what: &str) -> f64 {
        self.dice.share(&Self::place(what), &self.ids())
    }

    fn index(&self, count: usize, what: &str) -> usize {
        self.dice.index(count, &Self::place(what), &self.ids())
    }

    fn log(&self, low: f64, high: f64, what: &str) -> f64 {
        self.dice.log(low, high, &Self::place(what), &self.ids())
    }

    fn seconds(&self, low: f64, high: f64, what: &str) -> Duration {
        let us = (self.log(low, high, what) * 1e6) as u64;
        // Whole ms where that is fine enough, for people to read.
        Duration::from_micros(if us < 10_000 { us } else { us / 1_000 * 1_000 })
    }

    fn node(&self) -> usize {
        self.index(self.roster.nodes, "node")
    }

    fn other(&self, node: usize) -> usize {
        (node + 1 + self.index(self.roster.nodes.saturating_sub(1), "other")) % self.roster.nodes
    }

    fn some(&self, count: usize, what: &str) -> Vec<usize> {
        self.roster.some(count, &Self::place(what), &self.ids())
    }

    /// Makes every link worse, if that is what the class does; its name if so.
    fn worsen(&self, link: &mut Link) -> Option<&'static str> {
        let bad = |most: f64| rounded(most * self.intensity);
        Some(match self.class {
            ChaosClass::Loss => {
                link.loss = link.loss.max(bad(0.3));
                "loss"
            }
            ChaosClass::BurstLoss => {
                let exit = self.log(0.05, 0.5, "burst");
                link.burst = Some(Burst { enter: bad(0.02), exit, loss: 0.9 });
                "burst loss"
            }
            ChaosClass::Delay => {
                link.delay = self.delay();
                "delay"
            }
            ChaosClass::Dup => {
                link.dup = bad(0.3);
                "duplicates"
            }
            ChaosClass::Reorder => {
                link.reorder = bad(0.2);
                link.reorder_by = self.seconds(0.01, 60.0, "reorder_by");
                "reordering"
            }
            ChaosClass::Corrupt => {
                link.corrupt = bad(0.05);
                "corruption"
            }
            ChaosClass::Truncate => {
                link.truncate = bad(0.05);
                "truncation"
            }
            ChaosClass::Rate => {
                link.rate = Some((16_384.0 / self.intensity.max(0.01)) as u64);
                link.queue = 10 + self.index(200, "queue");
                "little bandwidth"
            }
            ChaosClass::Mtu => {
                link.mtu = Some([548, 800, 1_200][self.index(3, "mtu")]);
                "small MTU"
            }
            _ => return None,
        })
    }

    fn delay(&self) -> Delay {
        let typical = self.seconds(0.0005, 0.2 * self.intensity.max(0.01), "delay");
        match self.index(5, "delay.kind") {
            0 => Delay::Const(typical),
            1 => Delay::Uniform(typical / 4, typical * 2),
            2 => Delay::Exp { min: typical / 4, mean: typical },
            3 => Delay::Lognormal { median: typical, p99: typical * 8 },
            _ => {
                let slow = typical * 20;
                Delay::Bimodal { fast: typical, slow, p_slow: rounded(0.1 * self.intensity) }
            }
        }
    }

    /// The faults of the class.
    fn timeline(mut self) -> Vec<TimedFault> {
        let (from, to) = self.ground.window;
        let window = to.saturating_sub(from).as_secs_f64();
        let most = (window / FAULT_PAUSE_S * self.intensity).ceil().clamp(1.0, FAULTS_MAX);
        let count = 1 + self.index(most as usize, "count");
        let mut faults = Vec::new();
        for number in 0..count as u64 {
            self.number = number;
            let at = from + Duration::from_millis((window * self.share("at") * 1e3) as u64);
            let longest = (LASTS_MAX_S * self.intensity).max(LASTS_MIN_S * 2.0);
            let lasts = self.log(LASTS_MIN_S, longest, "for");
            let lasts = Duration::from_millis((lasts * 1e3) as u64);
            let group = GROUPS + 1 + self.class as u32 * GROUPS_PER_CLASS + number as u32;
            let pieces = self.faults(lasts).into_iter().filter(|(after, ..)| at + *after < to);
            faults.extend(pieces.map(|(after, lasts, fault, label)| {
                let label = label.to_owned();
                TimedFault { at: at + after, lasts, fault, group, label }
            }));
        }
        faults
    }

    /// One fault of the class, in as many pieces as it takes.
    fn faults(&self, lasts: Duration) -> Vec<(Duration, Option<Duration>, Fault, &'static str)> {
        let node = self.node();
        let zero = Duration::ZERO;
        let lasting = |fault: Fault, label| vec![(zero, Some(lasts), fault, label)];
        let event = |fault: Fault, label| vec![(zero, None, fault, label)];
        match self.class {
            ChaosClass::Partition => lasting(Fault::Partition(self.split()), "partition"),
            ChaosClass::Oneway => lasting(Fault::Partition(self.oneway()), "one way"),
            ChaosClass::Shapes => lasting(Fault::Partition(self.shape()), "odd partition"),
            ChaosClass::Flap => self.flap(lasts),
            ChaosClass::Swizzle => self.swizzle(lasts),
            ChaosClass::Link => lasting(self.bad_link(node), "bad link"),
            ChaosClass::Pause => lasting(Fault::Pause { node }, "pause"),
            ChaosClass::SlowCpu => {
                let per_input = self.seconds(0.0001, 0.05 * self.intensity.max(0.01), "per_input");
                lasting(Fault::SlowCpu { node, per_input }, "slow cpu")
            }
            ChaosClass::Leave => {
                let restart = (self.share("back") < 0.6).then(|| self.seconds(0.05, 10.0, "down"));
                event(Fault::Leave { node, restart }, "leave")
            }
            ChaosClass::Clock => {
                let (fault, label) = self.clock(node);
                lasting(fault, label)
            }
            ChaosClass::Disk => {
                let trouble = match self.index(4, "trouble") {
                    0 => DiskTrouble::Slow(self.seconds(0.001, 2.0, "slow")),
                    1 => DiskTrouble::Full,
                    2 => DiskTrouble::Torn(rounded(self.share("torn"))),
                    _ => DiskTrouble::FsyncLies,
                };
                lasting(Fault::Disk { node, trouble }, "disk")
            }
            ChaosClass::Wire => lasting(Fault::Wire { node, version: 0x7f }, "wire version"),
            ChaosClass::Junk => {
                let per_second = self.log(1.0, 1.0 + 50.0 * self.intensity, "per_second");
                lasting(Fault::Junk { node, per_second }, "junk")
            }
            ChaosClass::Burst => {
                let topics = self.log(2.0, 2.0 + 200.0 * self.intensity, "topics") as usize;
                let channels = self.index(4, "channels");
                let delete_after = (self.share("delete") < 0.7).then_some(lasts);
                event(Fault::Burst { node, topics, channels, delete_after }, "topic burst")
            }
            ChaosClass::Tombstone => {
                let topic = self.index(self.ground.topics.max(1), "topic");
                event(Fault::Tombstone { at: node, of: self.other(node), topic }, "tombstone")
            }
            _ => event(self.crash(node), "crash"),
        }
    }

    fn crash(&self, node: usize) -> Fault {
        let disk = match self.class {
            ChaosClass::PowerLoss => DiskFate::PowerLoss,
            ChaosClass::DiskLoss => DiskFate::Lose,
            ChaosClass::Rollback => DiskFate::Old(self.seconds(0.1, 20.0, "age")),
            ChaosClass::Clone => DiskFate::CloneOf(self.other(node)),
            _ => DiskFate::Keep,
        };
        let restart = (self.share("back") < 0.8).then(|| self.seconds(0.02, 15.0, "down"));
        Fault::Crash { node, restart, disk, moves: self.class == ChaosClass::Move }
    }

    fn split(&self) -> Partition {
        let nodes = self.roster.nodes;
        let count = match self.index(3, "kind") {
            0 => nodes / 2,
            1 => 1,
            _ => 1 + self.index(nodes.saturating_sub(1), "size"),
        };
        let first = self.some(count, "who");
        if nodes > 4 && self.share("three") < 0.2 {
            let second = self.some(nodes / 3, "second");
            let second: Vec<usize> = second.into_iter().filter(|n| !first.contains(n)).collect();
            if !second.is_empty() {
                return Partition::Split(vec![first, second]);
            }
        }
        Partition::Split(vec![first])
    }

    fn oneway(&self) -> Partition {
        let few = self.some(1 + self.index(self.roster.nodes.div_ceil(2), "size"), "who");
        let rest: Vec<usize> = self.roster.all().into_iter().filter(|n| !few.contains(n)).collect();
        match self.index(3, "way") {
            0 => Partition::Oneway { from: few, to: rest },
            1 => Partition::Oneway { from: rest, to: few },
            _ => {
                let node = self.node();
                Partition::Oneway { from: vec![node], to: vec![self.other(node)] }
            }
        }
    }

    fn shape(&self) -> Partition {
        let nodes = self.roster.nodes;
        match self.index(5, "shape") {
            0 => {
                let bridge = self.node();
                let others: Vec<usize> = (0..nodes).filter(|&n| n != bridge).collect();
                let mut side =
                    self.dice.shuffled(&others, &Self::place("side"), &[self.class as u64]);
                side.truncate(others.len().div_ceil(2));
                side.sort_unstable();
                Partition::Bridge { bridge, side }
            }
            1 => Partition::Ring { reach: 1 + self.index(nodes.div_ceil(4), "reach") },
            2 => Partition::Chain,
            3 => Partition::Star { hub: self.node() },
            _ => {
                let p = 0.2 + 0.6 * self.share("p");
                let pairs = (0..nodes).flat_map(|a| (a + 1..nodes).map(move |b| (a, b)));
                let is_cut = |&(a, b): &(usize, usize)| {
                    let ids = [self.class as u64, self.number, a as u64, b as u64];
                    self.dice.share("chaos.cut", &ids) < p
                };
                Partition::Links(pairs.filter(is_cut).collect())
            }
        }
    }

    fn flap(&self, lasts: Duration) -> Vec<(Duration, Option<Duration>, Fault, &'static str)> {
        let period = self.seconds(0.3, 8.0, "period");
        let on = period.mul_f64(0.2 + 0.6 * self.share("duty"));
        let on = Duration::from_millis(on.as_millis().max(1) as u64);
        let count = (lasts.as_secs_f64() / period.as_secs_f64()).ceil().clamp(1.0, 20.0) as u32;
        let fault = Fault::Partition(self.split());
        (0..count).map(|i| (period * i, Some(on), fault.clone(), "flapping")).collect()
    }

    fn swizzle(&self, lasts: Duration) -> Vec<(Duration, Option<Duration>, Fault, &'static str)> {
        let nodes = self.some(self.roster.nodes.div_ceil(2), "who");
        let there = self.dice.shuffled(&nodes, &Self::place("cut"), &self.ids());
        let back = self.dice.shuffled(&nodes, &Self::place("heal"), &self.ids());
        let step = lasts / (2 * nodes.len().max(1)) as u32;
        let pieces = there.iter().enumerate().map(|(i, &node)| {
            let place = back.iter().position(|&other| other == node).unwrap_or(0);
            let healed = lasts / 2 + step * (place + 1) as u32;
            let at = step * i as u32;
            let fault = Fault::Partition(Partition::Split(vec![vec![node]]));
            (at, Some(healed.saturating_sub(at)), fault, "swizzle")
        });
        pieces.collect()
    }

    fn bad_link(&self, node: usize) -> Fault {
        let link = Link {
            loss: rounded(self.intensity * (0.2 + 0.8 * self.share("loss"))),
            delay: self.delay(),
            ..self.ground.link.clone()
        };
        match self.index(3, "ends") {
            0 => Fault::Link { from: vec![node], to: Vec::new(), link },
            1 => Fault::Link { from: Vec::new(), to: vec![node], link },
            _ => Fault::Link { from: vec![node], to: vec![self.other(node)], link },
        }
    }

    fn clock(&self, node: usize) -> (Fault, &'static str) {
        if self.share("kind") < 0.5 {
            let ms = (self.log(0.01, 7_200.0, "jump") * 1e3) as i64;
            let wall_jump_ms = if self.share("back") < 0.5 { -ms } else { ms };
            return (Fault::Clock { node, wall_jump_ms, rate: 1.0 }, "clock jump");
        }
        let rate = 1.0 + (self.share("rate") - 0.5) * 0.4 * self.intensity;
        (Fault::Clock { node, wall_jump_ms: 0, rate: rounded(rate) }, "clock rate")
    }

    /// Parameters that are far from the default, yet allowed.
    fn knobs(&self, knobs: &mut Knobs) {
        let one = |choices: &[u64], what: &str| {
            let index = self.index(choices.len() + 1, what);
            choices.get(index).map(|&ms| Duration::from_millis(ms))
        };
        knobs.deletions_kept = one(&[1_000, 5_000, 15_000, 40_000], "deletions_kept");
        knobs.detached_kept = one(&[5_000, 10_000, 25_000], "detached_kept");
        knobs.digest_period = one(&[500, 1_000, 2_000], "digest_period");
        knobs.spread_period = one(&[50, 200], "spread_period");
        knobs.suspicion = one(&[2_000, 4_000, 6_000], "suspicion");
        knobs.reconnect_period = one(&[1_000, 4_000], "reconnect_period");
        knobs.probe_period = one(&[400, 1_000], "probe_period");
    }
}
