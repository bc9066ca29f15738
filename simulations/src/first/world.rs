//! The cluster: nodes with their disks, the events between them, and the clock.

mod faults;
mod streams;
mod truth;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::hash::Hasher;
use std::net::SocketAddr;
use std::time::Duration;

use grapevine_gossip::NodeId;
use grapevine_gossip::cluster::{Cluster, ClusterEvent, ClusterTime, ConnId, Input, Output};
use grapevine_gossip::message::{DATAGRAM_BYTES_MAX, FRAME_BYTES_MAX};
use grapevine_protocol::Moment;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::first::network::{Network, Quality};
use crate::first::oracle::{Oracle, Violation};
use crate::first::scenario::{Fault, Scenario};

use streams::Pipes;

/// Topics and channels that changes are drawn from: few, so that they are deleted and come back.
const TOPICS: usize = 6;
const CHANNELS: usize = 3;

/// Events after which a run counts as a storm of the nodes' own making.
const EVENTS_MAX: u64 = 3_000_000;

/// Wall clock of a simulation at its beginning, in ms since 1970. Each node's is off by a while.
const WALL_MS: u64 = 1_700_000_000_000;

/// What came of a run without violations.
#[derive(Clone, Debug)]
pub struct Report {
    /// Hash over every event in order: equal for equal runs.
    pub hash: u64,
    /// Events handled.
    pub events: u64,
    /// Datagrams sent.
    pub datagrams: u64,
    /// Bytes of those datagrams.
    pub bytes: u64,
    /// How long after the last fault everyone agreed.
    pub agreed_after: Duration,
}

#[derive(Clone, Debug)]
pub(crate) enum Event {
    Datagram { to: usize, from: SocketAddr, bytes: Vec<u8> },
    Wake { node: usize, life: u64, at: Moment },
    Accepted { node: usize, life: u64, conn: ConnId },
    Connected { node: usize, life: u64, conn: ConnId },
    Frame { node: usize, life: u64, conn: ConnId, bytes: Vec<u8> },
    Closed { node: usize, life: u64, conn: ConnId, is_refused: bool },
    Knock { from: usize, life: u64, conn: ConnId, to: usize },
    Resolved { node: usize, life: u64, seed: usize },
    Persisted { node: usize, life: u64, epoch: u64 },
    Resume(usize),
    Fault(Fault),
    RandomFault,
    Change,
    EndOfChaos,
}

#[derive(Debug)]
struct Node {
    id: NodeId,
    addr: SocketAddr,
    cluster: Option<Cluster>,
    /// Counts starts, so that what was meant for an earlier process is not given to a later one.
    life: u64,
    /// What the disk holds.
    epoch: u64,
    peers: Vec<SocketAddr>,
    registered: BTreeSet<(usize, Option<usize>)>,
    /// The wall clock is off by this much.
    wall_offset_ms: i64,
    wake_at: Option<Moment>,
    stalled: bool,
    waiting: Vec<Event>,
    is_leaving: bool,
}

/// A simulated cluster.
#[derive(Debug)]
pub struct World {
    scenario: Scenario,
    now: Moment,
    queue: BinaryHeap<Reverse<(Moment, u64)>>,
    events: BTreeMap<u64, Event>,
    sequence: u64,
    nodes: Vec<Node>,
    pipes: Pipes,
    network: Network,
    rng: Xoshiro256PlusPlus,
    oracle: Oracle,
    hasher: siphasher::sip::SipHasher13,
    handled: u64,
    datagrams: u64,
    bytes: u64,
    is_chaos: bool,
}

