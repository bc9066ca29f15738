//! What surrounds every datagram and every stream frame.
//!
//! ```text
//! version u8 | key id u8 | sender u64 | epoch u64 | counter u64 | cluster u64 | body
//! ```
//! Integers are big-endian. Key id 0 means that the body is not encrypted; the header is laid
//! out so that `(sender, epoch, counter)` can serve as a nonce that never repeats. `cluster` is a
//! hash of the cluster's name: a guard against mistakes, not against enemies.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::NodeId;

/// Version of the wire format, envelope and body.
pub const WIRE_VERSION: u8 = 1;

/// Bytes before the body.
pub const HEADER_BYTES: usize = 34;

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

/// How envelopes of one cluster are closed and opened.
#[derive(Clone, Debug)]
pub enum Seal {
    /// In the clear.
    None {
        /// Hash of the cluster's name.
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
        let Self::None { cluster } = self;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.push(WIRE_VERSION);
        bytes.push(KEY_NONE);
        bytes.extend_from_slice(&sender.node.0.to_be_bytes());
        bytes.extend_from_slice(&sender.epoch.to_be_bytes());
        bytes.extend_from_slice(&sender.counter.to_be_bytes());
        bytes.extend_from_slice(&cluster.to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    /// Takes the body out of an envelope.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if it is none of this cluster's.
    pub fn open<'a>(&self, bytes: &'a [u8]) -> Result<(Sender, &'a [u8]), OpenError> {
        let Self::None { cluster } = self;
        let (header, body) = bytes.split_at_checked(HEADER_BYTES).ok_or(OpenError::Truncated)?;
        if header[0] != WIRE_VERSION {
            return Err(OpenError::Version);
        }
        if header[1] != KEY_NONE {
            return Err(OpenError::Key);
        }
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&header[at..at + 8]);
            u64::from_be_bytes(bytes)
        };
        if word(26) != *cluster {
            return Err(OpenError::Cluster);
        }
        Ok((Sender { node: NodeId(word(2)), epoch: word(10), counter: word(18) }, body))
    }
}
