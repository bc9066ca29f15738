//! What happens by itself: rounds of rumours and digests, housekeeping, and saying goodbye.

use std::time::Duration;

use grapevine_protocol::Moment;
use rand::RngExt;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::{Cluster, ClusterEvent, Output};
use crate::NodeId;
use crate::config::{DIGEST_NODES_FEW, Timings};
use crate::identity::Identity;
use crate::message::{Message, Purpose};
use crate::registrar::Now;

/// Pause between two pieces of housekeeping.
const TICK: Duration = Duration::from_secs(1);

/// A wake-up that comes this much before it does it, so that an idle node need not wake once more.
const TICK_EARLY: Duration = Duration::from_millis(250);

/// A wake-up this late means that the process did not run (stopped, swapped out, starved).
pub(crate) const STALL: Duration = Duration::from_secs(1);

/// Most steps by which a node that does not keep up probes more slowly: nine times as slow as
/// usual, which finds a death in 20 s instead of 5.
const SLOWNESS_MAX: u32 = 8;

/// Rounds of goodbye; each goes to every member.
const LEAVE_ROUNDS: u32 = 3;

/// How often the list of members for the next start is written, if it changed.
const PEERS_PERIOD: Duration = Duration::from_secs(30);

/// The same until there is one.
const FIRST_PEERS_PERIOD: Duration = Duration::from_secs(2);

/// For this long after it found the cluster, a process compares as often as it spreads rumours:
/// when many start at once, news of sections overtakes news of whose they are.
const YOUNG: Duration = Duration::from_secs(2);

/// A comparison that shows a difference keeps a young process young for this long, which is time
/// for the next exchange by stream among a thousand members.
const YOUNG_STAY: Duration = Duration::from_secs(1);

/// No process is young for longer than this, whatever it hears: a thousand that start at once have
/// found each other in half of it.
const YOUNG_MAX: Duration = Duration::from_secs(6);

/// Least pause between two comparisons of views by a young process, for each member: 0.2 s among
/// 200, 1 s among 1000, so that what all of them send by stream grows no faster than the cluster.
const YOUNG_PAUSE_PER_MEMBER: Duration = Duration::from_millis(1);

/// Comparisons in a row without a difference after which a process is no longer young: some ten
/// come in a second while all are.
const EQUAL_MANY: u32 = 8;

/// With no more members than this, exchanges by stream are not put off, nor is anything else: it
/// costs little.
const MEMBERS_FEW: usize = 32;

/// Nor with more than this: when two halves of it meet, more comes at once than rumours are passed
/// on about (128), and streams are quickest. At 1000 nodes putting off made a heal take 7.3 s
/// instead of 3.3 s.
const MEMBERS_MANY: usize = 256;

/// An exchange by stream that may begin within this makes it pointless to tell many heads.
const EXCHANGE_NEAR: Duration = Duration::from_millis(300);

/// News of a member has reached everybody by rumours after this long, also among a thousand.
const RUMOURS_TAKE: Duration = Duration::from_secs(1);

/// Views that differ for longer than this are compared even while members come and go.
const RUMOURS_TAKE_MAX: Duration = Duration::from_secs(4);

/// Most members remembered for the next start.
const PEERS_MAX: usize = 64;

/// Deadlines of everything periodic.
#[derive(Debug)]
pub(super) struct Periodic {
    next_tick: Moment,
    pub(super) next_digest: Moment,
    next_reconnect: Moment,
    next_peers: Moment,
    peers: Vec<std::net::SocketAddr>,
    /// Members still to be compared with in this turn of the round robin.
    pub(super) digest_order: Vec<NodeId>,
    /// Refused connections to be confirmed.
    refusals: Vec<(Moment, Identity)>,
    leave: Option<(Moment, u32)>,
    /// How much more slowly than usual this node probes, because it does not keep up.
    slowness: u32,
    /// It did not keep up since the last tick.
    has_lagged: bool,
    /// Until when this process compares more often; see [`YOUNG`] and [`YOUNG_STAY`].
    young_until: Moment,
    /// Comparisons in a row that showed no difference.
    equal: u32,
    /// Until when it does at most; see [`YOUNG_MAX`].
    grown_at: Moment,
    /// It has not been young all the time.
    has_grown: bool,
    /// When views were last compared by stream, whoever began it.
    pub(super) synced_at: Option<Moment>,
    /// Since when digests have shown other views than this node's.
    pub(super) differs_since: Option<Moment>,
}

