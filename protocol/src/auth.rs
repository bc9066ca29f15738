//! What an auth server answers, and what a client is told of it.

use serde::Serialize;
use serde::de::MapAccess;

use crate::go_json::{GoStruct, Nested, from_go_json, go_json, set, skip};

/// An auth server's answer, read as nsqd reads it; whether it makes sense is not checked yet.
///
/// Source: `State` and `Authorization`, internal/auth/authorizations.go (nsq 3103474b).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AuthAnswer {
    /// Seconds the answer is good for; 0 if the server did not say.
    pub ttl_s: i64,
    /// Who the client is, and what it may do.
    pub grant: AuthGrant,
}

/// Who a client is and what it may do, in the words of whoever granted it.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct AuthGrant {
    /// A name for people, shown in `/stats`.
    pub identity: String,
    /// Where people can read about the identity.
    pub identity_url: String,
    /// Any one of them is enough.
    pub authorizations: Vec<Authorization>,
}

/// One entry of an [`AuthGrant`]: patterns are regular expressions.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Authorization {
    /// Matches the topics meant.
    pub topic: String,
    /// One of them matches the channels meant; a publish has the channel `""`.
    pub channels: Vec<String>,
    /// `subscribe`, `publish`.
    pub permissions: Vec<String>,
}

impl AuthAnswer {
    /// Reads the body of an answer; `None` if nsqd would fail to decode it.
    pub fn from_json(body: &[u8]) -> Option<Self> {
        from_go_json(body)
    }
}

impl GoStruct for AuthAnswer {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "ttl" => set(&mut self.ttl_s, map),
            "identity" => set(&mut self.grant.identity, map),
            "identity_url" => set(&mut self.grant.identity_url, map),
            "authorizations" => {
                if let Some(entries) = map.next_value::<Option<Vec<Nested<Authorization>>>>()? {
                    self.grant.authorizations = entries.into_iter().map(|Nested(it)| it).collect();
                }
                Ok(())
            }
            _ => skip(map),
        }
    }
}

impl GoStruct for Authorization {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "topic" => set(&mut self.topic, map),
            "channels" => set(&mut self.channels, map),
            "permissions" => set(&mut self.permissions, map),
            _ => skip(map),
        }
    }
}

/// The response to a successful `AUTH`; `permission_count` is the number of authorizations.
pub fn auth_response(identity: &str, identity_url: &str, permission_count: usize) -> Vec<u8> {
    #[derive(Serialize)]
    struct Response<'a> {
        identity: &'a str,
        identity_url: &'a str,
        permission_count: usize,
    }
    go_json(&Response { identity, identity_url, permission_count })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_go_reads_it() {
        let body = br#"{"TTL":3600,"identity":"joe","Identity_URL":null,"extra":{"a":[1]},
            "authorizations":[{"Topic":"^a","channels":[".*","x"],"permissions":["publish"]},{}]}"#;
        let answer = AuthAnswer::from_json(body).unwrap();
        let joe = Authorization {
            topic: "^a".to_owned(),
            channels: vec![".*".to_owned(), "x".to_owned()],
            permissions: vec!["publish".to_owned()],
        };
        let grant = AuthGrant {
            identity: "joe".to_owned(),
            identity_url: String::new(),
            authorizations: vec![joe, Authorization::default()],
        };
        assert_eq!(answer, AuthAnswer { ttl_s: 3_600, grant });
        assert_eq!(AuthAnswer::from_json(b"null"), Some(AuthAnswer::default()));
    }

    #[test]
    fn an_answer_with_wrong_types_is_none() {
        for body in [
            "",
            "not json",
            "[]",
            "5",
            r#"{"ttl":"10"}"#,
            r#"{"ttl":1.5}"#,
            r#"{"identity":5}"#,
            r#"{"authorizations":{"topic":"a"}}"#,
            r#"{"authorizations":["a"]}"#,
            r#"{"authorizations":[{"channels":".*"}]}"#,
            r#"{"authorizations":[{"channels":[null]}]}"#,
            r#"{"ttl":1} more"#,
        ] {
            assert_eq!(AuthAnswer::from_json(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn the_response_has_nsqd_s_keys_in_nsqd_s_order() {
        let response = auth_response("joe & co", "http://x", 2);
        let want = r#"{"identity":"joe \u0026 co","identity_url":"http://x","permission_count":2}"#;
        assert_eq!(String::from_utf8_lossy(&response), want);
    }
}
