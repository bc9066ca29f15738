//! What foca's news mean for the members this node shows: one identity for each node.

use std::collections::BTreeMap;

use super::{Change, Membership};
use crate::NodeId;
use crate::identity::{Endpoint, Identity};
use crate::message::MemberState;

/// States for which it is quicker to look for each among the members than to sort those.
const STATES_FEW: usize = 4;

impl Membership {
    /// Brings `active` and `changes` up to date with what foca says of the nodes in `changed`.
    /// Identities of nodes that have a newer one.
    pub(super) fn compare_active(&mut self, changed: &[NodeId]) -> Vec<Identity> {
        let me = self.me();
        let is_concerned = |id: &Identity| changed.binary_search(&id.node).is_ok();
        let mut outdated = Vec::new();
        let mut newest: BTreeMap<NodeId, Identity> = BTreeMap::new();
        let mut others = Vec::new();
        for id in self.foca.iter_members().map(|member| *member.id()) {
            if id.node != me.node {
                others.extend(Some(id).filter(is_concerned));
            } else if id.epoch < me.epoch {
                outdated.push(id);
            } else {
                self.changes.push(Change::Twin(id));
            }
        }
        for id in others {
            let newest = newest.entry(id.node).or_insert(id);
            if newest.rank() < id.rank() {
                outdated.push(std::mem::replace(newest, id));
            } else if newest.rank() > id.rank() {
                outdated.push(id);
            }
        }
        for node in changed.iter().filter(|node| !newest.contains_key(node)) {
            let Some(old) = self.active.get(node).copied() else { continue };
            let stay = self.active.values().filter(|id| !is_concerned(id));
            let is_replaced = newest.values().chain(stay).any(|id| id.addr == old.addr);
            self.changes.push(if is_replaced { Change::Replaced(old) } else { Change::Down(old) });
        }
        for node in changed.iter().filter(|node| !newest.contains_key(node)) {
            self.active.remove(node);
        }
        for (node, id) in newest {
            if self.active.insert(node, id) != Some(id) {
                self.changes.push(Change::Up(id));
            }
        }
        outdated
    }

    /// Addresses of known members, dead ones included, sorted; at least those that `states` name.
    pub(super) fn known_addrs(&self, states: &[MemberState]) -> Vec<Endpoint> {
        let members = self.foca.iter_membership_state().map(|member| member.id().addr);
        let is_named = |addr: &Endpoint| states.iter().any(|state| state.identity.addr == *addr);
        let mut known: Vec<Endpoint> =
            members.filter(|addr| states.len() > STATES_FEW || is_named(addr)).collect();
        known.sort_unstable();
        known
    }
}
