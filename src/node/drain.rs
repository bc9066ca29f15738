//! Emptying a node: it takes nothing new and gives away what it has.
//!
//! A drain lasts until somebody ends it or, if that was asked for, until nothing is left and the
//! node exits. It survives restarts: a supervisor that restarts a crashed node must not undo what
//! its operator decided.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use grapevine_storage::DataPath;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::registry::Registry;

/// Why a publish is refused, after `E_PUB_FAILED PUB failed`.
pub(crate) const REFUSAL: &str = "draining: this node takes no new messages";

/// Pause between two looks at what is left.
const ROUND: Duration = Duration::from_millis(500);

/// Looks in a row that must find nothing. One look passes topic after topic, and a drain that is
/// undone and begun again meanwhile may have let something in behind it.
const EMPTY_ROUNDS: u32 = 2;

/// Says that the node drains; removed, that is emptied, with the drain.
const FILE: &str = "drain";

/// Its content if the node should exit at the end.
const EXIT_WHEN_EMPTY: &str = "exit-when-empty";

/// Its content otherwise.
const STAY: &str = "stay";

/// Whether the node drains, and to which end.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    is_on: AtomicBool,
    exits_when_empty: AtomicBool,
    /// Held while it begins or ends, so that what is remembered is what holds.
    changing: Mutex<()>,
    changed: Notify,
}

impl Drain {
    /// Whether publishes are refused.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    /// Whether the node ends when it is empty.
    pub(crate) fn exits_when_empty(&self) -> bool {
        self.exits_when_empty.load(Ordering::Acquire)
    }
}

/// Messages of a channel, or of a topic that no channel has got yet, that are not finished.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Unfinished {
    /// The topic.
    pub(crate) topic: String,
    /// The channel; `None` for messages that wait for one, or for a paused topic.
    pub(crate) channel: Option<String>,
    /// Waiting, deferred or with a consumer.
    pub(crate) messages: u64,
}

impl Registry {
    /// Refuses publishes from now on, and tells the cluster. Whether the node exits in the end
    /// stays as it is if that is left open; at first it does not.
    pub(crate) fn begin_drain(&self, exits_when_empty: Option<bool>) {
        let changing = self.drain.changing.lock();
        let exits_when_empty = exits_when_empty.unwrap_or(self.drain.exits_when_empty());
        let content = if exits_when_empty { EXIT_WHEN_EMPTY } else { STAY };
        self.remember_drain(content);
        self.set_drain(true, exits_when_empty);
        drop(changing);
        info!(exit_when_empty = exits_when_empty, "draining; publishes are refused");
    }

    /// Takes publishes again.
    pub(crate) fn end_drain(&self) {
        let _changing = self.drain.changing.lock();
        self.remember_drain("");
        if self.drain.is_on() {
            self.set_drain(false, false);
            info!("no longer draining");
        }
    }

    /// Goes on with a drain that an earlier process began.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub(crate) fn resume_drain(&self) -> io::Result<()> {
        let content = self.data_path().read_file(FILE)?.unwrap_or_default();
        if !content.is_empty() {
            let exits_when_empty = content.trim_ascii() == EXIT_WHEN_EMPTY.as_bytes();
            self.set_drain(true, exits_when_empty);
            info!(exit_when_empty = exits_when_empty, "still draining; publishes are refused");
        }
        Ok(())
    }

    /// What has to be finished before the node is empty, by topic and channel.
    pub(crate) fn unfinished(&self) -> Vec<Unfinished> {
        let mut unfinished = Vec::new();
        for topic in self.all_topics() {
            let stats = topic.stats(&|_| true);
            let name = stats.name.to_string();
            let waiting = (None, stats.depth);
            let channels = stats.channels.into_iter().map(|channel| {
                let messages = channel.depth + channel.in_flight_count + channel.deferred_count;
                (Some(channel.name.to_string()), messages)
            });
            let all = std::iter::once(waiting).chain(channels);
            unfinished.extend(
                all.filter(|(_, messages)| *messages > 0).map(|(channel, messages)| Unfinished {
                    topic: name.clone(),
                    channel,
                    messages,
                }),
            );
        }
        unfinished
    }

    fn set_drain(&self, is_on: bool, exits_when_empty: bool) {
        self.drain.is_on.store(is_on, Ordering::Release);
        self.drain.exits_when_empty.store(exits_when_empty, Ordering::Release);
        self.cluster().handle().set_draining(is_on);
        self.drain.changed.notify_one();
    }

    /// A disk that fails must not keep a node from being drained: it is a reason to.
    fn remember_drain(&self, content: &str) {
        let data_path: &DataPath = self.data_path();
        let is_known = content.is_empty() && matches!(data_path.read_file(FILE), Ok(None));
        if !is_known && let Err(error) = data_path.replace_file(FILE, content.as_bytes(), true) {
            warn!(%error, "a restart will not know whether this node drains");
        }
    }
}

/// Resolves when the node was asked to exit when it is empty, and is.
pub(crate) async fn emptied(registry: Arc<Registry>) {
    let mut empty_rounds = 0;
    while empty_rounds < EMPTY_ROUNDS {
        if !registry.drain.exits_when_empty() {
            empty_rounds = 0;
            registry.drain.changed.notified().await;
            continue;
        }
        let is_empty = registry.unfinished().is_empty();
        empty_rounds = if is_empty { empty_rounds + 1 } else { 0 };
        tokio::time::sleep(ROUND).await;
    }
    // The drain has reached its end: the next start is an ordinary one.
    registry.remember_drain("");
}
