//! Streams between simulated nodes: in order, until a cut or the end of a process breaks them.

use std::collections::BTreeMap;
use std::time::Duration;

use grapevine_gossip::cluster::ConnId;
use grapevine_protocol::Moment;

use super::{Event, World};

/// How long an attempt to connect to a machine that does not answer takes.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// How long until a broken stream is noticed.
const BREAK: Duration = Duration::from_secs(5);

/// One end of a stream: the node's index and its number there.
type End = (usize, ConnId);

/// Open streams.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    /// The other end of each, its process, and when the last thing sent there arrives.
    peers: BTreeMap<End, (End, u64, Moment)>,
    accepted: u64,
}

impl World {
    /// A connection attempt reaches `to`, or does not.
    pub(super) fn knock(&mut self, from: usize, life: u64, conn: ConnId, to: usize) {
        let closed = |is_refused| Event::Closed { node: from, life, conn, is_refused };
        let back = self.network.delay(&mut self.rng);
        if to >= self.nodes.len() || !self.network.connects(from, to) {
            return self.after(CONNECT_MAX, closed(false));
        }
        if self.nodes[to].cluster.is_none() {
            return self.after(back, closed(true));
        }
        let accepted = ConnId(ConnId::ACCEPTED + self.pipes.accepted);
        self.pipes.accepted += 1;
        let to_life = self.nodes[to].life;
        self.pipes.peers.insert((from, conn), ((to, accepted), to_life, self.now));
        self.pipes.peers.insert((to, accepted), ((from, conn), life, self.now + back));
        self.after(Duration::ZERO, Event::Accepted { node: to, life: to_life, conn: accepted });
        self.after(back, Event::Connected { node: from, life, conn });
    }

    pub(super) fn write(&mut self, from: usize, conn: ConnId, bytes: Vec<u8>) {
        let Some(&((to, at), life, last)) = self.pipes.peers.get(&(from, conn)) else { return };
        if !self.network.connects(from, to) {
            let end = Event::Closed { node: to, life, conn: at, is_refused: false };
            let own_life = self.nodes[from].life;
            let own = Event::Closed { node: from, life: own_life, conn, is_refused: false };
            self.after(BREAK, end);
            self.after(BREAK, own);
            self.pipes.peers.remove(&(from, conn));
            self.pipes.peers.remove(&(to, at));
            return;
        }
        let arrives = last.max(self.now + self.network.delay(&mut self.rng));
        self.pipes.peers.insert((from, conn), ((to, at), life, arrives));
        self.at(arrives, Event::Frame { node: to, life, conn: at, bytes });
    }

    /// One end closes: the other is told after everything that was written.
    pub(super) fn close(&mut self, from: usize, conn: ConnId) {
        if let Some(((to, at), life, last)) = self.pipes.peers.remove(&(from, conn)) {
            self.pipes.peers.remove(&(to, at));
            let arrives = last.max(self.now + self.network.delay(&mut self.rng));
            self.at(arrives, Event::Closed { node: to, life, conn: at, is_refused: false });
        }
    }

    /// The process behind one end of many streams ended.
    pub(super) fn break_pipes(&mut self, node: usize) {
        let ends: Vec<End> = self.pipes.peers.keys().copied().collect();
        for (_, conn) in ends.into_iter().filter(|(at, _)| *at == node) {
            self.close(node, conn);
        }
    }
}
