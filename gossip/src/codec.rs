//! Bytes and values: the only file that knows bincode.
//!
//! bincode 2.0.1 is the last release that works and has no successor; whoever replaces it
//! raises the version byte of the envelope.

use bytes::{Buf, BufMut};
use foca::{Header, Member};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::identity::Identity;

/// Most bytes the values of one datagram may claim while being decoded. A datagram has at most
/// 1232 bytes, but each small integer counts with its full width.
const DATAGRAM_CLAIM_MAX: usize = 16 * 1024;

/// The same for a stream frame of at most 64 KiB.
const FRAME_CLAIM_MAX: usize = 1024 * 1024;

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
    bincode::serde::encode_to_vec(value, bincode::config::standard())
        .expect("the messages of this crate hold only types that bincode encodes")
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

/// The failure detector's wire format.
#[derive(Clone, Copy, Debug, Default)]
pub struct SwimCodec;

impl SwimCodec {
    fn put<T: Serialize>(value: &T, mut buf: impl BufMut) -> Result<(), CodecError> {
        let bytes = bincode::serde::encode_to_vec(value, bincode::config::standard())?;
        if buf.remaining_mut() < bytes.len() {
            return Err(CodecError::Full);
        }
        buf.put_slice(&bytes);
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
