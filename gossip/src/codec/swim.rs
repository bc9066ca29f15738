//! Bytes of the failure detector: the encoding of foca's types, and what can be left out of it.
//!
//! foca's types implement nothing of the codec's, and no others are encoded and decoded as often.
//! Their bytes are what the codec would make of them: fields in order, a case of an enum as its
//! number, integers of more than one byte as short as their value is.

mod peek;

use arrayvec::ArrayVec;
use bytes::{Buf, BufMut};
use foca::{Header, Member, Message, State};

use super::{CodecError, NUMBER_BYTE_MAX, NUMBER_EIGHT, NUMBER_FOUR, NUMBER_TWO};
use crate::NodeId;
use crate::identity::{Endpoint, Identity};

pub use peek::{SwimKind, peek_short_swim, peek_swim};
pub(crate) use peek::{peek_header, split_member};

use peek::split_address;

/// Longest header or member of the failure detector: three identities of IPv6 addresses, each of at
/// most 44 bytes, and some numbers.
const SWIM_ITEM_BYTES_MAX: usize = 192;

/// Room before a header that is sent, for padding.
pub(crate) const SWIM_FRONT_BYTES: usize = 96;

/// Sender's node and epoch before a packet without them, as foca is shown it.
pub(crate) const SHOWN_SENDER_BYTES: usize = 16;

/// An identity as nearly all are: an IPv4 address with a port above 250, a node's number and an
/// epoch that take all eight bytes, and few renewals.
pub(crate) const USUAL_BYTES: usize = 27;

/// Where in it the port, the node and the epoch are, each after a byte that says how wide it is.
const USUAL_WIDTHS: [(usize, u8); 3] = [(5, NUMBER_TWO), (8, NUMBER_EIGHT), (17, NUMBER_EIGHT)];

/// To whom a packet of the failure detector is addressed.
pub fn swim_receiver(bytes: &[u8]) -> Option<Identity> {
    let mut rest = bytes;
    take_header(&mut rest).map(|header| header.dst)
}

/// A whole packet, of one that has come without its sender's node and epoch, which are these;
/// `None`: the address before them is cut.
pub(crate) fn restore_swim(bytes: &[u8], node: NodeId, epoch: u64) -> Option<Vec<u8>> {
    let (address, rest) = split_address(bytes)?;
    Some([address, sender(node, epoch).as_slice(), rest].concat())
}

/// The node and the epoch that a whole packet is from, and what is before and after them.
pub(crate) fn split_sender(bytes: &[u8]) -> Option<(NodeId, u64, [&[u8]; 2])> {
    let (address, mut rest) = split_address(bytes)?;
    let node = NodeId(take_number(&mut rest, NUMBER_EIGHT)?);
    let epoch = take_number(&mut rest, NUMBER_EIGHT)?;
    Some((node, epoch, [address, rest]))
}

/// Bytes of a sender's node and epoch, where a packet has them.
pub(crate) const fn sender_bytes(node: NodeId, epoch: u64) -> usize {
    number_bytes(node.0) + number_bytes(epoch)
}

fn sender(node: NodeId, epoch: u64) -> Item {
    let mut item = Item::default();
    item.put_sender(node, epoch);
    item
}

/// The beginning of all news about whoever is at `addr`.
pub(crate) fn endpoint(addr: Endpoint) -> Item {
    let mut item = Item::default();
    item.put_endpoint(addr);
    item
}

/// Whether these are the bytes of an identity as nearly all are.
fn is_usual(bytes: &[u8; USUAL_BYTES]) -> bool {
    bytes[0] == 0
        && USUAL_WIDTHS.iter().all(|&(at, width)| bytes[at] == width)
        && bytes[USUAL_BYTES - 1] <= NUMBER_BYTE_MAX
}

/// Bytes of an identity.
pub(crate) fn identity_bytes(identity: &Identity) -> usize {
    let Identity { addr, node, epoch, renew } = *identity;
    let ip_bytes = if addr.ipv4().is_some() { 4 } else { 16 };
    let [port, renew] = [addr.port().into(), renew.into()].map(number_bytes);
    1 + ip_bytes + port + sender_bytes(node, epoch) + renew
}

