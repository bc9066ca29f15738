//! From a plan back to a file: an explicit timeline, nothing left to luck.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::plan::{BrokerPlan, DiskTrouble, Expect, Fault, Partition, Plan, TimedFault};
use crate::scenario::drawn::{Drawn, Jump};
use crate::scenario::fault_table::{
    AtNode, Clock, Crash, Disk, FaultTable, Junk, Leave, SlowCpu, Tombstone, TopicBurst, Wire,
};
use crate::scenario::file::{self, File};
use crate::scenario::link_table::{Between, LinkFault, Net};
use crate::scenario::nodes::Nodes;
use crate::scenario::partition_table::{PartitionTable, Shape};
use crate::scenario::rates::{ChurnTable, Rate};
use crate::scenario::words::{DiskWord, Point, When};

/// The file that makes this plan, with the plan's seed.
pub(crate) fn file(plan: &Plan) -> File {
    let between = plan.link_rules.iter().map(|rule| Between {
        from: ends(&rule.from),
        to: ends(&rule.to),
        both: Some(rule.both),
        ..Between::from_link(&rule.link)
    });
    let between: Vec<Between> = between.collect();
    let mut net = Net::from_link(&plan.link);
    net.between = Some(between).filter(|rules| !rules.is_empty());
    let regions: BTreeMap<String, Vec<usize>> = plan.regions.iter().cloned().collect();
    File {
        schema: 1,
        name: Some(plan.name.clone()),
        description: None,
        cluster: file::Cluster {
            nodes: count(plan.nodes),
            seeds: Some(Nodes::List(plan.seeds.clone())),
            profile: None,
            regions,
            start: None,
            starts: Some(
                plan.starts
                    .iter()
                    .map(|at| at.map_or(When::Never, |at| When::At(is(at))))
                    .collect(),
            ),
            absent: None,
            strangers: Some(Nodes::List(plan.strangers.clone()))
                .filter(|_| !plan.strangers.is_empty()),
        },
        net,
        topics: file::Topics { count: count(plan.topics) },
        workload: workload(plan),
        knobs: knobs(plan),
        fault: plan.faults.iter().enumerate().map(|(i, timed)| fault(timed, i, plan)).collect(),
        chaos: None,
        run: file::Run {
            heal: Some(plan.heal_at.map_or(When::Never, |at| When::At(is(at)))),
            end: Some(When::At(is(plan.end))),
            liveness: plan.core.clone().map(|core| file::Liveness {
                core: Nodes::List(core),
                others: Some(file::Others::Frozen),
            }),
        },
        expect: expect(&plan.expect),
        broker: plan.broker.as_ref().map(broker),
        report: None,
    }
}

fn is<T>(value: T) -> Drawn<T> {
    Drawn::Is(value)
}

fn count(number: usize) -> Option<Drawn<u64>> {
    Some(Drawn::Is(number as u64))
}

/// Nodes at one side of links; empty in a plan means all.
fn ends(nodes: &[usize]) -> Option<Nodes> {
    (!nodes.is_empty()).then(|| Nodes::List(nodes.to_vec()))
}

fn workload(plan: &Plan) -> file::Workload {
    let workload = &plan.workload;
    file::Workload {
        churn: Some(Rate::Table(ChurnTable {
            rate: is(workload.churn),
            register: Some(is(workload.register)),
            bursts: Some(is(workload.bursts)),
            channels: count(workload.channels),
        })),
        lookups: Some(Rate::Alone(is(workload.lookups))),
        foreign: count(workload.foreign),
        initial: count(workload.initial),
    }
}

fn knobs(plan: &Plan) -> file::Knobs {
    let knobs = &plan.knobs;
    file::Knobs {
        probe_period: knobs.probe_period.map(is),
        probe_rtt: knobs.probe_rtt.map(is),
        suspicion: knobs.suspicion.map(is),
        spread_period: knobs.spread_period.map(is),
        digest_period: knobs.digest_period.map(is),
        reconnect_period: knobs.reconnect_period.map(is),
        deletions_kept: knobs.deletions_kept.map(is),
        detached_kept: knobs.detached_kept.map(is),
        buggify: Some(is(knobs.buggify)).filter(|_| knobs.buggify != 0.0),
    }
}

fn expect(expect: &Expect) -> file::Expect {
    let after = |span: Option<Duration>| span.map(|span| When::Heal(is(span)));
    let staleness = file::Staleness {
        p50: expect.staleness_p50.map(is),
        p99: expect.staleness_p99.map(is),
        max: expect.staleness_max.map(is),
        when: None,
    };
    let bytes = file::Bytes { idle: expect.bytes_idle, p99: expect.bytes_p99 };
    file::Expect {
        membership_agree: after(expect.membership_agree),
        lookups_agree: after(expect.lookups_agree),
        staleness: Some(staleness).filter(|s| *s != file::Staleness::default()),
        phantom_max: expect.phantom_max.map(is),
        false_down: expect.false_down,
        bytes_per_node_s: Some(bytes).filter(|b| *b != file::Bytes::default()),
        sometimes: expect.sometimes.iter().cloned().map(Point).collect(),
        sometimes_runs: Some(expect.sometimes_runs).filter(|runs| *runs > 0),
    }
}

