//! Heads of sections: two views that differ tell each other a hundred of them.
//!
//! Their bytes are what would be derived: fields in order, integers as short as their value is.

use super::{
    BorrowDecode, BorrowDecoder, DecodeError, Encode, EncodeError, Encoder, NUMBER_BYTE_MAX,
    NUMBER_EIGHT, Reader, Writer,
};
use crate::NodeId;
use crate::message::Head;

/// A head as nearly all are: owner and epoch take all eight bytes, after one that says so, the
/// version one, and one says whether it is asked for by stream.
const USUAL_BYTES: usize = 9 + 9 + 1 + 1;

fn usual(head: &Head) -> Option<[u8; USUAL_BYTES]> {
    let Head { owner, epoch, ver, by_stream } = *head;
    let is_wide = |number: u64| number > u32::MAX.into();
    let is_usual = is_wide(owner.0) && is_wide(epoch);
    let ver = u8::try_from(ver).ok().filter(|&ver| is_usual && ver <= NUMBER_BYTE_MAX)?;
    let mut bytes = [0; USUAL_BYTES];
    bytes[0] = NUMBER_EIGHT;
    bytes[1..9].copy_from_slice(&owner.0.to_le_bytes());
    bytes[9] = NUMBER_EIGHT;
    bytes[10..18].copy_from_slice(&epoch.to_le_bytes());
    bytes[18] = ver;
    bytes[19] = by_stream.into();
    Some(bytes)
}

fn from_usual(bytes: &[u8; USUAL_BYTES]) -> Option<Head> {
    let is_usual = bytes[0] == NUMBER_EIGHT
        && bytes[9] == NUMBER_EIGHT
        && bytes[18] <= NUMBER_BYTE_MAX
        && bytes[19] <= 1;
    if !is_usual {
        return None;
    }
    let number = |at: usize| bytes[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    Some(Head {
        owner: NodeId(number(1)?),
        epoch: number(10)?,
        ver: bytes[18].into(),
        by_stream: bytes[19] == 1,
    })
}

impl Encode for Head {
    fn encode<E: Encoder>(&self, to: &mut E) -> Result<(), EncodeError> {
        if let Some(bytes) = usual(self) {
            return to.writer().write(&bytes);
        }
        let Self { owner, epoch, ver, by_stream } = *self;
        (owner, epoch, ver, by_stream).encode(to)
    }
}

impl<'de, Context> BorrowDecode<'de, Context> for Head {
    fn borrow_decode<D: BorrowDecoder<'de, Context = Context>>(
        from: &mut D,
    ) -> Result<Self, DecodeError> {
        let bytes = from.reader().peek_read(USUAL_BYTES).and_then(<[u8]>::first_chunk);
        if let Some(usual) = bytes.and_then(from_usual) {
            from.claim_bytes_read(USUAL_BYTES)?;
            from.reader().consume(USUAL_BYTES);
            return Ok(usual);
        }
        let (owner, epoch, ver, by_stream) = BorrowDecode::borrow_decode(from)?;
        Ok(Self { owner, epoch, ver, by_stream })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{decode_datagram, encode};

    #[test]
    fn a_head_is_its_fields_in_order_on_the_wire() {
        let wide = u64::from(u32::MAX) + 1;
        for (owner, epoch) in [(u64::MAX, wide), (wide - 1, wide), (wide, wide - 1), (7, 300)] {
            for (ver, by_stream) in [(0, false), (250, true), (251, false), (u64::MAX, true)] {
                let head = Head { owner: NodeId(owner), epoch, ver, by_stream };
                let bytes = encode(&head);
                assert_eq!(bytes, encode(&(owner, epoch, ver, by_stream)));
                assert_eq!(decode_datagram::<Head>(&bytes).unwrap(), head);
                for len in 0..bytes.len() {
                    assert!(decode_datagram::<Head>(&bytes[..len]).is_err());
                }
                let mut neither = bytes;
                *neither.last_mut().unwrap() = 2;
                assert!(decode_datagram::<Head>(&neither).is_err());
            }
        }
    }
}
