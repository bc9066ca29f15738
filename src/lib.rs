//! Grapevine: NSQ without the lookup tier.
//!
//! The program is [`cli`]; the library exists so that tests and tools can use its parts.

mod auth;
pub mod cli;
pub mod config;
pub mod import;
pub mod node;
