//! The words every part of Grapevine speaks: names, commands, frames, IDENTIFY and JSON documents.
//!
//! No I/O, no clock, no randomness. Facts are those of NSQ 1.3.0.

mod moment;
mod name;

pub use moment::Moment;
pub use name::{ChannelName, InvalidName, NAME_BYTES_MAX, TopicName, is_valid_name};
