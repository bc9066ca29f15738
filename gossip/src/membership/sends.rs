//! What the failure detector wants sent.

use foca::Codec;

use super::Membership;
use crate::codec::SwimCodec;
use crate::envelope::HEADER_BYTES;
use crate::identity::{Endpoint, Identity};

/// What is before a packet in a datagram: the envelope's header, and the kind.
pub(crate) const DATAGRAM_FRONT_BYTES: usize = HEADER_BYTES + 1;

/// A packet of the failure detector, with room for what is before it in a datagram.
#[derive(Debug)]
pub struct Packet(Vec<u8>);

impl Packet {
    /// A packet of these parts.
    pub(super) fn of(parts: [&[u8]; 2]) -> Self {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let mut bytes = Vec::with_capacity(DATAGRAM_FRONT_BYTES + len);
        bytes.extend_from_slice(&[0; DATAGRAM_FRONT_BYTES]);
        for part in parts {
            bytes.extend_from_slice(part);
        }
        Self(bytes)
    }

    /// The packet.
    pub fn swim(&self) -> &[u8] {
        self.0.get(DATAGRAM_FRONT_BYTES..).unwrap_or(&[])
    }

    fn truncate(&mut self, len: usize) {
        self.0.truncate(DATAGRAM_FRONT_BYTES + len);
    }

    /// A datagram that begins with `front`. Of the packet `left_out` bytes after the first `kept`
    /// are left out.
    pub(crate) fn into_datagram(
        self,
        front: &[u8; DATAGRAM_FRONT_BYTES],
        kept: usize,
        left_out: usize,
    ) -> Vec<u8> {
        let mut bytes = self.0;
        bytes.copy_within(
            DATAGRAM_FRONT_BYTES..DATAGRAM_FRONT_BYTES + kept,
            DATAGRAM_FRONT_BYTES + left_out,
        );
        bytes.drain(..left_out);
        bytes[..DATAGRAM_FRONT_BYTES].copy_from_slice(front);
        bytes
    }
}

/// Packets to be sent, each with where it goes, in order. Their room is not kept for the next: of
/// many nodes in one process each would have to fetch its own from far away.
pub type Packets = Vec<(Endpoint, Packet)>;

impl Membership {
    /// Packets to send, in order.
    pub fn take_sends(&mut self) -> Packets {
        self.effects.ping = None;
        std::mem::take(&mut self.effects.sends)
    }

    /// Whom a packet to be sent probes, if one does and its receiver is active here.
    pub(crate) fn probed(&self) -> Option<Identity> {
        let (_, to) = self.effects.ping?;
        (self.active.get(&to.node) == Some(&to)).then_some(to)
    }

    /// The packet that does.
    pub(crate) fn take_ping(&mut self) -> Option<Packet> {
        let (at, _) = self.effects.ping.take()?;
        let sends = &mut self.effects.sends;
        (at < sends.len()).then(|| sends.remove(at).1)
    }
}

/// Of what was added after the first `kept` packets, what goes `to` there has at most `bytes_max`
/// bytes: news about others is cut off, and what is still larger is not sent. Returns how many
/// packets that concerns.
pub(super) fn curb(packets: &mut Packets, kept: usize, to: Endpoint, bytes_max: usize) -> u64 {
    let (mut at, mut curbed) = (0, 0);
    packets.retain_mut(|(addr, packet)| {
        at += 1;
        if at <= kept || *addr != to || packet.swim().len() <= bytes_max {
            return true;
        }
        sometimes!("reply_curbed");
        curbed += 1;
        let mut rest = packet.swim();
        let has_header = SwimCodec.decode_header(&mut rest).is_ok();
        let header_bytes = packet.swim().len() - rest.len();
        packet.truncate(header_bytes);
        has_header && header_bytes <= bytes_max
    });
    curbed
}
