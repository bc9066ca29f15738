//! `/ping` and `/info`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use grapevine_admin::{json, plain};
use grapevine_protocol::VERSION;
use grapevine_protocol::documents::InfoDocument;
use http::StatusCode;
use serde::Serialize;

use crate::node::Node;

/// `OK`, or 500 and why messages cannot be stored.
pub(super) async fn ping(State(node): State<Arc<Node>>) -> Response {
    let health = node.registry.health();
    let status = match health.is_ok() {
        true => StatusCode::OK,
        false => StatusCode::INTERNAL_SERVER_ERROR,
    };
    plain(status, health.text())
}

/// Who this node is and what it allows.
pub(super) async fn info(State(node): State<Arc<Node>>) -> Response {
    let options = &node.options;
    let info = InfoDocument {
        version: VERSION.to_owned(),
        broadcast_address: options.broadcast_address.clone(),
        hostname: node.hostname.clone(),
        http_port: node.http_port.map_or(NO_PORT, i32::from),
        tcp_port: node.tcp_port.map_or(NO_PORT, i32::from),
        start_time: node.start_time,
        max_heartbeat_interval: nanos(options.max_heartbeat_interval),
        max_output_buffer_size: i64::try_from(options.max_output_buffer_size).unwrap_or(i64::MAX),
        max_output_buffer_timeout: nanos(options.max_output_buffer_timeout),
        max_deflate_level: options.max_deflate_level,
        topology_zone: options.topology_zone.clone(),
        topology_region: options.topology_region.clone(),
    };
    json(&WithDrain { document: info, draining: node.registry.drain.is_on() })
}

/// A document of nsqd, and last whether the node takes no new messages.
#[derive(Debug, Serialize)]
pub(super) struct WithDrain<T> {
    #[serde(flatten)]
    pub(super) document: T,
    pub(super) draining: bool,
}

/// nsqd's port of a unix socket.
const NO_PORT: i32 = -1;

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
