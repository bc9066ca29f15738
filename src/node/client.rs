//! A connected client as `/stats` shows it, and how others reach its connection.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use grapevine_broker::{ConsumerId, Signal};
use grapevine_protocol::{ChannelName, ClientSettings, TopicName};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::upgrade::Layers;
use crate::auth::Permissions;

/// What wakes a connection's task from outside.
#[derive(Debug, Default)]
pub struct Wake {
    notify: Notify,
    is_closed: AtomicBool,
}

impl Wake {
    /// Returns when somebody called [`Signal::wake`] or [`Signal::close`] since the last return.
    pub(crate) async fn wait(&self) {
        self.notify.notified().await;
    }

    /// Whether the connection must end.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }
}

impl Signal for Wake {
    fn wake(&self) {
        self.notify.notify_one();
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.notify.notify_one();
    }
}

/// One connection, from its magic to its end. Only its own task writes; `/stats` reads.
#[derive(Debug)]
pub struct Client {
    /// Unique within the process.
    pub id: ConsumerId,
    /// `ip:port`, or `@` for a unix socket.
    pub remote_address: String,
    /// Unix seconds.
    pub connect_ts: i64,
    /// Wakes and closes its task.
    pub wake: Arc<Wake>,
    state: AtomicU8,
    settings: Mutex<Arc<ClientSettings>>,
    layers: Mutex<Layers>,
    subscription: Mutex<Option<(TopicName, ChannelName)>>,
    published: Mutex<BTreeMap<TopicName, u64>>,
    permissions: Mutex<Option<Arc<Permissions>>>,
}

impl Client {
    pub(crate) fn new(
        id: ConsumerId,
        remote_address: String,
        connect_ts: i64,
        settings: ClientSettings,
    ) -> Self {
        Self {
            id,
            remote_address,
            connect_ts,
            wake: Arc::default(),
            state: AtomicU8::new(0),
            settings: Mutex::new(Arc::new(settings)),
            layers: Mutex::default(),
            subscription: Mutex::new(None),
            published: Mutex::new(BTreeMap::new()),
            permissions: Mutex::new(None),
        }
    }

    /// nsqd's number of the state: 0 init, 3 subscribed, 4 closing.
    pub fn state(&self) -> u8 {
        self.state.load(Ordering::Relaxed)
    }

    pub(crate) fn set_state(&self, state: u8) {
        self.state.store(state, Ordering::Relaxed);
    }

    /// What was negotiated.
    pub fn settings(&self) -> Arc<ClientSettings> {
        Arc::clone(&self.settings.lock())
    }

    pub(crate) fn set_settings(&self, settings: ClientSettings) {
        *self.settings.lock() = Arc::new(settings);
    }

    /// TLS and compression.
    pub fn layers(&self) -> Layers {
        self.layers.lock().clone()
    }

    pub(crate) fn change_layers(&self, change: impl FnOnce(&mut Layers)) {
        change(&mut self.layers.lock());
    }

    /// Where it is subscribed.
    pub fn subscription(&self) -> Option<(TopicName, ChannelName)> {
        self.subscription.lock().clone()
    }

    pub(crate) fn set_subscription(&self, topic: TopicName, channel: ChannelName) {
        *self.subscription.lock() = Some((topic, channel));
    }

    /// What AUTH granted; `None` before it.
    pub(crate) fn permissions(&self) -> Option<Arc<Permissions>> {
        self.permissions.lock().clone()
    }

    pub(crate) fn set_permissions(&self, permissions: &Arc<Permissions>) {
        *self.permissions.lock() = Some(Arc::clone(permissions));
    }

    /// Messages published per topic.
    pub fn published(&self) -> BTreeMap<TopicName, u64> {
        self.published.lock().clone()
    }

    pub(crate) fn count_published(&self, topic: &TopicName, count: u64) {
        let mut published = self.published.lock();
        match published.get_mut(topic) {
            Some(before) => *before += count,
            None => {
                published.insert(topic.clone(), count);
            }
        }
    }
}
