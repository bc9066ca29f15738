//! What datagrams mean: rumours, digests, pulls, goodbyes and wishes.

use std::net::SocketAddr;

use grapevine_protocol::Moment;

use super::batch::{Batch, Part, Room, delta_bytes_max};
use super::{Cluster, ClusterEvent};
use crate::NodeId;
use crate::codec::{Worth, decode_datagram, decode_deltas, has_deltas};
use crate::envelope::{HEADER_BYTES, OpenError, Sender};
use crate::identity::{Identity, is_epoch_jump};
use crate::message::{
    DATAGRAM_BYTES_MAX, DELTA_OPS_MAX, Head, KIND_MESSAGE, KIND_MESSAGE_SWIM, KIND_SWIM,
    KIND_SWIM_SHORT, Message, OwnedDelta, message_and_swim,
};
use crate::section::{Applied, Delta, Snapshot};
use crate::spread::{FANOUT, Told};

/// A difference of more writes than this goes by stream: about four datagrams.
const DATAGRAM_OPS_MAX: usize = 4 * DELTA_OPS_MAX;

/// Bytes of a datagram that are not its body, for the budget: IP, UDP, envelope and seal.
const DATAGRAM_OVERHEAD: usize = 28 + HEADER_BYTES + 16;

impl Cluster {
    pub(super) fn handle_datagram(&mut self, now: Moment, from: SocketAddr, bytes: &[u8]) {
        if self.is_stopped {
            return;
        }
        self.datagrams_in += 1;
        // X12, class "trusts what it reads".
        if mutant!(X12) {
            let _kind = bytes[HEADER_BYTES];
        }
        if bytes.len() > DATAGRAM_BYTES_MAX {
            return self.count("dropped_too_large");
        }
        let (sender, body) = match self.seal.open(bytes) {
            Ok(opened) => opened,
            Err(error) => return self.refuse_envelope(error),
        };
        let is_member = self.membership.active().contains_key(&sender.node);
        if !is_member && !self.strangers.hears(from, now) {
            sometimes!("flood_refused");
            return self.count("dropped_flood");
        }
        match body.split_first() {
            Some((&KIND_MESSAGE, body)) => self.handle_body(now, from, sender, body),
            Some((&KIND_MESSAGE_SWIM, _)) => {
                let Some((message, swim)) = message_and_swim(body) else {
                    return self.count("dropped_malformed");
                };
                self.handle_short_swim(now, from, sender, swim);
                // Whoever is only now a member by what it claims is not told much in return.
                if is_member {
                    self.handle_body(now, from, sender, message);
                }
            }
            Some((&KIND_SWIM_SHORT, swim)) => {
                self.is_others_due_known = true;
                self.handle_short_swim(now, from, sender, swim);
            }
            Some((&KIND_SWIM, swim)) => {
                if let Err(reason) = self.membership.handle_swim(now, from, swim) {
                    self.refuse_swim(now, sender, reason);
                }
            }
            Some(_) | None => self.count("dropped_malformed"),
        }
    }

    fn handle_short_swim(&mut self, now: Moment, from: SocketAddr, sender: Sender, swim: &[u8]) {
        let of = (sender.node, sender.epoch);
        if let Err(reason) = self.membership.handle_short_swim(now, from, of, swim) {
            self.refuse_swim(now, sender, reason);
        }
    }

    /// A packet of the failure detector was refused.
    #[cold]
    fn refuse_swim(&mut self, now: Moment, sender: Sender, reason: &'static str) {
        self.is_others_due_known = false;
        self.count("dropped_swim");
        self.count(reason);
        let peer = self.membership.active().get(&sender.node).copied();
        // Renewing did not help: another life of this node may be preferred to it, which is told
        // by stream. Others are not to be suspected until then because they do not answer.
        if reason == "dropped_turn_undead"
            && let Some(peer) = peer
        {
            self.views_differ(now, peer);
        }
    }

    fn handle_body(&mut self, now: Moment, from: SocketAddr, sender: Sender, body: &[u8]) {
        let peer = self.membership.active().get(&sender.node).copied();
        if let Some(peer) = peer.filter(|peer| peer.epoch == sender.epoch)
            && self.is_own_digest(body)
        {
            return self.digest_is_equal(now, peer);
        }
        let message = match self.decode_message(body) {
            Ok(message) => message,
            Err(reason) => return self.count(reason),
        };
        // Answers go to the address membership knows, never to what a packet claims.
        match peer {
            Some(peer) if peer.epoch == sender.epoch => self.handle_message(now, peer, message),
            // N16, class "reflector"; the other half is in `handle_swim` of the membership.
            None if mutant!(N16) => {
                let Sender { node, epoch, .. } = sender;
                let stranger = Identity { addr: from.into(), node, epoch, renew: 0 };
                self.handle_message(now, stranger, message);
            }
            Some(_) | None => {
                self.count("dropped_not_a_member");
                sometimes!("stranger_refused");
            }
        }
    }

