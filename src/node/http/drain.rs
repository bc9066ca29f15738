//! `/drain` and `/undrain`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use grapevine_admin::{ApiError, Query, json};
use serde::Serialize;

use crate::node::Node;

/// How far a drain is.
#[derive(Debug, Serialize)]
struct DrainDocument {
    draining: bool,
    exit_when_empty: bool,
    unfinished: u64,
    left: Vec<Left>,
}

/// Something that is not empty; without a channel, messages that no channel has got yet.
#[derive(Debug, Serialize)]
struct Left {
    topic: String,
    channel: Option<String>,
    messages: u64,
}

/// `GET /drain`: whether the node drains, and what is left.
pub(super) async fn show(State(node): State<Arc<Node>>) -> Response {
    document(&node)
}

/// `POST /drain?exit_when_empty=true`; without the parameter that stays as it is.
pub(super) async fn begin(
    State(node): State<Arc<Node>>,
    query: Query,
) -> Result<Response, ApiError> {
    let exits_when_empty = match query.first("exit_when_empty") {
        None => None,
        Some("false" | "0") => Some(false),
        Some("true" | "1" | "") => Some(true),
        Some(_) => return Err(ApiError::bad_request("INVALID_EXIT_WHEN_EMPTY")),
    };
    node.registry.begin_drain(exits_when_empty);
    Ok(document(&node))
}

/// `DELETE /drain`, `POST /undrain`.
pub(super) async fn end(State(node): State<Arc<Node>>) -> Response {
    node.registry.end_drain();
    document(&node)
}

fn document(node: &Node) -> Response {
    let registry = &node.registry;
    // Before the looking: then what is said to be left can only become less.
    let draining = registry.drain.is_on();
    let left: Vec<Left> = registry
        .unfinished()
        .into_iter()
        .map(|left| Left { topic: left.topic, channel: left.channel, messages: left.messages })
        .collect();
    json(&DrainDocument {
        draining,
        exit_when_empty: registry.drain.exits_when_empty(),
        unfinished: left.iter().map(|left| left.messages).sum(),
        left,
    })
}
