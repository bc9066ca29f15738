//! Streams between nodes: in order, as long as the way lasts.
//!
//! Each direction is a queue whose head has one event on the timeline. A cut holds the head up
//! until it is mended or the stream's time is over, as TCP does.

use std::collections::VecDeque;
use std::net::SocketAddr;

use grapevine_gossip::cluster::ConnId;
use rustc_hash::FxHashMap;

use super::node::{Arrival, Letter, Node};
use super::outputs::{OUTSIDE, understood};
use super::queue::Event;
use super::{End, World, accepted_conn};
use crate::luck::Domain;
use crate::outcome::Violation;

/// How long an attempt to connect to a machine that does not answer takes, in ns.
const CONNECT_NS_MAX: u64 = 3_000_000_000;

/// How long a stream that does not get on lasts, in ns: as long as any, see `agent::stream`.
const STALL_NS_MAX: u64 = 10_000_000_000;

/// Pause before what a cut holds up is sent again, in ns: the least that Linux takes.
const RETRY_NS: u64 = 200_000_000;

/// The same for an attempt to connect, whose round trip nobody knows yet: RFC 6298, 2.1. Linux
/// takes as long for each of the first four, and so does its search for a neighbour's address.
const KNOCK_RETRY_NS: u64 = 1_000_000_000;

/// Something on its way through a stream.
#[derive(Debug)]
enum Item {
    /// The attempt to open it.
    Knock,
    Connected,
    Frame(Vec<u8>, Letter),
    Closed {
        is_refused: bool,
    },
}

/// One end. `node` may be [`OUTSIDE`].
#[derive(Clone, Copy, Debug)]
struct PipeEnd {
    node: u32,
    life: u32,
    conn: ConnId,
    is_open: bool,
}

/// What is on its way to one end.
#[derive(Debug, Default)]
struct Way {
    items: VecDeque<(u64, Item)>,
    /// When the last of them arrives.
    last: u64,
    /// When the last frame of them has left, over a link with a rate.
    left: u64,
    /// The head has its event.
    is_armed: bool,
    /// Since when a cut holds the head up.
    stalled_since: Option<u64>,
}

/// A stream: side 0 opened it.
#[derive(Debug)]
struct Pipe {
    ends: [PipeEnd; 2],
    ways: [Way; 2],
}

/// Streams that are open or about to be.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    by_number: FxHashMap<u32, Pipe>,
    opened: u32,
}

impl Pipes {
    /// The node at the other end of `node`'s stream `conn`.
    pub(super) fn other_end(&self, node: &Node, conn: ConnId) -> Option<u32> {
        let (pipe, side) = node.conns.get(&conn)?;
        Some(self.by_number.get(pipe)?.ends[1 - usize::from(*side)].node)
    }
}

