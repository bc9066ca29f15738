//! Digests: finding out cheaply that two nodes differ, and where.
//!
//! Owners fall into about `sqrt(n)` buckets by a keyed hash; a bucket's value is the XOR of
//! keyed hashes of its owners' heads. Equal buckets mean equal heads, so that an idle cluster
//! exchanges some ten bytes for each bucket and no more.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::NodeId;

/// Most buckets anyone may ask for.
pub const BUCKETS_MAX: usize = 128;

/// Owner, epoch and version of a section.
type Head = (NodeId, u64, u64);

/// Hashes for the nodes of one cluster.
#[derive(Clone, Debug)]
pub struct Buckets {
    key: u64,
    /// The last digest and what it is of: an idle cluster compares the same again and again.
    heads: Vec<Head>,
    values: Vec<u64>,
}

impl Buckets {
    /// `key` differs between clusters, so that states that hide a difference cannot be prepared.
    pub fn new(key: u64) -> Self {
        Self { key, heads: Vec::new(), values: Vec::new() }
    }

    /// How many buckets `owners` owners fall into: the power of two at or above the square root.
    pub fn count(owners: usize) -> usize {
        owners.isqrt().max(1).next_power_of_two().min(BUCKETS_MAX)
    }

    /// The bucket of `owner` among `count`.
    pub fn bucket(&self, owner: NodeId, count: usize) -> usize {
        let count = count.max(1) as u64;
        usize::try_from(self.hash(&[owner.0]) % count).unwrap_or(0)
    }

    /// The values of all buckets for these heads: owner, epoch, version.
    pub fn digest(&mut self, heads: &[Head], count: usize) -> &[u64] {
        if self.heads == heads && self.values.len() == count {
            return &self.values;
        }
        let mut values = vec![0; count];
        for &(owner, epoch, ver) in heads {
            // N13, class "a sum that is not kept up".
            let ver = if mutant!(N13) { ver.min(1) } else { ver };
            values[self.bucket(owner, count)] ^= self.hash(&[owner.0, epoch, ver]);
        }
        (self.heads, self.values) = (heads.to_vec(), values);
        &self.values
    }

    fn hash(&self, words: &[u64]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.key, words.len() as u64);
        for word in words {
            hasher.write_u64(*word);
        }
        hasher.finish()
    }
}
