//! Messages on their way into a log.

use crate::record::{HEADER_BYTES, Header, encode, seal, set_origin, u32_at};

/// Messages encoded as records before the topic's lock is taken.
///
/// [`Log::append`](crate::Log::append) fills in what only the log knows (ids, index, timestamp and
/// the checksum over them). A batch may be appended again: after a failure, or to another log.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    buffer: Vec<u8>,
    /// The checksum of each body, kept apart because sealing overwrites it in the record.
    body_crcs: Vec<u32>,
    body_bytes: u64,
    has_deferred: bool,
    /// Whether the messages have come with ids and timestamps of their own.
    is_stored: bool,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with room for `bytes` of encoded records (40 bytes and the body each).
    pub fn with_capacity(bytes: usize) -> Self {
        Self { buffer: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// Adds one message, to be delivered not before `deliver_at` (wall ns; 0 = at once).
    ///
    /// # Panics
    ///
    /// If the body is 4 GiB or longer; lengths on the wire are signed 32-bit, so none is.
    pub fn push(&mut self, body: &[u8], deliver_at: i64) {
        let at = self.buffer.len();
        encode(&mut self.buffer, body, deliver_at);
        self.body_crcs.push(u32_at(&self.buffer, at + 4));
        self.body_bytes += body.len() as u64;
        self.has_deferred |= deliver_at != 0;
    }

    /// Adds one message that keeps the id and the timestamp (wall ns) it has had elsewhere;
    /// [`Log::append`](crate::Log::append) then leaves those alone, in all messages of the batch.
    ///
    /// # Panics
    ///
    /// As [`push`](Self::push).
    pub fn push_stored(&mut self, body: &[u8], id: u64, timestamp: i64) {
        debug_assert!(self.is_stored || self.is_empty(), "a batch is of one kind or the other");
        let at = self.buffer.len();
        self.push(body, 0);
        set_origin(&mut self.buffer[at..], id, timestamp);
        self.is_stored = true;
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.body_crcs.len()
    }

    /// Whether there is no message.
    pub fn is_empty(&self) -> bool {
        self.body_crcs.is_empty()
    }

    /// Bytes the batch takes in the log.
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Sum of the bodies' lengths.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Whether any message has a `deliver_at`.
    pub fn has_deferred(&self) -> bool {
        self.has_deferred
    }

    /// The messages that have a `deliver_at`, in order.
    pub fn deferred(&self) -> impl Iterator<Item = DeferredMessage<'_>> {
        let mut offset = 0;
        let all = (0..self.len()).map_while(move |index| {
            let header = Header::decode(self.buffer.get(offset..)?)?;
            let at = offset + HEADER_BYTES;
            let body = self.buffer.get(at..at + header.len as usize)?;
            let deliver_at = header.deliver_at;
            let message = DeferredMessage { index, offset, deliver_at, body };
            offset = at + body.len();
            Some(message)
        });
        all.filter(|message| message.deliver_at != 0)
    }

    /// Keeps the first `len` messages.
    pub fn truncate(&mut self, len: usize) {
        let mut at = 0;
        let mut body_bytes = 0;
        for _ in 0..len.min(self.len()) {
            let body_len = u32_at(&self.buffer, at) as usize;
            at += HEADER_BYTES + body_len;
            body_bytes += body_len as u64;
        }
        self.buffer.truncate(at);
        self.body_crcs.truncate(len);
        self.body_bytes = body_bytes;
    }

    /// Empties the batch and keeps its buffer for the next, unless it has grown past 1 MiB.
    pub fn clear(&mut self) {
        if self.buffer.capacity() > KEPT_BYTES_MAX {
            self.buffer = Vec::new();
            self.body_crcs = Vec::new();
        }
        self.buffer.clear();
        self.body_crcs.clear();
        self.body_bytes = 0;
        self.has_deferred = false;
        self.is_stored = false;
    }

    /// Completes every record: indexes count from `first_index`, ids from `first_id` by `id_step`.
    /// Stored messages keep their ids and timestamps.
    pub(crate) fn seal(&mut self, first_index: u32, first_id: u64, id_step: u64, timestamp: i64) {
        let (mut rest, mut index, mut id) = (self.buffer.as_mut_slice(), first_index, first_id);
        for &body_crc in &self.body_crcs {
            let Some((header, after)) = rest.split_first_chunk_mut::<HEADER_BYTES>() else { break };
            match self.is_stored.then(|| Header::decode(header)).flatten() {
                Some(stored) => seal(header, body_crc, index, stored.timestamp, stored.id),
                None => seal(header, body_crc, index, timestamp, id),
            }
            let len = u32_at(header, 0) as usize;
            rest = &mut after[len..];
            index = index.wrapping_add(1);
            id = id.wrapping_add(id_step);
        }
    }

    /// The encoded records, back to back.
    pub(crate) fn records(&self) -> &[u8] {
        &self.buffer
    }
}

/// A message of a [`Batch`] that is to be delivered later.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DeferredMessage<'a> {
    /// Its place in the batch, from 0.
    pub index: usize,
    /// Bytes of the batch before it.
    pub offset: usize,
    /// When it may first be delivered, wall clock, in nanoseconds since 1970.
    pub deliver_at: i64,
    /// The message itself.
    pub body: &'a [u8],
}

/// A publisher's buffer above this is given back: a rare large MPUB must not pin memory for ever.
const KEPT_BYTES_MAX: usize = 1024 * 1024;
