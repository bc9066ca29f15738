//! Building a node from its options, running it, and stopping it in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use grapevine_broker::{IdSource, Settings};
use grapevine_gossip::{Handle, Producer};
use grapevine_protocol::{Limits, ServerSettings, VERSION};
use grapevine_storage::DataPath;
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use super::auth::Authenticator;
use super::client::Client;
use super::clock::Clock;
use super::cluster::ClusterLink;
use super::listener::{self, Listener};
use super::lookupd::Lookupds;
use super::registry::{IDS_FILE, Registry, RegistryOptions};
use super::session::SessionOptions;
use super::{drain, http, lookup_tcp, statsd, storekeeper, upgrade};
use crate::config::{Address, Options, TlsRequired};
use crate::import::{self, ImportError, ImportLimits};

/// How long clients' tasks get to hand back what they hold when the node stops.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(2);

/// Where a node without gossip keeps its socket: nobody is told of it.
const NO_GOSSIP: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// The name of the experiment in `--enable-experiment`.
const TOPOLOGY_AWARE: &str = "topology-aware-consumption";

/// A node that could not start; `Display` is one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data path is missing, not writable or used by another node.
    #[error("{0}")]
    DataPath(#[from] grapevine_storage::DataPathError),
    /// Something of the data path cannot be read or written.
    #[error("failed to load data-path: {0}")]
    Load(#[source] std::io::Error),
    /// What an nsqd has left in the data path cannot be taken over.
    #[error("failed to import the data path of nsqd: {0}")]
    Import(#[from] ImportError),
    /// A listener cannot be opened; the error names the address.
    #[error("{flag}: {error}")]
    Listen {
        /// The flag that names the address.
        flag: &'static str,
        /// Why not.
        error: std::io::Error,
    },
    /// TLS cannot be offered as asked for; the text names the flag.
    #[error("{0}")]
    Tls(String),
    /// Nobody could be let in; the text names the flag.
    #[error("{0}")]
    Auth(String),
    /// Gossip cannot start.
    #[error("gossip-address: {0}")]
    Gossip(String),
}

/// A running node as its HTTP surfaces see it.
pub struct Node {
    /// Topics and clients.
    pub registry: Arc<Registry>,
    /// As given.
    pub options: Arc<Options>,
    /// Unix seconds.
    pub start_time: i64,
    /// The hostname, as in `/info`.
    pub hostname: String,
    /// Port of `-tcp-address`; `None` for a unix socket.
    pub tcp_port: Option<u16>,
    /// Port of `-http-address`; `None` if it is off or a unix socket.
    pub http_port: Option<u16>,
    /// Port of `-https-address`; `None` if there is no HTTPS or it is a unix socket.
    pub https_port: Option<u16>,
    /// Port of `-lookup-http-address`; `None` if it is off or a unix socket.
    pub lookup_http_port: Option<u16>,
}

impl Node {
    /// Connected clients, by id.
    pub fn clients(&self) -> Vec<Arc<Client>> {
        self.registry.all_clients()
    }
}

struct Listeners {
    tcp: Option<Listener>,
    http: Option<Listener>,
    https: Option<Listener>,
    lookup_http: Option<Listener>,
    lookup_tcp: Option<Listener>,
}

impl Listeners {
    async fn open(options: &Options, has_tls: bool) -> Result<Self, StartError> {
        let named = |flag| move |error| StartError::Listen { flag, error };
        Ok(Self {
            tcp: Listener::bind(&options.tcp_address).await.map_err(named("tcp-address"))?,
            http: Listener::bind(&options.http_address).await.map_err(named("http-address"))?,
            https: Listener::bind(if has_tls { &options.https_address } else { &Address::Off })
                .await
                .map_err(named("https-address"))?,
            lookup_http: Listener::bind(&options.lookup_http_address)
                .await
                .map_err(named("lookup-http-address"))?,
            lookup_tcp: Listener::bind(&options.lookup_tcp_address)
                .await
                .map_err(named("lookup-tcp-address"))?,
        })
    }
}

/// Runs a node until SIGTERM or SIGINT, or the end of a drain.
///
/// # Errors
///
/// [`StartError`] if it cannot start.
pub async fn run(options: Arc<Options>) -> Result<(), StartError> {
    // Signals are caught from here on, so that a stop during the start is an orderly one.
    let stopping = Stopping::listen().map_err(StartError::Load)?;
    let data_path = DataPath::open(&options.data_path)?;
    let tls = upgrade::server_config(&options).map_err(StartError::Tls)?;
    let auth = Authenticator::open(&options).map_err(StartError::Auth)?;
    let listeners = Listeners::open(&options, tls.is_some()).await?;
    let clock = Clock::start();
    let hostname = gethostname::gethostname().to_string_lossy().into_owned();
    let ids = message_ids(&data_path, &options).map_err(StartError::Load)?;
    let port = |listener: &Option<Listener>| listener.as_ref().and_then(Listener::port);
    options.live.set_ports(
        port(&listeners.tcp).unwrap_or_default(),
        port(&listeners.http).unwrap_or_default(),
    );
    let gossip = start_gossip(&options).await?;
    let lookupds = Lookupds::new(&options).map_err(StartError::Tls)?;
    let link = ClusterLink::new(gossip.clone()).with_lookupds(Arc::clone(&lookupds));
    let registry = Registry::new(data_path, registry_options(&options), clock, ids, link);
    registry.resume_drain().map_err(StartError::Load)?;
    let (loading, limits) = (Arc::clone(&registry), import_limits(&options));
    let loaded = tokio::task::spawn_blocking(move || load(&loading, &limits)).await;
    let highest_id = loaded.map_err(|error| StartError::Load(std::io::Error::other(error)))??;
    registry.ids.raise(highest_id);
    if let Err(error) = registry.save_ids() {
        // As on a full disk, which only consumers can empty. Ids follow the clock all the same.
        registry.health().write_failed(&error);
        error!(%error, "cannot store the message id mark");
    }

    let (stop, stopped) = watch::channel(false);
    let node = Arc::new(Node {
        registry: Arc::clone(&registry),
        start_time: super::clock::wall_ns() / 1_000_000_000,
        hostname,
        tcp_port: listeners.tcp.as_ref().and_then(Listener::port),
        http_port: listeners.http.as_ref().and_then(Listener::port),
        https_port: listeners.https.as_ref().and_then(Listener::port),
        lookup_http_port: listeners.lookup_http.as_ref().and_then(Listener::port),
        options: Arc::clone(&options),
    });
    // Only now, with every topic loaded: whoever finds this node, by gossip or at an nsqlookupd, is
    // served at once. It knows whether it drains before anybody knows of it.
    gossip.set_producer_info(producer(&options, &listeners, &node.hostname));
    let mut serving = serve(&node, listeners, tls, auth.clone(), &stopped);
    let hostname = node.hostname.clone();
    serving.spawn(lookupds.run(Arc::clone(&options), hostname, stopped));
    let keeping = keep(&registry, auth, options.sync_timeout);
    let reason = tokio::select! {
        signal = stopping.wait() => signal,
        () = drain::emptied(Arc::clone(&registry)) => "drained",
    };
    info!(reason, "stopping");
    stop.send_replace(true);
    shut_down(&registry, &gossip, &mut serving, keeping).await;
    info!("stopped");
    Ok(())
}

/// Takes over what an nsqd has left, then loads all topics; returns the highest message id.
fn load(registry: &Arc<Registry>, limits: &ImportLimits) -> Result<u64, StartError> {
    import::take_over(registry.data_path(), &registry.ids, limits)?;
    registry.load().map_err(StartError::Load)
}

fn serve(
    node: &Arc<Node>,
    listeners: Listeners,
    tls: Option<Arc<ServerConfig>>,
    auth: Option<Arc<Authenticator>>,
    stopped: &watch::Receiver<bool>,
) -> JoinSet<()> {
    let options = &node.options;
    let mut tasks = JoinSet::new();
    if let Some(listener) = listeners.tcp {
        info!(address = listener.address(), "TCP: listening");
        let session = session_options(options, tls.clone(), auth);
        let registry = Arc::clone(&node.registry);
        tasks.spawn(listener::serve(listener, registry, session, stopped.clone()));
    }
    if let Some(listener) = listeners.http {
        info!(address = listener.address(), "HTTP: listening");
        tasks.spawn(http::serve(listener, Arc::clone(node), stopped.clone()));
    }
    if let (Some(listener), Some(tls)) = (listeners.https, tls) {
        info!(address = listener.address(), "HTTPS: listening");
        tasks.spawn(http::serve_https(listener, tls, Arc::clone(node), stopped.clone()));
    }
    if let Some(listener) = listeners.lookup_http {
        info!(address = listener.address(), "lookup HTTP: listening");
        tasks.spawn(http::serve_lookup(listener, Arc::clone(node), stopped.clone()));
    }
    if let Some(listener) = listeners.lookup_tcp {
        info!(address = listener.address(), "lookup TCP: listening");
        tasks.spawn(lookup_tcp::serve(listener, Arc::clone(node), stopped.clone()));
    }
    if !options.statsd_address.is_empty() {
        info!(address = options.statsd_address, "statsd: pushing");
        tasks.spawn(statsd::run(Arc::clone(node), stopped.clone()));
    }
    tasks
}

fn keep(
    registry: &Arc<Registry>,
    auth: Option<Arc<Authenticator>>,
    sync_timeout: Duration,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    if let Some(auth) = auth {
        tasks.spawn(auth.watch());
    }
    tasks.spawn(Arc::clone(&registry.timekeeper).run(registry.clock()));
    tasks.spawn(storekeeper::run(Arc::clone(registry)));
    if !registry.is_fsync {
        tasks.spawn(storekeeper::run_syncs(Arc::clone(registry), sync_timeout));
    }
    tasks
}

/// Stop accepting, close clients (they hand back what they hold), leave the cluster, store, end.
async fn shut_down(
    registry: &Arc<Registry>,
    gossip: &Handle,
    serving: &mut JoinSet<()>,
    mut keeping: JoinSet<()>,
) {
    registry.exit();
    let leaving = gossip.leave();
    let closing = async {
        let closed = tokio::time::timeout(CLOSE_TIME_MAX, async {
            while serving.join_next().await.is_some() {}
            while !registry.all_clients().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        if closed.await.is_err() {
            warn!("some clients did not end in time; what they held comes again after the restart");
        }
        keeping.shutdown().await;
        let saving = Arc::clone(registry);
        let saved = tokio::task::spawn_blocking(move || saving.save_all()).await;
        if let Err(error) = saved {
            error!(%error, "cannot store the topics");
        }
    };
    tokio::join!(leaving, closing);
}

/// SIGTERM and SIGINT; and SIGHUP, which kills nsqd in the middle of its work.
struct Stopping {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Stopping {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn wait(mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => info!("SIGHUP has no effect; SIGTERM stops the node"),
            }
        }
    }
}

/// The ids of this node: `-node-id` and six random bits that stay with the data path, above the
/// mark of the last run.
fn message_ids(data_path: &DataPath, options: &Options) -> std::io::Result<IdSource> {
    let mark = data_path.read_file(IDS_FILE)?;
    let mark = mark.and_then(|bytes| String::from_utf8(bytes).ok());
    let mark: Option<u64> = mark.and_then(|text| text.trim().parse().ok());
    let few_bits = match mark {
        Some(mark) => (mark & 0x3f) as u16,
        None => rand::random::<u16>() & 0x3f,
    };
    let node = (u16::try_from(options.node_id).unwrap_or(0) << 6) | few_bits;
    Ok(IdSource::new(node, mark.unwrap_or(0)))
}

/// What others are told of this node.
fn producer(options: &Options, listeners: &Listeners, hostname: &str) -> Producer {
    let port =
        |listener: &Option<Listener>| listener.as_ref().and_then(Listener::port).unwrap_or(0);
    let or_listening = |wanted: u16, listening: u16| if wanted == 0 { listening } else { wanted };
    Producer {
        remote_address: String::new(),
        hostname: hostname.to_owned(),
        broadcast_address: options.broadcast_address.clone(),
        tcp_port: or_listening(options.broadcast_tcp_port, port(&listeners.tcp)),
        http_port: or_listening(options.broadcast_http_port, port(&listeners.http)),
        version: VERSION.to_owned(),
        topology_zone: options.topology_zone.clone(),
        topology_region: options.topology_region.clone(),
    }
}

/// Joins the cluster and learns what it knows; not yet found by anybody, see [`producer`].
async fn start_gossip(options: &Options) -> Result<Handle, StartError> {
    let bind = match &options.gossip_address {
        Address::Off => None,
        address => Some(gossip_bind(address).await?),
    };
    let config = grapevine_gossip::agent::Config {
        bind: bind.unwrap_or(NO_GOSSIP),
        advertise: options.gossip_advertise_address.0,
        seeds: options.gossip_seed_addresses.clone(),
        cluster_name: options.cluster_name.clone(),
        state_dir: Some(options.data_path.clone()),
        producer: Producer::default(),
        inactive_producer_timeout: options.inactive_producer_timeout,
        tombstone_lifetime: options.tombstone_lifetime,
    };
    grapevine_gossip::agent::start(config)
        .await
        .map_err(|error| StartError::Gossip(error.to_string()))
}

async fn gossip_bind(address: &Address) -> Result<SocketAddr, StartError> {
    let refused = |why: String| StartError::Gossip(format!("listen ({address}) failed - {why}"));
    let Some(text) = address.host_port() else {
        return Err(refused("want host:port".to_owned()));
    };
    let resolved = tokio::net::lookup_host(&text).await;
    let mut resolved = resolved.map_err(|error| refused(error.to_string()))?;
    resolved.next().ok_or_else(|| refused("no such address".to_owned()))
}

fn registry_options(options: &Options) -> RegistryOptions {
    let has_percentiles = !options.e2e_processing_latency_percentiles.is_empty();
    RegistryOptions {
        settings: Settings {
            mem_queue_size: options.mem_queue_size,
            msg_timeout_max: options.max_msg_timeout,
            channel_consumers_max: usize::try_from(options.max_channel_consumers)
                .unwrap_or(usize::MAX),
            latency_window: has_percentiles.then_some(options.e2e_processing_latency_window_time),
        },
        durability: options.durability,
        segment_bytes_max: options.max_bytes_per_file,
        sync_every: options.sync_every,
        init_grace: options.init_grace,
    }
}

fn import_limits(options: &Options) -> ImportLimits {
    ImportLimits {
        message_bytes_max: options.max_msg_size,
        segment_bytes_max: options.max_bytes_per_file,
        wall_ns: super::clock::wall_ns(),
    }
}

fn session_options(
    options: &Options,
    tls: Option<Arc<ServerConfig>>,
    auth: Option<Arc<Authenticator>>,
) -> Arc<SessionOptions> {
    let is_topology_aware = options.enable_experiment.iter().any(|name| name == TOPOLOGY_AWARE);
    let place = (options.topology_zone.clone(), options.topology_region.clone());
    let limits = Limits {
        msg_bytes_max: u32::try_from(options.max_msg_size).unwrap_or(u32::MAX),
        body_bytes_max: u32::try_from(options.max_body_size).unwrap_or(u32::MAX),
        rdy_max: options.max_rdy_count,
        req_timeout_ms_max: u64::try_from(options.max_req_timeout.as_millis()).unwrap_or(u64::MAX),
    };
    let server = ServerSettings {
        max_rdy_count: options.max_rdy_count,
        msg_timeout: options.msg_timeout,
        max_msg_timeout: options.max_msg_timeout,
        max_heartbeat_interval: options.max_heartbeat_interval,
        max_output_buffer_size: options.max_output_buffer_size,
        output_buffer_timeout: options.output_buffer_timeout,
        min_output_buffer_timeout: options.min_output_buffer_timeout,
        max_output_buffer_timeout: options.max_output_buffer_timeout,
        max_deflate_level: options.max_deflate_level,
        tls_v1: tls.is_some(),
        deflate: options.deflate,
        snappy: options.snappy,
        auth_required: auth.is_some(),
        topology_region: options.topology_region.clone(),
        topology_zone: options.topology_zone.clone(),
    };
    let place = is_topology_aware.then_some(place);
    let is_tls_required = options.tls_required != TlsRequired::No;
    Arc::new(SessionOptions { limits, server, place, tls, is_tls_required, auth })
}
