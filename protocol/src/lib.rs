//! The words every part of Grapevine speaks: names, commands, frames, IDENTIFY and JSON documents.
//!
//! No I/O, no clock, no randomness. Facts are those of NSQ 1.3.0.

mod auth;
mod command;
mod decoder;
pub mod documents;
mod duration;
mod error;
pub mod frame;
mod go_json;
mod identify;
mod lookup_command;
mod message_id;
mod moment;
mod mpub;
mod name;
pub mod request;

pub use auth::{AuthAnswer, AuthGrant, Authorization, auth_response};
pub use command::{ClientState, Command, Gate, Limits};
pub use decoder::{Decoded, Decoder, LINE_BYTES_MAX};
pub use duration::{DurationError, go_duration, parse_go_duration};
pub use error::{ClientError, Code, Verb, go_quote};
pub use go_json::go_json;
pub use identify::{ClientSettings, Identify, Negotiated, ServerSettings, negotiate};
pub use lookup_command::{
    LOOKUP_BODY_BYTES_MAX, LOOKUP_LINE_BYTES_MAX, LookupCommand, LookupDecoded, LookupIdentity,
    MAGIC_V1, PeerInfo, decode_lookup, decode_lookup_response, lookup_response,
};
pub use message_id::{MESSAGE_ID_LEN, MessageId};
pub use moment::Moment;
pub use mpub::{Messages, parse_mpub, split_mpub_lines};
pub use name::{ChannelName, InvalidName, NAME_BYTES_MAX, TopicName, is_valid_name};

/// The version every NSQ client, tool and nsqadmin sees.
///
/// Clients compare it as semantic version, so it starts with the NSQ release whose behaviour this
/// is.
pub const VERSION: &str = concat!("1.3.0+grapevine.", env!("CARGO_PKG_VERSION"));