    /// A message, without the writes of deltas that bring nothing new. The error is the name of a
    /// counter.
    fn decode_message(&self, body: &[u8]) -> Result<Message, &'static str> {
        if has_deltas(body) {
            let worth = |owner, epoch, to| self.worth(owner, epoch, to);
            let deltas = decode_deltas(body, worth).map_err(|_| "dropped_malformed")?;
            return deltas.map(Message::Deltas).ok_or("dropped_too_many");
        }
        let message: Message = decode_datagram(body).map_err(|_| "dropped_malformed")?;
        message.is_bounded().then_some(message).ok_or("dropped_too_many")
    }

    /// What a delta of `owner` that goes to version `to` of `epoch` is worth here.
    fn worth(&self, owner: NodeId, epoch: u64, to: u64) -> Worth {
        // They look at what is no news.
        if mutant!(M09) || mutant!(M14) || mutant!(N05) {
            return Worth::All;
        }
        let known = self.membership.active().get(&owner).map(|id| id.epoch);
        let head = self.head_of(owner);
        match known {
            Some(known) if epoch >= known && head < (epoch, to) => Worth::All,
            Some(known) if epoch >= known && head.0 == epoch && !mutant!(N01) => Worth::Nothing,
            Some(_) | None => Worth::Head,
        }
    }

    #[cold]
    fn refuse_envelope(&mut self, error: OpenError) {
        match error {
            OpenError::Truncated => self.count("dropped_truncated"),
            OpenError::Version => {
                sometimes!("wire_version_refused");
                self.count("dropped_wire_version");
            }
            OpenError::Key => self.count("dropped_unknown_key"),
            OpenError::Cluster => {
                sometimes!("other_cluster_refused");
                self.count("dropped_other_cluster");
            }
            OpenError::Damaged => {
                sometimes!("damage_refused");
                self.count("dropped_damaged");
            }
        }
    }

    fn handle_message(&mut self, now: Moment, peer: Identity, message: Message) {
        match message {
            Message::Deltas(deltas) => {
                for owned in deltas {
                    self.take_delta(now, peer.node, &owned, true);
                }
            }
            Message::Heads { heads, bucket_count, asks } => {
                self.compare_heads(now, peer, &heads, usize::from(bucket_count), &asks);
            }
            Message::Pull(asks) => {
                let wanted: Vec<_> = asks.iter().map(|a| (a.owner, a.epoch, a.have)).collect();
                self.offer(now, peer.addr.socket(), &wanted);
                if buggify!("pull_answered_twice", self.boot.seed, now.0) {
                    self.offer(now, peer.addr.socket(), &wanted);
                }
            }
            Message::Digest { view, buckets } => {
                let (values, _) = buckets.as_chunks::<4>();
                let values: Vec<u32> = values.iter().map(|&it| u32::from_le_bytes(it)).collect();
                self.compare_digest(now, peer, view, &values);
            }
            Message::Leave(identity) => {
                if identity.node == peer.node {
                    self.learn_left(now, identity.node, identity.epoch);
                }
            }
            Message::Wish(wish) => {
                let before = self.catalogue.own().ver;
                if self.catalogue.fulfil(&wish, now) {
                    sometimes!("wish_carried_out");
                }
                self.own_changed(before, now);
            }
        }
    }

    /// Applies a delta about somebody else; `passes_on`: others may lack it too.
    pub(super) fn take_delta(
        &mut self,
        now: Moment,
        peer: NodeId,
        owned: &OwnedDelta,
        passes_on: bool,
    ) {
        let OwnedDelta { owner, delta } = owned;
        if !self.accepts(now, *owner, delta.epoch, delta.to) {
            return;
        }
        let before = self.head_of(*owner);
        // Most are no news. N01 and M14 look at those.
        let is_known = before.0 == delta.epoch && before.1 >= delta.to;
        if is_known && !mutant!(N01) && !mutant!(M14) {
            return;
        }
        match self.catalogue.apply_delta(*owner, delta) {
            Applied::Stale if delta.epoch < before.0 => {
                sometimes!("stale_epoch_dropped");
                self.count("stale_epoch_dropped");
            }
            // N01, class "broadcast storm".
            Applied::Stale if mutant!(N01) && before == (delta.epoch, delta.to) => {
                let at = now + self.boot.timings.spread_delay;
                self.spread.add(*owner, delta.from, Some(peer), at);
            }
            Applied::Stale => {}
            Applied::Gap { .. } => {
                self.count("gap");
                sometimes!("gap");
                self.pull(now, peer, *owner, delta.epoch, delta.to, false);
            }
            Applied::Invalid => self.count("dropped_invalid_delta"),
            Applied::Changed(_) => self.advanced(now, peer, *owner, before, passes_on),
        }
    }

    /// Applies a whole section of somebody else.
    pub(super) fn take_snapshot(
        &mut self,
        now: Moment,
        peer: NodeId,
        owner: NodeId,
        snapshot: &Snapshot,
        passes_on: bool,
    ) {
        if !self.accepts(now, owner, snapshot.epoch, snapshot.ver) {
            return;
        }
        let before = self.head_of(owner);
        match self.catalogue.apply_snapshot(owner, snapshot) {
            Applied::Stale | Applied::Gap { .. } => {}
            Applied::Invalid => self.count("dropped_invalid_snapshot"),
            Applied::Changed(_) => {
                self.count("snapshot_applied");
                sometimes!("snapshot_applied");
                if snapshot.epoch == before.0 {
                    sometimes!("snapshot_merged");
                }
                self.advanced(now, peer, owner, before, passes_on);
            }
        }
    }

    /// The copy of `owner`'s section went on from `before`.
    fn advanced(
        &mut self,
        now: Moment,
        peer: NodeId,
        owner: NodeId,
        before: (u64, u64),
        passes_on: bool,
    ) {
        let (epoch, ver) = self.head_of(owner);
        if passes_on {
            let from = if before.0 == epoch { before.1 } else { 0 };
            self.spread.add(owner, from, Some(peer), now + self.boot.timings.spread_delay);
        }
        if let Some(pull) = self.pulls.get(&owner) {
            if peer != owner && pull.was_retried() {
                sometimes!("pull_answered_by_another");
            }
            if (epoch, ver) >= (pull.epoch, pull.wanted) {
                self.pulls.remove(&owner);
            } else if !pull.by_stream {
                let (epoch, wanted) = (pull.epoch, pull.wanted);
                self.pulls.remove(&owner);
                self.pull(now, peer, owner, epoch, wanted, false);
            }
        }
    }

    /// Whether news about `owner` counts: it is an active member in this epoch or was in an
    /// earlier one. News about this node itself never does.
    pub(super) fn accepts(&mut self, now: Moment, owner: NodeId, epoch: u64, ver: u64) -> bool {
        if owner == self.boot.node {
            self.check_twin(now, epoch, ver);
            return false;
        }
        let known = self.membership.active().get(&owner).map(|id| id.epoch);
        let mut is_accepted =
            known.is_some_and(|known| epoch >= known && !is_epoch_jump(epoch, known));
        // N05, class "ghost", and the door for M09.
        is_accepted |= (mutant!(N05) && known.is_none()) || (mutant!(M09) && known.is_some());
        if !is_accepted {
            self.count("ignored_owner_not_active");
            sometimes!("owner_not_active_ignored");
        }
        is_accepted
    }

    /// Epoch and version of `owner`'s section here; zeros if there is none.
    pub(super) fn head_of(&self, owner: NodeId) -> (u64, u64) {
        self.catalogue.section(owner).map_or((0, 0), |section| (section.epoch, section.ver))
    }

    /// Sends what comes after `(epoch, have)` of each owner, as far as datagrams are fit for it,
    /// else the head, so that the receiver asks by stream.
    pub(super) fn offer(&mut self, now: Moment, to: SocketAddr, wanted: &[(NodeId, u64, u64)]) {
        let mut parts = Vec::new();
        let bytes_max = self.delta_bytes_max(now);
        for &(owner, epoch, have) in wanted {
            let serves = owner == self.boot.node || self.membership.active().contains_key(&owner);
            let Some(section) = self.catalogue.section(owner).filter(|_| serves) else { continue };
            let have = if section.epoch == epoch { have } else { 0 };
            if section.epoch < epoch || section.ver <= have {
                continue;
            }
            // N12, class "mixed up answers".
            let other = wanted.iter().map(|&(.., have)| have).max();
            let begin = other.filter(|_| mutant!(N12)).unwrap_or(have).min(section.ver);
            let head = Head { owner, epoch: section.epoch, ver: section.ver, by_stream: true };
            let delta = Part::since((owner, section), begin, bytes_max, |delta| {
                let is_little = section.ops_since(have, DATAGRAM_OPS_MAX + 1) <= DATAGRAM_OPS_MAX;
                is_little.then_some(Delta { from: have, ..delta })
            });
            parts.push((delta, Part::Head(head)));
        }
        let mut batch = Batch::default();
        for (delta, head) in &parts {
            if !delta.as_ref().is_some_and(|part| batch.adds(part)) {
                batch.adds(head);
            }
        }
        for body in batch.bodies() {
            self.send_body(to, KIND_MESSAGE, &body);
        }
    }

    /// `node` left in `epoch`: nothing of it stays, and it is not asked again.
    pub(super) fn learn_left(&mut self, now: Moment, node: NodeId, epoch: u64) {
        // Whoever has left for ever in an epoch that nobody reaches could never come back.
        let known = self.membership.active().get(&node).map_or(0, |id| id.epoch);
        if is_epoch_jump(epoch, known) {
            sometimes!("epoch_jump_refused");
            return self.count("dropped_epoch_jump");
        }
        if self.membership.mark_left(now, node, epoch) {
            if self.membership.active().get(&node).is_none_or(|id| id.epoch <= epoch) {
                self.catalogue.forget(node);
            }
            self.event(ClusterEvent::MemberLeft(node));
        }
    }

    /// Bytes of writes in one datagram now.
    fn delta_bytes_max(&self, now: Moment) -> usize {
        let is_small = buggify!("small_deltas", self.boot.seed, now.0);
        delta_bytes_max() / if is_small { 10 } else { 1 }
    }

    /// One round of rumours.
    #[inline(never)]
    pub(super) fn spread_round(&mut self, now: Moment) {
        let listeners = self.some_members(FANOUT);
        if listeners.is_empty() || self.membership.has_left() {
            return self.spread.clear();
        }
        let members = self.membership.active().len() + 1;
        let members = self.members_to_tell(now, members);
        let parts = self.parts(now, self.spread.round(members));
        for (at, listener) in listeners.iter().enumerate() {
            // A rumour that is nearly over is not for all of them, nor for who has it already.
            let is_for = |told: &Told| told.listeners > at && !told.is_known_to(listener.node);
            let mut batch = Batch::default();
            for part in
                parts.iter().filter_map(|(told, part)| part.as_ref().filter(|_| is_for(told)))
            {
                batch.adds(part);
            }
            let bodies = batch.bodies();
            if buggify!("rumour_not_told", self.boot.seed, now.0, listener.node.0) {
                continue;
            }
            let bytes = bodies.iter().map(|body| body.len() + DATAGRAM_OVERHEAD).sum();
            if self.spread.spend(bytes, now) {
                for body in &bodies {
                    self.send_body(listener.addr.socket(), KIND_MESSAGE, body);
                }
            } else {
                sometimes!("budget_exhausted");
            }
        }
        let told: Vec<Told> = parts.iter().map(|&(told, _)| told).collect();
        self.spread.sent(&told, members, now, self.boot.timings.spread_period);
    }

    /// What is told by each rumour, of as many as fit into a round; the others have their turn in
    /// the next. Nothing, if its section does not go further.
    fn parts(&self, now: Moment, rumours: Vec<Told>) -> Vec<(Told, Option<Part>)> {
        let bytes_max = self.delta_bytes_max(now);
        let mut all = Room::default();
        let mut parts = Vec::with_capacity(rumours.len());
        for told in rumours {
            if all.is_full() {
                break;
            }
            let part = self.part(told, bytes_max);
            if let Some(part) = &part {
                all.takes(part);
            }
            parts.push((told, part));
        }
        parts
    }

    fn part(&self, told: Told, bytes_max: usize) -> Option<Part> {
        let section = self.catalogue.section(told.owner)?;
        if section.ver <= told.from {
            return None;
        }
        let rest = Part::since((told.owner, section), told.from, bytes_max, |delta| {
            (delta.to == section.ver).then_some(delta)
        });
        Some(rest.unwrap_or_else(|| {
            sometimes!("rumour_by_head");
            let by_stream = section.ops_since(told.from, DATAGRAM_OPS_MAX + 1) > DATAGRAM_OPS_MAX;
            let (epoch, ver) = (section.epoch, section.ver);
            Part::Head(Head { owner: told.owner, epoch, ver, by_stream })
        }))
    }
}
