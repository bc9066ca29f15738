//! Plans with something taken out.

use std::cell::RefCell;
use std::time::Duration;

use crate::plan::{BrokerPlan, Fault, Partition, Plan, TimedFault};

/// The plan with its first `count` nodes only.
pub(super) fn with_nodes(plan: &Plan, count: usize) -> Plan {
    renumbered(plan, &|node| (node < count).then_some(node), count)
}

/// The plan without this node; those behind it move up.
pub(super) fn without_node(plan: &Plan, gone: usize) -> Plan {
    let place = |node: usize| match node.cmp(&gone) {
        std::cmp::Ordering::Less => Some(node),
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => Some(node - 1),
    };
    renumbered(plan, &place, plan.nodes - 1)
}

/// Whether a fault is about this node alone, so that taking the node takes the fault.
pub(super) fn is_named(plan: &Plan, node: usize) -> bool {
    let everyone_else = |other: usize| (other != node).then_some(other);
    plan.faults.iter().any(|fault| with_places(&fault.fault, &everyone_else).is_none())
}

/// The nodes that a fault is about.
pub(crate) fn nodes_of(fault: &Fault) -> Vec<usize> {
    let nodes = RefCell::new(Vec::new());
    let _ = with_places(fault, &|node| {
        nodes.borrow_mut().push(node);
        Some(node)
    });
    nodes.into_inner()
}

/// Halves every duration of the fault that is not too short already.
pub(super) fn halve(fault: &mut TimedFault, shortest: Duration) {
    let halved = |time: &mut Option<Duration>| {
        if let Some(time) = time
            && *time / 2 >= shortest
        {
            *time /= 2;
        }
    };
    halved(&mut fault.lasts);
    if let Some(restart) = restart_mut(&mut fault.fault) {
        halved(restart);
    }
}

/// Times become whole tenths of a second.
pub(super) fn round(fault: &mut TimedFault) {
    fault.at = tenths(fault.at);
    fault.lasts = fault.lasts.map(tenths);
    if let Some(restart) = restart_mut(&mut fault.fault) {
        *restart = restart.map(tenths);
    }
}

/// Nothing is mended, and so nothing is promised for the time after it.
pub(super) fn leave_unmended(plan: &mut Plan) {
    (plan.heal_at, plan.core) = (None, None);
    (plan.expect.membership_agree, plan.expect.lookups_agree) = (None, None);
}

/// The run ends at `end` or before, and what would begin later is not in it.
pub(super) fn end_by(plan: &mut Plan, end: Duration) {
    plan.end = plan.end.min(end);
    plan.faults.retain(|fault| fault.at <= end);
}

/// The healing, if the run ends before it, and faults that would begin later than it or the end.
pub(super) fn leave_out_what_never_happens(plan: &mut Plan) {
    let end = plan.end;
    if plan.heal_at.is_some_and(|heal| heal >= end) {
        leave_unmended(plan);
    }
    let heal = plan.heal_at;
    plan.faults.retain(|fault| fault.at <= end && heal.is_none_or(|heal| fault.at < heal));
}

/// The next whole second.
pub(super) fn ceil(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0))
}

/// How long after the fault the node starts again, if it does.
pub(super) fn restart_of(fault: &Fault) -> Duration {
    restart_mut(&mut fault.clone()).and_then(|restart| *restart).unwrap_or_default()
}

fn tenths(time: Duration) -> Duration {
    const TENTH_MS: u64 = 100;
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis((ms + TENTH_MS / 2) / TENTH_MS * TENTH_MS)
        .max(Duration::from_millis(TENTH_MS))
}

fn restart_mut(fault: &mut Fault) -> Option<&mut Option<Duration>> {
    match fault {
        Fault::Crash { restart, .. } | Fault::Leave { restart, .. } => Some(restart),
        Fault::Burst { delete_after, .. } => Some(delete_after),
        Fault::Partition(_)
        | Fault::Link { .. }
        | Fault::Start { .. }
        | Fault::Pause { .. }
        | Fault::SlowCpu { .. }
        | Fault::Clock { .. }
        | Fault::Disk { .. }
        | Fault::Wire { .. }
        | Fault::Junk { .. }
        | Fault::Tombstone { .. } => None,
    }
}

