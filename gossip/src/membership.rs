//! Who is alive: foca, and the four things it lacks.
//!
//! - A suspicion that was refuted in time must not expel its member: stale timers are dropped
//!   (foca 2.0.0 sends `TurnUndead` to the live member instead).
//! - After a renewal of its own identity foca stays disconnected until a packet comes; an empty
//!   update at each tick brings it back.
//! - Members that are down are asked again by stream, whatever state foca is in (see `cluster`).
//! - Membership travels whole by stream on joining and whenever two views differ, so that no
//!   single lost packet matters. foca's own announcements are not used and not answered: its
//!   answer is forty times as large as the question and goes wherever the question says.
//! - A packet whose sender nobody has vouched for is answered with no more bytes than it had (see
//!   `guard`).

mod changes;
mod effects;
mod fitting;
mod foca_config;
mod guard;
mod heard;
mod packets;
mod sends;

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use foca::{Foca, Member, NoCustomBroadcast, Runtime, State, Timer};
use grapevine_protocol::Moment;
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::NodeId;
use crate::config::Timings;
use crate::identity::Identity;
use crate::keyed::hash_words;
use crate::message::MemberState;
use crate::node_map::NodeMap;

use changes::{Known, STATES_FEW};
use effects::{Effects, refused};
use fitting::Fitting;
use foca_config::foca_config;
use heard::Heard;

pub use sends::{Packet, Packets};

/// Most members known at once, those that are down included.
pub const MEMBERS_MAX: usize = 10_000;

/// Most rumours about members that news by stream may make the line of them. Each is sent eight
/// times, some thirty in a packet, three packets in each tenth of a second: so many take a second.
const RUMOURS_MAX: usize = 96;

/// Renewals of the own identity allowed in a minute; more would be a quarrel, not a mistake.
const RENEWALS_PER_MINUTE_MAX: usize = 6;

/// A change that matters to the catalogue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// The member is active, in this epoch.
    Up(Identity),
    /// The member is down.
    Down(Identity),
    /// Another node took the member's address: it will not come back as it was.
    Replaced(Identity),
    /// Somebody else has this node's id, and did not start before this node: a life of it that it
    /// has forgotten, or a twin.
    Twin(Identity),
}

/// The members of the cluster as this node sees them.
pub struct Membership {
    foca: Foca<Identity, Fitting, Xoshiro256PlusPlus, NoCustomBroadcast>,
    effects: Effects,
    /// Active members by node, this one not among them.
    active: NodeMap<Identity>,
    /// Their hashes, one XOR the other.
    active_hash: u64,
    /// When they may have changed last.
    changed_at: Moment,
    /// Who left, and in which epoch.
    left: BTreeMap<NodeId, u64>,
    changes: Vec<Change>,
    heard: Heard,
    /// foca's gossip timer while it has no rumours; an idle node need not wake ten times a second.
    parked_gossip: Option<Timer<Identity>>,
    spread_delay: Duration,
    renewals: VecDeque<Moment>,
    has_left: bool,
    hash_key: u64,
    /// [`view_hash`](Self::view_hash), until something changes.
    view_hash: Cell<Option<u64>>,
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership").field("active", &self.active).finish_non_exhaustive()
    }
}

impl Membership {
    /// This node alone.
    pub fn new(me: Identity, timings: &Timings, hash_key: u64, rng: Xoshiro256PlusPlus) -> Self {
        Self {
            foca: Foca::new(me, foca_config(timings), rng, Fitting),
            effects: Effects::default(),
            active: NodeMap::default(),
            active_hash: 0,
            changed_at: Moment(0),
            left: BTreeMap::new(),
            changes: Vec::new(),
            heard: Heard::default(),
            parked_gossip: None,
            spread_delay: timings.spread_delay,
            renewals: VecDeque::new(),
            has_left: false,
            hash_key,
            view_hash: Cell::new(None),
        }
    }

    /// This node's identity.
    #[inline]
    pub fn me(&self) -> Identity {
        *self.foca.identity()
    }

    /// Active members other than this node, by node.
    #[inline]
    pub fn active(&self) -> &NodeMap<Identity> {
        &self.active
    }

