//! What surrounds every datagram and every stream frame.
//!
//! ```text
//! version u8 | key id u8 | check u32 | sender u64 | epoch u64 | counter u64 | cluster u32 | body
//! ```
//! Integers are big-endian. Key id 0 means that the body is not encrypted; the header is laid
//! out so that `(sender, epoch, counter)` can serve as a nonce that never repeats. `cluster` is a
//! hash of the cluster's name: a guard against mistakes, not against enemies. `check` is the
//! CRC-32C of all that follows it, begun with the two bytes before it: UDP's own 16 bits let some
//! damage through, and one bit that was flipped in a section would be passed on as the owner's word
//! (Amazon S3 was down for eight hours on 20 July 2008 because of that).

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::NodeId;

/// Version of the wire format, envelope and body.
pub const WIRE_VERSION: u8 = 1;

/// Bytes before the body.
pub const HEADER_BYTES: usize = 34;

/// Where the checksum, the sender, and the hash of the cluster's name begin.
const CHECK_AT: usize = 2;
const SENDER_AT: usize = 6;
const CLUSTER_AT: usize = 30;

/// Key id of a body in the clear.
const KEY_NONE: u8 = 0;

/// Why an envelope was not opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OpenError {
    /// Shorter than its header.
    #[error("truncated")]
    Truncated,
    /// Another version of the wire format.
    #[error("unknown wire version")]
    Version,
    /// Encrypted with a key this node does not have.
    #[error("unknown key")]
    Key,
    /// From another cluster.
    #[error("another cluster")]
    Cluster,
    /// Not as it was sent.
    #[error("damaged")]
    Damaged,
}

/// Who sent an envelope, as it says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sender {
    /// The node.
    pub node: NodeId,
    /// Its epoch.
    pub epoch: u64,
    /// Number of the envelope within that epoch.
    pub counter: u64,
}

/// Who an envelope says it is from, unopened: nothing is checked. `None`: it is too short.
pub fn claimed_sender(bytes: &[u8]) -> Option<Sender> {
    let mut words = bytes.get(SENDER_AT..CLUSTER_AT)?.chunks_exact(8).map(|word| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(word);
        u64::from_be_bytes(bytes)
    });
    Some(Sender { node: NodeId(words.next()?), epoch: words.next()?, counter: words.next()? })
}

/// How envelopes of one cluster are closed and opened.
#[derive(Clone, Debug)]
pub enum Seal {
    /// In the clear.
    None {
        /// Hash of the cluster's name; half of it is in each envelope.
        cluster: u64,
    },
}

impl Seal {
    /// No encryption, for the cluster called `name`.
    pub fn none(name: &str) -> Self {
        let mut hasher = SipHasher13::new_with_keys(0x6772_6170_6576_696e, 0x6531);
        hasher.write(name.as_bytes());
        Self::None { cluster: hasher.finish() }
    }

    /// A number that differs between clusters, for keyed hashes.
    pub fn hash_key(&self) -> u64 {
        match self {
            Self::None { cluster } => *cluster,
        }
    }

    /// Puts `body` into an envelope.
    pub fn seal(&self, sender: Sender, body: &[u8]) -> Vec<u8> {
        self.seal_parts(sender, &[body])
    }

    /// Puts a body of several parts into an envelope.
    pub fn seal_parts(&self, sender: Sender, parts: &[&[u8]]) -> Vec<u8> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let mut bytes = Vec::with_capacity(HEADER_BYTES + len);
        self.begin(sender, &mut bytes);
        for part in parts {
            bytes.extend_from_slice(part);
        }
        self.finish(&mut bytes);
        bytes
    }

    /// Begins an envelope in `bytes`, which is empty. The body is what is appended to it before
    /// [`finish`](Self::finish).
    pub(crate) fn begin(&self, sender: Sender, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.header(sender));
    }

    /// What an envelope begins with, but for the checksum, which [`finish`](Self::finish) puts in.
    pub(crate) fn header(&self, sender: Sender) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[0] = WIRE_VERSION;
        header[1] = KEY_NONE;
        header[6..14].copy_from_slice(&sender.node.0.to_be_bytes());
        header[14..22].copy_from_slice(&sender.epoch.to_be_bytes());
        header[22..CLUSTER_AT].copy_from_slice(&sender.counter.to_be_bytes());
        header[CLUSTER_AT..].copy_from_slice(&self.mark());
        header
    }

    /// Closes an envelope that was begun.
    pub(crate) fn finish(&self, bytes: &mut [u8]) {
        let check = check_of(bytes);
        bytes[CHECK_AT..SENDER_AT].copy_from_slice(&check);
    }

    /// Takes the body out of an envelope.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if it is none of this cluster's.
    pub fn open<'a>(&self, bytes: &'a [u8]) -> Result<(Sender, &'a [u8]), OpenError> {
        let (header, body) = bytes.split_at_checked(HEADER_BYTES).ok_or(OpenError::Truncated)?;
        if header[0] != WIRE_VERSION {
            return Err(OpenError::Version);
        }
        if header[1] != KEY_NONE {
            return Err(OpenError::Key);
        }
        if header[CLUSTER_AT..] != self.mark() {
            return Err(OpenError::Cluster);
        }
        if header[CHECK_AT..SENDER_AT] != check_of(bytes) {
            return Err(OpenError::Damaged);
        }
        let sender = claimed_sender(header).ok_or(OpenError::Truncated)?;
        Ok((sender, body))
    }

    /// What envelopes of this cluster carry of its name.
    fn mark(&self) -> [u8; 4] {
        let Self::None { cluster } = self;
        let mut mark = [0; 4];
        mark.copy_from_slice(&cluster.to_be_bytes()[..4]);
        mark
    }
}

/// The checksum of an envelope, which has all of its header.
fn check_of(bytes: &[u8]) -> [u8; 4] {
    let begin = u32::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    crc32c::crc32c_append(begin, &bytes[SENDER_AT..]).to_be_bytes()
}
