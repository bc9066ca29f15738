//! Waiting for a topic's answer to change.
//!
//! A change wakes those who wait for its topic and nobody else; without waiters it costs one look
//! at a counter. Waiters see that something happened, not what: they look at the view.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::section::Name;
use crate::view::TopicListener;

/// Most waiters at once. Each holds a connection, and half of those a listener serves stay free.
pub const WATCHES_MAX: usize = 4_096;

/// Who waits for which topic.
#[derive(Debug, Default)]
pub(super) struct Watches {
    topics: Mutex<Topics>,
    /// Waiters, of all topics; changed under the lock, read without.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Topics {
    waited_for: BTreeMap<Name, watch::Sender<()>>,
    is_over: bool,
}

impl Watches {
    /// A waiter that sees every change from now on; `None` if there are [`WATCHES_MAX`].
    pub(super) fn watch(self: &Arc<Self>, topic: &str) -> Option<Watch> {
        let mut topics = self.topics.lock();
        if self.count.load(Ordering::Relaxed) >= WATCHES_MAX {
            return None;
        }
        self.count.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let topic = Name::from(topic);
        let receiver = if topics.is_over {
            watch::channel(()).1
        } else {
            let sender = topics.waited_for.entry(Arc::clone(&topic));
            sender.or_insert_with(|| watch::Sender::new(())).subscribe()
        };
        Some(Watch { receiver: Some(receiver), topic, watches: Arc::clone(self) })
    }

    /// How many wait.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The node stops: everybody is told, and nobody waits any more.
    pub(super) fn end(&self) {
        let mut topics = self.topics.lock();
        topics.is_over = true;
        topics.waited_for.clear();
    }
}

impl TopicListener for Watches {
    fn changed(&self, topic: &str) {
        // A waiter registers before it looks at the view, and the view is changed before this: so
        // either it is seen here, or it has seen the change.
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::SeqCst) > 0
            && let Some(sender) = self.topics.lock().waited_for.get(topic)
        {
            sender.send_replace(());
        }
    }
}

/// One waiter for changes of one topic's answer.
#[derive(Debug)]
pub struct Watch {
    /// `None` only while it is being dropped.
    receiver: Option<watch::Receiver<()>>,
    topic: Name,
    watches: Arc<Watches>,
}

impl Watch {
    /// Resolves when the answer may have changed since the last call, or since the watch began.
    /// False: the node stops, and nothing will change any more.
    pub async fn changed(&mut self) -> bool {
        match &mut self.receiver {
            Some(receiver) => receiver.changed().await.is_ok(),
            None => false,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut topics = self.watches.topics.lock();
        self.receiver = None;
        if topics.waited_for.get(&self.topic).is_some_and(|topic| topic.receiver_count() == 0) {
            topics.waited_for.remove(&self.topic);
        }
        self.watches.count.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn is_woken(watch: &mut Watch) -> bool {
        tokio::select! {
            biased;
            _ = watch.changed() => true,
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn a_change_wakes_those_who_wait_for_its_topic_and_nobody_else() {
        let watches = Arc::new(Watches::default());
        let mut waiting: Vec<Watch> = (0..3).filter_map(|_| watches.watch("t")).collect();
        let mut other = watches.watch("other").unwrap();
        watches.changed("t");
        for watch in &mut waiting {
            assert!(is_woken(watch).await);
            assert!(!is_woken(watch).await, "one change wakes once");
        }
        assert!(!is_woken(&mut other).await);
    }

    #[tokio::test]
    async fn a_change_between_looking_and_waiting_is_not_missed() {
        let watches = Arc::new(Watches::default());
        let mut watch = watches.watch("t").unwrap();
        watches.changed("t");
        assert!(is_woken(&mut watch).await);
    }

    #[test]
    fn waiters_beyond_the_maximum_are_refused_and_leave_nothing_behind() {
        let watches = Arc::new(Watches::default());
        let waiting: Vec<Watch> =
            (0..WATCHES_MAX).filter_map(|n| watches.watch(&format!("t{n}"))).collect();
        assert_eq!(waiting.len(), WATCHES_MAX);
        assert!(watches.watch("one more").is_none());
        drop(waiting);
        assert_eq!(watches.count(), 0);
        assert!(watches.topics.lock().waited_for.is_empty());
        assert!(watches.watch("t").is_some());
    }

    #[tokio::test]
    async fn nobody_waits_for_a_node_that_stops() {
        let watches = Arc::new(Watches::default());
        let mut before = watches.watch("t").unwrap();
        watches.end();
        assert!(!before.changed().await);
        assert!(!watches.watch("t").unwrap().changed().await);
    }
}