    /// When the active members may have changed last.
    pub fn changed_at(&self) -> Moment {
        self.changed_at
    }

    /// Whether this node has left; it no longer takes part.
    pub fn has_left(&self) -> bool {
        self.has_left
    }

    /// Who left, and in which epoch.
    #[inline]
    pub fn left(&self) -> &BTreeMap<NodeId, u64> {
        &self.left
    }

    /// Fires every timer that is due.
    pub fn handle_due(&mut self, now: Moment) {
        self.effects.advance(now);
        while let Some(timer) = self.effects.next_due() {
            if self.has_left {
                continue;
            }
            if self.is_stale(&timer) {
                sometimes!("stale_timer_dropped");
                continue;
            }
            if matches!(timer, Timer::PeriodicGossip(_)) && self.foca.updates_backlog() == 0 {
                self.parked_gossip = Some(timer);
                continue;
            }
            if let Err(error) = self.foca.handle_timer(timer, &mut self.effects) {
                refused(&error, "failure detector timer");
            }
        }
        while let Some(dead) = self.effects.next_burial() {
            self.heard.clear();
            let members = self.foca.iter_membership_state().map(Member::id);
            let identity = members.copied().find(|id| effects::grave(id) == dead);
            let Some(identity) = identity else { continue };
            let timer = Timer::RemoveDown(identity);
            if let Err(error) = self.foca.handle_timer(timer, &mut self.effects) {
                refused(&error, "failure detector timer");
            }
        }
        self.settle();
    }

    /// Once a second: brings foca back if it is disconnected although it knows active members.
    pub fn tick(&mut self, now: Moment) {
        // M02, class "inert after a renewal"; here and in `settle`.
        if !mutant!(M02) && !self.has_left {
            self.effects.advance(now);
            self.reconnect_foca();
            self.settle();
        }
        while self.renewals.front().is_some_and(|&at| now.since(at) > Duration::from_secs(60)) {
            self.renewals.pop_front();
        }
    }

    /// Applies what another node knows. News of a death is believed only about an address that
    /// is known here, so that the dead are not taught to those who never met them; and not about
    /// members that are alive here if it comes from beyond a partition.
    pub fn apply(&mut self, now: Moment, states: &[MemberState], broadcast: bool) {
        self.effects.advance(now);
        if self.has_left {
            return;
        }
        let mut room = MEMBERS_MAX.saturating_sub(self.known_count());
        let me = self.me();
        let was_cut_off = self.was_cut_off(states);
        let states = self.may_be_news(states);
        let known = Known::new(self.foca.iter_membership_state(), &states);
        let updates: Vec<Member<Identity>> = states
            .into_iter()
            .filter(|state| !self.is_epoch_jump(&state.identity))
            .map(Member::from)
            .filter(|m| m.id().addr == me.addr || known.is_news(m))
            .filter(|m| !self.may_not_renew_for(m))
            .filter(|m| {
                let lives = self.active.get(&m.id().node) == Some(m.id());
                !(was_cut_off && lives && m.state() == State::Down)
            })
            .filter(|m| {
                let is_meant = m.state() != State::Down || known.has(&m.id().addr) || *m.id() == me;
                if !is_meant {
                    sometimes!("down_not_taught");
                }
                is_meant
            })
            .filter(|m| self.left.get(&m.id().node).is_none_or(|&epoch| m.id().epoch > epoch))
            .filter(|m| {
                let is_new = !known.has(&m.id().addr);
                let fits = !is_new || room > 0;
                room -= usize::from(is_new && fits);
                fits
            })
            .collect();
        // What is too much for rumours is found by comparing views.
        let is_little = updates.len() <= STATES_FEW
            || self.foca.updates_backlog() + updates.len() <= RUMOURS_MAX;
        let broadcast = broadcast && is_little;
        if let Err(error) = self.foca.apply_many(updates.into_iter(), broadcast, &mut self.effects)
        {
            refused(&error, "member update");
        }
        self.settle();
    }

