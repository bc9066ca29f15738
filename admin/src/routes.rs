//! Which paths exist, and how a request for any other is answered.
//!
//! axum routes and runs the handlers; the rules in front of it are those of Go's httprouter as NSQ
//! configures it (internal/http_api, nsqd/http.go `newHTTPServer`), because axum's differ: HEAD is
//! not GET, `Allow` is sorted and names OPTIONS, and a nearly right path is redirected.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::handler::Handler;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, EXPECT, LOCATION};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tower::ServiceExt;
use tracing::{error, info};

use crate::answer::{ApiError, plain, v1_json_text};
use crate::body::discard;
use crate::path::{Pattern, clean};
use crate::query::unescape;

/// Who sent a request: `ip:port`, or `@` for a unix socket. An extension of every request.
#[derive(Clone, Debug)]
pub struct Remote(pub Arc<str>);

/// One path and method that exist.
#[derive(Clone, Debug)]
struct Route {
    method: Method,
    pattern: Pattern,
    /// The handler reads the body (else it is thrown away before the handler runs).
    reads_body: bool,
    /// Answers are written to the log.
    is_logged: bool,
}

/// The paths of a server while they are being declared; `S` is what its handlers share.
#[derive(Debug)]
pub struct Routes<S> {
    table: Vec<Route>,
    router: Router<S>,
}

impl<S: Clone + Send + Sync + 'static> Default for Routes<S> {
    fn default() -> Self {
        Self { table: Vec::new(), router: Router::new() }
    }
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// `GET path`; `{name}` in it stands for one segment.
    #[must_use]
    pub fn get<T: 'static>(self, path: &'static str, handler: impl Handler<T, S>) -> Self {
        self.route(Method::GET, MethodFilter::GET, path, handler)
    }

    /// `POST path`, whose body is ignored.
    #[must_use]
    pub fn post<T: 'static>(self, path: &'static str, handler: impl Handler<T, S>) -> Self {
        self.route(Method::POST, MethodFilter::POST, path, handler)
    }

    /// `DELETE path`, whose body is ignored.
    #[must_use]
    pub fn delete<T: 'static>(self, path: &'static str, handler: impl Handler<T, S>) -> Self {
        self.route(Method::DELETE, MethodFilter::DELETE, path, handler)
    }

    /// `PUT path`, whose handler reads the body.
    #[must_use]
    pub fn put<T: 'static>(self, path: &'static str, handler: impl Handler<T, S>) -> Self {
        let mut routes = self.route(Method::PUT, MethodFilter::PUT, path, handler);
        if let Some(route) = routes.table.last_mut() {
            route.reads_body = true;
        }
        routes
    }

    /// `POST path`, whose handler reads the body and whose answers are not logged.
    #[must_use]
    pub fn publish<T: 'static>(self, path: &'static str, handler: impl Handler<T, S>) -> Self {
        let mut routes = self.post(path, handler);
        if let Some(route) = routes.table.last_mut() {
            route.reads_body = true;
            route.is_logged = false;
        }
        routes
    }

    /// Gives the handlers what they share.
    pub fn with_state(self, state: S) -> Api {
        Api { table: self.table, router: self.router.with_state(state), refusal: None }
    }

    fn route<T: 'static>(
        mut self,
        method: Method,
        filter: MethodFilter,
        path: &'static str,
        handler: impl Handler<T, S>,
    ) -> Self {
        let pattern = Pattern::new(path);
        self.router = self.router.route(path, on(filter, handler));
        self.table.push(Route { method, pattern, reads_body: false, is_logged: true });
        self
    }
}

/// An HTTP server's answers, without its sockets.
#[derive(Clone, Debug)]
pub struct Api {
    table: Vec<Route>,
    router: Router,
    refusal: Option<Bytes>,
}

/// What the table says about a method and path.
enum Verdict<'a> {
    Found(&'a Route),
    Redirect(String),
    Options(String),
    WrongMethod(String),
    NotFound,
}

