//! What foca wants done: packets, timers, and what it has to say.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use foca::{Notification, Runtime, Timer};
use grapevine_protocol::Moment;
use siphasher::sip::SipHasher13;

use super::Membership;
use super::fitting::fitted;
use super::sends::Packets;
use crate::NodeId;
use crate::cluster::STALL;
use crate::identity::Identity;

/// Timers due together fire in foca's own order: others are asked to probe...
const INDIRECT: u8 = 0;

/// ... before the next member is probed.
const PROBE: u8 = 1;

/// Most members that are doubted at once; as many as may be probed by stream, and more.
const DOUBTED_MAX: usize = 64;

/// A timer's deadline, then foca's own order for timers due together, then age.
type Key = (Moment, u8, u64);

/// What foca wants done, collected in the order it said so.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) now: Moment,
    /// When the process last went on after a stall, and the number of the last timer set before.
    resumed: (Moment, u64),
    pub(super) sends: Packets,
    /// Which of them is a probe, and to whom, if one is.
    pub(super) ping: Option<(usize, Identity)>,
    /// The last is due first. As a rule there are three; a queue of as many as there were once, in
    /// a partition, would go round in memory that nothing else has touched for long.
    timers: Vec<(Key, Timer<Identity>)>,
    timer_count: u64,
    /// When to forget members that are down, by deadline: a day after their deaths, in order. In a
    /// partition they are half of the cluster, and a timer each would be most of what is held.
    burials: VecDeque<(Moment, u64)>,
    /// Something about this node or others changed.
    pub(super) is_dirty: bool,
    /// What came, went or was replaced, in order.
    pub(super) news: Vec<News>,
    pub(super) renewed: bool,
    /// foca took the packet at hand.
    pub(super) has_received: bool,
    /// Members that did not answer in time: when others are asked to probe them, and when nobody
    /// has heard of them by the end of the period, which is all there is in a cluster of two.
    pub(super) failed_probes: Vec<Identity>,
    /// Members whose machines refused a connection, while nobody has heard of them since.
    doubted: Vec<Identity>,
    /// Whom this node probes, and the number of the probe.
    probing: Option<(Identity, foca::ProbeNumber)>,
    /// This node's, when it last sent something: it grows with each suspicion that it refutes.
    incarnation: u16,
    /// See [`Membership::set_slowness`].
    pub(super) slowness: u32,
    /// See [`Membership::slow_rumours`].
    pub(super) has_slow_rumours: bool,
    /// Replies that were cut or withheld.
    pub(super) curbed: u64,
}

/// An identity came or went, or one of the second node took the place of one of the first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum News {
    Up(Identity),
    Down(Identity),
    Renamed(NodeId, NodeId),
}

impl News {
    /// Whom it concerns; twice the same, if it is one.
    pub(super) const fn nodes(&self) -> [NodeId; 2] {
        match *self {
            Self::Up(id) | Self::Down(id) => [id.node; 2],
            Self::Renamed(old, new) => [old, new],
        }
    }
}

impl Effects {
    fn news(&mut self, news: News) {
        self.is_dirty = true;
        self.news.push(news);
    }

    /// It is `now`.
    pub(super) fn advance(&mut self, now: Moment) {
        if now.since(self.now) > STALL {
            self.resumed = (now, self.timer_count);
        }
        self.now = now;
    }

    /// Moves every timer that was set before the stall of this length that is just over. Packets
    /// that had waited come before the wake-up that is late; timers set on them are not late.
    pub(super) fn postpone(&mut self, by: Duration) {
        let (resumed, last) = self.resumed;
        let is_old = |n| n <= last || self.now.since(resumed) >= by;
        for ((at, _, n), _) in &mut self.timers {
            if is_old(*n) {
                *at = *at + by;
            }
        }
        self.timers.sort_unstable_by_key(|(key, _)| Reverse(*key));
        for (at, _) in &mut self.burials {
            *at = *at + by;
        }
    }

