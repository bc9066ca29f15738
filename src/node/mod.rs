//! The node: sockets, clocks and tasks around the cores, their start and their ordered end.

mod auth;
mod client;
mod clock;
mod cluster;
mod connection;
mod drain;
mod figures;
mod health;
mod http;
pub(crate) mod http_client;
mod listener;
mod lookup_tcp;
mod lookupd;
mod registry;
mod session;
mod start;
mod statsd;
mod storekeeper;
mod timekeeper;
mod topic;
mod transport;
mod upgrade;

pub use client::{Client, Wake};
pub use clock::{Clock, wall_ns};
pub use cluster::ClusterLink;
pub use health::Health;
pub use listener::Listener;
pub use lookupd::Lookupds;
pub(crate) use registry::IDS_FILE;
pub use registry::{Registry, RegistryOptions};
pub use start::{Node, StartError, run};
pub use timekeeper::Timekeeper;
pub use topic::{StoreError, Topic};
pub use upgrade::{Layers, TlsFacts};