    /// `identity` is certainly gone.
    pub fn declare_down(&mut self, now: Moment, identity: Identity) {
        let down =
            MemberState { identity, incarnation: 0, liveness: crate::message::Liveness::Down };
        self.apply(now, &[down], true);
    }

    /// `node` left in `epoch`. False if that was known.
    pub fn mark_left(&mut self, now: Moment, node: NodeId, epoch: u64) -> bool {
        if node == self.me().node || self.left.get(&node).is_some_and(|&known| known >= epoch) {
            return false;
        }
        let active = self.active.get(&node).copied();
        if self.left.len() >= MEMBERS_MAX && !self.left.contains_key(&node) {
            self.left.pop_first();
            self.view_hash.set(None);
        }
        if active.is_none() {
            sometimes!("member_left_unheard");
        }
        if let Some(identity) = active.filter(|identity| identity.epoch <= epoch) {
            self.declare_down(now, identity);
        }
        // M18, class "amnesia".
        if !mutant!(M18) {
            self.left.insert(node, epoch);
            self.view_hash.set(None);
        }
        true
    }

    /// Takes a new identity, after its epoch has been written down.
    pub fn change_identity(&mut self, now: Moment, identity: Identity) {
        self.effects.advance(now);
        self.view_hash.set(None);
        self.heard.clear();
        // What is to be sent yet says who sent it, not who will.
        let was = self.me();
        for (_, packet) in &mut self.effects.sends {
            packet.restore(was.node, was.epoch);
        }
        if let Err(error) = self.foca.change_identity(identity, &mut self.effects) {
            refused(&error, "identity change");
        }
        self.tick(now);
    }

    /// Leaves: says so to a few, and takes no part from now on.
    pub fn leave(&mut self, now: Moment) {
        self.effects.advance(now);
        if !self.has_left {
            // N07 and N11, class "quiet leave"; the other half is in `leave_round`.
            if !mutant!(N07)
                && !mutant!(N11)
                && let Err(error) = self.foca.leave_cluster(&mut self.effects)
            {
                refused(&error, "leave");
            }
            self.has_left = true;
            self.effects.clear_timers();
        }
    }

    /// Everything known of members, this node first.
    pub fn states(&self) -> Vec<MemberState> {
        let me = MemberState {
            identity: self.me(),
            incarnation: 0,
            liveness: crate::message::Liveness::Alive,
        };
        std::iter::once(me)
            .chain(self.foca.iter_membership_state().map(MemberState::from))
            .collect()
    }

    /// Number of members known, dead ones included, this node not.
    pub fn known_count(&self) -> usize {
        self.foca.iter_membership_state().len()
    }

    /// Members that are down, did not leave, and are not back under another address.
    pub fn down(&self) -> Vec<Identity> {
        // As a rule nobody is, and all of them are far away in memory.
        if self.foca.num_members() == self.known_count() {
            return Vec::new();
        }
        let down = self.foca.iter_membership_state().filter(|m| m.state() == State::Down);
        down.map(|member| *member.id())
            .filter(|id| self.left.get(&id.node).is_none_or(|&epoch| id.epoch > epoch))
            .filter(|id| !self.active.contains_key(&id.node))
            .collect()
    }

    /// The highest epoch that keeps `identity` from being accepted, if one does.
    pub fn epoch_taken(&self, identity: &Identity) -> Option<u64> {
        let rivals = self.foca.iter_membership_state().map(Member::id).filter(|known| {
            (known.node == identity.node
                && (known.epoch > identity.epoch
                    || (known.epoch == identity.epoch && known.addr != identity.addr)))
                || (known.addr == identity.addr
                    && known.node != identity.node
                    && known.epoch >= identity.epoch)
        });
        let left = self.left.get(&identity.node).filter(|&&epoch| epoch >= identity.epoch);
        let me = self.me();
        let mine = (me.node == identity.node && me.epoch >= identity.epoch).then_some(me.epoch);
        rivals.map(|known| known.epoch).chain(left.copied()).chain(mine).max()
    }

