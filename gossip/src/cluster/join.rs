//! Finding the cluster: seeds, members of an earlier life, and epochs that are taken.

use std::net::SocketAddr;
use std::time::Duration;

use grapevine_protocol::Moment;
use rand::RngExt;

use super::{Boot, Cluster, ClusterEvent, Output};
use crate::NodeId;
use crate::identity::{Identity, is_epoch_jump};
use crate::message::{Message, Purpose};

/// Most addresses one seed name may stand for.
const SEED_ADDRS_MAX: usize = 64;

/// A greater epoch is greater by up to this, at random: whoever names the floor may not know the
/// highest epoch a lost disk had, and one that was used must not be used again. It is 17 minutes
/// where epochs are milliseconds.
const EPOCH_STEP_MAX: u64 = 1 << 20;

/// Nobody is believed who says that this node has a greater epoch than this: it could take a
/// greater one only so often before there is none.
const OWN_EPOCH_MAX: u64 = 1 << 62;

/// Sightings of the own node id elsewhere, within [`CONFLICTS_PERIOD`], before gossip stops.
const CONFLICTS_MAX: usize = 3;

/// Sightings longer ago than this do not count.
const CONFLICTS_PERIOD: Duration = Duration::from_secs(60);

/// Names that take longer than this to be looked up do not hold up the others of their round.
const RESOLVE_PATIENCE: Duration = Duration::from_millis(500);

/// Whoever has not let this node in for this long is not waited for: the next address is tried
/// beside it, as RFC 8305 does. On a LAN an exchange takes some ms.
const CALL_PATIENCE: Duration = Duration::from_millis(500);

/// Most addresses that are tried at once; others are left for what streams are for besides.
const CALLS_MAX: usize = 6;

/// Longest pause between rounds while nobody has been found yet, or nobody is left.
const UNSYNCED_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Rounds of asking seeds, for ever: until somebody answers, then for seeds that are not members.
#[derive(Debug)]
pub(super) struct Join {
    next_round: Option<Moment>,
    /// Seeds whose names are being looked up in this round.
    resolving: usize,
    /// Addresses of names that were looked up and are not candidates yet.
    named: Vec<SocketAddr>,
    /// Addresses to be tried, the last one first.
    candidates: Vec<SocketAddr>,
    /// When to go on although names are still being looked up, or calls not answered.
    next_call: Option<Moment>,
    /// Candidates of this round are being tried.
    is_calling: bool,
    had_candidates: bool,
    /// Whether some of them were not members.
    had_strangers: bool,
    peers: Vec<SocketAddr>,
    pause: Duration,
    pub(super) is_synced: bool,
    /// Addresses that turned out to lead back to this node.
    pub(super) own_addrs: Vec<SocketAddr>,
    /// An epoch that is being made durable.
    epoch_pending: Option<u64>,
    /// Who answers at the address that this node gives as its own.
    address_rival: Option<Identity>,
}

impl Join {
    pub(super) fn new(boot: &Boot) -> Self {
        Self {
            next_round: None,
            resolving: 0,
            named: Vec::new(),
            candidates: Vec::new(),
            next_call: None,
            is_calling: false,
            had_candidates: false,
            had_strangers: false,
            peers: boot.peers.clone(),
            pause: boot.timings.join_backoff.0,
            is_synced: false,
            own_addrs: vec![boot.addr],
            epoch_pending: None,
            address_rival: None,
        }
    }

    pub(super) fn next_wake(&self) -> Option<Moment> {
        self.next_round.into_iter().chain(self.next_call).min()
    }
}

impl Cluster {
    /// Starts a round: names are looked up, then one address after the other is tried, seeds before
    /// members of an earlier life: after a full restart elsewhere none of those may be there.
    pub(super) fn begin_join(&mut self, now: Moment) {
        if self.boot.seeds == 0 && self.join.peers.is_empty() {
            return self.synced();
        }
        if self.join.next_round.take().is_some() && !self.join.is_synced {
            sometimes!("join_retried");
        }
        self.join.candidates = self.join.peers.clone();
        self.join.named.clear();
        self.join.is_calling = false;
        (self.join.had_candidates, self.join.had_strangers) = (false, false);
        self.join.resolving = self.boot.seeds;
        self.join.next_call = Some(now + RESOLVE_PATIENCE);
        for seed in 0..self.boot.seeds {
            self.outputs.push_back(Output::Resolve(seed));
        }
        if self.boot.seeds == 0 {
            self.try_seeds(now);
        }
    }

    pub(super) fn join_if_due(&mut self, now: Moment) {
        if self.join.next_round.is_some_and(|at| at <= now) && !self.membership.has_left() {
            let is_alone = self.membership.active().is_empty();
            let is_planted = (mutant!(M01) && is_alone) || (mutant!(X13) && !is_alone);
            if is_planted && self.join.is_synced {
                self.join.next_round = Some(now + self.boot.timings.seed_period);
                return;
            }
            return self.begin_join(now);
        }
        if self.join.next_call.is_some_and(|at| at <= now) && !self.membership.has_left() {
            self.join.next_call = None;
            if !self.join.is_calling {
                self.try_seeds(now);
            } else if !self.join.is_synced && self.joins_open() < CALLS_MAX {
                sometimes!("call_not_waited_for");
                self.try_next_seed(now);
            }
        }
    }