impl Periodic {
    pub(super) fn new(timings: &Timings, now: Moment, rng: &mut Xoshiro256PlusPlus) -> Self {
        let mut soon = |period: Duration| now + period.mul_f64(rng.random_range(0.0..1.0));
        Self {
            next_tick: soon(TICK),
            next_digest: soon(timings.digest_period),
            next_reconnect: soon(timings.reconnect_period),
            next_peers: now + FIRST_PEERS_PERIOD,
            peers: Vec::new(),
            digest_order: Vec::new(),
            refusals: Vec::new(),
            leave: None,
            slowness: 0,
            has_lagged: false,
            young_until: now + YOUNG,
            equal: 0,
            grown_at: now + YOUNG_MAX,
            has_grown: false,
            synced_at: None,
            differs_since: None,
        }
    }

    pub(super) fn next_wake(&self) -> Moment {
        let usual = self.next_tick.min(self.next_digest);
        if self.refusals.is_empty() && self.leave.is_none() {
            return usual;
        }
        let refusal = self.refusals.iter().map(|&(at, _)| at).min();
        let leave = self.leave.map(|(at, _)| at);
        [refusal, leave].into_iter().flatten().fold(usual, Ord::min)
    }
}

impl Cluster {
    pub(super) fn handle_wake(&mut self, now: Now) {
        let at = now.at;
        if self.is_stopped {
            return;
        }
        let late = self.next_wake().map_or(Duration::ZERO, |due| at.since(due));
        if late > STALL && !mutant!(N09) {
            self.count("stalls");
            sometimes!("stall_noticed");
            self.membership.postpone(at, late);
        }
        if late > self.boot.timings.probe_rtt / 2 && !mutant!(N09) {
            self.lagged();
        }
        self.membership.handle_due(at);
        if self.spread.next().is_some_and(|next| next <= at) {
            self.spread_round(at);
        }
        self.digest_if_due(at);
        if self.periodic.next_tick <= at + TICK_EARLY {
            // X08, class "a deadline in the past".
            self.periodic.next_tick = if mutant!(X08) { at } else { at + TICK };
            self.tick(now);
        }
        self.join_if_due(at);
        if !self.pulls.is_empty() {
            self.retry_pulls(at);
        }
        if !self.catalogue.wishes_ref().is_empty() {
            self.send_wishes(at);
        }
        if !self.periodic.refusals.is_empty() {
            self.confirm_due(at);
        }
        if let Some((due, rounds)) = self.periodic.leave
            && due <= at
        {
            self.leave_round(at, rounds);
        }
    }

    /// This node's timers fire late: answers that it misses may be its own fault, so it judges
    /// others more slowly, one step for each time, until seconds go by in which it keeps up.
    #[cold]
    fn lagged(&mut self) {
        self.count("loop_lags");
        sometimes!("slowness_raised");
        self.periodic.has_lagged = true;
        self.set_slowness((self.periodic.slowness + 1).min(SLOWNESS_MAX));
    }

    fn set_slowness(&mut self, slowness: u32) {
        self.periodic.slowness = slowness;
        self.membership.set_slowness(slowness);
    }

    /// By how much more than usual this node waits for others; 0 is as usual.
    pub fn slowness(&self) -> u32 {
        self.periodic.slowness
    }

    /// Says goodbye, three times to everyone.
    pub(super) fn begin_leave(&mut self, now: Moment) {
        if !self.membership.has_left() {
            self.remember_peers();
            self.membership.leave(now);
            self.leave_round(now, LEAVE_ROUNDS);
        }
    }

    #[inline(never)]
    fn tick(&mut self, now: Now) {
        let at = now.at;
        if !std::mem::take(&mut self.periodic.has_lagged) && self.periodic.slowness > 0 {
            sometimes!("slowness_lowered");
            self.set_slowness(self.periodic.slowness.saturating_sub(1));
        }
        self.periodic.has_grown |= !self.is_young(at);
        self.membership.tick(at);
        self.pace_rumours(at);
        let before = self.catalogue.own().ver;
        self.registrar.hide_silent(&mut self.catalogue, now);
        self.catalogue.collect(at, self.boot.seed);
        self.own_changed(before, at);
        self.close_overdue(at);
        if self.membership.has_left() {
            return;
        }
        if self.periodic.next_reconnect <= at {
            self.periodic.next_reconnect = at + self.boot.timings.reconnect_period;
            self.reconnect(at);
        }
        self.hurry_if_alone(at);
        if self.periodic.next_peers <= at {
            self.remember_peers();
            let has_some = !self.periodic.peers.is_empty();
            self.periodic.next_peers =
                at + if has_some { PEERS_PERIOD } else { FIRST_PEERS_PERIOD };
        }
    }

