//! `/config/<option>`: options while the node runs.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use grapevine_admin::{ApiError, BodyError, discard, json, read_body, text};

use crate::config::{ConfigValue, SetError};
use crate::node::Node;

/// `GET`: the value as text or JSON.
pub(super) async fn show(
    State(node): State<Arc<Node>>,
    Path(option): Path<String>,
) -> Result<Response, ApiError> {
    value(&node, &option)
}

/// `PUT`: changes `log_level` or `nsqlookupd_tcp_addresses`, and answers with the new value.
///
/// Source: `doConfig`, nsqd/http.go (nsq 3103474b), with its limit on the body and its 413.
pub(super) async fn change(
    State(node): State<Arc<Node>>,
    Path(option): Path<String>,
    mut body: Body,
) -> Result<Response, ApiError> {
    let bytes_max = usize::try_from(node.options.max_msg_size).unwrap_or(usize::MAX);
    let new = match read_body(&mut body, bytes_max).await {
        Ok(new) => new,
        Err(BodyError::TooLong) => {
            discard(&mut body).await;
            return Err(ApiError::too_large("INVALID_VALUE"));
        }
        Err(BodyError::Broken) => return Err(ApiError::INTERNAL_ERROR),
    };
    if new.is_empty() {
        return Err(ApiError::too_large("INVALID_VALUE"));
    }
    node.options.set(&option, &new).map_err(|error| {
        ApiError::bad_request(match error {
            SetError::InvalidOption => "INVALID_OPTION",
            SetError::InvalidValue => "INVALID_VALUE",
        })
    })?;
    value(&node, &option)
}

fn value(node: &Node, option: &str) -> Result<Response, ApiError> {
    let value = node.options.config_value(option);
    Ok(match value.ok_or(ApiError::bad_request("INVALID_OPTION"))? {
        ConfigValue::Text(value) => text(value),
        ConfigValue::Number(value) => json(&value),
        ConfigValue::Bool(value) => json(&value),
        ConfigValue::Texts(values) => json(&values),
        ConfigValue::Floats(values) => {
            json(&values.into_iter().map(as_go_writes).collect::<Vec<_>>())
        }
    })
}

/// A whole float without its `.0`, as Go's `encoding/json` writes it.
fn as_go_writes(value: f64) -> serde_json::Value {
    // Percentiles are within 0 and 1, so the conversion is exact.
    if value.fract() == 0.0 { (value as i64).into() } else { value.into() }
}
