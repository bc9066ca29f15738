//! From a scenario and a seed to a plan: ranges are drawn, shorthands are spelled out.

use std::time::Duration;

use crate::plan::{BrokerPlan, Expect, Fault, Knobs, Link, LinkRule, Plan, TimedFault, Workload};
use crate::scenario::chaos;
use crate::scenario::drawn::{Dice, Drawn, Scalar};
use crate::scenario::fault_expand;
use crate::scenario::file::{self, File};
use crate::scenario::link_table::{Base, Net, wan};
use crate::scenario::lives;
use crate::scenario::nodes::{Nodes, Roster};
use crate::scenario::rates::Rate;
use crate::scenario::words::When;

/// Nodes if a file does not say.
pub(crate) const NODES: u64 = 5;
/// Chaos begins then if a file does not say: the cluster has formed.
pub(crate) const CHAOS_BEGINS: Duration = Duration::from_secs(5);
/// ... and ends then.
pub(crate) const CHAOS_ENDS: Duration = Duration::from_secs(35);
/// A run goes on for this long after the healing if a file does not say.
pub(crate) const AFTER_HEAL: Duration = Duration::from_secs(30);
/// A fault that does not say when it is over counts as this long where a file leaves out when
/// everything is mended: long enough for a dead node to be given up and forgotten by all.
pub(crate) const FAULT_LASTS: Duration = Duration::from_secs(30);
/// Clients change something for this long if nothing goes wrong and a file does not say.
const PEACE: Duration = Duration::from_secs(30);
/// Nodes start within this time if a file does not say.
pub(crate) const STARTS: Duration = Duration::from_millis(200);

/// What was decided before faults are placed.
pub(crate) struct Ground<'a> {
    /// Nodes and luck.
    pub roster: Roster<'a>,
    /// Every link.
    pub link: Link,
    /// Links between some nodes.
    pub rules: Vec<LinkRule>,
    /// Topics.
    pub topics: usize,
    /// From when until when chaos reigns.
    pub window: (Duration, Duration),
    /// When repetitions stop at the latest, if the file says so.
    pub bound: Option<Duration>,
    /// When what lasts is over at the latest, if the file says so.
    pub limit: Option<Duration>,
}

/// What the seed makes of the file.
pub(crate) fn plan(file: &File, name: &str, seed: u64) -> Plan {
    let dice = Dice { seed };
    let nodes = draw(&file.cluster.nodes, NODES, dice, "cluster.nodes") as usize;
    let roster = Roster { nodes, regions: &file.cluster.regions, dice };
    let ground = ground(file, roster);

    let mut faults = Vec::new();
    for (index, table) in file.fault.iter().enumerate() {
        faults.extend(fault_expand::expand(&ground, table, index));
    }
    lives::settle(&mut faults);
    let over = faults.iter().map(over_at).max();
    let mut knobs = knobs(&file.knobs, dice);
    let mut workload = workload(&file.workload, dice);
    let core_from_chaos = file.chaos.as_ref().and_then(|table| {
        let drawn = chaos::draw(&ground, table);
        faults.extend(drawn.faults);
        chaos::merge_knobs(&mut knobs, drawn.knobs);
        workload.foreign = workload.foreign.max(drawn.foreign);
        drawn.core
    });
    faults.sort_by_key(|fault| fault.at);

    let starts = starts(file, &roster);
    let heal_at = heal_at(file, &ground, over.max(faults.iter().map(said_over_at).max()), &starts);
    let end = match &file.run.end {
        Some(end) => end.draw(heal_at, dice, "run.end").unwrap_or_default(),
        None => heal_at.unwrap_or(ground.window.1) + AFTER_HEAL,
    };
    let core = match &file.run.liveness {
        Some(liveness) => Some(core(&liveness.core, &roster, &seeds(file, &roster))),
        None => core_from_chaos,
    };
    Plan {
        name: name.to_owned(),
        seed,
        nodes,
        seeds: seeds(file, &roster),
        starts,
        strangers: resolve(&file.cluster.strangers, &roster, "cluster.strangers"),
        regions: file.cluster.regions.iter().map(|(n, list)| (n.clone(), list.clone())).collect(),
        knobs,
        link: ground.link.clone(),
        link_rules: ground.rules.clone(),
        topics: ground.topics,
        workload,
        faults,
        heal_at,
        core: core.filter(|_| heal_at.is_some()),
        end,
        broker: file.broker.as_ref().map(|broker| broker_plan(broker, dice)),
        expect: expect(&file.expect, dice),
    }
}

