//! Consumers: where they are connected, and what they will answer.

use std::collections::BTreeMap;

use super::shell::Answer;

/// One consumer of one channel, as a client library is: it asks `/lookup` and connects to every
/// node that is named.
#[derive(Clone, Debug)]
pub(crate) struct Consumer {
    pub(crate) topic: u32,
    pub(crate) channel: u32,
    /// RDY on each connection.
    pub(crate) rdy: u64,
    /// By node: connected, or trying to be.
    pub(crate) links: BTreeMap<usize, Link>,
}

/// A consumer's way to one node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Link {
    /// It has failed this often and will be tried again.
    Trying(u32),
    /// The node has not heard of the cluster yet and lets it wait.
    Held,
    /// The number of the connection at the node.
    Open(u64),
}

/// A connection as its node knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conn {
    pub(crate) consumer: u32,
    pub(crate) topic: u32,
    pub(crate) channel: u32,
    /// A turn of it is on the queue.
    pub(crate) has_turn: bool,
}

/// An answer on its way from a consumer to its node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Letter {
    pub(crate) node: usize,
    pub(crate) life: u32,
    pub(crate) conn: u64,
    pub(crate) id: u64,
    pub(crate) number: u64,
    pub(crate) answer: Answer,
}

/// All consumers.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    pub(crate) consumers: Vec<Consumer>,
    /// By node and number.
    pub(crate) conns: BTreeMap<(usize, u64), Conn>,
    letters: BTreeMap<u32, Letter>,
    letter_count: u32,
}

impl Clients {
    /// Puts an answer on its way; its number.
    pub(crate) fn send(&mut self, letter: Letter) -> u32 {
        self.letter_count = self.letter_count.wrapping_add(1);
        self.letters.insert(self.letter_count, letter);
        self.letter_count
    }

    /// An answer arrives.
    pub(crate) fn take(&mut self, number: u32) -> Option<Letter> {
        self.letters.remove(&number)
    }

    /// Every connection to a node ends; the consumers that had them.
    pub(crate) fn hang_up(&mut self, node: usize) -> Vec<(u64, Conn)> {
        let all = (node, 0)..=(node, u64::MAX);
        let ended: Vec<(u64, Conn)> =
            self.conns.range(all).map(|(&(_, number), &conn)| (number, conn)).collect();
        for (number, conn) in &ended {
            self.conns.remove(&(node, *number));
            if let Some(consumer) = self.consumers.get_mut(conn.consumer as usize) {
                consumer.links.insert(node, Link::Trying(0));
            }
        }
        ended
    }
}
