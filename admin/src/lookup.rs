//! nsqlookupd's HTTP API over anything that knows who produces what.
//!
//! Source: nsqlookupd/http.go (nsq 3103474b); http-api.md section 5. Three differences: answers are
//! sorted, `*` is not a wild card, and there is no Go profiler under `/debug/pprof`. Two additions:
//! answers carry an age, and `/lookup` can wait for a change (see [`crate::watch`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use grapevine_protocol::documents::{
    ChannelsDocument, DebugProducer, LookupDocument, NodeProducer, NodesDocument, TopicsDocument,
    VersionDocument,
};
use grapevine_protocol::{ChannelName, TopicName, VERSION};
use http::StatusCode;

use crate::answer::{ApiError, empty, json, plain};
use crate::presence::Presence;
use crate::query::Query;
use crate::routes::{Api, Routes};
use crate::watch::{TopicWatch, Wait, aged};

/// Who produces which topic, and who may change what the lookup API changes.
///
/// Everything read is sorted. Changes are visible to the next read of the same source.
pub trait LookupSource: Send + Sync {
    /// The answer to `/lookup`; `None` if the topic was never registered or created.
    fn lookup(&self, topic: &str) -> Option<LookupDocument>;
    /// Every topic.
    fn topics(&self) -> Vec<String>;
    /// The channels of a topic; none if it is unknown.
    fn channels(&self, topic: &str) -> Vec<String>;
    /// Every live producer with its topics.
    fn nodes(&self) -> Vec<NodeProducer>;
    /// The registration table: keys `client::`, `topic:<t>:`, `channel:<t>:<c>`.
    fn debug(&self) -> BTreeMap<String, Vec<DebugProducer>>;
    /// Makes the name of a topic known.
    fn create_topic(&self, topic: &TopicName);
    /// Makes the names of a topic and its channel known.
    fn create_channel(&self, topic: &TopicName, channel: &ChannelName);
    /// Forgets a topic, its channels and their registrations.
    fn delete_topic(&self, topic: &str);
    /// Forgets a channel and its registrations; false if nobody knows it.
    fn delete_channel(&self, topic: &TopicName, channel: &ChannelName) -> bool;
    /// Hides a producer (`broadcast_address:http_port`) from a topic for a while.
    fn tombstone(&self, topic: &str, node: &str);
    /// Time since what is read here was last compared with what others know; `None`: never.
    fn age(&self) -> Option<Duration>;
    /// Waits for changes of [`lookup`](Self::lookup); `None` if too many do already.
    fn watch(&self, topic: &str) -> Option<Box<dyn TopicWatch>>;
}

/// What the handlers share.
type Source = State<Arc<dyn LookupSource>>;

/// The whole API, as on nsqlookupd's own port.
pub fn api(source: Arc<dyn LookupSource>) -> Api {
    view_routes()
        .get("/ping", async || plain(StatusCode::OK, "OK"))
        .get("/info", async || json(&VersionDocument { version: VERSION.to_owned() }))
        .get("/debug", debug)
        .post("/topic/create", create_topic)
        .post("/topic/delete", delete_topic)
        .post("/topic/tombstone", tombstone_topic)
        .post("/channel/create", create_channel)
        .post("/channel/delete", delete_channel)
        .with_state(source)
}

/// Only the four questions, for a port whose other paths belong to nsqd.
pub fn view(source: Arc<dyn LookupSource>) -> Api {
    view_routes().with_state(source)
}

fn view_routes() -> Routes<Arc<dyn LookupSource>> {
    Routes::default()
        .get("/lookup", lookup)
        .get("/topics", topics)
        .get("/channels", channels)
        .get("/nodes", nodes)
}

async fn lookup(
    State(source): Source,
    client: Presence,
    query: Query,
) -> Result<Response, ApiError> {
    let topic = query.require("topic", "MISSING_ARG_TOPIC")?;
    let answer = Wait::of(&query)?.answer(&*source, topic, &client).await;
    Ok(aged(&*source, answer))
}

async fn topics(State(source): Source) -> Response {
    aged(&*source, json(&TopicsDocument { topics: source.topics() }))
}

async fn channels(State(source): Source, query: Query) -> Result<Response, ApiError> {
    let topic = query.require("topic", "MISSING_ARG_TOPIC")?;
    Ok(aged(&*source, json(&ChannelsDocument { channels: source.channels(topic) })))
}

async fn nodes(State(source): Source) -> Response {
    aged(&*source, json(&NodesDocument { producers: source.nodes() }))
}

async fn debug(State(source): Source) -> Response {
    aged(&*source, json(&source.debug()))
}

async fn create_topic(State(source): Source, query: Query) -> Result<Response, ApiError> {
    source.create_topic(&topic_name(&query)?);
    Ok(empty())
}

