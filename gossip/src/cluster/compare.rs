//! Comparing: digests say that two nodes differ, heads say in what.

use std::net::SocketAddr;

use grapevine_protocol::Moment;
use rand::RngExt;

use super::Cluster;
use crate::NodeId;
use crate::catalogue::HeadOf;
use crate::codec::{encode_into, has_digest};
use crate::config::DIGEST_NODES_FEW;
use crate::identity::Identity;
use crate::message::{HEADS_MAX, Head, KIND_MESSAGE, Message};
use crate::repair::BUCKETS_MAX;

/// When so many buckets differ, and half of all, two nodes compare by stream if it is time for
/// that: datagrams would take dozens of rounds.
const BUCKETS_MUCH: usize = 8;

/// Most datagrams in which one digest is answered.
const HEADS_DATAGRAMS_MAX: usize = 4;

/// This node's digest as a message, of a view and of sections that have changed so often: while
/// nothing happens it is made once, and others' are known to be equal without being read.
#[derive(Debug, Default)]
pub(super) struct OwnDigest {
    of: Option<(u64, u64)>,
    bytes: Vec<u8>,
}

impl Cluster {
    pub(super) fn compare_heads(
        &mut self,
        now: Moment,
        peer: Identity,
        heads: &[Head],
        bucket_count: usize,
        asks: &[u16],
    ) {
        let (mut newer, mut asks_for) = (Vec::new(), Vec::new());
        for head in heads {
            let mine = self.head_of(head.owner);
            if mine < (head.epoch, head.ver) {
                if self.accepts(now, head.owner, head.epoch, head.ver)
                    && self.begins_pull(now, head)
                {
                    asks_for.push(head.owner);
                }
            } else if mine > (head.epoch, head.ver) {
                newer.push((head.owner, head.epoch, head.ver));
            }
        }
        self.send_pulls(now, peer.node, &asks_for);
        if (1..=BUCKETS_MAX).contains(&bucket_count) {
            sometimes!("bucket_heads_answered");
            self.exchanged_at = Some(now);
            let mut mentioned: Vec<NodeId> = heads.iter().map(|head| head.owner).collect();
            mentioned.sort_unstable();
            let unmentioned = self.heads_in(asks, bucket_count).into_iter();
            let unmentioned = unmentioned.flat_map(|(_, heads)| heads).map(|(owner, ..)| owner);
            let unmentioned = unmentioned.filter(|owner| mentioned.binary_search(owner).is_err());
            newer.extend(unmentioned.take(HEADS_MAX).map(|owner| (owner, 0, 0)));
            self.stay_young(now);
        }
        self.offer(now, peer.addr.socket(), &newer);
    }

    pub(super) fn compare_digest(
        &mut self,
        now: Moment,
        peer: Identity,
        view: u64,
        buckets: &[u32],
    ) {
        let mine = self.catalogue.digest().values(Some(buckets.len()));
        let pairs = mine.iter().zip(buckets).enumerate();
        let differing: Vec<u16> = pairs
            .filter(|(_, (mine, theirs))| mine != theirs)
            .filter_map(|(at, _)| u16::try_from(at).ok())
            .collect();
        let is_much = differing.len() >= BUCKETS_MUCH.max(buckets.len() / 2);
        let mut goes_by_stream = false;
        if view != self.membership.view_hash() {
            sometimes!("views_differ");
            self.stay_young(now);
            let begins = !self.is_carried(now) && self.views_differ(now, peer);
            goes_by_stream = begins && is_much;
        } else if differing.is_empty() {
            return self.digest_is_equal(now, peer);
        } else {
            self.periodic.differs_since = None;
            if is_much {
                goes_by_stream = self.views_differ(now, peer);
            } else if buggify!("views_compared_early", self.boot.seed, now.0) {
                self.views_differ(now, peer);
            }
        }
        if differing.is_empty() {
            self.exchanged_at = Some(now);
            return;
        }
        self.stay_young(now);
        sometimes!("digest_mismatch");
        goes_by_stream |= is_much && self.exchange_is_near(now);
        if goes_by_stream || buggify!("heads_not_answered", self.boot.seed, now.0) {
            return;
        }
        for message in self.heads_told(&differing, buckets.len()) {
            self.send(peer.addr.socket(), &message);
        }
    }

    /// Another member knows what this node knows.
    pub(super) fn digest_is_equal(&mut self, now: Moment, peer: Identity) {
        self.periodic.differs_since = None;
        if buggify!("views_compared_early", self.boot.seed, now.0) {
            self.views_differ(now, peer);
        }
        self.exchanged_at = Some(now);
        self.was_equal(now);
    }

