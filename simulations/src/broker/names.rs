//! How topics and channels of brokers are called; churn has names of its own.

use grapevine_protocol::{ChannelName, TopicName};

/// Name of topic number `topic`.
pub(crate) fn topic(topic: u32) -> TopicName {
    TopicName::new(format!("m{topic:03}")).expect("letters and digits are a name")
}

/// Name of channel number `channel`.
pub(crate) fn channel(channel: u32) -> ChannelName {
    ChannelName::new(format!("c{channel}")).expect("letters and digits are a name")
}

/// The number of a channel.
pub(crate) fn channel_number(name: &str) -> Option<u32> {
    name.strip_prefix('c')?.parse().ok()
}