async fn delete_topic(State(source): Source, query: Query) -> Result<Response, ApiError> {
    source.delete_topic(query.require("topic", "MISSING_ARG_TOPIC")?);
    Ok(empty())
}

async fn tombstone_topic(State(source): Source, query: Query) -> Result<Response, ApiError> {
    let topic = query.require("topic", "MISSING_ARG_TOPIC")?;
    source.tombstone(topic, query.require("node", "MISSING_ARG_NODE")?);
    Ok(empty())
}

async fn create_channel(State(source): Source, query: Query) -> Result<Response, ApiError> {
    let (topic, channel) = topic_and_channel(&query)?;
    source.create_channel(&topic, &channel);
    Ok(empty())
}

async fn delete_channel(State(source): Source, query: Query) -> Result<Response, ApiError> {
    let (topic, channel) = topic_and_channel(&query)?;
    if source.delete_channel(&topic, &channel) {
        Ok(empty())
    } else {
        Err(ApiError::not_found("CHANNEL_NOT_FOUND"))
    }
}

/// `topic`, checked.
///
/// # Errors
///
/// `MISSING_ARG_TOPIC`, `INVALID_ARG_TOPIC`.
fn topic_name(query: &Query) -> Result<TopicName, ApiError> {
    let topic = query.require("topic", "MISSING_ARG_TOPIC")?;
    TopicName::new(topic).map_err(|_| ApiError::bad_request("INVALID_ARG_TOPIC"))
}