    /// The heads in each of `buckets`, those from a random one on first, so that comparisons that
    /// follow each other cover different owners.
    fn heads_in(&mut self, buckets: &[u16], count: usize) -> Vec<(u16, Vec<HeadOf>)> {
        let mut place = vec![None; count];
        let first = self.rng.random_range(0..buckets.len().max(1));
        let (before, after) = buckets.split_at(first.min(buckets.len()));
        let mut all: Vec<_> = after.iter().chain(before).map(|&at| (at, Vec::new())).collect();
        for (at, &(bucket, _)) in all.iter().enumerate() {
            if let Some(place) = place.get_mut(usize::from(bucket)) {
                *place = Some(at);
            }
        }
        for (head, bucket) in self.catalogue.heads_in_buckets() {
            if let Some(at) = place[usize::from(bucket) % count] {
                all[at].1.push(head);
            }
        }
        all
    }

    /// The heads in the buckets that differ, as far as they fit into a few datagrams. Each asks for
    /// the buckets it tells whole: of others the answer would bring what was only not mentioned.
    fn heads_told(&mut self, differing: &[u16], count: usize) -> Vec<Message> {
        let bucket_count = u16::try_from(count).unwrap_or(0);
        let mut messages = Vec::new();
        let (mut told, mut asks) = (Vec::new(), Vec::new());
        let mut close = |told: &mut Vec<Head>, asks: &mut Vec<u16>| {
            let (heads, asks) = (std::mem::take(told), std::mem::take(asks));
            messages.push(Message::Heads { heads, bucket_count, asks });
            messages.len() == HEADS_DATAGRAMS_MAX
        };
        for (bucket, mut heads) in self.heads_in(differing, count) {
            let is_whole = heads.len() <= HEADS_MAX;
            if !is_whole {
                let first = self.rng.random_range(0..heads.len());
                heads.rotate_left(first);
                heads.truncate(HEADS_MAX);
            }
            if !told.is_empty()
                && told.len() + heads.len() > HEADS_MAX
                && close(&mut told, &mut asks)
            {
                return messages;
            }
            asks.extend(is_whole.then_some(bucket));
            told.extend(heads.into_iter().map(|(owner, epoch, ver)| Head {
                owner,
                epoch,
                ver,
                by_stream: false,
            }));
        }
        close(&mut told, &mut asks);
        messages
    }

    /// One member after the other, in an order shuffled anew each time, so that every pair meets:
    /// whoever is probed now, if it is about time, else the next.
    pub(super) fn digest_if_due(&mut self, now: Moment) {
        let few = self.membership.active().len() < DIGEST_NODES_FEW;
        let timings = &self.boot.timings;
        let usual = if few { timings.digest_period } else { timings.digest_period_many };
        let period = match self.is_young(now) {
            false => usual,
            true if self.is_middling(now) => usual.min(2 * timings.spread_period),
            true => usual.min(timings.spread_period),
        };
        let is_near = self.periodic.next_digest <= now + period / 2;
        let probed = self.membership.probed().filter(|_| is_near);
        if probed.is_none() && self.periodic.next_digest > now {
            return;
        }
        // X11, class "a period that grew".
        self.periodic.next_digest = now + if mutant!(X11) { 2 * period } else { period };
        // N03, class "done once, done for ever".
        if self.membership.has_left() || (mutant!(N03) && self.join.is_synced) {
            return;
        }
        if buggify!("digest_left_out", self.boot.seed, now.0) {
            return;
        }
        if let Some(peer) = probed {
            return self.send_digest_with_probe(peer.addr.socket());
        }
        if self.periodic.digest_order.is_empty() {
            let everyone = self.membership.active().len();
            let order = self.some_members(everyone);
            // Not from `into_iter`: that would keep the memory of the identities.
            self.periodic.digest_order = order.iter().map(|id| id.node).collect();
        }
        while let Some(node) = self.periodic.digest_order.pop() {
            if let Some(peer) = self.membership.active().get(&node).copied() {
                if buggify!("digest_twice", self.boot.seed, now.0) {
                    self.send_digest(peer.addr.socket());
                }
                return self.send_digest(peer.addr.socket());
            }
        }
    }

    /// Sees to it that [`OwnDigest`] is of what this node knows now.
    fn renew_digest(&mut self) {
        let of = Some((self.membership.view_hash(), self.catalogue.digest().changes()));
        if self.digest.of == of {
            return;
        }
        let values = self.catalogue.digest().values(None);
        let buckets = values.into_iter().flat_map(u32::to_le_bytes).collect();
        let view = self.membership.view_hash();
        let digest = &mut self.digest;
        digest.of = of;
        digest.bytes.clear();
        encode_into(&Message::Digest { view, buckets }, &mut digest.bytes);
    }

    /// Whether this message is the digest that this node would send now: nothing differs.
    pub(super) fn is_own_digest(&mut self, message: &[u8]) -> bool {
        has_digest(message) && {
            self.renew_digest();
            self.digest.bytes == message
        }
    }

