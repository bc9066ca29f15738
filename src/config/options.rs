//! The options themselves.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgAction, Parser};

use super::values::{boolean, count, duration, integer, port};
use super::{Address, Durability, Live, LogLevel, TlsRequired, TlsVersion};

/// Options of a node: nsqd's flags, then ours.
///
/// A doc comment is the flag's line in the usage text; `value_name` is the type shown there. The
/// names in a config file and in `GET /config/<option>` are the field names, except where
/// [`config_value`](Self::config_value) says otherwise. Order follows apps/nsqd/options.go.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "nsqd",
    no_binary_name = true,
    args_override_self = true,
    disable_help_flag = true,
    disable_version_flag = true
)]
pub struct Options {
    /// print version string
    #[arg(long, value_name = "bool", default_value = "false", action = ArgAction::Set)]
    #[arg(value_parser = boolean)]
    pub(crate) version: bool,
    /// path to config file
    #[arg(long, value_name = "string", default_value = "")]
    pub(crate) config: String,
    /// [deprecated] has no effect, use --log-level
    #[arg(long, value_name = "bool", default_value = "false", action = ArgAction::Set)]
    #[arg(value_parser = boolean)]
    pub(crate) verbose: bool,
    /// [deprecated] use --node-id
    #[arg(long, value_name = "bool", default_value = "false", action = ArgAction::Set)]
    #[arg(value_parser = boolean)]
    pub(crate) worker_id: bool,
    /// unique part for message IDs, (int) in range [0,1024) (default is hash of hostname)
    #[arg(long, value_name = "int", default_value_t = hostname_hash(), value_parser = integer)]
    pub node_id: i64,
    /// set log verbosity: debug, info, warn, error, or fatal
    #[arg(long, value_name = "string", default_value = "info")]
    pub log_level: LogLevel,
    /// log message prefix
    #[arg(long, value_name = "string", default_value = "[nsqd] ")]
    pub log_prefix: String,

    /// addr:port to listen on for TCP clients, or a unix socket path; empty turns it off
    #[arg(long, value_name = "string", default_value = "0.0.0.0:4150", value_parser = address)]
    pub tcp_address: Address,
    /// addr:port to listen on for HTTP clients, or a unix socket path; empty turns it off
    #[arg(long, value_name = "string", default_value = "0.0.0.0:4151", value_parser = address)]
    pub http_address: Address,
    /// addr:port to listen on for HTTPS clients (only when a certificate is configured)
    #[arg(long, value_name = "string", default_value = "0.0.0.0:4152", value_parser = address)]
    pub https_address: Address,
    /// address of this node for clients and tools (defaults to the OS hostname)
    #[arg(long, value_name = "string", default_value_t = os_hostname())]
    pub broadcast_address: String,
    /// TCP port told to clients; 0: the port this node listens on
    #[arg(long, value_name = "int", default_value = "0", value_parser = port)]
    pub broadcast_tcp_port: u16,
    /// HTTP port told to clients; 0: the port this node listens on
    #[arg(long, value_name = "int", default_value = "0", value_parser = port)]
    pub broadcast_http_port: u16,
    /// nsqlookupd TCP address to register with (may be given multiple times)
    #[arg(long = "lookupd-tcp-address", value_name = "value", action = ArgAction::Append)]
    pub nsqlookupd_tcp_addresses: Vec<String>,
    /// timeout for HTTP connect
    #[arg(long, value_name = "duration", default_value = "2s", value_parser = duration)]
    pub http_client_connect_timeout: Duration,
    /// timeout for HTTP request
    #[arg(long, value_name = "duration", default_value = "5s", value_parser = duration)]
    pub http_client_request_timeout: Duration,
    /// addr:port or a full url to query auth server (may be given multiple times)
    #[arg(long = "auth-http-address", value_name = "value", action = ArgAction::Append)]
    pub auth_http_addresses: Vec<String>,
    /// HTTP method to use for auth server requests: get or post
    #[arg(long, value_name = "string", default_value = "get")]
    pub auth_http_request_method: String,
    /// the region in which the node operates
    #[arg(long, value_name = "string", default_value = "")]
    pub topology_region: String,
    /// the availability zone in which the node operates
    #[arg(long, value_name = "string", default_value = "")]
    pub topology_zone: String,

    /// directory of the node's files; must exist; empty: the working directory
    #[arg(long, value_name = "string", default_value = "", value_parser = folder)]
    pub data_path: PathBuf,
    /// number of messages to keep in memory (per topic/channel)
    #[arg(long, value_name = "int", default_value = "10000", value_parser = count)]
    pub mem_queue_size: u64,
    /// number of bytes per file of a topic's log before rolling
    #[arg(long, value_name = "int", default_value = "104857600", value_parser = count)]
    pub max_bytes_per_file: u64,
    /// number of messages per background fsync
    #[arg(long, value_name = "int", default_value = "2500", value_parser = count)]
    pub sync_every: u64,
    /// duration of time per background fsync
    #[arg(long, value_name = "duration", default_value = "2s", value_parser = duration)]
    pub sync_timeout: Duration,
    /// accepted for compatibility: no worker pool is needed
    #[arg(long, value_name = "int", default_value = "4", value_parser = count)]
    pub queue_scan_worker_pool_max: u64,
    /// accepted for compatibility: timeouts are not found by scanning
    #[arg(long, value_name = "int", default_value = "20", value_parser = count)]
    pub queue_scan_selection_count: u64,

