//! Every owner's section, and what follows from them: the rows of the lookup view.
//!
//! Only an owner writes its section. What the lookup API does to somebody else's registrations is
//! a [`Wish`]: it is applied to the rows of this node at once, sent to the owner until the
//! owner's own section shows its effect, and then forgotten.

mod audit;
mod heads;
mod inactive;
mod owners;
mod replica;
mod rows;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use grapevine_protocol::Moment;

use crate::NodeId;
use crate::config::Timings;
use crate::node_map::NodeMap;
use crate::repair::Digest;
use crate::section::{Applied, Delta, Key, Name, Section, Snapshot, Value};
use crate::wish::{What, Wish, Wishes};

use audit::Audit;
use heads::Counted;
use inactive::Inactive;
use owners::Owners;

pub(crate) use heads::HeadOf;
pub use replica::Replica;

/// Most keys kept for all owners that are down together; about 64 MiB.
pub const DETACHED_KEYS_MAX: usize = 400_000;

/// All sections of one node's view of the cluster.
#[derive(Debug)]
pub struct Catalogue {
    me: NodeId,
    own: Section,
    replicas: NodeMap<Replica>,
    /// What each of them counts as in the digest, in the same order.
    counted: Vec<Counted>,
    inactive: Inactive,
    /// Of the heads of this section and of those whose owners are active.
    digest: Digest,
    /// What the own section counts as in it.
    own_counted: u32,
    owners_of: BTreeMap<Name, Owners>,
    deletions_kept: Duration,
    detached_kept: Duration,
    /// Own deletions by time, to be forgotten in due course.
    graves: VecDeque<(Moment, u64)>,
    /// Own tombstones by time: when, which version of which key.
    tombstones: VecDeque<(Moment, u64, Key)>,
    wishes: Wishes,
    dirty_topics: BTreeSet<Name>,
    dirty_producers: bool,
    /// The own section has no room, and that has been said.
    is_full: bool,
    /// `None`: nobody audits this.
    audit: Option<Audit>,
}

impl Catalogue {
    /// The catalogue of node `me`, alone, in `epoch`.
    pub fn new(me: NodeId, epoch: u64, timings: &Timings) -> Self {
        Self {
            me,
            own: Section::new(epoch),
            replicas: NodeMap::default(),
            counted: Vec::new(),
            inactive: Inactive::default(),
            digest: Digest::new(0),
            own_counted: 0,
            owners_of: BTreeMap::new(),
            deletions_kept: timings.deletions_kept,
            detached_kept: timings.detached_kept,
            graves: VecDeque::new(),
            tombstones: VecDeque::new(),
            wishes: Wishes::default(),
            dirty_topics: BTreeSet::new(),
            dirty_producers: false,
            is_full: false,
            audit: None,
        }
    }

    /// This node.
    #[inline]
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// This node's own section.
    #[inline]
    pub fn own(&self) -> &Section {
        &self.own
    }

    /// The section of `owner`, this node's own included.
    pub fn section(&self, owner: NodeId) -> Option<&Section> {
        if owner == self.me {
            return Some(&self.own);
        }
        self.replicas.get(&owner).map(|replica| &replica.section)
    }

    /// What is known of `owner`, unless that is this node.
    pub fn replica(&self, owner: NodeId) -> Option<&Replica> {
        self.replicas.get(&owner)
    }

    /// Every other owner, in order.
    pub fn replicas(&self) -> impl ExactSizeIterator<Item = (NodeId, &Replica)> {
        self.replicas.iter()
    }

    /// Every other owner that is not active, in order.
    pub fn inactive(&self) -> impl Iterator<Item = (NodeId, &Replica)> {
        let known = |node| self.replicas.get(&node).map(|replica| (node, replica));
        self.inactive.owners().filter_map(known)
    }

    /// Keys of all of them together; see [`DETACHED_KEYS_MAX`].
    pub fn inactive_keys(&self) -> usize {
        self.inactive.total()
    }

