//! From one `[[fault]]` to the faults of a plan.

use std::time::Duration;

use crate::plan::{DiskFate, DiskTrouble, Fault, Link, Partition, TimedFault};
use crate::scenario::drawn::{Drawn, Scalar};
use crate::scenario::expand::{Ground, side};
use crate::scenario::fault_table::{Disk, FaultTable};
use crate::scenario::link_table::LinkFault;
use crate::scenario::nodes::Nodes;
use crate::scenario::partition_table::{Direction, PartitionTable, Shape};

/// Repetitions of one fault are at most so many, whatever its `every` says.
pub(crate) const REPETITIONS_MAX: usize = 10_000;
/// A repetition goes on for this long if the file does not say when anything ends.
pub(crate) const REPEATS_FOR: Duration = Duration::from_secs(60);
/// The shortest pause from one repetition to the next, so that repeating comes to an end.
pub(crate) const PAUSE_MIN: Duration = Duration::from_millis(1);
/// Time that a process which is restarted is down if a file does not say.
pub(crate) const DOWN: Duration = Duration::from_millis(100);
/// From one batch of a rolling restart to the next if a file does not say.
pub(crate) const RESTART_GAP: Duration = Duration::from_secs(5);
/// Time that each node of a rolling restart is down if a file does not say.
pub(crate) const RESTART_DOWN: Duration = Duration::from_secs(1);
/// From one node's upgrade to the next if a file does not say.
pub(crate) const UPGRADE_GAP: Duration = Duration::from_secs(5);
/// From one node's swizzle to the next if a file does not say.
pub(crate) const SWIZZLE_GAP: Duration = Duration::from_secs(1);

/// One fault of the plan before it has its group and label: when, for how long, what.
type Piece = (Duration, Option<Duration>, Fault);

/// One repetition of a fault.
struct Turn<'a> {
    ground: &'a Ground<'a>,
    table: &'a FaultTable,
    ids: [u64; 2],
    at: Duration,
    lasts: Option<Duration>,
}

/// All that one table stands for.
pub(crate) fn expand(ground: &Ground<'_>, table: &FaultTable, index: usize) -> Vec<TimedFault> {
    let dice = ground.roster.dice;
    let first =
        table.at.as_ref().map_or(Duration::ZERO, |at| at.draw(dice, "fault.at", &[index as u64]));
    let mut begins = vec![first];
    if let Some(every) = &table.every {
        let until = table.until.as_ref().map(|u| u.draw(dice, "fault.until", &[index as u64]));
        let until = until.or(ground.bound).unwrap_or(first + REPEATS_FOR);
        let mut at = first;
        while begins.len() < REPETITIONS_MAX {
            let pause = every.draw(dice, "fault.every", &[index as u64, begins.len() as u64]);
            at += pause.max(PAUSE_MIN);
            if at >= until {
                break;
            }
            begins.push(at);
        }
    }
    let label = table.label.clone().unwrap_or_else(|| label(table));
    let group = table.group.unwrap_or(index as u32);
    let turns = begins.into_iter().enumerate().flat_map(|(repetition, at)| {
        let ids = [index as u64, repetition as u64];
        let lasts = table.lasts.as_ref().map(|d| d.draw(dice, "fault.for", &ids));
        flapping(Turn { ground, table, ids, at, lasts })
    });
    // What comes and goes, or heals in steps, is over with the rest.
    let limit = ground.limit.filter(|_| table.flap.is_some() || table.is_staged());
    turns
        .filter(|(at, ..)| limit.is_none_or(|limit| *at < limit))
        .map(|(at, lasts, fault)| TimedFault { at, lasts, fault, group, label: label.clone() })
        .collect()
}

fn label(table: &FaultTable) -> String {
    match (&table.partition, &table.flap) {
        (Some(_), Some(_)) => "flapping".to_owned(),
        (Some(partition), None) => partition.label().to_owned(),
        (None, _) => table.actions().first().map_or("fault", |key| key).replace('_', " "),
    }
}

