//! Randomness that survives edits.
//!
//! One stream of random numbers for a whole run would mean that a draw more or less changes
//! everything after it: without one fault the rest of the run is another run, and neither shrinking
//! nor a replay on another commit works. So every choice is keyed by what it is about. Domains:
//! `plan` (what a scenario leaves open), `net`, `disk`, `clock`, `workload`, `node`.

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Numbers that a key may have; more were never needed.
const IDS_MAX: usize = 6;

/// A number that depends on the seed, the domain and the ids, and on nothing else.
///
/// At most 6 ids; a seventh is left out.
pub fn key(seed: u64, domain: &str, ids: &[u64]) -> u64 {
    let mut bytes = [0_u8; 8 * (IDS_MAX + 1)];
    let domain = xxh3_64_with_seed(domain.as_bytes(), ids.len() as u64);
    bytes[..8].copy_from_slice(&domain.to_le_bytes());
    debug_assert!(ids.len() <= IDS_MAX);
    for (place, id) in bytes[8..].chunks_exact_mut(8).zip(ids) {
        place.copy_from_slice(&id.to_le_bytes());
    }
    xxh3_64_with_seed(&bytes[..8 * (1 + ids.len().min(IDS_MAX))], seed)
}

/// A stream of numbers that depends on the seed, the domain and the ids, and on nothing else.
pub fn rng(seed: u64, domain: &str, ids: &[u64]) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(key(seed, domain, ids))
}

/// The share of a key, from 0 to below 1.
pub fn share(key: u64) -> f64 {
    // 53 bits are what an f64 holds exactly.
    (key >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_depends_on_every_part_of_it() {
        let keys = [
            key(1, "net", &[1, 2]),
            key(2, "net", &[1, 2]),
            key(1, "disk", &[1, 2]),
            key(1, "net", &[2, 1]),
            key(1, "net", &[1]),
            key(1, "net", &[1, 2, 0]),
        ];
        for (i, a) in keys.iter().enumerate() {
            assert!(keys[i + 1..].iter().all(|b| a != b));
        }
        assert_eq!(key(1, "net", &[1, 2]), keys[0]);
    }

    #[test]
    fn shares_fill_the_range_from_0_to_1() {
        let shares: Vec<f64> = (0..10_000).map(|i| share(key(7, "net", &[i]))).collect();
        assert!(shares.iter().all(|s| (0.0..1.0).contains(s)));
        let average = shares.iter().sum::<f64>() / 10_000.0;
        assert!((average - 0.5).abs() < 0.02, "{average}");
    }
}
