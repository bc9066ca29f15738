//! Flags that were given and mean nothing here: each is one line in the log at the start.
//!
//! A command line or file of nsqd starts a node whatever it says; but nobody should believe in a
//! setting that does nothing.

use super::{Durability, Options};

/// The one experiment nsqd 1.3.0 knows.
const EXPERIMENT: &str = "topology-aware-consumption";

/// Settings of a push that needs `-statsd-address`.
const STATSD: [&str; 5] = [
    "statsd-interval",
    "statsd-prefix",
    "statsd-mem-stats",
    "statsd-udp-packet-size",
    "statsd-exclude-ephemeral",
];

impl Options {
    /// Whether one of these flags, or its key in the file, was given.
    fn is_given(&self, flags: &[&str]) -> bool {
        flags.iter().any(|flag| self.given.contains(*flag))
    }

    /// What was given and has no effect, as fixed phrases for the log.
    pub(super) fn without_effect(&self) -> Vec<&'static str> {
        let is_aware = self.enable_experiment.iter().any(|name| name == EXPERIMENT);
        let is_nowhere = self.topology_zone.is_empty() && self.topology_region.is_empty();
        let has_tls = !self.tls_cert.is_empty();
        let given = |flags: &[&str]| self.is_given(flags);
        let phrases = [
            (self.verbose, "-verbose has no effect; use -log-level"),
            (self.worker_id, "-worker-id has no effect; use -node-id"),
            (
                given(&["queue-scan-selection-count", "queue-scan-worker-pool-max"]),
                "-queue-scan-... have no effect: due messages are not found by scanning",
            ),
            (
                given(&["https-address"]) && !self.https_address.is_off() && !has_tls,
                "-https-address has no effect without -tls-cert and -tls-key",
            ),
            (
                given(&["max-deflate-level"]) && !self.deflate,
                "-max-deflate-level has no effect with -deflate=false",
            ),
            (
                given(&["sync-every", "sync-timeout"]) && self.durability == Durability::Fsync,
                "-sync-every and -sync-timeout have no effect with -durability=fsync",
            ),
            (
                given(&["auth-http-request-method"]) && self.auth_http_addresses.is_empty(),
                "-auth-http-request-method has no effect without -auth-http-address",
            ),
            (
                given(&STATSD) && self.statsd_address.is_empty(),
                "-statsd-... have no effect without -statsd-address",
            ),
            (
                given(&["e2e-processing-latency-window-time"])
                    && self.e2e_processing_latency_percentiles.is_empty(),
                "-e2e-processing-latency-window-time has no effect without \
                 -e2e-processing-latency-percentile",
            ),
            (
                given(&["topology-region", "topology-zone"]) && !is_nowhere && !is_aware,
                "-topology-region and -topology-zone are only reported without \
                 -enable-experiment=topology-aware-consumption",
            ),
            (
                is_aware && is_nowhere,
                "-enable-experiment=topology-aware-consumption has no effect without \
                 -topology-region or -topology-zone",
            ),
            (
                self.enable_experiment.iter().any(|name| name != EXPERIMENT),
                "only -enable-experiment=topology-aware-consumption has an effect",
            ),
            (
                self.gossip_address.is_off() && !self.gossip_seed_addresses.is_empty(),
                "gossip is off, so seed addresses have no effect",
            ),
            (
                self.gossip_address.is_off()
                    && given(&["cluster-name", "gossip-advertise-address"]),
                "gossip is off, so -cluster-name and -gossip-advertise-address have no effect",
            ),
        ];
        phrases.into_iter().filter(|(holds, _)| *holds).map(|(_, phrase)| phrase).collect()
    }
}
