//! What the failure detector wants sent.

use super::Membership;
use crate::NodeId;
use crate::codec::{peek_header, restore_swim};
use crate::envelope::HEADER_BYTES;
use crate::identity::{Endpoint, Identity};
use crate::message::{KIND_SWIM, KIND_SWIM_SHORT};

/// What is before a packet in a datagram: the envelope's header, and the kind.
const DATAGRAM_FRONT_BYTES: usize = HEADER_BYTES + 1;

/// A packet of the failure detector as it travels, with room for what is before it in a datagram.
#[derive(Debug)]
pub struct Packet(Vec<u8>);

impl Packet {
    /// A packet without its sender's node and epoch.
    pub(super) fn short(swim: &[u8]) -> Self {
        Self::of(KIND_SWIM_SHORT, swim)
    }

    fn of(kind: u8, swim: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(DATAGRAM_FRONT_BYTES + swim.len());
        bytes.extend_from_slice(&[kind; DATAGRAM_FRONT_BYTES]);
        bytes.extend_from_slice(swim);
        Self(bytes)
    }

    /// The packet.
    pub fn swim(&self) -> &[u8] {
        self.0.get(DATAGRAM_FRONT_BYTES..).unwrap_or(&[])
    }

    /// Whether it is without its sender's node and epoch, which the envelope says.
    pub(crate) fn is_short(&self) -> bool {
        self.0.get(HEADER_BYTES) == Some(&KIND_SWIM_SHORT)
    }

    /// Puts them in: the envelope will not say these.
    #[cold]
    pub(super) fn restore(&mut self, node: NodeId, epoch: u64) {
        if self.is_short()
            && let Some(whole) = restore_swim(self.swim(), node, epoch)
        {
            *self = Self::of(KIND_SWIM, &whole);
        }
    }

    fn truncate(&mut self, len: usize) {
        self.0.truncate(DATAGRAM_FRONT_BYTES + len);
    }

    /// A datagram that begins with `header`.
    pub(crate) fn into_datagram(self, header: &[u8; HEADER_BYTES]) -> Vec<u8> {
        let mut bytes = self.0;
        bytes[..HEADER_BYTES].copy_from_slice(header);
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

/// Of what was added after the first `kept` packets of `me`, what goes `to` there has at most
/// `bytes_max` bytes: news about others is cut off, and what is still larger is not sent. Returns
/// how many packets that concerns.
pub(super) fn curb(
    packets: &mut Packets,
    kept: usize,
    me: Identity,
    (to, bytes_max): (Endpoint, usize),
) -> u64 {
    let (mut at, mut curbed) = (0, 0);
    packets.retain_mut(|(addr, packet)| {
        at += 1;
        if at <= kept || *addr != to || packet.swim().len() <= bytes_max {
            return true;
        }
        sometimes!("reply_curbed");
        curbed += 1;
        let swim = packet.swim();
        let Some((.., news)) = peek_header(swim, me.node, me.epoch) else { return false };
        let header_bytes = swim.len() - news.len();
        packet.truncate(header_bytes);
        header_bytes <= bytes_max
    });
    curbed
}
