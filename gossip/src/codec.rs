//! Bytes and values: the only file that knows bincode.
//!
//! bincode 2.0.1 is the last release that works and has no successor; whoever replaces it
//! raises the version byte of the envelope.

use bytes::{Buf, BufMut};
use foca::{Header, Member};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::NodeId;
use crate::identity::Identity;

/// Most bytes the values of one datagram may claim while being decoded. A datagram has at most
/// 1232 bytes, but each small integer counts with its full width.
const DATAGRAM_CLAIM_MAX: usize = 16 * 1024;

/// The same for a stream frame of at most 64 KiB.
const FRAME_CLAIM_MAX: usize = 1024 * 1024;

/// Longest header or member of the failure detector: three identities of IPv6 addresses, each of at
/// most 44 bytes, and some numbers.
const SWIM_ITEM_BYTES_MAX: usize = 192;

/// Room that is made for an encoding at first: most messages fit.
const ENCODED_BYTES_USUAL: usize = 256;

/// Bytes that are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Not an encoding of the expected type, or larger than allowed.
    #[error("malformed: {0}")]
    Malformed(#[from] bincode::error::DecodeError),
    /// The value cannot be encoded.
    #[error("cannot encode: {0}")]
    Encode(#[from] bincode::error::EncodeError),
    /// The buffer has no room for it.
    #[error("no room")]
    Full,
    /// Bytes are left over after the value.
    #[error("trailing bytes")]
    Trailing,
}

/// Encodes `value`.
///
/// # Panics
///
/// Never for this crate's messages: they hold nothing bincode cannot encode.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ENCODED_BYTES_USUAL);
    encode_into(value, &mut bytes);
    bytes
}

/// Appends the encoding of `value` to `bytes`.
///
/// # Panics
///
/// Never, as [`encode`].
pub fn encode_into<T: Serialize>(value: &T, bytes: &mut Vec<u8>) {
    bincode::serde::encode_into_std_write(value, bytes, bincode::config::standard())
        .expect("the messages of this crate hold only types that bincode encodes");
}

/// Decodes what a datagram carries.
///
/// # Errors
///
/// [`CodecError`] if it is not exactly one value.
pub fn decode_datagram<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let config = bincode::config::standard().with_limit::<DATAGRAM_CLAIM_MAX>();
    let (value, len) = bincode::serde::decode_from_slice(bytes, config)?;
    if len == bytes.len() { Ok(value) } else { Err(CodecError::Trailing) }
}

/// Decodes what a stream frame carries.
///
/// # Errors
///
/// [`CodecError`] if it is not exactly one value.
pub fn decode_frame<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let config = bincode::config::standard().with_limit::<FRAME_CLAIM_MAX>();
    let (value, len) = bincode::serde::decode_from_slice(bytes, config)?;
    if len == bytes.len() { Ok(value) } else { Err(CodecError::Trailing) }
}

/// The kinds of packets of the failure detector, as [`foca::Message`] numbers them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SwimKind {
    /// A probe.
    Ping,
    /// Its answer.
    Ack,
    /// A probe by way of others, one of its four steps.
    Indirect,
    /// A greeting; not used here.
    Announce,
    /// The answer to that; not used here.
    Feed,
    /// Rumours.
    Gossip,
    /// Custom rumours; not used here.
    Broadcast,
    /// The receiver is held to be down.
    TurnUndead,
}

/// The kind of a packet of the failure detector, without decoding it.
pub fn peek_swim(bytes: &[u8]) -> Option<SwimKind> {
    let mut rest = bytes;
    skip_identity(&mut rest)?;
    skip_number(&mut rest)?;
    skip_identity(&mut rest)?;
    Some(match rest.first()? {
        0 => SwimKind::Ping,
        1 => SwimKind::Ack,
        2..=5 => SwimKind::Indirect,
        6 => SwimKind::Announce,
        7 => SwimKind::Feed,
        8 => SwimKind::Gossip,
        9 => SwimKind::Broadcast,
        10 => SwimKind::TurnUndead,
        _ => return None,
    })
}

/// To whom a packet of the failure detector is addressed.
pub fn swim_receiver(bytes: &[u8]) -> Option<Identity> {
    let header: Header<Identity> = SwimCodec::take(bytes).ok()?;
    Some(header.dst)
}

/// A packet of the failure detector without its sender's `node` and `epoch`, as what is before and
/// after them; `None`: it is of somebody else.
pub fn shorten_swim(bytes: &[u8], node: NodeId, epoch: u64) -> Option<(&[u8], &[u8])> {
    let mut rest = bytes;
    skip_address(&mut rest)?;
    let address = &bytes[..bytes.len() - rest.len()];
    Some((address, rest.strip_prefix(encode(&(node, epoch)).as_slice())?))
}