/// The pieces of a turn; each comes and goes if the table says so.
fn flapping(turn: Turn<'_>) -> Vec<Piece> {
    let pieces = pieces(&turn);
    let (Some(flap), Some(lasts)) = (&turn.table.flap, turn.lasts) else { return pieces };
    let dice = turn.ground.roster.dice;
    let period = flap.period.draw(dice, "fault.flap.period", &turn.ids);
    let duty = flap.duty.as_ref().map_or(0.5, |d| d.draw(dice, "fault.flap.duty", &turn.ids));
    let on = period.mul_f64(duty.clamp(0.0, 1.0)).max(Duration::from_millis(1));
    let period = period.max(on).max(Duration::from_millis(1));
    let mut all = Vec::new();
    let mut offset = Duration::ZERO;
    while offset < lasts && all.len() < REPETITIONS_MAX {
        let length = on.min(lasts - offset);
        all.extend(pieces.iter().map(|(at, _, f)| (*at + offset, Some(length), f.clone())));
        offset += period;
    }
    all
}

/// What happens, once.
fn pieces(turn: &Turn<'_>) -> Vec<Piece> {
    let table = turn.table;
    if let Some(partition) = &table.partition {
        return turn.partition(partition);
    }
    if table.swizzle.is_some() {
        return turn.swizzle();
    }
    if let Some(link) = &table.link {
        return turn.link(link);
    }
    if table.rolling_restart.is_some() {
        return turn.rolling_restart();
    }
    if table.upgrade.is_some() {
        return turn.upgrade();
    }
    if let Some(tombstone) = &table.tombstone {
        let one = |nodes: &Nodes, place: &str| {
            nodes.resolve(&turn.ground.roster, place, &turn.ids).first().copied().unwrap_or(0)
        };
        let fault = Fault::Tombstone {
            at: one(&tombstone.at, "fault.tombstone.at"),
            of: one(&tombstone.of, "fault.tombstone.of"),
            topic: turn.draw(&tombstone.topic, "fault.tombstone.topic") as usize,
        };
        return vec![(turn.at, None, fault)];
    }
    turn.nodes().into_iter().flat_map(|node| turn.at_node(node)).collect()
}