    /// The highest epoch that others hold for this node's id or address above its own: it came
    /// back with an older disk, and nobody will listen until it has a greater one.
    pub fn outranked_by(&self, states: &[MemberState]) -> Option<u64> {
        let me = self.me();
        let rivals = states.iter().map(|state| state.identity).filter(|id| {
            (id.node == me.node && id.epoch > me.epoch)
                || (id.addr == me.addr && id.node != me.node && id.epoch >= me.epoch)
        });
        rivals.map(|id| id.epoch).max()
    }

    /// A hash of the active members and of who left: equal views have equal hashes.
    pub fn view_hash(&self) -> u64 {
        if let Some(hash) = self.view_hash.get() {
            return hash;
        }
        debug_assert_eq!(
            self.active_hash,
            self.active.values().fold(0, |hash, id| hash ^ self.hash_of(id)),
            "it is kept up to date"
        );
        let mut hash = self.active_hash ^ self.hash_of(&self.me());
        for (node, epoch) in &self.left {
            // A node that is back makes its mark pointless, and it does not know the mark itself.
            if self.active.get(node).is_some_and(|id| id.epoch > *epoch) {
                continue;
            }
            hash ^= hash_words(self.hash_key, [node.0, *epoch]);
        }
        self.view_hash.set(Some(hash));
        hash
    }

    fn hash_of(&self, id: &Identity) -> u64 {
        hash_words(self.hash_key, [id.node.0, id.epoch, u64::from(id.renew)])
    }

    /// Members that did not answer a probe within `probe_rtt`, or not by its end.
    pub fn take_failed_probes(&mut self) -> Vec<Identity> {
        std::mem::take(&mut self.effects.failed_probes)
    }

    /// Whether anything changed.
    #[inline]
    pub(crate) fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// What changed, in order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// When the next timer is due.
    pub fn next_wake(&self) -> Option<Moment> {
        self.effects.next_wake()
    }

    /// The process did not run for `stall`: time that nobody could use does not count.
    /// What was put off since then, on packets that had waited, is not put off once more.
    pub fn postpone(&mut self, now: Moment, stall: Duration) {
        self.effects.advance(now);
        self.effects.postpone(stall);
    }

    /// This node is slow itself: it probes less often, and gives others longer to answer, by
    /// `slowness` times the usual on top. 0 is as usual.
    pub fn set_slowness(&mut self, slowness: u32) {
        self.effects.slowness = slowness;
    }

    /// Whether rounds of rumours are half as far apart again as usual: fewer packets tell the same.
    pub(crate) fn slow_rumours(&mut self, are_slow: bool) {
        self.effects.has_slow_rumours = are_slow;
    }

    /// How often replies to strangers were cut or withheld since the last call.
    pub(crate) fn take_curbed(&mut self) -> u64 {
        std::mem::take(&mut self.effects.curbed)
    }

    /// After a renewal foca waits for a packet before it probes anybody again; news of nothing will
    /// do.
    fn reconnect_foca(&mut self) {
        let nothing = std::iter::empty();
        if let Err(error) = self.foca.apply_many(nothing, false, &mut self.effects) {
            refused(&error, "reconnect after renewal");
        }
    }

    /// A suspicion counts only if the member is still suspected in the same incarnation.
    fn is_stale(&self, timer: &Timer<Identity>) -> bool {
        let Timer::ChangeSuspectToDown { member_id, incarnation, .. } = timer else {
            return false;
        };
        // X06, class "a timer that is lost".
        if mutant!(X06) {
            return true;
        }
        // M03, class "a timer outlives its reason".
        if mutant!(M03) {
            return false;
        }
        !self.foca.iter_membership_state().any(|member| {
            member.id() == member_id
                && member.state() == State::Suspect
                && member.incarnation() == *incarnation
        })
    }

    /// After every call into foca: finds out what changed.
    fn settle(&mut self) {
        if std::mem::take(&mut self.effects.renewed) {
            self.after_renewal();
        }
        if self.foca.updates_backlog() > 0
            && let Some(timer) = self.parked_gossip.take()
        {
            let delay = self.spread_delay;
            (&mut self.effects).submit_after(timer, delay);
        }
        if std::mem::take(&mut self.effects.is_dirty) {
            self.take_news();
        }
    }
}
