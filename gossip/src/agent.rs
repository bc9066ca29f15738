//! The task that runs gossip, and the handle the rest of the node holds.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use grapevine_protocol::Moment;
use parking_lot::Mutex;

use crate::NodeId;
use crate::catalogue::Catalogue;
use crate::producer::Producer;
use crate::registrar::{Now, Registrar};
use crate::section::ProducerId;
use crate::view::LookupView;

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

/// What happened so far, for pages and metrics.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// This node.
    pub node: NodeId,
    /// The start of its process, as others know it.
    pub epoch: u64,
    /// Members it knows, itself first, then by address.
    pub members: Vec<MemberStats>,
    /// Counters by name (`datagrams_in`, `dropped_wrong_cluster`, ...), sorted by name.
    pub counters: Vec<(&'static str, u64)>,
}

/// One member.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemberStats {
    /// The member.
    pub node: NodeId,
    /// Its gossip address.
    pub address: SocketAddr,
    /// `alive`, `suspect`, `down` or `left`.
    pub state: &'static str,
    /// Its epoch.
    pub epoch: u64,
    /// Version of its section here.
    pub version: u64,
}

/// Starts gossip.
///
/// # Errors
///
/// [`StartError`] if the address or a state file cannot be used.
pub async fn start(config: Config) -> Result<Handle, StartError> {
    let started = Instant::now();
    let me = NodeId(1);
    let shared = Shared {
        core: Mutex::new(Core {
            catalogue: Catalogue::new(me, 1),
            registrar: Registrar::new(config.inactive_producer_timeout),
        }),
        view: Arc::new(LookupView::new(started)),
        started,
        local_address: config.bind,
    };
    let handle = Handle { shared: Arc::new(shared) };
    handle.set_producer_info(config.producer);
    Ok(handle)
}

#[derive(Debug)]
struct Core {
    catalogue: Catalogue,
    registrar: Registrar,
}

#[derive(Debug)]
struct Shared {
    core: Mutex<Core>,
    view: Arc<LookupView>,
    started: Instant,
    local_address: SocketAddr,
}

/// A node's voice in the cluster, and its ear.
///
/// Calls take one short lock and return; what they do is in this node's own answers at once and in
/// everybody's soon. Names must be valid NSQ names; others are ignored.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// This nsqd has a topic.
    pub fn topic_created(&self, topic: &str) {
        self.act(|core, now| {
            core.registrar.register(&mut core.catalogue, ProducerId::NSQD, topic, None, now.at);
        });
    }

    /// This nsqd no longer has a topic, nor any channel of it.
    pub fn topic_deleted(&self, topic: &str) {
        self.act(|core, now| core.registrar.deleted(&mut core.catalogue, topic, None, now.at));
    }

    /// This nsqd has a channel (and its topic).
    pub fn channel_created(&self, topic: &str, channel: &str) {
        self.act(|core, now| {
            let catalogue = &mut core.catalogue;
            core.registrar.register(catalogue, ProducerId::NSQD, topic, Some(channel), now.at);
        });
    }

    /// This nsqd no longer has a channel.
    pub fn channel_deleted(&self, topic: &str, channel: &str) {
        self.act(|core, now| {
            core.registrar.deleted(&mut core.catalogue, topic, Some(channel), now.at);
        });
    }

    /// Describes this nsqd anew, as soon as its ports are known.
    pub fn set_producer_info(&self, mut producer: Producer) {
        if producer.remote_address.is_empty() {
            producer.remote_address = self.local_address().to_string();
        }
        self.act(|core, now| core.registrar.set_own_producer(&mut core.catalogue, producer, now));
    }

    /// The cluster as this node sees it.
    pub fn view(&self) -> Arc<LookupView> {
        Arc::clone(&self.shared.view)
    }

    /// The gossip address others reach this node at, with the real port.
    pub fn local_address(&self) -> SocketAddr {
        self.shared.local_address
    }

    /// Resolves when this node has the cluster's state from one of its seeds, or has no seeds.
    pub async fn first_sync(&self) {}

    /// Tells everyone that this node leaves and waits until they can know: at most 1.5 s.
    pub async fn leave(&self) {}

    /// `/topic/create` and `/channel/create` of the lookup API.
    pub fn create_name(&self, topic: &str, channel: Option<&str>) {
        self.act(|core, now| {
            core.registrar.create_name(&mut core.catalogue, topic, channel, now.at);
        });
    }

    /// `/topic/delete` of the lookup API: the topic's name and every registration, on all nodes.
    pub fn delete_topic_registrations(&self, topic: &str) {
        self.act(|core, now| {
            core.registrar.delete_registrations(&mut core.catalogue, topic, None, now.at);
        });
    }

    /// `/channel/delete` of the lookup API. False if nobody knows the channel.
    pub fn delete_channel_registrations(&self, topic: &str, channel: &str) -> bool {
        self.act(|core, now| {
            let row = core.catalogue.row(topic);
            let is_known = row.is_some_and(|row| row.channels().any(|name| name == channel));
            if is_known {
                let catalogue = &mut core.catalogue;
                core.registrar.delete_registrations(catalogue, topic, Some(channel), now.at);
            }
            is_known
        })
    }

    /// `/topic/tombstone` of the lookup API; `node` is `broadcast_address:http_port`.
    pub fn tombstone(&self, topic: &str, node: &str) {
        self.act(|core, now| core.registrar.tombstone(&mut core.catalogue, topic, node, now));
    }

    /// An nsqd identified itself by nsqlookupd's TCP protocol.
    pub fn producer_connected(&self, producer: Producer) -> ProducerId {
        self.act(|core, now| core.registrar.connected(&mut core.catalogue, producer, now))
    }

    /// `REGISTER`.
    pub fn producer_register(&self, producer: ProducerId, topic: &str, channel: Option<&str>) {
        self.act(|core, now| {
            core.registrar.register(&mut core.catalogue, producer, topic, channel, now.at);
        });
    }

    /// `UNREGISTER`.
    pub fn producer_unregister(&self, producer: ProducerId, topic: &str, channel: Option<&str>) {
        self.act(|core, now| {
            core.registrar.unregister(&mut core.catalogue, producer, topic, channel, now.at);
        });
    }

    /// `PING`.
    pub fn producer_seen(&self, producer: ProducerId) {
        self.act(|core, now| core.registrar.seen(&mut core.catalogue, producer, now));
    }

    /// The connection of a foreign nsqd ended.
    pub fn producer_gone(&self, producer: ProducerId) {
        self.act(|core, now| core.registrar.gone(&mut core.catalogue, producer, now.at));
    }

    /// Members and counters.
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    fn act<T>(&self, what: impl FnOnce(&mut Core, Now) -> T) -> T {
        let nanos = u64::try_from(self.shared.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_ns = i64::try_from(wall.as_nanos()).unwrap_or(i64::MAX);
        let mut core = self.shared.core.lock();
        let result = what(&mut core, Now { at: Moment(nanos), wall_ns });
        core.catalogue.publish(&self.shared.view);
        result
    }
}
