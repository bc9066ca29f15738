//! Raw DEFLATE (RFC 1951), with a sync flush at the end of every write to the socket.

use std::io;

use bytes::{Buf as _, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use tokio::io::ReadBuf;

use super::codec::{Codec, Stream, malformed};

/// Plain bytes unpacked at once.
const DECODE_BYTES_MAX: usize = 16 * 1024;

/// Room for output in one call; zlib wants more than six bytes, or it repeats the flush marker.
const ENCODE_ROOM_BYTES: usize = 1024;

/// DEFLATE both ways. About 300 KB of tables and windows per connection.
#[derive(Debug)]
pub(crate) struct Deflate {
    inflate: Decompress,
    deflate: Compress,
    /// Something was encoded since the last flush.
    is_dirty: bool,
}

impl Deflate {
    /// Packs at `level`, 1 to 9; the other side's level does not matter.
    pub(crate) fn new(level: u32) -> Self {
        Self {
            inflate: Decompress::new(false),
            deflate: Compress::new(Compression::new(level), false),
            is_dirty: false,
        }
    }
}

impl Codec for Deflate {
    fn decode(&mut self, incoming: &mut BytesMut, plain: &mut ReadBuf<'_>) -> io::Result<Stream> {
        let room = plain.initialize_unfilled_to(plain.remaining().min(DECODE_BYTES_MAX));
        let (used, made) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self
            .inflate
            .decompress(incoming, room, FlushDecompress::None)
            .map_err(|_| malformed("not deflate"))?;
        incoming.advance((self.inflate.total_in() - used) as usize);
        plain.advance((self.inflate.total_out() - made) as usize);
        Ok(match status {
            Status::StreamEnd => Stream::Ended,
            Status::Ok | Status::BufError => Stream::Open,
        })
    }

    fn encode(&mut self, plain: &[u8], outgoing: &mut Vec<u8>) -> io::Result<()> {
        let mut rest = plain;
        while !rest.is_empty() {
            self.is_dirty = true;
            outgoing.reserve(ENCODE_ROOM_BYTES);
            let used = self.deflate.total_in();
            self.deflate.compress_vec(rest, outgoing, FlushCompress::None)?;
            rest = &rest[(self.deflate.total_in() - used) as usize..];
        }
        Ok(())
    }

    fn flush(&mut self, outgoing: &mut Vec<u8>) -> io::Result<()> {
        while self.is_dirty {
            outgoing.reserve(ENCODE_ROOM_BYTES);
            self.deflate.compress_vec(&[], outgoing, FlushCompress::Sync)?;
            // No room left means that zlib may hold more of the same flush.
            self.is_dirty = outgoing.len() == outgoing.capacity();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::upgrade::tests::{bodies, decode_all, decode_in_pieces};

    fn packed(level: u32, body: &[u8]) -> Vec<u8> {
        let (mut codec, mut out) = (Deflate::new(level), Vec::new());
        codec.encode(body, &mut out).unwrap();
        codec.flush(&mut out).unwrap();
        out
    }

    #[test]
    fn whatever_is_packed_comes_out_again_at_every_level() {
        for body in bodies() {
            for level in 1..=9 {
                let packed = packed(level, &body);
                assert_eq!(decode_all(Deflate::new(1), &packed).unwrap(), body);
            }
        }
    }

    #[test]
    fn a_stream_cut_anywhere_is_the_same_stream() {
        let body = b"PUB topic\n\0\0\0\x05hello".repeat(50);
        assert_eq!(decode_in_pieces(Deflate::new(1), &packed(6, &body), 1).unwrap(), body);
    }

    #[test]
    fn a_flush_ends_with_the_marker_and_only_follows_data() {
        let (mut codec, mut out) = (Deflate::new(6), Vec::new());
        codec.flush(&mut out).unwrap();
        assert!(out.is_empty());
        for body in bodies() {
            codec.encode(&body, &mut out).unwrap();
            codec.flush(&mut out).unwrap();
            // Go's reader hands nothing out before it has seen this.
            assert!(out.ends_with(&[0, 0, 0xff, 0xff]), "{} bytes", body.len());
            let length = out.len();
            codec.flush(&mut out).unwrap();
            assert_eq!(out.len(), length);
        }
    }

    #[test]
    fn a_finished_stream_is_the_end_and_garbage_is_refused() {
        let mut ended = BytesMut::from(&[0x03, 0x00][..]); // an empty final block
        let mut room = [0; 8];
        let decoded = Deflate::new(1).decode(&mut ended, &mut ReadBuf::new(&mut room));
        assert_eq!(decoded.unwrap(), Stream::Ended);
        assert!(decode_all(Deflate::new(1), &[0xff; 50]).is_err());
    }

    #[test]
    fn a_bomb_is_unpacked_only_as_far_as_there_is_room() {
        let mut bomb = BytesMut::from(&packed(9, &vec![0; 50_000_000])[..]);
        let (mut codec, mut room) = (Deflate::new(1), vec![0; 1 << 20]);
        let mut plain = ReadBuf::new(&mut room);
        codec.decode(&mut bomb, &mut plain).unwrap();
        assert_eq!(plain.filled().len(), DECODE_BYTES_MAX);
        assert!(!bomb.is_empty());
    }
}
