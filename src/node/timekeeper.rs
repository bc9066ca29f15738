//! One timer for all topics: it makes ready what timed out or was deferred.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use grapevine_protocol::Moment;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::debug;

use super::clock::Clock;
use super::topic::Topic;

/// Which topic must be looked at when.
///
/// A topic is noted once for its earliest deadline; notes that come too early cost one look.
#[derive(Default)]
pub struct Timekeeper {
    due: Mutex<BTreeMap<(Moment, u64), Weak<Topic>>>,
    changed: Notify,
}

impl Timekeeper {
    /// Has `topic` looked at when `due` has passed.
    pub fn schedule(&self, due: Moment, topic: &Arc<Topic>) {
        let is_first = {
            let mut all = self.due.lock();
            all.insert((due, topic.number()), Arc::downgrade(topic));
            all.first_key_value().is_some_and(|(key, _)| *key == (due, topic.number()))
        };
        if is_first {
            self.changed.notify_one();
        }
    }

    fn earliest(&self) -> Option<Moment> {
        self.due.lock().first_key_value().map(|((due, _), _)| *due)
    }

    fn take_due(&self, now: Moment) -> Option<Weak<Topic>> {
        let mut all = self.due.lock();
        let first = all.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// Runs for ever.
    pub async fn run(self: Arc<Self>, clock: Clock) {
        loop {
            while let Some(topic) = self.take_due(clock.moment()) {
                if let Some(topic) = topic.upgrade() {
                    debug!(topic = %topic.name(), "deadlines looked at");
                    topic.expire();
                }
            }
            match self.earliest() {
                Some(due) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(clock.instant(due)) => {}
                        () = self.changed.notified() => {}
                    }
                }
                None => self.changed.notified().await,
            }
        }
    }
}
