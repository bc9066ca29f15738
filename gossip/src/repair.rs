//! Digests: finding out cheaply that two nodes differ, and where.
//!
//! Owners fall into about `sqrt(n)` buckets by a keyed hash; a bucket's value is the XOR of
//! keyed hashes of its owners' heads. Equal buckets mean equal heads, so that an idle cluster
//! exchanges some five bytes for each bucket and no more. A value has 32 bits: a difference that
//! one comparison in four thousand million does not see is seen after the next write.

use crate::NodeId;
use crate::keyed::hash_words;

/// Most buckets anyone may ask for.
pub const BUCKETS_MAX: usize = 128;

/// Owner, epoch and version of a section.
type Head = (NodeId, u64, u64);

/// Hashes for the nodes of one cluster.
#[derive(Clone, Debug)]
pub struct Buckets {
    key: u64,
    /// The last digest, and when it is still right: an idle cluster compares the same again and
    /// again.
    last: Option<Last>,
}

/// A digest that was asked for.
#[derive(Clone, Debug)]
struct Last {
    /// Differs between any two sets of heads of this node.
    stamp: (u64, u64),
    owners: usize,
    values: Vec<u32>,
}

impl Buckets {
    /// `key` differs between clusters, so that states that hide a difference cannot be prepared.
    pub fn new(key: u64) -> Self {
        Self { key, last: None }
    }

    /// How many buckets `owners` owners fall into: the power of two at or above the square root.
    pub fn count(owners: usize) -> usize {
        owners.isqrt().max(1).next_power_of_two().min(BUCKETS_MAX)
    }

    /// The bucket of `owner` among `count`.
    pub fn bucket(&self, owner: NodeId, count: usize) -> usize {
        let count = count.max(1) as u64;
        usize::try_from(hash_words(self.key, [owner.0]) % count).unwrap_or(0)
    }

    /// The values of `count` buckets, as many as are fit if that is `None`, for the heads of
    /// `stamp`, which are asked for if it is not the last one.
    pub fn kept(
        &mut self,
        stamp: (u64, u64),
        count: Option<usize>,
        heads: impl FnOnce() -> Vec<Head>,
    ) -> &[u32] {
        let is_right = |last: &Last| {
            last.stamp == stamp
                && last.values.len() == count.unwrap_or_else(|| Self::count(last.owners))
        };
        let last = match self.last.take().filter(is_right) {
            Some(last) => last,
            None => {
                let heads = heads();
                let count = count.unwrap_or_else(|| Self::count(heads.len()));
                Last { stamp, owners: heads.len(), values: self.digest(&heads, count) }
            }
        };
        &self.last.insert(last).values
    }

    /// The values of `count` buckets for these heads: owner, epoch, version.
    pub fn digest(&self, heads: &[Head], count: usize) -> Vec<u32> {
        let mut values = vec![0; count];
        for &(owner, epoch, ver) in heads {
            // N13, class "a sum that is not kept up".
            let ver = if mutant!(N13) { ver.min(1) } else { ver };
            values[self.bucket(owner, count)] ^= hash_words(self.key, [owner.0, epoch, ver]) as u32;
        }
        values
    }
}
