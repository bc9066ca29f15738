//! What a node cannot start with, and what it starts with but says so.

use std::time::Duration;

use super::address::is_host_port;
use super::live::NSQLOOKUPDS_MAX;
use super::{Address, Options, TlsRequired};

/// nsqd crashes with a shorter or equal interval.
const STATSD_INTERVAL_MIN: Duration = Duration::from_secs(1);

impl Options {
    /// Checks what single values cannot tell, and fills in what follows from them.
    ///
    /// # Errors
    ///
    /// Why the node cannot start, in one line that names the flag. Exit code 1.
    pub(crate) fn validate(&mut self) -> Result<(), String> {
        self.e2e_processing_latency_percentiles = percentiles(&self.percentile_texts)?;
        if !(1..=9).contains(&self.max_deflate_level) {
            return Err("--max-deflate-level must be [1,9]".to_owned());
        }
        if !(0..1024).contains(&self.node_id) {
            return Err("--node-id must be [0,1024)".to_owned());
        }
        if !matches!(self.auth_http_request_method.as_str(), "get" | "post") {
            return Err("--auth-http-request-method must be post or get".to_owned());
        }
        if self.max_bytes_per_file == 0 {
            return Err("--max-bytes-per-file must be greater than 0".to_owned());
        }
        self.validate_tls()?;
        self.validate_statsd()?;
        self.validate_addresses()?;
        Ok(())
    }

    /// What an operator should know although the node starts: fixed phrases for the log.
    pub fn warnings(&self) -> Vec<&'static str> {
        self.without_effect()
    }

    fn validate_tls(&mut self) -> Result<(), String> {
        if !self.tls_client_auth_policy.is_empty() && self.tls_required == TlsRequired::No {
            self.tls_required = TlsRequired::Yes;
        }
        if self.tls_cert.is_empty() && self.tls_key.is_empty() {
            if self.tls_required != TlsRequired::No {
                let what = "cannot require TLS client connections without TLS key and cert";
                return Err(what.to_owned());
            }
            return Ok(());
        }
        let files = [("cert", &self.tls_cert), ("key", &self.tls_key)];
        let root_ca = Some(("root-ca-file", &self.tls_root_ca_file));
        for (flag, path) in files.into_iter().chain(root_ca.filter(|(_, path)| !path.is_empty())) {
            std::fs::File::open(path).map_err(|error| {
                format!("failed to build TLS config - --tls-{flag} {path:?}: {error}")
            })?;
        }
        Ok(())
    }

    fn validate_statsd(&self) -> Result<(), String> {
        if !self.statsd_address.is_empty() && self.statsd_interval <= STATSD_INTERVAL_MIN {
            return Err("--statsd-interval must be longer than 1s".to_owned());
        }
        Ok(())
    }

    fn validate_addresses(&self) -> Result<(), String> {
        let nsqd = [
            ("tcp-address", &self.tcp_address),
            ("http-address", &self.http_address),
            ("https-address", &self.https_address),
        ];
        for (flag, address) in nsqd {
            let Address::Unix(path) = address else { continue };
            let text = path.to_string_lossy();
            if text.contains(':') && !text.contains('/') {
                return Err(malformed(flag, &text));
            }
        }
        let network_only = [
            ("gossip-address", &self.gossip_address),
            ("lookup-http-address", &self.lookup_http_address),
            ("lookup-tcp-address", &self.lookup_tcp_address),
        ];
        for (flag, address) in network_only {
            if let Address::Unix(path) = address {
                return Err(malformed(flag, &path.to_string_lossy()));
            }
        }
        if self.nsqlookupd_tcp_addresses.len() > NSQLOOKUPDS_MAX {
            return Err(format!(
                "--lookupd-tcp-address is given more than {NSQLOOKUPDS_MAX} times"
            ));
        }
        for seed in &self.gossip_seed_addresses {
            if !is_host_port(seed) || seed.starts_with(':') {
                return Err(malformed("gossip-seed-address", seed));
            }
        }
        Ok(())
    }
}

fn malformed(flag: &str, text: &str) -> String {
    format!("--{flag} {text:?} is not host:port")
}

/// Quantiles in (0, 1], descending, from texts with commas.
///
/// Source: `E2eProcessingLatencyPercentiles`, internal/quantile/aggregate.go and nsqd/nsqd.go.
fn percentiles(texts: &[String]) -> Result<Vec<f64>, String> {
    let mut percentiles = Vec::new();
    for text in texts.iter().flat_map(|text| text.split(',')) {
        let percentile = text.trim().parse::<f64>().ok();
        let percentile = percentile.filter(|value| *value > 0.0 && *value <= 1.0);
        percentiles.push(
            percentile
                .ok_or_else(|| format!("invalid E2E processing latency percentile: {text}"))?,
        );
    }
    percentiles.sort_by(|a, b| b.total_cmp(a));
    Ok(percentiles)
}
