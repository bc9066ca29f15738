//! Periods and bounds of the core.

use std::time::Duration;

/// How often things happen. The defaults suit a LAN of up to some thousand nodes.
#[derive(Clone, Debug)]
pub struct Timings {
    /// One member is probed in each; less than half of foca's LAN value. Among ten nodes, where few
    /// probe, one that was killed is probed within 4 periods in 99 of 100 cases.
    pub probe_period: Duration,
    /// How long a probed member has before others are asked to probe it.
    pub probe_rtt: Duration,
    /// How long a suspected member has to object. Before it are the wait for a first probe (2 s in
    /// 99 of 100 cases) and the probe itself, after it the news: 6.5 s in all, 7 s in large
    /// clusters.
    pub suspicion: Duration,
    /// Rumours and changes are sent to a few members in each.
    pub spread_period: Duration,
    /// A local change waits this long for company before it is first sent.
    pub spread_delay: Duration,
    /// One member is compared with in each, up to [`DIGEST_NODES_FEW`] nodes: whoever is probed
    /// next, if that is at most half of it sooner. By default that is each probe.
    pub digest_period: Duration,
    /// The same in larger clusters; by default each second probe.
    pub digest_period_many: Duration,
    /// One member that is down is tried again, and two views may be compared, in each.
    pub reconnect_period: Duration,
    /// A seed that is not a member is tried again in each.
    pub seed_period: Duration,
    /// First and longest pause between attempts to join.
    pub join_backoff: (Duration, Duration),
    /// An unanswered pull is sent to somebody else after this long.
    pub pull_retry: Duration,
    /// Pause between the rounds that say goodbye; there are three.
    pub leave_round: Duration,
    /// A stream has this long in all.
    pub stream_deadline: Duration,
    /// How long an owner remembers its deletions. Correctness does not depend on it: who was away
    /// for longer gets a snapshot.
    pub deletions_kept: Duration,
    /// How long the section of an owner that is down is kept, so that a flap costs a delta only.
    pub detached_kept: Duration,
}

/// Clusters up to this size compare twice as often.
pub const DIGEST_NODES_FEW: usize = 200;

impl Default for Timings {
    fn default() -> Self {
        Self {
            probe_period: Duration::from_millis(420),
            probe_rtt: Duration::from_millis(200),
            suspicion: Duration::from_millis(3500),
            spread_period: Duration::from_millis(100),
            spread_delay: Duration::from_millis(10),
            digest_period: Duration::from_millis(500),
            digest_period_many: Duration::from_secs(1),
            reconnect_period: Duration::from_secs(2),
            seed_period: Duration::from_secs(15),
            join_backoff: (Duration::from_millis(100), Duration::from_secs(15)),
            pull_retry: Duration::from_millis(200),
            leave_round: Duration::from_millis(100),
            stream_deadline: Duration::from_secs(10),
            deletions_kept: Duration::from_secs(600),
            detached_kept: Duration::from_secs(600),
        }
    }
}
