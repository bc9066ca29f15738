//! What goes by stream: joining, comparing everything, and sections too large for datagrams.

mod deadlines;
mod sections;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use grapevine_protocol::Moment;

use super::{Cluster, ConnId, Output};
use crate::NodeId;
use crate::codec::{decode_frame, encode_into};
use crate::identity::Identity;
use crate::membership::MEMBERS_MAX;
use crate::message::{Ask, FRAME_BYTES_MAX, Frame, Head, Liveness, MemberState, Purpose};
use crate::section::Snapshot;

/// Most streams this node has open as the opener; more wait for the next occasion.
pub(super) const OUTBOUND_MAX: usize = 8;

/// Most streams opened by others at once; more are closed at once and tried again by them. Where
/// packets are lost, one in three lasts for a fifth of a second: with 8 places a thousand nodes
/// that start at once through two seeds took half a minute at 5 % loss.
pub(super) const INBOUND_MAX: usize = 32;

/// Members, heads or asks in one frame: at most 45 bytes each.
const FRAME_ITEMS_MAX: usize = 1000;

/// Bytes of snapshots in the making, all streams together; a stream that brings more ends, and the
/// section is asked for again.
pub(super) const STAGED_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Sections of one stream that are passed on as rumours. Where there are more, all others lack them
/// too and compare by stream themselves, which is ten times cheaper.
const PASSED_ON_MAX: usize = 64;

/// Most bytes of frames that one stream may bring; four times what an exchange sends.
const STREAM_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Most addresses that lead back to this node; a machine has a few.
const OWN_ADDRS_MAX: usize = 64;

/// Streams that are open or being opened.
#[derive(Debug, Default)]
pub(super) struct Streams {
    conns: BTreeMap<ConnId, Conn>,
    opened: u64,
}

impl Streams {
    /// Streams opened by this node, streams opened by others, bytes of snapshots in the making.
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        let inbound = self.conns.values().filter(|c| matches!(c.role, Role::Acceptor)).count();
        let staged = self.conns.values().filter_map(|conn| conn.staged.as_ref());
        (self.conns.len() - inbound, inbound, staged.map(|(_, _, bytes)| bytes).sum())
    }
}

#[derive(Debug)]
struct Conn {
    role: Role,
    started: Moment,
    /// Who speaks at the other end, and the purpose it named.
    hello: Option<(Identity, Purpose)>,
    /// What it has.
    theirs: Vec<Head>,
    asks: Vec<Ask>,
    staged: Option<(NodeId, Snapshot, usize)>,
    /// Bytes of frames that came.
    received: usize,
    /// Sections that came.
    sections: usize,
    /// Identity this node had when it said hello.
    told: Option<Identity>,
    turns: u32,
}

#[derive(Debug)]
enum Role {
    /// Opened by this node to compare or ask.
    Opener { to: SocketAddr, purpose: Purpose },
    /// Opened by this node only to see whether it is refused.
    Probe { identity: Identity, attempt: u32 },
    /// Opened by another.
    Acceptor,
}

impl Conn {
    fn new(role: Role, now: Moment) -> Self {
        Self {
            role,
            started: now,
            hello: None,
            theirs: Vec::new(),
            asks: Vec::new(),
            staged: None,
            received: 0,
            sections: 0,
            told: None,
            turns: 0,
        }
    }

    /// Whom this node called, if it was this node that called to compare or ask.
    fn opened_to(&self) -> Option<SocketAddr> {
        match self.role {
            Role::Opener { to, .. } => Some(to),
            Role::Probe { .. } | Role::Acceptor => None,
        }
    }
}

impl Cluster {
    /// Opens a stream to compare everything with whoever listens at `to`.
    pub(super) fn open_exchange(&mut self, now: Moment, to: SocketAddr, purpose: Purpose) {
        let is_open = self.streams.conns.values().any(|conn| match conn.role {
            Role::Opener { to: at, purpose } => at == to && purpose != Purpose::Pull,
            Role::Probe { .. } | Role::Acceptor => false,
        });
        if is_open && purpose != Purpose::Join {
            return;
        }
        let is_opened = self.open(now, to, Conn::new(Role::Opener { to, purpose }, now));
        if !is_opened && purpose == Purpose::Join {
            self.try_next_seed(now);
        }
    }

    /// Streams to join by that are open or being opened.
    pub(super) fn joins_open(&self) -> usize {
        let is_join =
            |conn: &&Conn| matches!(conn.role, Role::Opener { purpose: Purpose::Join, .. });
        self.streams.conns.values().filter(is_join).count()
    }

