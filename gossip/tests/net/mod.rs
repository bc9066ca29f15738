//! A few cores in one test: every packet arrives after a millisecond, unless a test says otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use grapevine_gossip::NodeId;
use grapevine_gossip::cluster::{Boot, Cluster, ClusterEvent, ClusterTime, ConnId, Input, Output};
use grapevine_gossip::config::Timings;
use grapevine_protocol::Moment;

const HOP: u64 = 1_000_000;

/// How long a connection to nobody is tried, in ns.
const CONNECT_MAX: u64 = 3_000_000_000;

pub(crate) fn addr(number: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], number))
}

pub(crate) fn boot(node: u64, epoch: u64, addr: SocketAddr) -> Boot {
    Boot {
        node: NodeId(node),
        epoch,
        addr,
        seeds: 0,
        peers: vec![],
        cluster_name: "test".to_owned(),
        timings: Timings::default(),
        inactive_producer_timeout: Duration::from_secs(300),
        tombstone_lifetime: Duration::from_secs(45),
        seed: u64::from(addr.port()),
    }
}

pub(crate) struct Node {
    pub(crate) cluster: Cluster,
    pub(crate) addr: SocketAddr,
    /// Killed: nothing reaches it any more.
    is_dead: bool,
    /// Of all seeds.
    pub(crate) seeds: Vec<SocketAddr>,
    pub(crate) events: Vec<(u64, ClusterEvent)>,
    /// Epochs made durable, in order.
    pub(crate) persisted: Vec<u64>,
    /// Lists of peers written, with the time in ns.
    pub(crate) peers: Vec<(u64, Vec<SocketAddr>)>,
}

enum Event {
    Datagram { from: SocketAddr, to: usize, bytes: Vec<u8> },
    Connect { opener: usize, conn: ConnId, to: SocketAddr },
    Frame(usize, ConnId, Vec<u8>),
    Closed(usize, ConnId, bool),
    Persisted(usize, u64),
    Resolved(usize, usize),
}

#[derive(Default)]
pub(crate) struct Net {
    pub(crate) now: u64,
    pub(crate) nodes: Vec<Node>,
    queue: BTreeMap<(u64, u64), Event>,
    count: u64,
    links: BTreeMap<(usize, ConnId), (usize, ConnId)>,
    /// From whom to whom a firewall refuses everything.
    pub(crate) rejected: BTreeSet<(SocketAddr, SocketAddr)>,
    /// Addresses of machines that are off: nobody answers, not even with a refusal.
    pub(crate) dark: BTreeSet<SocketAddr>,
    /// Seeds whose names nobody looks up within a test.
    pub(crate) unnamed: BTreeSet<SocketAddr>,
}

impl Net {
    pub(crate) fn time(&self) -> ClusterTime {
        ClusterTime { at: Moment(self.now), wall_ns: 0 }
    }

    /// Starts a node that joins through `seeds`.
    pub(crate) fn start(
        &mut self,
        node: u64,
        epoch: u64,
        at: SocketAddr,
        seeds: &[SocketAddr],
    ) -> usize {
        self.boot(boot(node, epoch, at), seeds)
    }