    /// A node that has lost everybody asks its seeds as often as one that has found nobody yet: one
    /// that left, and came back when all it remembered were down, is found in no other way.
    pub(super) fn hurry_if_alone(&mut self, now: Moment) {
        if self.join.had_candidates && self.membership.active().is_empty() {
            let soon = now + UNSYNCED_PAUSE_MAX;
            self.join.next_round = self.join.next_round.map(|at| at.min(soon));
        }
    }

    pub(super) fn resolved(&mut self, now: Moment, seed: usize, addrs: Vec<SocketAddr>) {
        if seed >= self.boot.seeds || self.join.resolving == 0 {
            return;
        }
        self.join.named.extend(addrs.into_iter().take(SEED_ADDRS_MAX));
        self.join.resolving -= 1;
        if self.join.resolving == 0 || self.join.is_calling {
            self.try_seeds(now);
        }
    }

    /// The names of the round are known, or those that are do not wait for the others.
    fn try_seeds(&mut self, now: Moment) {
        self.join.is_calling = true;
        let mut named = std::mem::take(&mut self.join.named);
        let mut candidates = std::mem::take(&mut self.join.candidates);
        candidates.retain(|addr| !named.contains(addr));
        for addrs in [&mut candidates, &mut named] {
            addrs.sort_unstable();
            addrs.dedup();
            addrs.retain(|addr| !self.join.own_addrs.contains(addr));
            self.join.had_candidates |= !addrs.is_empty();
            let active = self.membership.active();
            addrs.retain(|addr| active.values().all(|id| id.addr.socket() != *addr));
            self.join.had_strangers |= !addrs.is_empty();
            for at in (1..addrs.len()).rev() {
                let other = self.rng.random_range(0..=at);
                addrs.swap(at, other);
            }
        }
        candidates.extend(named);
        self.join.candidates = candidates;
        self.try_next_seed(now);
    }

    /// Whoever was asked did not let this node in: unless it takes a greater epoch and begins anew,
    /// the next one is asked.
    pub(super) fn try_seed_after_refusal(&mut self, now: Moment) {
        if self.join.epoch_pending.is_none() {
            self.try_next_seed(now);
        }
    }

    /// Tries the next address, or ends the round.
    pub(super) fn try_next_seed(&mut self, now: Moment) {
        if let Some(addr) = self.join.candidates.pop() {
            let are_left = !self.join.candidates.is_empty();
            self.join.next_call = are_left.then(|| now + CALL_PATIENCE);
            return self.open_exchange(now, addr, Purpose::Join);
        }
        self.join.next_call = None;
        if self.join.resolving > 0 || self.joins_open() > 0 {
            return;
        }
        if !self.join.had_candidates {
            // Every seed is this node itself: it is the first of its cluster.
            sometimes!("join_alone");
            self.synced();
        }
        if self.boot.seeds == 0 {
            // No member of an earlier life is there: this node is alone, and goes on looking.
            self.synced();
        }
        let timings = &self.boot.timings;
        let longest = match (self.join.is_synced, self.join.had_strangers) {
            (false, _) => timings.join_backoff.1.min(UNSYNCED_PAUSE_MAX),
            // A seed that is not a member may belong to another half of a cluster that started
            // in two places: asked soon, then ever more rarely.
            (true, true) => timings.seed_period,
            (true, false) => {
                self.join.pause = timings.seed_period;
                timings.seed_period
            }
        };
        let pause = self.join.pause;
        self.join.pause = (pause * 2).min(longest);
        let jitter = self.rng.random_range(0.75..1.25);
        self.join.next_round = Some(now + pause.mul_f64(jitter));
    }

    /// Whoever listens at `to` let this node in.
    pub(super) fn joined_through(&mut self, now: Moment, to: SocketAddr) {
        if !self.join.is_synced && self.join.peers.contains(&to) {
            sometimes!("join_by_peer");
        } else if !self.join.is_synced {
            sometimes!("join_by_seed");
        }
        self.joined(now);
    }

    /// Somebody answered with everything it knows.
    pub(super) fn joined(&mut self, now: Moment) {
        self.exchanged_at = Some(now);
        self.join.candidates.clear();
        self.join.next_call = None;
        if !self.join.is_synced {
            self.join.pause = self.boot.timings.join_backoff.0;
            self.grow_young(now);
        }
        if self.boot.seeds > 0 && self.join.resolving == 0 {
            let next = now + self.join.pause;
            self.join.next_round = Some(self.join.next_round.map_or(next, |at| at.min(next)));
        }
        self.synced();
    }