/// Where a node is after the change; `None`: nowhere.
type Place<'a> = &'a dyn Fn(usize) -> Option<usize>;

fn renumbered(plan: &Plan, place: Place<'_>, count: usize) -> Plan {
    let mut next = plan.clone();
    next.nodes = count;
    next.seeds = moved(&plan.seeds, place);
    if next.seeds.is_empty() {
        next.seeds.push(0);
    }
    next.starts = (0..plan.nodes)
        .filter(|&node| place(node).is_some())
        .map(|node| plan.starts.get(node).copied().flatten())
        .collect();
    next.strangers = moved(&plan.strangers, place);
    for (_, nodes) in &mut next.regions {
        *nodes = moved(nodes, place);
    }
    next.regions.retain(|(_, nodes)| !nodes.is_empty());
    for rule in &mut next.link_rules {
        (rule.from, rule.to) = (moved(&rule.from, place), moved(&rule.to, place));
    }
    next.link_rules.retain(|rule| !rule.from.is_empty() && !rule.to.is_empty());
    next.core = plan.core.as_ref().map(|core| moved(core, place));
    if next.core.as_ref().is_some_and(Vec::is_empty) {
        next.core = None;
    }
    next.faults = plan
        .faults
        .iter()
        .filter_map(|fault| {
            let moved = with_places(&fault.fault, place)?;
            Some(TimedFault { fault: moved, ..fault.clone() })
        })
        .collect();
    if let Some(BrokerPlan { consumers, .. }) = &mut next.broker {
        *consumers = (*consumers).min(count.max(1));
    }
    next
}

fn moved(nodes: &[usize], place: Place<'_>) -> Vec<usize> {
    nodes.iter().filter_map(|&node| place(node)).collect()
}

/// The fault after the change; `None` if nothing of it is left.
fn with_places(fault: &Fault, place: Place<'_>) -> Option<Fault> {
    let mut next = fault.clone();
    match &mut next {
        Fault::Partition(partition) => *partition = partition_with_places(partition, place)?,
        Fault::Link { from, to, .. } => {
            for side in [from, to] {
                // An empty side means everybody, so a side must not become empty.
                let rest = moved(side, place);
                if rest.is_empty() && !side.is_empty() {
                    return None;
                }
                *side = rest;
            }
        }
        Fault::Crash { node, disk, .. } => {
            *node = place(*node)?;
            if let crate::plan::DiskFate::CloneOf(of) = disk {
                *of = place(*of)?;
            }
        }
        Fault::Start { node }
        | Fault::Leave { node, .. }
        | Fault::Pause { node }
        | Fault::SlowCpu { node, .. }
        | Fault::Clock { node, .. }
        | Fault::Disk { node, .. }
        | Fault::Wire { node, .. }
        | Fault::Junk { node, .. }
        | Fault::Burst { node, .. } => *node = place(*node)?,
        Fault::Tombstone { at, of, .. } => (*at, *of) = (place(*at)?, place(*of)?),
    }
    Some(next)
}

fn partition_with_places(partition: &Partition, place: Place<'_>) -> Option<Partition> {
    Some(match partition {
        Partition::Split(groups) => {
            let mut groups: Vec<_> = groups.iter().map(|group| moved(group, place)).collect();
            groups.retain(|group| !group.is_empty());
            (!groups.is_empty()).then_some(Partition::Split(groups))?
        }
        Partition::Oneway { from, to } => {
            let (from, to) = (moved(from, place), moved(to, place));
            (!from.is_empty() && !to.is_empty()).then_some(Partition::Oneway { from, to })?
        }
        Partition::Bridge { bridge, side } => {
            let side = moved(side, place);
            let bridge = place(*bridge)?;
            (!side.is_empty()).then_some(Partition::Bridge { bridge, side })?
        }
        Partition::Star { hub } => Partition::Star { hub: place(*hub)? },
        Partition::Links(links) => {
            let links: Vec<_> =
                links.iter().filter_map(|&(a, b)| Some((place(a)?, place(b)?))).collect();
            (!links.is_empty()).then_some(Partition::Links(links))?
        }
        Partition::Ring { .. } | Partition::Chain => partition.clone(),
    })
}
