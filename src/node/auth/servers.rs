//! The servers of `-auth-http-address`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use grapevine_protocol::{AuthAnswer, go_json};
use http::Uri;
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use serde::Serialize;
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

use super::Question;
use crate::auth::{BadGrant, Compiled, Permissions};
use crate::config::Options;
use crate::node::http_client::{Answer, HttpClient, HttpError, Limits};
use crate::node::upgrade;

/// Queries under way at once; further ones wait. More would take file handles from clients when
/// a whole fleet comes back at once.
const QUERIES_MAX: usize = 256;

/// What a form's values cannot have as it is. Source: Go's `url.QueryEscape`.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Asks auth servers, any of which will do.
#[derive(Debug)]
pub(super) struct AuthServers {
    client: HttpClient,
    servers: Vec<Server>,
    is_post: bool,
    compiled: Mutex<Compiled>,
    queries: Semaphore,
}

#[derive(Debug)]
struct Server {
    url: String,
    /// Without what a URL may have of passwords; for the log.
    name: String,
    /// From a URL with a user and a password.
    authorization: Option<String>,
    /// Its last answer was of no use, and the log has said so.
    is_failing: AtomicBool,
}

/// A server that let nobody in.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Http(#[from] HttpError),
    #[error("status {0}")]
    Status(u16),
    #[error("the answer is not an auth server's")]
    Json,
    #[error("the answer has ttl {0}, where a positive number of seconds belongs")]
    Ttl(i64),
    #[error("the answer has {0}")]
    Grant(#[from] BadGrant),
    #[error("the secret is too long for a URL; -auth-http-request-method=post has no such limit")]
    LongSecret,
}

impl Failure {
    /// Whether it is about the client: an outsider must not fill the log.
    const fn is_about_client(&self) -> bool {
        matches!(self, Self::Status(400..=499) | Self::LongSecret)
    }
}

impl AuthServers {
    /// # Errors
    ///
    /// One line that names the flag and the bad address or file.
    pub(super) fn new(options: &Options) -> Result<Self, String> {
        let servers: Result<Vec<_>, _> =
            options.auth_http_addresses.iter().map(|address| Server::new(address)).collect();
        let limits = Limits {
            connect_timeout: options.http_client_connect_timeout,
            request_timeout: options.http_client_request_timeout,
            body_bytes_max: usize::try_from(options.max_body_size).unwrap_or(usize::MAX),
        };
        Ok(Self {
            client: HttpClient::new(limits, Some(upgrade::client_config(options)?)),
            servers: servers?,
            is_post: options.auth_http_request_method == "post",
            compiled: Mutex::default(),
            queries: Semaphore::new(QUERIES_MAX),
        })
    }

    /// What a server permits and for how long; `None` if all of them failed.
    ///
    /// Begins with any of them, then each in turn. Source: `QueryAnyAuthd`,
    /// internal/auth/authorizations.go (nsq 3103474b).
    pub(super) async fn ask(&self, question: &Question) -> Option<(Arc<Permissions>, Duration)> {
        let _slot = self.queries.acquire().await.ok()?;
        let first = rand::random_range(0..self.servers.len());
        let (late, early) = self.servers.split_at(first);
        for server in early.iter().chain(late) {
            let asked = self.ask_one(server, question).await;
            server.note(asked.as_ref().err());
            if let Ok(granted) = asked {
                return Some(granted);
            }
        }
        None
    }

    async fn ask_one(
        &self,
        server: &Server,
        question: &Question,
    ) -> Result<(Arc<Permissions>, Duration), Failure> {
        let headers: Vec<_> =
            server.authorization.iter().map(|value| ("authorization", value.as_str())).collect();
        let answer = if self.is_post {
            self.client.post(&server.url, &headers, body(question)).await
        } else {
            self.client.get(&server.query(question), &headers).await
        };
        let answer = answer.map_err(|error| match error {
            // Its text would show the secret; the address itself is known to be good.
            HttpError::Url(_) => Failure::LongSecret,
            other => Failure::Http(other),
        })?;
        self.judge(&answer)
    }

    fn judge(&self, answer: &Answer) -> Result<(Arc<Permissions>, Duration), Failure> {
        if answer.status != 200 {
            return Err(Failure::Status(answer.status));
        }
        let answer = AuthAnswer::from_json(&answer.body).ok_or(Failure::Json)?;
        let ttl_s = u64::try_from(answer.ttl_s).ok().filter(|&ttl_s| ttl_s > 0);
        let ttl = Duration::from_secs(ttl_s.ok_or(Failure::Ttl(answer.ttl_s))?);
        let permissions = self.compiled.lock().get(answer.grant)?;
        Ok((permissions, ttl))
    }
}

impl Server {
    fn new(address: &str) -> Result<Self, String> {
        let refused = || {
            format!("--auth-http-address {address:?} is neither host:port nor an http(s):// URL")
        };
        let url = match address.contains("://") {
            // What follows a # is for browsers, and the query must come before it.
            true => address.split('#').next().unwrap_or_default().to_owned(),
            false => format!("http://{address}/auth"),
        };
        let uri: Uri = url.parse().map_err(|_| refused())?;
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        let host = uri.host().filter(|host| is_http && !host.is_empty()).ok_or_else(refused)?;
        let name = uri.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let user = uri.authority().and_then(|whole| Some(whole.as_str().rsplit_once('@')?.0));
        let authorization = user.map(basic);
        Ok(Self { url, name, authorization, is_failing: AtomicBool::new(false) })
    }

