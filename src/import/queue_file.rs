//! The records of one data file of go-diskqueue (storage, section 5).
//!
//! ```text
//!  0      4           12        14     30
//!  | len  | timestamp | attempts | id  | body (len - 26 bytes)
//! ```
//! Big-endian; `len` counts from the timestamp on. There is no checksum: a record is believed if
//! its length is, as nsqd does.

use std::io::{self, Read};

use grapevine_protocol::{MESSAGE_ID_LEN, MessageId};

/// A message as nsqd stored it. When it was to be delivered is not in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct QueueRecord<'a> {
    /// When it was published, wall clock, in nanoseconds since 1970.
    pub(super) timestamp: i64,
    /// How often it has been handed out.
    pub(super) attempts: u16,
    /// Its id; sixteen lower-case hexadecimal digits, if nsqd wrote it.
    pub(super) id: MessageId,
    /// The message itself.
    pub(super) body: &'a [u8],
}

/// What comes next in a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Next<'a> {
    /// A whole record.
    Record(QueueRecord<'a>),
    /// The file ends where a record would begin.
    End,
    /// No record begins here, so nothing after it can be found either.
    Unreadable(&'static str),
}

/// Reads the records of a file, or of what is left of it.
#[derive(Debug)]
pub(super) struct QueueFile<R> {
    input: R,
    position: u64,
    len: u64,
    message_bytes_max: u64,
    body: Vec<u8>,
}

impl<R: Read> QueueFile<R> {
    /// `input` is a file of `len` bytes from `position` on. Records longer than
    /// `message_bytes_max` (`--max-msg-size`, header not counted) are believed if they fit into the
    /// file and have an id of nsqd's: they may be from before the flag was lowered.
    pub(super) const fn new(input: R, position: u64, len: u64, message_bytes_max: u64) -> Self {
        Self { input, position, len, message_bytes_max, body: Vec::new() }
    }

    /// Where in the file the next record begins.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// Bytes of the file from there on.
    pub(super) const fn left(&self) -> u64 {
        self.len.saturating_sub(self.position)
    }

    /// The next record. After anything else, there is nothing more to ask for.
    ///
    /// # Errors
    ///
    /// What the device said; also if the file is shorter than it was.
    pub(super) fn next(&mut self) -> io::Result<Next<'_>> {
        let left = self.left();
        if left == 0 {
            return Ok(Next::End);
        }
        if left < LENGTH_BYTES + HEADER_BYTES {
            return Ok(Next::Unreadable("cut short"));
        }
        let (timestamp, attempts, id, body_bytes) = {
            let len = i32::from_be_bytes(self.array()?);
            let timestamp = i64::from_be_bytes(self.array()?);
            let attempts = u16::from_be_bytes(self.array()?);
            let id: [u8; MESSAGE_ID_LEN] = self.array()?;
            let Some(body_bytes) =
                u64::try_from(len).ok().and_then(|n| n.checked_sub(HEADER_BYTES))
            else {
                return Ok(Next::Unreadable("length out of bounds"));
            };
            (timestamp, attempts, MessageId::from_bytes(&id), body_bytes)
        };
        let Some(id) = id else { return Ok(Next::Unreadable("no message id")) };
        if body_bytes > self.message_bytes_max && id.as_u64().is_none() {
            return Ok(Next::Unreadable("length out of bounds"));
        }
        if body_bytes > left - LENGTH_BYTES - HEADER_BYTES {
            return Ok(Next::Unreadable("cut short"));
        }
        // Not more than the file has, so that no length makes room for what is not there.
        let body_len = usize::try_from(body_bytes).map_err(io::Error::other)?;
        if self.body.len() < body_len {
            self.body.resize(body_len, 0);
        }
        self.input.read_exact(&mut self.body[..body_len])?;
        self.position += LENGTH_BYTES + HEADER_BYTES + body_bytes;
        let body = &self.body[..body_len];
        Ok(Next::Record(QueueRecord { timestamp, attempts, id, body }))
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// Bytes of a record's length.
pub(super) const LENGTH_BYTES: u64 = 4;
/// Bytes of a message before its body: timestamp, attempts, id.
pub(super) const HEADER_BYTES: u64 = 8 + 2 + MESSAGE_ID_LEN as u64;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::import::nsqd_files::QueueMessage;

    /// Everything a file gives: its messages, and where and why it ended.
    fn read(bytes: &[u8], from: usize) -> (Vec<QueueMessage>, u64, Option<&'static str>) {
        let len = bytes.len() as u64;
        let mut file = QueueFile::new(&bytes[from..], from as u64, len, 1_000);
        let mut messages = Vec::new();
        let why = loop {
            match file.next().expect("a slice can be read") {
                Next::Record(record) => messages.push(QueueMessage {
                    timestamp: record.timestamp,
                    attempts: record.attempts,
                    id: *record.id.as_bytes(),
                    body: record.body.to_vec(),
                }),
                Next::End => break None,
                Next::Unreadable(why) => break Some(why),
            }
        };
        (messages, file.position(), why)
    }

    fn message() -> impl Strategy<Value = QueueMessage> {
        (any::<(i64, u16, u64)>(), vec(any::<u8>(), 0..40)).prop_map(
            |((timestamp, attempts, id), body)| QueueMessage {
                timestamp,
                attempts,
                id: *MessageId::from_u64(id).as_bytes(),
                body,
            },
        )
    }

    proptest! {
        #[test]
        fn a_file_cut_at_any_byte_gives_every_whole_message_before_the_cut(
            messages in vec(message(), 0..6),
        ) {
            let mut bytes = Vec::new();
            let mut ends = vec![0];
            for message in &messages {
                bytes.extend(message.record());
                ends.push(bytes.len());
            }
            for cut in 0..=bytes.len() {
                let whole = ends.iter().filter(|&&end| end <= cut).count() - 1;
                let (found, position, why) = read(&bytes[..cut], 0);
                prop_assert_eq!(&found[..], &messages[..whole], "cut at {}", cut);
                prop_assert_eq!(position, ends[whole] as u64);
                prop_assert_eq!(why.is_none(), cut == ends[whole], "a cut is reported: {:?}", why);
            }
            for (first, &from) in ends.iter().enumerate() {
                prop_assert_eq!(read(&bytes, from).0, &messages[first..]);
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic_and_without_losing_their_place(
            bytes in vec(any::<u8>(), 0..200),
            small in any::<bool>(),
        ) {
            let mut bytes = bytes;
            if small && bytes.len() >= 4 {
                bytes[..3].fill(0); // a length that may well fit
            }
            let (messages, position, why) = read(&bytes, 0);
            let records: Vec<u8> = messages.iter().flat_map(QueueMessage::record).collect();
            prop_assert_eq!(&bytes[..records.len()], &records[..]);
            prop_assert_eq!(position, records.len() as u64);
            prop_assert_eq!(why.is_none(), records.len() == bytes.len());
        }
    }

    #[test]
    fn lengths_that_no_message_has_end_the_file() {
        let good = QueueMessage::new(1, "good").record();
        for len in [i32::MIN, -1, 0, 25, 2_000, i32::MAX] {
            let mut bytes = [good.clone(), len.to_be_bytes().to_vec(), vec![b'z'; 4_000]].concat();
            bytes.extend(&good);
            let (messages, position, why) = read(&bytes, 0);
            assert_eq!((messages.len(), position), (1, good.len() as u64), "length {len}");
            assert!(why.is_some(), "length {len}");
        }
    }

    #[test]
    fn a_message_beyond_max_msg_size_is_believed_if_it_is_whole_and_has_an_id_of_nsqd() {
        let large = QueueMessage::new(7, &"x".repeat(5_000));
        let small = QueueMessage::new(8, "small");
        let bytes = [large.record(), small.record()].concat();
        assert_eq!(read(&bytes, 0), (vec![large.clone(), small], bytes.len() as u64, None));
        let strange = QueueMessage { id: *b"not an id of nsq", ..large };
        assert_eq!(read(&strange.record(), 0).2, Some("length out of bounds"));
    }
}
