//! The topics of this node, and what they share.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use grapevine_broker::{ChannelFile, ConsumerId, IdSource, PublishError, Settings};
use grapevine_protocol::{ChannelName, TopicName};
use grapevine_storage::{
    CacheBudget, ChannelCheckpoint, DataPath, DirDisk, Disk as _, Log, LogOptions, Mode, TopicState,
};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::{error, info, warn};

use super::client::Client;
use super::clock::Clock;
use super::cluster::ClusterLink;
use super::drain::Drain;
use super::health::Health;
use super::timekeeper::Timekeeper;
use super::topic::Topic;
use crate::config::Durability;

/// What the registry needs to know of the options.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// For every topic.
    pub settings: Settings,
    /// What `OK` means.
    pub durability: Durability,
    /// `--max-bytes-per-file`.
    pub segment_bytes_max: u64,
    /// `--sync-every`, in messages.
    pub sync_every: u64,
    /// `--init-grace`: how long a new topic waits for the first answer of the cluster.
    pub init_grace: Duration,
}

/// Topics by name, clients by id, and what all of them use.
pub struct Registry {
    topics: DashMap<TopicName, Arc<Topic>>,
    clients: DashMap<ConsumerId, Arc<Client>>,
    /// Held while a topic is created or deleted, so that the files of both never mix.
    creation: Mutex<()>,
    numbers: AtomicU64,
    is_exiting: AtomicBool,
    data_path: DataPath,
    options: RegistryOptions,
    settings: Arc<Settings>,
    cache: Arc<CacheBudget>,
    pub(crate) clock: Clock,
    pub(crate) ids: IdSource,
    pub(crate) health: Health,
    pub(crate) drain: Drain,
    pub(crate) timekeeper: Arc<Timekeeper>,
    pub(crate) cluster: ClusterLink,
    pub(crate) sync_every: u64,
    pub(crate) sync_wanted: Notify,
    pub(crate) is_fsync: bool,
}

