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

const _: () = assert!(BUCKETS_MAX.is_power_of_two() && BUCKETS_MAX <= 256, "a bucket is a byte");

/// The digest of what one node knows, kept up to date with each change.
///
/// It has [`BUCKETS_MAX`] values. Of `n` buckets, a power of two, each is the XOR of every `n`-th.
#[derive(Clone, Debug)]
pub struct Digest {
    key: u64,
    values: [u32; BUCKETS_MAX],
    owners: usize,
    changes: u64,
}

impl Digest {
    /// Of nothing. `key` differs between clusters, so that states that hide a difference cannot be
    /// prepared.
    pub const fn new(key: u64) -> Self {
        Self { key, values: [0; BUCKETS_MAX], owners: 0, changes: 0 }
    }

    /// How many buckets `owners` owners fall into: the power of two at or above the square root.
    fn count(owners: usize) -> usize {
        owners.isqrt().max(1).next_power_of_two().min(BUCKETS_MAX)
    }

    /// The bucket of `owner` among [`BUCKETS_MAX`]; among fewer it is the rest of dividing it.
    pub fn bucket(&self, owner: NodeId) -> u8 {
        (hash_words(self.key, [owner.0]) % BUCKETS_MAX as u64) as u8
    }

    /// The section of `owner`, which is in `bucket`, is in epoch and version `head` now, or does
    /// not count if that is `None` or it has nothing. `counted` is what this returned for `owner`
    /// the last time, 0 at first.
    #[must_use = "it is asked for at the next change"]
    pub fn replace(
        &mut self,
        (owner, bucket): (NodeId, u8),
        counted: u32,
        head: Option<(u64, u64)>,
    ) -> u32 {
        let value = match head {
            None | Some((_, 0)) => 0,
            Some((epoch, ver)) => {
                // N13, class "a sum that is not kept up".
                let ver = if mutant!(N13) { ver.min(1) } else { ver };
                (hash_words(self.key, [owner.0, epoch, ver]) as u32).max(1)
            }
        };
        if value != counted {
            self.changes += 1;
            self.values[usize::from(bucket)] ^= counted ^ value;
            self.owners = self.owners + usize::from(value != 0) - usize::from(counted != 0);
        }
        value
    }

    /// How often a value changed: what was made of them holds while this is the same.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The values of `count` buckets, a power of two up to [`BUCKETS_MAX`], or of as many as are
    /// fit: all values, folded in half until so many are left.
    pub fn values(&self, count: Option<usize>) -> Vec<u32> {
        let count = count.unwrap_or_else(|| Self::count(self.owners));
        debug_assert!(count.is_power_of_two() && count <= BUCKETS_MAX, "{count}");
        let mut values = self.values;
        let mut left = BUCKETS_MAX;
        while left > count.max(1) {
            left /= 2;
            let (low, high) = values[..2 * left].split_at_mut(left);
            for (value, more) in low.iter_mut().zip(high) {
                *value ^= *more;
            }
        }
        values[..left].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(digest: &Digest, owner: u64) -> (NodeId, u8) {
        (NodeId(owner), digest.bucket(NodeId(owner)))
    }

    #[test]
    fn each_of_n_buckets_is_the_xor_of_every_nth_value() {
        let mut digest = Digest::new(7);
        for owner in 0..1000 {
            let placed = placed(&digest, owner);
            let _counted = digest.replace(placed, 0, Some((1, owner + 1)));
        }
        let every = |at: usize, count: usize| {
            digest.values.iter().skip(at).step_by(count).fold(0, |all, value| all ^ value)
        };
        for count in [1, 2, 4, 8, 16, 32, 64, BUCKETS_MAX] {
            let all: Vec<u32> = (0..count).map(|at| every(at, count)).collect();
            assert_eq!(digest.values(Some(count)), all, "{count}");
        }
    }
}
