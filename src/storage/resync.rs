//! Finding the next good record after damage.

use std::io;

use crate::disk::Disk;
use crate::record::{Cursor, HEADER_BYTES, Header, is_intact};
use crate::segment::Segment;

/// Where the first good record after the bad one at `at` begins; `None` if the rest of the segment
/// holds none.
///
/// The bad record's own length is believed first: if a good record with the next index follows,
/// only the body was hit, and nothing inside that body can pass for a record. Otherwise every byte
/// is tried as the start of a header.
pub(crate) fn resync<D: Disk>(
    disk: &D,
    segment: &Segment,
    at: Cursor,
) -> io::Result<Option<Cursor>> {
    let mut search = Search {
        disk,
        name: segment.name(),
        segment,
        checked_bytes_max: (segment.end.offset - at.offset)
            .saturating_mul(CHECKED_PER_BYTE)
            .saturating_add(CHECKED_BYTES_MIN),
        scratch: Vec::new(),
    };
    match search.after_believed_length(at)? {
        Believed::Good(found) => Ok(Some(found)),
        Believed::End => Ok(None),
        Believed::Nothing => search.scan(at),
    }
}

struct Search<'a, D> {
    disk: &'a D,
    name: String,
    segment: &'a Segment,
    /// Bytes that may still be checksummed. Bodies full of forged headers must not make the search
    /// quadratic; when this is used up, the rest of the segment counts as damaged.
    checked_bytes_max: u64,
    scratch: Vec<u8>,
}

enum Believed {
    Good(Cursor),
    End,
    Nothing,
}

impl<D: Disk> Search<'_, D> {
    fn after_believed_length(&mut self, at: Cursor) -> io::Result<Believed> {
        let Some(header) = self.header_at(at.offset)? else { return Ok(Believed::Nothing) };
        let offset = at.offset + header.record_bytes();
        if offset == self.segment.end.offset {
            return Ok(Believed::End);
        }
        let expected = (at.seq - self.segment.index_base).saturating_add(1);
        match self.header_at(offset)? {
            Some(next) if u64::from(next.index) == expected && self.is_record(offset, &next)? => {
                Ok(Believed::Good(Cursor { seq: at.seq + 1, offset }))
            }
            Some(_) | None => Ok(Believed::Nothing),
        }
    }

    fn scan(&mut self, at: Cursor) -> io::Result<Option<Cursor>> {
        let lowest = at.seq - self.segment.index_base;
        let mut window = vec![0; WINDOW_BYTES];
        let mut start = at.offset + 1;
        loop {
            let left = self.segment.end.offset.saturating_sub(start);
            let wanted = window.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let position = self.segment.position(start);
            let there = self.disk.read_at(&self.name, position, &mut window[..wanted])?;
            if there < HEADER_BYTES {
                return Ok(None);
            }
            for i in 0..=there - HEADER_BYTES {
                // Cheapest test first: this loop runs once per byte.
                if window[i + 12..i + 16] != [0; 4] {
                    continue;
                }
                let Some(header) = Header::decode(&window[i..there]) else { break };
                let offset = start + i as u64;
                // Each record between takes at least a header's room.
                let highest = lowest + (offset - at.offset) / HEADER_BYTES as u64;
                let index = u64::from(header.index);
                let seq = self.segment.index_base + index;
                let is_plausible =
                    (lowest..=highest).contains(&index) && seq < self.segment.end.seq;
                if is_plausible && self.is_record(offset, &header)? {
                    return Ok(Some(Cursor { seq, offset }));
                }
            }
            start += (there - HEADER_BYTES + 1) as u64;
        }
    }

    fn header_at(&mut self, offset: u64) -> io::Result<Option<Header>> {
        let mut bytes = [0; HEADER_BYTES];
        if offset.saturating_add(HEADER_BYTES as u64) > self.segment.end.offset {
            return Ok(None);
        }
        let there = self.disk.read_at(&self.name, self.segment.position(offset), &mut bytes)?;
        Ok(Header::decode(&bytes[..there]))
    }

    /// Whether the header belongs to a whole, intact record.
    fn is_record(&mut self, offset: u64, header: &Header) -> io::Result<bool> {
        let bytes = header.record_bytes();
        if header.flags != 0 || bytes > self.segment.end.offset - offset {
            return Ok(false);
        }
        let Some(left) = self.checked_bytes_max.checked_sub(bytes) else { return Ok(false) };
        self.checked_bytes_max = left;
        self.scratch.resize(bytes as usize, 0);
        let position = self.segment.position(offset);
        let there = self.disk.read_at(&self.name, position, &mut self.scratch)?;
        Ok(there == self.scratch.len() && is_intact(&self.scratch))
    }
}

/// Read at a time while scanning, in bytes: large enough that the calls do not matter.
const WINDOW_BYTES: usize = 256 * 1024;
/// Checksummed bytes allowed per byte scanned. Honest data needs about one; at some GB/s this
/// bounds the search through a 100 MiB segment of forged headers below a second.
const CHECKED_PER_BYTE: u64 = 16;
/// Allowed however short the rest is.
const CHECKED_BYTES_MIN: u64 = 16 * 1024 * 1024;
