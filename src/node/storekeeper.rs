//! The regular work on disk: checkpoints, removal of finished segments, background syncs.

use std::sync::Arc;
use std::time::Duration;

use tracing::error;

use super::registry::Registry;

/// Time between checkpoints: what was finished less than this before a crash comes again.
const ROUND: Duration = Duration::from_secs(1);

/// What must fit on the disk before a node that could not write calls itself well again: room for
/// some messages, not only for a directory entry.
const PROBE_BYTES: usize = 64 * 1024;

/// Shortest time between two background syncs, however many messages come in between.
const SYNC_PERIOD_MIN: Duration = Duration::from_millis(250);

/// Writes checkpoints for ever.
pub(crate) async fn run(registry: Arc<Registry>) {
    let mut saved_ids = registry.ids.high_water();
    loop {
        tokio::time::sleep(ROUND).await;
        let high_water = registry.ids.high_water();
        let has_new_ids = high_water != saved_ids;
        saved_ids = high_water;
        let registry = Arc::clone(&registry);
        let round = tokio::task::spawn_blocking(move || {
            if has_new_ids
                && let Err(error) = registry.save_ids()
                && registry.health.write_failed(&error)
            {
                error!(%error, "cannot store the message id mark");
            }
            for topic in registry.all_topics() {
                topic.round();
            }
            if registry.health.may_be_over() && registry.data_path().probe(PROBE_BYTES).is_ok() {
                registry.health.write_succeeded();
            }
        });
        if let Err(error) = round.await {
            error!(%error, "checkpoint round failed");
        }
    }
}

/// Brings what publishers wrote to the device, at the latest after `--sync-timeout` or
/// `--sync-every` messages of a topic.
pub(crate) async fn run_syncs(registry: Arc<Registry>, sync_timeout: Duration) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(sync_timeout) => {}
            () = registry.sync_wanted.notified() => {}
        }
        let syncing = Arc::clone(&registry);
        let synced = tokio::task::spawn_blocking(move || {
            for topic in syncing.all_topics() {
                topic.sync_now();
            }
        });
        if let Err(error) = synced.await {
            error!(%error, "background sync failed");
        }
        tokio::time::sleep(SYNC_PERIOD_MIN).await;
    }
}