    /// The probed member answered: that others need not be asked is noted together with the next
    /// probe, so that an idle node wakes two times a second less. foca wants to be told all the
    /// same.
    fn answered(&mut self) {
        self.probing = None;
        let of_order = |order| self.timers.iter().position(|(key, _)| key.1 == order);
        let (Some(at), Some(next)) = (of_order(INDIRECT), of_order(PROBE)) else { return };
        let next = self.timers[next].0.0;
        let ((due, order, n), timer) = self.timers.remove(at);
        self.set((next.max(due), order, n), timer);
    }

    fn set(&mut self, key: Key, timer: Timer<Identity>) {
        let at = self.timers.partition_point(|(other, _)| *other > key);
        self.timers.insert(at, (key, timer));
    }

    /// The next timer that is due.
    pub(super) fn next_due(&mut self) -> Option<Timer<Identity>> {
        let now = self.now;
        self.timers.pop_if(|(key, _)| key.0 <= now).map(|(_, timer)| timer)
    }

    /// A member that has been down for so long that it is due to be forgotten, by its [`grave`].
    pub(super) fn next_burial(&mut self) -> Option<u64> {
        let now = self.now;
        let (_, dead) = self.burials.pop_front_if(|&mut (at, _)| at <= now)?;
        Some(dead)
    }

    /// When the next timer is due.
    pub(super) fn next_wake(&self) -> Option<Moment> {
        let timer = self.timers.last().map(|(key, _)| key.0);
        let burial = self.burials.front().map(|&(at, _)| at);
        timer.into_iter().chain(burial).min()
    }

    /// Nothing happens by itself any more.
    pub(super) fn clear_timers(&mut self) {
        self.timers.clear();
        self.burials.clear();
    }
}

/// foca would not do `what`; nothing has changed then.
#[cold]
pub(super) fn refused(error: &foca::Error, what: &'static str) {
    tracing::debug!(%error, what, "failure detector refuses");
}

/// What is remembered of a member that is to be forgotten: a hash, since a partition makes graves
/// for half of a cluster.
pub(super) fn grave(identity: &Identity) -> u64 {
    let mut hasher = SipHasher13::new();
    identity.hash(&mut hasher);
    hasher.finish()
}

impl Membership {
    /// The machine of `identity` refused a connection. That may be a firewall's doing, so that it
    /// counts only if nothing comes of the member, nor of those who were asked to probe it.
    pub(crate) fn doubt(&mut self, identity: Identity) {
        if !self.is_doubted(&identity) && self.effects.doubted.len() < DOUBTED_MAX {
            self.effects.doubted.push(identity);
        }
    }

    /// Whether nobody has heard of it since it was doubted.
    pub(crate) fn is_doubted(&self, identity: &Identity) -> bool {
        self.effects.doubted.contains(identity)
    }

    /// It is doubted no more: it was heard of, or is held down by now.
    pub(crate) fn doubt_no_more(&mut self, identity: &Identity) {
        self.effects.doubted.retain(|id| id != identity);
    }

    /// Whether the next probe is on its way: always, while there is anybody to probe.
    pub fn is_probing(&self) -> bool {
        self.effects.timers.iter().any(|(_, timer)| matches!(timer, Timer::ProbeRandomMember(_)))
    }
}

impl Runtime<Identity> for &mut Effects {
    fn notify(&mut self, notification: Notification<'_, Identity>) {
        match notification {
            Notification::MemberUp(id) => self.news(News::Up(*id)),
            Notification::MemberDown(id) => self.news(News::Down(*id)),
            Notification::Rename(old, new) => self.news(News::Renamed(old.node, new.node)),
            Notification::Active | Notification::Idle | Notification::Defunct => {
                self.is_dirty = true
            }
            Notification::Rejoin(_) => {
                self.is_dirty = true;
                self.renewed = true;
            }
            Notification::ProbeFailed(_, member) => self.failed_probes.push(*member),
            Notification::DataSent(header) => {
                if header.src_incarnation > self.incarnation {
                    sometimes!("suspicion_refuted");
                }
                self.incarnation = header.src_incarnation;
                if let foca::Message::Ping(number) = header.message {
                    self.probing = Some((header.dst, number));
                    // It is told after it was sent.
                    self.ping = Some((self.sends.len().saturating_sub(1), header.dst));
                }
                // The first of several requests says it all.
                if let foca::Message::PingReq { target, .. } = header.message
                    && self.failed_probes.last() != Some(&target)
                {
                    self.failed_probes.push(target);
                }
            }
            Notification::DataReceived(header) => {
                self.has_received = true;
                if !self.doubted.is_empty() {
                    let origin = match header.message {
                        foca::Message::ForwardedAck { origin, .. } => origin,
                        _ => header.src,
                    };
                    self.doubted.retain(|id| *id != header.src && *id != origin);
                }
                if let foca::Message::Ack(number) = header.message
                    && self.probing == Some((header.src, number))
                {
                    self.answered();
                }
            }
        }
    }

