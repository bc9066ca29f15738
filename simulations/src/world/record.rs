//! What a recorder is told. Without one, none of this costs more than a look.

use grapevine_gossip::NodeId;
use grapevine_gossip::audit::Touched;
use grapevine_gossip::cluster::ClusterEvent;
use grapevine_gossip::message::{describe, describe_frame};

use super::World;
use super::node::Arrival;
use super::outputs::OUTSIDE;
use crate::trace::{Record, What};

impl World<'_> {
    /// Tells the recorder, if there is one.
    pub(super) fn record(&mut self, node: Option<usize>, what: What) {
        let Some(recorder) = self.recorder.as_deref_mut() else { return };
        recorder.record(&Record {
            i: self.stats.events,
            t: self.now,
            n: node.map(|node| node as u32),
            lamport: node.and_then(|at| self.nodes.get(at)).map_or(0, |node| node.lamport),
            what,
            h: self.hash,
        });
    }

    pub(super) fn record_timer(&mut self, index: usize) {
        if self.tells_all {
            std::hint::cold_path();
            self.nodes[index].lamport += 1;
            self.record(Some(index), What::Timer);
        }
    }

    pub(super) fn record_send(
        &mut self,
        from: usize,
        to: Option<usize>,
        id: u64,
        bytes: &[u8],
        stream: bool,
    ) {
        if self.tells_all {
            std::hint::cold_path();
            let msg = if stream { describe_frame(bytes) } else { describe(bytes) };
            let sz = bytes.len() as u32;
            let to = to.map_or(OUTSIDE, |to| to as u32);
            self.record(Some(from), What::Send { id, to, msg, sz, stream });
        }
    }

    /// Something arrived and was handled.
    pub(super) fn record_arrival(&mut self, index: usize, arrival: &Arrival) {
        if self.tells_all {
            self.tell_arrival(index, arrival);
        }
    }

    #[cold]
    fn tell_arrival(&mut self, index: usize, arrival: &Arrival) {
        let (seen, what) = match arrival {
            Arrival::Datagram(parcel) => {
                let Some(parcel) = self.parcels.get_mut(*parcel) else { return };
                let (id, from, sz) = (parcel.id, parcel.from, parcel.bytes.len() as u32);
                let msg = describe(&parcel.bytes);
                (parcel.lamport, What::Recv { id, from, msg, sz, stream: false })
            }
            Arrival::Frame { bytes, letter, .. } => {
                let (id, from, sz) = (letter.id, letter.from, bytes.len() as u32);
                let msg = describe_frame(bytes);
                (letter.lamport, What::Recv { id, from, msg, sz, stream: true })
            }
            Arrival::Accepted(_)
            | Arrival::Connected(_)
            | Arrival::Closed { .. }
            | Arrival::Resolved(_)
            | Arrival::Persisted(_) => return,
        };
        let node = &mut self.nodes[index];
        node.lamport = node.lamport.max(seen) + 1;
        self.record(Some(index), what);
    }

    pub(super) fn record_event(&mut self, index: usize, event: &ClusterEvent) {
        let active = self.nodes[index].cluster.as_ref().map(|it| it.membership().active());
        let (about, to) = match event {
            ClusterEvent::MemberUp(id) if id.renew > 0 => (id.node, "renewed"),
            ClusterEvent::MemberUp(id) => (id.node, "up"),
            ClusterEvent::MemberDown(id) => (id.node, "down"),
            // News of an earlier life says nothing about a member that is back.
            ClusterEvent::MemberLeft(node) if active.is_some_and(|it| it.contains_key(node)) => {
                return;
            }
            ClusterEvent::MemberLeft(node) => (*node, "left"),
            _ => return,
        };
        let about = self.number_of(about);
        self.record(Some(index), What::Member { about, to });
    }

    pub(super) fn record_persist(&mut self, index: usize, epoch: u64) {
        self.nodes[index].epoch = epoch;
        self.record(Some(index), What::Persist { epoch });
    }

    /// After a node was told something: what it now knows goes to the ledger and the recorder.
    pub(super) fn after_settle(&mut self, index: usize, touched: &[Touched]) {
        if self.recorder.is_some() {
            self.tell_settled(index, touched);
        }
    }

    #[cold]
    fn tell_settled(&mut self, index: usize, touched: &[Touched]) {
        let Some(cluster) = self.nodes[index].cluster.as_ref() else { return };
        let own = cluster.catalogue().own();
        let before = self.ledger.head(index);
        if before != (own.epoch, own.ver) {
            let from = if before.0 == own.epoch { before.1 } else { 0 };
            let delta = own.delta_since(from, usize::MAX, usize::MAX);
            let writes = delta.into_iter().flat_map(|delta| delta.ops).map(|op| What::Write {
                key: key_name(&op.key.topic, &op.key.channel),
                live: op.value.is_some(),
                ver: op.ver,
            });
            let writes: Vec<What> = writes.collect();
            self.ledger.wrote(index, own, self.now);
            for write in writes {
                self.record(Some(index), write);
            }
        }
        let Some(cluster) = self.nodes[index].cluster.as_ref() else { return };
        let me = cluster.catalogue().me();
        let mut applied = Vec::new();
        for owner in touched.iter().map(|touched| touched.owner) {
            let Some(section) = cluster.catalogue().section(owner) else { continue };
            if owner != me && self.ledger.learns(index, owner, (section.epoch, section.ver)) {
                applied.push((owner, section.epoch, section.ver));
            }
        }
        for (owner, epoch, ver) in applied {
            let owner = self.number_of(owner);
            self.record(Some(index), What::Apply { owner, epoch, ver });
        }
    }

    fn number_of(&self, id: NodeId) -> u32 {
        self.index_of_id.get(&id).copied().unwrap_or(OUTSIDE)
    }

    /// Figures of the run that are known once it is over.
    pub(super) fn close_stats(&mut self) {
        if let Some(brokers) = &self.brokers {
            self.stats.messages = brokers.figures();
        }
        let clusters = self.nodes.iter().filter_map(|node| node.cluster.as_ref());
        for (name, count) in clusters.flat_map(|cluster| cluster.counters()) {
            *self.stats.counters.entry(name.to_owned()).or_default() += count;
        }
    }
}

fn key_name(topic: &str, channel: &str) -> String {
    match (topic, channel) {
        ("", _) => "producer".to_owned(),
        (topic, "") => topic.to_owned(),
        (topic, channel) => format!("{topic}/{channel}"),
    }
}
