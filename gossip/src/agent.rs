//! The task that runs gossip, and the handle the rest of the node holds.

mod deletions;
mod driver;
mod handle;
mod state;
mod stream;
mod watches;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use grapevine_protocol::Moment;
use parking_lot::Mutex;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Notify, watch};

use crate::cluster::{Boot, Cluster, Input, Output};
use crate::config::Timings;
use crate::producer::Producer;
use crate::registrar::Now;
use crate::view::LookupView;

use deletions::Deletions;
use driver::Driver;
use state::State;
use watches::Watches;

pub use handle::{Handle, MemberStats, Stats};
pub use watches::{WATCHES_MAX, Watch};

/// How long a seed's name may take to be looked up before the node starts without it.
const LOOKUP_MAX: Duration = Duration::from_secs(1);

/// Attempts to find a port that is free for both UDP and TCP.
const BIND_TRIES_MAX: u32 = 16;

/// Receive buffer of the UDP socket: some hundred datagrams while the process is busy elsewhere.
const RECEIVE_BUFFER_BYTES: usize = 1024 * 1024;

/// What a node's gossip needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen, UDP and TCP (`--gossip-address`). Port 0 picks one.
    pub bind: SocketAddr,
    /// The address others reach this node at, if it is not the one bound. Port 0: the bound port.
    pub advertise: Option<SocketAddr>,
    /// `host:port` of nodes to join through; looked up again for ever.
    pub seeds: Vec<String>,
    /// Nodes with another cluster name ignore each other.
    pub cluster_name: String,
    /// Directory of `node.id`, `gossip.epoch` and `gossip.peers`. Without one the node is a new
    /// one after each start.
    pub state_dir: Option<PathBuf>,
    /// This node's nsqd. With both ports 0 it is not listed until
    /// [`Handle::set_producer_info`] says better.
    pub producer: Producer,
    /// `--inactive-producer-timeout`, for foreign producers.
    pub inactive_producer_timeout: Duration,
    /// `--tombstone-lifetime`.
    pub tombstone_lifetime: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([0, 0, 0, 0], 4162)),
            advertise: None,
            seeds: Vec::new(),
            cluster_name: "grapevine".to_owned(),
            state_dir: None,
            producer: Producer::default(),
            inactive_producer_timeout: Duration::from_secs(300),
            tombstone_lifetime: Duration::from_secs(45),
        }
    }
}