fn broker(plan: &BrokerPlan) -> file::Broker {
    file::Broker {
        durability: Some(match plan.durability.as_str() {
            "memory" => file::Durability::Memory,
            "fsync" => file::Durability::Fsync,
            _ => file::Durability::Kernel,
        }),
        publish: Some(is(plan.publish)),
        deferred: Some(is(plan.deferred)),
        defer_max: Some(is(plan.defer_max)),
        consumers: count(plan.consumers),
        channels: count(plan.channels),
        requeue: Some(is(plan.requeue)),
        timeout: Some(is(plan.timeout)),
        msg_timeout: Some(is(plan.msg_timeout)),
        body_bytes: count(plan.body_bytes),
    }
}

fn fault(timed: &TimedFault, index: usize, plan: &Plan) -> FaultTable {
    let mut table = FaultTable {
        at: Some(is(timed.at)),
        lasts: timed.lasts.map(is),
        group: Some(timed.group).filter(|&group| group != index as u32),
        label: Some(timed.label.clone()),
        ..FaultTable::default()
    };
    let at = |node: usize| Some(Nodes::One(node));
    match &timed.fault {
        Fault::Partition(partition) => table.partition = Some(shape(partition, plan.nodes)),
        Fault::Link { from, to, link } => {
            let link = LinkFault::from_link(link);
            table.link = Some(LinkFault { from: ends(from), to: ends(to), ..link });
        }
        Fault::Crash { node, restart, disk, moves } => {
            table.crash = Some(Crash {
                node: at(*node),
                restart: restart.map(is),
                disk: Some(DiskWord(*disk)),
                moves: moves.then_some(true),
            });
        }
        Fault::Start { node } => table.start = Some(AtNode { node: at(*node) }),
        Fault::Leave { node, restart } => {
            table.leave = Some(Leave { node: at(*node), restart: restart.map(is) });
        }
        Fault::Pause { node } => table.pause = Some(AtNode { node: at(*node) }),
        Fault::SlowCpu { node, per_input } => {
            table.slow_cpu = Some(SlowCpu { node: at(*node), per_input: is(*per_input) });
        }
        Fault::Clock { node, wall_jump_ms, rate } => {
            table.clock = Some(Clock {
                node: at(*node),
                jump: Some(is(Jump(*wall_jump_ms))).filter(|_| *wall_jump_ms != 0),
                rate: Some(is(*rate)),
            });
        }
        Fault::Disk { node, trouble } => table.disk = Some(disk(*node, trouble)),
        Fault::Wire { node, version } => {
            table.wire = Some(Wire { node: at(*node), version: *version });
        }
        Fault::Junk { node, per_second } => {
            table.junk = Some(Junk { node: at(*node), per_second: is(*per_second) });
        }
        Fault::Burst { node, topics, channels, delete_after } => {
            table.burst = Some(TopicBurst {
                node: at(*node),
                topics: is(*topics as u64),
                channels: count(*channels),
                delete_after: delete_after.map(is),
            });
        }
        Fault::Tombstone { at, of, topic } => {
            table.tombstone = Some(Tombstone {
                at: Nodes::One(*at),
                of: Nodes::One(*of),
                topic: is(*topic as u64),
            });
        }
    }
    table
}

fn disk(node: usize, trouble: &DiskTrouble) -> Disk {
    let mut disk = Disk { node: Some(Nodes::One(node)), ..Disk::default() };
    match *trouble {
        DiskTrouble::Slow(latency) => disk.latency = Some(is(latency)),
        DiskTrouble::Full => disk.full = Some(true),
        DiskTrouble::Torn(p) => disk.torn = Some(is(p)),
        DiskTrouble::FsyncLies => disk.fsync_lies = Some(true),
    }
    disk
}

fn shape(partition: &Partition, nodes: usize) -> PartitionTable {
    let mut shape = Shape::default();
    match partition {
        // Shrinking leaves such groups, and a file may not say so: nobody is cut off.
        Partition::Split(groups) if is_everybody(groups, nodes) => {
            shape.links = Some(Vec::new());
        }
        Partition::Split(groups) => shape.split = Some(groups.clone()),
        Partition::Oneway { from, to } => {
            shape.from = Some(Nodes::List(from.clone()));
            shape.to = Some(Nodes::List(to.clone()));
        }
        Partition::Bridge { bridge, side } => {
            shape.bridge = Some(*bridge);
            shape.side = Some(side.clone());
        }
        Partition::Ring { reach } => shape.ring = Some(*reach),
        Partition::Chain => return PartitionTable::Chain,
        Partition::Star { hub } => shape.star = Some(*hub),
        Partition::Links(links) => shape.links = Some(links.clone()),
    }
    PartitionTable::Shape(Box::new(shape))
}

/// Whether several nodes are all in one group.
fn is_everybody(groups: &[Vec<usize>], nodes: usize) -> bool {
    matches!(groups, [all] if all.len() > 1 && all.len() >= nodes)
}
