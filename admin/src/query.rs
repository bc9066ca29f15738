//! Query strings as Go's `net/url` reads them.

use axum::extract::FromRequestParts;
use http::request::Parts;

use crate::answer::ApiError;

/// The parameters of a request: only the query string, never a form body.
///
/// Keys are case-sensitive, the first value of a repeated key wins, `+` is a space. Values that are
/// not UTF-8 keep their shape with U+FFFD, so that they stay invalid names.
///
/// Source: `http_api.NewReqParams`, internal/http_api/req_params.go, and Go's `url.ParseQuery`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Parses what stands behind the `?`, if anything does.
    ///
    /// # Errors
    ///
    /// [`ApiError::INVALID_REQUEST`] for a broken `%` escape or a `;`.
    pub fn parse(query: Option<&str>) -> Result<Self, ApiError> {
        let mut pairs = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            if pair.contains(';') {
                return Err(ApiError::INVALID_REQUEST);
            }
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = (unescape(key, true), unescape(value, true));
            let (Some(key), Some(value)) = decoded else {
                return Err(ApiError::INVALID_REQUEST);
            };
            pairs.push((lossy(key), lossy(value)));
        }
        Ok(Self { pairs })
    }

    /// The first value of `key`; `Some("")` for a key without a value.
    pub fn first(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The first value of `key`, or 400 with `code`.
    ///
    /// # Errors
    ///
    /// `code` if the key is absent; present but empty is a value.
    pub fn require(&self, key: &str, code: &'static str) -> Result<&str, ApiError> {
        self.first(key).ok_or(ApiError::bad_request(code))
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Self::parse(parts.uri.query())
    }
}

/// Undoes `%XX`, and `+` if `plus_is_space`; `None` if an escape is broken.
pub(crate) fn unescape(text: &str, plus_is_space: bool) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => (hex(bytes.next()?)? << 4) | hex(bytes.next()?)?,
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    Some(out)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(query: &str) -> Result<Option<String>, ApiError> {
        Query::parse(Some(query)).map(|query| query.first("topic").map(String::from))
    }

    #[test]
    fn the_first_value_wins_and_keys_are_case_sensitive() {
        assert_eq!(topic("a=1&topic=x&topic=y"), Ok(Some("x".into())));
        assert_eq!(topic("Topic=x"), Ok(None));
        assert_eq!(topic("topic"), Ok(Some(String::new())));
        assert_eq!(topic("&&topic=a=b&"), Ok(Some("a=b".into())));
        assert_eq!(Query::parse(None), Ok(Query::default()));
    }

    #[test]
    fn plus_and_escapes_are_decoded() {
        assert_eq!(topic("topic=a+b%2Bc%23d"), Ok(Some("a b+c#d".into())));
        assert_eq!(topic("%74opic=x"), Ok(Some("x".into())));
        assert_eq!(topic("topic=%ff"), Ok(Some("\u{fffd}".into())));
    }

    #[test]
    fn broken_escapes_and_semicolons_are_refused() {
        for bad in ["topic=%zz", "topic=%q", "topic=%", "topic=%a", "x=%+1", "a=1;b=2", "topic=x&;"]
        {
            assert_eq!(topic(bad), Err(ApiError::INVALID_REQUEST), "{bad}");
        }
    }
}
