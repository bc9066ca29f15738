//! A stock nsqadmin over a cluster: everything it can do, it can do here.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Cluster, Nsqd, Stock, eventually, eventually_ok, for_a_while, is_reference, request,
    stock_program,
};

/// A change is everywhere within this; usually it is well under half a second.
const SPREAD_MAX: Duration = Duration::from_secs(5);

/// Three nodes, `t/c` on two of them, and an nsqadmin that asks all three.
struct Bench {
    cluster: Cluster,
    admin: Stock,
}

impl Bench {
    #[track_caller]
    fn start(test: &str, flags: &[&str]) -> Option<Self> {
        let program = stock_program("nsqadmin", test).filter(|_| !is_reference())?;
        let cluster = Cluster::with(3, flags);
        for index in [0, 2] {
            cluster.nodes[index].create_channel("t", "c");
        }
        cluster.wait_for_lookup(SPREAD_MAX, "t", &[0, 1, 2], &[0, 2]);
        let lookups: Vec<String> = cluster.nodes.iter().map(|node| node.lookup_http()).collect();
        Some(Self { admin: Stock::nsqadmin(&program, &lookups), cluster })
    }

    /// Does something, with no complaint from any node.
    #[track_caller]
    fn act(&self, method: &str, path: &str, body: &Value) {
        let body = body.to_string();
        let answer = request(self.admin.http(), method, path, &[], body.as_bytes());
        let answer = answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let text = answer.text();
        assert_eq!(answer.status, 200, "{method} {path}: {text}");
        assert_eq!(answer.json()["message"], "", "{method} {path}: {text}");
    }

    /// Something of the aggregated statistics; without a complaint.
    #[track_caller]
    fn stats(&self, path: &str) -> Value {
        let stats = self.admin.get(path);
        assert_eq!(stats["message"], "", "{path}: {stats}");
        stats
    }

    /// A message in `t` on node 0 and one on node 2.
    #[track_caller]
    fn publish(&self) {
        for index in [0, 2] {
            self.cluster.nodes[index].post_ok("/pub?topic=t", b"x");
        }
    }

    fn node(&self, index: usize) -> String {
        self.cluster.nodes[index].http()
    }

    fn topics(&self, query: &str) -> Value {
        self.stats(&format!("/api/topics{query}"))["topics"].clone()
    }

    /// Waits until no node knows the topic, then sees that it stays away.
    #[track_caller]
    fn wait_until_gone(&self, topic: &str) {
        let is_gone = || {
            self.cluster.nodes.iter().all(|node| {
                node.get(&format!("/lookup?topic={topic}")).status == 404
                    && has_no_topic(node, topic)
            })
        };
        eventually(SPREAD_MAX, "the topic is gone", is_gone);
        for_a_while(Duration::from_secs(3), "it does not come back by gossip", is_gone);
    }
}

#[track_caller]
fn has_no_topic(node: &Nsqd, topic: &str) -> bool {
    let stats = node.get(&format!("/stats?format=json&topic={topic}")).json();
    stats["topics"].as_array().is_none_or(Vec::is_empty)
}

#[test]
fn nsqadmin_shows_every_node_topic_and_channel_once() {
    let test = "nsqadmin_shows_every_node_topic_and_channel_once";
    let Some(bench) = Bench::start(test, &[]) else { return };
    bench.publish();
    assert_eq!(bench.topics(""), json!(["t"]));
    let nodes = bench.stats("/api/nodes")["nodes"].clone();
    let nodes = nodes.as_array().expect("nodes");
    let ports: BTreeSet<u64> = nodes.iter().filter_map(|node| node["tcp_port"].as_u64()).collect();
    assert_eq!((nodes.len(), ports.len()), (3, 3), "{nodes:?}");
    for node in nodes {
        assert_eq!(node["out_of_date"], false, "its version is understood: {node}");
        assert_eq!(node["remote_addresses"].as_array().expect("addresses").len(), 3, "{node}");
    }
    let topic = bench.stats("/api/topics/t");
    assert_eq!((&topic["depth"], &topic["message_count"]), (&json!(0), &json!(2)), "{topic}");
    assert_eq!(topic["nodes"].as_array().expect("nodes").len(), 2, "{topic}");

    let _consumer = bench.cluster.nodes[0].consumer("t", "c", 0);
    let channel = bench.stats("/api/topics/t/c");
    assert_eq!((&channel["depth"], &channel["client_count"]), (&json!(2), &json!(1)), "{channel}");
    assert_eq!(channel["clients"][0]["node"], bench.node(0), "{channel}");
    let node = bench.stats(&format!("/api/nodes/{}", bench.node(0)));
    assert_eq!((&node["total_messages"], &node["total_clients"]), (&json!(1), &json!(1)), "{node}");
    let counter = bench.stats("/api/counter");
    for index in [0, 2] {
        let key = format!("t:c:{}", bench.node(index));
        assert_eq!(counter["stats"][&key]["message_count"], 1, "{counter}");
    }
    let nobody = crate::support::get(bench.admin.http(), "/api/nodes/127.0.0.1:1");
    assert_eq!(nobody.expect("an answer").status, 404);
}

