//! Snappy's framing format: chunks of up to 64 KiB, each with a checksum.
//!
//! Source: framing_format.txt of google/snappy (2023-09-12); what nsqd sends is golang/snappy's
//! `Writer`, whose rule for chunks that do not shrink is kept.

use std::fmt;
use std::io;

use bytes::{Buf as _, BytesMut};
use tokio::io::ReadBuf;

use super::codec::{Codec, Stream, malformed};

/// Kind, length and content of the chunk every stream begins with.
const STREAM_IDENTIFIER: &[u8; 10] = b"\xff\x06\x00\x00sNaPpY";

/// Kind and 24-bit length in front of every chunk.
const HEADER_BYTES: usize = 4;

/// Checksum in front of the content of a data chunk.
const CHECKSUM_BYTES: usize = 4;

/// Plain bytes of a data chunk at most; fixed by the format.
const CHUNK_BYTES_MAX: usize = 65_536;

const KIND_COMPRESSED: u8 = 0x00;
const KIND_UNCOMPRESSED: u8 = 0x01;
const KIND_STREAM_IDENTIFIER: u8 = 0xff;

/// From here on chunks of unknown kinds may be skipped; below they must be refused.
const KIND_SKIPPABLE_MIN: u8 = 0x80;

/// Snappy both ways. Up to 64 KiB of decoded input, and 34 KiB of tables, per connection.
pub(crate) struct Snappy {
    encoder: snap::raw::Encoder,
    has_begun_output: bool,
    has_begun_input: bool,
    /// Bytes of a skippable chunk that are still to come.
    skipping: usize,
    /// The last chunk's content; that before `given` has been handed out.
    decoded: Vec<u8>,
    given: usize,
}

impl fmt::Debug for Snappy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snappy").finish_non_exhaustive()
    }
}

/// What the front of the input was.
enum Step {
    /// Not yet a whole chunk.
    NeedsInput,
    /// A chunk was taken; `decoded` may hold something.
    Taken,
}

impl Snappy {
    pub(crate) fn new() -> Self {
        Self {
            encoder: snap::raw::Encoder::new(),
            has_begun_output: false,
            has_begun_input: false,
            skipping: 0,
            decoded: Vec::new(),
            given: 0,
        }
    }

    fn step(&mut self, incoming: &mut BytesMut) -> io::Result<Step> {
        if self.skipping > 0 {
            let skipped = self.skipping.min(incoming.len());
            incoming.advance(skipped);
            self.skipping -= skipped;
        }
        let Some((&[kind, low, middle, high], rest)) = incoming.split_first_chunk() else {
            return Ok(Step::NeedsInput);
        };
        let length = u32::from_le_bytes([low, middle, high, 0]) as usize;
        if !self.has_begun_input && kind != KIND_STREAM_IDENTIFIER {
            return Err(malformed("not a snappy stream"));
        }
        if kind >= KIND_SKIPPABLE_MIN && kind != KIND_STREAM_IDENTIFIER {
            incoming.advance(HEADER_BYTES);
            self.skipping = length;
            return Ok(Step::Taken);
        }
        let length_max = match kind {
            KIND_COMPRESSED => CHECKSUM_BYTES + snap::raw::max_compress_len(CHUNK_BYTES_MAX),
            KIND_UNCOMPRESSED => CHECKSUM_BYTES + CHUNK_BYTES_MAX,
            KIND_STREAM_IDENTIFIER => STREAM_IDENTIFIER.len() - HEADER_BYTES,
            _ => return Err(malformed("snappy chunk of an unknown kind")),
        };
        if length > length_max {
            return Err(malformed("snappy chunk too long"));
        }
        let Some(content) = rest.get(..length) else {
            return Ok(Step::NeedsInput);
        };
        self.take(kind, content)?;
        incoming.advance(HEADER_BYTES + length);
        Ok(Step::Taken)
    }

    fn take(&mut self, kind: u8, content: &[u8]) -> io::Result<()> {
        if kind == KIND_STREAM_IDENTIFIER {
            self.has_begun_input = true;
            return match content == &STREAM_IDENTIFIER[HEADER_BYTES..] {
                true => Ok(()),
                false => Err(malformed("not a snappy stream")),
            };
        }
        let Some((checksum, data)) = content.split_first_chunk() else {
            return Err(malformed("snappy chunk too short"));
        };
        self.given = 0;
        self.decoded.clear();
        if kind == KIND_COMPRESSED {
            let bad = |_| malformed("bad snappy block");
            let plain_len = snap::raw::decompress_len(data).map_err(bad)?;
            if plain_len > CHUNK_BYTES_MAX {
                return Err(malformed("snappy chunk too long"));
            }
            self.decoded.resize(plain_len, 0);
            snap::raw::Decoder::new().decompress(data, &mut self.decoded).map_err(bad)?;
        } else {
            self.decoded.extend_from_slice(data);
        }
        match u32::from_le_bytes(*checksum) == masked_checksum(&self.decoded) {
            true => Ok(()),
            false => Err(malformed("bad snappy checksum")),
        }
    }

