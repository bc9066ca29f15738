//! `/pub` and `/mpub`.
//!
//! The order in which a request is checked is nsqd's (nsqd/http.go `doPUB`, `doMPUB`, nsq
//! 3103474b): `/pub` reads its body before it looks at the query, `/mpub` after.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use grapevine_admin::{ApiError, BodyError, Query, content_length, discard, read_body, text};
use grapevine_protocol::{parse_mpub, split_mpub_lines};
use grapevine_storage::Batch;
use http::{HeaderValue, StatusCode, header};

use super::topics::topic_name;
use crate::node::{Node, StoreError, Topic, wall_ns};

const MSG_TOO_BIG: ApiError = ApiError::too_large("MSG_TOO_BIG");
const BODY_TOO_BIG: ApiError = ApiError::too_large("BODY_TOO_BIG");
const INVALID_DEFER: ApiError = ApiError::bad_request("INVALID_DEFER");

/// Not stored: the topic or the node is going away, or the disk refuses. nsqd has one code for all.
const EXITING: ApiError = ApiError { status: StatusCode::SERVICE_UNAVAILABLE, code: "EXITING" };

/// Not stored: the node is being emptied.
const DRAINING: ApiError = ApiError { status: StatusCode::SERVICE_UNAVAILABLE, code: "DRAINING" };

/// Bytes a record takes in a batch besides its body, to reserve the right size.
const RECORD_BYTES: usize = 40;

/// `POST /pub`: one message.
pub(super) async fn publish_one(State(node): State<Arc<Node>>, request: Request) -> Response {
    let (parts, mut body) = request.into_parts();
    let outcome = store_one(&node, parts.uri.query(), &mut body).await;
    answer(outcome, body).await
}

/// `POST /mpub`: many messages, one a line or in the binary form of the `MPUB` command.
pub(super) async fn publish_many(State(node): State<Arc<Node>>, request: Request) -> Response {
    let (parts, mut body) = request.into_parts();
    let outcome = store_many(&node, parts.uri.query(), &mut body).await;
    answer(outcome, body).await
}

async fn store_one(node: &Node, query: Option<&str>, body: &mut Body) -> Result<(), ApiError> {
    let bytes_max = node.options.max_msg_size;
    if content_length(body).is_some_and(|length| length > bytes_max) {
        return Err(MSG_TOO_BIG);
    }
    let message = read_body(body, usize::try_from(bytes_max).unwrap_or(usize::MAX)).await;
    let message = message.map_err(|error| match error {
        BodyError::TooLong => MSG_TOO_BIG,
        BodyError::Broken => ApiError::INTERNAL_ERROR,
    })?;
    if message.is_empty() {
        return Err(ApiError::bad_request("MSG_EMPTY"));
    }
    let query = Query::parse(query)?;
    let topic = topic(node, &query).await?;
    let deliver_at = match query.first("defer") {
        Some(defer) => deliver_at(node, defer)?,
        None => 0,
    };
    let mut batch = Batch::with_capacity(message.len() + RECORD_BYTES);
    batch.push(&message, deliver_at);
    topic.publish_durably(&mut batch).await.map_err(|error| refusal(&error))
}

async fn store_many(node: &Node, query: Option<&str>, body: &mut Body) -> Result<(), ApiError> {
    let bytes_max = node.options.max_body_size;
    if content_length(body).is_some_and(|length| length > bytes_max) {
        return Err(BODY_TOO_BIG);
    }
    let query = Query::parse(query)?;
    let topic = topic(node, &query).await?;
    let content = read_body(body, usize::try_from(bytes_max).unwrap_or(usize::MAX)).await;
    let content = content.map_err(|error| match error {
        BodyError::TooLong => BODY_TOO_BIG,
        BodyError::Broken => ApiError::INTERNAL_ERROR,
    })?;
    let is_binary = !matches!(query.first("binary"), None | Some("false" | "0"));
    let mut batch =
        if is_binary { binary_batch(node, &content)? } else { text_batch(node, &content)? };
    if batch.is_empty() {
        return Ok(());
    }
    topic.publish_durably(&mut batch).await.map_err(|error| refusal(&error))
}

/// The content of an `MPUB` without its length; errors are its codes without `E_`, all 413.
fn binary_batch(node: &Node, content: &[u8]) -> Result<Batch, ApiError> {
    let limit = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
    let (msg_max, body_max) = (limit(node.options.max_msg_size), limit(node.options.max_body_size));
    let messages = parse_mpub(content, msg_max, body_max)
        .map_err(|error| ApiError::too_large(error.code.http_message()))?;
    let mut batch = Batch::with_capacity(content.len() + messages.len() * RECORD_BYTES);
    messages.for_each(|message| batch.push(message, 0));
    Ok(batch)
}

/// One message a line; a line that is too long costs the whole request.
fn text_batch(node: &Node, content: &[u8]) -> Result<Batch, ApiError> {
    let mut batch = Batch::with_capacity(content.len() + RECORD_BYTES);
    for line in split_mpub_lines(content) {
        if line.len() as u64 > node.options.max_msg_size {
            return Err(MSG_TOO_BIG);
        }
        batch.push(line, 0);
    }
    Ok(batch)
}

/// The topic of the query, created if it is not there.
async fn topic(node: &Node, query: &Query) -> Result<Arc<Topic>, ApiError> {
    let name = topic_name(query)?;
    if node.registry.drain.is_on() {
        return Err(DRAINING);
    }
    node.registry.topic(&name).await.map_err(|_| EXITING)
}

/// The answer where nothing was stored.
fn refusal(error: &StoreError) -> ApiError {
    match error {
        StoreError::Draining => DRAINING,
        StoreError::Publish(_) => EXITING,
    }
}

/// When a message with `defer` milliseconds is due, in wall-clock nanoseconds; 0 is at once.
fn deliver_at(node: &Node, defer: &str) -> Result<i64, ApiError> {
    let millis_max = node.options.max_req_timeout.as_millis();
    match defer.parse::<i64>() {
        Ok(0) => Ok(0),
        Ok(millis) if u128::try_from(millis).is_ok_and(|millis| millis <= millis_max) => {
            Ok(wall_ns().saturating_add(millis.saturating_mul(1_000_000)))
        }
        Ok(_) | Err(_) => Err(INVALID_DEFER),
    }
}

/// `OK`, or the refusal; a body that was not read to its end may cost the connection.
async fn answer(outcome: Result<(), ApiError>, mut body: Body) -> Response {
    let refusal = match outcome {
        Ok(()) => return text("OK"),
        Err(refusal) => refusal,
    };
    let keeps = discard(&mut body).await;
    let mut response = refusal.into_response();
    if !keeps {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
