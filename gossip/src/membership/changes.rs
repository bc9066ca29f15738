//! What foca's news mean for the members this node shows: one identity for each node.

use std::collections::BTreeMap;

use foca::{Identity as _, Member, State};
use rustc_hash::{FxBuildHasher, FxHashMap};

use super::effects::{News, refused};
use super::{Change, Membership};
use crate::NodeId;
use crate::identity::{Endpoint, Identity};
use crate::message::{Liveness, MemberState};

/// States for which it is quicker to look for each among the members than to sort those.
pub(super) const STATES_FEW: usize = 4;

/// So few deaths at once are always believed.
const DEATHS_FEW: usize = 8;

impl Membership {
    /// The own identity was renewed.
    #[cold]
    pub(super) fn after_renewal(&mut self) {
        sometimes!("identity_renewed");
        self.renewals.push_back(self.effects.now);
        if !mutant!(M02) {
            self.reconnect_foca();
        }
        // X10 and X14, class "done twice".
        let is_second = mutant!(X14) && self.renewals.len() == 1;
        if is_second {
            self.renewals.push_back(self.effects.now);
        }
        if mutant!(X10) || is_second {
            let me = self.me();
            let again = Identity { renew: me.renew + 1, ..me };
            drop(self.foca.change_identity(again, &mut self.effects));
            self.reconnect_foca();
        }
    }

    /// Members came or went.
    #[inline(never)]
    pub(super) fn take_news(&mut self) {
        self.view_hash.set(None);
        self.changed_at = self.effects.now;
        let news = std::mem::take(&mut self.effects.news);
        if self.take_plain(&news) {
            return;
        }
        let mut changed: Vec<NodeId> = news.iter().flat_map(News::nodes).collect();
        changed.sort_unstable();
        changed.dedup();
        let outdated = self.compare_active(&changed);
        // A node that moved, so that what it was at its old address is over, or that left.
        for old in outdated {
            sometimes!("member_moved");
            let down = std::iter::once(Member::down(old));
            if let Err(error) = self.foca.apply_many(down, true, &mut self.effects) {
                refused(&error, "moved member");
            }
        }
    }

    /// Whether somebody who holds that has been on the other side of a partition: it holds this
    /// node for dead, or more than a quarter of those that are alive here.
    ///
    /// What such a node says of deaths is about the cut. Believed, it would make each half declare
    /// its own members dead when the two meet again, and for seconds nobody would find producers
    /// next door. Whoever is dead there learns that from those who hold it dead, and renews its
    /// identity; whoever is really dead does not answer here either.
    pub(super) fn was_cut_off(&self, states: &[MemberState]) -> bool {
        let me = self.me();
        let dead = states.iter().filter(|state| state.liveness == Liveness::Down);
        let mut lives = 0;
        for id in dead.map(|state| &state.identity) {
            if *id == me {
                return true;
            }
            lives += usize::from(self.active.get(&id.node) == Some(id));
        }
        lives > DEATHS_FEW.max(self.active.len() / 4)
    }

