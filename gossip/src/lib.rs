//! Who is alive and who hosts which topic: SWIM membership and the catalogue.
//!
//! Everything below the sockets is one machine without I/O; [`agent`] drives it. Readers start at
//! [`LookupView`]; writers at [`agent::Handle`].

pub mod agent;
pub mod catalogue;
pub mod cluster;
pub mod codec;
pub mod config;
pub mod envelope;
pub mod identity;
pub mod membership;
pub mod message;
pub mod producer;
pub mod registrar;
pub mod repair;
pub mod section;
pub mod spread;
pub mod view;
pub mod wish;

use serde::{Deserialize, Serialize};

pub use agent::Handle;
pub use producer::Producer;
pub use section::ProducerId;
pub use view::{Lookup, LookupView, NodeEntry, Registration};

/// A node, for as long as its data directory lives: random, kept in `node.id`.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
pub struct NodeId(pub u64);

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