    /// Whether a stream for comparing everything is being opened.
    pub(super) fn is_calling(&self) -> bool {
        self.streams.conns.values().any(|conn| {
            matches!(conn.role, Role::Opener { purpose: Purpose::Sync, .. }) && conn.told.is_none()
        })
    }

    /// Opens a stream to ask `peer` for a section, or adds to what an unopened one will ask.
    pub(super) fn open_pull(&mut self, now: Moment, peer: Identity, ask: Ask) {
        let waiting = self.streams.conns.values_mut().find(|conn| match conn.role {
            Role::Opener { to, purpose: Purpose::Pull } => {
                to == peer.addr.socket() && conn.told.is_none()
            }
            Role::Opener { .. } | Role::Probe { .. } | Role::Acceptor => false,
        });
        if let Some(conn) = waiting {
            return conn.asks.push(ask);
        }
        let role = Role::Opener { to: peer.addr.socket(), purpose: Purpose::Pull };
        let mut conn = Conn::new(role, now);
        conn.asks.push(ask);
        self.open(now, peer.addr.socket(), conn);
    }

    /// `identity` did not answer a probe: if its machine refuses connections, nothing of it runs.
    pub(super) fn confirm_refusal(&mut self, now: Moment, identity: Identity, attempt: u32) {
        let is_current = self.membership.active().get(&identity.node) == Some(&identity);
        let is_open = self.streams.conns.values().any(
            |conn| matches!(conn.role, Role::Probe { identity: probed, .. } if probed == identity),
        );
        let conn = Conn::new(Role::Probe { identity, attempt }, now);
        let is_opened = is_current && !is_open && self.open(now, identity.addr.socket(), conn);
        if !is_opened && !is_open {
            self.membership.doubt_no_more(&identity);
        }
    }

    fn open(&mut self, _now: Moment, to: SocketAddr, conn: Conn) -> bool {
        let open = self.streams.conns.values();
        let outbound = open.filter(|conn| !matches!(conn.role, Role::Acceptor)).count();
        if outbound >= OUTBOUND_MAX || self.is_stopped {
            self.count("streams_not_opened");
            sometimes!("streams_full");
            return false;
        }
        let id = ConnId(self.streams.opened);
        self.streams.opened += 1;
        self.streams.conns.insert(id, conn);
        self.outputs.push_back(Output::Connect { conn: id, to });
        true
    }

    pub(super) fn connected(&mut self, now: Moment, id: ConnId) {
        if self.is_stopped {
            return self.close(id);
        }
        let called = self.streams.conns.get(&id).map(|conn| conn.started);
        let is_outdated = called.is_some_and(|called| self.is_outdated(now, called));
        let Some(conn) = self.streams.conns.get_mut(&id) else { return };
        let purpose = match conn.role {
            Role::Opener { purpose: Purpose::Sync, .. } if is_outdated => {
                sometimes!("call_outdated");
                return self.close(id);
            }
            Role::Opener { purpose, .. } => purpose,
            Role::Probe { identity, attempt } => {
                // Somebody listens: the member is slow or cut off, which is not for us to decide.
                if attempt > 1 {
                    sometimes!("refusal_contradicted");
                }
                self.membership.doubt_no_more(&identity);
                return self.close(id);
            }
            Role::Acceptor => return self.close(id),
        };
        conn.told = Some(self.membership.me());
        if purpose == Purpose::Pull {
            let asks = conn.asks.clone();
            self.say_hello(id, purpose);
            for asks in asks.chunks(FRAME_ITEMS_MAX) {
                self.write(id, &Frame::Asks(asks.to_vec()));
            }
            self.write(id, &Frame::End);
        } else {
            self.say_everything(id, purpose);
            self.write(id, &Frame::End);
        }
    }

    pub(super) fn closed(&mut self, now: Moment, id: ConnId, is_refused: bool) {
        let Some(conn) = self.streams.conns.remove(&id) else { return };
        if conn.staged.is_some() {
            sometimes!("snapshot_cut");
        }
        match conn.role {
            Role::Opener { purpose: Purpose::Join, to } => {
                tracing::debug!(%to, is_refused, "cannot join here");
                self.try_next_seed(now);
            }
            Role::Probe { identity, attempt: 1 } if is_refused => {
                self.confirm_later(now, identity);
            }
            Role::Probe { identity, .. } => {
                let is_unheard = self.membership.is_doubted(&identity);
                self.membership.doubt_no_more(&identity);
                if is_refused && is_unheard {
                    self.count("members_refused");
                    sometimes!("refusal_confirmed");
                    self.membership.declare_down(now, identity);
                } else if is_refused {
                    self.count("refusals_outvoted");
                }
            }
            Role::Opener { purpose: Purpose::Pull, .. } => {
                for ask in conn.asks {
                    self.pull_elsewhere(now, ask.owner);
                }
            }
            Role::Opener { .. } | Role::Acceptor => {}
        }
    }

