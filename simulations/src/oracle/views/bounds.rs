//! How long what may take, once nothing is wrong.
//!
//! The bounds are for the worst of thousands of runs, not for the hundredth that the convergence
//! table promises: after chaos there are long tails. A slow node waits for others nine times as
//! long, a suspicion starts only once everyone has been probed, and who was cut off renews its
//! identity. What the table promises is watched as promises of scenarios and over populations.

use std::time::Duration;

use grapevine_gossip::config::Timings;

use crate::plan::Plan;
use crate::world::timings;

/// Times by which things must have happened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// All agree on the members and on every topic after the healing: L1.
    pub(super) agreement: Duration,
    /// A live node is a member again at each node: L2.
    pub(super) member: Duration,
    /// A node that started is a member somewhere: L3.
    pub(super) join: Duration,
    /// What is gone is in no view: V1, L2.
    pub(super) ghost: Duration,
    /// What a member wrote is shown: V1, V2.
    pub(super) content: Duration,
    /// Who said goodbye is in no view: V7; and the same with some loss.
    pub(super) leave: Duration,
    pub(super) leave_in_loss: Duration,
    /// A node that is alone tries somebody: V9.
    pub(super) knock: Duration,
    /// The section of an owner that is down is forgotten: V6.
    pub(super) retention: Duration,
}

impl Bounds {
    pub(super) fn new(plan: &Plan) -> Self {
        let timings = timings(&plan.knobs);
        let detection = detection(&timings, plan.nodes);
        let reconnect = 2 * timings.reconnect_period + 2 * timings.digest_period;
        let agreement = detection + reconnect + BASE;
        Self {
            agreement,
            member: agreement + BASE,
            join: Duration::from_secs(8) + reconnect,
            ghost: plan.expect.phantom_max.unwrap_or(detection + BASE),
            content: 6 * timings.digest_period * rounds(plan.nodes) + BASE,
            leave: leave(plan.nodes),
            leave_in_loss: leave(plan.nodes) + 3 * timings.spread_period,
            knock: (2 * timings.reconnect_period).mul_f64(1.3) + BASE,
            // A tick a second, and clocks that run at another rate.
            retention: timings.detached_kept.mul_f64(1.3) + BASE,
        }
    }
}

/// What is always allowed for: a handful of round trips, retries and ticks.
const BASE: Duration = Duration::from_secs(2);

/// Rules about retention wait this long after a stall: ticks are a second apart.
pub(super) const PAUSE_AFTER_STALL: Duration = Duration::from_secs(3);

/// Until all know that a node hangs: it is probed, suspected, and the news goes round.
fn detection(timings: &Timings, nodes: usize) -> Duration {
    // Each node probes everyone once in a round, in a new order each time, so two probes of one
    // member by one node are at most two rounds apart; many nodes probe, so few periods do.
    let probes = (2 * nodes.saturating_sub(1)).clamp(1, 12) as u32;
    probes * timings.probe_period + timings.suspicion + 20 * timings.spread_period
}

/// Digests go to one member after the other: not every pair has compared soon in large clusters,
/// but news spreads from those that have.
fn rounds(nodes: usize) -> u32 {
    1 + nodes.max(1).ilog2() / 4
}

/// gossip.md, part 4.12: 0.5 s at 10 nodes, 0.7 s at 100, 1.2 s at 1000.
fn leave(nodes: usize) -> Duration {
    Duration::from_millis(match nodes {
        0..=10 => 500,
        11..=100 => 700,
        _ => 1_200,
    })
}