fn ground<'a>(file: &'a File, roster: Roster<'a>) -> Ground<'a> {
    let dice = roster.dice;
    let link = base_link(file, dice);
    let window = match file.chaos.as_ref().and_then(|chaos| chaos.window.as_ref()) {
        Some((from, to)) => {
            let from = from.draw(dice, "chaos.window.from", &[]);
            (from, to.draw(dice, "chaos.window.to", &[]).max(from))
        }
        None => (CHAOS_BEGINS, fixed_heal(file, dice).unwrap_or(CHAOS_ENDS).max(CHAOS_BEGINS)),
    };
    let (heal, end) = (fixed_heal(file, dice), fixed_end(file, dice));
    let is_mended = file.run.heal != Some(When::Never);
    let limit = heal.or(end.filter(|_| !is_mended));
    let bound = limit.or(file.chaos.as_ref().map(|_| window.1));
    let bound = bound.or(end.map(|end| end.saturating_sub(AFTER_HEAL)));
    let rules = rules(&file.net, &link, &roster);
    let topics = draw(&file.topics.count, 10, dice, "topics.count") as usize;
    Ground { roster, link, rules, topics, window, bound, limit }
}

/// The healing, if the file says when.
fn fixed_heal(file: &File, dice: Dice) -> Option<Duration> {
    match &file.run.heal {
        Some(When::At(at)) => Some(at.draw(dice, "run.heal", &[])),
        Some(When::Heal(_) | When::Never) | None => None,
    }
}

/// The end of the run, if the file says when.
fn fixed_end(file: &File, dice: Dice) -> Option<Duration> {
    match &file.run.end {
        Some(When::At(at)) => Some(at.draw(dice, "run.end", &[])),
        Some(When::Heal(_) | When::Never) | None => None,
    }
}

/// When everything is mended: as the file says, or when the last fault is over.
fn heal_at(
    file: &File,
    ground: &Ground<'_>,
    over: Option<Duration>,
    starts: &[Option<Duration>],
) -> Option<Duration> {
    if file.run.heal == Some(When::Never) {
        return None;
    }
    let dice = ground.roster.dice;
    if let Some(heal) = fixed_heal(file, dice) {
        return Some(heal);
    }
    let started = starts.iter().flatten().max().copied().unwrap_or_default();
    let chaos = file.chaos.as_ref().map(|_| ground.window.1);
    let peace = || fixed_end(file, dice).map_or(PEACE, |end| end - AFTER_HEAL.min(end / 2));
    Some(started.max(over.max(chaos).unwrap_or_else(peace)))
}

/// When a fault is over by itself, or counts as over.
fn over_at(timed: &TimedFault) -> Duration {
    timed.at + said_length(timed).unwrap_or(FAULT_LASTS)
}

/// The same for one that luck put within the window of chaos, which ends what does not by itself.
fn said_over_at(timed: &TimedFault) -> Duration {
    timed.at + said_length(timed).unwrap_or_default()
}

/// How long a fault lasts, if it says so.
fn said_length(timed: &TimedFault) -> Option<Duration> {
    let length = match &timed.fault {
        Fault::Crash { restart, .. } | Fault::Leave { restart, .. } => *restart,
        Fault::Burst { delete_after, .. } => *delete_after,
        _ => timed.lasts,
    };
    length.filter(|length| !length.is_zero())
}

