//! What was really written, and the rules that what nodes believe must keep.

use std::collections::BTreeMap;

use grapevine_gossip::NodeId;
use grapevine_gossip::cluster::Cluster;
use grapevine_gossip::section::{Key, Section, Value};

/// A rule that does not hold.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{rule} broken at node {node}: {what}")]
pub struct Violation {
    /// Its name: `S1` to `S10`, `L1`, `B1`.
    pub rule: &'static str,
    /// Index of the node at which it shows.
    pub node: usize,
    /// What is wrong.
    pub what: String,
}

/// One owner's writes in one epoch, by version. A write that was overwritten before anyone could
/// see it is not there.
type Log = BTreeMap<u64, (Key, Option<Value>)>;

/// The truth, and what each node last believed of each other.
#[derive(Debug, Default)]
pub struct Oracle {
    logs: BTreeMap<(NodeId, u64), Log>,
    own_heads: BTreeMap<NodeId, (u64, u64)>,
    /// The highest head each owner ever had; a disk that was rolled back does not lower it.
    highest: BTreeMap<NodeId, (u64, u64)>,
    /// What the node (by index) last held of an owner.
    believed: BTreeMap<(usize, NodeId), (u64, u64)>,
    /// The epoch in which it last held each key of an owner, and at which version.
    shown: BTreeMap<(usize, NodeId), (u64, BTreeMap<Key, u64>)>,
}

impl Oracle {
    /// Records what `cluster` wrote since it was last looked at. With `may_write` false it must
    /// not have written anything (S8).
    ///
    /// # Errors
    ///
    /// A [`Violation`] of S8.
    pub fn record(
        &mut self,
        node: usize,
        cluster: &Cluster,
        may_write: bool,
    ) -> Result<(), Violation> {
        let owner = cluster.catalogue().me();
        let own = cluster.catalogue().own();
        let head = (own.epoch, own.ver);
        let before = self.own_heads.get(&owner).copied().unwrap_or((0, 0));
        if before == head {
            return Ok(());
        }
        if before.0 == head.0 && !may_write {
            let what = format!("its own section went from {before:?} to {head:?} by itself");
            return Err(Violation { rule: "S8", node, what });
        }
        if before.0 != head.0 {
            // A restart begins at version 0; a greater epoch taken while running keeps the keys.
            let kept = self.logs.get(&(owner, before.0)).cloned();
            self.logs.insert((owner, head.0), kept.unwrap_or_default());
        }
        let log = self.logs.entry((owner, head.0)).or_default();
        for (key, entry) in own.entries() {
            log.entry(entry.ver).or_insert_with(|| (key.clone(), entry.value.clone()));
        }
        self.own_heads.insert(owner, head);
        let highest = self.highest.entry(owner).or_default();
        *highest = head.max(*highest);
        Ok(())
    }

    /// The owner's process starts anew, at version 0.
    pub fn begin_life(&mut self, owner: NodeId) {
        self.own_heads.remove(&owner);
    }

    /// A node's process ended: what it believed is gone.
    pub fn forget_beliefs(&mut self, node: usize) {
        self.believed.retain(|(index, _), _| *index != node);
        self.shown.retain(|(index, _), _| *index != node);
    }