    /// The URL of a GET. nsqd puts a second `?` into a URL that has one.
    fn query(&self, question: &Question) -> String {
        let form = |value: &[u8]| percent_encode(value, FORM).to_string().replace("%20", "+");
        format!(
            "{}{}common_name={}&remote_ip={}&secret={}&tls={}",
            self.url,
            if self.url.contains('?') { '&' } else { '?' },
            form(question.common_name.as_bytes()),
            form(question.remote_ip.as_bytes()),
            form(&question.secret),
            question.is_tls,
        )
    }

    /// Says once that the server fails, and once that it is back.
    fn note(&self, failure: Option<&Failure>) {
        let server = &self.name;
        match failure {
            Some(error) if error.is_about_client() => {
                debug!(server, %error, "auth server refused a client");
            }
            Some(error) if self.is_failing.swap(true, Ordering::Relaxed) => {
                debug!(server, %error, "auth server still fails");
                return;
            }
            Some(error) => {
                warn!(server, %error, "auth server fails; clients that need it are refused");
                return;
            }
            None => {}
        }
        if self.is_failing.swap(false, Ordering::Relaxed) {
            info!(server, "auth server answers again");
        }
    }
}

/// `user:password` of a URL as the header has it.
fn basic(user: &str) -> String {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let name = percent_decode_str(name);
    let plain: Vec<u8> = name.chain([b':']).chain(percent_decode_str(password)).collect();
    format!("Basic {}", BASE64.encode(&plain))
}

/// The body of a POST. A secret that is no text comes as Go's encoder would write it.
fn body(question: &Question) -> Bytes {
    #[derive(Serialize)]
    struct Body<'a> {
        common_name: [&'a str; 1],
        remote_ip: [&'a str; 1],
        secret: [&'a str; 1],
        tls: [&'a str; 1],
    }
    let json = go_json(&Body {
        common_name: [&question.common_name],
        remote_ip: [&question.remote_ip],
        secret: [&String::from_utf8_lossy(&question.secret)],
        tls: [if question.is_tls { "true" } else { "false" }],
    });
    Bytes::from(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(secret: &[u8]) -> Question {
        Question {
            secret: secret.to_vec(),
            remote_ip: "::1".to_owned(),
            is_tls: true,
            common_name: "a b".to_owned(),
        }
    }

    #[test]
    fn an_address_is_a_url_or_becomes_one_and_a_query_in_it_is_continued() {
        for (address, url) in [
            ("127.0.0.1:4180", "http://127.0.0.1:4180/auth?"),
            ("https://auth.example", "https://auth.example?"),
            (
                "http://user:pass@auth.example/x/y?key=1#top",
                "http://user:pass@auth.example/x/y?key=1&",
            ),
        ] {
            let query = Server::new(address).unwrap().query(&question(b"s"));
            assert_eq!(query, format!("{url}common_name=a+b&remote_ip=%3A%3A1&secret=s&tls=true"));
        }
        let with_password = Server::new("http://user:pa%3Ass@auth.example/").unwrap();
        assert_eq!(with_password.name, "auth.example", "the log shows no password");
        let header = with_password.authorization.as_deref();
        assert_eq!(header, Some("Basic dXNlcjpwYTpzcw=="), "user:pa:ss");
        for address in ["", "ftp://auth.example", "http://", "a b", ":4180", "http:///auth"] {
            let reason = Server::new(address).unwrap_err();
            assert!(reason.contains("--auth-http-address"), "{address}: {reason}");
        }
    }

    #[test]
    fn a_secret_of_any_bytes_is_encoded_as_in_a_form() {
        let server = Server::new("a:1").unwrap();
        let query = server.query(&question(b"a b&c=d?e#f~-_.\xff\0"));
        assert!(query.contains("&secret=a+b%26c%3Dd%3Fe%23f~-_.%FF%00&"), "{query}");
        let json =
            r#"{"common_name":["a b"],"remote_ip":["::1"],"secret":["a\u0026"],"tls":["true"]}"#;
        assert_eq!(body(&question(b"a&")), json);
        assert!(String::from_utf8_lossy(&body(&question(b"\xff"))).contains("[\"\u{fffd}\"]"));
    }

    #[test]
    fn only_200_with_a_time_to_live_and_usable_patterns_lets_anybody_in() {
        let address = "-auth-http-address=127.0.0.1:1".to_owned();
        let options = crate::config::Options::parse_like_go([address]);
        let Ok(crate::config::Invocation::Run(options)) = options else { panic!("{options:?}") };
        let servers = AuthServers::new(&options).unwrap();
        let judge = |status, body: &str| {
            let answer = Answer { status, body: Bytes::copy_from_slice(body.as_bytes()) };
            servers.judge(&answer).map(|(permissions, ttl)| (permissions.len(), ttl.as_secs()))
        };
        let good = r#"{"ttl":5,"authorizations":[{"topic":"t"}]}"#;
        assert_eq!(judge(200, good).unwrap(), (1, 5));
        assert_eq!(judge(200, r#"{"ttl":5}"#).unwrap(), (0, 5));
        for status in [201, 204, 302, 403, 500] {
            assert_eq!(judge(status, good).unwrap_err().to_string(), format!("status {status}"));
        }
        for (body, why) in [
            ("[]", "the answer is not an auth server's"),
            ("{}", "the answer has ttl 0, where a positive number of seconds belongs"),
            (r#"{"ttl":-5}"#, "the answer has ttl -5, where a positive number of seconds belongs"),
        ] {
            assert_eq!(judge(200, body).unwrap_err().to_string(), why);
        }
        let pattern = r#"{"ttl":5,"authorizations":[{"topic":"("}]}"#;
        let why = judge(200, pattern).unwrap_err().to_string();
        assert_eq!(why, "the answer has pattern \"(\": unclosed group");
    }
}
