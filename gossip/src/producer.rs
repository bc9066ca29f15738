//! A producer as nsqlookupd describes it.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::codec::{BorrowDecode, BorrowDecoder, DecodeError, Encode, EncodeError, Encoder};

/// Longest text field of a producer, in bytes: a full DNS name is 253, a hostname less.
pub const PRODUCER_FIELD_BYTES_MAX: usize = 255;

/// An nsqd as `/lookup` and `/nodes` list it; the fields are nsqlookupd's, in its order.
///
/// Source: `PeerInfo`, nsqlookupd/registration_db.go:27-38 (nsq 3103474b).
#[derive(Clone, Debug, Default, Eq, PartialEq, Encode, BorrowDecode)]
pub struct Producer {
    /// `ip:port` its registration came from.
    pub remote_address: String,
    /// Name of its host.
    pub hostname: String,
    /// Address clients connect to.
    pub broadcast_address: String,
    /// Port of its TCP protocol.
    pub tcp_port: u16,
    /// Port of its HTTP API.
    pub http_port: u16,
    /// Its version, as it says itself.
    pub version: String,
    /// Its zone, or empty.
    pub topology_zone: String,
    /// Its region, or empty.
    pub topology_region: String,
}

impl Producer {
    /// `broadcast_address:tcp_port`: two registrations with the same one are the same nsqd.
    pub fn address(&self) -> String {
        format!("{}:{}", self.broadcast_address, self.tcp_port)
    }

    /// Compares [`address`](Self::address) without making one.
    pub fn cmp_address(&self, other: &Self) -> Ordering {
        let (mine, theirs) =
            (self.broadcast_address.as_bytes(), other.broadcast_address.as_bytes());
        let both = mine.len().min(theirs.len());
        match mine[..both].cmp(&theirs[..both]) {
            Ordering::Equal if mine.len() == theirs.len() && self.tcp_port == other.tcp_port => {
                Ordering::Equal
            }
            // What follows is a colon and a number, compared as text.
            Ordering::Equal => self.address().cmp(&other.address()),
            order => order,
        }
    }

    /// `broadcast_address:http_port`: how `/topic/tombstone` names a node.
    pub fn node(&self) -> String {
        format!("{}:{}", self.broadcast_address, self.http_port)
    }

    /// Whether every text field is at most [`PRODUCER_FIELD_BYTES_MAX`] bytes.
    pub(crate) fn is_bounded(&self) -> bool {
        [
            &self.remote_address,
            &self.hostname,
            &self.broadcast_address,
            &self.version,
            &self.topology_zone,
            &self.topology_region,
        ]
        .iter()
        .all(|field| field.len() <= PRODUCER_FIELD_BYTES_MAX)
    }

    /// Cuts every text field to [`PRODUCER_FIELD_BYTES_MAX`] bytes.
    pub(crate) fn bound(&mut self) {
        for field in [
            &mut self.remote_address,
            &mut self.hostname,
            &mut self.broadcast_address,
            &mut self.version,
            &mut self.topology_zone,
            &mut self.topology_region,
        ] {
            if field.len() > PRODUCER_FIELD_BYTES_MAX {
                field.truncate(field.floor_char_boundary(PRODUCER_FIELD_BYTES_MAX));
            }
        }
    }
}

/// What an owner's section says about one of its producers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProducerRecord {
    /// The producer itself.
    pub producer: Arc<Producer>,
    /// False while it has been silent for longer than the inactive-producer timeout.
    pub active: bool,
    /// It takes no new messages and gives away what it has: consumers are told of it, publishers
    /// are not.
    pub draining: bool,
    /// Wall-clock time (ns since 1970) of the registration or of the last change above.
    pub last_update_ns: i64,
}

const ACTIVE: u8 = 1;
const DRAINING: u8 = 1 << 1;

/// One byte for all that is true or false about it; unknown bits of it do no harm.
impl Encode for ProducerRecord {
    fn encode<E: Encoder>(&self, to: &mut E) -> Result<(), EncodeError> {
        let Self { producer, active, draining, last_update_ns } = self;
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        producer.encode(to)?;
        (flag(*active, ACTIVE) | flag(*draining, DRAINING)).encode(to)?;
        last_update_ns.encode(to)
    }
}

impl<'de, Context> BorrowDecode<'de, Context> for ProducerRecord {
    fn borrow_decode<D: BorrowDecoder<'de, Context = Context>>(
        from: &mut D,
    ) -> Result<Self, DecodeError> {
        let producer = Arc::borrow_decode(from)?;
        let flags = u8::borrow_decode(from)?;
        let (active, draining) = (flags & ACTIVE != 0, flags & DRAINING != 0);
        Ok(Self { producer, active, draining, last_update_ns: i64::borrow_decode(from)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_compared_as_the_texts_they_are() {
        let hosts = ["", "a", "a.example", "a:1", "ab", "b", "a-b"];
        let at = |host: &str, tcp_port| Producer {
            broadcast_address: host.to_owned(),
            tcp_port,
            ..Producer::default()
        };
        let all: Vec<Producer> =
            hosts.iter().flat_map(|host| [0, 1, 9, 10, 4150].map(|port| at(host, port))).collect();
        for one in &all {
            for other in &all {
                assert_eq!(one.cmp_address(other), one.address().cmp(&other.address()));
            }
        }
    }
}