impl World<'_> {
    /// A node opens a stream.
    pub(super) fn connect(&mut self, from: usize, conn: ConnId, to: SocketAddr) {
        let to = self.index_of(to);
        let opener =
            PipeEnd { node: from as u32, life: self.nodes[from].life, conn, is_open: true };
        let pipe = self.open_pipe(opener, to);
        self.nodes[from].conns.insert(conn, (pipe, 0));
        match to {
            Some(to) => {
                let delay = self.network.stream_delay(from, to);
                self.push(pipe, 1, delay, Item::Knock);
            }
            // Nobody has that address.
            None => self.push(pipe, 0, CONNECT_NS_MAX, Item::Closed { is_refused: false }),
        }
    }

    /// Somebody outside opens a stream to `to` and sends `frames`; then closes it, or is silent.
    pub(super) fn intrude(&mut self, to: usize, frames: Vec<Vec<u8>>, closes: bool) {
        let outside =
            PipeEnd { node: OUTSIDE, life: 0, conn: ConnId(u64::from(u32::MAX)), is_open: true };
        let pipe = self.open_pipe(outside, Some(to));
        let delay = 200_000;
        self.push(pipe, 1, delay, Item::Knock);
        for frame in frames {
            self.messages += 1;
            let letter = Letter { id: self.messages, from: OUTSIDE, lamport: 0 };
            self.push(pipe, 1, delay, Item::Frame(frame, letter));
        }
        if closes {
            self.push(pipe, 1, delay, Item::Closed { is_refused: false });
        }
    }

    fn open_pipe(&mut self, opener: PipeEnd, to: Option<usize>) -> u32 {
        let acceptor = PipeEnd {
            node: to.map_or(OUTSIDE, |to| to as u32),
            life: 0,
            conn: ConnId(0),
            is_open: false,
        };
        self.pipes.opened += 1;
        let pipe = Pipe { ends: [opener, acceptor], ways: [Way::default(), Way::default()] };
        self.pipes.by_number.insert(self.pipes.opened, pipe);
        self.pipes.opened
    }

    /// Puts something on the way to `side`, after everything that is on it.
    fn push(&mut self, number: u32, side: u8, delay: u64, item: Item) {
        let now = self.now;
        let Some(pipe) = self.pipes.by_number.get_mut(&number) else { return };
        let way = &mut pipe.ways[usize::from(side)];
        way.last = way.last.max(now + delay);
        way.items.push_back((way.last, item));
        if !way.is_armed {
            way.is_armed = true;
            self.queue.add(way.last, Event::Pipe { pipe: number, side });
        }
    }

    pub(super) fn write(&mut self, from: usize, conn: ConnId, mut bytes: Vec<u8>) {
        let Some(&(number, side)) = self.nodes[from].conns.get(&conn) else { return };
        self.messages += 1;
        let id = self.messages;
        let to = self.pipes.other_end(&self.nodes[from], conn).unwrap_or(OUTSIDE);
        let target = (to != OUTSIDE).then_some(to as usize);
        self.record_send(from, target, id, &bytes, true);
        let node = &self.nodes[from];
        if let Some(version) = bytes.first_mut()
            && node.wire != grapevine_gossip::envelope::WIRE_VERSION
        {
            *version = node.wire;
        }
        let letter = Letter { id, from: from as u32, lamport: node.lamport };
        let delay = match target {
            Some(to) => {
                let now = self.now;
                let sending = self.network.stream_sending(from, to, bytes.len());
                let Some(pipe) = self.pipes.by_number.get_mut(&number) else { return };
                let way = &mut pipe.ways[1 - usize::from(side)];
                way.left = way.left.max(now) + sending;
                way.left - now + self.network.stream_delay(from, to)
            }
            None => 0,
        };
        self.push(number, 1 - side, delay, Item::Frame(bytes, letter));
    }

    /// One end closes: the other is told after everything that was written.
    pub(super) fn close(&mut self, from: usize, conn: ConnId) {
        let Some((number, side)) = self.nodes[from].conns.remove(&conn) else { return };
        let Some(pipe) = self.pipes.by_number.get_mut(&number) else { return };
        pipe.ends[usize::from(side)].is_open = false;
        let other = pipe.ends[1 - usize::from(side)];
        pipe.ways[usize::from(side)].items.clear();
        if !other.is_open && pipe.ways[1 - usize::from(side)].items.is_empty() {
            self.pipes.by_number.remove(&number);
            return;
        }
        let delay = match other.node {
            OUTSIDE => 0,
            to => self.network.stream_delay(from, to as usize),
        };
        self.push(number, 1 - side, delay, Item::Closed { is_refused: false });
    }

    /// The process behind many streams ended. `is_dark`: its kernel too, so nobody is told.
    ///
    /// Of what a process had written when it was killed, its kernel sends the rest, unless there
    /// was something that it had not read: then the kernel resets the stream and sends nothing more
    /// (RFC 1122, 4.2.2.13). Without power nothing more is sent either.
    pub(super) fn end_streams(&mut self, node: usize, is_dark: bool, how: End) {
        let conns: Vec<ConnId> = self.nodes[node].conns.keys().copied().collect();
        for conn in conns {
            let ids = [node as u64, u64::from(self.nodes[node].life), conn.0];
            let is_reset = Domain::new(self.plan.seed, "reset").draw(&ids).chance(0, 0.5);
            if is_dark || (how == End::Crashed && is_reset) {
                self.lose_unsent(node, conn);
            }
            if is_dark {
                if let Some((number, side)) = self.nodes[node].conns.remove(&conn)
                    && let Some(pipe) = self.pipes.by_number.get_mut(&number)
                {
                    pipe.ends[usize::from(side)].is_open = false;
                    pipe.ways[usize::from(side)].items.clear();
                }
            } else {
                self.close(node, conn);
            }
        }
    }

    /// Frames that have been written and have not arrived are lost.
    fn lose_unsent(&mut self, node: usize, conn: ConnId) {
        if let Some(&(number, side)) = self.nodes[node].conns.get(&conn)
            && let Some(pipe) = self.pipes.by_number.get_mut(&number)
        {
            let items = &mut pipe.ways[1 - usize::from(side)].items;
            items.retain(|(_, item)| !matches!(item, Item::Frame(..)));
        }
    }

    /// The head of what is on its way to `side` is due there.
    pub(super) fn deliver(&mut self, number: u32, side: u8) -> Result<(), Violation> {
        let now = self.now;
        let Some(pipe) = self.pipes.by_number.get_mut(&number) else { return Ok(()) };
        let (to, from) = (pipe.ends[usize::from(side)], pipe.ends[1 - usize::from(side)]);
        let is_cut = to.node != OUTSIDE
            && from.node != OUTSIDE
            && !self.network.connects(from.node as usize, to.node as usize);
        let way = &mut pipe.ways[usize::from(side)];
        way.is_armed = false;
        // What the other end's own kernel found out needs no network.
        let is_local = matches!(way.items.front(), Some((_, Item::Closed { .. }))) && !from.is_open;
        if is_cut && !is_local {
            let since = *way.stalled_since.get_or_insert(now);
            let is_knock = matches!(way.items.front(), Some((_, Item::Knock)));
            let (most, retry) =
                if is_knock { (CONNECT_NS_MAX, KNOCK_RETRY_NS) } else { (STALL_NS_MAX, RETRY_NS) };
            if now - since >= most {
                return self.give_up(number);
            }
            way.is_armed = true;
            self.queue.add(now + retry, Event::Pipe { pipe: number, side });
            return Ok(());
        }
        way.stalled_since = None;
        let item = way.items.pop_front();
        if let Some((at, _)) = way.items.front() {
            way.is_armed = true;
            self.queue.add((*at).max(now), Event::Pipe { pipe: number, side });
        }
        match item {
            Some((_, item)) => self.arrive(number, side, item),
            None => Ok(()),
        }
    }

    fn arrive(&mut self, number: u32, side: u8, item: Item) -> Result<(), Violation> {
        let Some(pipe) = self.pipes.by_number.get_mut(&number) else { return Ok(()) };
        let end = &mut pipe.ends[usize::from(side)];
        if matches!(item, Item::Knock) {
            return self.knock(number);
        }
        if !end.is_open || end.node == OUTSIDE {
            let is_over = pipe.ends.iter().all(|end| !end.is_open)
                && pipe.ways.iter().all(|way| way.items.is_empty());
            if is_over {
                self.pipes.by_number.remove(&number);
            }
            return Ok(());
        }
        let (index, life, conn) = (end.node as usize, end.life, end.conn);
        if self.nodes[index].life != life {
            return Ok(());
        }
        let arrival = match item {
            Item::Knock => return Ok(()),
            Item::Connected => Arrival::Connected(conn),
            Item::Frame(mut bytes, letter) => {
                if let Some(version) = bytes.first_mut() {
                    *version = understood(*version, self.nodes[index].wire);
                }
                Arrival::Frame { conn, bytes, letter }
            }
            Item::Closed { is_refused } => {
                end.is_open = false;
                if !pipe.ends[1 - usize::from(side)].is_open {
                    self.pipes.by_number.remove(&number);
                }
                self.nodes[index].conns.remove(&conn);
                Arrival::Closed { conn, is_refused }
            }
        };
        self.give(index, arrival)
    }

    /// An attempt to open a stream reaches the machine it is meant for.
    fn knock(&mut self, number: u32) -> Result<(), Violation> {
        let Some(pipe) = self.pipes.by_number.get_mut(&number) else { return Ok(()) };
        let (from, to) = (pipe.ends[0].node, pipe.ends[1].node as usize);
        let node = &mut self.nodes[to];
        if node.cluster.is_none() {
            let (delay, is_refused) = if node.is_dark {
                (CONNECT_NS_MAX, false)
            } else if from == OUTSIDE {
                (0, true)
            } else {
                (self.network.stream_delay(to, from as usize), true)
            };
            self.push(number, 0, delay, Item::Closed { is_refused });
            return Ok(());
        }
        let conn = accepted_conn(node.accepted);
        node.accepted += 1;
        node.conns.insert(conn, (number, 1));
        pipe.ends[1] = PipeEnd { node: to as u32, life: node.life, conn, is_open: true };
        // The kernel answers, whether or not the process runs.
        if from != OUTSIDE {
            let delay = self.network.stream_delay(to, from as usize);
            self.push(number, 0, delay, Item::Connected);
        }
        self.give(to, Arrival::Accepted(conn))
    }

    /// A stream has been held up for too long: both ends are told.
    fn give_up(&mut self, number: u32) -> Result<(), Violation> {
        let Some(pipe) = self.pipes.by_number.remove(&number) else { return Ok(()) };
        for end in pipe.ends {
            if !end.is_open || end.node == OUTSIDE {
                continue;
            }
            let node = &mut self.nodes[end.node as usize];
            if node.life == end.life {
                node.conns.remove(&end.conn);
                let arrival = Arrival::Closed { conn: end.conn, is_refused: false };
                self.give(end.node as usize, arrival)?;
            }
        }
        Ok(())
    }
}
