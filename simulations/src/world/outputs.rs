//! What cores want done: datagrams, streams, names, files.

use std::net::SocketAddr;

use grapevine_gossip::cluster::{ClusterEvent, Output};
use grapevine_gossip::envelope::WIRE_VERSION;
use grapevine_gossip::message::describe;

use super::node::{Arrival, translated};
use super::queue::Event;
use super::{End, World, nanos};
use crate::disk::{self, Write};
use crate::network::Fate;
use crate::outcome::Violation;
use crate::trace::What;

/// What a datagram weighs beyond its payload, in bytes: IP and UDP headers, and the 16 bytes of a
/// seal. The rest of a seal, its nonce, is in the envelope's header already.
const DATAGRAM_OVERHEAD: usize = 28 + 16;

/// The same for a frame: its length, and a seal.
const FRAME_OVERHEAD: usize = 4 + 16;

/// What a name server takes to answer, in ns.
const RESOLVE_NS: u64 = 1_000_000;

/// How long a node that leaves waits at most before its process ends; see `agent::LEAVE_MAX`.
pub(super) const LEAVE_NS_MAX: u64 = 1_500_000_000;

/// Somebody outside the cluster.
pub(super) const OUTSIDE: u32 = u32::MAX;

/// A version of the wire format that nobody speaks.
const NO_VERSION: u8 = u8::MAX;

/// A datagram on its way, shared by its copies.
#[derive(Debug)]
pub(super) struct Parcel {
    /// Number among the messages of the run.
    pub(super) id: u64,
    /// Index of the sender, or [`OUTSIDE`].
    pub(super) from: u32,
    pub(super) source: SocketAddr,
    /// How often the receiver had moved when it was sent.
    pub(super) moves: u8,
    /// The sender's Lamport time.
    pub(super) lamport: u64,
    /// Copies that have not arrived.
    pub(super) copies: u8,
    pub(super) bytes: Vec<u8>,
}

