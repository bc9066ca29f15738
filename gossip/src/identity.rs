//! Who a member is to the failure detector.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::NodeId;
use crate::codec::{
    BorrowDecode, BorrowDecoder, DecodeError, Encode, EncodeError, Encoder, Reader,
    USUAL_IDENTITY_BYTES, Writer, take_usual_identity, usual_identity,
};

/// Where a node receives gossip: a [`SocketAddr`] without what only its own host knows (flow and
/// scope), in 20 bytes instead of 32. Every node holds one for every other, and foca compares one
/// with all of them for each piece of news.
#[derive(Clone, Copy, Eq, Ord, PartialOrd)]
pub struct Endpoint {
    is_v6: bool,
    /// An IPv4 address is in the last.
    ip: [u32; 4],
    port: u16,
}

/// As it would be derived, but what differs most is compared first: the end of the address and the
/// port.
impl PartialEq for Endpoint {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        let [a, b, c, last] = self.ip;
        let [other_a, other_b, other_c, other_last] = other.ip;
        last == other_last
            && self.port == other.port
            && (a, b, c) == (other_a, other_b, other_c)
            && self.is_v6 == other.is_v6
    }
}

impl Hash for Endpoint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // In three words: with each list of members that comes by stream all that are known are
        // hashed.
        let [a, b, c, last] = self.ip.map(u64::from);
        state.write_u64(last << 32 | u64::from(self.port) << 1 | u64::from(self.is_v6));
        state.write_u64(a << 32 | b);
        state.write_u64(c);
    }
}

impl Endpoint {
    /// Of an IPv4 address.
    pub(crate) fn v4(ip: [u8; 4], port: u16) -> Self {
        Self { is_v6: false, ip: [0, 0, 0, u32::from_be_bytes(ip)], port }
    }

    /// Of an IPv6 address.
    pub(crate) fn v6(ip: [u8; 16], port: u16) -> Self {
        SocketAddr::from((ip, port)).into()
    }

    /// The address, if it is of IPv4.
    pub(crate) fn ipv4(self) -> Option<[u8; 4]> {
        (!self.is_v6).then(|| self.ip[3].to_be_bytes())
    }

    /// The address as one of IPv6.
    pub(crate) fn ipv6(self) -> [u8; 16] {
        let mut octets = [0; 16];
        for (place, word) in octets.chunks_exact_mut(4).zip(self.ip) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        octets
    }

    pub(crate) const fn port(self) -> u16 {
        self.port
    }

    /// As sockets want it.
    pub fn socket(self) -> SocketAddr {
        let bits = self.ip.iter().fold(0, |bits: u128, &word| bits << 32 | u128::from(word));
        let ip: IpAddr = if self.is_v6 {
            Ipv6Addr::from_bits(bits).into()
        } else {
            Ipv4Addr::from_bits(self.ip[3]).into()
        };
        SocketAddr::new(ip, self.port)
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(addr: SocketAddr) -> Self {
        let (is_v6, bits) = match addr.ip() {
            IpAddr::V4(ip) => (false, u128::from(ip.to_bits())),
            IpAddr::V6(ip) => (true, ip.to_bits()),
        };
        // In order of significance, so that the derived order is that of addresses.
        let ip = [96, 64, 32, 0].map(|shift| (bits >> shift) as u32);
        Self { is_v6, ip, port: addr.port() }
    }
}

impl From<Endpoint> for SocketAddr {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.socket()
    }
}

/// As a [`SocketAddr`] travels.
impl Encode for Endpoint {
    fn encode<E: Encoder>(&self, to: &mut E) -> Result<(), EncodeError> {
        self.socket().encode(to)
    }
}

impl<'de, Context> BorrowDecode<'de, Context> for Endpoint {
    fn borrow_decode<D: BorrowDecoder<'de, Context = Context>>(
        from: &mut D,
    ) -> Result<Self, DecodeError> {
        SocketAddr::borrow_decode(from).map(Self::from)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket().fmt(f)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket().fmt(f)
    }
}

/// One life of a node at one address.
///
/// At one address the greater `(epoch, renew, node)` wins, so a restart replaces what it was
/// before, and a node that was wrongly declared down comes back by raising `renew`. That does
/// not touch its section: only a process start changes `epoch`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Identity {
    /// Where it receives gossip.
    pub addr: Endpoint,
    /// The node.
    pub node: NodeId,
    /// The start of its process.
    pub epoch: u64,
    /// How often it was wrongly declared down since.
    pub renew: u32,
}

/// As it would be derived: its fields in order.
impl Encode for Identity {
    fn encode<E: Encoder>(&self, to: &mut E) -> Result<(), EncodeError> {
        if let Some(bytes) = usual_identity(self) {
            return to.writer().write(&bytes);
        }
        (self.addr, self.node, self.epoch, self.renew).encode(to)
    }
}

