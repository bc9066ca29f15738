//! A client of other NSQ servers' HTTP: authorization servers and nsqlookupds.
//!
//! One connection for each request, as they are rare. Every wait and every length has a bound.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST};
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// What NSQ's programs say they understand: version 1 of answers, without an envelope.
///
/// Source: `http_api.Client.GETV1`, internal/http_api/api_request.go (nsq 3103474b).
const ACCEPTED: &str = "application/vnd.nsq; version=1.0";

/// How long is waited, and for how much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// For a connection.
    pub(crate) connect_timeout: Duration,
    /// For all of a request, the connection included.
    pub(crate) request_timeout: Duration,
    /// Most bytes of an answer.
    pub(crate) body_bytes_max: usize,
}

/// What a server answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("{0:?} is no http:// or https:// URL")]
    Url(String),
    #[error("no connection to {address} within {timeout:?}")]
    ConnectTimeout { address: String, timeout: Duration },
    #[error("no connection to {address}: {source}")]
    Connect { address: String, source: io::Error },
    #[error("https:// is not possible here: there are no certificates to trust")]
    NoTls,
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("not HTTP, or broken off: {0}")]
    Broken(#[from] hyper::Error),
    #[error("the answer: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
}

/// A client. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient {
    limits: Limits,
    tls: Option<Arc<ClientConfig>>,
}

/// What servers with `-tls-required` answer where it is not used.
#[derive(Deserialize)]
struct TlsRequired {
    https_port: u16,
}

impl HttpClient {
    /// `tls`: for `https://`, which is refused without.
    pub(crate) const fn new(limits: Limits, tls: Option<Arc<ClientConfig>>) -> Self {
        Self { limits, tls }
    }

    /// GET. `headers` come after the usual ones.
    ///
    /// # Errors
    ///
    /// [`HttpError`]; every status is an answer.
    pub(crate) async fn get(
        &self,
        url: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, HttpError> {
        self.ask(Method::GET, url, headers, Bytes::new()).await
    }

    /// POST of JSON.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub(crate) async fn post(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, HttpError> {
        self.ask(Method::POST, url, headers, body).await
    }

    async fn ask(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, HttpError> {
        let uri: Uri = url.parse().map_err(|_| HttpError::Url(url.to_owned()))?;
        let ask = async {
            let answer = self.ask_once(&method, &uri, headers, body.clone()).await?;
            match https_of(&uri, &answer) {
                Some(uri) => self.ask_once(&method, &uri, headers, body).await,
                None => Ok(answer),
            }
        };
        let timeout = self.limits.request_timeout;
        tokio::time::timeout(timeout, ask).await.map_err(|_| HttpError::Timeout(timeout))?
    }

    async fn ask_once(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, HttpError> {
        let bad_url = || HttpError::Url(uri.to_string());
        let (host, is_tls) = match (uri.host(), uri.scheme()) {
            (Some(host), Some(scheme)) if *scheme == Scheme::HTTP => (host, false),
            (Some(host), Some(scheme)) if *scheme == Scheme::HTTPS => (host, true),
            _ => return Err(bad_url()),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let authority = uri.authority().ok_or_else(bad_url)?.as_str();
        let authority = authority.rsplit_once('@').map_or(authority, |(_, authority)| authority);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, authority)
            .header(ACCEPT, ACCEPTED)
            .header(CONNECTION, "close");
        if method == Method::POST {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).map_err(|_| bad_url())?;
        let stream = self.connect(host, port).await?;
        if !is_tls {
            return self.exchange(stream, request).await;
        }
        let tls = self.tls.as_ref().ok_or(HttpError::NoTls)?;
        let name = ServerName::try_from(host.to_owned()).map_err(|_| bad_url())?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await;
        let address = || format!("{host}:{port}");
        let stream = stream.map_err(|source| HttpError::Connect { address: address(), source })?;
        self.exchange(stream, request).await
    }

    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, HttpError> {
        let address = || format!("{host}:{port}");
        let timeout = self.limits.connect_timeout;
        match tokio::time::timeout(timeout, TcpStream::connect((host, port))).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(source)) => Err(HttpError::Connect { address: address(), source }),
            Err(_) => Err(HttpError::ConnectTimeout { address: address(), timeout }),
        }
    }

