//! `/lookup` answered when it has changed, and the headers that say how good an answer is.
//!
//! An answer's index is a hash of it, so that every node gives equal answers equal indexes: who
//! changes from one node to another neither misses a change nor is told of one that is none.

use std::pin::Pin;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use grapevine_protocol::{go_json, parse_go_duration};
use http::header::HeaderName;
use http::{HeaderValue, StatusCode};
use tokio::time::Instant;

use crate::answer::{ApiError, v1_json_text};
use crate::lookup::LookupSource;
use crate::presence::Presence;
use crate::query::Query;

/// Longest time an answer is waited for; who asks for more gets this. As Consul's is ten minutes,
/// but here a client whose host has died without a word holds a place until the end of it.
pub const WAIT_MAX: Duration = Duration::from_secs(300);

/// Index of the answer of `/lookup`; 0 where it is 404.
const INDEX: HeaderName = HeaderName::from_static("x-nsq-gossip-index");

/// Milliseconds since the node last compared what it knows with another.
const AGE: HeaderName = HeaderName::from_static("x-nsq-gossip-age");

/// [`LookupSource::watch`] has no place left.
const TOO_MANY: ApiError =
    ApiError { status: StatusCode::SERVICE_UNAVAILABLE, code: "TOO_MANY_WATCHES" };

const NOT_FOUND: ApiError = ApiError::not_found("TOPIC_NOT_FOUND");

/// One that waits for changes of a topic's answer, from the moment it was made.
pub trait TopicWatch: Send {
    /// Resolves when the answer may have changed since the last call. False: the node stops.
    fn changed(&mut self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>>;
}

/// What a request wants to wait for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Wait {
    /// Index of the answer that the client has.
    index: Option<u64>,
    /// For how long.
    time: Duration,
}

impl Wait {
    /// `wait` and `index` of a query. Without either there is nothing to wait for.
    ///
    /// # Errors
    ///
    /// `INVALID_WAIT`, `INVALID_INDEX`.
    pub(crate) fn of(query: &Query) -> Result<Self, ApiError> {
        let time = match query.first("wait") {
            None => Duration::ZERO,
            Some(text) => {
                let nanos = parse_go_duration(text).ok().and_then(|ns| u64::try_from(ns).ok());
                let time = nanos.map(Duration::from_nanos);
                time.ok_or(ApiError::bad_request("INVALID_WAIT"))?.min(WAIT_MAX)
            }
        };
        let index = query.first("index").map(str::parse).transpose();
        let index = index.map_err(|_| ApiError::bad_request("INVALID_INDEX"))?;
        Ok(Self { index, time })
    }

    /// The answer for `topic`, as soon as its index is not the client's, or when time is up or the
    /// client has gone.
    ///
    /// # Errors
    ///
    /// `TOO_MANY_WATCHES`; nobody has waited.
    pub(crate) async fn answer(
        self,
        source: &dyn LookupSource,
        topic: &str,
        client: &Presence,
    ) -> Result<Response, ApiError> {
        let mut answer = Answer::of(source, topic);
        if self.time.is_zero() || self.index != Some(answer.index) {
            return Ok(answer.into_response());
        }
        let until = Instant::now() + self.time;
        let mut watch = source.watch(topic).ok_or(TOO_MANY)?;
        loop {
            // After the watch began, so that no change falls between.
            answer = Answer::of(source, topic);
            if self.index != Some(answer.index) {
                break;
            }
            let has_changed = tokio::select! {
                changed = tokio::time::timeout_at(until, watch.changed()) => changed == Ok(true),
                () = client.gone() => false,
            };
            if !has_changed {
                break;
            }
        }
        Ok(answer.into_response())
    }
}

/// An answer of `/lookup` and its index.
struct Answer {
    document: Option<Bytes>,
    index: u64,
}

impl Answer {
    fn of(source: &dyn LookupSource, topic: &str) -> Self {
        let document = source.lookup(topic).map(|found| Bytes::from(go_json(&found)));
        let index = document.as_deref().map_or(0, hash);
        Self { document, index }
    }

    fn into_response(self) -> Response {
        let mut response = match self.document {
            Some(document) => v1_json_text(StatusCode::OK, document),
            None => NOT_FOUND.into_response(),
        };
        response.headers_mut().insert(INDEX, HeaderValue::from(self.index));
        response
    }
}

/// Says how old the node's knowledge is, unless it has never compared it with anybody's.
pub(crate) fn aged(source: &dyn LookupSource, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    if let Some(age) = source.age() {
        let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        response.headers_mut().insert(AGE, HeaderValue::from(millis));
    }
    response
}

/// FNV-1a with 64 bits, never 0: equal on every machine and in every version.
fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(query: &str) -> Result<Wait, &'static str> {
        Wait::of(&Query::parse(Some(query)).unwrap()).map_err(|error| error.code)
    }

    #[test]
    fn a_wait_is_a_go_duration_and_bounded() {
        let of = |index, time| Ok(Wait { index, time });
        assert_eq!(wait("topic=t"), of(None, Duration::ZERO));
        assert_eq!(wait("wait=30s&index=0"), of(Some(0), Duration::from_secs(30)));
        assert_eq!(wait("wait=1h&index=18446744073709551615"), of(Some(u64::MAX), WAIT_MAX));
        for query in ["wait=30", "wait=-1s", "wait=", "wait=soon"] {
            assert_eq!(wait(query), Err("INVALID_WAIT"), "{query}");
        }
        for query in ["index=", "index=-1", "index=x", "index=18446744073709551616"] {
            assert_eq!(wait(query), Err("INVALID_INDEX"), "{query}");
        }
    }

    #[test]
    fn an_index_is_the_same_on_every_machine() {
        assert_eq!(hash(b"foobar"), 0x8594_4171_f739_67e8, "the published FNV-1a test vector");
    }
}
