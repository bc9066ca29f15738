//! How long one way takes.

use std::time::Duration;

use crate::luck::Draw;
use crate::plan::Delay;

/// Longest delay of a heavy tail, in ns; see [`Delay::Pareto`].
const TAIL_NS_MAX: f64 = 10e9;

/// The 99th percentile of the standard normal distribution.
pub(crate) const NORMAL_P99: f64 = 2.326_347_874_040_841;

/// One delay in ns, by the values `field` and `field + 1` of `draw`.
pub(crate) fn delay_ns(delay: &Delay, draw: Draw, field: u64) -> u64 {
    // `as_nanos` is 128 bits wide, and that division is slow.
    let ns = |at: &Duration| at.as_secs() as f64 * 1e9 + f64::from(at.subsec_nanos());
    let delay = match delay {
        Delay::Const(delay) => ns(delay),
        Delay::Uniform(least, most) => {
            let (least, most) = (ns(least), ns(most));
            least + (most - least).max(0.0) * draw.unit(field)
        }
        Delay::Exp { min, mean } => ns(min) + draw.exponential(field, ns(mean)),
        Delay::Lognormal { median, p99 } => {
            let median = ns(median).max(1.0);
            let sigma = libm::log((ns(p99) / median).max(1.0)) / NORMAL_P99;
            median * libm::exp(sigma * normal(draw, field))
        }
        Delay::Pareto { min, alpha } => {
            let share = 1.0 - draw.unit(field);
            (ns(min) * libm::pow(share, -1.0 / alpha.max(0.1))).min(TAIL_NS_MAX)
        }
        Delay::Bimodal { fast, slow, p_slow } => {
            ns(if draw.chance(field, *p_slow) { slow } else { fast })
        }
    };
    delay as u64
}

/// A value of the standard normal distribution (Box and Muller).
fn normal(draw: Draw, field: u64) -> f64 {
    let radius = libm::sqrt(-2.0 * libm::log(1.0 - draw.unit(field)));
    radius * libm::cos(std::f64::consts::TAU * draw.unit(field + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::luck::Domain;

    fn quantiles(delay: &Delay) -> (u64, u64, u64) {
        let domain = Domain::new(5, "net");
        let mut all: Vec<u64> =
            (0..20_000).map(|number| delay_ns(delay, domain.draw(&[number]), 1)).collect();
        all.sort_unstable();
        (all[0] / 1000, all[10_000] / 1000, all[19_800] / 1000)
    }

    #[test]
    fn delays_are_distributed_as_they_say() {
        let us = Duration::from_micros;
        assert_eq!(quantiles(&Delay::Const(us(70))), (70, 70, 70));
        let (least, half, most) = quantiles(&Delay::Uniform(us(100), us(200)));
        assert!(least == 100 && (148..152).contains(&half) && (198..200).contains(&most));
        let (least, half, _) = quantiles(&Delay::Exp { min: us(100), mean: us(300) });
        assert!(least == 100 && (300..316).contains(&half), "{half}");
        let lognormal = Delay::Lognormal { median: us(400), p99: us(5000) };
        let (_, half, p99) = quantiles(&lognormal);
        assert!((390..410).contains(&half) && (4500..5500).contains(&p99), "{half} {p99}");
        let (least, half, _) = quantiles(&Delay::Pareto { min: us(100), alpha: 1.0 });
        assert!((100..102).contains(&least) && (195..205).contains(&half), "{least} {half}");
        let bimodal = Delay::Bimodal { fast: us(1), slow: us(9), p_slow: 0.3 };
        assert_eq!(quantiles(&bimodal), (1, 1, 9));
    }
}
