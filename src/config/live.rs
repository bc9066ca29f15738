//! The values of `GET` and `PUT /config/<option>`, and the few that change while the node runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::{Address, LogLevel, Options};

/// nsqlookupds a node registers with, at most: each costs a connection, and every new topic asks
/// all of them. Clusters have two to five.
pub(super) const NSQLOOKUPDS_MAX: usize = 64;

/// An option's value as `GET /config/<option>` shows it.
#[derive(Clone, Debug, PartialEq)]
pub enum ConfigValue {
    /// Sent raw, as text/plain; an empty one is an empty body without content type.
    Text(String),
    /// Sent as JSON.
    Number(i64),
    /// Sent as JSON.
    Bool(bool),
    /// Sent as a JSON array, `[]` when empty.
    Texts(Vec<String>),
    /// Sent as a JSON array.
    Floats(Vec<f64>),
}

/// Why `PUT /config/<option>` changed nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SetError {
    /// No such option, or one that cannot change while the node runs; also its text on the wire.
    #[error("INVALID_OPTION")]
    InvalidOption,
    /// The option can change, but not to this; also its text on the wire.
    #[error("INVALID_VALUE")]
    InvalidValue,
}

/// Options that change while the node runs, and ports that are known only once it listens.
///
/// Shared by every clone of the [`Options`] it belongs to.
#[derive(Debug)]
pub struct Live {
    log_level: AtomicU8,
    nsqlookupd_tcp_addresses: watch::Sender<Arc<Vec<String>>>,
    tcp_port: AtomicU16,
    http_port: AtomicU16,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            log_level: AtomicU8::new(LogLevel::default() as u8),
            nsqlookupd_tcp_addresses: watch::Sender::default(),
            tcp_port: AtomicU16::new(0),
            http_port: AtomicU16::new(0),
        }
    }
}

impl Live {
    /// Starts from what was configured.
    pub(crate) fn new(options: &Options) -> Self {
        let live = Self::default();
        live.log_level.store(options.log_level as u8, Ordering::Relaxed);
        live.set_nsqlookupd_tcp_addresses(options.nsqlookupd_tcp_addresses.clone());
        live
    }

    /// Tells the real ports once they are bound; 0 for a listener that is off or a unix socket.
    pub fn set_ports(&self, tcp: u16, http: u16) {
        self.tcp_port.store(tcp, Ordering::Relaxed);
        self.http_port.store(http, Ordering::Relaxed);
    }

    /// How much is logged from now on, in every thread.
    pub fn set_log_level(&self, level: LogLevel) {
        self.log_level.store(level as u8, Ordering::Relaxed);
        // `tracing` remembers per call site whether anyone listens.
        tracing::callsite::rebuild_interest_cache();
    }

    /// How much is logged.
    pub fn log_level(&self) -> LogLevel {
        LogLevel::from_number(self.log_level.load(Ordering::Relaxed))
    }

    /// The nsqlookupds to register with.
    pub fn nsqlookupd_tcp_addresses(&self) -> Arc<Vec<String>> {
        Arc::clone(&self.nsqlookupd_tcp_addresses.borrow())
    }

    /// The same, with news of every change.
    pub fn watch_nsqlookupd_tcp_addresses(&self) -> watch::Receiver<Arc<Vec<String>>> {
        self.nsqlookupd_tcp_addresses.subscribe()
    }

    fn set_nsqlookupd_tcp_addresses(&self, addresses: Vec<String>) {
        self.nsqlookupd_tcp_addresses.send_replace(Arc::new(addresses));
    }
}

impl Options {
    /// The TCP port told to others: `-broadcast-tcp-port`, or the one this node listens on.
    pub fn advertised_tcp_port(&self) -> u16 {
        match self.broadcast_tcp_port {
            0 => self.live.tcp_port.load(Ordering::Relaxed),
            port => port,
        }
    }

    /// The HTTP port told to others: `-broadcast-http-port`, or the one this node listens on.
    pub fn advertised_http_port(&self) -> u16 {
        match self.broadcast_http_port {
            0 => self.live.http_port.load(Ordering::Relaxed),
            port => port,
        }
    }

    /// `-statsd-prefix` with the host put in and a final dot, or nothing.
    ///
    /// Source: `nsqd.New`, nsqd/nsqd.go, and `statsd.HostKey`.
    pub fn statsd_prefix_with_host(&self) -> String {
        if self.statsd_prefix.is_empty() {
            return String::new();
        }
        let host = format!("{}:{}", self.broadcast_address, self.advertised_http_port());
        let mut prefix = self.statsd_prefix.replace("%s", &host.replace(['.', ':'], "_"));
        if !prefix.ends_with('.') {
            prefix.push('.');
        }
        prefix
    }

    /// The value of the option that `GET /config/<name>` asks for; `None` is `INVALID_OPTION`.
    ///
    /// `name` is the option's key in the config file; flag spellings are unknown.
    pub fn config_value(&self, name: &str) -> Option<ConfigValue> {
        self.text_value(name)
            .or_else(|| self.number_value(name))
            .or_else(|| self.duration_value(name).map(nanos))
            .or_else(|| self.switch_or_list_value(name))
    }

