//! What nodes say to each other: datagrams and stream frames.

use std::borrow::Cow;

use foca::{Member, State};

use crate::NodeId;
use crate::codec::{
    BorrowDecode, Encode, SwimCodec, SwimKind, peek_short_swim, peek_swim, restore_swim,
};
use crate::envelope::{HEADER_BYTES, Sender, claimed_sender};
use crate::identity::Identity;
use crate::repair::BUCKETS_MAX;
use crate::section::{Delta, Op};
use crate::wish::Wish;

/// Largest UDP payload: what every IPv6 path carries whole.
pub const DATAGRAM_BYTES_MAX: usize = 1232;

/// Largest stream frame, envelope included.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

/// Most heads in one datagram.
pub const HEADS_MAX: usize = 40;

/// Most writes in one datagram's delta.
pub const DELTA_OPS_MAX: usize = 64;

/// First byte of a datagram's body that is the failure detector's.
pub const KIND_SWIM: u8 = 0;

/// The same without the sender's node and epoch, which the envelope has: up to 18 of some 140 bytes
/// that an idle node sends twice in each probe.
pub const KIND_SWIM_SHORT: u8 = 2;

/// First byte of a datagram's body that is a [`Message`].
pub const KIND_MESSAGE: u8 = 1;

/// A [`Message`], after its length in two bytes, big-endian, and then what follows
/// [`KIND_SWIM_SHORT`]: a digest goes with a probe, so that an idle node wakes, sends and is woken
/// two times a second less.
pub const KIND_MESSAGE_SWIM: u8 = 3;

/// How far an owner's section goes at the sender.
///
/// Encoded as its fields are, in order; see `codec/head.rs`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    /// The owner.
    pub owner: NodeId,
    /// Its epoch.
    pub epoch: u64,
    /// Its version.
    pub ver: u64,
    /// The difference is too large for datagrams: ask by stream.
    pub by_stream: bool,
}

/// A request for what comes after `have`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Encode, BorrowDecode)]
pub struct Ask {
    /// Whose section.
    pub owner: NodeId,
    /// The epoch the asker has, or expects.
    pub epoch: u64,
    /// The version the asker has in it.
    pub have: u64,
}

/// A delta and whose it is.
#[derive(Clone, Debug, Eq, PartialEq, Encode, BorrowDecode)]
pub struct OwnedDelta {
    /// Whose section.
    pub owner: NodeId,
    /// The writes.
    pub delta: Delta,
}

/// A datagram other than the failure detector's.
#[derive(Clone, Debug, Eq, PartialEq, Encode, BorrowDecode)]
pub enum Message {
    /// Writes.
    Deltas(Vec<OwnedDelta>),
    /// What the sender has. With `asks`, the receiver answers with what it has more of in those
    /// of `bucket_count` buckets.
    Heads {
        /// Heads of the sender.
        heads: Vec<Head>,
        /// Number of buckets the sender compared; 0 asks for nothing.
        bucket_count: u16,
        /// The buckets that differ.
        asks: Vec<u16>,
    },
    /// Requests; answered with [`Message::Deltas`], or with heads if that takes a stream.
    Pull(Vec<Ask>),
    /// Hashes of what the sender has; a receiver that has something else answers with heads.
    Digest {
        /// Of the members it holds active.
        view: u64,
        /// Of the heads of their sections, in buckets by owner: four bytes each, the least first.
        /// They are hashes, so that a number that is shorter when it is small would be longer.
        buckets: Vec<u8>,
    },
    /// The sender, who is this identity, leaves.
    Leave(Identity),
    /// Something for the owner to do.
    Wish(Wish),
}

impl Message {
    /// Whether no list is longer than senders make it; more would only be work.
    pub fn is_bounded(&self) -> bool {
        match self {
            Self::Deltas(deltas) => {
                deltas.iter().all(|owned| owned.delta.ops.len() <= DELTA_OPS_MAX)
            }
            Self::Heads { heads, asks, .. } => {
                heads.len() <= HEADS_MAX && asks.len() <= BUCKETS_MAX
            }
            Self::Pull(asks) => asks.len() <= HEADS_MAX,
            Self::Digest { buckets, .. } => {
                let count = buckets.len() / 4;
                buckets.len() == 4 * count && count <= BUCKETS_MAX && count.is_power_of_two()
            }
            Self::Leave(_) | Self::Wish(_) => true,
        }
    }
}

