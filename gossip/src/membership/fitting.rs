//! Packets that foca fills to the last byte.
//!
//! foca takes rumours out of its heap until the packet has no byte left, so that of a row of 96 it
//! takes out all, and puts back those that do not fit: that was a tenth of what a cluster that
//! comes together computes. With padding of just what would be left over rumours of the usual size
//! fill the packet, and foca stops there. Neither the padding nor what says how long it is leaves
//! the node.

use bytes::{Buf, BufMut};
use foca::{Codec, Header, Member, Message};

use super::foca_config::{SHOWN_BYTES_MAX, SWIM_BYTES_MAX};
use super::sends::Packet;
use crate::codec::{
    CodecError, SWIM_FRONT_BYTES, SwimCodec, SwimItem, identity_bytes, sender_bytes,
    take_shown_header,
};
use crate::identity::Identity;

/// Before the padding: how long it is.
const FRONT_BYTES: usize = 1;

/// What foca puts before the rumours: how many there are.
const COUNT_BYTES: usize = 2;

/// What a member has besides its identity as a rule: an incarnation and a state of one byte each.
const STATE_BYTES: usize = 2;

/// Longest padding: what foca may write more than a packet has, the longest node and epoch, and
/// less than one member with an IPv6 address.
const PADDING_MAX: usize = (SHOWN_BYTES_MAX - SWIM_BYTES_MAX) + 18 + 48;

const _: () = assert!(FRONT_BYTES + PADDING_MAX <= SWIM_FRONT_BYTES, "there is room for it");

/// [`SwimCodec`] with headers as they travel, without their sender's node and epoch, and with
/// padding before them in what foca sends; [`fitted`] takes it off.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fitting;

impl Codec<Identity> for Fitting {
    type Error = CodecError;

    fn encode_header(
        &mut self,
        header: &Header<Identity>,
        mut buf: impl BufMut,
    ) -> Result<(), CodecError> {
        let mut item = SwimItem::short_header(header);
        let room_and_header = item.as_mut_slice();
        let padding = padding(header, room_and_header.len() - SWIM_FRONT_BYTES);
        let padded = &mut room_and_header[SWIM_FRONT_BYTES - FRONT_BYTES - padding..];
        padded[0] = padding as u8;
        if buf.remaining_mut() < padded.len() {
            return Err(CodecError::Full);
        }
        buf.put_slice(padded);
        Ok(())
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Identity>, CodecError> {
        take_shown_header(buf)
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
    let Some((&padding, rest)) = packet.split_first() else { return Packet::short(&[]) };
    Packet::short(rest.get(usize::from(padding)..).unwrap_or(&[]))
}

/// What foca is to write before a header that has so many bytes as it travels: all that it may
/// write beyond the longest packet, and what would be left over in one that is full of members as
/// large as its sender.
fn padding(header: &Header<Identity>, short_bytes: usize) -> usize {
    let left_out = sender_bytes(header.src.node, header.src.epoch);
    let beyond = SHOWN_BYTES_MAX - SWIM_BYTES_MAX - FRONT_BYTES + left_out;
    match header.message {
        // They carry no rumours, or are not used here.
        Message::Announce | Message::Feed | Message::Broadcast | Message::TurnUndead => beyond,
        Message::Ping(_)
        | Message::Ack(_)
        | Message::PingReq { .. }
        | Message::IndirectPing { .. }
        | Message::IndirectAck { .. }
        | Message::ForwardedAck { .. }
        | Message::Gossip => {
            let room = SWIM_BYTES_MAX.saturating_sub(short_bytes + left_out + COUNT_BYTES);
            beyond + room % (identity_bytes(&header.src) + STATE_BYTES)
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

    fn whole(packet: Packet, src: Identity) -> Vec<u8> {
        let mut packet = packet;
        packet.restore(src.node, src.epoch);
        packet.swim().to_vec()
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
                let mut packet = Vec::new().limit(SHOWN_BYTES_MAX);
                Fitting.encode_header(&header, &mut packet).unwrap();
                packet.put_u16(7);
                let mut member = Vec::new();
                SwimCodec.encode_member(&Member::new(src, 0, State::Down), &mut member).unwrap();
                assert_eq!(packet.remaining_mut() % member.len(), 0);
                plain.put_u16(7);
                assert_eq!(packet.remaining_mut(), {
                    let room = SWIM_BYTES_MAX - plain.len();
                    room - room % member.len()
                });
                assert_eq!(whole(fitted(packet.get_ref()), src), plain);
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
            assert_eq!(SHOWN_BYTES_MAX - packet.len(), {
                let mut plain = Vec::new();
                SwimCodec.encode_header(&header, &mut plain).unwrap();
                SWIM_BYTES_MAX - plain.len()
            });
            let plain = whole(fitted(&packet), me);
            assert_eq!(SwimCodec.decode_header(&plain[..]).unwrap(), header);
        }
    }

    #[test]
    fn an_identity_takes_as_many_bytes_as_its_encoding_has() {
        for (node, addr) in [(7, "10.0.0.1:80"), (300, "[::1]:4162"), (70_000, "[::1]:1")] {
            let id = identity(node, addr);
            let mut member = Vec::new();
            SwimCodec.encode_member(&Member::new(id, 0, State::Alive), &mut member).unwrap();
            assert_eq!(identity_bytes(&id) + STATE_BYTES, member.len());
        }
    }
}