/// Bytes of a number, as short as can be.
const fn number_bytes(number: u64) -> usize {
    match number {
        0..=250 => 1,
        251..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

/// The failure detector's wire format.
#[derive(Clone, Copy, Debug, Default)]
pub struct SwimCodec;

impl foca::Codec<Identity> for SwimCodec {
    type Error = CodecError;

    fn encode_header(
        &mut self,
        header: &Header<Identity>,
        buf: impl BufMut,
    ) -> Result<(), CodecError> {
        Item::header(header).write(buf)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Identity>, CodecError> {
        take(buf, take_header)
    }

    fn encode_member(
        &mut self,
        member: &Member<Identity>,
        buf: impl BufMut,
    ) -> Result<(), CodecError> {
        let mut item = Item::default();
        item.put_identity(member.id());
        item.put_number(member.incarnation().into());
        item.put(&[match member.state() {
            State::Alive => 0,
            State::Suspect => 1,
            State::Down => 2,
        }]);
        item.write(buf)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<Identity>, CodecError> {
        take(buf, take_member)
    }
}

/// A header or member that is being encoded, or a part of one.
#[derive(Default)]
pub(crate) struct Item(ArrayVec<u8, { SWIM_FRONT_BYTES + SWIM_ITEM_BYTES_MAX }>);

impl Item {
    /// A header.
    fn header(header: &Header<Identity>) -> Self {
        let mut item = Self::default();
        item.put_identity(&header.src);
        item.put_after_sender(header);
        item
    }

    /// The same without its sender's node and epoch, after so many zeros.
    pub(crate) fn short_header(header: &Header<Identity>) -> Self {
        let mut item = Self::default();
        item.put(&[0; SWIM_FRONT_BYTES]);
        item.put_endpoint(header.src.addr);
        item.put_number(header.src.renew.into());
        item.put_after_sender(header);
        item
    }

    fn put_after_sender(&mut self, header: &Header<Identity>) {
        self.put_number(header.src_incarnation.into());
        self.put_identity(&header.dst);
        self.put_message(&header.message);
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.0
    }

    fn put(&mut self, bytes: &[u8]) {
        self.0.try_extend_from_slice(bytes).expect("no item is longer than the longest");
    }

    /// A number of whatever width, as short as can be.
    fn put_number(&mut self, number: u64) {
        let [a, b, c, d, ..] = number.to_le_bytes();
        match number {
            0..=250 => self.put(&[a]),
            251..=0xffff => self.put(&[NUMBER_TWO, a, b]),
            0x1_0000..=0xffff_ffff => self.put(&[NUMBER_FOUR, a, b, c, d]),
            _ => {
                self.put(&[NUMBER_EIGHT]);
                self.put(&number.to_le_bytes());
            }
        }
    }

    fn put_sender(&mut self, node: NodeId, epoch: u64) {
        self.put_number(node.0);
        self.put_number(epoch);
    }

    fn put_identity(&mut self, identity: &Identity) {
        let Identity { addr, node, epoch, renew } = *identity;
        if let Some(usual) = usual(identity) {
            return self.put(&usual);
        }
        self.put_endpoint(addr);
        self.put_sender(node, epoch);
        self.put_number(renew.into());
    }

    fn put_endpoint(&mut self, addr: Endpoint) {
        match addr.ipv4() {
            Some([a, b, c, d]) => self.put(&[0, a, b, c, d]),
            None => {
                self.put(&[1]);
                self.put(&addr.ipv6());
            }
        }
        self.put_number(addr.port().into());
    }

    fn put_message(&mut self, message: &Message<Identity>) {
        let (case, of, number) = match message {
            Message::Ping(number) => (0, None, Some(number)),
            Message::Ack(number) => (1, None, Some(number)),
            Message::PingReq { target, probe_number } => (2, Some(target), Some(probe_number)),
            Message::IndirectPing { origin, probe_number } => (3, Some(origin), Some(probe_number)),
            Message::IndirectAck { target, probe_number } => (4, Some(target), Some(probe_number)),
            Message::ForwardedAck { origin, probe_number } => (5, Some(origin), Some(probe_number)),
            Message::Announce => (6, None, None),
            Message::Feed => (7, None, None),
            Message::Gossip => (8, None, None),
            Message::Broadcast => (9, None, None),
            Message::TurnUndead => (10, None, None),
        };
        self.put(&[case]);
        if let Some(identity) = of {
            self.put_identity(identity);
        }
        if let Some(&number) = number {
            // One byte, whatever it is.
            self.put(&[number]);
        }
    }

    fn write(&self, mut buf: impl BufMut) -> Result<(), CodecError> {
        if buf.remaining_mut() < self.0.len() {
            return Err(CodecError::Full);
        }
        buf.put_slice(self.as_slice());
        Ok(())
    }
}

/// Takes one item from the beginning of `buf`.
fn take<T>(mut buf: impl Buf, item: impl Fn(&mut &[u8]) -> Option<T>) -> Result<T, CodecError> {
    let mut rest = buf.chunk();
    let len = rest.len();
    let value = item(&mut rest).ok_or(CodecError::Swim)?;
    let taken = len - rest.len();
    buf.advance(taken);
    Ok(value)
}

fn take_header(bytes: &mut &[u8]) -> Option<Header<Identity>> {
    let src = take_identity(bytes)?;
    take_after_sender(bytes, src)
}

/// A header without its sender's node and epoch.
fn take_short_header(bytes: &mut &[u8], node: NodeId, epoch: u64) -> Option<Header<Identity>> {
    let addr = take_endpoint(bytes)?;
    let renew = take_number(bytes, NUMBER_FOUR)?.try_into().ok()?;
    take_after_sender(bytes, Identity { addr, node, epoch, renew })
}

/// A header as foca is shown it: these two before the rest.
pub(crate) fn take_shown_header(buf: impl Buf) -> Result<Header<Identity>, CodecError> {
    take(buf, |bytes| {
        let node = NodeId(take_octets(bytes).map(u64::from_be_bytes)?);
        let epoch = take_octets(bytes).map(u64::from_be_bytes)?;
        take_short_header(bytes, node, epoch)
    })
}

/// What [`take_shown_header`] takes before the header.
pub(crate) fn shown_sender(node: NodeId, epoch: u64) -> [u8; SHOWN_SENDER_BYTES] {
    let mut bytes = [0; SHOWN_SENDER_BYTES];
    bytes[..8].copy_from_slice(&node.0.to_be_bytes());
    bytes[8..].copy_from_slice(&epoch.to_be_bytes());
    bytes
}

#[inline]
fn take_after_sender(bytes: &mut &[u8], src: Identity) -> Option<Header<Identity>> {
    let src_incarnation = take_number(bytes, NUMBER_TWO)?.try_into().ok()?;
    let dst = take_identity(bytes)?;
    Some(Header { src, src_incarnation, dst, message: take_message(bytes)? })
}

fn take_member(bytes: &mut &[u8]) -> Option<Member<Identity>> {
    let id = take_identity(bytes)?;
    let incarnation = take_number(bytes, NUMBER_TWO)?.try_into().ok()?;
    let state = match take_number(bytes, NUMBER_FOUR)? {
        0 => State::Alive,
        1 => State::Suspect,
        2 => State::Down,
        _ => return None,
    };
    Some(Member::new(id, incarnation, state))
}

fn take_message(bytes: &mut &[u8]) -> Option<Message<Identity>> {
    Some(match take_byte(bytes)? {
        0 => Message::Ping(take_byte(bytes)?),
        1 => Message::Ack(take_byte(bytes)?),
        2 => Message::PingReq { target: take_identity(bytes)?, probe_number: take_byte(bytes)? },
        3 => {
            Message::IndirectPing { origin: take_identity(bytes)?, probe_number: take_byte(bytes)? }
        }
        4 => {
            Message::IndirectAck { target: take_identity(bytes)?, probe_number: take_byte(bytes)? }
        }
        5 => {
            Message::ForwardedAck { origin: take_identity(bytes)?, probe_number: take_byte(bytes)? }
        }
        6 => Message::Announce,
        7 => Message::Feed,
        8 => Message::Gossip,
        9 => Message::Broadcast,
        10 => Message::TurnUndead,
        _ => return None,
    })
}

/// The bytes of an identity as nearly all are; `None`: it is another one.
pub(crate) fn usual(identity: &Identity) -> Option<[u8; USUAL_BYTES]> {
    let Identity { addr, node, epoch, renew } = *identity;
    let ip = addr.ipv4()?;
    let is_wide = |number: u64| number > u32::MAX.into();
    let is_usual = addr.port() > NUMBER_BYTE_MAX.into() && is_wide(node.0) && is_wide(epoch);
    let renew = u8::try_from(renew).ok().filter(|&renew| is_usual && renew <= NUMBER_BYTE_MAX)?;
    let mut bytes = [0; USUAL_BYTES];
    for (at, width) in USUAL_WIDTHS {
        bytes[at] = width;
    }
    bytes[1..5].copy_from_slice(&ip);
    bytes[6..8].copy_from_slice(&addr.port().to_le_bytes());
    bytes[9..17].copy_from_slice(&node.0.to_le_bytes());
    bytes[18..26].copy_from_slice(&epoch.to_le_bytes());
    bytes[26] = renew;
    Some(bytes)
}

/// The other way round, from the beginning of `bytes`.
pub(crate) fn take_usual(bytes: &mut &[u8]) -> Option<Identity> {
    let (usual, rest) = bytes.split_first_chunk::<USUAL_BYTES>()?;
    if !is_usual(usual) {
        return None;
    }
    *bytes = rest;
    let port = u16::from_le_bytes([usual[6], usual[7]]);
    let number = |at: usize| usual[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    Some(Identity {
        addr: Endpoint::v4([usual[1], usual[2], usual[3], usual[4]], port),
        node: NodeId(number(9)?),
        epoch: number(18)?,
        renew: usual[26].into(),
    })
}

fn take_identity(bytes: &mut &[u8]) -> Option<Identity> {
    if let Some(usual) = take_usual(bytes) {
        return Some(usual);
    }
    let addr = take_endpoint(bytes)?;
    let node = NodeId(take_number(bytes, NUMBER_EIGHT)?);
    let epoch = take_number(bytes, NUMBER_EIGHT)?;
    let renew = take_number(bytes, NUMBER_FOUR)?.try_into().ok()?;
    Some(Identity { addr, node, epoch, renew })
}

fn take_endpoint(bytes: &mut &[u8]) -> Option<Endpoint> {
    // As nearly all are.
    if let Some((&[0, a, b, c, d, NUMBER_TWO, low, high], rest)) = bytes.split_first_chunk() {
        *bytes = rest;
        return Some(Endpoint::v4([a, b, c, d], u16::from_le_bytes([low, high])));
    }
    let port = |bytes: &mut &[u8]| take_number(bytes, NUMBER_TWO)?.try_into().ok();
    // One byte, as whoever steps over it takes it: what is let in must not be read in another way.
    match take_byte(bytes)? {
        0 => take_octets(bytes).and_then(|ip| Some(Endpoint::v4(ip, port(bytes)?))),
        1 => take_octets(bytes).and_then(|ip| Some(Endpoint::v6(ip, port(bytes)?))),
        _ => None,
    }
}

fn take_octets<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (octets, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*octets)
}

fn take_byte(bytes: &mut &[u8]) -> Option<u8> {
    take_octets(bytes).map(|[byte]| byte)
}

/// A number that is no wider than `widest` says.
fn take_number(bytes: &mut &[u8], widest: u8) -> Option<u64> {
    let first = take_byte(bytes)?;
    if first <= NUMBER_BYTE_MAX {
        return Some(first.into());
    }
    if first > widest {
        return None;
    }
    match first {
        NUMBER_TWO => take_octets(bytes).map(|octets| u16::from_le_bytes(octets).into()),
        NUMBER_FOUR => take_octets(bytes).map(|octets| u32::from_le_bytes(octets).into()),
        NUMBER_EIGHT => take_octets(bytes).map(u64::from_le_bytes),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;
    use std::net::SocketAddr;

    use foca::Codec;
    use proptest::prelude::*;

    use super::*;
    use crate::codec::encode;

    fn four() -> Identity {
        let addr = "10.0.0.1:4162".parse::<SocketAddr>().unwrap().into();
        Identity { addr, node: NodeId(7), epoch: 300, renew: 2 }
    }

    fn six() -> Identity {
        let addr = "[2001:db8::1]:17".parse::<SocketAddr>().unwrap().into();
        let (node, epoch) = (NodeId(u64::MAX), 1_700_000_000_000);
        Identity { addr, node, epoch, renew: 70_000 }
    }

    /// Both, as serde wrote them before.
    const FOUR: &str = "000a000001fb421007fb2c0102";
    const SIX: &str = "0120010db800000000000000000000000111fdfffffffffffffffffd0068e5cf8b010000\
                       fc70110100";

    /// Every message about `of`, with its kind and its bytes as serde wrote them.
    fn messages(of: Identity, its: &str) -> Vec<(Message<Identity>, SwimKind, String)> {
        let probe_number = 251;
        let plain = |message, kind, bytes: &str| (message, kind, bytes.to_owned());
        let indirect = |message, case| (message, SwimKind::Indirect, format!("{case:02x}{its}fb"));
        vec![
            plain(Message::Ping(0), SwimKind::Ping, "0000"),
            plain(Message::Ack(255), SwimKind::Ack, "01ff"),
            indirect(Message::PingReq { target: of, probe_number }, 2),
            indirect(Message::IndirectPing { origin: of, probe_number }, 3),
            indirect(Message::IndirectAck { target: of, probe_number }, 4),
            indirect(Message::ForwardedAck { origin: of, probe_number }, 5),
            plain(Message::Announce, SwimKind::Announce, "06"),
            plain(Message::Feed, SwimKind::Feed, "07"),
            plain(Message::Gossip, SwimKind::Gossip, "08"),
            plain(Message::Broadcast, SwimKind::Broadcast, "09"),
            plain(Message::TurnUndead, SwimKind::TurnUndead, "0a"),
        ]
    }

    fn header_bytes(header: &Header<Identity>) -> Vec<u8> {
        let mut bytes = Vec::new();
        SwimCodec.encode_header(header, &mut bytes).unwrap();
        bytes
    }

    fn member_bytes(member: &Member<Identity>) -> Vec<u8> {
        let mut bytes = Vec::new();
        SwimCodec.encode_member(member, &mut bytes).unwrap();
        bytes
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn headers() -> Vec<(Header<Identity>, SwimKind, String)> {
        let mut headers = Vec::new();
        for ((src, from), (dst, to)) in
            [((four(), FOUR), (six(), SIX)), ((six(), SIX), (four(), FOUR))]
        {
            for (message, kind, bytes) in messages(src, from) {
                let header = Header { src, src_incarnation: 1000, dst, message };
                headers.push((header, kind, format!("{from}fbe803{to}{bytes}")));
            }
        }
        headers
    }

    /// Whether `value` and `bytes` are each other's, and no part of `bytes` is anything.
    fn check<T: Debug + PartialEq>(
        value: &T,
        bytes: &[u8],
        expected: &str,
        decode: impl Fn(&[u8]) -> Result<T, CodecError>,
    ) {
        assert_eq!(hex(bytes), expected, "{value:?}");
        assert_eq!(&decode(bytes).unwrap(), value);
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "{value:?} at {len}");
        }
    }

    #[test]
    fn the_types_of_foca_have_the_bytes_that_serde_gave_them() {
        for (header, _, expected) in headers() {
            let bytes = header_bytes(&header);
            check(&header, &bytes, &expected, |bytes| SwimCodec.decode_header(bytes));
        }
        for (id, its) in [(four(), FOUR), (six(), SIX)] {
            assert_eq!(hex(&encode(&id)), its);
            for (incarnation, state, end) in [
                (0, State::Alive, "0000"),
                (250, State::Suspect, "fa01"),
                (u16::MAX, State::Down, "fbffff02"),
            ] {
                let member = Member::new(id, incarnation, state);
                let bytes = member_bytes(&member);
                let expected = format!("{its}{end}");
                check(&member, &bytes, &expected, |bytes| SwimCodec.decode_member(bytes));
            }
        }
    }

    #[test]
    fn an_identity_as_nearly_all_are_has_the_bytes_of_any_other() {
        let wide = u64::from(u32::MAX) + 1;
        for port in [250, 251] {
            for (node, epoch) in [(wide, wide), (wide - 1, wide), (wide, wide - 1)] {
                for renew in [250, 251] {
                    let addr = SocketAddr::from(([10, 0, 0, 1], port)).into();
                    let id = Identity { addr, node: NodeId(node), epoch, renew };
                    let is_usual = port > 250 && node == wide && epoch == wide && renew == 250;
                    assert_eq!(usual(&id).is_some(), is_usual);
                    let bytes = encode(&id);
                    let member = Member::new(id, 9, State::Suspect);
                    let expected = format!("{}0901", hex(&bytes));
                    let encoded = member_bytes(&member);
                    check(&member, &encoded, &expected, |bytes| SwimCodec.decode_member(bytes));
                    assert_eq!(identity_bytes(&id), bytes.len());
                    let mut rest = [&*encoded, &encoded].concat();
                    rest.push(0);
                    let mut rest = rest.as_slice();
                    for _ in 0..2 {
                        assert_eq!(split_member(&mut rest), Some(encoded.as_slice()));
                    }
                    assert_eq!(rest, [0]);
                }
            }
        }
    }

    #[test]
    fn an_unknown_message_or_state_is_an_error() {
        let mut header = header_bytes(&headers()[6].0);
        let mut member = member_bytes(&Member::alive(four()));
        for (case, last) in [(11, &mut header), (3, &mut member)] {
            *last.last_mut().unwrap() = case;
        }
        assert!(SwimCodec.decode_header(&header[..]).is_err());
        assert!(SwimCodec.decode_member(&member[..]).is_err());
    }

    #[test]
    fn an_item_that_does_not_fit_leaves_the_buffer_as_it_is() {
        let member = Member::alive(six());
        let whole = member_bytes(&member).len();
        for room in 0..whole {
            let mut buf = bytes::BytesMut::new().limit(room);
            assert!(SwimCodec.encode_member(&member, &mut buf).is_err());
            assert!(buf.get_ref().is_empty());
        }
    }

    #[test]
    fn a_packet_is_recognised_without_decoding_it() {
        for (header, kind, _) in headers() {
            let bytes = header_bytes(&header);
            assert_eq!(peek_swim(&bytes), Some(kind));
            assert_eq!(swim_receiver(&bytes), Some(header.dst));
            assert_eq!(peek_swim(&bytes[..20]), None);
            let Identity { node, epoch, .. } = header.src;
            let (of, since, parts) = split_sender(&bytes).unwrap();
            assert_eq!((of, since), (node, epoch));
            let short = parts.concat();
            assert_eq!(peek_short_swim(&short), Some(kind));
            assert_eq!(peek_short_swim(&short[..16]), None);
            for cut in 0..short.len() {
                assert_eq!(peek_header(&short[..cut], node, epoch), None);
            }
            let more = [&short[..], &[1, 2]].concat();
            let seen = peek_header(&more, node, epoch);
            assert_eq!(seen, Some((header.src, kind, &[1, 2][..])));
            assert_eq!(restore_swim(&short, node, epoch), Some(bytes));
        }
    }

    /// A number of any width, whatever it is.
    fn number() -> impl Strategy<Value = Vec<u8>> {
        let wide = |first: u8, bytes: usize| {
            let bytes = prop::collection::vec(prop_oneof![0..3_u8, any::<u8>()], bytes);
            bytes.prop_map(move |bytes| [&[first], &bytes[..]].concat())
        };
        prop_oneof![
            4 => (0..12_u8).prop_map(|byte| vec![byte]),
            1 => wide(NUMBER_TWO, 2),
            1 => wide(NUMBER_FOUR, 4),
            1 => wide(NUMBER_EIGHT, 8),
        ]
    }

    /// An address whose case is a number of any width.
    fn address() -> impl Strategy<Value = Vec<u8>> {
        let case = prop_oneof![
            4 => Just(vec![0]),
            2 => Just(vec![1]),
            1 => Just(vec![NUMBER_TWO, 0, 0]),
            1 => Just(vec![NUMBER_FOUR, 1, 0, 0, 0]),
            1 => number(),
        ];
        let ip = prop_oneof![Just(4), Just(16)];
        let ip = ip.prop_flat_map(|bytes| prop::collection::vec(0..4_u8, bytes));
        (case, ip, number()).prop_map(|(case, ip, port)| [case, ip, port].concat())
    }

    fn numbers(count: usize) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(number(), count).prop_map(|all| all.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            cases: 4000,
            ..ProptestConfig::default()
        })]

        /// Else a packet that is let in could be another one for foca.
        #[test]
        fn who_looks_at_a_packet_and_who_decodes_it_see_the_same(
            (src, src_numbers) in (address(), numbers(2)),
            (dst, dst_numbers) in (address(), numbers(3)),
            (case, about, its_numbers) in (number(), address(), numbers(3)),
            (rest, cut) in (numbers(3), 0..120_usize),
        ) {
            let identity = [&dst[..], &dst_numbers].concat();
            let header = [&src[..], &src_numbers, &identity, &case, &about, &its_numbers, &rest];
            let header = header.concat();
            for bytes in [&header[..], &header[..cut.min(header.len())]] {
                let (node, epoch) = (NodeId(7), 8);
                let mut left = bytes;
                if let Some(decoded) = take_short_header(&mut left, node, epoch) {
                    let kind = peek_short_swim(bytes);
                    prop_assert!(kind.is_some());
                    let seen = kind.map(|kind| (decoded.src, kind, left));
                    prop_assert_eq!(peek_header(bytes, node, epoch), seen);
                }
            }
            let member = [&identity[..], &rest].concat();
            let (mut decoded, mut split) = (&member[..], &member[..]);
            if take_member(&mut decoded).is_some() {
                prop_assert!(split_member(&mut split).is_some());
                prop_assert_eq!(decoded, split);
            }
        }
    }
}
