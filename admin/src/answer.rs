//! The two styles of answer NSQ's HTTP servers give: V1 and plain.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use grapevine_protocol::go_json;

use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

/// Says that an answer is in V1 style: no envelope, errors as `{"message":CODE}`.
const NSQ_CONTENT_TYPE: HeaderName = HeaderName::from_static("x-nsq-content-type");
const V1: HeaderValue = HeaderValue::from_static("nsq; version=1.0");
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// A request that was refused, in the words the client reads: the status and `{"message":code}`.
///
/// Source: `http_api.Err` and `http_api.V1`, internal/http_api/api_response.go (nsq 3103474b).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{code}")]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// Machine-readable code, as `MISSING_ARG_TOPIC`.
    pub code: &'static str,
}

impl ApiError {
    /// The query string cannot be parsed.
    pub const INVALID_REQUEST: Self = Self::bad_request("INVALID_REQUEST");
    /// No such path.
    pub const NOT_FOUND: Self = Self::not_found("NOT_FOUND");
    /// The path exists, but not for this method.
    pub const METHOD_NOT_ALLOWED: Self =
        Self { status: StatusCode::METHOD_NOT_ALLOWED, code: "METHOD_NOT_ALLOWED" };
    /// Something of ours failed; the log says what.
    pub const INTERNAL_ERROR: Self =
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, code: "INTERNAL_ERROR" };

    /// 400 with `code`.
    pub const fn bad_request(code: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code }
    }

    /// 404 with `code`.
    pub const fn not_found(code: &'static str) -> Self {
        Self { status: StatusCode::NOT_FOUND, code }
    }

    /// 413 with `code`.
    pub const fn too_large(code: &'static str) -> Self {
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, code }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        v1(self.status, Some(JSON), format!(r#"{{"message":"{}"}}"#, self.code))
    }
}

/// V1 success with nothing to say: an empty body and no content type.
pub fn empty() -> Response {
    v1(StatusCode::OK, None, Bytes::new())
}

/// V1 success with a string; an empty one has no content type, as in Go.
pub fn text(body: impl Into<Bytes>) -> Response {
    let body = body.into();
    let content_type = (!body.is_empty()).then_some(TEXT);
    v1(StatusCode::OK, content_type, body)
}

/// V1 success with a document, written as Go's `encoding/json` writes it (`&`, `<`, `>` escaped).
pub fn json(document: &impl Serialize) -> Response {
    v1(StatusCode::OK, Some(JSON), go_json(document))
}

/// V1 refusal whose JSON text is more than a code, as `{"message": "TLS_REQUIRED", ...}`.
pub(crate) fn v1_json_text(status: StatusCode, body: Bytes) -> Response {
    v1(status, Some(JSON), body)
}

/// An answer in plain style: raw text, no V1 header, for success and failure alike.
pub fn plain(status: StatusCode, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}

fn v1(status: StatusCode, content_type: Option<HeaderValue>, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(NSQ_CONTENT_TYPE, V1);
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, content_type);
    }
    response
}
