//! Packets that foca fills to the last byte.
//!
//! foca takes rumours out of its heap until the packet has no byte left, so that of a row of 96 it
//! takes out all, and puts back those that do not fit: that was a tenth of what a cluster that
//! comes together computes. With a header that is made longer by just what would be left over,
//! rumours of the usual size fill the packet, and foca stops there. Neither the padding nor what
//! says how long it is leaves the node.

use bytes::{Buf, BufMut};
use foca::{Codec, Header, Member, Message};

use super::foca_config::SWIM_BYTES_MAX;
use super::sends::Packet;
use crate::codec::{CodecError, SWIM_ITEM_BYTES_MAX, SwimCodec, SwimItem, identity_bytes};
use crate::identity::Identity;

/// Before the header: its length and that of the padding after it, a byte each.
const FRONT_BYTES: usize = 2;

/// What foca puts before the rumours: how many there are.
const COUNT_BYTES: usize = 2;

/// What a member has besides its identity as a rule: an incarnation and a state of one byte each.
const STATE_BYTES: usize = 2;

const _: () = assert!(SWIM_ITEM_BYTES_MAX <= u8::MAX as usize, "a length is a byte");

/// [`SwimCodec`] with padded headers in what foca sends; [`fitted`] takes the padding off.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fitting;

impl Codec<Identity> for Fitting {
    type Error = CodecError;

    fn encode_header(
        &mut self,
        header: &Header<Identity>,
        mut buf: impl BufMut,
    ) -> Result<(), CodecError> {
        let item = SwimItem::header(header);
        let bytes = item.as_slice();
        let len = bytes.len();
        let padding = padding(&header.message, bytes);
        if buf.remaining_mut() < FRONT_BYTES + len + padding {
            return Err(CodecError::Full);
        }
        buf.put_u8(len as u8);
        buf.put_u8(padding as u8);
        buf.put_slice(bytes);
        buf.put_bytes(0, padding);
        Ok(())
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Identity>, CodecError> {
        SwimCodec.decode_header(buf)
    }

    fn encode_member(
        &mut self,
        member: &Member<Identity>,
        buf: impl BufMut,
    ) -> Result<(), CodecError> {
        SwimCodec.encode_member(member, buf)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<Identity>, CodecError> {
        SwimCodec.decode_member(buf)
    }
}

/// A packet that foca sends, as it travels.
pub(super) fn fitted(packet: &[u8]) -> Packet {
    let Some(([len, padding], rest)) = packet.split_first_chunk::<FRONT_BYTES>() else {
        return Packet::of([&[], &[]]);
    };
    let (header, rest) = rest.split_at(rest.len().min(usize::from(*len)));
    Packet::of([header, rest.get(usize::from(*padding)..).unwrap_or(&[])])
}

/// What is left over in a packet with this header that is full of members as large as its sender.
fn padding(message: &Message<Identity>, header: &[u8]) -> usize {
    match message {
        // They carry no rumours, or are not used here.
        Message::Announce | Message::Feed | Message::Broadcast | Message::TurnUndead => 0,
        Message::Ping(_)
        | Message::Ack(_)
        | Message::PingReq { .. }
        | Message::IndirectPing { .. }
        | Message::IndirectAck { .. }
        | Message::ForwardedAck { .. }
        | Message::Gossip => {
            let room = SWIM_BYTES_MAX.saturating_sub(FRONT_BYTES + header.len() + COUNT_BYTES);
            room % (identity_bytes(header) + STATE_BYTES)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use foca::State;

    use super::*;
    use crate::NodeId;

    fn identity(node: u64, addr: &str) -> Identity {
        let addr: SocketAddr = addr.parse().unwrap();
        Identity { addr: addr.into(), node: NodeId(node), epoch: 1_700_000_000_000, renew: 0 }
    }

    #[test]
    fn members_as_large_as_the_sender_fill_a_packet_and_the_padding_comes_off() {
        let (four, six) = (identity(1 << 60, "10.0.0.1:4162"), identity(300, "[::1]:80"));
        for (src, dst) in [(four, six), (six, four)] {
            for message in [
                Message::Ping(1),
                Message::Ack(255),
                Message::Gossip,
                Message::PingReq { target: six, probe_number: 3 },
                Message::IndirectPing { origin: four, probe_number: 3 },
                Message::IndirectAck { target: six, probe_number: 3 },
                Message::ForwardedAck { origin: four, probe_number: 3 },
            ] {
                let header = Header { src, src_incarnation: 9, dst, message };
                let mut plain = Vec::new();
                SwimCodec.encode_header(&header, &mut plain).unwrap();
                let mut packet = Vec::new().limit(SWIM_BYTES_MAX);
                Fitting.encode_header(&header, &mut packet).unwrap();
                packet.put_u16(7);
                let mut member = Vec::new();
                SwimCodec.encode_member(&Member::new(src, 0, State::Down), &mut member).unwrap();
                assert_eq!(packet.remaining_mut() % member.len(), 0);
                plain.put_u16(7);
                assert_eq!(fitted(packet.get_ref()).swim(), plain);
            }
        }
    }

    #[test]
    fn what_carries_no_rumours_is_not_padded() {
        let me = identity(1, "10.0.0.1:4162");
        for message in [Message::TurnUndead, Message::Announce, Message::Broadcast] {
            let header = Header { src: me, src_incarnation: 0, dst: me, message };
            let mut packet = Vec::new();
            Fitting.encode_header(&header, &mut packet).unwrap();
            assert_eq!(packet[1], 0);
            assert_eq!(SwimCodec.decode_header(fitted(&packet).swim()).unwrap(), header);
        }
    }

    #[test]
    fn an_identity_takes_as_many_bytes_as_its_encoding_has() {
        for (node, addr) in [(7, "10.0.0.1:80"), (300, "[::1]:4162"), (70_000, "[::1]:1")] {
            let id = identity(node, addr);
            let mut member = Vec::new();
            SwimCodec.encode_member(&Member::new(id, 0, State::Alive), &mut member).unwrap();
            assert_eq!(identity_bytes(&member) + STATE_BYTES, member.len());
        }
    }
}