impl Registry {
    /// An empty registry over `data_path`; [`load`](Self::load) brings what is there.
    pub fn new(
        data_path: DataPath,
        options: RegistryOptions,
        clock: Clock,
        ids: IdSource,
        cluster: ClusterLink,
    ) -> Arc<Self> {
        Arc::new(Self {
            topics: DashMap::new(),
            clients: DashMap::new(),
            creation: Mutex::new(()),
            numbers: AtomicU64::new(1),
            is_exiting: AtomicBool::new(false),
            data_path,
            settings: Arc::new(options.settings.clone()),
            cache: Arc::new(CacheBudget::new(CACHE_BYTES_MAX)),
            clock,
            ids,
            health: Health::default(),
            drain: Drain::default(),
            timekeeper: Arc::default(),
            cluster,
            sync_every: options.sync_every,
            sync_wanted: Notify::new(),
            is_fsync: options.durability == Durability::Fsync,
            options,
        })
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// The data path.
    pub const fn data_path(&self) -> &DataPath {
        &self.data_path
    }

    /// The node's health.
    pub const fn health(&self) -> &Health {
        &self.health
    }

    /// The node's clocks.
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// The way to the other nodes.
    pub const fn cluster(&self) -> &ClusterLink {
        &self.cluster
    }

    fn log_options(&self, name: &TopicName) -> LogOptions {
        let messages_max = self.settings.mem_queue_size;
        let mode = match self.options.durability {
            _ if name.is_ephemeral() => Mode::MemoryOnly,
            Durability::Memory => Mode::WriteBehind { messages_max },
            Durability::Os | Durability::Fsync => Mode::WriteThrough,
        };
        let segment_bytes_max = self.options.segment_bytes_max;
        LogOptions { mode, segment_bytes_max, cache: Arc::clone(&self.cache) }
    }

    pub(crate) fn side_options(&self) -> LogOptions {
        LogOptions {
            mode: Mode::WriteThrough,
            segment_bytes_max: self.options.segment_bytes_max,
            cache: Arc::clone(&self.cache),
        }
    }

    /// Brings back every topic of the data path; returns the highest message id found.
    ///
    /// # Errors
    ///
    /// When the data path cannot be read. Damage inside a topic is reported and passed over.
    pub fn load(self: &Arc<Self>) -> std::io::Result<u64> {
        let mut highest_id = 0;
        for name in self.data_path.topics()? {
            let Ok(name) = TopicName::new(&name) else {
                warn!(name, "directory with an invalid topic name skipped");
                continue;
            };
            let (topic, highest) = self.load_topic(&name)?;
            highest_id = highest_id.max(highest);
            self.cluster.topic_created(&name);
            for channel in topic.channel_names() {
                self.cluster.channel_created(&name, &channel);
            }
            topic.expire();
            self.topics.insert(name, topic);
        }
        Ok(highest_id)
    }

    fn load_topic(self: &Arc<Self>, name: &TopicName) -> std::io::Result<(Arc<Topic>, u64)> {
        let dir = self.data_path.topic_dir(name);
        let (log, recovery) = Log::open(dir.disk(), self.log_options(name))?;
        report(name, &recovery);
        let side = dir.side_disk(SIDE_LOG);
        let side = match side.list()?.is_empty() {
            true => None,
            false => Some(Log::open(side, self.side_options())?.0),
        };
        let state = dir.read_state()?.and_then(|bytes| match TopicState::decode(&bytes) {
            Ok(state) => Some(state),
            Err(error) => {
                warn!(topic = %name, %error, "damaged topic state skipped; it is not paused");
                None
            }
        });
        let mut channels = Vec::new();
        for channel in dir.channels()? {
            let Ok(channel) = ChannelName::new(&channel) else {
                warn!(topic = %name, name = channel, "file with an invalid channel name skipped");
                continue;
            };
            let bytes = dir.read_channel(&channel)?.unwrap_or_default();
            let checkpoint = match ChannelCheckpoint::decode(&bytes) {
                Ok(checkpoint) => Some(checkpoint),
                Err(error) => {
                    warn!(
                        topic = %name, %channel, %error,
                        "damaged channel checkpoint skipped; its messages come again"
                    );
                    None
                }
            };
            channels.push(ChannelFile { name: channel, checkpoint });
        }
        let settings = Arc::clone(&self.settings);
        let now = self.clock.now();
        let core = grapevine_broker::Topic::recover(
            name.clone(),
            log,
            side,
            state,
            channels,
            settings,
            now,
        )?;
        let highest_id = recovery.highest_id.max(core.highest_held_id());
        let topic = Topic::new(name.clone(), core, Some(dir), Arc::clone(self));
        Ok((Arc::new(topic), highest_id))
    }

    /// The topic, created if it is not there.
    ///
    /// A new topic has every channel the cluster knows for it before its first message; for that it
    /// waits for the first answer of the cluster, `--init-grace` at most, and asks the stock
    /// nsqlookupds it is registered with, for as long as `-http-client-request-timeout` allows.
    ///
    /// # Errors
    ///
    /// [`PublishError::Exiting`] while the node stops; [`PublishError::Disk`] if its directory
    /// cannot be made.
    pub async fn topic(self: &Arc<Self>, name: &TopicName) -> Result<Arc<Topic>, PublishError> {
        if let Some(topic) = self.existing_topic(name) {
            return Ok(topic);
        }
        self.cluster.first_sync(self.options.init_grace).await;
        let channels = self.cluster.channels_at_lookupds(name).await;
        self.create_topic(name, channels)
    }

    fn create_topic(
        self: &Arc<Self>,
        name: &TopicName,
        mut channels: BTreeSet<ChannelName>,
    ) -> Result<Arc<Topic>, PublishError> {
        let creation = self.creation.lock();
        if let Some(topic) = self.existing_topic(name) {
            return Ok(topic);
        }
        if self.is_exiting.load(Ordering::Acquire) {
            return Err(PublishError::Exiting);
        }
        let dir = (!name.is_ephemeral()).then(|| self.data_path.topic_dir(name));
        if let Some(dir) = &dir {
            dir.create(self.is_fsync)?;
        }
        let disk = match &dir {
            Some(dir) => dir.disk(),
            // Never touched: the log of an ephemeral topic stays in memory.
            None => DirDisk::new(""),
        };
        let (log, _) = Log::open(disk, self.log_options(name))?;
        let core = grapevine_broker::Topic::new(name.clone(), log, Arc::clone(&self.settings));
        let topic = Arc::new(Topic::new(name.clone(), core, dir, Arc::clone(self)));
        topic.save();
        info!(topic = %name, "topic created");
        self.cluster.topic_created(name);
        let known = self.cluster.channels_for_new_topic(name);
        channels.extend(known.iter().filter_map(|channel| ChannelName::new(channel).ok()));
        for channel in &channels {
            topic.create_channel(channel);
        }
        self.topics.insert(name.clone(), Arc::clone(&topic));
        drop(creation);
        Ok(topic)
    }

    /// The topic, if it is there.
    pub fn existing_topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.get(name).map(|topic| Arc::clone(&topic))
    }

