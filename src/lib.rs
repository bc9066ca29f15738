//! Grapevine.

pub mod config;
pub mod node;
