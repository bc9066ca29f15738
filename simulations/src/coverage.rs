//! Points that runs reach: those of the cores, and which fault was in force when a member came or
//! went.
//!
//! A core marks its points itself ([`grapevine_gossip::coverage`]). A pair such as
//! `partition*member_down` says that while some partition was in force, some node took somebody for
//! down: without it, no run has tested that.

use std::collections::BTreeSet;

use grapevine_gossip::cluster::ClusterEvent;
use grapevine_gossip::coverage::POINTS;

use crate::plan::Fault;

/// What can happen to a member as another node sees it.
const TRANSITIONS: [&str; 3] = ["member_up", "member_down", "member_left"];

/// Transitions, each with what was in force at that time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pairs {
    in_force: u16,
    /// By transition.
    met: [u16; TRANSITIONS.len()],
}

impl Pairs {
    /// These faults are in force from now on.
    pub(crate) fn set_faults<'a>(&mut self, faults: impl Iterator<Item = &'a Fault>) {
        self.in_force = faults.fold(0, |flags, fault| {
            let place = Fault::CLASSES.iter().position(|class| *class == fault.class());
            flags | place.map_or(0, |place| 1 << place)
        });
    }

    /// A node saw this.
    pub(crate) fn note(&mut self, event: &ClusterEvent) {
        let transition = match event {
            ClusterEvent::MemberUp(_) => 0,
            ClusterEvent::MemberDown(_) => 1,
            ClusterEvent::MemberLeft(_) => 2,
            ClusterEvent::Synced | ClusterEvent::Left | ClusterEvent::NodeIdConflict => return,
        };
        self.met[transition] |= self.in_force;
    }

    /// Names of all pairs that were met.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> + '_ {
        let met = TRANSITIONS.iter().zip(self.met);
        met.flat_map(|(transition, classes)| {
            let faults = Fault::CLASSES.iter().enumerate();
            faults
                .filter(move |(place, _)| classes >> place & 1 == 1)
                .map(move |(_, class)| pair(class, transition))
        })
    }
}

fn pair(class: &str, transition: &str) -> String {
    format!("{class}*{transition}")
}

/// Every point that a run may reach, in order of name.
pub fn points() -> BTreeSet<String> {
    let pairs = Fault::CLASSES.iter().flat_map(|class| TRANSITIONS.map(|what| pair(class, what)));
    POINTS.iter().map(|point| (*point).to_owned()).chain(pairs).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::Partition;
    use grapevine_gossip::NodeId;

    #[test]
    fn a_transition_is_paired_with_the_faults_in_force_at_that_time() {
        let mut pairs = Pairs::default();
        let left = ClusterEvent::MemberLeft(NodeId(1));
        pairs.note(&left);
        assert_eq!(pairs.names().count(), 0);
        let pause = Fault::Pause { node: 0 };
        let slow = Fault::SlowCpu { node: 1, per_input: Duration::ZERO };
        pairs.set_faults([&pause, &slow, &pause].into_iter());
        pairs.note(&left);
        pairs.set_faults([&Fault::Partition(Partition::Chain)].into_iter());
        pairs.note(&ClusterEvent::Synced);
        let names: Vec<String> = pairs.names().collect();
        assert_eq!(names, ["pause*member_left", "slow_cpu*member_left"]);
        assert!(names.iter().all(|name| points().contains(name)));
    }
}