/// Why a stream was opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Encode, BorrowDecode)]
pub enum Purpose {
    /// The opener wants to become a member.
    Join,
    /// Both compare everything they know.
    Sync,
    /// The opener asks for sections.
    Pull,
}

/// What one node knows of a member.
#[derive(Clone, Debug, Eq, PartialEq, Encode, BorrowDecode)]
pub struct MemberState {
    /// Who.
    pub identity: Identity,
    /// Its incarnation: how often it refuted a suspicion.
    pub incarnation: u16,
    /// Whether it is alive, suspected or down.
    pub liveness: Liveness,
}

/// The three states of SWIM.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Encode, BorrowDecode)]
pub enum Liveness {
    /// It answers.
    Alive,
    /// It did not answer a probe and has not yet said otherwise.
    Suspect,
    /// It is gone, or left.
    Down,
}

impl From<&Member<Identity>> for MemberState {
    fn from(member: &Member<Identity>) -> Self {
        let liveness = match member.state() {
            State::Alive => Liveness::Alive,
            State::Suspect => Liveness::Suspect,
            State::Down => Liveness::Down,
        };
        Self { identity: *member.id(), incarnation: member.incarnation(), liveness }
    }
}

impl From<&MemberState> for Member<Identity> {
    fn from(member: &MemberState) -> Self {
        let state = match member.liveness {
            Liveness::Alive => State::Alive,
            Liveness::Suspect => State::Suspect,
            Liveness::Down => State::Down,
        };
        Self::new(member.identity, member.incarnation, state)
    }
}

/// One step of a stream.
///
/// Join and Sync: the opener sends `Hello`, `Members`, `Heads`, `End`; the other answers with the
/// same and, before its `End`, the sections the opener lacks; the opener sends what the other
/// lacks, `End`, and closes. Pull: `Hello`, `Asks`, `End`; then the sections and `End`.
#[derive(Clone, Debug, Eq, PartialEq, Encode, BorrowDecode)]
pub enum Frame {
    /// Who speaks, and why.
    Hello {
        /// The speaker.
        identity: Identity,
        /// What the opener wants.
        purpose: Purpose,
    },
    /// The opener's epoch is not above `epoch`, which the cluster holds for its node or address:
    /// it must take a greater one and join again.
    EpochTaken {
        /// Highest epoch known.
        epoch: u64,
    },
    /// Members, and nodes that left with the epoch in which they did.
    Members {
        /// What the speaker knows of members.
        members: Vec<MemberState>,
        /// Who left.
        left: Vec<(NodeId, u64)>,
    },
    /// What the speaker has.
    Heads(Vec<Head>),
    /// What the speaker wants.
    Asks(Vec<Ask>),
    /// Writes to some sections.
    Deltas(Vec<OwnedDelta>),
    /// Part of a snapshot; it counts when the last part is there.
    Snapshot {
        /// Whose section.
        owner: NodeId,
        /// Its epoch.
        epoch: u64,
        /// The version the whole snapshot brings.
        ver: u64,
        /// The floor it brings.
        floor: u64,
        /// This part's keys.
        ops: Vec<Op>,
        /// Whether this is the last part.
        is_last: bool,
    },
    /// The speaker has said everything of this turn.
    End,
}

impl Frame {
    /// About how many bytes its encoding takes, so that room is made once: enough where addresses
    /// are of IPv4.
    pub(crate) fn bytes_about(&self) -> usize {
        let items = match self {
            Self::Hello { .. } | Self::EpochTaken { .. } | Self::End => 32,
            Self::Members { members, left } => members.len() * 34 + left.len() * 18,
            Self::Heads(heads) => heads.len() * 24,
            Self::Asks(asks) => asks.len() * 24,
            Self::Deltas(deltas) => {
                let ops = deltas.iter().flat_map(|owned| &owned.delta.ops);
                deltas.len() * 40 + ops.map(Op::size).sum::<usize>()
            }
            Self::Snapshot { ops, .. } => 40 + ops.iter().map(Op::size).sum::<usize>(),
        };
        16 + items
    }
}