/// Why gossip cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The gossip address cannot be bound.
    #[error("cannot listen on gossip address {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// A state file cannot be read or written; nothing was announced.
    #[error("cannot keep gossip state in {path}: {source}")]
    State {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// Starts gossip.
///
/// # Errors
///
/// [`StartError`] if the address or a state file cannot be used.
pub async fn start(config: Config) -> Result<Handle, StartError> {
    let started = Instant::now();
    let state = State::new(config.state_dir.clone());
    let (socket, listener, bound) = bind(config.bind)
        .await
        .map_err(|source| StartError::Bind { address: config.bind, source })?;
    let addr = advertised(&config, bound).await;
    let node = state.node(rand::random())?;
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = state.next_epoch(u64::try_from(wall.as_millis()).unwrap_or(0), rand::random())?;
    let boot = Boot {
        node,
        epoch,
        addr,
        seeds: config.seeds.len(),
        peers: state.peers(),
        cluster_name: config.cluster_name,
        timings: Timings::default(),
        inactive_producer_timeout: config.inactive_producer_timeout,
        tombstone_lifetime: config.tombstone_lifetime,
        seed: rand::random(),
    };
    tracing::info!(%node, epoch, address = %addr, bound = %bound, "gossip");
    let watches = Arc::new(Watches::default());
    let view = Arc::new(LookupView::new(started, watches.clone()));
    let shared = Arc::new(Shared {
        cluster: Mutex::new(Cluster::new(boot, now_since(started))),
        view,
        watches,
        deletions: Mutex::default(),
        started,
        local_address: addr,
        poked: Notify::new(),
        synced: watch::Sender::new(false),
        left: watch::Sender::new(false),
    });
    let handle = Handle::new(Arc::clone(&shared));
    handle.set_producer_info(config.producer);
    tokio::spawn(Driver::new(shared, socket, listener, config.seeds, state).run());
    Ok(handle)
}

/// Binds UDP and TCP to the same port.
async fn bind(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener, SocketAddr)> {
    let mut tries = 0;
    loop {
        let listener = TcpListener::bind(address).await?;
        let bound = listener.local_addr()?;
        match UdpSocket::bind(bound).await {
            Ok(socket) => {
                let reference = socket2::SockRef::from(&socket);
                if let Err(error) = reference.set_recv_buffer_size(RECEIVE_BUFFER_BYTES) {
                    tracing::debug!(%error, "receive buffer");
                }
                return Ok((socket, listener, bound));
            }
            Err(error) if address.port() != 0 || tries >= BIND_TRIES_MAX => return Err(error),
            Err(_) => tries += 1,
        }
    }
}

/// The address others reach this node at: as configured, or as bound, or, if that is every
/// address, the one this machine would speak to its seeds from.
async fn advertised(config: &Config, bound: SocketAddr) -> SocketAddr {
    if let Some(mut addr) = config.advertise {
        if addr.port() == 0 {
            addr.set_port(bound.port());
        }
        return addr;
    }
    if !bound.ip().is_unspecified() {
        return bound;
    }
    let mut targets = Vec::new();
    for seed in &config.seeds {
        let addrs = tokio::time::timeout(LOOKUP_MAX, tokio::net::lookup_host(seed)).await;
        if let Ok(Ok(addrs)) = addrs {
            targets.extend(addrs.filter(|addr| addr.is_ipv4() == bound.is_ipv4()));
        }
    }
    // Addresses for documentation, which nobody has: connecting UDP sends nothing, it only asks
    // for the route out of this machine.
    let (outside, any, loopback): (IpAddr, IpAddr, IpAddr) = if bound.is_ipv4() {
        let outside = Ipv4Addr::new(192, 0, 2, 1);
        (outside.into(), Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::LOCALHOST.into())
    } else {
        let outside = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        (outside.into(), Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into())
    };
    targets.push((outside, 9).into());
    for target in targets {
        let source = async {
            let socket = UdpSocket::bind((any, 0)).await?;
            socket.connect(target).await?;
            socket.local_addr()
        };
        if let Ok(source) = source.await
            && !source.ip().is_unspecified()
        {
            return (source.ip(), bound.port()).into();
        }
    }
    (loopback, bound.port()).into()
}

fn now_since(started: Instant) -> Now {
    let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { at: Moment(nanos), wall_ns: i64::try_from(wall.as_nanos()).unwrap_or(i64::MAX) }
}

#[derive(Debug)]
struct Shared {
    /// The core. Locked for one call at a time, never across I/O.
    cluster: Mutex<Cluster>,
    view: Arc<LookupView>,
    watches: Arc<Watches>,
    deletions: Mutex<Deletions>,
    started: Instant,
    local_address: SocketAddr,
    /// A handle did something the task should look at.
    poked: Notify,
    synced: watch::Sender<bool>,
    left: watch::Sender<bool>,
}

impl Shared {
    fn handle(&self, input: Input<'_>) {
        let mut cluster = self.cluster.lock();
        cluster.handle(now_since(self.started), input);
        cluster.publish(&self.view);
    }

    fn outputs(&self) -> Vec<Output> {
        let mut cluster = self.cluster.lock();
        std::iter::from_fn(|| cluster.poll()).collect()
    }

    fn next_wake(&self) -> tokio::time::Instant {
        /// When the core has nothing to wait for, the task looks again this often.
        const IDLE: u64 = 60;
        let wake = self.cluster.lock().next_wake();
        let at = wake.map_or_else(
            || Instant::now() + Duration::from_secs(IDLE),
            |at| self.started + Duration::from_nanos(at.as_nanos()),
        );
        at.into()
    }

    fn is_left(&self) -> bool {
        *self.left.borrow()
    }

    fn address_rival(&self) -> Option<crate::identity::Identity> {
        self.cluster.lock().address_rival()
    }

    fn gossips_beyond_loopback(&self) -> bool {
        let cluster = self.cluster.lock();
        cluster
            .membership()
            .active()
            .values()
            .any(|member| !member.addr.socket().ip().is_loopback())
    }
}
