//! What the tests share: server processes, raw clients, a tiny HTTP client, waiting.
//!
//! `GRAPEVINE_TEST_SERVER` replaces the program under test, e.g. by the path of a stock nsqd, to
//! check the helpers and the wire tests themselves against the reference.

mod auth_server;
mod certificates;
mod client;
mod cluster;
mod http;
mod lookupd;
mod node;
pub(crate) mod nsqd_files;
mod ports;
mod stock;
mod wait;

pub(crate) use auth_server::AuthServer;
pub(crate) use certificates::Certificates;
pub(crate) use client::{Frame, RawClient, message_body_of, mpub_body};
pub(crate) use cluster::Cluster;
pub(crate) use http::{Response, get, post, request};
pub(crate) use lookupd::{FakeLookupd, Manner};
pub(crate) use node::{Nsqd, Outcome, is_reference, refusal, run_to_exit, server_command};
pub(crate) use stock::{Stock, stock_program};
pub(crate) use wait::{eventually, eventually_ok, for_a_while, put_pipe};
