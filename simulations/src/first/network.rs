//! The network between the nodes of a simulation.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::RngExt;
use rand_xoshiro::Xoshiro256PlusPlus;

/// How bad the network is. Probabilities are from 0 to 1.
#[derive(Clone, Debug)]
pub struct Quality {
    /// A datagram is lost.
    pub loss: f64,
    /// A datagram arrives twice.
    pub duplicates: f64,
    /// A datagram is delayed by up to [`Quality::late_max`].
    pub late: f64,
    /// Longest such delay.
    pub late_max: Duration,
}

impl Quality {
    /// A quiet LAN.
    pub const GOOD: Self =
        Self { loss: 0.0, duplicates: 0.0, late: 0.0, late_max: Duration::from_millis(500) };
}

/// Links, and which of them are cut in which direction.
#[derive(Clone, Debug)]
pub struct Network {
    /// How bad it is now.
    pub quality: Quality,
    cuts: BTreeSet<(usize, usize)>,
}

impl Network {
    /// A network without cuts.
    pub fn new(quality: Quality) -> Self {
        Self { quality, cuts: BTreeSet::new() }
    }

    /// Cuts the way from one node to another.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cuts.insert((from, to));
    }

    /// Mends every link.
    pub fn heal(&mut self) {
        self.cuts.clear();
    }

    /// Whether what `from` sends reaches `to`.
    pub fn reaches(&self, from: usize, to: usize) -> bool {
        !self.cuts.contains(&(from, to))
    }

    /// Whether both directions work.
    pub fn connects(&self, one: usize, other: usize) -> bool {
        self.reaches(one, other) && self.reaches(other, one)
    }

    /// One way through a LAN: 0.1 ms and an exponential rest of 0.3 ms on average.
    pub fn delay(&self, rng: &mut Xoshiro256PlusPlus) -> Duration {
        let uniform: f64 = rng.random_range(f64::EPSILON..1.0);
        Duration::from_secs_f64(0.000_1 - 0.000_3 * uniform.ln())
    }

    /// When the copies of a datagram arrive; none if it is lost.
    pub fn deliveries(
        &self,
        from: usize,
        to: usize,
        rng: &mut Xoshiro256PlusPlus,
    ) -> Vec<Duration> {
        let quality = &self.quality;
        if !self.reaches(from, to) || rng.random_bool(quality.loss) {
            return Vec::new();
        }
        let copies = if rng.random_bool(quality.duplicates) { 2 } else { 1 };
        let mut one = || {
            let late = rng.random_bool(quality.late);
            let extra = if late {
                quality.late_max.mul_f64(rng.random_range(0.0..1.0))
            } else {
                Duration::ZERO
            };
            self.delay(rng) + extra
        };
        (0..copies).map(|_| one()).collect()
    }
}
