//! What the failure detector wants sent.

use std::net::SocketAddr;
use std::ops::Range;

use foca::Codec;

use super::Membership;
use crate::codec::SwimCodec;
use crate::identity::Endpoint;

/// Bytes and places that are kept for the next packets: those of most turns.
const BYTES_KEPT: usize = 4096;
const PACKETS_KEPT: usize = 32;

/// Packets to be sent, in order: their bytes one after the other, in room that is used again.
#[derive(Debug, Default)]
pub struct Packets {
    bytes: Vec<u8>,
    packets: Vec<(Endpoint, Range<usize>)>,
}

impl Membership {
    /// Whether there are packets to send.
    pub fn has_sends(&self) -> bool {
        !self.effects.sends.is_empty()
    }

    /// Packets to send, in order.
    pub fn take_sends(&mut self) -> Packets {
        std::mem::take(&mut self.effects.sends)
    }

    /// Those of the last [`take_sends`](Self::take_sends) are sent: their room is used again.
    pub fn sent(&mut self, mut packets: Packets) {
        packets.clear();
        self.effects.sends = packets;
    }
}

impl Packets {
    pub(super) fn push(&mut self, to: Endpoint, packet: &[u8]) {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(packet);
        self.packets.push((to, begin..self.bytes.len()));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Each with where it goes.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        self.packets.iter().map(|(to, place)| (to.socket(), &self.bytes[place.clone()]))
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(BYTES_KEPT);
        self.packets.clear();
        self.packets.shrink_to(PACKETS_KEPT);
    }

    /// Of what was added after the first `kept` packets, what goes `to` there has at most
    /// `bytes_max` bytes: news about others is cut off, and what is still larger is not sent.
    /// Returns how many packets that concerns.
    pub(super) fn curb(&mut self, kept: usize, to: Endpoint, bytes_max: usize) -> u64 {
        let Self { bytes, packets } = self;
        let (mut at, mut curbed) = (0, 0);
        packets.retain_mut(|(addr, place)| {
            at += 1;
            if at <= kept || *addr != to || place.len() <= bytes_max {
                return true;
            }
            sometimes!("reply_curbed");
            curbed += 1;
            let mut rest = &bytes[place.clone()];
            let has_header = SwimCodec.decode_header(&mut rest).is_ok();
            let header_bytes = place.len() - rest.len();
            place.end = place.start + header_bytes;
            has_header && header_bytes <= bytes_max
        });
        curbed
    }
}
