//! The broker core: what happens to a message between `PUB` and `FIN`.
//!
//! Pure state machines. Time, ids and randomness are arguments, the disk is a trait; nothing here
//! awaits, reads a clock or starts a task, so the simulator drives the very same code.
//! Start reading at [`Topic`].

mod channel;
mod checkpoint;
#[cfg(test)]
mod choice_tests;
mod consumer;
mod deliver;
#[cfg(test)]
mod edge_tests;
mod ids;
mod in_flight;
mod latency;
#[cfg(test)]
mod model_tests;
mod recovery;
mod relocate;
mod stats;
mod subscription;
mod topic;

pub use channel::Channel;
pub use checkpoint::{Checkpoint, Forgotten};
pub use consumer::{ConsumerId, ConsumerSettings, Locality, Signal};
pub use deliver::{Delivery, PullLimits, Pulled};
pub use ids::IdSource;
pub use in_flight::Unanswered;
pub use recovery::ChannelFile;
pub use stats::{ChannelStats, ConsumerStats, TopicStats};
pub use subscription::{SubscribeError, Unsubscribed};
pub use topic::{Deleted, Now, PublishError, Settings, Topic, Wakes};
