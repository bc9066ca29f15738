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

/// All choices of one kind in a run, for those that are drawn often.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Domain(u64);

impl Domain {
    /// The domain `name` of the run `seed`.
    pub fn new(seed: u64, name: &str) -> Self {
        Self(xxh3_64_with_seed(name.as_bytes(), seed))
    }

    /// The luck of the choice that `ids` name. At most 6 of them count.
    pub fn draw(self, ids: &[u64]) -> Draw {
        let mut bytes = [0; IDS_MAX * 8];
        for (word, id) in bytes.chunks_exact_mut(8).zip(ids) {
            word.copy_from_slice(&id.to_le_bytes());
        }
        let len = ids.len().min(IDS_MAX) * 8;
        Draw(xxh3_64_with_seed(&bytes[..len], self.0))
    }
}

/// The luck of one choice, with as many independent values as are asked for.
///
/// Values have numbers, so that using one more does not change the others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Draw(pub u64);

impl Draw {
    /// Value number `field`: 64 bits.
    pub fn word(self, field: u64) -> u64 {
        // SplitMix64, entered at `field`.
        let mut z = self.0.wrapping_add((field + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Value number `field`, from 0 to below 1.
    pub fn unit(self, field: u64) -> f64 {
        share(self.word(field))
    }

    /// Whether something of probability `p` happens, by value number `field`.
    pub fn chance(self, field: u64, p: f64) -> bool {
        p > 0.0 && self.unit(field) < p
    }

    /// Exponentially distributed with this mean, by value number `field`.
    pub fn exponential(self, field: u64, mean: f64) -> f64 {
        -mean * libm::log(1.0 - self.unit(field))
    }

    /// One of `count` things, by value number `field`; 0 if there is none.
    ///
    /// With one thing fewer at the end, only the choices of that one change.
    pub fn pick(self, field: u64, count: usize) -> usize {
        // Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm", 2014.
        let mut key = self.word(field);
        let (mut chosen, mut next) = (0, 0);
        while next < count {
            chosen = next;
            key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
            let inverse = (1_u64 << 31) as f64 / ((key >> 33) + 1) as f64;
            next = ((chosen + 1) as f64 * inverse) as usize;
        }
        chosen
    }
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

    #[test]
    fn one_thing_fewer_changes_only_the_choices_of_that_thing() {
        for number in 0..1000 {
            let draw = Domain::new(9, "workload").draw(&[number]);
            let of_five = draw.pick(0, 5);
            if of_five != 4 {
                assert_eq!(of_five, draw.pick(0, 4));
            }
        }
    }

    #[test]
    fn picks_are_even_and_units_are_uniform() {
        let mut counts = [0; 7];
        let mut sum = 0.0;
        for number in 0..7000 {
            let draw = Domain::new(3, "test").draw(&[number]);
            counts[draw.pick(0, 7)] += 1;
            sum += draw.unit(1);
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
        assert!((0.48..0.52).contains(&(sum / 7000.0)), "{sum}");
        assert_eq!(Domain::new(3, "test").draw(&[]).pick(0, 0), 0);
    }
}
