//! The JSON documents of nsqd and nsqlookupd, key for key in their order (http-api, sections 2, 3,
//! 5).
//!
//! Written with [`go_json`](crate::go_json); read back by the tools and the cluster view, where a
//! missing field is its default, as it is to Go.

mod lookup;
mod metadata;
mod stats;
mod stats_text;

pub use lookup::{
    ChannelsDocument, DebugProducer, LookupDocument, NEVER_TOMBSTONED, NodeProducer, NodesDocument,
    Producer, TopicsDocument, VersionDocument,
};
pub use metadata::{ChannelMetadata, MetadataDocument, TopicMetadata};
pub use stats::{
    ChannelStats, ClientStats, E2eLatency, InfoDocument, MemoryStats, Percentile, PubCount,
    StatsDocument, TopicStats,
};
pub use stats_text::{StatsTextHead, stats_text};

use serde::Serialize;

/// The answer to a refused HTTP request.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ErrorDocument<'a> {
    /// The code, such as `MISSING_ARG_TOPIC`.
    pub message: &'a str,
}