impl Turn<'_> {
    fn draw<T: Scalar>(&self, value: &Drawn<T>, place: &str) -> T {
        value.draw(self.ground.roster.dice, place, &self.ids)
    }

    fn or<T: Scalar>(&self, value: &Option<Drawn<T>>, otherwise: T, place: &str) -> T {
        value.as_ref().map_or(otherwise, |value| self.draw(value, place))
    }

    fn some<T: Scalar>(&self, value: &Option<Drawn<T>>, place: &str) -> Option<T> {
        value.as_ref().map(|value| self.draw(value, place))
    }

    /// The nodes it happens to.
    fn nodes(&self) -> Vec<usize> {
        let nodes = self.table.node().or(self.table.place.as_ref());
        nodes.map(|n| n.resolve(&self.ground.roster, "fault.node", &self.ids)).unwrap_or_default()
    }

    /// What happens to one node.
    fn at_node(&self, node: usize) -> Option<Piece> {
        let table = self.table;
        let lasting = |fault: Fault| Some((self.at, self.lasts, fault));
        let event = |fault: Fault| Some((self.at, None, fault));
        if table.pause.is_some() {
            return lasting(Fault::Pause { node });
        }
        if table.start.is_some() {
            return event(Fault::Start { node });
        }
        if let Some(clock) = &table.clock {
            let jump = self.some(&clock.jump, "fault.clock.jump").map_or(0, |jump| jump.0);
            let rate = self.or(&clock.rate, 1.0, "fault.clock.rate");
            return lasting(Fault::Clock { node, wall_jump_ms: jump, rate });
        }
        if let Some(crash) = &table.crash {
            return event(Fault::Crash {
                node,
                restart: self.some(&crash.restart, "fault.crash.restart"),
                disk: crash.disk.map_or(DiskFate::Keep, |disk| disk.0),
                moves: crash.moves.unwrap_or(false),
            });
        }
        if let Some(restart) = &table.restart {
            let down = self.or(&restart.down, DOWN, "fault.restart.down");
            return event(Fault::Crash {
                node,
                restart: Some(down),
                disk: restart.disk.map_or(DiskFate::Keep, |disk| disk.0),
                moves: restart.moves.unwrap_or(false),
            });
        }
        if let Some(leave) = &table.leave {
            let restart = self.some(&leave.restart, "fault.leave.restart");
            return event(Fault::Leave { node, restart });
        }
        if let Some(disk) = &table.disk {
            return lasting(Fault::Disk { node, trouble: self.disk(disk) });
        }
        if let Some(slow) = &table.slow_cpu {
            let per_input = self.draw(&slow.per_input, "fault.slow_cpu.per_input");
            return lasting(Fault::SlowCpu { node, per_input });
        }
        if let Some(wire) = &table.wire {
            return lasting(Fault::Wire { node, version: wire.version });
        }
        if let Some(junk) = &table.junk {
            let per_second = self.draw(&junk.per_second, "fault.junk.per_second");
            return lasting(Fault::Junk { node, per_second });
        }
        let burst = table.burst.as_ref()?;
        event(Fault::Burst {
            node,
            topics: self.draw(&burst.topics, "fault.burst.topics") as usize,
            channels: self.or(&burst.channels, 0, "fault.burst.channels") as usize,
            delete_after: self.some(&burst.delete_after, "fault.burst.delete_after"),
        })
    }

    fn disk(&self, disk: &Disk) -> DiskTrouble {
        if let Some(latency) = &disk.latency {
            return DiskTrouble::Slow(self.draw(latency, "fault.disk.latency"));
        }
        if let Some(torn) = &disk.torn {
            return DiskTrouble::Torn(self.draw(torn, "fault.disk.torn"));
        }
        if disk.full == Some(true) { DiskTrouble::Full } else { DiskTrouble::FsyncLies }
    }

    /// Nodes cut off one by one, which come back in another order while `for` runs out.
    fn swizzle(&self) -> Vec<Piece> {
        let Some(swizzle) = &self.table.swizzle else { return Vec::new() };
        let roster = &self.ground.roster;
        let half = (roster.nodes as u64).div_ceil(2);
        let count = self.or(&swizzle.nodes, half, "fault.swizzle.nodes") as usize;
        let gap = self.or(&swizzle.gap, SWIZZLE_GAP, "fault.swizzle.gap");
        let all = roster.some(count, "fault.swizzle.who", &self.ids);
        let there = roster.dice.shuffled(&all, "fault.swizzle.cut", &self.ids);
        let back = roster.dice.shuffled(&all, "fault.swizzle.heal", &self.ids);
        let last = all.len().saturating_sub(1) as u32;
        let lasts = self.lasts.unwrap_or(gap * (2 * last + 4));
        let pieces = there.iter().enumerate().map(|(i, &node)| {
            let at = self.at + gap * i as u32;
            let position = back.iter().position(|&other| other == node).unwrap_or(0) as u32;
            let healed = (self.at + lasts).saturating_sub(gap * (last - position));
            let lasts = healed.saturating_sub(at).max(Duration::from_millis(1));
            (at, Some(lasts), Fault::Partition(Partition::Split(vec![vec![node]])))
        });
        pieces.collect()
    }

    fn rolling_restart(&self) -> Vec<Piece> {
        let Some(rolling) = &self.table.rolling_restart else { return Vec::new() };
        let roster = &self.ground.roster;
        let batch = self.or(&rolling.batch, 1, "fault.rolling_restart.batch").max(1) as usize;
        let gap = self.or(&rolling.gap, RESTART_GAP, "fault.rolling_restart.gap");
        let down = self.or(&rolling.down, RESTART_DOWN, "fault.rolling_restart.down");
        let nodes = match &self.table.place {
            Some(place) => place.resolve(roster, "fault.node", &self.ids),
            None => roster.all(),
        };
        let graceful = rolling.graceful.unwrap_or(true);
        let batches = nodes.chunks(batch).enumerate().flat_map(|(i, nodes)| {
            let at = self.at + gap * i as u32;
            nodes.iter().map(move |&node| {
                let restart = Some(down);
                let fault = if graceful {
                    Fault::Leave { node, restart }
                } else {
                    Fault::Crash { node, restart, disk: DiskFate::Keep, moves: false }
                };
                (at, None, fault)
            })
        });
        batches.collect()
    }

    /// Each node in turn, until all speak the new version when `for` is over.
    fn upgrade(&self) -> Vec<Piece> {
        let Some(upgrade) = &self.table.upgrade else { return Vec::new() };
        let gap = self.or(&upgrade.gap, UPGRADE_GAP, "fault.upgrade.gap");
        let end = self.lasts.map(|lasts| self.at + lasts);
        let nodes = self.ground.roster.all().into_iter();
        nodes
            .map(|node| {
                let at = self.at + gap * node as u32;
                let lasts = end.map(|end| end.saturating_sub(at).max(Duration::from_millis(1)));
                (at, lasts, Fault::Wire { node, version: upgrade.version })
            })
            .collect()
    }

    fn link(&self, table: &LinkFault) -> Vec<Piece> {
        let roster = &self.ground.roster;
        let lasting = |from: Vec<usize>, to: Vec<usize>| {
            let base = self.base_of(&from, &to);
            let link = table.draw(base, roster.dice, "fault.link", &self.ids);
            (self.at, self.lasts, Fault::Link { from, to, link })
        };
        if let Some(place) = &self.table.place {
            let nodes = place.resolve(roster, "fault.node", &self.ids);
            return vec![lasting(nodes.clone(), Vec::new()), lasting(Vec::new(), nodes)];
        }
        let from = side(&table.from, roster, "fault.link.from", &self.ids);
        let to = side(&table.to, roster, "fault.link.to", &self.ids);
        if table.both.unwrap_or(false) && from != to {
            return vec![lasting(from.clone(), to.clone()), lasting(to, from)];
        }
        vec![lasting(from, to)]
    }

    /// How links from these to those are without the fault: by the last rule about all of them.
    fn base_of(&self, from: &[usize], to: &[usize]) -> &Link {
        let within = |some: &[usize], all: &[usize]| {
            all.is_empty() || (!some.is_empty() && some.iter().all(|n| all.contains(n)))
        };
        let rules = self.ground.rules.iter().rev();
        let mut about = rules.filter(|rule| {
            (within(from, &rule.from) && within(to, &rule.to))
                || (rule.both && within(from, &rule.to) && within(to, &rule.from))
        });
        about.next().map_or(&self.ground.link, |rule| &rule.link)
    }

    fn partition(&self, table: &PartitionTable) -> Vec<Piece> {
        let roster = &self.ground.roster;
        let lasting =
            |partition: Partition| vec![(self.at, self.lasts, Fault::Partition(partition))];
        match table {
            PartitionTable::Halves => {
                lasting(Partition::Split(vec![roster.some(roster.nodes / 2, "halves", &self.ids)]))
            }
            PartitionTable::Ring => {
                lasting(Partition::Ring { reach: roster.nodes.div_ceil(4).max(1) })
            }
            PartitionTable::Chain => lasting(Partition::Chain),
            PartitionTable::Bridge => lasting(self.bridge(None, None)),
            PartitionTable::Star => {
                let hub = roster.dice.index(roster.nodes, "fault.partition.star", &self.ids);
                lasting(Partition::Star { hub })
            }
            PartitionTable::Random(p) => lasting(self.random(*p)),
            PartitionTable::Shape(shape) => match (self.groups(shape), &shape.staged) {
                (Some(groups), Some(gap)) => {
                    self.staged(groups, self.draw(gap, "fault.partition.staged"))
                }
                (Some(groups), None) => lasting(Partition::Split(groups)),
                (None, _) => lasting(self.shape(shape)),
            },
        }
    }

    /// Groups that do not reach each other, if that is the shape.
    fn groups(&self, shape: &Shape) -> Option<Vec<Vec<usize>>> {
        let Some(count) = &shape.groups else { return shape.split.clone() };
        let roster = &self.ground.roster;
        let all = roster.dice.shuffled(&roster.all(), "fault.partition.groups", &self.ids);
        let count = (self.draw(count, "fault.partition.groups.count") as usize).clamp(1, all.len());
        // Each group takes its share of those that are left.
        let mut rest = all.as_slice();
        let groups = (0..count).map(|i| {
            let (group, others) = rest.split_at(rest.len().div_ceil(count - i));
            rest = others;
            let mut group = group.to_vec();
            group.sort_unstable();
            group
        });
        Some(groups.collect())
    }

    fn shape(&self, shape: &Shape) -> Partition {
        let roster = &self.ground.roster;
        if let Some(count) = &shape.minority {
            let count = self.draw(count, "fault.partition.minority") as usize;
            let few = roster.some(count, "fault.partition.who", &self.ids);
            return self.against_the_rest(vec![few], shape.oneway);
        }
        if let Some(nodes) = &shape.isolate {
            let nodes = nodes.resolve(roster, "fault.partition.isolate", &self.ids);
            let groups = match shape.oneway {
                None => nodes.into_iter().map(|node| vec![node]).collect(),
                Some(_) => vec![nodes],
            };
            return self.against_the_rest(groups, shape.oneway);
        }
        if shape.from.is_some() || shape.to.is_some() {
            let resolve = |nodes: &Option<Nodes>, place: &str| {
                let nodes = nodes.as_ref().unwrap_or(&Nodes::All);
                nodes.resolve(roster, place, &self.ids)
            };
            return Partition::Oneway {
                from: resolve(&shape.from, "fault.partition.from"),
                to: resolve(&shape.to, "fault.partition.to"),
            };
        }
        if let Some(bridge) = shape.bridge {
            return self.bridge(Some(bridge), shape.side.clone());
        }
        if let Some(reach) = shape.ring {
            return Partition::Ring { reach };
        }
        if let Some(hub) = shape.star {
            return Partition::Star { hub };
        }
        if let Some(p) = &shape.random {
            return self.random(self.draw(p, "fault.partition.random"));
        }
        Partition::Links(shape.links.clone().unwrap_or_default())
    }

    fn against_the_rest(&self, groups: Vec<Vec<usize>>, way: Option<Direction>) -> Partition {
        let Some(way) = way else { return Partition::Split(groups) };
        let few = groups.concat();
        let rest = self.ground.roster.all().into_iter().filter(|n| !few.contains(n)).collect();
        match way {
            Direction::In => Partition::Oneway { from: rest, to: few },
            Direction::Out => Partition::Oneway { from: few, to: rest },
        }
    }

    fn bridge(&self, bridge: Option<usize>, side: Option<Vec<usize>>) -> Partition {
        let roster = &self.ground.roster;
        let drawn = || roster.dice.index(roster.nodes, "fault.partition.bridge", &self.ids);
        let bridge = bridge.unwrap_or_else(drawn);
        let side = side.unwrap_or_else(|| {
            let others: Vec<usize> = roster.all().into_iter().filter(|&n| n != bridge).collect();
            let mut side = roster.dice.shuffled(&others, "fault.partition.side", &self.ids);
            side.truncate(others.len() / 2);
            side.sort_unstable();
            side
        });
        Partition::Bridge { bridge, side }
    }

    /// Links cut with a probability, each by its own luck.
    fn random(&self, p: f64) -> Partition {
        let roster = &self.ground.roster;
        let pairs = (0..roster.nodes).flat_map(|a| (a + 1..roster.nodes).map(move |b| (a, b)));
        let cut = pairs.filter(|&(a, b)| {
            let ids = [self.ids[0], self.ids[1], a as u64, b as u64];
            roster.dice.share("fault.partition.random", &ids) < p
        });
        Partition::Links(cut.collect())
    }

    /// A split that heals by and by: the first two groups find each other, then the third joins.
    fn staged(&self, mut groups: Vec<Vec<usize>>, gap: Duration) -> Vec<Piece> {
        let named = groups.concat();
        let rest: Vec<usize> =
            self.ground.roster.all().into_iter().filter(|n| !named.contains(n)).collect();
        groups.extend(Some(rest).filter(|rest| !rest.is_empty()));
        let mut pieces = Vec::new();
        let (mut at, mut lasts) = (self.at, self.lasts.unwrap_or(gap));
        while groups.len() > 1 {
            let partition = Partition::Split(groups.clone());
            pieces.push((at, Some(lasts), Fault::Partition(partition)));
            (at, lasts) = (at + lasts, gap);
            let second = groups.remove(1);
            groups[0].extend(second);
        }
        pieces
    }
}