    /// The same for a node that knows more.
    pub(crate) fn boot(&mut self, boot: Boot, seeds: &[SocketAddr]) -> usize {
        let at = boot.addr;
        let boot = Boot { seeds: seeds.len(), ..boot };
        let cluster = Cluster::new(boot, self.time());
        let (seeds, events, persisted, peers) = (seeds.to_vec(), vec![], vec![], vec![]);
        self.nodes.push(Node {
            cluster,
            addr: at,
            is_dead: false,
            seeds,
            events,
            persisted,
            peers,
        });
        self.collect(self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + u64::try_from(time.as_nanos()).unwrap();
        loop {
            let wakes = self.nodes.iter().enumerate().filter(|(_, node)| !node.is_dead);
            let wake = wakes.filter_map(|(at, n)| Some((n.cluster.next_wake()?.0, at))).min();
            let event = self.queue.first_key_value().map(|(&(at, _), _)| at);
            match (event, wake) {
                (Some(at), wake) if at <= end && wake.is_none_or(|(wake, _)| at <= wake) => {
                    self.now = self.now.max(at);
                    let (_, event) = self.queue.pop_first().unwrap();
                    self.happens(event);
                }
                (_, Some((at, node))) if at <= end => {
                    self.now = self.now.max(at);
                    self.input(node, Input::Wake);
                }
                _ => break,
            }
        }
        self.now = end;
    }

    /// Ends a process.
    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node].is_dead = true;
    }

    pub(crate) fn input(&mut self, node: usize, input: Input<'_>) {
        if self.nodes[node].is_dead {
            return;
        }
        let time = self.time();
        self.nodes[node].cluster.handle(time, input);
        self.collect(node);
    }

    /// Members that `node` holds active, itself included, by address.
    pub(crate) fn members(&self, node: usize) -> Vec<SocketAddr> {
        let membership = self.nodes[node].cluster.membership();
        let active = membership.active().values().map(|id| id.addr.socket());
        let mut members: Vec<_> = active.chain([membership.me().addr.socket()]).collect();
        members.sort_unstable();
        members
    }

    fn at(&self, addr: SocketAddr) -> Option<usize> {
        self.nodes.iter().rposition(|node| node.addr == addr && !node.is_dead)
    }

    fn later(&mut self, event: Event) {
        self.count += 1;
        self.queue.insert((self.now + HOP, self.count), event);
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Datagram { from, to, bytes } => {
                self.input(to, Input::Datagram { from, bytes: &bytes });
            }
            Event::Connect { opener, conn, to } => match self.at(to) {
                Some(acceptor) => {
                    self.count += 1;
                    let accepted = ConnId(ConnId::ACCEPTED + self.count);
                    self.links.insert((opener, conn), (acceptor, accepted));
                    self.links.insert((acceptor, accepted), (opener, conn));
                    self.input(acceptor, Input::Accepted(accepted));
                    self.input(opener, Input::Connected(conn));
                }
                None => self.input(opener, Input::Closed { conn, is_refused: true }),
            },
            Event::Frame(to, conn, bytes) => self.input(to, Input::Frame(conn, &bytes)),
            Event::Closed(to, conn, is_refused) => {
                self.input(to, Input::Closed { conn, is_refused });
            }
            Event::Persisted(node, epoch) => self.input(node, Input::Persisted(epoch)),
            Event::Resolved(node, seed) => {
                let addrs = vec![self.nodes[node].seeds[seed]];
                self.input(node, Input::Resolved { seed, addrs });
            }
        }
    }

    fn collect(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].cluster.poll() {
            let from = self.nodes[node].addr;
            let mut events = self.nodes[node].events.iter();
            if events.any(|(_, event)| *event == ClusterEvent::NodeIdConflict) {
                let is_silent = !matches!(output, Output::Datagram { .. } | Output::Write(..));
                assert!(is_silent, "a twin that stopped says nothing more");
            }
            match output {
                Output::Datagram { to, .. } if self.rejected.contains(&(from, to)) => {}
                Output::Datagram { to, bytes } => {
                    if let Some(to) = self.at(to) {
                        self.later(Event::Datagram { from, to, bytes });
                    }
                }
                Output::Connect { conn, to } if self.rejected.contains(&(from, to)) => {
                    self.later(Event::Closed(node, conn, true));
                }
                Output::Connect { conn, to } if self.dark.contains(&to) => {
                    let at = self.now + CONNECT_MAX;
                    self.queue.insert((at, self.count), Event::Closed(node, conn, false));
                    self.count += 1;
                }
                Output::Connect { conn, to } => {
                    self.later(Event::Connect { opener: node, conn, to });
                }
                Output::Write(conn, bytes) => {
                    if let Some(&(to, conn)) = self.links.get(&(node, conn)) {
                        self.later(Event::Frame(to, conn, bytes));
                    }
                }
                Output::Close(conn) => {
                    if let Some((to, peer)) = self.links.remove(&(node, conn)) {
                        self.later(Event::Closed(to, peer, false));
                    }
                }
                Output::Resolve(seed) if self.unnamed.contains(&self.nodes[node].seeds[seed]) => {}
                Output::Resolve(seed) => self.later(Event::Resolved(node, seed)),
                Output::Persist(epoch) => {
                    self.nodes[node].persisted.push(epoch);
                    self.later(Event::Persisted(node, epoch));
                }
                Output::PersistPeers(peers) => self.nodes[node].peers.push((self.now, peers)),
                Output::Event(event) => self.nodes[node].events.push((self.now, event)),
            }
        }
    }
}