fn base_link(file: &File, dice: Dice) -> Link {
    let profile = match file.cluster.profile.map(Base::from) {
        Some(Base::Wan) => wan(),
        Some(Base::Lan | Base::Net) | None => Link::LAN,
    };
    file.net.draw(&profile, dice, "net", &[])
}

fn rules(net: &Net, link: &Link, roster: &Roster<'_>) -> Vec<LinkRule> {
    let tables = net.between.iter().flatten().enumerate();
    tables
        .map(|(i, between)| {
            let ids = [i as u64];
            LinkRule {
                from: side(&between.from, roster, "net.between.from", &ids),
                to: side(&between.to, roster, "net.between.to", &ids),
                both: between.both.unwrap_or(true),
                link: between.draw(link, roster.dice, "net.between", &ids),
            }
        })
        .collect()
}

/// The nodes at one side of links; empty: all.
pub(crate) fn side(
    nodes: &Option<Nodes>,
    roster: &Roster<'_>,
    place: &str,
    ids: &[u64],
) -> Vec<usize> {
    match nodes {
        None | Some(Nodes::All) => Vec::new(),
        Some(nodes) => nodes.resolve(roster, place, ids),
    }
}

fn seeds(file: &File, roster: &Roster<'_>) -> Vec<usize> {
    match &file.cluster.seeds {
        Some(seeds) => seeds.resolve(roster, "cluster.seeds", &[]),
        None => (0..roster.nodes.min(2)).collect(),
    }
}

fn starts(file: &File, roster: &Roster<'_>) -> Vec<Option<Duration>> {
    let dice = roster.dice;
    if let Some(starts) = &file.cluster.starts {
        return starts.iter().map(|at| at.draw(None, dice, "cluster.starts")).collect();
    }
    let within = Drawn::Range(Duration::ZERO, STARTS);
    let start = file.cluster.start.as_ref().unwrap_or(&within);
    let absent = resolve(&file.cluster.absent, roster, "cluster.absent");
    (0..roster.nodes)
        .map(|node| {
            (!absent.contains(&node)).then(|| start.draw(dice, "cluster.start", &[node as u64]))
        })
        .collect()
}

fn resolve(nodes: &Option<Nodes>, roster: &Roster<'_>, place: &str) -> Vec<usize> {
    nodes.as_ref().map(|nodes| nodes.resolve(roster, place, &[])).unwrap_or_default()
}

/// The core; a seed is in it, or those of it who know nobody could never find the others.
pub(crate) fn core(nodes: &Nodes, roster: &Roster<'_>, seeds: &[usize]) -> Vec<usize> {
    let mut core = nodes.resolve(roster, "run.liveness.core", &[]);
    if *nodes == Nodes::Random && !seeds.iter().any(|seed| core.contains(seed)) {
        core.extend(seeds.first());
        core.sort_unstable();
    }
    core
}

fn draw<T: Scalar>(value: &Option<Drawn<T>>, otherwise: T, dice: Dice, place: &str) -> T {
    value.as_ref().map_or(otherwise, |value| value.draw(dice, place, &[]))
}

fn knobs(table: &file::Knobs, dice: Dice) -> Knobs {
    let span = |value: &Option<Drawn<Duration>>, name: &str| {
        value.as_ref().map(|value| value.draw(dice, &format!("knobs.{name}"), &[]))
    };
    Knobs {
        probe_period: span(&table.probe_period, "probe_period"),
        probe_rtt: span(&table.probe_rtt, "probe_rtt"),
        suspicion: span(&table.suspicion, "suspicion"),
        spread_period: span(&table.spread_period, "spread_period"),
        digest_period: span(&table.digest_period, "digest_period"),
        reconnect_period: span(&table.reconnect_period, "reconnect_period"),
        deletions_kept: span(&table.deletions_kept, "deletions_kept"),
        detached_kept: span(&table.detached_kept, "detached_kept"),
        buggify: draw(&table.buggify, 0.0, dice, "knobs.buggify"),
    }
}