    /// Appends one chunk of at most [`CHUNK_BYTES_MAX`] plain bytes.
    fn chunk(&mut self, plain: &[u8], outgoing: &mut Vec<u8>) -> io::Result<()> {
        let start = outgoing.len();
        let content = start + HEADER_BYTES + CHECKSUM_BYTES;
        outgoing.resize(content + snap::raw::max_compress_len(plain.len()), 0);
        let packed = self.encoder.compress(plain, &mut outgoing[content..]);
        let packed = packed.map_err(io::Error::other)?;
        let mut kind = KIND_COMPRESSED;
        outgoing.truncate(content + packed);
        if packed >= plain.len() - plain.len() / 8 {
            kind = KIND_UNCOMPRESSED;
            outgoing.truncate(content);
            outgoing.extend_from_slice(plain);
        }
        let length = (outgoing.len() - start - HEADER_BYTES) as u32;
        let [low, middle, high, _] = length.to_le_bytes();
        outgoing[start..start + HEADER_BYTES].copy_from_slice(&[kind, low, middle, high]);
        let checksum = masked_checksum(plain).to_le_bytes();
        outgoing[start + HEADER_BYTES..content].copy_from_slice(&checksum);
        Ok(())
    }
}

impl Codec for Snappy {
    fn decode(&mut self, incoming: &mut BytesMut, plain: &mut ReadBuf<'_>) -> io::Result<Stream> {
        loop {
            let rest = &self.decoded[self.given..];
            if !rest.is_empty() {
                let count = rest.len().min(plain.remaining());
                plain.put_slice(&rest[..count]);
                self.given += count;
                return Ok(Stream::Open);
            }
            if matches!(self.step(incoming)?, Step::NeedsInput) {
                return Ok(Stream::Open);
            }
        }
    }

    fn encode(&mut self, plain: &[u8], outgoing: &mut Vec<u8>) -> io::Result<()> {
        if !self.has_begun_output {
            self.has_begun_output = true;
            outgoing.extend_from_slice(STREAM_IDENTIFIER);
        }
        plain.chunks(CHUNK_BYTES_MAX).try_for_each(|chunk| self.chunk(chunk, outgoing))
    }

    fn flush(&mut self, _outgoing: &mut Vec<u8>) -> io::Result<()> {
        Ok(())
    }
}

/// The format's checksum of `plain`: CRC-32C, turned and shifted.
fn masked_checksum(plain: &[u8]) -> u32 {
    crc32c::crc32c(plain).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::upgrade::tests::{bodies, decode_all, decode_in_pieces};

    fn packed(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Snappy::new().encode(body, &mut out).unwrap();
        out
    }

    fn raw_chunk(kind: u8, content: &[u8]) -> Vec<u8> {
        let mut chunk = (content.len() as u32).to_le_bytes().to_vec();
        chunk.rotate_right(1);
        chunk[0] = kind;
        chunk.extend_from_slice(content);
        chunk
    }

    fn stream(chunks: &[Vec<u8>]) -> Vec<u8> {
        [STREAM_IDENTIFIER.to_vec(), chunks.concat()].concat()
    }

    #[test]
    fn whatever_is_packed_comes_out_again() {
        for body in bodies() {
            assert_eq!(decode_all(Snappy::new(), &packed(&body)).unwrap(), body);
        }
    }

    #[test]
    fn the_wire_is_that_of_other_implementations() {
        for body in bodies() {
            let mut plain = Vec::new();
            let wire = packed(&body);
            let mut reader = snap::read::FrameDecoder::new(&wire[..]);
            io::Read::read_to_end(&mut reader, &mut plain).unwrap();
            assert_eq!(plain, body);
            let mut writer = snap::write::FrameEncoder::new(Vec::new());
            io::Write::write_all(&mut writer, &body).unwrap();
            let theirs = writer.into_inner().unwrap();
            assert_eq!(decode_all(Snappy::new(), &theirs).unwrap(), body);
        }
    }

    #[test]
    fn a_stream_cut_anywhere_is_the_same_stream() {
        let body = b"PUB topic\n\0\0\0\x05hello".repeat(50);
        assert_eq!(decode_in_pieces(Snappy::new(), &packed(&body), 1).unwrap(), body);
    }

    #[test]
    fn chunks_nobody_needs_are_skipped_without_being_kept() {
        let padding = raw_chunk(0xfe, &[0; 300_000]);
        let wire = [stream(&[padding]), packed(b"NOP\n")].concat();
        assert_eq!(decode_in_pieces(Snappy::new(), &wire, 10_000).unwrap(), b"NOP\n");
    }

    #[test]
    fn what_is_not_snappy_is_refused() {
        let bad_sum = raw_chunk(KIND_UNCOMPRESSED, b"\0\0\0\0NOP\n");
        let bad_block = raw_chunk(KIND_COMPRESSED, b"\0\0\0\0\xff\xff\xff\xff\xff\xff");
        let too_big = raw_chunk(KIND_UNCOMPRESSED, &[0; CHUNK_BYTES_MAX + 5]);
        let unpacks_too_big = raw_chunk(KIND_COMPRESSED, b"\0\0\0\0\x81\x80\x04");
        let wires = [
            b"PUB topic\n".to_vec(),
            packed(b"NOP\n")[STREAM_IDENTIFIER.len()..].to_vec(),
            b"\xff\x06\x00\x00sNoPpY".to_vec(),
            stream(&[raw_chunk(0x02, b"abcd")]),
            stream(&[raw_chunk(KIND_UNCOMPRESSED, b"abc")]),
            stream(&[bad_sum]),
            stream(&[bad_block]),
            stream(&[too_big]),
            stream(&[unpacks_too_big]),
        ];
        for wire in wires {
            assert!(
                decode_all(Snappy::new(), &wire).is_err(),
                "{}",
                wire[..20.min(wire.len())].escape_ascii()
            );
        }
    }

    #[test]
    fn what_does_not_shrink_is_sent_as_it_is() {
        let wire = packed(b"abcd");
        assert_eq!(wire[STREAM_IDENTIFIER.len()], KIND_UNCOMPRESSED);
        assert!(wire.ends_with(b"abcd"));
    }
}
