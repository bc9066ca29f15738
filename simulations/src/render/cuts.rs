//! Who does not reach whom while a partition lasts, and the order and groups of lanes that show it
//! best.

use crate::plan::{Fault, Partition, Plan};

/// Lanes beyond this are drawn as groups: single bars would be thinner than a line of text.
pub(super) const LANES_MAX: usize = 60;

/// Whether what `from` sends does not arrive at `to`.
pub(super) fn blocks(partition: &Partition, nodes: usize, from: usize, to: usize) -> bool {
    if from == to {
        return false;
    }
    match partition {
        Partition::Split(groups) => side_in(groups, from) != side_in(groups, to),
        Partition::Oneway { from: senders, to: receivers } => {
            senders.contains(&from) && receivers.contains(&to)
        }
        Partition::Bridge { bridge, side } => {
            from != *bridge && to != *bridge && side.contains(&from) != side.contains(&to)
        }
        Partition::Ring { reach } => {
            let apart = from.abs_diff(to);
            apart.min(nodes - apart) > *reach
        }
        Partition::Chain => from.abs_diff(to) > 1,
        Partition::Star { hub } => from != *hub && to != *hub,
        Partition::Links(links) => links.contains(&(from, to)) || links.contains(&(to, from)),
    }
}

/// Number of the side a node is on; nodes in no group form one more.
fn side_in(groups: &[Vec<usize>], node: usize) -> usize {
    groups.iter().position(|group| group.contains(&node)).unwrap_or(groups.len())
}

/// Sides of a partition as lists of nodes, if it has sides at all. Empty sides are left out.
pub(super) fn sides(partition: &Partition, nodes: usize) -> Vec<Vec<usize>> {
    let number = |node: usize| match partition {
        Partition::Split(groups) => side_in(groups, node),
        Partition::Oneway { from, to } => match (from.contains(&node), to.contains(&node)) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => 2,
        },
        Partition::Bridge { bridge, .. } if node == *bridge => 1,
        Partition::Bridge { side, .. } => usize::from(!side.contains(&node)) * 2,
        Partition::Star { hub } => usize::from(node != *hub),
        Partition::Ring { .. } | Partition::Chain | Partition::Links(_) => 0,
    };
    let mut sides: Vec<Vec<usize>> = Vec::new();
    for node in 0..nodes {
        let side = number(node);
        if sides.len() <= side {
            sides.resize(side + 1, Vec::new());
        }
        sides[side].push(node);
    }
    sides.retain(|side| !side.is_empty());
    sides
}

/// The partition that lasts longest, by its index among the faults.
pub(super) fn main_partition(plan: &Plan) -> Option<(usize, &Partition)> {
    let mut best = None;
    for (index, timed) in plan.faults.iter().enumerate() {
        let Fault::Partition(partition) = &timed.fault else { continue };
        let end = timed.lasts.map_or(plan.heal_at.unwrap_or(plan.end), |lasts| timed.at + lasts);
        let lasts = end.saturating_sub(timed.at);
        if best.is_none_or(|(longest, _, _)| lasts > longest) {
            best = Some((lasts, index, partition));
        }
    }
    best.map(|(_, index, partition)| (index, partition))
}

/// Groups of nodes: regions, otherwise the sides of the main partition, otherwise everyone. Every
/// node is in exactly one; the order of lanes is the order of groups.
pub(super) fn groups(plan: &Plan) -> Vec<(String, Vec<usize>)> {
    if plan.regions.len() > 1 {
        let mut groups = plan.regions.clone();
        let named: Vec<usize> = groups.iter().flat_map(|(_, nodes)| nodes.clone()).collect();
        let rest: Vec<usize> = (0..plan.nodes).filter(|node| !named.contains(node)).collect();
        if !rest.is_empty() {
            groups.push(("elsewhere".into(), rest));
        }
        return groups;
    }
    let mut causes: Vec<u32> = plan
        .faults
        .iter()
        .filter(|timed| matches!(timed.fault, Fault::Partition(_)))
        .map(|timed| timed.group)
        .collect();
    causes.sort_unstable();
    causes.dedup();
    // Of several partitions none deserves the order of lanes, unless lanes must be groups.
    let main = main_partition(plan).filter(|_| causes.len() == 1 || plan.nodes > LANES_MAX);
    let mut sides = main.map_or_else(Vec::new, |(_, partition)| sides(partition, plan.nodes));
    if sides.len() < 2 || sides.len() > GROUPS_MAX {
        sides = vec![(0..plan.nodes).collect()];
    }
    sides.into_iter().map(|side| (super::words::nodes(&side), side)).collect()
}

/// Sides beyond this are no help to the eye.
const GROUPS_MAX: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_partition_blocks_what_its_name_says() {
        let split = Partition::Split(vec![vec![0, 1], vec![2]]);
        assert!(blocks(&split, 5, 0, 2) && blocks(&split, 5, 2, 4) && !blocks(&split, 5, 3, 4));
        let oneway = Partition::Oneway { from: vec![0], to: vec![1] };
        assert!(blocks(&oneway, 3, 0, 1) && !blocks(&oneway, 3, 1, 0));
        let bridge = Partition::Bridge { bridge: 2, side: vec![0, 1] };
        assert!(blocks(&bridge, 5, 0, 4) && !blocks(&bridge, 5, 0, 2) && !blocks(&bridge, 5, 2, 4));
        let ring = Partition::Ring { reach: 1 };
        assert!(!blocks(&ring, 5, 0, 4) && blocks(&ring, 5, 0, 2));
        assert!(blocks(&Partition::Chain, 5, 0, 4));
        let star = Partition::Star { hub: 0 };
        assert!(blocks(&star, 3, 1, 2) && !blocks(&star, 3, 0, 2));
        assert!(blocks(&Partition::Links(vec![(0, 1)]), 3, 1, 0));
    }

    #[test]
    fn the_bridge_stands_between_its_sides() {
        let bridge = Partition::Bridge { bridge: 0, side: vec![1, 2] };
        assert_eq!(sides(&bridge, 5), [vec![1, 2], vec![0], vec![3, 4]]);
    }
}