fn workload(table: &file::Workload, dice: Dice) -> Workload {
    let (churn, register, bursts, channels) = match &table.churn {
        None => (2.0, 0.6, 0.0, 3),
        Some(Rate::Alone(rate)) => (rate.draw(dice, "workload.churn", &[]), 0.6, 0.0, 3),
        Some(Rate::Table(churn)) => (
            churn.rate.draw(dice, "workload.churn", &[]),
            draw(&churn.register, 0.6, dice, "workload.churn.register"),
            draw(&churn.bursts, 0.0, dice, "workload.churn.bursts"),
            draw(&churn.channels, 3, dice, "workload.churn.channels") as usize,
        ),
    };
    let lookups = match &table.lookups {
        None => 5.0,
        Some(Rate::Alone(rate)) => rate.draw(dice, "workload.lookups", &[]),
        Some(Rate::Table(lookups)) => lookups.rate.draw(dice, "workload.lookups", &[]),
    };
    Workload {
        churn,
        register,
        bursts,
        channels,
        lookups,
        foreign: draw(&table.foreign, 0, dice, "workload.foreign") as usize,
        initial: draw(&table.initial, 2, dice, "workload.initial") as usize,
    }
}

fn broker_plan(table: &file::Broker, dice: Dice) -> BrokerPlan {
    let all = ["memory", "kernel", "fsync"];
    let durability = match table.durability {
        Some(file::Durability::Memory) => all[0],
        Some(file::Durability::Kernel) | None => all[1],
        Some(file::Durability::Fsync) => all[2],
        Some(file::Durability::Any) => all[dice.index(all.len(), "broker.durability", &[])],
    };
    let two_seconds = Duration::from_secs(2);
    BrokerPlan {
        durability: durability.to_owned(),
        publish: draw(&table.publish, 20.0, dice, "broker.publish"),
        deferred: draw(&table.deferred, 0.1, dice, "broker.deferred"),
        defer_max: draw(&table.defer_max, two_seconds, dice, "broker.defer_max"),
        consumers: draw(&table.consumers, 2, dice, "broker.consumers") as usize,
        channels: draw(&table.channels, 2, dice, "broker.channels") as usize,
        requeue: draw(&table.requeue, 0.05, dice, "broker.requeue"),
        timeout: draw(&table.timeout, 0.02, dice, "broker.timeout"),
        msg_timeout: draw(&table.msg_timeout, two_seconds, dice, "broker.msg_timeout"),
        body_bytes: draw(&table.body_bytes, 100, dice, "broker.body_bytes") as usize,
    }
}

fn expect(table: &file::Expect, dice: Dice) -> Expect {
    let after = |when: &Option<When>, place: &str| match when {
        Some(When::Heal(after)) => Some(after.draw(dice, place, &[])),
        Some(When::At(_) | When::Never) | None => None,
    };
    let span = |value: Option<&Drawn<Duration>>, place: &str| {
        value.map(|value| value.draw(dice, place, &[]))
    };
    let staleness = table.staleness.as_ref();
    let bytes = table.bytes_per_node_s.as_ref();
    Expect {
        membership_agree: after(&table.membership_agree, "expect.membership_agree"),
        lookups_agree: after(&table.lookups_agree, "expect.lookups_agree"),
        staleness_p50: span(staleness.and_then(|s| s.p50.as_ref()), "expect.staleness.p50"),
        staleness_p99: span(staleness.and_then(|s| s.p99.as_ref()), "expect.staleness.p99"),
        staleness_max: span(staleness.and_then(|s| s.max.as_ref()), "expect.staleness.max"),
        phantom_max: span(table.phantom_max.as_ref(), "expect.phantom_max"),
        false_down: table.false_down,
        bytes_idle: bytes.and_then(|b| b.idle),
        bytes_p99: bytes.and_then(|b| b.p99),
        sometimes: table.sometimes.iter().map(|point| point.0.clone()).collect(),
        sometimes_runs: table.sometimes_runs.unwrap_or(0),
    }
}
