//! One node's gossip as a machine without I/O.
//!
//! The owner hands in what happened ([`Input`]), carries out what it asks ([`Output`]), sleeps
//! until [`Cluster::next_wake`], and hands in [`Input::Wake`]. Nothing here reads a clock,
//! draws randomness that is not seeded, or iterates a hashed map, so that a simulation runs the
//! very same machine and the same seed gives the same run.

mod batch;
mod compare;
mod datagrams;
mod draw;
mod join;
mod periodic;
mod pulls;
mod sends;
mod sizes;
mod strangers;
mod streams;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use grapevine_protocol::Moment;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::NodeId;
use crate::audit::Touched;
use crate::catalogue::Catalogue;
use crate::config::Timings;
use crate::envelope::Seal;
use crate::identity::Identity;
use crate::membership::{Change, Membership};
use crate::registrar::{Now, Registrar};
use crate::spread::Spread;

use join::Join;
use periodic::Periodic;
pub(crate) use periodic::STALL;
use strangers::Strangers;
use streams::Streams;

pub use crate::registrar::Now as ClusterTime;
pub use sizes::Sizes;

/// Places for outputs that are kept while there are none: a join fills thousands, once.
const OUTPUTS_KEPT: usize = 64;

/// When more members than this come at once, and an eighth of all, two parts of a cluster meet:
/// there is as much to compare as after a start.
const MANY_CAME: usize = 8;

/// What the core is told once.
#[derive(Clone, Debug)]
pub struct Boot {
    /// This node.
    pub node: NodeId,
    /// This start of its process; durable, and greater than any before.
    pub epoch: u64,
    /// Where others reach it.
    pub addr: SocketAddr,
    /// Number of seeds; their names are the owner's business.
    pub seeds: usize,
    /// Members of an earlier life, tried like seeds.
    pub peers: Vec<SocketAddr>,
    /// Name of the cluster.
    pub cluster_name: String,
    /// How often things happen.
    pub timings: Timings,
    /// `--inactive-producer-timeout`.
    pub inactive_producer_timeout: std::time::Duration,
    /// `--tombstone-lifetime`.
    pub tombstone_lifetime: std::time::Duration,
    /// Seed of everything random in here.
    pub seed: u64,
}

/// A stream between two nodes. The core numbers those it opens from 0; whoever accepts one gives
/// it a number from [`ConnId::ACCEPTED`] on.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnId(pub u64);

impl ConnId {
    /// The first number of an accepted stream.
    pub const ACCEPTED: u64 = 1 << 63;
}

/// Something that happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// A datagram came.
    Datagram {
        /// From where, as the network says.
        from: SocketAddr,
        /// What.
        bytes: &'a [u8],
    },
    /// Somebody opened a stream.
    Accepted(ConnId),
    /// A stream that was asked for is open.
    Connected(ConnId),
    /// A frame came.
    Frame(ConnId, &'a [u8]),
    /// A stream ended, or could not be opened.
    Closed {
        /// Which.
        conn: ConnId,
        /// The other machine answered that nothing listens there.
        is_refused: bool,
    },
    /// The addresses behind a seed's name; empty if it has none now.
    Resolved {
        /// Index of the seed.
        seed: usize,
        /// Its addresses.
        addrs: Vec<SocketAddr>,
    },
    /// The epoch is durable.
    Persisted(u64),
    /// It is time.
    Wake,
}

/// Something to be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Output {
    /// Send a datagram.
    Datagram {
        /// Where to.
        to: SocketAddr,
        /// What.
        bytes: Vec<u8>,
    },
    /// Open a stream.
    Connect {
        /// Its number.
        conn: ConnId,
        /// Where to.
        to: SocketAddr,
    },
    /// Send a frame.
    Write(ConnId, Vec<u8>),
    /// Close a stream after what was written.
    Close(ConnId),
    /// Look up a seed.
    Resolve(usize),
    /// Make this epoch durable, then say [`Input::Persisted`].
    Persist(u64),
    /// Remember these members for the next start.
    PersistPeers(Vec<SocketAddr>),
    /// Something people or the rest of the node want to know.
    Event(ClusterEvent),
}

/// What the rest of the node may want to know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClusterEvent {
    /// The cluster's state is here, or there was nobody to ask.
    Synced,
    /// A member came, or came back.
    MemberUp(Identity),
    /// A member is down.
    MemberDown(Identity),
    /// A member left.
    MemberLeft(NodeId),
    /// Goodbye is said.
    Left,
    /// Another process uses this node's id; gossip has stopped.
    NodeIdConflict,
}