    /// Every topic, sorted by name.
    pub fn all_topics(&self) -> Vec<Arc<Topic>> {
        let mut topics: Vec<_> = self.topics.iter().map(|topic| Arc::clone(&topic)).collect();
        topics.sort_unstable_by(|a, b| a.name().cmp(b.name()));
        topics
    }

    /// Deletes a topic with its channels and messages; `false` if there is none.
    pub fn delete_topic(&self, name: &str) -> bool {
        self.delete_topic_if(name, |_| true)
    }

    fn delete_topic_if(&self, name: &str, wants: impl FnOnce(&Arc<Topic>) -> bool) -> bool {
        let creation = self.creation.lock();
        let Some((name, topic)) = self.topics.remove_if(name, |_, topic| wants(topic)) else {
            return false;
        };
        topic.delete();
        info!(topic = %name, "topic deleted");
        // Before anybody can create it again, or the others would forget the new one.
        self.cluster.topic_deleted(&name);
        drop(creation);
        true
    }

    /// An ephemeral topic lost its last channel.
    pub(crate) fn ended(&self, topic: &Arc<Topic>) {
        self.delete_topic_if(topic.name(), |now| Arc::ptr_eq(now, topic));
    }

    /// Every connected client, sorted by id.
    pub fn all_clients(&self) -> Vec<Arc<Client>> {
        let mut clients: Vec<_> = self.clients.iter().map(|client| Arc::clone(&client)).collect();
        clients.sort_unstable_by_key(|client| client.id);
        clients
    }

    pub(crate) fn add_client(&self, client: &Arc<Client>) {
        self.clients.insert(client.id, Arc::clone(client));
    }

    pub(crate) fn remove_client(&self, id: ConsumerId) {
        self.clients.remove(&id);
    }

    /// Refuses new topics, publishes and subscriptions, and closes every client.
    pub(crate) fn exit(&self) {
        self.is_exiting.store(true, Ordering::Release);
        drop(self.creation.lock());
        for client in self.all_clients() {
            grapevine_broker::Signal::close(&*client.wake);
        }
        for topic in self.all_topics() {
            topic.exit();
        }
    }

    /// Writes everything; the node ends after this.
    pub(crate) fn save_all(&self) {
        for topic in self.all_topics() {
            topic.save_all();
        }
        if let Err(error) = self.save_ids() {
            error!(%error, "cannot store the message id mark");
        }
    }

    /// Remembers which message ids were given out.
    pub(crate) fn save_ids(&self) -> std::io::Result<()> {
        let mark = self.ids.mark().to_string();
        self.data_path.replace_file(IDS_FILE, mark.as_bytes(), self.is_fsync)
    }
}

/// Holds the mark below which message ids were given out, as a decimal number.
pub(crate) const IDS_FILE: &str = "message-ids";

/// The directory of a topic's side log; `~` is in no channel's name.
pub(crate) const SIDE_LOG: &str = "~";

/// Bytes of message data the node keeps in memory: recent messages and read-ahead of all topics.
const CACHE_BYTES_MAX: u64 = 32 * 1024 * 1024;

fn report(topic: &TopicName, recovery: &grapevine_storage::Recovery) {
    if recovery.torn_bytes > 0 {
        let bytes = recovery.torn_bytes;
        warn!(%topic, bytes, "unfinished write at the end of the log cut off");
    }
    report_damage(topic, &recovery.damaged);
}

pub(crate) fn report_damage(topic: &TopicName, damaged: &[grapevine_storage::Damage]) {
    for damage in damaged {
        warn!(
            %topic,
            segment = damage.segment,
            offset = damage.offset,
            bytes = damage.bytes,
            messages = damage.messages,
            reason = damage.reason,
            "damaged part of the log skipped"
        );
    }
}
