//! Heads of sections, and their digest: what nodes compare to find what they lack.

use super::Catalogue;
use crate::NodeId;
use crate::repair::Digest;

/// Owner, epoch and version of a section.
pub(crate) type HeadOf = (NodeId, u64, u64);

impl Catalogue {
    /// Compares by hashes of `key` from now on; to be called before there is anything.
    pub fn set_digest_key(&mut self, key: u64) {
        debug_assert!(self.replicas.is_empty() && self.own.ver == 0, "nothing counts yet");
        self.digest = Digest::new(key);
    }

    /// Of the heads of this node's section and of each active owner's that has anything.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The heads that count in [`digest`](Self::digest): this node's own first.
    pub(crate) fn heads(&self) -> impl Iterator<Item = HeadOf> {
        self.heads_in_buckets().map(|(head, _)| head)
    }

    /// The same, each with its [bucket](Digest::bucket).
    pub(crate) fn heads_in_buckets(&self) -> impl Iterator<Item = (HeadOf, u8)> {
        let own = &self.own;
        let own = ((self.me, own.epoch, own.ver), self.digest.bucket(self.me));
        let others = self.replicas.keys().zip(&self.counted).filter(|(_, it)| it.value != 0);
        let others = others.map(|(&owner, it)| ((owner, it.epoch, it.ver), it.bucket));
        std::iter::once(own).chain(others).filter(|&((_, _, ver), _)| ver > 0)
    }

    /// The epoch or version of `owner`'s section may be another, or whether it counts.
    pub(super) fn touch(&mut self, owner: NodeId) {
        if owner == self.me {
            let head = Some((self.own.epoch, self.own.ver));
            let place = (owner, self.digest.bucket(owner));
            self.own_counted = self.digest.replace(place, self.own_counted, head);
        } else if let Ok(at) = self.replicas.place(&owner)
            && let Some(replica) = self.replicas.at(at)
        {
            self.counted[at].count(owner, replica.head(), &mut self.digest);
            self.inactive.recount(owner, || replica.section.len());
        }
        if let Some(audit) = &mut self.audit {
            audit.touch(owner);
        }
    }
}

/// What an owner's section counts as in the digest of this node: a row of these is what is looked
/// at to compare with others, and a quarter as long as that of the sections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    epoch: u64,
    ver: u64,
    /// 0: it does not count.
    value: u32,
    bucket: u8,
}

impl Counted {
    /// Nothing yet; `bucket` is its owner's.
    pub(super) const fn new(bucket: u8) -> Self {
        Self { epoch: 0, ver: 0, value: 0, bucket }
    }

    /// The section of `owner` has this head now, or does not count any more.
    pub(super) fn count(&mut self, owner: NodeId, head: Option<(u64, u64)>, digest: &mut Digest) {
        (self.epoch, self.ver) = head.unwrap_or((0, 0));
        self.value = digest.replace((owner, self.bucket), self.value, head);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use grapevine_protocol::Moment;
    use proptest::prelude::*;

    use super::*;
    use crate::config::Timings;
    use crate::section::{Delta, Key, Op, ProducerId, Value};

    /// As the digest was counted before it was kept: from all heads.
    fn from_all(catalogue: &Catalogue, count: usize) -> Vec<u32> {
        let mut digest = Digest::new(7);
        for (owner, epoch, ver) in catalogue.heads() {
            let place = (owner, digest.bucket(owner));
            let _counted = digest.replace(place, 0, Some((epoch, ver)));
        }
        digest.values(Some(count))
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn the_digest_and_the_number_of_inactive_keys_that_are_kept_are_right(
            steps in prop::collection::vec((0..6_u8, 1..9_u64, 1..4_u64), 1..60),
        ) {
            let mut catalogue = Catalogue::new(NodeId(0), 1, &Timings::default());
            catalogue.set_digest_key(7);
            let mut vers = BTreeMap::new();
            for (at, (what, node, epoch)) in (1..).zip(steps) {
                let (owner, now) = (NodeId(node), Moment(at));
                let key = Key::new(ProducerId::NSQD, "t", "");
                match what {
                    0 => catalogue.member_up(owner, epoch),
                    1 => catalogue.member_down(owner, now),
                    2 => catalogue.forget(owner),
                    3 => {
                        let ver = vers.entry((node, epoch)).or_insert(0);
                        let op = Op { ver: *ver + 1, key, value: Some(Value::REGISTERED) };
                        let (from, to) = (*ver, *ver + 1);
                        let delta = Delta { epoch, from, to, floor: 0, ops: vec![op] };
                        catalogue.apply_delta(owner, &delta);
                        *ver += 1;
                    }
                    4 => catalogue.set_own_epoch(epoch),
                    _ => {
                        catalogue.write(key, (at % 2 == 0).then_some(Value::REGISTERED), now);
                    }
                }
                let inactive = catalogue.inactive().map(|(_, replica)| replica.section.len());
                prop_assert_eq!(catalogue.inactive_keys(), inactive.sum::<usize>());
                for count in [1, 4, crate::repair::BUCKETS_MAX] {
                    let values = catalogue.digest().values(Some(count));
                    prop_assert_eq!(values, from_all(&catalogue, count));
                }
                let fit = catalogue.digest().values(None);
                prop_assert_eq!(&fit, &from_all(&catalogue, fit.len()));
            }
        }
    }
}
