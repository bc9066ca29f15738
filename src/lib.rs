//! Grapevine.

pub mod config;