#[test]
fn nsqadmin_pauses_resumes_and_empties_topics_and_channels_on_every_node() {
    let test = "nsqadmin_pauses_resumes_and_empties_topics_and_channels_on_every_node";
    let Some(bench) = Bench::start(test, &[]) else { return };
    let topic_of = |index: usize| {
        let stats = bench.cluster.nodes[index].get("/stats?format=json&topic=t").json();
        stats["topics"][0].clone()
    };
    for (path, is_channel) in [("/api/topics/t", false), ("/api/topics/t/c", true)] {
        for (action, is_paused) in [("pause", true), ("unpause", false)] {
            bench.act("POST", path, &json!({ "action": action }));
            assert_eq!(bench.stats(path)["paused"], is_paused, "{path} {action}");
            for index in [0, 2] {
                let topic = topic_of(index);
                let found = if is_channel { &topic["channels"][0] } else { &topic };
                assert_eq!(found["paused"], is_paused, "{path} {action} on node {index}");
            }
        }
    }
    bench.publish();
    assert_eq!(bench.stats("/api/topics/t/c")["depth"], 2);
    bench.act("POST", "/api/topics/t/c", &json!({ "action": "empty" }));
    assert_eq!(bench.stats("/api/topics/t/c")["depth"], 0);

    bench.act("POST", "/api/topics/t", &json!({ "action": "pause" }));
    bench.publish();
    assert_eq!(bench.stats("/api/topics/t")["depth"], 2, "the topic holds them");
    bench.act("POST", "/api/topics/t", &json!({ "action": "empty" }));
    assert_eq!(bench.stats("/api/topics/t")["depth"], 0);
}

#[test]
fn nsqadmin_creates_and_deletes_topics_and_channels_for_good() {
    let test = "nsqadmin_creates_and_deletes_topics_and_channels_for_good";
    let Some(bench) = Bench::start(test, &[]) else { return };
    bench.act("POST", "/api/topics", &json!({ "topic": "named" }));
    assert_eq!(bench.topics(""), json!(["named", "t"]));
    bench.act("POST", "/api/topics", &json!({ "topic": "named", "channel": "ch" }));
    assert_eq!(bench.topics("?inactive=true"), json!({ "named": ["ch"] }), "nobody produces it");
    // The producers of a topic get a channel at once; who begins later gets it with the topic.
    bench.act("POST", "/api/topics", &json!({ "topic": "t", "channel": "new" }));
    for index in [0, 2] {
        assert!(!bench.cluster.nodes[index].channel_stats("t", "new").is_null(), "node {index}");
    }
    bench.cluster.nodes[1].post_ok("/pub?topic=named", b"x");
    bench.cluster.nodes[1].wait_for_stat("named", "ch", "depth", 1);

    bench.act("DELETE", "/api/topics/t/c", &json!({}));
    let channels = || -> Vec<Value> {
        let nodes = bench.cluster.nodes.iter();
        nodes.map(|node| node.get("/lookup?topic=t").json()["channels"].clone()).collect()
    };
    eventually_ok(SPREAD_MAX, "the channel is gone", || {
        let channels = channels();
        if channels.iter().all(|names| *names == json!(["new"])) {
            Ok(())
        } else {
            Err(format!("{channels:?}"))
        }
    });
    for_a_while(Duration::from_secs(2), "it does not come back by gossip", || {
        channels().iter().all(|names| *names == json!(["new"]))
    });
    for topic in ["t", "named"] {
        bench.act("DELETE", &format!("/api/topics/{topic}"), &json!({}));
        bench.wait_until_gone(topic);
    }
    assert!(bench.topics("").as_array().is_none_or(Vec::is_empty));
}

#[test]
fn nsqadmin_takes_a_topic_off_one_node_by_a_tombstone() {
    let test = "nsqadmin_takes_a_topic_off_one_node_by_a_tombstone";
    let Some(bench) = Bench::start(test, &["-tombstone-lifetime=4s"]) else { return };
    bench.act("DELETE", &format!("/api/nodes/{}", bench.node(0)), &json!({ "topic": "t" }));
    bench.cluster.wait_for_lookup(SPREAD_MAX, "t", &[0, 1, 2], &[2]);
    assert!(has_no_topic(&bench.cluster.nodes[0], "t"), "the node has deleted it");
    let nodes = bench.stats("/api/nodes");
    assert_eq!(nodes["nodes"].as_array().expect("nodes").len(), 3, "the node itself stays");
    for_a_while(Duration::from_secs(5), "the end of the tombstone brings nothing back", || {
        bench.cluster.nodes.iter().all(|node| {
            let lookup = node.get("/lookup?topic=t").json();
            lookup["producers"].as_array().is_some_and(|producers| producers.len() == 1)
        })
    });
    // A new topic of the name is another matter, tombstone or not.
    bench.cluster.nodes[0].post_ok("/pub?topic=t", b"x");
    bench.cluster.wait_for_lookup(SPREAD_MAX, "t", &[0, 1, 2], &[0, 2]);
}
