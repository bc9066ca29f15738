//! Datagrams on their way out: messages, packets of the failure detector, and both in one.

use std::net::SocketAddr;

use super::{Cluster, Output};
use crate::codec::encode_into;
use crate::envelope::{HEADER_BYTES, Sender};
use crate::membership::Packet;
use crate::message::{DATAGRAM_BYTES_MAX, KIND_MESSAGE, KIND_MESSAGE_SWIM, Message};

/// Room that is made for a datagram at first: most messages fit.
const DATAGRAM_BYTES_USUAL: usize = 256;

impl Cluster {
    pub(super) fn send(&mut self, to: SocketAddr, message: &Message) {
        if self.is_stopped {
            return;
        }
        let bytes = self.sealed(DATAGRAM_BYTES_USUAL, |bytes| {
            bytes.push(KIND_MESSAGE);
            encode_into(message, bytes);
        });
        self.outputs.push_back(Output::Datagram { to, bytes });
    }

    /// An envelope with what `body` appends, about so many bytes: encoded where it is sent from.
    pub(super) fn sealed(&mut self, about: usize, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + about);
        let sender = self.next_sender();
        self.seal.begin(sender, &mut bytes);
        body(&mut bytes);
        self.seal.finish(&mut bytes);
        bytes
    }

    pub(super) fn send_body(&mut self, to: SocketAddr, kind: u8, body: &[u8]) {
        self.send_parts(to, &[&[kind], body]);
    }

    /// Sends a packet of the failure detector.
    pub(super) fn send_swim(&mut self, to: SocketAddr, packet: Packet) {
        if self.is_stopped {
            return;
        }
        let sender = self.next_sender();
        let mut bytes = packet.into_datagram(&self.seal.header(sender));
        self.seal.finish(&mut bytes);
        self.outputs.push_back(Output::Datagram { to, bytes });
    }

    /// Sends a probe and, with it if both fit into a datagram, a message.
    pub(super) fn send_ping_with(&mut self, to: SocketAddr, ping: Packet, message: &[u8]) {
        let len = u16::try_from(message.len()).unwrap_or(u16::MAX);
        let [high, low] = len.to_be_bytes();
        let front = [KIND_MESSAGE_SWIM, high, low];
        let swim = ping.swim();
        let len = HEADER_BYTES + front.len() + message.len() + swim.len();
        if ping.is_short() && len <= DATAGRAM_BYTES_MAX {
            return self.send_parts(to, &[&front, message, swim]);
        }
        self.send_swim(to, ping);
        self.send_body(to, KIND_MESSAGE, message);
    }

    pub(super) fn send_parts(&mut self, to: SocketAddr, parts: &[&[u8]]) {
        if self.is_stopped {
            return;
        }
        let sender = self.next_sender();
        let bytes = self.seal.seal_parts(sender, parts);
        self.outputs.push_back(Output::Datagram { to, bytes });
    }

    /// What the next envelope says of this node.
    pub(super) fn next_sender(&mut self) -> Sender {
        let me = self.membership.me();
        self.counter += 1;
        Sender { node: me.node, epoch: me.epoch, counter: self.counter }
    }
}
