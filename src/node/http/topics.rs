//! `/topic/*` and `/channel/*`: creating, deleting, emptying, pausing.
//!
//! Topic endpoints say `INVALID_TOPIC` where channel endpoints say `INVALID_ARG_TOPIC`, and those
//! that act on an existing topic do not check its name; both as in nsqd/http.go (nsq 3103474b).

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use grapevine_admin::lookup::topic_and_channel;
use grapevine_admin::{ApiError, Query, empty};
use grapevine_protocol::{ChannelName, TopicName};
use tracing::error;

use crate::node::{Node, Topic};

type Outcome = Result<Response, ApiError>;

const TOPIC_NOT_FOUND: ApiError = ApiError::not_found("TOPIC_NOT_FOUND");
const CHANNEL_NOT_FOUND: ApiError = ApiError::not_found("CHANNEL_NOT_FOUND");

pub(super) async fn create_topic(State(node): State<Arc<Node>>, query: Query) -> Outcome {
    let name = topic_name(&query)?;
    if let Err(error) = node.registry.topic(&name).await {
        error!(topic = %name, %error, "cannot create topic");
        return Err(ApiError::INTERNAL_ERROR);
    }
    Ok(empty())
}

pub(super) async fn delete_topic(State(node): State<Arc<Node>>, query: Query) -> Outcome {
    let name = query.require("topic", "MISSING_ARG_TOPIC")?;
    if node.registry.delete_topic(name) { Ok(empty()) } else { Err(TOPIC_NOT_FOUND) }
}

pub(super) async fn empty_topic(State(node): State<Arc<Node>>, query: Query) -> Outcome {
    let name = topic_name(&query)?;
    existing_topic(&node, &name)?.empty();
    Ok(empty())
}

pub(super) async fn pause_topic(State(node): State<Arc<Node>>, query: Query) -> Outcome {
    set_topic_paused(&node, &query, true)
}

pub(super) async fn unpause_topic(State(node): State<Arc<Node>>, query: Query) -> Outcome {
    set_topic_paused(&node, &query, false)
}

pub(super) async fn create_channel(State(node): State<Arc<Node>>, query: Query) -> Outcome {
    let (topic, channel) = topic_of_channel(&node, &query)?;
    topic.create_channel(&channel);
    Ok(empty())
}

pub(super) async fn delete_channel(State(node): State<Arc<Node>>, query: Query) -> Outcome {
    on_channel(&node, &query, |topic, channel| topic.delete_channel(channel))
}

pub(super) async fn empty_channel(State(node): State<Arc<Node>>, query: Query) -> Outcome {
    on_channel(&node, &query, |topic, channel| topic.empty_channel(channel))
}

pub(super) async fn pause_channel(State(node): State<Arc<Node>>, query: Query) -> Outcome {
    on_channel(&node, &query, |topic, channel| topic.set_channel_paused(channel, true))
}

pub(super) async fn unpause_channel(State(node): State<Arc<Node>>, query: Query) -> Outcome {
    on_channel(&node, &query, |topic, channel| topic.set_channel_paused(channel, false))
}

/// `topic`, checked as publishing and the topic endpoints do.
///
/// # Errors
///
/// `MISSING_ARG_TOPIC`, `INVALID_TOPIC`.
pub(super) fn topic_name(query: &Query) -> Result<TopicName, ApiError> {
    let topic = query.require("topic", "MISSING_ARG_TOPIC")?;
    TopicName::new(topic).map_err(|_| ApiError::bad_request("INVALID_TOPIC"))
}

fn existing_topic(node: &Node, name: &str) -> Result<Arc<Topic>, ApiError> {
    node.registry.existing_topic(name).ok_or(TOPIC_NOT_FOUND)
}

fn set_topic_paused(node: &Node, query: &Query, is_paused: bool) -> Outcome {
    let name = query.require("topic", "MISSING_ARG_TOPIC")?;
    existing_topic(node, name)?.set_paused(is_paused);
    Ok(empty())
}

fn topic_of_channel(node: &Node, query: &Query) -> Result<(Arc<Topic>, ChannelName), ApiError> {
    let (topic, channel) = topic_and_channel(query)?;
    Ok((existing_topic(node, &topic)?, channel))
}

/// Does something to an existing channel; `act` returns whether there is one.
fn on_channel(
    node: &Node,
    query: &Query,
    act: impl FnOnce(&Arc<Topic>, &ChannelName) -> bool,
) -> Outcome {
    let (topic, channel) = topic_of_channel(node, query)?;
    if act(&topic, &channel) { Ok(empty()) } else { Err(CHANNEL_NOT_FOUND) }
}
