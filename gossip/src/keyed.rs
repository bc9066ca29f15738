//! Hashes that differ between clusters.
//!
//! They are for comparing views and for knowing news again, not against forgery: whoever can choose
//! what is hashed is a member, and may lie about it without finding a collision.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A hash of `bytes` (XXH3, 64 bits).
pub(crate) fn hash(key: u64, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, key)
}

/// A hash of some numbers; of another count of numbers it is another function.
pub(crate) fn hash_words<const N: usize>(key: u64, words: [u64; N]) -> u64 {
    let mut bytes = [[0; 8]; N];
    for (bytes, word) in bytes.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
    hash(key, bytes.as_flattened())
}