    /// Sends a digest to one member.
    pub(super) fn send_digest(&mut self, to: SocketAddr) {
        self.renew_digest();
        let bytes = std::mem::take(&mut self.digest.bytes);
        self.send_body(to, KIND_MESSAGE, &bytes);
        self.digest.bytes = bytes;
    }

    /// Sends a digest together with the probe that is to be sent to the same member.
    pub(super) fn send_digest_with_probe(&mut self, to: SocketAddr) {
        let Some(ping) = self.membership.take_ping() else { return self.send_digest(to) };
        self.renew_digest();
        let bytes = std::mem::take(&mut self.digest.bytes);
        self.send_ping_with(to, ping, &bytes);
        self.digest.bytes = bytes;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::cluster::Boot;
    use crate::config::Timings;
    use crate::message::{Liveness, MemberState};
    use crate::registrar::Now;
    use crate::section::{Delta, Key, Op, ProducerId, Value};

    const NOW: Moment = Moment(1_000_000_000);

    /// Node 0, which knows `others` other nodes with a topic each.
    fn knows(others: u64) -> Cluster {
        let identity = |node: u64| {
            let port = u16::try_from(node + 1).unwrap();
            let addr = SocketAddr::from(([10, 0, 0, 1], port)).into();
            Identity { addr, node: NodeId(node), epoch: 1, renew: 0 }
        };
        let boot = Boot {
            node: NodeId(0),
            epoch: 1,
            addr: identity(0).addr.socket(),
            seeds: 0,
            peers: vec![],
            cluster_name: "test".to_owned(),
            timings: Timings::default(),
            inactive_producer_timeout: Duration::from_secs(300),
            tombstone_lifetime: Duration::from_secs(45),
            seed: 7,
        };
        let mut cluster = Cluster::new(boot, Now { at: NOW, wall_ns: 0 });
        let alive = |node| MemberState {
            identity: identity(node),
            incarnation: 0,
            liveness: Liveness::Alive,
        };
        let states: Vec<_> = (1..=others).map(alive).collect();
        cluster.membership.apply(NOW, &states, false);
        for node in 1..=others {
            let key = Key::new(ProducerId::NSQD, "t", "");
            let ops = vec![Op { ver: 1, key, value: Some(Value::REGISTERED) }];
            let delta = Delta { epoch: 1, from: 0, to: 1, floor: 0, ops };
            cluster.catalogue.member_up(NodeId(node), 1);
            cluster.catalogue.apply_delta(NodeId(node), &delta);
        }
        cluster
    }

    /// Owners told, and buckets asked for, in one answer.
    fn answer(cluster: &mut Cluster, count: u16) -> (BTreeSet<NodeId>, BTreeSet<u16>) {
        let differing: Vec<u16> = (0..count).collect();
        let messages = cluster.heads_told(&differing, usize::from(count));
        assert!(messages.len() <= HEADS_DATAGRAMS_MAX);
        let (mut owners, mut asked) = (BTreeSet::new(), BTreeSet::new());
        for message in &messages {
            assert!(message.is_bounded());
            let Message::Heads { heads, asks, .. } = message else { panic!("{message:?}") };
            owners.extend(heads.iter().map(|head| head.owner));
            asked.extend(asks.iter().copied());
        }
        (owners, asked)
    }

    #[test]
    fn comparisons_that_follow_each_other_tell_of_all_owners_and_ask_for_what_is_told_whole() {
        let mut cluster = knows(600);
        let all: BTreeSet<NodeId> = (1..=600).map(NodeId).collect();
        let mut told = BTreeSet::new();
        for _ in 0..60 {
            let (owners, asked) = answer(&mut cluster, 32);
            assert!(!asked.is_empty() && asked.len() < 32);
            let buckets = cluster.catalogue.digest();
            let in_asked =
                all.iter().filter(|owner| asked.contains(&u16::from(buckets.bucket(**owner) % 32)));
            assert_eq!(in_asked.copied().collect::<BTreeSet<_>>(), owners);
            told.extend(owners);
        }
        assert_eq!(told, all);
    }

    #[test]
    fn a_bucket_too_large_for_a_datagram_is_told_in_parts_and_not_asked_for() {
        let mut cluster = knows(100);
        let mut told = BTreeSet::new();
        for _ in 0..60 {
            let (owners, asked) = answer(&mut cluster, 1);
            assert_eq!((owners.len(), asked.len()), (HEADS_MAX, 0));
            told.extend(owners);
        }
        assert_eq!(told.len(), 100);
    }

    #[test]
    fn a_node_that_has_nothing_asks_for_everything() {
        let (owners, asked) = answer(&mut knows(0), 32);
        assert_eq!((owners.len(), asked.len()), (0, 32));
    }
}