    /// Without those that say what is believed of members as they joined, which nearly all that
    /// comes by stream does: they are alive, and nobody ever suspected them.
    pub(super) fn may_be_news<'a>(&self, states: &'a [MemberState]) -> Vec<&'a MemberState> {
        let is_news = |state: &&MemberState| {
            state.liveness != Liveness::Alive
                || state.incarnation != 0
                || self.active.get(&state.identity.node) != Some(&state.identity)
        };
        states.iter().filter(is_news).collect()
    }

    /// Brings `active` and `changes` up to date as [`compare_active`](Self::compare_active) would,
    /// if all that happened is that nodes came that have no other identity, and went. False if it
    /// is not, and nothing was done: then all members have to be looked at.
    pub(super) fn take_plain(&mut self, news: &[News]) -> bool {
        let came = news.iter().filter(|news| matches!(news, News::Up(_))).count();
        let mut went = Vec::with_capacity(news.len() - came);
        let mut came = Vec::with_capacity(came);
        for news in news {
            match *news {
                News::Up(id) => came.push(id),
                News::Down(id) => went.push(id),
                News::Renamed(..) => return false,
            }
        }
        came.sort_unstable_by_key(|id| id.node);
        went.sort_unstable_by_key(|id| id.node);
        let me = self.me().node;
        let is_twice = |pair: &[Identity]| pair[0].node == pair[1].node;
        let is_plain = |id: &Identity| {
            let is_left = self.left.get(&id.node).is_some_and(|&epoch| epoch >= id.epoch);
            id.node != me && !is_left && !self.active.contains_key(&id.node)
        };
        // Where a node has several identities, or this node a twin, there are more in foca.
        if self.foca.num_members() + went.len() != self.active.len() + came.len()
            || came.windows(2).chain(went.windows(2)).any(is_twice)
            || !came.iter().all(is_plain)
            || went.iter().any(|id| self.active.get(&id.node) != Some(id))
        {
            return false;
        }
        for id in went {
            self.active.remove(&id.node);
            self.active_hash ^= self.hash_of(&id);
            self.changes.push(Change::Down(id));
        }
        for id in came {
            self.active.insert(id.node, id);
            self.active_hash ^= self.hash_of(&id);
            self.changes.push(Change::Up(id));
        }
        debug_assert!(
            self.foca.iter_members().all(|it| self.active.get(&it.id().node) == Some(it.id())),
            "it is what all members say"
        );
        true
    }

    /// Brings `active` and `changes` up to date with what foca says of the nodes in `changed`.
    /// Identities of nodes that have a newer one.
    pub(super) fn compare_active(&mut self, changed: &[NodeId]) -> Vec<Identity> {
        let me = self.me();
        let is_concerned = |id: &Identity| match changed {
            [one] => id.node == *one,
            _ => changed.binary_search(&id.node).is_ok(),
        };
        let mut outdated = Vec::new();
        let mut newest: BTreeMap<NodeId, Identity> = BTreeMap::new();
        let mut others = Vec::new();
        for id in self.foca.iter_members().map(Member::id) {
            if id.node != me.node {
                if is_concerned(id) {
                    others.push(*id);
                }
            } else if id.epoch < me.epoch {
                outdated.push(*id);
            } else {
                self.changes.push(Change::Twin(*id));
            }
        }
        for id in others {
            // It renewed its identity before it left, and the news comes late.
            if self.left.get(&id.node).is_some_and(|&epoch| epoch >= id.epoch) {
                outdated.push(id);
                continue;
            }
            let newest = newest.entry(id.node).or_insert(id);
            if newest.rank() < id.rank() {
                outdated.push(std::mem::replace(newest, id));
            } else if newest.rank() > id.rank() {
                outdated.push(id);
            }
        }
        for node in changed.iter().filter(|node| !newest.contains_key(node)) {
            let Some(old) = self.active.get(node).copied() else { continue };
            let is_there = |id: &&Identity| id.addr == old.addr;
            let mut stay = self.active.values().filter(is_there).filter(|id| !is_concerned(id));
            let is_replaced = stay.next().is_some() || newest.values().any(|id| is_there(&id));
            self.changes.push(if is_replaced { Change::Replaced(old) } else { Change::Down(old) });
        }
        for node in changed.iter().filter(|node| !newest.contains_key(node)) {
            if let Some(old) = self.active.remove(node) {
                self.active_hash ^= self.hash_of(&old);
            }
        }
        for (node, id) in newest {
            let old = self.active.insert(node, id);
            if old != Some(id) {
                self.active_hash ^= self.hash_of(&id) ^ old.map_or(0, |old| self.hash_of(&old));
                self.changes.push(Change::Up(id));
            }
        }
        outdated
    }
}

/// Members by address, dead ones included; at least those that some news is about.
///
/// foca looks for each piece of news among all members. Of what comes by stream nearly all is
/// known, so that most of a large cluster's work would be to find that out.
pub(super) struct Known<'a>(Members<'a>);