    /// How long a tombstone hides a producer.
    pub fn set_tombstone_lifetime(&mut self, lifetime: Duration) {
        self.wishes.tombstone_lifetime = lifetime;
    }

    /// Wishes not yet seen fulfilled, for reading.
    pub fn wishes_ref(&self) -> &Wishes {
        &self.wishes
    }

    /// Wishes not yet seen fulfilled.
    pub fn wishes(&mut self) -> &mut Wishes {
        &mut self.wishes
    }

    /// Moves this node's section to a newer epoch; versions go on.
    pub fn set_own_epoch(&mut self, epoch: u64) {
        self.own.epoch = epoch;
        self.touch(self.me);
    }

    /// Writes a key of this node's own section. False if that changes nothing.
    pub fn write(&mut self, key: Key, value: Option<Value>, now: Moment) -> bool {
        let is_deletion = value.is_none();
        let is_tombstone = matches!(value, Some(Value::Registered { tombstoned_at_ns: Some(_) }));
        if mutant!(Canary) {
            return false;
        }
        let is_refused = !self.own.write(key.clone(), value);
        let was_full = std::mem::replace(&mut self.is_full, is_refused && self.own.is_full());
        if self.is_full && !was_full {
            tracing::warn!("too many topics and channels; other nodes do not learn of new ones");
        }
        if is_refused {
            return false;
        }
        self.touch(self.me);
        if is_deletion {
            self.graves.push_back((now, self.own.ver));
        }
        if is_tombstone {
            self.tombstones.push_back((now, self.own.ver, key.clone()));
        }
        self.changed(self.me, std::slice::from_ref(&key));
        true
    }

    /// Applies what somebody said about `owner`'s section. Never about this node's own.
    pub fn apply_delta(&mut self, owner: NodeId, delta: &Delta) -> Applied {
        debug_assert_ne!(owner, self.me, "only this node writes its own section");
        let replica = self.replica_mut(owner);
        let applied = replica.section.apply_delta(delta);
        self.after_apply(owner, &applied);
        applied
    }

    /// As [`apply_delta`](Self::apply_delta), for a whole section.
    pub fn apply_snapshot(&mut self, owner: NodeId, snapshot: &Snapshot) -> Applied {
        debug_assert_ne!(owner, self.me, "only this node writes its own section");
        let replica = self.replica_mut(owner);
        let applied = replica.section.apply_snapshot(snapshot);
        self.after_apply(owner, &applied);
        applied
    }

    /// Membership: `owner` is active in `epoch`.
    pub fn member_up(&mut self, owner: NodeId, epoch: u64) {
        let replica = self.replica_mut(owner);
        // N02, class "a flap ends in half of the state".
        if mutant!(N02) && replica.detached_at().is_some() {
            return;
        }
        // X04, class "a cache is rolled back".
        if mutant!(X04) && replica.detached_at().is_some() {
            replica.section.ver /= 2;
        }
        if replica.active_epoch() != Some(epoch) {
            if replica.detached_at().is_some() && replica.section.epoch == epoch {
                sometimes!("detached_section_kept");
            }
            replica.activate(epoch);
            self.inactive.remove(owner);
            self.touch(owner);
            self.all_changed(owner);
        }
    }

    /// Membership: `owner` is down. Its producers are hidden, its section is kept for a while.
    pub fn member_down(&mut self, owner: NodeId, now: Moment) {
        if let Some(replica) = self.replicas.get_mut(&owner)
            && replica.active_epoch().is_some()
        {
            replica.detach(now);
            self.inactive.went_down(owner, replica.section.len(), now);
            // M16, class "equal digests, different content".
            #[cfg(feature = "mutants")]
            if mutant!(M16) {
                replica.section.lose_keys();
            }
            self.touch(owner);
            self.all_changed(owner);
        }
    }