impl Api {
    /// Everything `other` answers too. No method and path may be in both.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.table.extend(other.table);
        self.router = self.router.merge(other.router);
        self
    }

    /// Answers every request with 403 and the port that speaks TLS (`--tls-required=true`).
    ///
    /// `https_port` is 0 if there is none. Source: nsqd/http.go `ServeHTTP`.
    #[must_use]
    pub fn refusing_plain_http(mut self, https_port: u16) -> Self {
        let text = format!(r#"{{"message": "TLS_REQUIRED", "https_port": {https_port}}}"#);
        self.refusal = Some(text.into());
        self
    }

    /// Answers one request from `remote`.
    pub async fn answer(&self, remote: &Remote, request: Request<Body>) -> Response {
        let started = Instant::now();
        let Some(path) = decoded_path(request.uri()) else {
            return not_http();
        };
        let verdict = match &self.refusal {
            Some(_) => Verdict::NotFound,
            None => self.find(request.method(), &path),
        };
        let line = LogLine::of(&verdict, self.refusal.is_some(), &request);
        let (mut parts, mut body) = request.into_parts();
        let reads_body = matches!(verdict, Verdict::Found(route) if route.reads_body);
        let keeps = reads_body || (!parts.headers.contains_key(EXPECT) && discard(&mut body).await);

        let mut response = match verdict {
            Verdict::Found(_) => {
                parts.extensions.insert(remote.clone());
                canonical_uri(&mut parts.uri, &path);
                self.run(Request::from_parts(parts, body)).await
            }
            Verdict::Redirect(to) => redirect(&parts.method, &to, parts.uri.query()),
            Verdict::Options(methods) => with_allow(Response::default(), &methods),
            Verdict::WrongMethod(methods) => {
                with_allow(ApiError::METHOD_NOT_ALLOWED.into_response(), &methods)
            }
            Verdict::NotFound => match &self.refusal {
                Some(text) => v1_json_text(StatusCode::FORBIDDEN, text.clone()),
                None => ApiError::NOT_FOUND.into_response(),
            },
        };
        if !keeps {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(line) = line {
            line.write(response.status(), remote, started);
        }
        response
    }

    /// Runs a handler; a panic in it costs this answer, not the connection.
    async fn run(&self, request: Request<Body>) -> Response {
        let mut handler = pin!(self.router.clone().oneshot(request));
        let outcome = std::future::poll_fn(|context| {
            match catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(context))) {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(Ok(response))) => Poll::Ready(Ok(response)),
                Ok(Poll::Ready(Err(never))) => match never {},
                Err(panic) => Poll::Ready(Err(panic)),
            }
        });
        outcome.await.unwrap_or_else(|panic| {
            error!(panic = panic_text(panic.as_ref()), "http handler panicked");
            ApiError::INTERNAL_ERROR.into_response()
        })
    }

    fn find(&self, method: &Method, path: &str) -> Verdict<'_> {
        let of_method = || self.table.iter().filter(|route| route.method == *method);
        if let Some(route) = of_method().find(|route| route.pattern.matches(path)) {
            return Verdict::Found(route);
        }
        if path != "/" && method != Method::CONNECT {
            let cleaned = clean(path);
            let correct = of_method().find_map(|route| route.pattern.correct(&cleaned));
            if let Some(path) = correct {
                return Verdict::Redirect(path);
            }
        }
        match self.allowed(path) {
            Some(methods) if method == Method::OPTIONS => Verdict::Options(methods),
            Some(methods) => Verdict::WrongMethod(methods),
            None => Verdict::NotFound,
        }
    }

    /// The methods `path` answers, for `Allow`; `*` stands for the whole server.
    fn allowed(&self, path: &str) -> Option<String> {
        let mut methods: Vec<&str> = self
            .table
            .iter()
            .filter(|route| path == "*" || route.pattern.matches(path))
            .map(|route| route.method.as_str())
            .collect();
        if methods.is_empty() {
            return None;
        }
        methods.push(Method::OPTIONS.as_str());
        methods.sort_unstable();
        methods.dedup();
        Some(methods.join(", "))
    }
}