    /// default duration to wait before auto-requeing a message
    #[arg(long, value_name = "duration", default_value = "1m0s", value_parser = duration)]
    pub msg_timeout: Duration,
    /// maximum duration before a message will timeout
    #[arg(long, value_name = "duration", default_value = "15m0s", value_parser = duration)]
    pub max_msg_timeout: Duration,
    /// maximum size of a single message in bytes
    #[arg(long, value_name = "int", default_value = "1048576", value_parser = count)]
    pub max_msg_size: u64,
    /// maximum requeuing timeout for a message
    #[arg(long, value_name = "duration", default_value = "1h0m0s", value_parser = duration)]
    pub max_req_timeout: Duration,
    /// maximum size of a single command body in bytes
    #[arg(long, value_name = "int", default_value = "5242880", value_parser = count)]
    pub max_body_size: u64,

    /// maximum client configurable duration of time between client heartbeats
    #[arg(long, value_name = "duration", default_value = "1m0s", value_parser = duration)]
    pub max_heartbeat_interval: Duration,
    /// maximum RDY count for a client
    #[arg(long, value_name = "int", default_value = "2500", value_parser = count)]
    pub max_rdy_count: u64,
    /// maximum client configurable size (in bytes) for a client output buffer
    #[arg(long, value_name = "int", default_value = "65536", value_parser = count)]
    pub max_output_buffer_size: u64,
    /// maximum client configurable duration of time between flushing to a client
    #[arg(long, value_name = "duration", default_value = "30s", value_parser = duration)]
    pub max_output_buffer_timeout: Duration,
    /// minimum client configurable duration of time between flushing to a client
    #[arg(long, value_name = "duration", default_value = "25ms", value_parser = duration)]
    pub min_output_buffer_timeout: Duration,
    /// default duration of time between flushing data to clients
    #[arg(long, value_name = "duration", default_value = "250ms", value_parser = duration)]
    pub output_buffer_timeout: Duration,
    /// maximum channel consumer connection count per node (default 0, i.e., unlimited)
    #[arg(long, value_name = "int", default_value = "0", value_parser = count)]
    pub max_channel_consumers: u64,

    /// UDP addr:port of a statsd daemon for pushing stats
    #[arg(long, value_name = "string", default_value = "")]
    pub statsd_address: String,
    /// duration between pushing to statsd
    #[arg(long, value_name = "duration", default_value = "1m0s", value_parser = duration)]
    pub statsd_interval: Duration,
    /// toggle sending memory and GC stats to statsd
    #[arg(long, value_name = "bool", default_value = "true", action = ArgAction::Set)]
    #[arg(value_parser = boolean)]
    pub statsd_mem_stats: bool,
    /// prefix used for keys sent to statsd (%s for host replacement)
    #[arg(long, value_name = "string", default_value = "nsq.%s")]
    pub statsd_prefix: String,
    /// the size in bytes of statsd UDP packets
    #[arg(long, value_name = "int", default_value = "508", value_parser = count)]
    pub statsd_udp_packet_size: u64,
    /// skip ephemeral topics and channels when sending stats to statsd
    #[arg(long, value_name = "bool", default_value = "false", action = ArgAction::Set)]
    #[arg(value_parser = boolean)]
    pub statsd_exclude_ephemeral: bool,

    /// message processing time percentiles to keep track of, in (0,1], comma separated (may be
    /// given multiple times)
    #[arg(long = "e2e-processing-latency-percentile", value_name = "value")]
    #[arg(action = ArgAction::Append)]
    pub(crate) percentile_texts: Vec<String>,
    /// `-e2e-processing-latency-percentile` as numbers in (0, 1], descending.
    #[arg(skip)]
    pub e2e_processing_latency_percentiles: Vec<f64>,
    /// calculate end to end latency quantiles for this duration of time
    #[arg(long, value_name = "duration", default_value = "10m0s", value_parser = duration)]
    pub e2e_processing_latency_window_time: Duration,