impl<'de, Context> BorrowDecode<'de, Context> for Identity {
    fn borrow_decode<D: BorrowDecoder<'de, Context = Context>>(
        from: &mut D,
    ) -> Result<Self, DecodeError> {
        let bytes = from.reader().peek_read(USUAL_IDENTITY_BYTES);
        if let Some(usual) = bytes.and_then(|mut bytes| take_usual_identity(&mut bytes)) {
            from.claim_bytes_read(USUAL_IDENTITY_BYTES)?;
            from.reader().consume(USUAL_IDENTITY_BYTES);
            return Ok(usual);
        }
        let (addr, node, epoch, renew) = BorrowDecode::borrow_decode(from)?;
        Ok(Self { addr, node, epoch, renew })
    }
}

impl Identity {
    /// What decides between two identities of one address or of one node.
    pub fn rank(&self) -> (u64, u32, NodeId) {
        (self.epoch, self.renew, self.node)
    }
}

/// Epochs this far above the known one are not believed: 35 years of milliseconds.
const EPOCH_JUMP_MAX: u64 = 1 << 40;

/// An epoch below this is no reason to doubt a later one: the clock may have stood at 1970 when it
/// was taken. It is the year 2039.
const EPOCH_DOUBTED_MIN: u64 = 1 << 41;

/// A start takes an epoch greater by a random number of at most this (1 s where epochs are ms).
const START_STEP_MAX: u64 = 1000;

/// Whether `epoch` is too far above `known`, another epoch of the same node, to be believed.
///
/// A node with an epoch near the end of the number's range could never take a greater one.
pub fn is_epoch_jump(epoch: u64, known: u64) -> bool {
    epoch > known.max(EPOCH_DOUBTED_MIN).saturating_add(EPOCH_JUMP_MAX)
}

/// The epoch of a start of the process: greater than the one `kept` on disk, which counts as 0 if
/// there is none. The wall clock (ms since 1970) only helps a node that lost its disk; others would
/// not believe a great jump of it.
///
/// `luck` is another number at each start: a node whose clock was put back and whose disk forgot
/// its last start would otherwise take the epoch of that once more, and be taken for it.
pub fn next_epoch(kept: Option<u64>, wall_ms: u64, luck: u64) -> u64 {
    let step = 1 + luck % START_STEP_MAX;
    match kept {
        Some(kept) if mutant!(M06) => kept,
        _ if mutant!(M07) => wall_ms,
        Some(kept) if is_epoch_jump(wall_ms, kept) => kept.saturating_add(step),
        _ => kept.unwrap_or(0).saturating_add(step).max(wall_ms),
    }
}

impl foca::Identity for Identity {
    type Addr = Endpoint;

    fn renew(&self) -> Option<Self> {
        if mutant!(M04) {
            return None;
        }
        Some(Self { renew: self.renew.checked_add(1)?, ..*self })
    }

    fn addr(&self) -> Endpoint {
        self.addr
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        if mutant!(M05) {
            return self.rank() < adversary.rank();
        }
        self.rank() > adversary.rank()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_its_socket_address_in_order_and_on_the_wire() {
        let texts = [
            "0.0.0.0:0",
            "10.0.0.1:4162",
            "10.0.0.1:4163",
            "255.255.255.255:1",
            "[::]:9",
            "[::ffff:10.0.0.1]:4162",
            "[2001:db8::1]:4162",
            "[2001:db8:0:1::]:1",
        ];
        let addrs = texts.map(|text| text.parse::<SocketAddr>().unwrap());
        let endpoints = addrs.map(Endpoint::from);
        assert!(addrs.is_sorted() && endpoints.is_sorted());
        for (addr, endpoint) in addrs.into_iter().zip(endpoints) {
            assert_eq!(endpoint.socket(), addr);
            assert_eq!(endpoint.to_string(), addr.to_string());
            assert_eq!(crate::codec::encode(&endpoint), crate::codec::encode(&addr));
        }
    }

    #[test]
    fn an_identity_is_its_fields_in_order_on_the_wire() {
        let addr: SocketAddr = "10.0.0.1:4162".parse().unwrap();
        let near: SocketAddr = "[2001:db8::1]:80".parse().unwrap();
        for (node, epoch, renew) in [(u64::MAX, 1 << 41, 1), (7, 1 << 41, 0), (1 << 40, 300, 251)] {
            for addr in [addr, near] {
                let identity = Identity { addr: addr.into(), node: NodeId(node), epoch, renew };
                let bytes = crate::codec::encode(&identity);
                assert_eq!(bytes, crate::codec::encode(&(addr, node, epoch, renew)));
                assert_eq!(crate::codec::decode_datagram::<Identity>(&bytes).unwrap(), identity);
                let cut = crate::codec::decode_datagram::<Identity>(&bytes[..bytes.len() - 1]);
                assert!(cut.is_err());
            }
        }
    }

    #[test]
    fn an_identity_is_small() {
        assert!(size_of::<Identity>() <= 40 && size_of::<foca::Member<Identity>>() <= 48);
    }
}
