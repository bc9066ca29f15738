//! nsqd's API as a client sees it, without sockets.

use std::time::Duration;

use axum::body::Body;
use grapevine_broker::{ConsumerId, IdSource, Settings};
use grapevine_protocol::{ClientSettings, ServerSettings, TopicName};
use grapevine_storage::DataPath;
use http::Request;
use http_body_util::BodyExt as _;

use super::*;
use crate::config::{Durability, Invocation, Options};
use crate::node::{Client, Clock, ClusterLink, Registry, RegistryOptions};

/// A node in a folder of its own, and its API.
struct Bench {
    api: Api,
    node: Arc<Node>,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn with(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let words = flags.iter().map(|flag| (*flag).to_owned());
        let Ok(Invocation::Run(options)) = Options::parse_like_go(words) else {
            panic!("bad flags {flags:?}");
        };
        let gossip = grapevine_gossip::agent::Config {
            bind: ([127, 0, 0, 1], 0).into(),
            ..grapevine_gossip::agent::Config::default()
        };
        let registry_options = RegistryOptions {
            settings: Settings {
                mem_queue_size: options.mem_queue_size,
                msg_timeout_max: options.max_msg_timeout,
                channel_consumers_max: 0,
                latency_window: None,
            },
            durability: Durability::Os,
            segment_bytes_max: options.max_bytes_per_file,
            sync_every: options.sync_every,
            init_grace: Duration::ZERO,
        };
        let registry = Registry::new(
            DataPath::open(folder.path()).unwrap(),
            registry_options,
            Clock::start(),
            IdSource::new(1, 0),
            ClusterLink::new(grapevine_gossip::agent::start(gossip).await.unwrap()),
        );
        let node = Arc::new(Node {
            registry,
            options: Arc::from(options),
            start_time: 1_700_000_000,
            hostname: "host".to_owned(),
            tcp_port: Some(4150),
            http_port: None,
            https_port: None,
            lookup_http_port: None,
        });
        Self { api: nsqd_api(Arc::clone(&node)), node, _folder: folder }
    }

    async fn new() -> Self {
        Self::with(&[]).await
    }

    /// `status body` of an answer.
    async fn ask(&self, method: &str, uri: &str, body: impl Into<Body>) -> String {
        let request = Request::builder().method(method).uri(uri).body(body.into()).unwrap();
        let response = self.api.answer(&Remote("test".into()), request).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        format!("{status} {}", String::from_utf8_lossy(&body))
    }

    async fn post(&self, uri: &str) -> String {
        self.ask("POST", uri, Body::empty()).await
    }

    async fn stats(&self, query: &str) -> serde_json::Value {
        let answer = self.ask("GET", &format!("/stats?format=json{query}"), Body::empty()).await;
        serde_json::from_str(answer.strip_prefix("200 ").unwrap()).unwrap()
    }

    fn depth(&self, topic: &str) -> u64 {
        let topic = self.node.registry.existing_topic(topic);
        topic.map_or(0, |topic| topic.stats(&|_| true).depth)
    }
}