    /// Checks what node `node` believes of every other (S1 to S5).
    ///
    /// # Errors
    ///
    /// The first [`Violation`].
    pub fn check(&mut self, node: usize, cluster: &Cluster) -> Result<(), Violation> {
        let catalogue = cluster.catalogue();
        let mut present = Vec::new();
        for (owner, replica) in catalogue.replicas() {
            let section = &replica.section;
            let head = (section.epoch, section.ver);
            present.push(owner);
            let before = self.believed.insert((node, owner), head).unwrap_or((0, 0));
            if before == head {
                continue;
            }
            let fail = |rule, what| Err(Violation { rule, node, what });
            if head > self.highest.get(&owner).copied().unwrap_or((0, 0)) {
                return fail("S1", format!("{owner} has not written {head:?}"));
            }
            if head < before {
                return fail("S2", format!("{owner} went back from {before:?} to {head:?}"));
            }
            self.check_section(node, owner, section)?;
            let (epoch, shown) = self.shown.entry((node, owner)).or_default();
            if *epoch != section.epoch {
                (*epoch, *shown) = (section.epoch, BTreeMap::new());
            }
            for (key, entry) in section.entries() {
                let before = shown.insert(key.clone(), entry.ver).unwrap_or(0);
                if before > entry.ver {
                    let what = format!("{owner}'s {key:?} went from {before} to {}", entry.ver);
                    return Err(Violation { rule: "S5", node, what });
                }
            }
        }
        self.believed.retain(|(index, owner), _| *index != node || present.contains(owner));
        self.shown.retain(|(index, owner), _| *index != node || present.contains(owner));
        Ok(())
    }

    /// Every entry is a write of the owner (S3), and nothing is missing up to the version (S4).
    fn check_section(
        &self,
        node: usize,
        owner: NodeId,
        section: &Section,
    ) -> Result<(), Violation> {
        let fail = |rule, what| Err(Violation { rule, node, what });
        let Some(log) = self.logs.get(&(owner, section.epoch)) else {
            return fail("S3", format!("{owner} was never in epoch {}", section.epoch));
        };
        for (key, entry) in section.entries() {
            if log.get(&entry.ver) != Some(&(key.clone(), entry.value.clone())) {
                return fail("S3", format!("{owner} did not write {key:?} at {}", entry.ver));
            }
        }
        let mut last: BTreeMap<&Key, (u64, bool)> = BTreeMap::new();
        for (ver, (key, value)) in log.range(..=section.ver) {
            last.insert(key, (*ver, value.is_some()));
        }
        for (key, (ver, is_live)) in last {
            let held = section.entry(key).map(|entry| entry.ver);
            let is_forgotten = !is_live && ver <= section.floor && held.is_none();
            // A later write of the key, beyond this version, may have overwritten it.
            if held != Some(ver) && !is_forgotten && !self.is_overwritten(owner, section, key) {
                return fail("S4", format!("{owner}'s {key:?} at {ver} is held as {held:?}"));
            }
        }
        Ok(())
    }

    /// Whether the owner has written `key` again after what the copy reaches: then a delta made
    /// since may rightly lack the older write.
    fn is_overwritten(&self, owner: NodeId, section: &Section, key: &Key) -> bool {
        let log = self.logs.get(&(owner, section.epoch));
        log.is_some_and(|log| log.range(section.ver + 1..).any(|(_, (k, _))| k == key))
    }

    /// Every producer a node lists for a topic belongs to a member it holds active, in the epoch
    /// that shows it (S6).
    ///
    /// # Errors
    ///
    /// The [`Violation`].
    pub fn check_row(
        &self,
        node: usize,
        cluster: &Cluster,
        topic: &str,
        owner_of_port: impl Fn(u16) -> NodeId,
    ) -> Result<(), Violation> {
        let Some(row) = cluster.catalogue().row(topic) else { return Ok(()) };
        for producer in row.visible() {
            let owner = owner_of_port(producer.tcp_port);
            let key = Key::new(grapevine_gossip::ProducerId::NSQD, topic, "");
            let is_own = owner == cluster.catalogue().me();
            let active = cluster.membership().active().get(&owner);
            let section = cluster.catalogue().section(owner);
            let holds = section.is_some_and(|section| {
                section.get(&key).is_some()
                    && (is_own || active.is_some_and(|id| id.epoch == section.epoch))
            });
            if !holds {
                let what = format!("{topic} lists {owner}, which is not active with it");
                return Err(Violation { rule: "S6", node, what });
            }
        }
        Ok(())
    }
}
