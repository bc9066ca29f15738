//! Frames on a stream: a length of four bytes, big-endian, then that many bytes.

use bytes::{Buf, BytesMut};

use crate::message::FRAME_BYTES_MAX;

/// Bytes of the length before a frame.
pub const LENGTH_BYTES: usize = 4;

/// Bytes one stream may bring in all: a joiner's share of the largest cluster, several times over.
pub const STREAM_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why a stream must end.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FramingError {
    /// A frame of more than [`FRAME_BYTES_MAX`] bytes is announced.
    #[error("a frame of {0} bytes is announced")]
    FrameTooLarge(u32),
    /// More than [`STREAM_BYTES_MAX`] bytes came.
    #[error("the stream brings too much")]
    StreamTooLarge,
}

/// Cuts the bytes of one stream into frames; keeps at most one frame and what was pushed last.
#[derive(Debug, Default)]
pub struct Splitter {
    buffer: BytesMut,
    total: usize,
}

impl Splitter {
    /// Takes in what the stream brought.
    pub fn push(&mut self, bytes: &[u8]) {
        self.total = self.total.saturating_add(bytes.len());
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame; `None` until more bytes come.
    ///
    /// # Errors
    ///
    /// [`FramingError`] as soon as a length or the stream is too large, before memory is taken
    /// for it. Nothing that is pushed afterwards mends that.
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, FramingError> {
        if self.total > STREAM_BYTES_MAX {
            return Err(FramingError::StreamTooLarge);
        }
        let Some(&length) = self.buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(length);
        let bytes = usize::try_from(length).unwrap_or(usize::MAX);
        if bytes > FRAME_BYTES_MAX {
            return Err(FramingError::FrameTooLarge(length));
        }
        if self.buffer.len() < LENGTH_BYTES + bytes {
            return Ok(None);
        }
        self.buffer.advance(LENGTH_BYTES);
        Ok(Some(self.buffer.split_to(bytes).to_vec()))
    }

    /// Whether the stream may end here: no frame has begun.
    pub fn is_between_frames(&self) -> bool {
        self.buffer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let frames: [&[u8]; 3] = [b"one", b"", &[7; 5000]];
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.extend_from_slice(&u32::try_from(frame.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(frame);
        }
        for step in [1, 2, 3, 5, 7, 1000, bytes.len()] {
            let (mut splitter, mut found) = (Splitter::default(), Vec::new());
            for part in bytes.chunks(step) {
                splitter.push(part);
                while let Some(frame) = splitter.next_frame().unwrap() {
                    found.push(frame);
                }
            }
            assert_eq!(found, frames, "in steps of {step}");
            assert!(splitter.is_between_frames());
        }
    }

    #[test]
    fn a_length_beyond_the_largest_frame_ends_the_stream_before_its_bytes_come() {
        let mut splitter = Splitter::default();
        splitter.push(&65_536_u32.to_be_bytes());
        assert_eq!(splitter.next_frame(), Ok(None), "the largest frame may come");
        let mut splitter = Splitter::default();
        splitter.push(&65_537_u32.to_be_bytes());
        assert_eq!(splitter.next_frame(), Err(FramingError::FrameTooLarge(65_537)));
    }

    #[test]
    fn a_stream_that_never_ends_is_ended() {
        let mut splitter = Splitter::default();
        let part = [&[0, 0, 0xff, 0xfc], &[0; 0xfffc][..]].concat();
        let frames = (0..2000).map_while(|_| {
            splitter.push(&part);
            splitter.next_frame().ok().flatten()
        });
        assert_eq!(frames.count(), STREAM_BYTES_MAX / part.len());
    }
}
