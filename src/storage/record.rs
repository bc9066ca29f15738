//! One record: a message as it lies in the log.
//!
//! ```text
//!  0        4        8        12       16           24        32             40
//!  | len    | crc32c | index  | flags  | timestamp  | id      | deliver_at   | body (len bytes)
//! ```
//! Little-endian. `len` counts the body. The checksum is CRC-32C over the body *followed by* header
//! bytes 8..40: the body's part is computed before the topic's lock is taken, and only 32 bytes
//! remain to be added under it. `index` is the record's seq minus the segment's `index_base`, which
//! is how a reader that met damage knows where it is again. `flags` is zero in format version 1.

use crc32c::{crc32c, crc32c_append};

/// A place in a topic's log, and so the place of the record that begins there.
///
/// Ordered by `seq`, then `offset`; within one log the two always agree.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Cursor {
    /// Number of the message within its topic, from 0.
    pub seq: u64,
    /// Logical byte offset in the topic's log. Grows for ever; never reused.
    pub offset: u64,
}

/// A message as [`Log::read`](crate::Log::read) shows it; the body borrows the log's own buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Record<'a> {
    /// Where this record begins.
    pub cursor: Cursor,
    /// Where the one after it begins.
    pub next: Cursor,
    /// The message id, as a number.
    pub id: u64,
    /// When it was published, wall clock, in nanoseconds since 1970.
    pub timestamp: i64,
    /// When it may first be delivered, wall clock, in nanoseconds since 1970; 0 = at once.
    pub deliver_at: i64,
    /// The message itself.
    pub body: &'a [u8],
}

/// The fixed part of a record, decoded but not yet checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    pub(crate) len: u32,
    pub(crate) crc: u32,
    pub(crate) index: u32,
    pub(crate) flags: u32,
    pub(crate) timestamp: i64,
    pub(crate) id: u64,
    pub(crate) deliver_at: i64,
}

impl Header {
    /// Reads the header at the start of `bytes`; `None` if there are fewer than 40.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        Some(Self {
            len: u32_at(bytes, 0),
            crc: u32_at(bytes, 4),
            index: u32_at(bytes, 8),
            flags: u32_at(bytes, 12),
            timestamp: u64_at(bytes, 16).cast_signed(),
            id: u64_at(bytes, 24),
            deliver_at: u64_at(bytes, 32).cast_signed(),
        })
    }

    /// Bytes of the whole record, header and body.
    pub(crate) const fn record_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + self.len as u64
    }
}

/// Appends a record to `buffer` with everything that is known before the lock is taken: the
/// header's checksum field holds the body's part until [`seal`] completes it.
///
/// # Panics
///
/// If the body is 4 GiB or longer; lengths on the wire are signed 32-bit, so none is.
pub(crate) fn encode(buffer: &mut Vec<u8>, body: &[u8], deliver_at: i64) {
    let len = u32::try_from(body.len()).expect("a body's length on the wire is a signed 32-bit");
    let mut header = [0_u8; HEADER_BYTES];
    header[0..4].copy_from_slice(&len.to_le_bytes());
    header[4..8].copy_from_slice(&crc32c(body).to_le_bytes());
    header[32..40].copy_from_slice(&deliver_at.to_le_bytes());
    buffer.extend_from_slice(&header);
    buffer.extend_from_slice(body);
}

/// Notes the id and the timestamp of an encoded record before it is sealed.
pub(crate) fn set_origin(record: &mut [u8], id: u64, timestamp: i64) {
    record[16..24].copy_from_slice(&timestamp.to_le_bytes());
    record[24..32].copy_from_slice(&id.to_le_bytes());
}

/// Completes the header of an encoded record in place.
pub(crate) fn seal(
    header: &mut [u8; HEADER_BYTES],
    body_crc: u32,
    index: u32,
    timestamp: i64,
    id: u64,
) {
    header[8..12].copy_from_slice(&index.to_le_bytes());
    header[16..24].copy_from_slice(&timestamp.to_le_bytes());
    header[24..32].copy_from_slice(&id.to_le_bytes());
    let crc = crc32c_append(body_crc, &header[8..]);
    header[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Whether `record` (exactly one record, header and body) carries the checksum it should.
pub(crate) fn is_intact(record: &[u8]) -> bool {
    let Some((header, body)) = record.split_first_chunk::<HEADER_BYTES>() else { return false };
    u32_at(header, 4) == crc32c_append(crc32c(body), &header[8..])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("callers pass fixed offsets into arrays"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("callers pass fixed offsets into arrays"))
}

/// Size of the fixed part of a record, in bytes.
pub(crate) const HEADER_BYTES: usize = 40;