    /// Tries one member that is down, more often the larger their share.
    fn reconnect(&mut self, now: Moment) {
        // M01, class "alone, and gives up"; here and in `join_if_due`.
        if mutant!(M01) && self.membership.active().is_empty() {
            return;
        }
        // X13, class "content with half"; here and in `join_if_due`.
        if mutant!(X13) && !self.membership.active().is_empty() {
            return;
        }
        let down = self.membership.down();
        let alive = self.membership.active().len() + 1;
        if down.is_empty() || self.rng.random_range(0..alive) >= down.len() {
            return;
        }
        // Calls that nobody answers yet all get through in one instant when a partition ends.
        if alive + down.len() > DIGEST_NODES_FEW && self.is_calling() {
            return;
        }
        let at = self.rng.random_range(0..down.len());
        sometimes!("reconnect");
        self.open_exchange(now, down[at].addr.socket(), Purpose::Sync);
    }

    /// Another member's view differs: compare everything, but not too often. Whether that has
    /// begun.
    pub(super) fn views_differ(&mut self, now: Moment, peer: Identity) -> bool {
        let pause = self.views_pause(now);
        let due = self.periodic.synced_at.is_none_or(|at| now.since(at) >= pause);
        let begins = due && !self.membership.has_left();
        if begins {
            self.periodic.synced_at = Some(now);
            self.open_exchange(now, peer.addr.socket(), Purpose::Sync);
        }
        begins
    }

    /// Whether another view is no reason yet to compare everything: members came and went a moment
    /// ago, and rumours of that are on their way. A young process has more to catch up with than
    /// rumours carry.
    pub(super) fn is_carried(&mut self, now: Moment) -> bool {
        let since = *self.periodic.differs_since.get_or_insert(now);
        let is_fresh = now.since(self.membership.changed_at()) < RUMOURS_TAKE;
        let is_carried = is_fresh && now.since(since) < RUMOURS_TAKE_MAX && !self.is_young(now);
        is_carried && self.saves_streams(now)
    }

    /// Whether fewer streams are worth a moment's delay. Not while a process finds its cluster,
    /// which is quickest if it compares as often as it may, nor in a small cluster, where they cost
    /// little, nor in a large one, where they are needed.
    fn saves_streams(&self, now: Moment) -> bool {
        self.periodic.has_grown && self.is_middling(now)
    }

    /// Whether the cluster is so large that it is worth to send less, and so small that what is
    /// found out a moment later is not much.
    pub(super) fn is_middling(&self, now: Moment) -> bool {
        (MEMBERS_FEW + 1..=MEMBERS_MANY).contains(&self.membership.known_count())
            || buggify!("few_save_streams", self.boot.seed, now.0)
    }

    /// For how many members a rumour is told in a cluster of `members`: a young process compares so
    /// often that half as many sends will do, or fewer still.
    pub(super) fn members_to_tell(&self, now: Moment, members: usize) -> usize {
        match (self.is_young(now), self.is_middling(now)) {
            (false, _) => members,
            (true, false) => members.isqrt(),
            (true, true) => members.isqrt() / 2,
        }
    }

    /// The pace of rumours about members; news of a topic does not take this way.
    fn pace_rumours(&mut self, now: Moment) {
        let are_slow = !self.is_young(now) && self.is_middling(now);
        self.membership.slow_rumours(are_slow);
    }

    /// Everything was compared with somebody, whoever began it: the next time can wait.
    pub(super) fn compared(&mut self, now: Moment) {
        if self.saves_streams(now) {
            self.periodic.synced_at = Some(now);
        }
    }

    /// Whether a call is pointless that gets through only now: everything has been compared with
    /// somebody in the meantime, and what that brought is being told. When a partition ends all
    /// calls across it get through in one instant.
    pub(super) fn is_outdated(&self, now: Moment, called: Moment) -> bool {
        let recent = 2 * self.boot.timings.spread_period;
        let is_recent = |at| at > called && now.since(at) < recent;
        self.saves_streams(now) && self.periodic.synced_at.is_some_and(is_recent)
    }

    /// This process has just found the cluster.
    pub(super) fn grow_young(&mut self, now: Moment) {
        let period = self.boot.timings.spread_period;
        self.periodic.young_until = now + YOUNG;
        self.pace_rumours(now);
        self.periodic.equal = 0;
        self.periodic.grown_at = now + YOUNG_MAX;
        self.periodic.next_digest = self.periodic.next_digest.min(now + period);
    }