    /// `owner` left, or is gone for good: nothing of it stays.
    pub fn forget(&mut self, owner: NodeId) {
        if let Ok(at) = self.replicas.place(&owner)
            && let Some(replica) = self.replicas.remove(&owner)
        {
            self.counted.remove(at).count(owner, None, &mut self.digest);
            self.inactive.remove(owner);
            self.touch(owner);
            let keys: Vec<Key> = replica.section.entries().map(|(key, _)| key.clone()).collect();
            self.changed(owner, &keys);
            self.dirty_producers = true;
            // X01, class "cleaning up too much".
            for key in keys.into_iter().filter(|_| mutant!(X01)) {
                self.own.write(key, None);
            }
        }
    }

    /// Forgets old deletions, and owners that have been down for too long or are too many.
    /// `luck` is the node's, for simulations.
    pub fn collect(&mut self, now: Moment, luck: u64) {
        let mut floor = 0;
        let is_early = buggify!("deletions_forgotten_early", luck, now.0);
        while let Some(&(at, ver)) = self.graves.front()
            && (now.since(at) >= self.deletions_kept || is_early)
        {
            floor = ver;
            self.graves.pop_front();
        }
        if floor > 0 {
            self.own.forget_deletions(floor);
            sometimes!("deletions_forgotten");
            self.touch(self.me);
        }
        self.end_tombstones(now);
        self.forget_detached(now, luck);
        for topic in self.wishes.expire(now) {
            sometimes!("wish_expired");
            self.dirty_topics.insert(topic);
        }
    }

    /// Forgets owners that have been down for too long, and the first of those that are too many.
    fn forget_detached(&mut self, now: Moment, luck: u64) {
        let is_old = |since| now.since(since) >= self.detached_kept;
        let is_much = self.inactive.total() > DETACHED_KEYS_MAX;
        let is_early = is_armed!("detached_forgotten_early");
        if !self.inactive.since().is_some_and(is_old) && !is_much && !is_early {
            return;
        }
        let mut detached: Vec<(Moment, NodeId, usize)> = self
            .inactive()
            .filter_map(|(node, r)| r.detached_at().map(|at| (at, node, r.section.len())))
            .collect();
        detached.sort_unstable();
        self.inactive.looked_at(detached.first().map(|&(at, ..)| at));
        let mut keys = self.inactive.total();
        for (at, node, len) in detached {
            // N04, class "the dead are never buried".
            let is_over = now.since(at) >= self.detached_kept && !mutant!(N04);
            let is_early = buggify!("detached_forgotten_early", luck, now.0, node.0);
            if is_over || keys > DETACHED_KEYS_MAX || is_early {
                if is_over {
                    sometimes!("detached_forgotten_by_age");
                } else {
                    sometimes!("detached_forgotten_by_cap");
                }
                keys -= len;
                self.forget(node);
            }
        }
    }

    fn end_tombstones(&mut self, now: Moment) {
        while let Some((at, ..)) = self.tombstones.front()
            && now.since(*at) >= self.wishes.tombstone_lifetime
            && let Some((_, ver, key)) = self.tombstones.pop_front()
        {
            if self.own.entry(&key).is_some_and(|entry| entry.ver == ver) {
                sometimes!("tombstone_ended");
                self.write(key, Some(Value::REGISTERED), now);
            }
        }
    }

    /// Owners with a live key of `topic`, in order.
    fn owners(&self, topic: &str) -> impl Iterator<Item = NodeId> {
        self.owners_of.get(topic).into_iter().flat_map(Owners::iter)
    }

    /// Owners other than this node with a live key of `topic`.
    pub fn other_owners(&self, topic: &str) -> Vec<NodeId> {
        self.owners(topic).filter(|&node| node != self.me).collect()
    }

    /// Topics in the index that no section has: the index would grow for ever with names that come
    /// and go.
    pub fn unowned_topics(&self) -> usize {
        self.owners_of.values().filter(|owners| owners.is_empty()).count()
    }