    /// Changes an option while the node runs, for `PUT /config/<name>`.
    ///
    /// The caller has already answered 413 for an empty or oversized body.
    ///
    /// # Errors
    ///
    /// Nothing changes; the HTTP answer is 400 with the error's text.
    pub fn set(&self, name: &str, body: &[u8]) -> Result<(), SetError> {
        let invalid = |_| SetError::InvalidValue;
        match name {
            "log_level" => {
                let text = std::str::from_utf8(body).map_err(|_| SetError::InvalidValue)?;
                self.live.set_log_level(text.parse().map_err(|_: String| SetError::InvalidValue)?);
            }
            "nsqlookupd_tcp_addresses" => {
                let list: Option<Vec<String>> = serde_json::from_slice(body).map_err(invalid)?;
                let list = list.unwrap_or_default();
                if list.len() > NSQLOOKUPDS_MAX {
                    return Err(SetError::InvalidValue);
                }
                self.live.set_nsqlookupd_tcp_addresses(list);
            }
            _ => return Err(SetError::InvalidOption),
        }
        Ok(())
    }

    fn text_value(&self, name: &str) -> Option<ConfigValue> {
        let address = |address: &Address| address.to_string();
        Some(ConfigValue::Text(match name {
            "log_prefix" => self.log_prefix.clone(),
            "tcp_address" => address(&self.tcp_address),
            "http_address" => address(&self.http_address),
            "https_address" => address(&self.https_address),
            "broadcast_address" => self.broadcast_address.clone(),
            "auth_file" => self.auth_file.clone(),
            "auth_http_request_method" => self.auth_http_request_method.clone(),
            "topology_region" => self.topology_region.clone(),
            "topology_zone" => self.topology_zone.clone(),
            "data_path" => self.data_path.display().to_string(),
            "statsd_address" => self.statsd_address.clone(),
            "statsd_prefix" => self.statsd_prefix_with_host(),
            "tls_cert" => self.tls_cert.clone(),
            "tls_key" => self.tls_key.clone(),
            "tls_client_auth_policy" => self.tls_client_auth_policy.clone(),
            "tls_root_ca_file" => self.tls_root_ca_file.clone(),
            "gossip_address" => address(&self.gossip_address),
            "gossip_advertise_address" => self.gossip_advertise_address.to_string(),
            "cluster_name" => self.cluster_name.clone(),
            "lookup_http_address" => address(&self.lookup_http_address),
            "lookup_tcp_address" => address(&self.lookup_tcp_address),
            "durability" => self.durability.as_str().to_owned(),
            _ => return None,
        }))
    }

    fn number_value(&self, name: &str) -> Option<ConfigValue> {
        let number = match name {
            "id" => return Some(ConfigValue::Number(self.node_id)),
            "max_deflate_level" => return Some(ConfigValue::Number(self.max_deflate_level)),
            "log_level" => self.live.log_level() as u64,
            "broadcast_tcp_port" => u64::from(self.advertised_tcp_port()),
            "broadcast_http_port" => u64::from(self.advertised_http_port()),
            "mem_queue_size" => self.mem_queue_size,
            "max_bytes_per_file" => self.max_bytes_per_file,
            "sync_every" => self.sync_every,
            "queue_scan_worker_pool_max" => self.queue_scan_worker_pool_max,
            "queue_scan_selection_count" => self.queue_scan_selection_count,
            "max_msg_size" => self.max_msg_size,
            "max_body_size" => self.max_body_size,
            "max_rdy_count" => self.max_rdy_count,
            "max_output_buffer_size" => self.max_output_buffer_size,
            "max_channel_consumers" => self.max_channel_consumers,
            "statsd_udp_packet_size" => self.statsd_udp_packet_size,
            "tls_required" => self.tls_required as u64,
            "tls_min_version" => self.tls_min_version as u64,
            _ => return None,
        };
        Some(ConfigValue::Number(i64::try_from(number).unwrap_or(i64::MAX)))
    }

    fn duration_value(&self, name: &str) -> Option<Duration> {
        Some(match name {
            "http_client_connect_timeout" => self.http_client_connect_timeout,
            "http_client_request_timeout" => self.http_client_request_timeout,
            "sync_timeout" => self.sync_timeout,
            "msg_timeout" => self.msg_timeout,
            "max_msg_timeout" => self.max_msg_timeout,
            "max_req_timeout" => self.max_req_timeout,
            "max_heartbeat_interval" => self.max_heartbeat_interval,
            "max_output_buffer_timeout" => self.max_output_buffer_timeout,
            "min_output_buffer_timeout" => self.min_output_buffer_timeout,
            "output_buffer_timeout" => self.output_buffer_timeout,
            "statsd_interval" => self.statsd_interval,
            "e2e_processing_latency_window_time" => self.e2e_processing_latency_window_time,
            "inactive_producer_timeout" => self.inactive_producer_timeout,
            "tombstone_lifetime" => self.tombstone_lifetime,
            "init_grace" => self.init_grace,
            _ => return None,
        })
    }

    fn switch_or_list_value(&self, name: &str) -> Option<ConfigValue> {
        Some(match name {
            "deflate" => ConfigValue::Bool(self.deflate),
            "snappy" => ConfigValue::Bool(self.snappy),
            "statsd_mem_stats" => ConfigValue::Bool(self.statsd_mem_stats),
            "statsd_exclude_ephemeral" => ConfigValue::Bool(self.statsd_exclude_ephemeral),
            "nsqlookupd_tcp_addresses" => {
                ConfigValue::Texts(self.live.nsqlookupd_tcp_addresses().to_vec())
            }
            "auth_http_addresses" => ConfigValue::Texts(self.auth_http_addresses.clone()),
            "enable_experiment" => ConfigValue::Texts(self.enable_experiment.clone()),
            "gossip_seed_addresses" => ConfigValue::Texts(self.gossip_seed_addresses.clone()),
            "e2e_processing_latency_percentiles" => {
                ConfigValue::Floats(self.e2e_processing_latency_percentiles.clone())
            }
            _ => return None,
        })
    }
}

fn nanos(duration: Duration) -> ConfigValue {
    ConfigValue::Number(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}
