//! The file of `-auth-file`: clients by their secrets, in TOML.

use std::collections::HashMap;
use std::sync::Arc;

use data_encoding::HEXLOWER_PERMISSIVE;
use grapevine_protocol::{AuthGrant, Authorization};
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use serde::de::{Deserialize, Deserializer, Error as _};

use super::{BadGrant, Permissions};

/// A larger file is a mistake, such as a log: 16 MiB, some 50,000 clients.
pub(crate) const AUTH_FILE_BYTES_MAX: u64 = 16 << 20;

/// SHA-256 of a secret. Secrets themselves are not kept, and looking for a digest takes a time
/// that tells nothing about the secret.
type Digest = [u8; SHA256_OUTPUT_LEN];

/// What a file permits, by secret.
#[derive(Debug, Default)]
pub(crate) struct AuthClients {
    by_secret: HashMap<Digest, Arc<Permissions>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    client: Vec<Entry>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    secret: Option<Secret>,
    secret_sha256: Option<SecretDigest>,
    #[serde(default)]
    identity: String,
    #[serde(default)]
    identity_url: String,
    #[serde(default)]
    permit: Vec<PermitEntry>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PermitEntry {
    topic: String,
    channels: Vec<String>,
    permissions: Vec<String>,
}

struct Secret(Digest);

struct SecretDigest(Digest);

impl AuthClients {
    /// Reads the file's text.
    ///
    /// # Errors
    ///
    /// One line that says what is wrong and where; it repeats no secret.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let document: Document = toml::from_str(text).map_err(|error| located(text, &error))?;
        if document.client.is_empty() {
            // Also what a file looks like that is being written at this moment.
            return Err("no [[client]] in it".to_owned());
        }
        let mut by_secret = HashMap::new();
        for (index, entry) in document.client.into_iter().enumerate() {
            let in_client = |reason: &str| format!("client {}: {reason}", index + 1);
            let secret = entry.digest().map_err(in_client)?;
            let permissions = entry.permissions().map_err(|bad| in_client(&bad.to_string()))?;
            if by_secret.insert(secret, Arc::new(permissions)).is_some() {
                return Err(in_client("its secret is also that of a client before it"));
            }
        }
        Ok(Self { by_secret })
    }

    /// What the client with this secret may do; `None` if there is no such client.
    pub(crate) fn find(&self, secret: &[u8]) -> Option<Arc<Permissions>> {
        self.by_secret.get(&sha256(secret)).map(Arc::clone)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_secret.len()
    }
}

impl Entry {
    fn digest(&self) -> Result<Digest, &'static str> {
        match (&self.secret, &self.secret_sha256) {
            (Some(Secret(digest)), None) | (None, Some(SecretDigest(digest))) => Ok(*digest),
            (None, None) => Err("neither secret nor secret_sha256"),
            (Some(_), Some(_)) => Err("both secret and secret_sha256"),
        }
    }

    fn permissions(self) -> Result<Permissions, BadGrant> {
        let authorization = |entry: PermitEntry| Authorization {
            topic: entry.topic,
            channels: entry.channels,
            permissions: entry.permissions,
        };
        Permissions::new(&AuthGrant {
            identity: self.identity,
            identity_url: self.identity_url,
            authorizations: self.permit.into_iter().map(authorization).collect(),
        })
    }
}

/// Read by hand, so that an error does not quote the secret.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) if !text.is_empty() => Ok(Self(sha256(text.as_bytes()))),
            _ => Err(D::Error::custom("secret is not a text of one character or more")),
        }
    }
}

impl<'de> Deserialize<'de> for SecretDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digest = match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) => from_hex(&text),
            _ => None,
        };
        digest.map(Self).ok_or_else(|| D::Error::custom("secret_sha256 is not 64 digits of hex"))
    }
}

fn sha256(secret: &[u8]) -> Digest {
    let mut bytes = [0; SHA256_OUTPUT_LEN];
    bytes.copy_from_slice(digest(&SHA256, secret).as_ref());
    bytes
}

