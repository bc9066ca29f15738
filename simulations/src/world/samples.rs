//! How things stand, each quarter of a second, while somebody records.

use grapevine_gossip::NodeId;
use grapevine_gossip::catalogue::Replica;
use grapevine_gossip::cluster::Cluster;
use grapevine_gossip::section::{Key, Section};
use rustc_hash::FxHashMap;

use super::World;
use crate::trace::{NodeSample, Sample};

/// What is needed to say how old a node's knowledge is.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Of each node's own section: epoch, version, and when each version was written.
    owners: Vec<Owner>,
    /// What each node last held of an owner.
    known: FxHashMap<(u32, NodeId), (u64, u64)>,
}

#[derive(Clone, Debug, Default)]
struct Owner {
    epoch: u64,
    /// Versions and when they were written, in order.
    writes: Vec<(u64, u64)>,
    ended_at: Option<u64>,
}

impl Owner {
    fn ver(&self) -> u64 {
        self.writes.last().map_or(0, |(ver, _)| *ver)
    }

    /// When the first write after `ver` was made.
    fn written_after(&self, ver: u64) -> Option<u64> {
        let at = self.writes.partition_point(|(written, _)| *written <= ver);
        self.writes.get(at).map(|(_, at)| *at)
    }
}

impl Ledger {
    pub(super) fn new(nodes: usize) -> Self {
        Self { owners: vec![Owner::default(); nodes], known: FxHashMap::default() }
    }

    /// Epoch and version that `index` last wrote.
    pub(super) fn head(&self, index: usize) -> (u64, u64) {
        (self.owners[index].epoch, self.owners[index].ver())
    }

    pub(super) fn wrote(&mut self, index: usize, own: &Section, now: u64) {
        let owner = &mut self.owners[index];
        if owner.ended_at.take().is_some() || own.ver < owner.ver() {
            owner.writes.clear();
        }
        owner.epoch = own.epoch;
        owner.writes.push((own.ver, now));
    }

    /// Notes what `index` holds of `owner`. True if that is news to it.
    pub(super) fn learns(&mut self, index: usize, owner: NodeId, head: (u64, u64)) -> bool {
        head.1 > 0 && self.known.insert((index as u32, owner), head) != Some(head)
    }
}

impl World<'_> {
    /// The process of `index` ended.
    pub(super) fn ledger_ended(&mut self, index: usize) {
        self.ledger.owners[index].ended_at = Some(self.now);
        let index = index as u32;
        if self.recorder.is_some() {
            self.ledger.known.retain(|(node, _), _| *node != index);
        }
    }

    /// Tells the recorder how things stand.
    pub(super) fn sample(&mut self) {
        let truths: Vec<Truth<'_>> = self.truths();
        let mut nodes = Vec::with_capacity(self.nodes.len());
        let (mut right, mut pairs) = (0_u64, 0_u64);
        for (index, node) in self.nodes.iter().enumerate() {
            let mut sample = NodeSample {
                bytes: u32::try_from(node.bytes).unwrap_or(u32::MAX),
                ..NodeSample::default()
            };
            if let Some(cluster) = &node.cluster {
                sample.runs = true;
                sample.members = cluster.membership().active().len() as u32 + 1;
                let judged = self.judge(index, cluster, &truths, &mut sample);
                right += judged.0;
                pairs += judged.1;
            }
            nodes.push(sample);
        }
        let agreement = if pairs == 0 { 1.0 } else { right as f64 / pairs as f64 };
        let bytes = self.nodes.iter().map(|node| node.bytes).sum();
        for node in &mut self.nodes {
            node.bytes = 0;
        }
        if let Some(recorder) = self.recorder.as_deref_mut() {
            recorder.sample(&Sample { t: self.now, nodes, bytes, agreement });
        }
    }

    /// Every node that is to be known, by id.
    fn truths(&self) -> Vec<Truth<'_>> {
        let mut truths: Vec<Truth<'_>> = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| !node.is_stranger && node.starts > 0)
            .map(|(index, node)| {
                let own = node.cluster.as_ref().map(|cluster| cluster.catalogue().own());
                Truth { id: node.id, index, own, topics: own.map_or(0, |own| topics(own).count()) }
            })
            .collect();
        truths.sort_by_key(|truth| (truth.id, truth.own.is_none()));
        truths.dedup_by_key(|truth| truth.id);
        truths
    }

    /// Compares what `cluster` shows with what is so: how many it is right about, of how many.
    fn judge(
        &self,
        index: usize,
        cluster: &Cluster,
        truths: &[Truth<'_>],
        sample: &mut NodeSample,
    ) -> (u64, u64) {
        let me = cluster.catalogue().me();
        let mut replicas = cluster.catalogue().replicas().peekable();
        let (mut right, mut pairs) = (0, 0);
        let mut oldest = None;
        for truth in truths.iter().filter(|truth| truth.id != me) {
            while let Some((_, ghost)) = replicas.next_if(|(owner, _)| *owner < truth.id) {
                sample.phantom += shown(ghost).map_or(0, |section| topics(section).count() as u32);
            }
            let replica = replicas.next_if(|(owner, _)| *owner == truth.id);
            let section = replica.and_then(|(_, replica)| shown(replica));
            let (phantom, missing, since) = self.compare(truth, section);
            sample.phantom += phantom;
            sample.missing += missing;
            let is_right = match truth.own {
                Some(_) => section.is_some() && since.is_none(),
                None => section.is_none(),
            };
            right += u64::from(is_right);
            pairs += 1;
            oldest = oldest.into_iter().chain(since).min();
        }
        if !self.nodes[index].is_stranger {
            let age = oldest.map_or(0, |since| self.now.saturating_sub(since) / 1_000_000);
            sample.oldest_ms = u32::try_from(age).unwrap_or(u32::MAX);
            return (right, pairs);
        }
        (0, 0)
    }

    /// Phantom and missing topics of one owner, and since when something is not known of it.
    fn compare(&self, truth: &Truth<'_>, section: Option<&Section>) -> (u32, u32, Option<u64>) {
        let owner = &self.ledger.owners[truth.index];
        match (truth.own, section) {
            (None, None) => (0, 0, None),
            (None, Some(held)) => (topics(held).count() as u32, 0, owner.ended_at),
            (Some(_), None) => (0, truth.topics as u32, owner.written_after(0).or(Some(self.now))),
            (Some(own), Some(held)) if (own.epoch, own.ver) == (held.epoch, held.ver) => {
                (0, 0, None)
            }
            (Some(own), Some(held)) => {
                let phantom = topics(held).filter(|key| own.get(key).is_none()).count();
                let missing = topics(own).filter(|key| held.get(key).is_none()).count();
                let ver = if own.epoch == held.epoch { held.ver } else { 0 };
                (phantom as u32, missing as u32, owner.written_after(ver))
            }
        }
    }
}

/// One owner as it is.
#[derive(Debug)]
struct Truth<'a> {
    id: NodeId,
    index: usize,
    /// Its own section, if its process runs.
    own: Option<&'a Section>,
    topics: usize,
}

fn shown(replica: &Replica) -> Option<&Section> {
    replica.is_shown().then_some(&replica.section)
}

/// Registrations of topics, each one pair of topic and producer.
fn topics(section: &Section) -> impl Iterator<Item = &Key> {
    let keys = section.live().map(|(key, _)| key);
    keys.filter(|key| !key.topic.is_empty() && key.channel.is_empty())
}
