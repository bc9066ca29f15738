//! HTTP surfaces: the manners every NSQ HTTP server shares, and nsqlookupd's API.
//!
//! [`Routes`] declares which paths exist, [`Api`] answers a request the way Go's NSQ does (what is
//! unknown, redirected, not allowed), [`serve_connection`] speaks HTTP/1 over one byte stream, and
//! [`lookup`] is nsqlookupd's API over anything that knows who produces what. Nothing here accepts
//! connections or spawns tasks; that is the node's shell.

mod answer;
mod body;
pub mod lookup;
mod path;
mod presence;
mod query;
mod routes;
mod serve;
mod sniff;
pub mod watch;

pub use answer::{ApiError, empty, json, plain, text};
pub use body::{BodyError, UNREAD_BODY_BYTES_MAX, content_length, discard, read_body};
pub use query::Query;
pub use routes::{Api, Remote, Routes};
pub use serve::{CONNECTIONS_MAX, HEADER_BYTES_MAX, serve_connection};