fn from_hex(text: &str) -> Option<Digest> {
    HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok()
}

/// The error without the line of the file that TOML's own text would show.
fn located(text: &str, error: &toml::de::Error) -> String {
    let what = error.message().lines().collect::<Vec<_>>().join(" ");
    match error.span() {
        Some(span) => {
            let before = text.as_bytes().iter().take(span.start);
            format!("line {}: {what}", 1 + before.filter(|&&byte| byte == b'\n').count())
        }
        None => what,
    }
}

#[cfg(test)]
mod tests {
    use grapevine_protocol::Verb;

    use super::*;

    const FILE: &str = r#"
        [[client]]
        secret = "s3cret"
        identity = "joe"
        identity_url = "http://joe.example"
        [[client.permit]]
        topic = "^orders"
        channels = [".*"]
        permissions = ["subscribe", "publish"]

        [[client]]
        # echo -n hidden | sha256sum
        secret_sha256 = "E564B4081D7A9EA4B00DADA53BDAE70C99B87B6FCE869F0C3DD4D2BFA1E53E1C"
    "#;

    fn refused(text: &str) -> String {
        let reason = AuthClients::parse(text).unwrap_err();
        assert!(!reason.contains('\n'), "{reason}");
        assert!(!reason.contains("s3cret") && !reason.contains("4711"), "{reason}");
        reason
    }

    #[test]
    fn a_client_is_found_by_its_secret_or_the_digest_of_it() {
        let clients = AuthClients::parse(FILE).unwrap();
        let joe = clients.find(b"s3cret").unwrap();
        assert_eq!((&*joe.identity, &*joe.identity_url), ("joe", "http://joe.example"));
        assert!(joe.allow(Verb::Pub, "orders", "") && !joe.allow(Verb::Pub, "other", ""));
        assert!(clients.find(b"hidden").unwrap().is_empty());
        assert!(clients.find(b"s3cre").is_none() && clients.find(b"").is_none());
        assert_eq!(clients.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place_and_without_the_secret() {
        let client = "[[client]]\nsecret = \"s3cret\"\n";
        let permit = "[[client.permit]]\ntopic = \"t\"\nchannels = []\n";
        let cases = [
            (String::new(), "no [[client]] in it"),
            ("[[client]]\nsecret = \"s3cret\n".to_owned(), "line 2: "),
            (format!("{client}[[client]]\nidentity = \"a\"\n"), "client 2: neither"),
            (format!("{client}secret_sha256 = \"{}\"\n", "0".repeat(64)), "client 1: both"),
            (format!("{client}{client}"), "client 2: its secret is also"),
            (format!("{client}secrets = 1\n"), "line 3: unknown field `secrets`"),
            (format!("{client}identity = 1\n"), "line 3: "),
            (format!("ttl = 5\n{client}"), "line 1: unknown field `ttl`"),
            ("[[client]]\nsecret = 4711\n".to_owned(), "line 2: secret is not a text"),
            ("[[client]]\nsecret = \"\"\n".to_owned(), "line 2: secret is not a text"),
            ("[[client]]\nsecret_sha256 = \"4711\"\n".to_owned(), "line 2: secret_sha256 is not"),
            (format!("{client}{permit}"), "missing field `permissions`"),
            (format!("{client}{permit}permissions = [\"all\"]\n"), "client 1: permission \"all\""),
        ];
        for (text, part) in cases {
            let reason = refused(&text);
            assert!(reason.contains(part), "{reason}\nwanted: {part}");
        }
        let digits = format!("[[client]]\nsecret_sha256 = \"{}\"\n", "0".repeat(63));
        assert!(refused(&digits).contains("64 digits of hex"));
        let pattern = FILE.replace("^orders", "^(orders");
        assert!(refused(&pattern).contains("client 1: pattern \"^(orders\": unclosed group"));
    }
}