    pub(super) fn handle_frame(&mut self, now: Moment, id: ConnId, bytes: &[u8]) {
        let Some(conn) = self.streams.conns.get_mut(&id).filter(|_| !self.is_stopped) else {
            return;
        };
        conn.received += bytes.len();
        let is_bounded = bytes.len() <= FRAME_BYTES_MAX && conn.received <= STREAM_BYTES_MAX;
        let frame = match self.seal.open(bytes) {
            Ok((_, body)) => decode_frame::<Frame>(body).ok(),
            Err(_) => None,
        };
        let is_welcome = match frame {
            Some(frame) if is_bounded => self.take_frame(now, id, frame),
            Some(_) | None => false,
        };
        if !is_welcome {
            self.count("dropped_frame");
            sometimes!("frame_refused");
            self.outputs.push_back(Output::Close(id));
            self.closed(now, id, false);
        }
    }

    /// False if the stream must end.
    fn take_frame(&mut self, now: Moment, id: ConnId, frame: Frame) -> bool {
        let Some(conn) = self.streams.conns.get_mut(&id) else { return false };
        let is_opener = matches!(conn.role, Role::Opener { .. });
        let is_join = match conn.role {
            Role::Opener { purpose, .. } => purpose == Purpose::Join,
            Role::Probe { .. } | Role::Acceptor => false,
        };
        if let Frame::Hello { identity, purpose } = frame {
            return self.take_hello(now, id, identity, purpose);
        }
        let Some((peer, _)) = conn.hello else {
            return match frame {
                Frame::EpochTaken { epoch } if is_opener => {
                    self.epoch_taken(now, epoch);
                    self.close(id);
                    if is_join {
                        self.try_seed_after_refusal(now);
                    }
                    true
                }
                _ => false,
            };
        };
        match frame {
            Frame::Hello { .. } | Frame::EpochTaken { .. } => return false,
            Frame::Members { members, left } => {
                for (node, epoch) in left {
                    self.learn_left(now, node, epoch);
                }
                if let Some(epoch) = self.membership.outranked_by(&members) {
                    self.take_greater_epoch(now, epoch);
                }
                self.membership.apply(now, &members, !is_join);
            }
            Frame::Heads(heads) => {
                // One more than members: the speaker's own.
                if conn.theirs.len() + heads.len() > MEMBERS_MAX + 1 {
                    return false;
                }
                conn.theirs.extend(heads);
            }
            Frame::Asks(asks) => {
                if conn.asks.len() + asks.len() > MEMBERS_MAX {
                    return false;
                }
                conn.asks.extend(asks);
            }
            Frame::Deltas(deltas) => {
                let before = conn.sections;
                conn.sections += deltas.len();
                for (at, owned) in (before..).zip(&deltas) {
                    self.take_delta(now, peer.node, owned, !is_join && at < PASSED_ON_MAX);
                }
            }
            Frame::Snapshot { owner, epoch, ver, floor, ops, is_last } => {
                let part = Snapshot { epoch, ver, floor, ops };
                return self.take_part(now, id, owner, part, is_last);
            }
            Frame::End => self.take_end(now, id, peer),
        }
        true
    }

    fn take_hello(
        &mut self,
        now: Moment,
        id: ConnId,
        identity: Identity,
        purpose: Purpose,
    ) -> bool {
        let me = self.membership.me();
        if identity.node == me.node && identity.addr == me.addr {
            // A seed's name leads back to this node; the next round leaves it out. Where several
            // calls wait for a hello it may be any of them: a later round tells.
            let conns = self.streams.conns.values();
            let waiting = conns.filter(|conn| conn.told.is_some() && conn.hello.is_none());
            let waiting: Vec<SocketAddr> = waiting.filter_map(Conn::opened_to).collect();
            sometimes!("seed_is_self");
            if let [own] = waiting[..]
                && !self.join.own_addrs.contains(&own)
                && self.join.own_addrs.len() < OWN_ADDRS_MAX
            {
                self.join.own_addrs.push(own);
            }
            return false;
        }
        let called = self.streams.conns.get(&id).and_then(Conn::opened_to);
        if called == Some(self.boot.addr) && identity.node != me.node {
            self.own_address_elsewhere(now, identity);
            return false;
        }
        // X07, class "a record that is never given up".
        if mutant!(X07) && self.membership.down().iter().any(|down| down.node == identity.node) {
            self.close(id);
            return true;
        }
        let Some(conn) = self.streams.conns.get(&id) else { return false };
        let is_acceptor = matches!(conn.role, Role::Acceptor);
        if is_acceptor
            && purpose != Purpose::Pull
            && let Some(epoch) = self.membership.epoch_taken(&identity)
        {
            sometimes!("epoch_taken_told");
            self.write(id, &Frame::EpochTaken { epoch });
            self.close(id);
            return true;
        }
        if let Some(conn) = self.streams.conns.get_mut(&id) {
            conn.hello = Some((identity, purpose));
        }
        if purpose != Purpose::Pull {
            let alive = MemberState { identity, incarnation: 0, liveness: Liveness::Alive };
            self.membership.apply(now, &[alive], true);
        }
        true
    }

