//! The node from outside: wire, HTTP, flags, restarts, cluster and foreign clients.

mod auth;
mod cluster;
mod delivery;
mod demo;
mod differences;
mod drain;
mod flags;
mod http;
mod import;
mod interop;
mod lookupd;
mod nsqadmin;
mod restart;
mod simulate;
mod statsd;
mod stock;
mod support;
mod tidy;
mod upgrade;
mod watch;
mod wire;
