//! What must be remembered of a channel and of a topic between runs.

use crate::record::Cursor;

/// Everything a channel needs to go on where it stopped.
///
/// Messages below `next` that are not in `entries` are finished.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ChannelCheckpoint {
    /// Whether deliveries are stopped.
    pub paused: bool,
    /// The first message never handed out.
    pub next: Cursor,
    /// Deferred publishes at or above `next`, which wait in `entries` or were delivered already.
    pub deferred_ahead: u64,
    /// Stretches this channel must pass over when `next` reaches them, ascending.
    pub jumps: Vec<Jump>,
    /// Unfinished messages below `next`, or moved to the side log.
    pub entries: Vec<CheckpointEntry>,
    /// End of the topic's log when this was written. A log that has come back shorter (its end was
    /// never written, or lost with the power) must go on from here, see `Log::advance_to`.
    pub known_end: Cursor,
}

/// When `next` reaches seq `at`, it goes on at `to`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Jump {
    /// First seq passed over.
    pub at: u64,
    /// Where reading goes on.
    pub to: Cursor,
}

/// One unfinished message.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CheckpointEntry {
    /// Where it lies.
    pub cursor: Cursor,
    /// Whether `cursor` is a place in the channel's side log instead of the topic's.
    pub side: bool,
    /// The message id, as a number.
    pub id: u64,
    /// How often it has been handed out.
    pub attempts: u16,
    /// When it was published, wall clock, in nanoseconds since 1970.
    pub timestamp: i64,
    /// When it may be delivered, wall clock, in nanoseconds since 1970; 0 = ready.
    pub deliver_at: i64,
}

/// What must be remembered of a topic apart from its log.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TopicState {
    /// Whether messages are kept from the channels.
    pub paused: bool,
    /// How far the topic has been opened to its channels.
    pub released: Cursor,
}

/// Why bytes are not a checkpoint. Nothing is kept of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CheckpointError {
    /// Not of this kind, or cut short.
    #[error("not a checkpoint of this kind, or cut short")]
    Malformed,
    /// Written by a program that knows a later format.
    #[error("format version {0} is not known")]
    Version(u32),
    /// The checksum does not match.
    #[error("checksum does not match")]
    Checksum,
}

impl ChannelCheckpoint {
    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(CHANNEL_MAGIC);
        out.u8(u8::from(self.paused));
        out.cursor(self.next);
        out.cursor(self.known_end);
        out.u64(self.deferred_ahead);
        out.u64(self.jumps.len() as u64);
        for jump in &self.jumps {
            out.u64(jump.at);
            out.cursor(jump.to);
        }
        out.u64(self.entries.len() as u64);
        for entry in &self.entries {
            out.cursor(entry.cursor);
            out.u8(u8::from(entry.side));
            out.u64(entry.id);
            out.0.extend_from_slice(&entry.attempts.to_le_bytes());
            out.u64(entry.timestamp.cast_unsigned());
            out.u64(entry.deliver_at.cast_unsigned());
        }
        out.finish()
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    ///
    /// See [`CheckpointError`]; never panics, never allocates more than a small multiple of the
    /// input.
    pub fn decode(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let mut input = Decoder::new(bytes, CHANNEL_MAGIC)?;
        let paused = input.bool()?;
        let next = input.cursor()?;
        let known_end = input.cursor()?;
        let deferred_ahead = input.u64()?;
        let jumps_len = input.count(JUMP_BYTES)?;
        let mut jumps = Vec::with_capacity(jumps_len);
        for _ in 0..jumps_len {
            jumps.push(Jump { at: input.u64()?, to: input.cursor()? });
        }
        let entries_len = input.count(ENTRY_BYTES)?;
        let mut entries = Vec::with_capacity(entries_len);
        for _ in 0..entries_len {
            entries.push(CheckpointEntry {
                cursor: input.cursor()?,
                side: input.bool()?,
                id: input.u64()?,
                attempts: u16::from_le_bytes(input.array()?),
                timestamp: input.u64()?.cast_signed(),
                deliver_at: input.u64()?.cast_signed(),
            });
        }
        input.finish()?;
        Ok(Self { paused, next, deferred_ahead, jumps, entries, known_end })
    }
}

impl TopicState {
    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(TOPIC_MAGIC);
        out.u8(u8::from(self.paused));
        out.cursor(self.released);
        out.finish()
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    ///
    /// See [`CheckpointError`]; never panics.
    pub fn decode(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let mut input = Decoder::new(bytes, TOPIC_MAGIC)?;
        let state = Self { paused: input.bool()?, released: input.cursor()? };
        input.finish()?;
        Ok(state)
    }
}

/// Magic, version, fields, then CRC-32C over all of it; little-endian.
struct Encoder(Vec<u8>);

impl Encoder {
    fn new(magic: [u8; 4]) -> Self {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(&magic);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        Self(bytes)
    }

    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn cursor(&mut self, cursor: Cursor) {
        self.u64(cursor.seq);
        self.u64(cursor.offset);
    }

    fn finish(mut self) -> Vec<u8> {
        let crc = crc32c::crc32c(&self.0);
        self.0.extend_from_slice(&crc.to_le_bytes());
        self.0
    }
}

struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    fn new(bytes: &'a [u8], magic: [u8; 4]) -> Result<Self, CheckpointError> {
        let (content, crc) = bytes.split_last_chunk().ok_or(CheckpointError::Malformed)?;
        let mut input = Self(content);
        if input.array::<4>()? != magic {
            return Err(CheckpointError::Malformed);
        }
        let version = u32::from_le_bytes(input.array()?);
        if crc32c::crc32c(content) != u32::from_le_bytes(*crc) {
            return Err(CheckpointError::Checksum);
        }
        if version != VERSION {
            return Err(CheckpointError::Version(version));
        }
        Ok(input)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CheckpointError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(CheckpointError::Malformed)?;
        self.0 = rest;
        Ok(*head)
    }

    fn bool(&mut self) -> Result<bool, CheckpointError> {
        match self.array::<1>()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [_] => Err(CheckpointError::Malformed),
        }
    }

    fn u64(&mut self) -> Result<u64, CheckpointError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn cursor(&mut self) -> Result<Cursor, CheckpointError> {
        Ok(Cursor { seq: self.u64()?, offset: self.u64()? })
    }

    /// A count of items of `item_bytes` each, refused if the input cannot hold them.
    fn count(&mut self, item_bytes: usize) -> Result<usize, CheckpointError> {
        let count = usize::try_from(self.u64()?).map_err(|_| CheckpointError::Malformed)?;
        if count > self.0.len() / item_bytes {
            return Err(CheckpointError::Malformed);
        }
        Ok(count)
    }

    fn finish(self) -> Result<(), CheckpointError> {
        if self.0.is_empty() { Ok(()) } else { Err(CheckpointError::Malformed) }
    }
}

/// First bytes of a `.channel` file.
const CHANNEL_MAGIC: [u8; 4] = *b"gvch";
/// First bytes of a `topic.state` file.
const TOPIC_MAGIC: [u8; 4] = *b"gvts";
/// The format written, and the only one read.
const VERSION: u32 = 1;
/// Encoded size of a [`Jump`].
const JUMP_BYTES: usize = 24;
/// Encoded size of a [`CheckpointEntry`].
const ENTRY_BYTES: usize = 43;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn cursor() -> impl Strategy<Value = Cursor> {
        any::<(u64, u64)>().prop_map(|(seq, offset)| Cursor { seq, offset })
    }

    fn entry() -> impl Strategy<Value = CheckpointEntry> {
        (cursor(), any::<(bool, u64, u16, i64, i64)>()).prop_map(
            |(cursor, (side, id, attempts, timestamp, deliver_at))| CheckpointEntry {
                cursor,
                side,
                id,
                attempts,
                timestamp,
                deliver_at,
            },
        )
    }

    fn checkpoint() -> impl Strategy<Value = ChannelCheckpoint> {
        let jump = (any::<u64>(), cursor()).prop_map(|(at, to)| Jump { at, to });
        (any::<(bool, u64)>(), cursor(), cursor(), vec(jump, 0..4), vec(entry(), 0..20)).prop_map(
            |((paused, deferred_ahead), next, known_end, jumps, entries)| ChannelCheckpoint {
                paused,
                next,
                deferred_ahead,
                jumps,
                entries,
                known_end,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(checkpoint in checkpoint(), released in cursor()) {
            let decoded = ChannelCheckpoint::decode(&checkpoint.encode());
            prop_assert_eq!(decoded, Ok(checkpoint.clone()));
            let state = TopicState { paused: checkpoint.paused, released };
            prop_assert_eq!(TopicState::decode(&state.encode()), Ok(state));
        }

        #[test]
        fn random_bytes_are_refused(
            mut bytes in vec(any::<u8>(), 0..400),
            is_signed in any::<bool>(),
        ) {
            prop_assert!(TopicState::decode(&bytes).is_err());
            prop_assert!(ChannelCheckpoint::decode(&bytes).is_err());
            // Past the magic and the checksum, what is inside must still be refused or make sense.
            let mut signed = [&CHANNEL_MAGIC[..], &VERSION.to_le_bytes()].concat();
            signed.append(&mut bytes);
            signed.extend_from_slice(&crc32c::crc32c(&signed).to_le_bytes());
            if is_signed && let Ok(decoded) = ChannelCheckpoint::decode(&signed) {
                prop_assert_eq!(decoded.encode(), signed);
            }
        }
    }

    #[test]
    fn a_cut_or_a_changed_byte_anywhere_is_noticed() {
        let entries = vec![CheckpointEntry { id: 7, attempts: 3, ..Default::default() }; 3];
        let jumps = vec![Jump { at: 9, to: Cursor { seq: 12, offset: 600 } }];
        let bytes =
            ChannelCheckpoint { paused: true, jumps, entries, ..Default::default() }.encode();
        for at in 0..bytes.len() {
            assert!(ChannelCheckpoint::decode(&bytes[..at]).is_err(), "cut at {at}");
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert!(ChannelCheckpoint::decode(&changed).is_err(), "changed at {at}");
        }
        assert!(TopicState::decode(&bytes).is_err(), "a channel is no topic");
    }

    #[test]
    fn a_later_format_is_named_as_such() {
        let mut bytes = TopicState::default().encode();
        bytes.truncate(bytes.len() - 4);
        bytes[4] = 2;
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        assert_eq!(TopicState::decode(&bytes), Err(CheckpointError::Version(2)));
    }
}