enum Members<'a> {
    /// For little news it is quicker to look for each among the members.
    Few(Vec<&'a Member<Identity>>),
    Many(FxHashMap<Endpoint, &'a Member<Identity>>),
}

impl<'a> Known<'a> {
    pub(super) fn new(
        members: impl ExactSizeIterator<Item = &'a Member<Identity>>,
        news: &[&MemberState],
    ) -> Self {
        if news.len() > STATES_FEW {
            let mut map = FxHashMap::with_capacity_and_hasher(members.len(), FxBuildHasher);
            map.extend(members.map(|member| (member.id().addr, member)));
            return Self(Members::Many(map));
        }
        let is_named = |addr: &Endpoint| news.iter().any(|state| state.identity.addr == *addr);
        Self(Members::Few(members.filter(|member| is_named(&member.id().addr)).collect()))
    }

    fn get(&self, addr: &Endpoint) -> Option<&'a Member<Identity>> {
        match &self.0 {
            Members::Few(few) => few.iter().copied().find(|member| member.id().addr == *addr),
            Members::Many(many) => many.get(addr).copied(),
        }
    }

    pub(super) fn has(&self, addr: &Endpoint) -> bool {
        self.get(addr).is_some()
    }

    /// Whether foca would do anything about it: the order of preference of SWIM, section 4.2, and
    /// that of identities (`foca::Member::change_state`, foca 2.0.0).
    pub(super) fn is_news(&self, update: &Member<Identity>) -> bool {
        let Some(known) = self.get(&update.id().addr) else { return true };
        if known.id() != update.id() {
            return !known.id().win_addr_conflict(update.id());
        }
        let is_later = update.incarnation() > known.incarnation();
        match (known.state(), update.state()) {
            (State::Down, _) => false,
            (_, State::Down) => true,
            (State::Alive, State::Suspect) => update.incarnation() >= known.incarnation(),
            (State::Alive | State::Suspect, State::Alive) | (State::Suspect, State::Suspect) => {
                is_later
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use grapevine_protocol::Moment;
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;
    use crate::config::Timings;

    const NOW: Moment = Moment(1_000_000_000);

    fn identity(node: u64) -> Identity {
        let addr = SocketAddr::from(([10, 0, 0, node as u8], 4162)).into();
        Identity { addr, node: NodeId(node), epoch: 1, renew: 0 }
    }

    fn state(node: u64, liveness: Liveness) -> MemberState {
        MemberState { identity: identity(node), incarnation: 0, liveness }
    }

    /// Node 0, which knows nodes 1 to 40.
    fn knows_forty() -> Membership {
        let rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut members = Membership::new(identity(0), &Timings::default(), 1, rng);
        let alive: Vec<_> = (1..=40).map(|node| state(node, Liveness::Alive)).collect();
        members.apply(NOW, &alive, false);
        members
    }

    fn hears_of_deaths(members: &mut Membership, nodes: std::ops::Range<u64>) -> usize {
        let dead: Vec<_> = nodes.map(|node| state(node, Liveness::Down)).collect();
        members.apply(NOW, &dead, true);
        members.active().len()
    }

    #[test]
    fn deaths_are_believed_unless_they_are_those_of_a_partition() {
        let mut members = knows_forty();
        assert_eq!(hears_of_deaths(&mut members, 1..6), 35, "five died");
        assert_eq!(hears_of_deaths(&mut members, 10..30), 35, "twenty are beyond a cut");
    }

    #[test]
    fn who_holds_this_node_for_dead_is_not_believed_about_others_and_makes_it_renew() {
        let mut members = knows_forty();
        assert_eq!(hears_of_deaths(&mut members, 0..3), 40);
        assert_eq!(members.me(), Identity { renew: 1, ..identity(0) });
        assert_eq!(hears_of_deaths(&mut members, 0..3), 38, "that is another life by now");
    }

    #[test]
    fn what_is_news_is_what_swim_prefers() {
        let known = [
            Member::new(identity(1), 1, State::Alive),
            Member::new(identity(2), 1, State::Suspect),
            Member::new(identity(3), 1, State::Down),
        ];
        let states = [State::Alive, State::Suspect, State::Down];
        for (member, preferred) in known.iter().zip([
            [[false, false, true], [false, true, true], [true; 3]],
            [[false, false, true], [false, false, true], [true; 3]],
            [[false; 3]; 3],
        ]) {
            let news = MemberState::from(member);
            for (incarnation, preferred) in (0..).zip(preferred) {
                let found = states.map(|state| {
                    let update = Member::new(*member.id(), incarnation, state);
                    Known::new(known.iter(), &[&news]).is_news(&update)
                });
                assert_eq!(found, preferred, "{member:?} and incarnation {incarnation}");
            }
        }
        let renewed = Identity { renew: 1, ..identity(3) };
        let news = MemberState { identity: renewed, ..state(3, Liveness::Alive) };
        assert!(Known::new(known.iter(), &[&news]).is_news(&Member::alive(renewed)));
    }

    #[test]
    fn nothing_that_may_be_news_is_left_out() {
        let members = knows_forty();
        let alive = state(3, Liveness::Alive);
        let renewed = Identity { renew: 1, ..alive.identity };
        let states = [
            alive.clone(),
            MemberState { incarnation: 1, ..alive.clone() },
            state(3, Liveness::Suspect),
            state(3, Liveness::Down),
            MemberState { identity: renewed, ..alive },
            state(100, Liveness::Alive),
            state(0, Liveness::Alive),
        ];
        assert!(members.may_be_news(&states).into_iter().eq(&states[1..]));
    }
}
