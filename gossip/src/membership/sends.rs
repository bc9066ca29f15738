//! What the failure detector wants sent.

use foca::Codec;

use super::Membership;
use crate::codec::SwimCodec;
use crate::identity::Endpoint;

/// Packets to be sent, each with where it goes, in order. Their room is not kept for the next: of
/// many nodes in one process each would have to fetch its own from far away.
pub type Packets = Vec<(Endpoint, Vec<u8>)>;

impl Membership {
    /// Packets to send, in order.
    pub fn take_sends(&mut self) -> Packets {
        std::mem::take(&mut self.effects.sends)
    }
}

/// Of what was added after the first `kept` packets, what goes `to` there has at most `bytes_max`
/// bytes: news about others is cut off, and what is still larger is not sent. Returns how many
/// packets that concerns.
pub(super) fn curb(packets: &mut Packets, kept: usize, to: Endpoint, bytes_max: usize) -> u64 {
    let (mut at, mut curbed) = (0, 0);
    packets.retain_mut(|(addr, packet)| {
        at += 1;
        if at <= kept || *addr != to || packet.len() <= bytes_max {
            return true;
        }
        sometimes!("reply_curbed");
        curbed += 1;
        let mut rest = packet.as_slice();
        let has_header = SwimCodec.decode_header(&mut rest).is_ok();
        let header_bytes = packet.len() - rest.len();
        packet.truncate(header_bytes);
        has_header && header_bytes <= bytes_max
    });
    curbed
}