    fn send_to(&mut self, to: Identity, data: &[u8]) {
        if self.sends.is_empty() {
            // A round of rumours.
            self.sends.reserve_exact(3);
        }
        self.sends.push((to.addr, fitted(data)));
    }

    fn submit_after(&mut self, event: Timer<Identity>, after: Duration) {
        if let Timer::RemoveDown(identity) = event {
            return self.burials.push_back((self.now + after, grave(&identity)));
        }
        let order = match event {
            Timer::SendIndirectProbe { .. } => INDIRECT,
            Timer::ProbeRandomMember(_) => PROBE,
            Timer::ChangeSuspectToDown { .. } => 2,
            Timer::PeriodicAnnounce(_)
            | Timer::PeriodicAnnounceDown(_)
            | Timer::PeriodicGossip(_)
            | Timer::RemoveDown(_) => 3,
        };
        let after = match event {
            // Submitted together, so that a cycle keeps its order whatever the slowness.
            Timer::SendIndirectProbe { .. } | Timer::ProbeRandomMember(_) => {
                after * (1 + self.slowness)
            }
            Timer::PeriodicGossip(_) if self.has_slow_rumours => after * 3 / 2,
            Timer::PeriodicGossip(_) => after,
            Timer::ChangeSuspectToDown { .. }
            | Timer::PeriodicAnnounce(_)
            | Timer::PeriodicAnnounceDown(_)
            | Timer::RemoveDown(_) => after,
        };
        self.timer_count += 1;
        self.set((self.now + after, order, self.timer_count), event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_rumours_wait_half_as_long_again_and_nothing_else_does() {
        let tenth = Duration::from_millis(100);
        let mut effects = Effects { has_slow_rumours: true, ..Effects::default() };
        (&mut effects).submit_after(Timer::PeriodicGossip(0), tenth);
        (&mut effects).submit_after(Timer::ProbeRandomMember(0), tenth);
        let due: Vec<u64> = effects.timers.iter().rev().map(|(key, _)| key.0.as_nanos()).collect();
        assert_eq!(due, [100_000_000, 150_000_000]);
    }

    #[test]
    fn after_a_stall_what_was_set_before_it_is_put_off_and_what_was_set_since_is_not() {
        let second = |s: u64| Moment(s * 1_000_000_000);
        let half = Duration::from_millis(500);
        let mut effects = Effects::default();
        for at in [100, 102] {
            effects.advance(second(at));
            (&mut effects).submit_after(Timer::PeriodicGossip(0), half);
        }
        // The process does not run from 102 on. Packets that waited come first at 115.
        effects.advance(second(115));
        (&mut effects).submit_after(Timer::PeriodicGossip(1), half);
        effects.postpone(Duration::from_secs(13));
        let due: Vec<Moment> = effects.timers.iter().rev().map(|(key, _)| key.0).collect();
        let put_off = [second(113) + half, second(115) + half, second(115) + half];
        assert_eq!(due, put_off);
        // The next one is noticed at its wake-up.
        effects.advance(second(130));
        effects.postpone(Duration::from_secs(14));
        assert!(effects.timers.iter().all(|(key, _)| key.0 >= second(127)));
    }
}