/// The answer to bytes that are not HTTP; a V2 client recognises the leading `HTTP`.
///
/// Source: Go net/http `conn.serve`; http-api.md section 1.
pub(crate) fn not_http() -> Response {
    let mut response = plain(StatusCode::BAD_REQUEST, "400 Bad Request");
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The path with its escapes undone, as Go's `URL.Path`; `None` if one is broken.
fn decoded_path(uri: &Uri) -> Option<String> {
    let path = unescape(uri.path(), false)?;
    Some(String::from_utf8_lossy(&path).into_owned())
}

/// Everything that must be escaped in a path segment.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Writes `path` with only the necessary escapes, because axum compares paths byte by byte.
fn canonical_uri(uri: &mut Uri, path: &str) {
    if uri.path() != path {
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let text = format!("{}{query}", utf8_percent_encode(path, PATH));
        *uri = text.parse().unwrap_or_else(|_| uri.clone());
    }
}

/// 301 for GET, 307 for everything else; the query stays.
fn redirect(method: &Method, path: &str, query: Option<&str>) -> Response {
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let location = format!("{}{query}", utf8_percent_encode(path, PATH));
    let mut response = Response::default();
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    if method == Method::GET {
        *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        let shown = location.replace('&', "&amp;").replace('"', "&#34;").replace('\'', "&#39;");
        let page = format!("<a href=\"{shown}\">Moved Permanently</a>.\n\n");
        *response.body_mut() = Body::from(page);
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, html);
    }
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn with_allow(mut response: Response, methods: &str) -> Response {
    let methods = HeaderValue::from_str(methods).expect("method names are header values");
    response.headers_mut().insert(ALLOW, methods);
    response
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&str>().copied();
    literal.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown")
}

/// What is remembered of a request until its answer can be logged.
struct LogLine {
    method: Method,
    uri: Uri,
}

impl LogLine {
    fn of(verdict: &Verdict<'_>, refused: bool, request: &Request<Body>) -> Option<Self> {
        let is_logged = match verdict {
            Verdict::Found(route) => route.is_logged,
            Verdict::WrongMethod(_) | Verdict::NotFound => !refused,
            Verdict::Redirect(_) | Verdict::Options(_) => false,
        };
        (is_logged && tracing::enabled!(tracing::Level::INFO))
            .then(|| Self { method: request.method().clone(), uri: request.uri().clone() })
    }

    /// In nsqd's words, because people's log filters know them: `200 GET /ping (1.2.3.4:5) 41µs`.
    fn write(self, status: StatusCode, remote: &Remote, started: Instant) {
        let (Self { method, uri }, took) = (self, started.elapsed());
        info!("{} {method} {uri} ({}) {took:?}", status.as_u16(), remote.0);
    }
}

#[cfg(test)]
mod tests {
    use axum::extract::{Path, State};
    use http_body_util::BodyExt;

    use super::*;
    use crate::answer::{empty, json, text};
    use crate::body::read_body;
    use crate::query::Query;

    fn api() -> Api {
        Routes::default()
            .get("/ping", async || plain(StatusCode::OK, "OK"))
            .get("/topics", async |State(topics): State<Vec<&'static str>>| json(&topics))
            .get("/config/{opt}", async |Path(opt): Path<String>| text(opt))
            .put("/config/{opt}", async |Path(opt): Path<String>, mut body: Body| {
                let value = read_body(&mut body, 10).await.unwrap();
                text([opt.as_bytes(), b"=", &value].concat())
            })
            .post("/topic/create", async |query: Query| {
                query.require("topic", "MISSING_ARG_TOPIC").map(|_| empty())
            })
            .get("/panic", async || -> Response { panic!("on purpose") })
            .with_state(vec!["a<b", "c"])
    }

    fn request(method: &str, uri: &str) -> Request<Body> {
        Request::builder().method(method).uri(uri).body(Body::from("ignored")).unwrap()
    }

    /// `status content-type|allow|location body` of an answer, absent headers as `-`.
    async fn ask(api: &Api, method: &str, uri: &str) -> String {
        let response = api.answer(&Remote("test".into()), request(method, uri)).await;
        let header = |name| match response.headers().get(name) {
            Some(value) => value.to_str().unwrap().to_owned(),
            None => "-".to_owned(),
        };
        let style = if header("x-nsq-content-type") == "nsq; version=1.0" { "V1" } else { "plain" };
        let head = format!(
            "{} {style} {} {} {}",
            response.status().as_u16(),
            header("content-type").split(';').next().unwrap(),
            header("allow"),
            header("location"),
        );
        let body = response.into_body().collect().await.unwrap().to_bytes();
        format!("{head} {}", String::from_utf8_lossy(&body))
    }

    #[tokio::test]
    async fn every_style_of_answer_has_its_headers() {
        let api = api();
        for (method, uri, want) in [
            ("GET", "/ping", "200 plain text/plain - - OK"),
            ("GET", "/topics", r#"200 V1 application/json - - ["a\u003cb","c"]"#),
            ("POST", "/topic/create?topic=", "200 V1 - - - "),
            (
                "POST",
                "/topic/create",
                r#"400 V1 application/json - - {"message":"MISSING_ARG_TOPIC"}"#,
            ),
            (
                "POST",
                "/topic/create?topic=%zz",
                r#"400 V1 application/json - - {"message":"INVALID_REQUEST"}"#,
            ),
            ("GET", "/panic", r#"500 V1 application/json - - {"message":"INTERNAL_ERROR"}"#),
            ("GET", "/config/log_level", "200 V1 text/plain - - log_level"),
            ("PUT", "/config/x", "200 V1 text/plain - - x=ignored"),
        ] {
            assert_eq!(ask(&api, method, uri).await, want, "{method} {uri}");
        }
    }

    #[tokio::test]
    async fn unknown_paths_and_wrong_methods_are_told_apart() {
        let api = api();
        let not_found = r#"404 V1 application/json - - {"message":"NOT_FOUND"}"#;
        for uri in ["/", "/topic", "/pin", "/ping/x", "/config", "/config/", "/config/a/b"] {
            for method in ["GET", "POST", "OPTIONS", "HEAD"] {
                assert_eq!(ask(&api, method, uri).await, not_found, "{method} {uri}");
            }
        }
        for (uri, allow) in [
            ("/ping", "GET, OPTIONS"),
            ("/topic/create", "OPTIONS, POST"),
            ("/config/x", "GET, OPTIONS, PUT"),
        ] {
            let wrong =
                format!(r#"405 V1 application/json {allow} - {{"message":"METHOD_NOT_ALLOWED"}}"#);
            assert_eq!(ask(&api, "DELETE", uri).await, wrong, "{uri}");
            assert_eq!(ask(&api, "HEAD", uri).await, wrong, "{uri}");
            let options = format!("200 plain - {allow} - ");
            assert_eq!(ask(&api, "OPTIONS", uri).await, options, "{uri}");
        }
    }

    #[tokio::test]
    async fn a_nearly_right_path_is_redirected_with_its_query() {
        let api = api();
        for (uri, to) in [
            ("/ping/", "/ping"),
            ("/PING", "/ping"),
            ("//ping", "/ping"),
            ("/x/../ping?a=1&b=%zz", "/ping?a=1&b=%zz"),
            ("/Config/Log%20Level/", "/config/Log%20Level"),
        ] {
            let answer = ask(&api, "GET", uri).await;
            assert!(answer.starts_with(&format!("301 plain text/html - {to} ")), "{uri}: {answer}");
        }
        let answer = ask(&api, "POST", "/topic//create/?topic=x").await;
        assert_eq!(answer, "307 plain - - /topic/create?topic=x ");
        assert!(ask(&api, "POST", "/ping/").await.starts_with("404"), "only for its own method");
    }

    #[tokio::test]
    async fn an_escaped_path_is_the_path() {
        let api = api();
        assert_eq!(ask(&api, "GET", "/%70ing").await, "200 plain text/plain - - OK");
        assert_eq!(ask(&api, "GET", "/config/a%20b").await, "200 V1 text/plain - - a b");
        assert_eq!(ask(&api, "GET", "/%zz").await, "400 plain text/plain - - 400 Bad Request");
    }

    #[tokio::test]
    async fn plain_http_is_refused_as_a_whole_where_tls_is_required() {
        let api = api().refusing_plain_http(4152);
        let refused =
            r#"403 V1 application/json - - {"message": "TLS_REQUIRED", "https_port": 4152}"#;
        for uri in ["/ping", "/nothing", "/ping/"] {
            assert_eq!(ask(&api, "GET", uri).await, refused, "{uri}");
        }
    }

    #[tokio::test]
    async fn two_servers_answer_as_one() {
        let other = Routes::default().get("/lookup", async || text("found")).with_state(());
        let api = api().merge(other);
        assert_eq!(ask(&api, "GET", "/lookup").await, "200 V1 text/plain - - found");
        assert_eq!(ask(&api, "GET", "/ping").await, "200 plain text/plain - - OK");
    }
}