impl World {
    /// A cluster whose nodes all start within the first second; the first two are everyone's
    /// seeds.
    pub fn new(scenario: Scenario, seed: u64) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let nodes = (0..scenario.nodes).map(|index| Node {
            id: NodeId(rng.random_range(1..u64::MAX)),
            addr: addr_of(index),
            cluster: None,
            life: 0,
            epoch: 0,
            peers: Vec::new(),
            registered: BTreeSet::new(),
            wall_offset_ms: rng.random_range(-3_600_000..3_600_000),
            wake_at: None,
            stalled: false,
            waiting: Vec::new(),
            is_leaving: false,
        });
        let nodes = nodes.collect();
        let mut world = Self {
            network: Network::new(scenario.quality.clone()),
            scenario,
            now: Moment::default(),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            nodes,
            pipes: Pipes::default(),
            rng,
            oracle: Oracle::default(),
            hasher: siphasher::sip::SipHasher13::new(),
            handled: 0,
            datagrams: 0,
            bytes: 0,
            is_chaos: true,
        };
        world.plan();
        world
    }

    /// Runs the scenario to its end.
    ///
    /// # Errors
    ///
    /// The first [`Violation`].
    pub fn run(mut self) -> Result<Report, Violation> {
        let end = Moment::default() + self.scenario.chaos + self.scenario.quiet;
        let chaos_end = Moment::default() + self.scenario.chaos;
        let mut agreed_at = None;
        let mut next_look = chaos_end;
        while let Some(Reverse((at, number))) = self.queue.pop() {
            if at > end {
                break;
            }
            let Some(event) = self.events.remove(&number) else { continue };
            self.now = at;
            if !self.is_chaos && at >= next_look {
                next_look = at + Duration::from_millis(50);
                match self.disagreement() {
                    None => agreed_at = agreed_at.or(Some(at)),
                    Some(_) => agreed_at = None,
                }
            }
            self.happen(event)?;
            if self.handled > EVENTS_MAX {
                let what = format!("more than {EVENTS_MAX} events by {at:?}");
                return Err(Violation { rule: "L4", node: 0, what });
            }
        }
        if let Some(what) = self.disagreement() {
            return Err(Violation { rule: "L1", node: 0, what });
        }
        Ok(Report {
            hash: self.hasher.finish(),
            events: self.handled,
            datagrams: self.datagrams,
            bytes: self.bytes,
            agreed_after: agreed_at.unwrap_or(end).since(chaos_end),
        })
    }

    /// Puts the starts, the faults and the changes on the timeline.
    fn plan(&mut self) {
        for node in 0..self.scenario.nodes {
            let at = Duration::from_millis(self.rng.random_range(0..1000));
            self.after(at, Event::Fault(Fault::Start(node)));
        }
        match self.scenario.script.clone() {
            Some(script) => {
                for (at, fault) in script {
                    self.after(at, Event::Fault(fault));
                }
            }
            None => self.after_about(self.scenario.fault_pause, Event::RandomFault),
        }
        self.after_about(self.scenario.change_pause, Event::Change);
        self.after(self.scenario.chaos, Event::EndOfChaos);
    }

    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    fn after_about(&mut self, pause: Duration, event: Event) {
        let delay = pause.mul_f64(self.rng.random_range(0.1..1.9));
        self.after(delay, event);
    }

    pub(crate) fn at(&mut self, at: Moment, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence)));
        self.events.insert(self.sequence, event);
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Datagram { to, from, bytes } => {
                let event = Event::Datagram { to, from, bytes };
                self.give(to, None, event)
            }
            Event::Wake { node, life, at } => {
                if self.nodes[node].wake_at == Some(at) {
                    self.nodes[node].wake_at = None;
                    return self.give(node, Some(life), Event::Wake { node, life, at });
                }
                Ok(())
            }
            Event::Accepted { node, life, .. }
            | Event::Connected { node, life, .. }
            | Event::Frame { node, life, .. }
            | Event::Closed { node, life, .. }
            | Event::Resolved { node, life, .. }
            | Event::Persisted { node, life, .. } => self.give(node, Some(life), event),
            Event::Knock { from, life, conn, to } => {
                self.knock(from, life, conn, to);
                Ok(())
            }
            Event::Resume(node) => {
                self.nodes[node].stalled = false;
                // What came meanwhile is read before any timer fires.
                for event in std::mem::take(&mut self.nodes[node].waiting) {
                    self.give_now(node, event)?;
                }
                Ok(())
            }
            Event::RandomFault => {
                if self.is_chaos {
                    let running: Vec<bool> =
                        self.nodes.iter().map(|node| node.cluster.is_some()).collect();
                    let fault = self.scenario.draw(&running, &mut self.rng);
                    self.after_about(self.scenario.fault_pause, Event::RandomFault);
                    return self.cause(fault);
                }
                Ok(())
            }
            Event::Fault(fault) => self.cause(fault),
            Event::Change => {
                if self.is_chaos {
                    self.after_about(self.scenario.change_pause, Event::Change);
                    return self.change();
                }
                Ok(())
            }
            Event::EndOfChaos => {
                self.is_chaos = false;
                self.network.heal();
                self.network.quality = Quality::GOOD;
                (0..self.nodes.len()).try_for_each(|node| self.cause(Fault::Start(node)))
            }
        }
    }

    /// Hands an event to a node's process, unless it is over; a stalled one gets it later.
    fn give(&mut self, to: usize, life: Option<u64>, event: Event) -> Result<(), Violation> {
        let node = &mut self.nodes[to];
        if life.is_some_and(|life| life != node.life) || node.cluster.is_none() {
            return Ok(());
        }
        if node.stalled {
            // A socket's buffer is finite; so is this.
            if node.waiting.len() < 2_000 {
                node.waiting.push(event);
            }
            return Ok(());
        }
        self.give_now(to, event)
    }

    fn give_now(&mut self, to: usize, event: Event) -> Result<(), Violation> {
        let time = self.time(to);
        self.hash_event(to, &event);
        let Some(cluster) = self.nodes[to].cluster.as_mut() else { return Ok(()) };
        let writes_alone = matches!(event, Event::Wake { .. });
        match event {
            Event::Datagram { from, bytes, .. } => {
                cluster.handle(time, Input::Datagram { from, bytes: &bytes });
            }
            Event::Wake { .. } => cluster.handle(time, Input::Wake),
            Event::Accepted { conn, .. } => cluster.handle(time, Input::Accepted(conn)),
            Event::Connected { conn, .. } => cluster.handle(time, Input::Connected(conn)),
            Event::Frame { conn, bytes, .. } => cluster.handle(time, Input::Frame(conn, &bytes)),
            Event::Closed { conn, is_refused, .. } => {
                cluster.handle(time, Input::Closed { conn, is_refused });
            }
            Event::Resolved { seed, .. } => {
                cluster.handle(time, Input::Resolved { seed, addrs: vec![addr_of(seed)] });
            }
            Event::Persisted { epoch, .. } => cluster.handle(time, Input::Persisted(epoch)),
            Event::Knock { .. }
            | Event::Resume(_)
            | Event::Fault(_)
            | Event::RandomFault
            | Event::Change
            | Event::EndOfChaos => {}
        }
        self.after_input(to, writes_alone)
    }

    /// After a node was told something: its outputs are carried out, its beliefs are checked.
    fn after_input(&mut self, index: usize, may_write: bool) -> Result<(), Violation> {
        self.handled += 1;
        let Some(mut cluster) = self.nodes[index].cluster.take() else { return Ok(()) };
        self.oracle.record(index, &cluster, may_write)?;
        self.oracle.check(index, &cluster)?;
        let topic = format!("t{}", self.handled % TOPICS as u64);
        self.oracle.check_row(index, &cluster, &topic, |port| {
            self.nodes.get(usize::from(port) - 1).map_or(NodeId(0), |node| node.id)
        })?;
        let mut is_over = false;
        while let Some(output) = cluster.poll() {
            is_over |= matches!(output, Output::Event(ClusterEvent::Left));
            if matches!(output, Output::Event(ClusterEvent::NodeIdConflict)) {
                let what = "a node took itself for its own twin".to_owned();
                return Err(Violation { rule: "S9", node: index, what });
            }
            self.perform(index, output)?;
        }
        let wake_at = cluster.next_wake();
        self.nodes[index].cluster = Some(cluster);
        if is_over {
            self.end_process(index);
        } else if let Some(at) = wake_at {
            let at = at.max(self.now);
            let node = &mut self.nodes[index];
            if node.wake_at.is_none_or(|planned| planned > at) {
                node.wake_at = Some(at);
                let life = node.life;
                self.at(at, Event::Wake { node: index, life, at });
            }
        }
        Ok(())
    }

    fn perform(&mut self, from: usize, output: Output) -> Result<(), Violation> {
        let life = self.nodes[from].life;
        let millisecond = Duration::from_millis(1);
        match output {
            Output::Datagram { to, bytes } => self.send(from, to, bytes)?,
            Output::Connect { conn, to } => {
                let to = index_of(to);
                let delay = self.network.delay(&mut self.rng);
                self.after(delay, Event::Knock { from, life, conn, to });
            }
            Output::Write(conn, bytes) => {
                if bytes.len() > FRAME_BYTES_MAX {
                    let what = format!("a frame of {} bytes", bytes.len());
                    return Err(Violation { rule: "B1", node: from, what });
                }
                self.write(from, conn, bytes);
            }
            Output::Close(conn) => self.close(from, conn),
            Output::Resolve(seed) => {
                self.after(millisecond, Event::Resolved { node: from, life, seed });
            }
            Output::Persist(epoch) => {
                let node = &mut self.nodes[from];
                node.epoch = node.epoch.max(epoch);
                self.after(millisecond, Event::Persisted { node: from, life, epoch });
            }
            Output::PersistPeers(peers) => self.nodes[from].peers = peers,
            Output::Event(_) => {}
        }
        Ok(())
    }

    fn send(&mut self, from: usize, to: SocketAddr, bytes: Vec<u8>) -> Result<(), Violation> {
        let fail = |rule, what| Err(Violation { rule, node: from, what });
        if bytes.len() > DATAGRAM_BYTES_MAX {
            return fail("B1", format!("a datagram of {} bytes", bytes.len()));
        }
        let epoch = bytes.get(10..18).and_then(|word| word.try_into().ok()).map(u64::from_be_bytes);
        if epoch.is_none_or(|epoch| epoch > self.nodes[from].epoch) {
            return fail("S9", format!("epoch {epoch:?} was shown before it was durable"));
        }
        self.datagrams += 1;
        self.bytes += bytes.len() as u64;
        let (to, source) = (index_of(to), self.nodes[from].addr);
        for delay in self.network.deliveries(from, to, &mut self.rng) {
            self.after(delay, Event::Datagram { to, from: source, bytes: bytes.clone() });
        }
        Ok(())
    }

    fn time(&self, node: usize) -> ClusterTime {
        let wall_ms = WALL_MS.saturating_add_signed(self.nodes[node].wall_offset_ms);
        let elapsed = i64::try_from(self.now.as_nanos()).unwrap_or(i64::MAX);
        let wall_ns = i64::try_from(wall_ms).unwrap_or(0) * 1_000_000 + elapsed;
        ClusterTime { at: self.now, wall_ns }
    }

    fn hash_event(&mut self, node: usize, event: &Event) {
        self.hasher.write_u64(self.now.as_nanos());
        self.hasher.write_usize(node);
        match event {
            Event::Datagram { bytes, .. } | Event::Frame { bytes, .. } => self.hasher.write(bytes),
            other => self.hasher.write(format!("{other:?}").as_bytes()),
        }
    }
}

fn addr_of(index: usize) -> SocketAddr {
    let index = u16::try_from(index).unwrap_or(u16::MAX);
    let [high, low] = index.to_be_bytes();
    SocketAddr::from(([10, 0, high, low], 4162))
}

fn index_of(addr: SocketAddr) -> usize {
    match addr {
        SocketAddr::V4(addr) => {
            let [_, _, high, low] = addr.ip().octets();
            usize::from(u16::from_be_bytes([high, low]))
        }
        SocketAddr::V6(_) => usize::MAX,
    }
}