/// What [`shorten_swim`] took out, put in again; `None`: the address before it is cut.
pub fn restore_swim(bytes: &[u8], node: NodeId, epoch: u64) -> Option<Vec<u8>> {
    let mut rest = bytes;
    skip_address(&mut rest)?;
    let (address, rest) = bytes.split_at(bytes.len() - rest.len());
    let mut whole = Vec::with_capacity(bytes.len() + 18);
    whole.extend_from_slice(address);
    encode_into(&(node, epoch), &mut whole);
    whole.extend_from_slice(rest);
    Some(whole)
}

fn skip_identity(bytes: &mut &[u8]) -> Option<()> {
    skip_address(bytes)?;
    // Node, epoch, renewals.
    (0..3).try_for_each(|_| skip_number(bytes))
}

/// An IP address and a port.
pub(crate) fn skip_address(bytes: &mut &[u8]) -> Option<()> {
    let ip_bytes = if *bytes.first()? == 0 { 4 } else { 16 };
    *bytes = bytes.get(1 + ip_bytes..)?;
    skip_number(bytes)
}

/// bincode's integers are one byte, or a byte that says how many follow.
pub(crate) fn skip_number(bytes: &mut &[u8]) -> Option<()> {
    let len = match *bytes.first()? {
        0..=250 => 1,
        251 => 3,
        252 => 5,
        253 => 9,
        _ => return None,
    };
    *bytes = bytes.get(len..)?;
    Some(())
}

/// The failure detector's wire format.
#[derive(Clone, Copy, Debug, Default)]
pub struct SwimCodec;

impl SwimCodec {
    fn put<T: Serialize>(value: &T, mut buf: impl BufMut) -> Result<(), CodecError> {
        let mut bytes = [0; SWIM_ITEM_BYTES_MAX];
        let len =
            bincode::serde::encode_into_slice(value, &mut bytes, bincode::config::standard())?;
        if buf.remaining_mut() < len {
            return Err(CodecError::Full);
        }
        buf.put_slice(&bytes[..len]);
        Ok(())
    }

    fn take<T: DeserializeOwned>(mut buf: impl Buf) -> Result<T, CodecError> {
        let config = bincode::config::standard().with_limit::<DATAGRAM_CLAIM_MAX>();
        let (value, len) = bincode::serde::decode_from_slice(buf.chunk(), config)?;
        buf.advance(len);
        Ok(value)
    }
}

impl foca::Codec<Identity> for SwimCodec {
    type Error = CodecError;

    fn encode_header(
        &mut self,
        header: &Header<Identity>,
        buf: impl BufMut,
    ) -> Result<(), CodecError> {
        Self::put(header, buf)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Identity>, CodecError> {
        Self::take(buf)
    }

    fn encode_member(
        &mut self,
        member: &Member<Identity>,
        buf: impl BufMut,
    ) -> Result<(), CodecError> {
        Self::put(member, buf)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<Identity>, CodecError> {
        Self::take(buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_recognised_without_decoding_it() {
        let of = |addr: &str, node, renew| Identity {
            addr: addr.parse::<std::net::SocketAddr>().unwrap().into(),
            node: NodeId(node),
            epoch: 1_700_000_000_000,
            renew,
        };
        let src = of("10.0.0.1:4162", u64::MAX, 3);
        for dst in [of("10.0.1.2:17", 5, 300), of("[2001:db8::1]:4162", 70_000, 0)] {
            let messages = [
                (foca::Message::Ping(7), SwimKind::Ping),
                (foca::Message::Ack(7), SwimKind::Ack),
                (foca::Message::PingReq { target: src, probe_number: 1 }, SwimKind::Indirect),
                (foca::Message::ForwardedAck { origin: src, probe_number: 1 }, SwimKind::Indirect),
                (foca::Message::Announce, SwimKind::Announce),
                (foca::Message::Feed, SwimKind::Feed),
                (foca::Message::Gossip, SwimKind::Gossip),
                (foca::Message::Broadcast, SwimKind::Broadcast),
                (foca::Message::TurnUndead, SwimKind::TurnUndead),
            ];
            for (message, kind) in messages {
                let header = Header { src, src_incarnation: 1000, dst, message };
                let bytes = encode(&header);
                assert_eq!(peek_swim(&bytes), Some(kind));
                assert_eq!(swim_receiver(&bytes), Some(dst));
                assert_eq!(peek_swim(&bytes[..20]), None);
            }
        }
    }
}