    fn synced(&mut self) {
        if !std::mem::replace(&mut self.join.is_synced, true) {
            self.event(ClusterEvent::Synced);
        }
    }

    /// Whoever was asked to compare prefers another life of this node, which has `epoch`. On
    /// joining that is a disk that was lost; later it is somebody who was not there before.
    pub(super) fn epoch_taken(&mut self, now: Moment, epoch: u64) {
        if !self.join.is_synced {
            self.take_greater_epoch(now, epoch);
        } else if epoch >= self.membership.me().epoch {
            self.own_id_elsewhere(now, epoch);
        }
    }

    /// Another life of this node, or of its address, has `epoch`: take a greater one.
    pub(super) fn take_greater_epoch(&mut self, now: Moment, epoch: u64) {
        if epoch > OWN_EPOCH_MAX || is_epoch_jump(epoch, self.membership.me().epoch) {
            sometimes!("epoch_jump_refused");
            return self.count("dropped_epoch_jump");
        }
        // M07, class "exile"; the other half is in `next_epoch`.
        if mutant!(M07) {
            return;
        }
        self.call_own_address(now);
        let floor = epoch.max(self.membership.me().epoch);
        if self.join.epoch_pending.is_none_or(|pending| pending <= floor) {
            let epoch = floor.saturating_add(self.rng.random_range(1..=EPOCH_STEP_MAX));
            self.join.epoch_pending = Some(epoch);
            self.outputs.push_back(Output::Persist(epoch));
        }
    }

    /// The epoch is on the disk, so it may be shown.
    pub(super) fn epoch_persisted(&mut self, now: Moment, epoch: u64) {
        if self.join.epoch_pending.is_none_or(|pending| pending != epoch) {
            return;
        }
        sometimes!("epoch_bumped");
        self.join.epoch_pending = None;
        let me = self.membership.me();
        let identity = Identity { epoch, renew: 0, ..me };
        self.membership.change_identity(now, identity);
        self.catalogue.set_own_epoch(epoch);
        self.spread.add(self.boot.node, 0, None, now);
        if self.boot.seeds > 0 || !self.join.peers.is_empty() {
            self.join.next_round = Some(now);
        }
    }

    /// Somebody spoke of this node in an epoch or version it has not written.
    pub(super) fn check_twin(&mut self, now: Moment, epoch: u64, ver: u64) {
        let own = self.catalogue.own();
        if (epoch, ver) > (own.epoch, own.ver) {
            self.own_id_elsewhere(now, epoch);
        }
    }

    /// Somebody else has this node's id, and `epoch`, which is not below this node's own. Once or
    /// twice that is a life of this node that it has forgotten: it takes a greater epoch. If it
    /// goes on, somebody else does the same: a twin. Then this node says that it leaves, so that
    /// the other is alone, and stops.
    #[cold]
    pub(super) fn own_id_elsewhere(&mut self, now: Moment, epoch: u64) {
        if self.join.epoch_pending.is_some() || self.is_stopped || self.membership.has_left() {
            return;
        }
        // Nobody has come to such an epoch by starting: somebody made it up.
        if is_epoch_jump(epoch, self.membership.me().epoch) {
            sometimes!("epoch_jump_refused");
            return self.count("dropped_epoch_jump");
        }
        self.count("own_id_elsewhere");
        sometimes!("own_id_elsewhere");
        self.conflicts.retain(|&at| now.since(at) < CONFLICTS_PERIOD);
        self.conflicts.push(now);
        if self.conflicts.len() < CONFLICTS_MAX {
            return self.take_greater_epoch(now, epoch);
        }
        self.stop_as_rival(now);
    }

    /// Others hold somebody else at this node's address, or another life of it: is it this node
    /// that is reached there?
    fn call_own_address(&mut self, now: Moment) {
        self.open_exchange(now, self.boot.addr, Purpose::Sync);
    }

    /// Somebody else answers at the address that this node gives as its own, which was configured
    /// wrongly. It says that it leaves, so that whoever is there is left in peace, and stops.
    pub(super) fn own_address_elsewhere(&mut self, now: Moment, rival: Identity) {
        self.join.address_rival = Some(rival);
        self.stop_as_rival(now);
    }

    /// Who answers at the address that this node gives as its own, if it stopped because of that.
    pub fn address_rival(&self) -> Option<Identity> {
        self.join.address_rival
    }

    fn stop_as_rival(&mut self, now: Moment) {
        let me = self.membership.me();
        let members: Vec<Identity> = self.membership.active().values().copied().collect();
        for member in members {
            self.send(member.addr.socket(), &Message::Leave(me));
        }
        sometimes!("twin_detected");
        self.is_stopped = true;
        // What it knows of others is never brought up to date again: it answers for itself only.
        let owners: Vec<NodeId> = self.membership.active().keys().copied().collect();
        for owner in owners {
            self.catalogue.member_down(owner, now);
        }
        self.event(ClusterEvent::NodeIdConflict);
    }
}