impl World<'_> {
    pub(super) fn perform(&mut self, from: usize, output: Output) -> Result<(), Violation> {
        match output {
            Output::Datagram { to, bytes } => self.send(from, to, bytes),
            other => self.perform_other(from, other),
        }
    }

    /// Apart from datagrams, which are most of what nodes want done: what is used all the time is
    /// to stay in the processor's cache.
    #[inline(never)]
    fn perform_other(&mut self, from: usize, output: Output) -> Result<(), Violation> {
        let node = from as u32;
        match output {
            // `perform` sends those.
            Output::Datagram { .. } => {}
            Output::Connect { conn, to } => {
                let now = self.moment();
                self.oracle.knocked(from, now);
                self.connect(from, conn, to);
            }
            Output::Write(conn, bytes) => {
                let to = self.pipes.other_end(&self.nodes[from], conn);
                let addr = to.and_then(|to| self.nodes.get(to as usize)).map(|node| node.addr);
                if let Some(addr) = addr {
                    let now = self.moment();
                    let cluster = self.nodes[from].cluster.as_ref();
                    self.oracle.sent(from, addr, &bytes, true, cluster, now)?;
                }
                self.count_bytes(from, bytes.len() + FRAME_OVERHEAD, true);
                self.write(from, conn, bytes);
            }
            Output::Close(conn) => self.close(from, conn),
            Output::Resolve(seed) => {
                let life = self.nodes[from].life;
                let seed = u32::try_from(seed).unwrap_or(u32::MAX);
                self.queue.add(self.now + RESOLVE_NS, Event::Resolved { node, life, seed });
            }
            Output::Persist(epoch) => self.begin_write(from, Write::Epoch(epoch)),
            Output::PersistPeers(peers) => self.begin_write(from, Write::Peers(peers)),
            Output::Event(event) => {
                let now = self.moment();
                self.check_heard(from, &event)?;
                self.pairs.note(&event);
                let cluster = self.nodes[from].cluster.as_ref();
                self.oracle.event(from, &event, cluster, now)?;
                self.record_event(from, &event);
                if matches!(event, ClusterEvent::Synced | ClusterEvent::NodeIdConflict) {
                    self.broker_hears(from);
                }
                if event == ClusterEvent::Left {
                    self.end_process(from, End::Left);
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, from: usize, to: SocketAddr, bytes: Vec<u8>) -> Result<(), Violation> {
        let now = self.moment();
        let cluster = self.nodes[from].cluster.as_ref();
        self.oracle.sent(from, to, &bytes, false, cluster, now)?;
        self.stats.datagrams += 1;
        self.count_bytes(from, bytes.len() + DATAGRAM_OVERHEAD, false);
        self.messages += 1;
        let id = self.messages;
        let target = self.index_of(to);
        self.record_send(from, target, id, &bytes, false);
        let Some(to) = target else { return Ok(()) };
        let node = &self.nodes[from];
        let is_translated = self.network.translates(from, to);
        let mut parcel = Parcel {
            id,
            from: from as u32,
            source: if is_translated { translated(from) } else { node.addr },
            moves: self.nodes[to].moves,
            lamport: node.lamport,
            copies: 1,
            bytes,
        };
        if node.wire != WIRE_VERSION
            && let Some(version) = parcel.bytes.first_mut()
        {
            *version = node.wire;
        }
        match self.network.carry(from, to, parcel.bytes.len(), self.now) {
            Fate::Lost(reason) => {
                if self.tells_all {
                    std::hint::cold_path();
                    self.record(Some(to), lost(&parcel, reason));
                }
            }
            Fate::Arrives { after, again, damage } => {
                if !damage.is_none() {
                    damage.apply(&mut parcel.bytes);
                }
                parcel.copies += u8::from(again.is_some());
                let parcel = self.parcels.add(parcel);
                let to = to as u32;
                self.queue.add(self.now + after, Event::Datagram { to, parcel });
                if let Some(again) = again {
                    self.queue.add(self.now + again, Event::Datagram { to, parcel });
                }
            }
        }
        Ok(())
    }

    /// A datagram reaches the machine it was sent to, unless the way was cut meanwhile.
    pub(super) fn datagram_arrives(&mut self, to: usize, number: u32) -> Result<(), Violation> {
        let node = &self.nodes[to];
        let Some(parcel) = self.parcels.get_mut(number) else { return Ok(()) };
        let from = parcel.from;
        let reason = if from != OUTSIDE && !self.network.reaches(from as usize, to) {
            Some("cut")
        } else if node.cluster.is_none() || node.moves != parcel.moves {
            Some("dead")
        } else {
            None
        };
        if let Some(reason) = reason {
            self.drop_parcel(to, number, reason);
            return Ok(());
        }
        if let Some(version) = parcel.bytes.first_mut() {
            *version = understood(*version, node.wire);
        }
        self.give(to, Arrival::Datagram(number))
    }

    /// One copy of a parcel is done with.
    pub(super) fn release(&mut self, number: u32) {
        if let Some(parcel) = self.parcels.get_mut(number) {
            parcel.copies -= 1;
            if parcel.copies == 0 {
                self.parcels.take(number);
            }
        }
    }

    pub(super) fn drop_parcel(&mut self, to: usize, number: u32, reason: &'static str) {
        let is_recorded = self.tells_all;
        let parcel = self.parcels.get_mut(number).filter(|_| is_recorded);
        if let Some(lost) = parcel.map(|parcel| lost(parcel, reason)) {
            self.record(Some(to), lost);
        }
        self.release(number);
    }

    pub(super) fn count_bytes(&mut self, from: usize, bytes: usize, is_stream: bool) {
        let bytes = bytes as u64;
        if is_stream {
            self.stats.stream_bytes += bytes;
        } else {
            self.stats.datagram_bytes += bytes;
        }
        self.nodes[from].bytes += bytes;
        let second = self.now / 1_000_000_000;
        if second != self.second.0 {
            self.fill_seconds();
        }
        self.second.1 += bytes;
    }

    /// Closes the books of every second that is over.
    pub(super) fn fill_seconds(&mut self) {
        let now = self.now / 1_000_000_000;
        let nodes = self.nodes.len().max(1) as u64;
        while self.second.0 < now {
            let average = u32::try_from(self.second.1 / nodes).unwrap_or(u32::MAX);
            self.stats.bytes_by_second.push(average);
            self.second = (self.second.0 + 1, 0);
        }
    }

    /// V5: nobody is declared dead while packets that may say otherwise have not been read.
    fn check_heard(&self, index: usize, event: &ClusterEvent) -> Result<(), Violation> {
        let unread = self.nodes[index].inbox.datagrams();
        match event {
            ClusterEvent::MemberDown(_) if self.is_waking && unread > 0 => {
                let what = format!("unread={unread}");
                Err(self.violation("V5", "judged-unheard", index, what))
            }
            _ => Ok(()),
        }
    }

    /// A write to a node's disk begins; it ends after the disk's latency.
    pub(super) fn begin_write(&mut self, index: usize, write: Write) {
        let node = &mut self.nodes[index];
        node.disk.begin(write.clone());
        node.write_count += 1;
        let number = node.write_count;
        node.writes.insert(number, write);
        let at = self.now + nanos(node.disk.latency());
        let event = Event::Written { node: index as u32, life: node.life, write: number };
        self.queue.add(at, event);
    }

    /// A write ends. One that fails is tried again, and nothing is announced meanwhile.
    pub(super) fn written(
        &mut self,
        index: usize,
        life: u32,
        number: u32,
    ) -> Result<(), Violation> {
        let node = &mut self.nodes[index];
        if node.life != life {
            return Ok(());
        }
        let Some(write) = node.writes.remove(&number) else { return Ok(()) };
        let is_done = node.disk.finish(self.now, &write);
        match write {
            Write::Epoch(epoch) if is_done => {
                self.oracle.persisted(index, epoch);
                self.record_persist(index, epoch);
                self.give(index, Arrival::Persisted(epoch))
            }
            Write::Epoch(_) => {
                node.writes.insert(number, write.clone());
                node.disk.begin(write);
                let at = self.now + nanos(disk::RETRY + node.disk.latency());
                self.queue.add(at, Event::Written { node: index as u32, life, write: number });
                Ok(())
            }
            Write::Node(_) | Write::Peers(_) => Ok(()),
        }
    }
}

#[cold]
fn lost(parcel: &Parcel, reason: &'static str) -> What {
    let msg = describe(&parcel.bytes);
    What::Drop { id: parcel.id, from: parcel.from, msg, reason }
}

/// The version byte as a receiver that speaks `wire` reads it: its core always takes itself for
/// the version that this build speaks.
pub(super) fn understood(version: u8, wire: u8) -> u8 {
    if wire == WIRE_VERSION || (version != wire && version != WIRE_VERSION) {
        return version;
    }
    if version == wire { WIRE_VERSION } else { NO_VERSION }
}