    /// path to certificate file
    #[arg(long, value_name = "string", default_value = "")]
    pub tls_cert: String,
    /// path to key file
    #[arg(long, value_name = "string", default_value = "")]
    pub tls_key: String,
    /// client certificate auth policy ('require' or 'require-verify')
    #[arg(long, value_name = "string", default_value = "")]
    pub tls_client_auth_policy: String,
    /// path to certificate authority file
    #[arg(long, value_name = "string", default_value = "")]
    pub tls_root_ca_file: String,
    /// require TLS for client connections (true, false, tcp-https)
    #[arg(long, value_name = "bool-like", default_value = "false")]
    pub tls_required: TlsRequired,
    /// minimum TLS version acceptable: tls1.0, tls1.1, tls1.2, or tls1.3
    #[arg(long, value_name = "string", default_value = "tls1.0")]
    pub tls_min_version: TlsVersion,
    /// enable deflate feature negotiation (client compression)
    #[arg(long, value_name = "bool", default_value = "true", action = ArgAction::Set)]
    #[arg(value_parser = boolean)]
    pub deflate: bool,
    /// max deflate compression level a client can negotiate, 1 to 9
    #[arg(long, value_name = "int", default_value = "6", value_parser = integer)]
    pub max_deflate_level: i64,
    /// enable snappy feature negotiation (client compression)
    #[arg(long, value_name = "bool", default_value = "true", action = ArgAction::Set)]
    #[arg(value_parser = boolean)]
    pub snappy: bool,
    /// enable experimental feature: topology-aware-consumption (may be given multiple times)
    #[arg(long = "enable-experiment", value_name = "value", action = ArgAction::Append)]
    pub enable_experiment: Vec<String>,

    /// addr:port for gossip between nodes, UDP and TCP; empty: this node stays alone
    #[arg(long, value_name = "string", default_value = "0.0.0.0:4162", value_parser = address)]
    pub gossip_address: Address,
    /// gossip addr:port of any other node; unreachable ones are tried for ever (may be given
    /// multiple times)
    #[arg(long = "gossip-seed-address", value_name = "value", action = ArgAction::Append)]
    pub gossip_seed_addresses: Vec<String>,
    /// IP address or ip:port at which other nodes reach this node's gossip; without a port, or
    /// with port 0, the port gossip listens on (defaults to the address gossip is bound to, or if
    /// that is every one, to the one this machine speaks to its seeds from)
    #[arg(long, value_name = "string", default_value = "")]
    pub gossip_advertise_address: Advertised,
    /// nodes with another cluster name are ignored
    #[arg(long, value_name = "string", default_value = "default")]
    pub cluster_name: String,
    /// path to a TOML file of clients and their permissions, read again when it changes; may be
    /// combined with auth servers, which are asked for clients it does not have
    #[arg(long, value_name = "string", default_value = "")]
    pub auth_file: String,
    /// addr:port of a drop-in nsqlookupd HTTP API; empty turns it off
    #[arg(long, value_name = "string", default_value = "0.0.0.0:4161", value_parser = address)]
    pub lookup_http_address: Address,
    /// addr:port where stock nsqds can register as with nsqlookupd; empty turns it off
    #[arg(long, value_name = "string", default_value = "0.0.0.0:4160", value_parser = address)]
    pub lookup_tcp_address: Address,
    /// duration of time a registered nsqd will remain listed since its last ping
    #[arg(long, value_name = "duration", default_value = "5m0s", value_parser = duration)]
    pub inactive_producer_timeout: Duration,
    /// duration of time a producer will remain tombstoned if registration remains
    #[arg(long, value_name = "duration", default_value = "45s", value_parser = duration)]
    pub tombstone_lifetime: Duration,
    /// when a publish is acknowledged: os (handed to the operating system), memory (as nsqd),
    /// fsync (on the device)
    #[arg(long, value_name = "string", default_value = "os")]
    pub durability: Durability,
    /// how long a starting node holds the first message of a topic while it has not heard yet
    /// which channels the cluster knows for it
    #[arg(long, value_name = "duration", default_value = "5s", value_parser = duration)]
    pub init_grace: Duration,

    /// Names of the flags that were given, on the command line or in the file.
    #[arg(skip)]
    pub(crate) given: BTreeSet<String>,
    /// The few values that change while the node runs.
    #[arg(skip)]
    pub live: Arc<Live>,
}

/// `-gossip-advertise-address`: where other nodes reach this one, if that must be said.
///
/// Port 0 is the port gossip listens on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Advertised(pub Option<SocketAddr>);

impl FromStr for Advertised {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let alone = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0));
        let address = text.parse::<SocketAddr>().or(alone);
        address
            .map(|address| Self(Some(address)))
            .map_err(|_| "must be an IP address, or an IP address and a port".to_owned())
    }
}

impl fmt::Display for Advertised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(address) = self;
        match address {
            None => Ok(()),
            Some(address) if address.port() == 0 => write!(f, "{}", address.ip()),
            Some(address) => write!(f, "{address}"),
        }
    }
}

fn address(text: &str) -> Result<Address, Infallible> {
    Ok(Address::parse(text))
}

/// A folder; an empty path is the working directory, which clap's own reader would refuse.
fn folder(text: &str) -> Result<PathBuf, Infallible> {
    Ok(PathBuf::from(if text.is_empty() { "." } else { text }))
}

/// The OS hostname, or `localhost` when it is not text.
fn os_hostname() -> String {
    gethostname::gethostname().into_string().unwrap_or_else(|_| "localhost".to_owned())
}

/// A number in 0..1024 that stays the same as long as the hostname does.
fn hostname_hash() -> i64 {
    // FNV-1a: short, and the same on every machine and in every build.
    let hash = os_hostname().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    i64::try_from(hash % 1024).expect("less than 1024")
}