fn error(status: u16, code: &str) -> String {
    format!(r#"{status} {{"message":"{code}"}}"#)
}

#[tokio::test]
async fn a_publish_is_checked_in_nsqds_order() {
    let bench = Bench::with(&["-max-msg-size=10", "-max-body-size=100"]).await;
    for (uri, body, status, code) in [
        ("/pub", "x".repeat(11), 413, "MSG_TOO_BIG"),
        ("/pub", String::new(), 400, "MSG_EMPTY"),
        ("/pub", "x".into(), 400, "MISSING_ARG_TOPIC"),
        ("/pub?topic=a$", "x".into(), 400, "INVALID_TOPIC"),
        ("/pub?topic=%zz", "x".into(), 400, "INVALID_REQUEST"),
        ("/pub?topic=t&defer=", "x".into(), 400, "INVALID_DEFER"),
        ("/pub?topic=t&defer=-1", "x".into(), 400, "INVALID_DEFER"),
        ("/pub?topic=t&defer=3600001", "x".into(), 400, "INVALID_DEFER"),
        ("/mpub", "x".repeat(101), 413, "BODY_TOO_BIG"),
        ("/mpub", "x".into(), 400, "MISSING_ARG_TOPIC"),
        ("/mpub?topic=t", format!("ok\n{}", "x".repeat(11)), 413, "MSG_TOO_BIG"),
        ("/mpub?topic=t&binary=1", String::new(), 413, "BAD_BODY"),
        ("/mpub?topic=t&binary=1", "\0\0\0\u{1}\0\0\0\0".into(), 413, "BAD_MESSAGE"),
    ] {
        assert_eq!(bench.ask("POST", uri, body).await, error(status, code), "{uri}");
    }
    assert_eq!(bench.depth("t"), 0, "what is refused is not stored");
}

#[tokio::test]
async fn every_form_of_publishing_stores_its_messages() {
    let bench = Bench::new().await;
    for (uri, body, messages) in [
        ("/pub?topic=one", "x", 1),
        ("/pub?topic=later&defer=3600000", "x", 1),
        ("/mpub?topic=lines", "a\n\nb\r\n", 2),
        ("/mpub?topic=none", "\n\n", 0),
        ("/mpub?topic=off&binary=0", "a\nb", 2),
        ("/mpub?topic=binary&binary=", "\0\0\0\u{2}\0\0\0\u{1}a\0\0\0\u{2}\n\nrest", 2),
    ] {
        assert_eq!(bench.ask("POST", uri, body).await, "200 OK", "{uri}");
        let topic = uri.split(['=', '&']).nth(1).unwrap();
        assert_eq!(bench.depth(topic), messages, "{uri}");
    }
}

#[tokio::test]
async fn topics_and_channels_are_created_changed_and_deleted() {
    let bench = Bench::new().await;
    let (topic, channel) = ("topic=t", "topic=t&channel=c");
    for (path, want) in [
        (format!("/channel/create?{channel}"), error(404, "TOPIC_NOT_FOUND")),
        (format!("/topic/create?{topic}"), "200 ".into()),
        (format!("/topic/create?{topic}"), "200 ".into()),
        (format!("/channel/pause?{channel}"), error(404, "CHANNEL_NOT_FOUND")),
        (format!("/channel/create?{channel}"), "200 ".into()),
        (format!("/channel/create?{channel}"), "200 ".into()),
        (format!("/channel/pause?{channel}"), "200 ".into()),
        (format!("/topic/pause?{topic}"), "200 ".into()),
    ] {
        assert_eq!(bench.post(&path).await, want, "{path}");
    }
    let stats = bench.stats("&topic=t").await;
    assert_eq!(stats["topics"][0]["paused"], true);
    assert_eq!(stats["topics"][0]["channels"][0]["paused"], true);
    for path in [
        format!("/topic/unpause?{topic}"),
        format!("/channel/unpause?{channel}"),
        format!("/channel/empty?{channel}"),
        format!("/topic/empty?{topic}"),
        format!("/channel/delete?{channel}"),
        format!("/topic/delete?{topic}"),
    ] {
        assert_eq!(bench.post(&path).await, "200 ", "{path}");
    }
    assert_eq!(bench.stats("").await["topics"], serde_json::json!([]));
}

#[tokio::test]
async fn names_are_refused_in_the_words_of_their_endpoint() {
    let bench = Bench::new().await;
    for (path, status, code) in [
        ("/topic/create", 400, "MISSING_ARG_TOPIC"),
        ("/topic/create?topic=a$", 400, "INVALID_TOPIC"),
        ("/topic/empty?topic=a$", 400, "INVALID_TOPIC"),
        ("/topic/delete?topic=a$", 404, "TOPIC_NOT_FOUND"),
        ("/topic/pause?topic=a$", 404, "TOPIC_NOT_FOUND"),
        ("/channel/create?topic=a$", 400, "INVALID_ARG_TOPIC"),
        ("/channel/create?topic=a", 400, "MISSING_ARG_CHANNEL"),
        ("/channel/create?topic=a&channel=b$", 400, "INVALID_ARG_CHANNEL"),
    ] {
        assert_eq!(bench.post(path).await, error(status, code), "{path}");
    }
}

#[tokio::test]
async fn stats_show_what_was_asked_for_and_null_for_an_unknown_topic() {
    let bench = Bench::new().await;
    for path in ["topic=b&channel=x", "topic=b&channel=y", "topic=a&channel=x"] {
        bench.post(&format!("/topic/create?{path}")).await;
        bench.post(&format!("/channel/create?{path}")).await;
    }
    let names = |stats: &serde_json::Value| -> Vec<String> {
        let topics = stats["topics"].as_array().unwrap().iter();
        let named = topics.map(|topic| {
            let channels = topic["channels"].as_array().unwrap().iter();
            let channels: Vec<_> =
                channels.map(|channel| channel["channel_name"].as_str().unwrap()).collect();
            format!("{}:{}", topic["topic_name"].as_str().unwrap(), channels.join(","))
        });
        named.collect()
    };
    assert_eq!(names(&bench.stats("").await), ["a:x", "b:x,y"]);
    assert_eq!(names(&bench.stats("&topic=b").await), ["b:x,y"]);
    assert_eq!(names(&bench.stats("&channel=y").await), ["b:y"]);
    assert_eq!(names(&bench.stats("&topic=a&channel=y").await), [""; 0]);
    let unknown = bench.stats("&topic=c").await;
    assert!(unknown["topics"].is_null() && unknown["producers"].is_null());

    let full = bench.stats("&topic=a").await;
    assert!(full["memory"]["heap_in_use_bytes"].as_u64().unwrap() > 0);
    assert_eq!(full["topics"][0]["channels"][0]["clients"], serde_json::json!([]));
    let lean = bench.stats("&topic=a&include_clients=false&include_mem=0").await;
    assert!(lean.get("memory").is_none());
    assert!(lean["topics"][0]["channels"][0]["clients"].is_null());
}

#[tokio::test]
async fn stats_are_text_unless_json_is_asked_for_exactly() {
    let bench = Bench::new().await;
    for query in ["", "?format=JSON", "?format=text"] {
        let text = bench.ask("GET", &format!("/stats{query}"), Body::empty()).await;
        assert!(text.starts_with("200 nsqd v1.3.0+grapevine."), "{text}");
        assert!(text.contains("\nstart_time 2023-11-14T22:13:20Z\n"), "{text}");
    }
}

#[tokio::test]
async fn ping_says_why_messages_cannot_be_stored() {
    let bench = Bench::new().await;
    assert_eq!(bench.ask("GET", "/ping", Body::empty()).await, "200 OK");
    bench.node.registry.health().write_failed(&std::io::Error::other("disk full"));
    assert_eq!(bench.ask("GET", "/ping", Body::empty()).await, "500 NOK - disk full");
}

#[tokio::test]
async fn options_are_read_and_two_of_them_changed() {
    let bench = Bench::with(&["-max-msg-size=10", "-cluster-name=c"]).await;
    let get = async |option: &str| bench.ask("GET", &format!("/config/{option}"), "").await;
    assert_eq!(get("max_msg_size").await, "200 10");
    assert_eq!(get("cluster_name").await, "200 c");
    assert_eq!(get("sync_timeout").await, "200 2000000000");
    assert_eq!(get("e2e_processing_latency_percentiles").await, "200 []");
    assert_eq!(get("max-msg-size").await, error(400, "INVALID_OPTION"));
    for (option, body, want) in [
        ("log_level", "WARN", "200 3".to_owned()),
        ("log_level", "loud", error(400, "INVALID_VALUE")),
        ("log_level", "", error(413, "INVALID_VALUE")),
        ("log_level", "12345678901", error(413, "INVALID_VALUE")),
        ("max_msg_size", "5", error(400, "INVALID_OPTION")),
    ] {
        let answer = bench.ask("PUT", &format!("/config/{option}"), body).await;
        assert_eq!(answer, want, "{option} {body}");
    }
    assert_eq!(get("log_level").await, "200 3");
}

#[tokio::test]
async fn info_names_the_ports_and_the_cluster_view_is_beside_it() {
    let bench = Bench::new().await;
    let info = bench.ask("GET", "/info", Body::empty()).await;
    assert!(info.contains(r#""http_port":-1,"tcp_port":4150,"start_time":1700000000"#), "{info}");
    bench.post("/topic/create?topic=t").await;
    let lookup = bench.ask("GET", "/lookup?topic=t", Body::empty()).await;
    assert!(lookup.starts_with(r#"200 {"channels":[]"#), "{lookup}");
    assert_eq!(bench.post("/topic/tombstone?topic=t&node=x:1").await, error(404, "NOT_FOUND"));
}

#[tokio::test]
async fn a_producer_lists_every_topic_it_published_to() {
    let bench = Bench::new().await;
    let settings = ClientSettings::new("10.0.0.1", &ServerSettings::default());
    let client = Arc::new(Client::new(ConsumerId(1), "10.0.0.1:5".into(), 7, settings));
    bench.node.registry.add_client(&client);
    assert!(bench.stats("").await["producers"].is_null(), "it has published nothing");
    for (topic, count) in [("b", 2), ("a", 1)] {
        client.count_published(&TopicName::new(topic).unwrap(), count);
        bench.post(&format!("/topic/create?topic={topic}")).await;
    }
    let counts = async |query: &str| {
        let producer = bench.stats(query).await["producers"][0].clone();
        assert_eq!(producer["remote_address"], "10.0.0.1:5");
        producer["pub_counts"].to_string()
    };
    let (a, b) = (r#"{"topic":"a","count":1}"#, r#"{"topic":"b","count":2}"#);
    assert_eq!(counts("").await, format!("[{a},{b}]"));
    assert_eq!(counts("&topic=b").await, format!("[{b}]"));
    assert!(bench.stats("&include_clients=false").await["producers"].is_null());
}