/// One node's gossip.
#[derive(Debug)]
pub struct Cluster {
    membership: Membership,
    catalogue: Catalogue,
    registrar: Registrar,
    spread: Spread,
    streams: Streams,
    strangers: Strangers,
    join: Join,
    periodic: Periodic,
    pulls: BTreeMap<NodeId, pulls::PullInFlight>,
    boot: Boot,
    seal: Seal,
    counter: u64,
    rng: Xoshiro256PlusPlus,
    outputs: VecDeque<Output>,
    counters: BTreeMap<&'static str, u64>,
    /// The one counter that every datagram touches.
    datagrams_in: u64,
    exchanged_at: Option<Moment>,
    digest: compare::OwnDigest,
    /// When the next timer is due, as of the last input: it is asked for twice at each.
    due: Option<Moment>,
    /// The same without those of membership, and whether it is as it was before the last input:
    /// most packets of the failure detector change no other deadline.
    others_due: Option<Moment>,
    is_others_due_known: bool,
    /// When the own node id was last seen elsewhere.
    conflicts: Vec<Moment>,
    is_stopped: bool,
}

impl Cluster {
    /// A node that has just started. `now` is the first moment it is told anything.
    pub fn new(boot: Boot, now: Now) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(boot.seed);
        let swim_rng = Xoshiro256PlusPlus::seed_from_u64(rng.random());
        let seal = Seal::none(&boot.cluster_name);
        let me = Identity { addr: boot.addr.into(), node: boot.node, epoch: boot.epoch, renew: 0 };
        let mut catalogue = Catalogue::new(boot.node, boot.epoch, &boot.timings);
        catalogue.set_tombstone_lifetime(boot.tombstone_lifetime);
        catalogue.set_digest_key(seal.hash_key());
        let mut cluster = Self {
            membership: Membership::new(me, &boot.timings, seal.hash_key(), swim_rng),
            catalogue,
            registrar: Registrar::new(boot.inactive_producer_timeout),
            spread: Spread::default(),
            streams: Streams::default(),
            strangers: Strangers::default(),
            join: Join::new(&boot),
            periodic: Periodic::new(&boot.timings, now.at, &mut rng),
            pulls: BTreeMap::new(),
            boot,
            seal,
            counter: 0,
            rng,
            outputs: VecDeque::new(),
            counters: BTreeMap::new(),
            datagrams_in: 0,
            exchanged_at: None,
            digest: compare::OwnDigest::default(),
            due: None,
            others_due: None,
            is_others_due_known: false,
            conflicts: Vec::new(),
            is_stopped: false,
        };
        cluster.begin_join(now.at);
        cluster.set_due();
        cluster
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        match input {
            Input::Datagram { from, bytes } => self.handle_datagram(now.at, from, bytes),
            Input::Accepted(conn) => self.accepted(now.at, conn),
            Input::Connected(conn) => self.connected(now.at, conn),
            Input::Frame(conn, bytes) => self.handle_frame(now.at, conn, bytes),
            Input::Closed { conn, is_refused } => self.closed(now.at, conn, is_refused),
            Input::Resolved { seed, addrs } => self.resolved(now.at, seed, addrs),
            Input::Persisted(epoch) => self.epoch_persisted(now.at, epoch),
            Input::Wake => self.handle_wake(now),
        }
        self.settle(now.at);
    }

    /// Something to be done; call until `None`.
    pub fn poll(&mut self) -> Option<Output> {
        let next = self.outputs.pop_front();
        if next.is_none() {
            // The next one goes to where the first of these was, not behind the last.
            self.outputs.clear();
            if self.outputs.capacity() > OUTPUTS_KEPT {
                self.outputs = VecDeque::new();
            }
        }
        next
    }

    /// When [`Input::Wake`] is due.
    #[inline]
    pub fn next_wake(&self) -> Option<Moment> {
        self.due
    }

    /// Finds out when the next timer is due.
    fn set_due(&mut self) {
        if !std::mem::take(&mut self.is_others_due_known) {
            self.others_due = self.earliest_of_others();
        }
        debug_assert_eq!(self.others_due, self.earliest_of_others(), "nothing else has changed");
        let next = self.others_due.into_iter().chain(self.membership.next_wake()).min();
        self.due = next.filter(|_| !self.is_stopped);
    }

    /// The earliest deadline of all but those of membership.
    fn earliest_of_others(&self) -> Option<Moment> {
        let mut next = self.periodic.next_wake();
        let mut sooner = |at: Option<Moment>| next = at.map_or(next, |at| next.min(at));
        sooner(self.spread.next());
        if !self.membership.has_left() {
            sooner(self.join.next_wake());
        }
        if !self.pulls.is_empty() {
            sooner(self.pulls.values().map(|pull| pull.retry_at).min());
        }
        if !self.catalogue.wishes_ref().is_empty() && !self.membership.active().is_empty() {
            sooner(self.catalogue.wishes_ref().next_send());
        }
        Some(next)
    }

    /// Lets local facts be written into this node's own section.
    pub fn local<T>(
        &mut self,
        now: Now,
        what: impl FnOnce(&mut Registrar, &mut Catalogue) -> T,
    ) -> T {
        let before = self.catalogue.own().ver;
        let result = what(&mut self.registrar, &mut self.catalogue);
        self.own_changed(before, now.at);
        self.settle(now.at);
        result
    }

    /// Says goodbye. [`ClusterEvent::Left`] follows.
    pub fn leave(&mut self, now: Now) {
        self.begin_leave(now.at);
        self.settle(now.at);
    }

    /// The catalogue, for reading.
    #[inline]
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// From now on notes what changes in the catalogue, for [`take_touched`](Self::take_touched).
    pub fn begin_audit(&mut self) {
        self.catalogue.begin_audit();
    }

    /// From now on sections that are equal in this and other audited ones are held together.
    pub fn share_sections(&mut self) {
        self.catalogue.share_sections();
    }

    /// The sections that may have changed since the last call.
    pub fn take_touched(&mut self) -> Vec<Touched> {
        self.catalogue.take_touched()
    }

    /// Brings a view up to date.
    pub fn publish(&mut self, view: &crate::view::LookupView) {
        self.catalogue.publish(view);
        if let Some(at) = self.exchanged_at.take() {
            view.set_exchanged(at.as_nanos());
        }
    }

    /// The members.
    #[inline]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Counters by name.
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        let mut counters = self.counters.clone();
        if self.datagrams_in > 0 {
            counters.insert("datagrams_in", self.datagrams_in);
        }
        counters
    }

    #[cold]
    fn count(&mut self, name: &'static str) {
        *self.counters.entry(name).or_default() += 1;
    }

    /// The own section went beyond `before`, if it did: tell others soon.
    fn own_changed(&mut self, before: u64, now: Moment) {
        if self.catalogue.own().ver > before && !self.membership.active().is_empty() {
            let is_late = buggify!("flush_late", self.boot.seed, now.0);
            let delay = self.boot.timings.spread_delay * if is_late { 20 } else { 1 };
            let at = now + delay;
            self.spread.add(self.boot.node, before, None, at);
        }
    }

    /// After every input: what membership found out goes to the catalogue, what foca wants sent
    /// goes out.
    fn settle(&mut self, now: Moment) {
        if self.membership.has_changes() {
            self.is_others_due_known = false;
            self.take_changes(now);
        }
        for identity in self.membership.take_failed_probes() {
            self.is_others_due_known = false;
            self.confirm_refusal(now, identity, 1);
        }
        let curbed = self.membership.take_curbed();
        if curbed > 0 {
            *self.counters.entry("replies_curbed").or_default() += curbed;
        }
        for (to, packet) in self.membership.take_sends() {
            self.send_swim(to.socket(), packet);
        }
        self.set_due();
    }

    #[inline(never)]
    fn take_changes(&mut self, now: Moment) {
        let mut came = 0;
        for change in self.membership.take_changes() {
            match change {
                Change::Up(id) => {
                    came += 1;
                    self.catalogue.member_up(id.node, id.epoch);
                    self.event(ClusterEvent::MemberUp(id));
                }
                Change::Down(id) => {
                    self.pulls.remove(&id.node);
                    if self.membership.left().get(&id.node).is_some_and(|&e| e >= id.epoch) {
                        self.catalogue.forget(id.node);
                    } else {
                        self.catalogue.member_down(id.node, now);
                    }
                    self.event(ClusterEvent::MemberDown(id));
                }
                Change::Twin(id) => self.own_id_elsewhere(now, id.epoch),
                Change::Replaced(id) => {
                    sometimes!("member_replaced");
                    self.pulls.remove(&id.node);
                    self.catalogue.forget(id.node);
                    self.event(ClusterEvent::MemberDown(id));
                }
            }
        }
        if came > MANY_CAME.max(self.membership.active().len() / 8) {
            self.grow_young(now);
        }
    }

    fn event(&mut self, event: ClusterEvent) {
        self.outputs.push_back(Output::Event(event));
    }
}