    /// The other end has finished its turn.
    fn take_end(&mut self, now: Moment, id: ConnId, peer: Identity) {
        let Some(conn) = self.streams.conns.get_mut(&id) else { return };
        conn.turns += 1;
        let (theirs, asks) = (std::mem::take(&mut conn.theirs), std::mem::take(&mut conn.asks));
        let told = conn.told;
        let purpose = conn.hello.map_or(Purpose::Pull, |(_, purpose)| purpose);
        match (conn.opened_to(), purpose, conn.turns) {
            (None, Purpose::Pull, 1) => {
                let asks = asks.iter().map(|ask| (ask.owner, (ask.epoch, ask.have)));
                self.say_hello(id, Purpose::Pull);
                self.write_sections(now, id, asks.collect());
                self.write(id, &Frame::End);
            }
            (None, _, 1) => {
                // Tells the opener also what this node now holds about the opener itself: if
                // that is "down", the opener renews its identity and says so in its last turn.
                self.say_everything(id, purpose);
                self.write_sections(now, id, self.lacking(theirs));
                self.write(id, &Frame::End);
            }
            // Asking takes one turn: each more would make this node hold one more answer.
            (None, Purpose::Pull, _) => self.close(id),
            // Somebody joined through this node and told it everything in turn.
            (None, ..) => {
                self.compared(now);
                self.joined(now);
            }
            (Some(_), Purpose::Pull, _) => {
                self.close(id);
                for ask in asks {
                    self.pull_the_rest(now, peer.node, ask.owner);
                }
            }
            (Some(to), ..) => {
                if told != Some(self.membership.me()) {
                    let members = self.membership.states().into_iter().take(1).collect();
                    self.write(id, &Frame::Members { members, left: vec![] });
                }
                self.write_sections(now, id, self.lacking(theirs));
                self.write(id, &Frame::End);
                self.close(id);
                tracing::debug!(peer = %peer.node, ?purpose, "compared everything");
                if purpose == Purpose::Sync {
                    sometimes!("member_sync");
                }
                self.compared(now);
                self.joined_through(now, to);
            }
        }
    }

    fn close(&mut self, id: ConnId) {
        self.streams.conns.remove(&id);
        self.outputs.push_back(Output::Close(id));
    }

    fn write(&mut self, id: ConnId, frame: &Frame) {
        self.write_encoded(id, frame.bytes_about(), |bytes| encode_into(frame, bytes));
    }

    fn say_hello(&mut self, id: ConnId, purpose: Purpose) {
        let identity = self.membership.me();
        self.write(id, &Frame::Hello { identity, purpose });
    }

    /// Hello, all members, the heads of all sections that are here.
    fn say_everything(&mut self, id: ConnId, purpose: Purpose) {
        self.say_hello(id, purpose);
        for members in self.membership.states().chunks(FRAME_ITEMS_MAX) {
            self.write(id, &Frame::Members { members: members.to_vec(), left: vec![] });
        }
        let left: Vec<(NodeId, u64)> =
            self.membership.left().iter().map(|(&node, &epoch)| (node, epoch)).collect();
        for left in left.chunks(FRAME_ITEMS_MAX) {
            self.write(id, &Frame::Members { members: vec![], left: left.to_vec() });
        }
        // Also of those that are down: they may be alive there, and changed little since.
        let own = self.catalogue.own();
        let others = self.catalogue.replicas().map(|(owner, replica)| (owner, &replica.section));
        let mut heads = Vec::with_capacity(1 + others.len());
        for (owner, section) in std::iter::once((self.boot.node, own)).chain(others) {
            let (epoch, ver) = (section.epoch, section.ver);
            if ver > 0 {
                heads.push(Head { owner, epoch, ver, by_stream: true });
            }
        }
        for heads in heads.chunks(FRAME_ITEMS_MAX) {
            self.write(id, &Frame::Heads(heads.to_vec()));
        }
    }
}
