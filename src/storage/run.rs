//! Records in memory.

use std::ops::{ControlFlow, Range};

use crate::record::{Cursor, HEADER_BYTES, Header, Record};

/// Where consecutive records of one segment lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// What the index of the records counts from.
    pub(crate) index_base: u64,
    pub(crate) first: Cursor,
    /// Just past the last one.
    pub(crate) end: Cursor,
}

/// Consecutive records of one segment, in memory and known to be good.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// What the index of the records counts from.
    pub(crate) index_base: u64,
    pub(crate) first: Cursor,
    pub(crate) end: Cursor,
    /// The records are its first `end.offset - first.offset` bytes; what follows is left over.
    pub(crate) buffer: Vec<u8>,
}

impl Run {
    /// The encoded records from `offset` on.
    pub(crate) fn bytes_from(&self, offset: u64) -> &[u8] {
        let end = (self.end.offset - self.first.offset) as usize;
        let start = offset.saturating_sub(self.first.offset) as usize;
        self.buffer.get(start..end).unwrap_or_default()
    }

    pub(crate) const fn holds(&self, offset: u64) -> bool {
        self.first.offset <= offset && offset < self.end.offset
    }

    /// Shows the records from `from` on whose seq is in `seqs`. Returns where to go on, and whether
    /// `visit` wants more.
    pub(crate) fn visit(
        &self,
        from: Cursor,
        seqs: Range<u64>,
        visit: &mut dyn FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> (Cursor, ControlFlow<()>) {
        let mut cursor = if self.begins_at(from) { from } else { self.first };
        let mut rest = self.bytes_from(cursor.offset);
        while cursor.seq < seqs.end
            && let Some((head, after)) = rest.split_first_chunk::<HEADER_BYTES>()
            && let Some(header) = Header::decode(head)
            && let Some((body, after)) = after.split_at_checked(header.len as usize)
        {
            let next =
                Cursor { seq: cursor.seq + 1, offset: cursor.offset + header.record_bytes() };
            let record = Record {
                cursor,
                next,
                id: header.id,
                timestamp: header.timestamp,
                deliver_at: header.deliver_at,
                body,
            };
            let is_wanted = cursor.seq >= seqs.start;
            cursor = next;
            if is_wanted && visit(record).is_break() {
                return (cursor, ControlFlow::Break(()));
            }
            rest = after;
        }
        (cursor, ControlFlow::Continue(()))
    }

    /// Whether a record begins at `cursor`. A cursor remembered from before a power loss may not
    /// fit what was written since; then the walk starts at the front and goes by seq.
    fn begins_at(&self, cursor: Cursor) -> bool {
        cursor == self.first
            || Header::decode(self.bytes_from(cursor.offset)).is_some_and(|header| {
                u64::from(header.index) == cursor.seq.wrapping_sub(self.index_base)
            })
    }
}
