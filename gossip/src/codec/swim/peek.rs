//! What can be read of packets of the failure detector, and taken apart, without decoding them.

use super::{
    NUMBER_BYTE_MAX, NUMBER_EIGHT, NUMBER_FOUR, NUMBER_TWO, USUAL_BYTES, is_usual, take_endpoint,
    take_number,
};
use crate::NodeId;
use crate::identity::Identity;

/// The kinds of packets of the failure detector, as [`foca::Message`] numbers them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SwimKind {
    /// A probe.
    Ping,
    /// Its answer.
    Ack,
    /// A probe by way of others, one of its four steps.
    Indirect,
    /// A greeting; not used here.
    Announce,
    /// The answer to that; not used here.
    Feed,
    /// Rumours.
    Gossip,
    /// Custom rumours; not used here.
    Broadcast,
    /// The receiver is held to be down.
    TurnUndead,
}

/// The kind of a packet of the failure detector, without decoding it.
pub fn peek_swim(bytes: &[u8]) -> Option<SwimKind> {
    let mut rest = bytes;
    skip_address(&mut rest)?;
    // Node and epoch.
    (0..2).try_for_each(|_| skip_number(&mut rest))?;
    peek_after_sender(rest)
}

/// The same of a packet without its sender's node and epoch.
pub fn peek_short_swim(bytes: &[u8]) -> Option<SwimKind> {
    let mut rest = bytes;
    skip_address(&mut rest)?;
    peek_after_sender(rest)
}

/// The same of what follows these two.
fn peek_after_sender(mut rest: &[u8]) -> Option<SwimKind> {
    // Renewals and incarnation.
    (0..2).try_for_each(|_| skip_number(&mut rest))?;
    skip_identity(&mut rest)?;
    take_kind(&mut rest)
}

/// Sender, kind, and what follows the header of a packet without its sender's `node` and `epoch`.
pub(crate) fn peek_header(
    bytes: &[u8],
    node: NodeId,
    epoch: u64,
) -> Option<(Identity, SwimKind, &[u8])> {
    let mut rest = bytes;
    let addr = take_endpoint(&mut rest)?;
    let renew = take_number(&mut rest, NUMBER_FOUR)?.try_into().ok()?;
    // Incarnation and receiver.
    skip_number(&mut rest)?;
    skip_identity(&mut rest)?;
    let kind = take_kind(&mut rest)?;
    match kind {
        SwimKind::Ping | SwimKind::Ack => rest = rest.get(1..)?,
        SwimKind::Indirect => {
            skip_identity(&mut rest)?;
            rest = rest.get(1..)?;
        }
        SwimKind::Announce
        | SwimKind::Feed
        | SwimKind::Gossip
        | SwimKind::Broadcast
        | SwimKind::TurnUndead => {}
    }
    Some((Identity { addr, node, epoch, renew }, kind, rest))
}

#[inline]
fn take_kind(bytes: &mut &[u8]) -> Option<SwimKind> {
    let (kind, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(match kind {
        0 => SwimKind::Ping,
        1 => SwimKind::Ack,
        2..=5 => SwimKind::Indirect,
        6 => SwimKind::Announce,
        7 => SwimKind::Feed,
        8 => SwimKind::Gossip,
        9 => SwimKind::Broadcast,
        10 => SwimKind::TurnUndead,
        _ => return None,
    })
}

/// The bytes of the next member, taken from `rest`.
pub(crate) fn split_member<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let all = *rest;
    skip_identity(rest)?;
    // Incarnation and state.
    (0..2).try_for_each(|_| skip_number(rest))?;
    Some(&all[..all.len() - rest.len()])
}

/// The sender's address, with which a packet begins, and what follows.
pub(super) fn split_address(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = bytes;
    skip_address(&mut rest)?;
    Some(bytes.split_at(bytes.len() - rest.len()))
}

fn skip_identity(bytes: &mut &[u8]) -> Option<()> {
    if bytes.first_chunk().is_some_and(is_usual) {
        *bytes = &bytes[USUAL_BYTES..];
        return Some(());
    }
    skip_address(bytes)?;
    // Node, epoch, renewals.
    (0..3).try_for_each(|_| skip_number(bytes))
}

/// An IP address and a port.
fn skip_address(bytes: &mut &[u8]) -> Option<()> {
    let ip_bytes = match *bytes.first()? {
        0 => 4,
        1 => 16,
        _ => return None,
    };
    *bytes = bytes.get(1 + ip_bytes..)?;
    skip_number(bytes)
}

fn skip_number(bytes: &mut &[u8]) -> Option<()> {
    let len = match *bytes.first()? {
        ..=NUMBER_BYTE_MAX => 1,
        NUMBER_TWO => 3,
        NUMBER_FOUR => 5,
        NUMBER_EIGHT => 9,
        _ => return None,
    };
    *bytes = bytes.get(len..)?;
    Some(())
}
