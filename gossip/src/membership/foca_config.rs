//! What foca is told.

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use crate::codec::SHOWN_SENDER_BYTES;
use crate::config::Timings;

/// Largest packet of the failure detector: a datagram less envelope, kind and room for a tag.
pub(super) const SWIM_BYTES_MAX: usize = 1180;

/// The same as foca is shown it: with its sender's node and epoch in 16 bytes, where it may have
/// had two.
pub(super) const SHOWN_BYTES_MAX: usize = SWIM_BYTES_MAX + SHOWN_SENDER_BYTES;

pub(super) fn foca_config(timings: &Timings) -> foca::Config {
    let three = NonZeroUsize::new(3).expect("3 is not 0");
    foca::Config {
        // N08, class "a period in the wrong unit".
        probe_period: if mutant!(N08) { Duration::from_millis(60) } else { timings.probe_period },
        probe_rtt: if mutant!(N08) { Duration::from_millis(24) } else { timings.probe_rtt },
        num_indirect_probes: three,
        max_transmissions: NonZeroU8::new(transmissions_max()).expect("neither is 0"),
        suspect_to_down_after: timings.suspicion,
        // Forgetting the dead early makes rumours about them endless (caio/foca#19).
        remove_down_after: Some(Duration::from_secs(24 * 3600)),
        max_packet_size: NonZeroUsize::new(SHOWN_BYTES_MAX).expect("1196 is not 0"),
        notify_down_members: true,
        periodic_announce: None,
        periodic_announce_to_down_members: None,
        periodic_gossip: Some(foca::PeriodicParams {
            frequency: timings.spread_period,
            num_members: three,
        }),
    }
}

/// How often a node passes on each rumour. foca's own formula gives 8 at 100 nodes and 2 at 4,
/// which is too few for a lossy network. With 8 one node in 3000 misses a rumour by luck, and finds
/// out by comparing views, some of which takes place at each probe.
fn transmissions_max() -> u8 {
    if mutant!(N10) { 1 } else { 8 }
}
