//! Which packets of the failure detector are let in.
//!
//! Nobody has proved who they are, so what a stranger can cause is bounded: it must be where it
//! claims to be, it may not have others called on its behalf, and it gets back no more bytes than
//! it sent. A member's packet may come from another address than its own, as it does behind NAT
//! and on hosts with several networks; what answers it goes to the address membership knows.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::Buf;
use foca::{Codec, Member, State};

use super::{MEMBERS_MAX, Membership, RENEWALS_PER_MINUTE_MAX};
use crate::codec::{SwimCodec, SwimKind};
use crate::identity::{Endpoint, Identity, is_epoch_jump};

impl Membership {
    /// Why a packet of this kind, maybe of a stranger, is not shown to foca, as the name of a
    /// counter; `None`: it is.
    pub(super) fn refusal(
        &self,
        from: SocketAddr,
        (src, is_stranger): (&Identity, bool),
        kind: SwimKind,
        updates: &[u8],
    ) -> Option<&'static str> {
        match kind {
            SwimKind::Announce if !mutant!(N16) => return Some("dropped_announce"),
            SwimKind::TurnUndead if self.is_renewed_enough() => {
                sometimes!("renewal_refused");
                return Some("dropped_turn_undead");
            }
            SwimKind::Indirect if is_stranger => return Some("dropped_stranger_request"),
            SwimKind::Announce
            | SwimKind::TurnUndead
            | SwimKind::Indirect
            | SwimKind::Ping
            | SwimKind::Ack
            | SwimKind::Feed
            | SwimKind::Gossip
            | SwimKind::Broadcast => {}
        }
        if is_stranger && from != src.addr.socket() && !mutant!(N16) {
            return Some("dropped_spoofed_source");
        }
        if self.is_epoch_jump(src) {
            return Some("dropped_epoch_jump");
        }
        // The same by way of rumours. Looked for only in the minutes in which it matters.
        if self.is_renewed_enough() && told(updates).any(|member| self.may_not_renew_for(&member)) {
            return Some("dropped_turn_undead");
        }
        let is_full = self.known_count() >= MEMBERS_MAX;
        (is_full && self.brings_new_members(src, updates)).then_some("dropped_members_full")
    }

    /// Whether nobody has told this node of `identity`, and it has not been heard of before.
    pub(super) fn is_stranger(&self, identity: &Identity) -> bool {
        let is_same = |known: &Identity| known.addr == identity.addr;
        !self.active.get(&identity.node).is_some_and(is_same)
            && !self
                .foca
                .iter_membership_state()
                .any(|member| member.id().node == identity.node && is_same(member.id()))
    }

    /// Whether the epoch is too far above what is known of the node to be believed.
    pub(super) fn is_epoch_jump(&self, identity: &Identity) -> bool {
        // The first look is free of cost, and every honest epoch passes it.
        is_epoch_jump(identity.epoch, 0)
            && self
                .foca
                .iter_membership_state()
                .filter(|member| member.id().node == identity.node)
                .map(|member| member.id().epoch)
                .chain(self.left.get(&identity.node).copied())
                .max()
                .is_some_and(|known| is_epoch_jump(identity.epoch, known))
    }

    /// Whether the own identity was renewed so often that it is not again for a while.
    fn is_renewed_enough(&self) -> bool {
        self.renewals.len() >= RENEWALS_PER_MINUTE_MAX && !mutant!(N15)
    }

    /// Whether this is news that could only be answered by renewing the own identity, which was
    /// renewed often enough: it is down, or suspected in the last incarnation there is.
    pub(super) fn may_not_renew_for(&self, member: &Member<Identity>) -> bool {
        let is_final = match member.state() {
            State::Down => true,
            State::Suspect => member.incarnation() == u16::MAX,
            State::Alive => false,
        };
        let is_refused = is_final && *member.id() == self.me() && self.is_renewed_enough();
        if is_refused {
            sometimes!("renewal_refused");
        }
        is_refused
    }

    /// Whether a packet's sender, or somebody it tells of, is not known here.
    fn brings_new_members(&self, sender: &Identity, updates: &[u8]) -> bool {
        let known: BTreeSet<Endpoint> =
            self.foca.iter_membership_state().map(|member| member.id().addr).collect();
        if !known.contains(&sender.addr) {
            return true;
        }
        told(updates).any(|member| !known.contains(&member.id().addr))
    }
}

/// The members that a packet tells of, as far as it can be read.
pub(super) fn told(mut updates: &[u8]) -> impl Iterator<Item = Member<Identity>> + '_ {
    let count = if updates.remaining() >= 2 { updates.get_u16() } else { 0 };
    (0..count).map_while(move |_| SwimCodec.decode_member(&mut updates).ok())
}