/// The packet of the failure detector in the body of a datagram of `sender`, whole; `None`: the
/// body is something else, or malformed.
pub fn swim_packet(sender: Sender, body: &[u8]) -> Option<Cow<'_, [u8]>> {
    match body {
        [KIND_SWIM, swim @ ..] => Some(Cow::Borrowed(swim)),
        _ => {
            let whole = restore_swim(short_swim(body)?, sender.node, sender.epoch)?;
            Some(Cow::Owned(whole))
        }
    }
}

/// The message and the packet of the failure detector, in its short form, of a datagram that has
/// both; `None`: it is something else, or cut.
pub(crate) fn message_and_swim(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let [KIND_MESSAGE_SWIM, high, low, rest @ ..] = body else { return None };
    rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))
}

/// The packet of the failure detector in the body of a datagram that has it in its short form.
fn short_swim(body: &[u8]) -> Option<&[u8]> {
    match body {
        [KIND_SWIM_SHORT, swim @ ..] => Some(swim),
        _ => message_and_swim(body).map(|(_, swim)| swim),
    }
}

/// The kind of the failure detector's packet in the body of a datagram; `None`: the body is
/// something else, or malformed.
pub fn swim_kind(body: &[u8]) -> Option<SwimKind> {
    match body {
        [KIND_SWIM, swim @ ..] => peek_swim(swim),
        _ => peek_short_swim(short_swim(body)?),
    }
}

/// What a datagram or a frame in the clear is, for traces: `ping`, `gossip`, `deltas`, `snapshot`,
/// ...; `junk` if it is nothing that this version knows.
pub fn describe(bytes: &[u8]) -> &'static str {
    let Some((sender, (_, body))) = claimed_sender(bytes).zip(bytes.split_at_checked(HEADER_BYTES))
    else {
        return "junk";
    };
    if let Some(swim) = swim_packet(sender, body) {
        return match describe_swim(&swim) {
            "ping" if body[0] == KIND_MESSAGE_SWIM => "ping+digest",
            name => name,
        };
    }
    match body {
        // Which case of an enum follows is its first byte.
        [KIND_MESSAGE, case, ..] => {
            let names = ["deltas", "heads", "pull", "digest", "leave", "wish"];
            names.get(usize::from(*case)).copied().unwrap_or("junk")
        }
        _ => "junk",
    }
}

/// The same for a stream frame in the clear.
pub fn describe_frame(bytes: &[u8]) -> &'static str {
    let names = ["hello", "epoch-taken", "members", "heads", "asks", "deltas", "snapshot", "end"];
    let case = bytes.get(HEADER_BYTES).map(|case| usize::from(*case));
    case.and_then(|case| names.get(case)).copied().unwrap_or("junk")
}

fn describe_swim(bytes: &[u8]) -> &'static str {
    match foca::Codec::decode_header(&mut SwimCodec, bytes).map(|header| header.message) {
        Ok(foca::Message::Ping(_)) => "ping",
        Ok(foca::Message::Ack(_)) => "ack",
        Ok(foca::Message::PingReq { .. }) => "ping-req",
        Ok(foca::Message::IndirectPing { .. }) => "indirect-ping",
        Ok(foca::Message::IndirectAck { .. }) => "indirect-ack",
        Ok(foca::Message::ForwardedAck { .. }) => "forwarded-ack",
        Ok(foca::Message::Gossip) => "gossip",
        Ok(foca::Message::Announce | foca::Message::Feed) => "announce",
        Ok(foca::Message::Broadcast) => "broadcast",
        Ok(foca::Message::TurnUndead) => "turn-undead",
        Err(_) => "junk",
    }
}