    async fn exchange<S>(
        &self,
        stream: S,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, HttpError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with this call: the set aborts what is in it when it is dropped.
        let mut driving = JoinSet::new();
        driving.spawn(connection);
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), self.limits.body_bytes_max);
        let body = body.collect().await.map_err(HttpError::Body)?.to_bytes();
        Ok(Answer { status, body })
    }
}

/// Where to ask again: a server that requires TLS says at which port it has it.
///
/// Source: `http_api.Client.GETV1`, internal/http_api/api_request.go (nsq 3103474b).
fn https_of(uri: &Uri, answer: &Answer) -> Option<Uri> {
    if answer.status != 403 || uri.scheme() != Some(&Scheme::HTTP) {
        return None;
    }
    let TlsRequired { https_port } = serde_json::from_slice(&answer.body).ok()?;
    let authority = format!("{}:{https_port}", uri.host()?);
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    Uri::builder().scheme(Scheme::HTTPS).authority(authority).path_and_query(path).build().ok()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const LIMITS: Limits = Limits {
        connect_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_secs(5),
        body_bytes_max: 100,
    };

    /// A server that answers one request with `answer`; its URL, and what it was asked.
    async fn server(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/auth?a=b", listener.local_addr().unwrap());
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.windows(4).any(|four| four == b"\r\n\r\n") {
                let mut room = [0; 1024];
                let len = stream.read(&mut room).await.unwrap();
                assert!(len > 0, "a whole request");
                request.extend_from_slice(&room[..len]);
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(request).unwrap()
        });
        (url, asked)
    }

    #[tokio::test]
    async fn every_status_is_an_answer_and_the_request_is_what_nsq_asks() {
        let (url, asked) = server("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}").await;
        let answer = HttpClient::new(LIMITS, None).get(&url, &[("x", "y")]).await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (404, &b"{}"[..]));
        let asked = asked.await.unwrap();
        assert!(asked.starts_with("GET /auth?a=b HTTP/1.1\r\nhost: 127.0.0.1:"), "{asked}");
        for header in ["accept: application/vnd.nsq; version=1.0", "connection: close", "x: y"] {
            assert!(asked.contains(&format!("\r\n{header}\r\n")), "{asked}");
        }
    }

    #[tokio::test]
    async fn an_answer_longer_than_agreed_is_not_read_to_its_end() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n0123456789";
        let (url, _asked) = server(answer).await;
        let error = HttpClient::new(LIMITS, None).get(&url, &[]).await.unwrap_err();
        assert!(matches!(error, HttpError::Body(_)), "{error}");
    }

    #[tokio::test]
    async fn who_does_not_answer_is_waited_for_so_long_and_no_longer() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let limits = Limits { request_timeout: Duration::from_millis(50), ..LIMITS };
        let error = HttpClient::new(limits, None).get(&url, &[]).await.unwrap_err();
        assert!(matches!(error, HttpError::Timeout(_)), "{error}");
    }

    #[tokio::test]
    async fn what_is_no_url_of_a_web_server_is_refused_by_name() {
        for url in ["", "127.0.0.1:80", "ftp://127.0.0.1/", "http://", "http://a b/"] {
            let error = HttpClient::new(LIMITS, None).get(url, &[]).await.unwrap_err();
            assert!(matches!(error, HttpError::Url(_)), "{url}: {error}");
        }
    }

    #[test]
    fn a_server_that_requires_tls_is_asked_again_at_the_port_that_has_it() {
        let uri: Uri = "http://one.example:4161/channels?topic=t".parse().unwrap();
        let answer = |status, body: &'static str| Answer { status, body: Bytes::from(body) };
        let told = r#"{"message": "TLS_REQUIRED", "https_port": 4162}"#;
        let again = https_of(&uri, &answer(403, told)).unwrap();
        assert_eq!(again, "https://one.example:4162/channels?topic=t");
        assert_eq!(https_of(&uri, &answer(400, told)), None);
        assert_eq!(https_of(&uri, &answer(403, "{}")), None);
        assert_eq!(https_of(&again, &answer(403, told)), None, "once only");
    }
}
