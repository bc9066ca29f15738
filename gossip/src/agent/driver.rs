//! The task: carries bytes, names and time between the world and the core.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::Shared;
use super::state::State;
use super::stream::{self, StreamEvent};
use crate::cluster::{ClusterEvent, ConnId, Input, Output};

/// Datagrams read in one go before anything else gets its turn.
const DATAGRAMS_PER_TURN_MAX: usize = 256;

/// Events of streams waiting for the task; a stream that is faster waits.
const EVENTS_MAX: usize = 64;

/// Accepted sockets at once, those that only drain included.
const ACCEPTED_MAX: usize = 64;

/// A turn this long makes others suspect this node.
const TURN_MAX: Duration = Duration::from_millis(100);

/// How often a node that gossips in the clear beyond its own machine says so.
const WARN_PERIOD: Duration = Duration::from_secs(60);

/// How long a seed's name may take to be looked up; it is looked up again in the next round.
const RESOLVE_MAX: Duration = Duration::from_secs(5);

/// Pause before a failed write of the epoch is tried again; nothing is announced meanwhile.
const PERSIST_RETRY: Duration = Duration::from_secs(1);

pub(super) struct Driver {
    shared: Arc<Shared>,
    socket: UdpSocket,
    listener: TcpListener,
    seeds: Vec<String>,
    state: State,
    streams: HashMap<ConnId, mpsc::UnboundedSender<Vec<u8>>>,
    accepted: u64,
    slots: Arc<Semaphore>,
    events: mpsc::Sender<StreamEvent>,
    inbox: mpsc::Receiver<StreamEvent>,
    warn_at: Instant,
}

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        socket: UdpSocket,
        listener: TcpListener,
        seeds: Vec<String>,
        state: State,
    ) -> Self {
        let (events, inbox) = mpsc::channel(EVENTS_MAX);
        Self {
            shared,
            socket,
            listener,
            seeds,
            state,
            streams: HashMap::new(),
            accepted: 0,
            slots: Arc::new(Semaphore::new(ACCEPTED_MAX)),
            events,
            inbox,
            warn_at: Instant::now(),
        }
    }

    /// Runs until goodbye is said.
    pub(super) async fn run(mut self) {
        let mut datagram = [0; 2048];
        loop {
            self.perform();
            if self.shared.is_left() {
                return;
            }
            let wake_at = self.shared.next_wake();
            if wake_at <= Instant::now() {
                // Packets first: after a pause of the process the answers to its probes are
                // waiting, and must not be mistaken for missing.
                // N09, class "late, and blames others".
                if !mutant!(N09) {
                    self.read_datagrams(&mut datagram);
                }
                self.shared.handle(Input::Wake);
                self.warn_if_due();
                continue;
            }
            tokio::select! {
                () = self.shared.poked.notified() => {}
                Some(event) = self.inbox.recv() => self.take(event),
                ready = self.socket.readable() => {
                    if ready.is_ok() {
                        self.read_datagrams(&mut datagram);
                    }
                }
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => self.accept(stream),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a gossip stream");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
                () = tokio::time::sleep_until(wake_at) => {}
            }
        }
    }

    fn read_datagrams(&self, datagram: &mut [u8]) {
        let started = Instant::now();
        for _ in 0..DATAGRAMS_PER_TURN_MAX {
            match self.socket.try_recv_from(datagram) {
                Ok((len, from)) => {
                    self.shared.handle(Input::Datagram { from, bytes: &datagram[..len] });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An ICMP answer to something sent earlier; the next datagram is readable.
                Err(error) => tracing::debug!(%error, "gossip socket"),
            }
        }
        let took = started.elapsed();
        if took > TURN_MAX {
            tracing::warn!(
                took_us = took.as_micros(),
                "slow gossip turn; peers may suspect this node"
            );
        }
    }

    fn take(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Connected(conn) => self.shared.handle(Input::Connected(conn)),
            StreamEvent::Frame(conn, frame) => self.shared.handle(Input::Frame(conn, &frame)),
            StreamEvent::Closed { conn, is_refused } => {
                self.streams.remove(&conn);
                self.shared.handle(Input::Closed { conn, is_refused });
            }
            StreamEvent::Resolved { seed, addrs } => {
                self.shared.handle(Input::Resolved { seed, addrs });
            }
            StreamEvent::Persisted(epoch) => self.shared.handle(Input::Persisted(epoch)),
        }
    }

    fn accept(&mut self, stream: tokio::net::TcpStream) {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else { return };
        let conn = ConnId(ConnId::ACCEPTED + self.accepted);
        self.accepted += 1;
        let (sender, frames) = mpsc::unbounded_channel();
        self.streams.insert(conn, sender);
        let events = self.events.clone();
        tokio::spawn(async move {
            stream::accept(conn, stream, frames, events).await;
            drop(slot);
        });
        self.shared.handle(Input::Accepted(conn));
    }

    /// Does everything the core wants done.
    fn perform(&mut self) {
        for output in self.shared.outputs() {
            match output {
                Output::Datagram { to, bytes } => {
                    if let Err(error) = self.socket.try_send_to(&bytes, to) {
                        tracing::debug!(%to, %error, "datagram not sent");
                    }
                }
                Output::Connect { conn, to } => {
                    let (sender, frames) = mpsc::unbounded_channel();
                    self.streams.insert(conn, sender);
                    tokio::spawn(stream::open(conn, to, frames, self.events.clone()));
                }
                Output::Write(conn, frame) => {
                    if let Some(sender) = self.streams.get(&conn) {
                        // A stream that has just ended is reported by itself.
                        let _ = sender.send(frame);
                    }
                }
                Output::Close(conn) => {
                    self.streams.remove(&conn);
                }
                Output::Resolve(seed) => self.resolve(seed),
                Output::Persist(epoch) => self.persist(epoch),
                Output::PersistPeers(peers) => {
                    let state = self.state.clone();
                    tokio::task::spawn_blocking(move || {
                        if let Err(error) = state.write_peers(&peers) {
                            tracing::warn!(%error, "cannot keep the members for the next start");
                        }
                    });
                }
                Output::Event(event) => self.announce(&event),
            }
        }
    }

    fn resolve(&self, seed: usize) {
        let (events, name) = (self.events.clone(), self.seeds.get(seed).cloned());
        tokio::spawn(async move {
            let name = name.unwrap_or_default();
            let lookup = tokio::time::timeout(RESOLVE_MAX, tokio::net::lookup_host(&name));
            let addrs: Vec<SocketAddr> = match lookup.await.unwrap_or_else(|late| Err(late.into()))
            {
                Ok(addrs) => addrs.collect(),
                Err(error) => {
                    tracing::warn!(seed = name, %error, "cannot resolve a seed; will try again");
                    Vec::new()
                }
            };
            let _ = events.send(StreamEvent::Resolved { seed, addrs }).await;
        });
    }

    fn persist(&self, epoch: u64) {
        let (events, state) = (self.events.clone(), self.state.clone());
        tokio::spawn(async move {
            loop {
                let state = state.clone();
                match tokio::task::spawn_blocking(move || state.write_epoch(epoch)).await {
                    Ok(Ok(())) => break,
                    Ok(Err(error)) => tracing::error!(%error, "cannot write the gossip epoch"),
                    Err(error) => tracing::error!(%error, "cannot write the gossip epoch"),
                }
                tokio::time::sleep(PERSIST_RETRY).await;
            }
            let _ = events.send(StreamEvent::Persisted(epoch)).await;
        });
    }

    fn announce(&self, event: &ClusterEvent) {
        match event {
            ClusterEvent::Synced => {
                tracing::info!("gossip is in sync");
                self.shared.synced.send_replace(true);
            }
            ClusterEvent::MemberUp(id) => {
                tracing::info!(node = %id.node, address = %id.addr, "member up");
            }
            ClusterEvent::MemberDown(id) => {
                tracing::info!(node = %id.node, address = %id.addr, "member down");
            }
            ClusterEvent::MemberLeft(node) => tracing::info!(%node, "member left"),
            ClusterEvent::Left => {
                tracing::info!("left the cluster");
                self.shared.left.send_replace(true);
            }
            ClusterEvent::NodeIdConflict => {
                match self.shared.address_rival() {
                    Some(rival) => tracing::error!(
                        address = %rival.addr, node = %rival.node,
                        "another node answers at this node's gossip address; gossip has stopped"
                    ),
                    None => {
                        tracing::error!("another process uses this node's id; gossip has stopped")
                    }
                }
                self.shared.synced.send_replace(true);
            }
        }
    }

    fn warn_if_due(&mut self) {
        if self.warn_at <= Instant::now() {
            self.warn_at = Instant::now() + WARN_PERIOD;
            if self.shared.gossips_beyond_loopback() {
                tracing::warn!(
                    "gossip travels in the clear beyond this machine: whoever can send packets to \
                     the gossip address can change what this cluster answers"
                );
            }
        }
    }
}
