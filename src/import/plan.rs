//! Which topics and channels there will be, and which queue is whose.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use grapevine_protocol::documents::MetadataDocument;
use grapevine_protocol::{ChannelName, TopicName};
use tracing::warn;

use super::disk_queue::DiskQueue;
use super::error::ImportError;
use super::files::Found;

/// A topic to be taken over.
#[derive(Debug, Default)]
pub(super) struct TopicPlan {
    /// Whether messages are kept from the channels.
    pub(super) is_paused: bool,
    /// Its own queue: what its channels have not been given yet.
    pub(super) queue: DiskQueue,
    /// Its channels.
    pub(super) channels: BTreeMap<ChannelName, ChannelPlan>,
}

/// A channel to be taken over.
#[derive(Debug, Default)]
pub(super) struct ChannelPlan {
    /// Whether deliveries are stopped.
    pub(super) is_paused: bool,
    /// Its queue.
    pub(super) queue: DiskQueue,
}

/// Every topic to be taken over, by name.
pub(super) type Plan = BTreeMap<TopicName, TopicPlan>;

/// Reads `nsqd.dat` and puts each queue where it belongs. What is left out is logged.
///
/// # Errors
///
/// If `nsqd.dat` cannot be read or is not what nsqd writes.
pub(super) fn plan(found: &mut Found) -> Result<Plan, ImportError> {
    let mut plan = Plan::new();
    if let Some(path) = &found.metadata {
        add_metadata(&mut plan, read_metadata(path)?);
    }
    for (path, reason) in &found.rest {
        warn!(file = %path.display(), reason, "file of nsqd not read");
    }
    for (_, queue) in std::mem::take(&mut found.queues) {
        add_queue(&mut plan, queue);
    }
    Ok(plan)
}

fn read_metadata(path: &Path) -> Result<MetadataDocument, ImportError> {
    let bytes = fs::metadata(path).map_err(ImportError::at(path))?.len();
    let refused = |reason| ImportError::Metadata { path: path.to_owned(), reason };
    if bytes > METADATA_BYTES_MAX {
        return Err(refused(format!("{bytes} bytes, more than {METADATA_BYTES_MAX}")));
    }
    let json = fs::read(path).map_err(ImportError::at(path))?;
    MetadataDocument::from_json(&json).map_err(|error| refused(error.to_string()))
}

fn add_metadata(plan: &mut Plan, document: MetadataDocument) {
    for topic in document.topics {
        let name = match TopicName::new(&topic.name) {
            Ok(name) if !name.is_ephemeral() => name,
            Ok(_) | Err(_) => {
                warn!(topic = topic.name, "ephemeral or invalid topic of nsqd.dat skipped");
                continue;
            }
        };
        let planned = plan.entry(name.clone()).or_default();
        planned.is_paused |= topic.paused;
        for channel in topic.channels {
            match ChannelName::new(&channel.name) {
                Ok(channel_name) if !channel_name.is_ephemeral() => {
                    let planned = planned.channels.entry(channel_name).or_default();
                    planned.is_paused |= channel.paused;
                }
                Ok(_) | Err(_) => {
                    warn!(
                        topic = %name,
                        channel = channel.name,
                        "ephemeral or invalid channel of nsqd.dat skipped"
                    );
                }
            }
        }
    }
}

/// Gives a queue to its topic or channel. nsqd leaves one alone that it does not know, and takes it
/// up when the topic or channel is made again; here it would never be found again.
fn add_queue(plan: &mut Plan, queue: DiskQueue) {
    let skipped = |reason: &str| {
        let messages = if queue.has_unread() { "some" } else { "none" };
        warn!(queue = queue.name, messages, reason, "queue of nsqd not taken over");
    };
    let (topic, channel) = match queue.name.split_once(':') {
        Some((topic, channel)) => (TopicName::new(topic), Some(ChannelName::new(channel))),
        None => (TopicName::new(&queue.name), None),
    };
    let (Ok(topic), Ok(channel)) = (topic, channel.transpose()) else {
        return skipped("not a valid name");
    };
    if topic.is_ephemeral() || channel.as_ref().is_some_and(ChannelName::is_ephemeral) {
        return skipped("ephemeral");
    }
    let known = plan.get(&topic);
    let is_known = match &channel {
        Some(channel) => known.is_some_and(|topic| topic.channels.contains_key(channel)),
        None => known.is_some(),
    };
    if !is_known {
        if !queue.has_unread() {
            return;
        }
        warn!(queue = queue.name, "queue is not in nsqd.dat; taken over all the same");
    }
    let planned = plan.entry(topic).or_default();
    match channel {
        Some(channel) => planned.channels.entry(channel).or_default().queue = queue,
        None => planned.queue = queue,
    }
}

/// A million topics with channels are 100 MB.
const METADATA_BYTES_MAX: u64 = 256 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::files::scan;
    use crate::import::nsqd_files::{QueueMessage, write_data, write_meta};

    #[test]
    fn queues_go_to_their_topics_and_channels_whether_or_not_nsqd_dat_knows_them() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        fs::write(
            dir.join("nsqd.dat"),
            br#"{"topics":[{"name":"t","paused":true,"channels":[{"name":"c","paused":true},
                {"name":"e#ephemeral"},{"name":"b/d"}]},{"name":"no$"},{"name":"e#ephemeral"},
                {"name":"t","channels":[{"name":"d"}]}],"version":"1.3.0"}"#,
        )
        .unwrap();
        let message = [QueueMessage::new(1, "m")];
        let queues = ["t", "t:c", "t:orphan", "orphan:c", "e#ephemeral:c", "t:e#ephemeral", "b d"];
        for queue in queues {
            write_data(dir, queue, 0, &message);
        }
        write_meta(dir, "t:drained", "0\n3,0\n3,0\n");
        write_meta(dir, "drained", "0\n3,0\n3,0\n");

        let plan = plan(&mut scan(dir).unwrap()).unwrap();
        let topics: Vec<(&str, bool, usize)> = plan
            .iter()
            .map(|(name, topic)| (&**name, topic.is_paused, topic.queue.files.len()))
            .collect();
        assert_eq!(topics, [("orphan", false, 0), ("t", true, 1)]);
        let channels: Vec<(&str, bool, usize)> = plan["t"]
            .channels
            .iter()
            .map(|(name, channel)| (&**name, channel.is_paused, channel.queue.files.len()))
            .collect();
        assert_eq!(channels, [("c", true, 1), ("d", false, 0), ("orphan", false, 1)]);
        assert_eq!(plan["orphan"].channels.len(), 1);
    }
}
