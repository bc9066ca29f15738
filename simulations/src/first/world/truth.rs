//! Whether everyone agrees, with each other and with what was done.

use std::collections::BTreeSet;

use super::{TOPICS, World};

impl World {
    /// What keeps the nodes from agreeing with each other and with the truth, if anything does.
    pub(super) fn disagreement(&self) -> Option<String> {
        for (index, node) in self.nodes.iter().enumerate() {
            let Some(cluster) = &node.cluster else {
                return Some(format!("node {index} does not run"));
            };
            for (other, peer) in self.nodes.iter().enumerate().filter(|(at, _)| *at != index) {
                let own = peer.cluster.as_ref()?.catalogue().own();
                let Some(active) = cluster.membership().active().get(&peer.id) else {
                    return Some(format!("node {index} does not hold node {other} active"));
                };
                let replica = cluster.catalogue().replica(peer.id);
                let section = replica.map(|replica| &replica.section);
                if section.map(|s| (s.epoch, s.ver)) != Some((own.epoch, own.ver))
                    || active.epoch != own.epoch
                {
                    return Some(format!("node {index} is behind on node {other}"));
                }
                if section.is_none_or(|section| !section.live().eq(own.live())) {
                    return Some(format!("node {index} holds other keys of node {other}"));
                }
            }
            for topic in 0..TOPICS {
                let listed = cluster.catalogue().row(&format!("t{topic}"));
                let listed: BTreeSet<u16> = listed
                    .iter()
                    .flat_map(|row| row.visible().map(|producer| producer.tcp_port))
                    .collect();
                let nodes = self.nodes.iter().enumerate();
                let wanted: BTreeSet<u16> = nodes
                    .filter(|(_, node)| node.registered.contains(&(topic, None)))
                    .filter_map(|(at, _)| u16::try_from(at + 1).ok())
                    .collect();
                if listed != wanted {
                    return Some(format!(
                        "node {index} lists {listed:?} for t{topic}, not {wanted:?}"
                    ));
                }
            }
        }
        None
    }
}
