//! Segment files: their names, their headers, and the walk over their records.
//!
//! A segment is named after the seq of its first record, `<20 digits>.seg`. It begins with two
//! equal copies of this header, so that no single damaged byte costs a segment; records follow back
//! to back. Little-endian:
//!
//! ```text
//!  0         4           8             16           24              32         36        40
//!  | "gvlg"  | version 1 | index_base  | first seq  | first offset  | zero     | crc32c  |
//! ```
//! A record's `index` counts from `index_base`. That is usually the first seq; it is lower when the
//! head of the segment was released before it had to be written at all.

use crc32c::crc32c;

use crate::record::{Cursor, HEADER_BYTES, Header, is_intact, u32_at, u64_at};

/// One segment, oldest first in [`Log::segments`](crate::Log::segments).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SegmentInfo {
    /// Its first record.
    pub first: Cursor,
    /// Just past its last one. For a segment that was not read at recovery, the `seq` is that of
    /// the next segment's first record.
    pub end: Cursor,
    /// Bytes of the file.
    pub bytes: u64,
}

/// A segment file on the disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Segment {
    /// What the index of its records counts from.
    pub(crate) index_base: u64,
    pub(crate) first: Cursor,
    /// Just past the last record; bytes beyond are not ours.
    pub(crate) end: Cursor,
}

impl Segment {
    /// A segment without records.
    pub(crate) const fn empty(first: Cursor, index_base: u64) -> Self {
        Self { index_base, first, end: first }
    }

    pub(crate) fn name(&self) -> String {
        name_of(self.first.seq)
    }

    /// Where in the file the record at logical `offset` begins.
    pub(crate) const fn position(&self, offset: u64) -> u64 {
        SEGMENT_HEADER_BYTES + (offset - self.first.offset)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.first.offset == self.end.offset
    }

    /// Bytes of the file.
    pub(crate) const fn bytes(&self) -> u64 {
        self.position(self.end.offset)
    }

    pub(crate) const fn info(&self) -> SegmentInfo {
        SegmentInfo { first: self.first, end: self.end, bytes: self.bytes() }
    }

    /// The head of the file, both copies.
    pub(crate) fn encode_header(&self) -> Vec<u8> {
        let mut copy = [0_u8; HEADER_COPY_BYTES];
        copy[0..4].copy_from_slice(&MAGIC);
        copy[4..8].copy_from_slice(&VERSION.to_le_bytes());
        copy[8..16].copy_from_slice(&self.index_base.to_le_bytes());
        copy[16..24].copy_from_slice(&self.first.seq.to_le_bytes());
        copy[24..32].copy_from_slice(&self.first.offset.to_le_bytes());
        let crc = crc32c(&copy[..36]);
        copy[36..40].copy_from_slice(&crc.to_le_bytes());
        [copy, copy].concat()
    }

    /// Reads the head of a file, from whichever copy is good; `None` if neither is.
    pub(crate) fn decode_header(bytes: &[u8]) -> Option<Self> {
        bytes.chunks_exact(HEADER_COPY_BYTES).take(2).find_map(|copy| {
            let is_good = copy[0..4] == MAGIC
                && u32_at(copy, 4) == VERSION
                && u32_at(copy, 36) == crc32c(&copy[..36]);
            let first = Cursor { seq: u64_at(copy, 16), offset: u64_at(copy, 24) };
            is_good.then(|| Self::empty(first, u64_at(copy, 8)))
        })
    }
}

/// The file name of the segment whose first seq this is.
pub(crate) fn name_of(first_seq: u64) -> String {
    format!("{first_seq:0width$}{SUFFIX}", width = NAME_DIGITS)
}

/// The first seq in a segment's file name; `None` if it is not one.
pub(crate) fn seq_in_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let is_plain = digits.len() == NAME_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain { digits.parse().ok() } else { None }
}

/// Good records at the start of some bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Walk {
    /// Just past the last good one.
    pub(crate) end: Cursor,
    pub(crate) records: u64,
    pub(crate) highest_id: u64,
    /// Why the walk ended there.
    pub(crate) stop: Stop,
}

/// Why a [`Walk`] ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stop {
    /// The segment ends here.
    End,
    /// The bytes end inside a record of this length that the segment still has room for.
    Partial(u64),
    /// What is here is no record.
    Damaged(&'static str),
}

/// Checks the records in `bytes`, which begin at `from` in a segment that ends at `end_offset`.
pub(crate) fn walk(bytes: &[u8], from: Cursor, index_base: u64, end_offset: u64) -> Walk {
    let mut walk = Walk { end: from, records: 0, highest_id: 0, stop: Stop::End };
    let mut rest = bytes;
    walk.stop = loop {
        let room = end_offset.saturating_sub(walk.end.offset);
        if room == 0 {
            break Stop::End;
        }
        if room < HEADER_BYTES as u64 {
            break Stop::Damaged("cut short in a header");
        }
        let Some(header) = Header::decode(rest) else { break Stop::Partial(HEADER_BYTES as u64) };
        if u64::from(header.index) != walk.end.seq.wrapping_sub(index_base) || header.flags != 0 {
            break Stop::Damaged("not the record expected here");
        }
        let record_bytes = header.record_bytes();
        if record_bytes > room {
            break Stop::Damaged("longer than what is left of the segment");
        }
        let Some(record) = rest.get(..record_bytes as usize) else {
            break Stop::Partial(record_bytes);
        };
        if !is_intact(record) {
            break Stop::Damaged("checksum does not match");
        }
        walk.end = Cursor { seq: walk.end.seq + 1, offset: walk.end.offset + record_bytes };
        walk.records += 1;
        walk.highest_id = walk.highest_id.max(header.id);
        rest = &rest[record.len()..];
    };
    walk
}

/// Both copies of the header.
pub(crate) const SEGMENT_HEADER_BYTES: u64 = 2 * HEADER_COPY_BYTES as u64;
const HEADER_COPY_BYTES: usize = 40;
/// First bytes of every segment: "grapevine log".
const MAGIC: [u8; 4] = *b"gvlg";
/// The format written, and the only one read.
const VERSION: u32 = 1;
const SUFFIX: &str = ".seg";
/// Enough for every `u64`, so that names sort as their numbers do.
const NAME_DIGITS: usize = 20;
