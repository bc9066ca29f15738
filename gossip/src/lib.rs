//! Who is alive and who hosts which topic: SWIM membership and the catalogue.
//!
//! ```text
//! Handle --facts--> cluster::Cluster --Output--> agent (sockets, names, files) --> other nodes
//!                     |  membership   foca, and what it lacks
//!                     |  catalogue    one section for each owner, written by it alone
//!                     |  spread       rumours: fast, may be lost
//!                     |  repair       digests: slow, miss nothing
//!                     v  streams      joining, whole views, large differences
//!                 LookupView  <--reads-- HTTP, lookup TCP, first messages of new topics
//! ```
//!
//! Everything below the sockets ([`cluster::Cluster`]) is one machine without I/O, clock or
//! randomness of its own; [`agent`] drives it, and so does the simulator. Start reading at
//! [`section`], whose rules everything else rests on.
//!
//! What always holds:
//!
//! - Only an owner writes its section. Nothing another node says changes it, except a
//!   [`wish::Wish`], which the owner carries out itself.
//! - Versions only grow; a start of the process is a new epoch, on disk before it is shown.
//! - Being down is not being deleted: a member that is down is hidden, its section is kept for ten
//!   minutes. One that left is forgotten at once.
//! - Rumours are hints; digests are the truth.

#[macro_use]
pub mod coverage;
#[macro_use]
pub mod mutant;

#[cfg(feature = "agent")]
#[allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "the shell")]
pub mod agent;
pub mod audit;
pub mod catalogue;
pub mod cluster;
pub mod codec;
pub mod config;
pub mod envelope;
pub mod framing;
pub mod identity;
mod keyed;
pub mod membership;
pub mod message;
mod name;
pub mod node_map;
pub mod producer;
pub mod registrar;
pub mod repair;
pub mod section;
pub mod spread;
#[allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "read by other threads, outside the core"
)]
pub mod view;
pub mod wish;

use codec::{BorrowDecode, Encode};

#[cfg(feature = "agent")]
pub use agent::Handle;
pub use producer::Producer;
pub use section::ProducerId;
pub use view::{Lookup, LookupView, NodeEntry, Registration};

/// A node, for as long as its data directory lives: random, kept in `node.id`.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Encode, BorrowDecode,
)]
pub struct NodeId(pub u64);

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