/// `topic` and `channel`, checked in this order.
///
/// # Errors
///
/// `MISSING_ARG_TOPIC`, `INVALID_ARG_TOPIC`, `MISSING_ARG_CHANNEL`, `INVALID_ARG_CHANNEL`.
///
/// Source: `GetTopicChannelArgs`, internal/http_api/topic_channel_args.go.
pub fn topic_and_channel(query: &Query) -> Result<(TopicName, ChannelName), ApiError> {
    let topic = topic_name(query)?;
    let channel = query.require("channel", "MISSING_ARG_CHANNEL")?;
    let channel =
        ChannelName::new(channel).map_err(|_| ApiError::bad_request("INVALID_ARG_CHANNEL"))?;
    Ok((topic, channel))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::pin::Pin;
    use std::sync::Mutex;

    use axum::body::Body;
    use grapevine_protocol::documents::Producer;
    use http::Request;
    use http_body_util::BodyExt;
    use tokio::sync::watch;

    use super::*;
    use crate::routes::Remote;

    /// Names only, and one producer that has them all. A watch is woken by every change.
    #[derive(Default)]
    struct Names {
        topics: Mutex<BTreeMap<String, BTreeSet<String>>>,
        tombstones: Mutex<Vec<String>>,
        changes: watch::Sender<()>,
        is_full: bool,
    }

    struct NameWatch(watch::Receiver<()>);

    impl TopicWatch for NameWatch {
        fn changed(&mut self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
            Box::pin(async { self.0.changed().await.is_ok() })
        }
    }

    fn producer() -> Producer {
        Producer {
            remote_address: "10.0.0.1:5".into(),
            hostname: "h<1>".into(),
            broadcast_address: "b".into(),
            tcp_port: 4150,
            http_port: 4151,
            version: "1.2.1".into(),
            topology_zone: String::new(),
            topology_region: "eu".into(),
        }
    }

    impl LookupSource for Names {
        fn lookup(&self, topic: &str) -> Option<LookupDocument> {
            let channels = self.topics.lock().unwrap().get(topic)?.iter().cloned().collect();
            Some(LookupDocument { channels, producers: vec![producer()] })
        }

        fn topics(&self) -> Vec<String> {
            self.topics.lock().unwrap().keys().cloned().collect()
        }

        fn channels(&self, topic: &str) -> Vec<String> {
            self.lookup(topic).map(|found| found.channels).unwrap_or_default()
        }

        fn nodes(&self) -> Vec<NodeProducer> {
            let topics = self.topics();
            vec![NodeProducer {
                producer: producer(),
                tombstones: vec![false; topics.len()],
                topics,
            }]
        }

        fn debug(&self) -> BTreeMap<String, Vec<DebugProducer>> {
            let registration = DebugProducer { id: "id".into(), ..DebugProducer::default() };
            BTreeMap::from([("client::".into(), vec![registration])])
        }

        fn create_topic(&self, topic: &TopicName) {
            self.topics.lock().unwrap().entry(topic.to_string()).or_default();
        }

        fn create_channel(&self, topic: &TopicName, channel: &ChannelName) {
            let mut topics = self.topics.lock().unwrap();
            topics.entry(topic.to_string()).or_default().insert(channel.to_string());
            self.changes.send_replace(());
        }

        fn delete_topic(&self, topic: &str) {
            self.topics.lock().unwrap().remove(topic);
        }

        fn delete_channel(&self, topic: &TopicName, channel: &ChannelName) -> bool {
            let mut topics = self.topics.lock().unwrap();
            topics.get_mut(topic.as_str()).is_some_and(|known| known.remove(channel.as_str()))
        }

        fn tombstone(&self, topic: &str, node: &str) {
            self.tombstones.lock().unwrap().push(format!("{topic} {node}"));
        }

        fn age(&self) -> Option<Duration> {
            Some(Duration::from_micros(1_234_567))
        }

        fn watch(&self, _topic: &str) -> Option<Box<dyn TopicWatch>> {
            (!self.is_full).then(|| Box::new(NameWatch(self.changes.subscribe())) as _)
        }
    }

    /// Status, index (or `-`) and age of an answer.
    async fn head(api: &Api, uri: &str) -> (u16, String, String) {
        let request = Request::builder().uri(uri).body(Body::empty()).unwrap();
        let response = api.answer(&Remote("test".into()), request).await;
        let header = |name: &str| {
            let value = response.headers().get(name);
            value.map_or("-".to_owned(), |value| value.to_str().unwrap().to_owned())
        };
        let (index, age) = (header("x-nsq-gossip-index"), header("x-nsq-gossip-age"));
        (response.status().as_u16(), index, age)
    }

    #[tokio::test]
    async fn every_answer_says_how_old_it_is() {
        let api = api(Arc::new(Names::default()));
        for uri in ["/lookup?topic=t", "/topics", "/channels?topic=t", "/nodes", "/debug"] {
            assert_eq!(head(&api, uri).await.2, "1234", "{uri}");
        }
    }

    #[tokio::test]
    async fn a_watch_ends_when_the_answer_changes() {
        let source = Arc::new(Names::default());
        let api = api(source.clone());
        let (status, index, _) = head(&api, "/lookup?topic=t").await;
        assert_eq!((status, index.as_str()), (404, "0"));
        let channels = ["a", "b"];
        let change = async {
            for channel in channels {
                tokio::task::yield_now().await;
                source.create_channel(&TopicName::new("other").unwrap(), &name("x"));
                tokio::task::yield_now().await;
                source.create_channel(&TopicName::new("t").unwrap(), &name(channel));
            }
        };
        let watch = async {
            let mut index = index.clone();
            for _ in channels {
                let uri = format!("/lookup?topic=t&wait=1m&index={index}");
                let (status, new, _) = head(&api, &uri).await;
                assert_eq!(status, 200);
                assert_ne!(new, index);
                index = new;
            }
            index
        };
        let (last, ()) = tokio::join!(watch, change);
        assert_eq!(head(&api, "/lookup?topic=t").await.1, last);
    }

    fn name(channel: &str) -> ChannelName {
        ChannelName::new(channel).unwrap()
    }

    #[tokio::test]
    async fn a_watch_is_over_when_its_time_is_up_and_answers_all_the_same() {
        let api = api(Arc::new(Names::default()));
        ask(&api, "POST /channel/create?topic=t&channel=c").await;
        let plain = ask(&api, "GET /lookup?topic=t").await;
        let index = head(&api, "/lookup?topic=t").await.1;
        let same = ask(&api, &format!("GET /lookup?topic=t&wait=10ms&index={index}")).await;
        assert_eq!(same, plain);
        assert_eq!(ask(&api, "GET /lookup?topic=t&wait=5m&index=7").await, plain, "differs");
        assert_eq!(ask(&api, "GET /lookup?topic=t&wait=5m").await, plain, "nothing to compare");
        let bad = ask(&api, "GET /lookup?topic=t&wait=5&index=7").await;
        assert_eq!(bad, r#"400 {"message":"INVALID_WAIT"}"#);
    }

    #[tokio::test]
    async fn a_watch_too_many_is_refused() {
        let api = api(Arc::new(Names { is_full: true, ..Names::default() }));
        let refusal = ask(&api, "GET /lookup?topic=t&wait=1m&index=0").await;
        assert_eq!(refusal, r#"503 {"message":"TOO_MANY_WATCHES"}"#);
        assert!(ask(&api, "GET /lookup?topic=t&index=0").await.starts_with("404 "));
    }

    async fn ask(api: &Api, line: &str) -> String {
        let (method, uri) = line.split_once(' ').unwrap();
        let request = Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
        let response = api.answer(&Remote("test".into()), request).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        format!("{status} {}", String::from_utf8_lossy(&body))
    }

    #[tokio::test]
    async fn names_are_created_listed_and_deleted() {
        let api = api(Arc::new(Names::default()));
        for (line, want) in [
            ("GET /ping", "200 OK"),
            ("GET /topics", r#"200 {"topics":[]}"#),
            ("POST /topic/create?topic=b", "200 "),
            ("POST /channel/create?topic=a&channel=y", "200 "),
            ("POST /channel/create?topic=a&channel=x", "200 "),
            ("GET /topics", r#"200 {"topics":["a","b"]}"#),
            ("GET /channels?topic=a", r#"200 {"channels":["x","y"]}"#),
            ("GET /channels?topic=nothing", r#"200 {"channels":[]}"#),
            ("POST /channel/delete?topic=a&channel=x", "200 "),
            ("POST /channel/delete?topic=a&channel=x", r#"404 {"message":"CHANNEL_NOT_FOUND"}"#),
            ("GET /channels?topic=a", r#"200 {"channels":["y"]}"#),
            ("POST /topic/delete?topic=a", "200 "),
            ("POST /topic/delete?topic=*", "200 "),
            ("GET /lookup?topic=a", r#"404 {"message":"TOPIC_NOT_FOUND"}"#),
            ("GET /lookup?topic=*", r#"404 {"message":"TOPIC_NOT_FOUND"}"#),
            ("GET /topics", r#"200 {"topics":["b"]}"#),
        ] {
            assert_eq!(ask(&api, line).await, want, "{line}");
        }
    }

    #[tokio::test]
    async fn producers_are_shown_with_nsqlookupds_keys_in_its_order() {
        let api = api(Arc::new(Names::default()));
        ask(&api, "POST /channel/create?topic=t&channel=c").await;
        let producer = concat!(
            r#""remote_address":"10.0.0.1:5","hostname":"h\u003c1\u003e","broadcast_address":"b","#,
            r#""tcp_port":4150,"http_port":4151,"version":"1.2.1","topology_zone":"","#,
            r#""topology_region":"eu""#
        );
        let lookup = format!(r#"200 {{"channels":["c"],"producers":[{{{producer}}}]}}"#);
        assert_eq!(ask(&api, "GET /lookup?topic=t").await, lookup);
        let nodes = ask(&api, "GET /nodes").await;
        let want = format!(r#"{{{producer},"tombstones":[false],"topics":["t"]}}"#);
        assert_eq!(nodes, format!(r#"200 {{"producers":[{want}]}}"#));
        let debug = ask(&api, "GET /debug").await;
        assert!(debug.starts_with(r#"200 {"client::":[{"broadcast_address":"","#), "{debug}");
        let info = ask(&api, "GET /info").await;
        assert_eq!(info, format!(r#"200 {{"version":"{VERSION}"}}"#));
    }

    #[tokio::test]
    async fn arguments_are_checked_in_nsqlookupds_order() {
        let source = Arc::new(Names::default());
        let api = api(source.clone());
        for (line, code) in [
            ("GET /lookup", "MISSING_ARG_TOPIC"),
            ("GET /lookup?Topic=x", "MISSING_ARG_TOPIC"),
            ("GET /lookup?topic=%zz", "INVALID_REQUEST"),
            ("GET /channels", "MISSING_ARG_TOPIC"),
            ("POST /topic/create", "MISSING_ARG_TOPIC"),
            ("POST /topic/create?topic=", "INVALID_ARG_TOPIC"),
            ("POST /topic/delete?x", "MISSING_ARG_TOPIC"),
            ("POST /topic/tombstone?node=a:1", "MISSING_ARG_TOPIC"),
            ("POST /topic/tombstone?topic=t", "MISSING_ARG_NODE"),
            ("POST /channel/create?channel=c", "MISSING_ARG_TOPIC"),
            ("POST /channel/create?topic=a$", "INVALID_ARG_TOPIC"),
            ("POST /channel/create?topic=a", "MISSING_ARG_CHANNEL"),
            ("POST /channel/delete?topic=a&channel=b$", "INVALID_ARG_CHANNEL"),
        ] {
            let want = format!(r#"400 {{"message":"{code}"}}"#);
            assert_eq!(ask(&api, line).await, want, "{line}");
        }
        assert_eq!(ask(&api, "POST /topic/tombstone?topic=t$&node=a:1").await, "200 ");
        assert_eq!(*source.tombstones.lock().unwrap(), ["t$ a:1"]);
        for path in ["/topic/empty?topic=x", "/channel/pause?topic=x&channel=y", "/create_topic"] {
            assert!(ask(&api, &format!("POST {path}")).await.starts_with("404 "), "{path}");
        }
    }

    #[tokio::test]
    async fn the_view_alone_changes_nothing() {
        let api = view(Arc::new(Names::default()));
        assert!(ask(&api, "GET /topics").await.starts_with("200 "));
        assert!(ask(&api, "POST /topic/create?topic=t").await.starts_with("404 "));
        assert!(ask(&api, "GET /ping").await.starts_with("404 "));
    }
}