    /// A comparison showed a difference: a process that is still young stays so a little longer.
    pub(super) fn stay_young(&mut self, now: Moment) {
        self.periodic.equal = 0;
        if self.is_young(now) {
            let until = (now + YOUNG_STAY).min(self.periodic.grown_at);
            self.periodic.young_until = self.periodic.young_until.max(until);
        }
    }

    /// A comparison showed no difference: after some of them a process is no longer young.
    pub(super) fn was_equal(&mut self, now: Moment) {
        self.periodic.equal = self.periodic.equal.saturating_add(1);
        if self.periodic.equal >= EQUAL_MANY && self.saves_streams(now) && self.is_young(now) {
            self.periodic.young_until = now;
        }
    }

    /// Whether a young process may soon compare everything by stream again, which brings whatever
    /// much there is that differs.
    pub(super) fn exchange_is_near(&self, now: Moment) -> bool {
        let near = self.views_pause(now).saturating_sub(EXCHANGE_NEAR);
        self.saves_streams(now)
            && self.is_young(now)
            && self.periodic.synced_at.is_none_or(|at| now.since(at) >= near)
    }

    pub(super) fn is_young(&self, now: Moment) -> bool {
        now < self.periodic.young_until
    }

    /// Least pause between two comparisons of views that this node begins.
    fn views_pause(&self, now: Moment) -> Duration {
        let usual = self.boot.timings.reconnect_period;
        if !self.is_young(now) {
            return usual;
        }
        let members = u32::try_from(self.membership.active().len()).unwrap_or(u32::MAX);
        let mut pause = YOUNG_PAUSE_PER_MEMBER.saturating_mul(members);
        // By now few still differ: they need not wait as long as if everyone did.
        if now + (YOUNG_MAX - YOUNG) > self.periodic.grown_at {
            pause /= 3;
        }
        pause.max(2 * self.boot.timings.spread_period).min(usual)
    }

    fn remember_peers(&mut self) {
        let active = self.membership.active().values();
        let mut peers: Vec<_> = active.map(|id| id.addr.socket()).take(PEERS_MAX).collect();
        peers.sort_unstable();
        if peers != self.periodic.peers && !peers.is_empty() {
            self.periodic.peers = peers.clone();
            sometimes!("peers_remembered");
            self.outputs.push_back(Output::PersistPeers(peers));
        }
    }

    #[inline(never)]
    fn send_wishes(&mut self, now: Moment) {
        let active = self.membership.active();
        let due = self.catalogue.wishes().due(now, |owner| active.contains_key(&owner));
        for wish in due {
            let is_late = buggify!("wish_late", self.boot.seed, now.0);
            if let Some(owner) =
                self.membership.active().get(&wish.owner).copied().filter(|_| !is_late)
            {
                sometimes!("wish_sent");
                self.send(owner.addr.socket(), &Message::Wish(wish));
            }
        }
    }

    /// A connection to `identity` was refused once: confirm it shortly, when others who were asked
    /// to probe it would have said that it answers them. That is 100 ms in a LAN.
    pub(super) fn confirm_later(&mut self, now: Moment, identity: Identity) {
        self.membership.doubt(identity);
        let pause = self.boot.timings.probe_rtt / 2;
        self.periodic.refusals.push((now + pause, identity));
    }

    #[inline(never)]
    fn confirm_due(&mut self, now: Moment) {
        let (due, later) =
            self.periodic.refusals.iter().partition::<Vec<_>, _>(|(at, _)| *at <= now);
        self.periodic.refusals = later;
        for (_, identity) in due {
            if self.membership.is_doubted(&identity) {
                self.confirm_refusal(now, identity, 2);
            } else {
                self.count("refusals_outvoted");
            }
        }
    }

    #[inline(never)]
    fn leave_round(&mut self, now: Moment, rounds: u32) {
        let mut members: Vec<Identity> = self.membership.active().values().copied().collect();
        // N07 and N11, class "quiet leave".
        if mutant!(N07) || mutant!(N11) {
            members.truncate(usize::from(mutant!(N11)));
        }
        if rounds == 0 || members.is_empty() {
            self.periodic.leave = None;
            self.event(ClusterEvent::Left);
            self.is_stopped = true;
            return;
        }
        let me = self.membership.me();
        sometimes!("leave_told");
        for member in members {
            self.send(member.addr.socket(), &Message::Leave(me));
        }
        let rounds = if mutant!(N11) { 0 } else { rounds - 1 };
        self.periodic.leave = Some((now + self.boot.timings.leave_round, rounds));
    }
}