    /// Takes a wish: its effect is in this node's rows from now on.
    pub fn wish(&mut self, wish: Wish, now: Moment) {
        self.dirty_topics.insert(Arc::clone(&wish.topic));
        if let Some(dropped) = self.wishes.add(wish, now) {
            self.dirty_topics.insert(dropped);
        }
    }

    /// Does to this node's own section what another node wishes. True if that changed it.
    pub fn fulfil(&mut self, wish: &Wish, now: Moment) -> bool {
        if wish.owner != self.me || wish.epoch != self.own.epoch {
            return false;
        }
        // M19, class "per producer instead of per topic".
        let everywhere = mutant!(M19) && matches!(wish.what, What::Tombstone(..));
        let keys: Vec<(Key, Value)> = self
            .own
            .live()
            .filter(|(key, _)| everywhere && key.channel.is_empty() && !key.topic.is_empty())
            .chain(self.own.topic(&wish.topic).filter(|(key, entry)| wish.concerns(key, entry.ver)))
            .filter_map(|(key, entry)| Some((key.clone(), entry.value.clone()?)))
            .collect();
        let mut any = false;
        for (key, value) in keys {
            any |= self.write(key, wish.effect(&value), now);
        }
        any
    }

    /// What is known of `owner`, to be changed: [`touch`](Self::touch) it then.
    fn replica_mut(&mut self, owner: NodeId) -> &mut Replica {
        let at = self.replicas.place(&owner).unwrap_or_else(|at| {
            let mut replica = Replica::default();
            if let Some(audit) = &mut self.audit {
                replica.section.begin_audit();
                audit.touch(owner);
            }
            self.replicas.insert_at(at, owner, replica);
            self.counted.insert(at, Counted::new(self.digest.bucket(owner)));
            self.inactive.insert(owner, 0);
            at
        });
        self.replicas.at_mut(at)
    }

    fn after_apply(&mut self, owner: NodeId, applied: &Applied) {
        let Applied::Changed(keys) = applied else { return };
        self.touch(owner);
        self.changed(owner, keys);
        let section = self.replicas.get(&owner).map(|replica| &replica.section);
        if let Some(section) = section {
            self.wishes.fulfilled_by(owner, section);
        }
    }

    /// Keeps `owners_of` and the dirty marks right after `keys` of `owner` changed.
    fn changed(&mut self, owner: NodeId, keys: &[Key]) {
        let mut records_changed = false;
        let mut last: Option<&Name> = None;
        for key in keys {
            if key.topic.is_empty() {
                records_changed = true;
                continue;
            }
            if last == Some(&key.topic) {
                continue;
            }
            last = Some(&key.topic);
            let has = self.section(owner).is_some_and(|s| s.topic(&key.topic).next().is_some());
            if has {
                self.owners_of.entry(Arc::clone(&key.topic)).or_default().insert(owner);
            } else if let Some(owners) = self.owners_of.get_mut(&key.topic) {
                owners.remove(owner);
                // N17, class "names are never freed".
                if owners.is_empty() && !mutant!(N17) {
                    self.owners_of.remove(&key.topic);
                }
            }
            if self.audit.is_none() {
                self.dirty_topics.insert(Arc::clone(&key.topic));
            }
        }
        if records_changed {
            self.all_changed(owner);
        }
    }

    /// Marks every topic of `owner`, because the standing of its producers changed.
    fn all_changed(&mut self, owner: NodeId) {
        self.dirty_producers = true;
        if self.audit.is_some() {
            return;
        }
        let is_own = owner == self.me;
        let section =
            if is_own { Some(&self.own) } else { self.replicas.get(&owner).map(|r| &r.section) };
        let mut last: Option<&Name> = None;
        for (key, _) in section.into_iter().flat_map(Section::live) {
            if !key.topic.is_empty() && last != Some(&key.topic) {
                self.dirty_topics.insert(Arc::clone(&key.topic));
            }
            last = Some(&key.topic);
        }
    }
}
