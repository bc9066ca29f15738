//! Real agents on loopback, each in a runtime of its own, so that one can be killed.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests of the shell")]
#![expect(clippy::unwrap_used, reason = "a test may")]
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use grapevine_gossip::agent::{Config, start};
use grapevine_gossip::{Handle, Producer};
use tokio::runtime::Runtime;

struct Node {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Node {
    fn start(number: u16, seeds: &[SocketAddr]) -> Self {
        Self::start_with(number, seeds, |_| {})
    }

    fn start_with(number: u16, seeds: &[SocketAddr], change: impl FnOnce(&mut Config)) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut config = Config {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            seeds: seeds.iter().map(SocketAddr::to_string).collect(),
            producer: Producer {
                hostname: format!("host-{number}"),
                broadcast_address: "127.0.0.1".to_owned(),
                tcp_port: number,
                http_port: number + 1000,
                version: "1.3.0".to_owned(),
                ..Producer::default()
            },
            ..Config::default()
        };
        change(&mut config);
        let handle = runtime.block_on(start(config)).unwrap();
        Self { handle, runtime: Some(runtime) }
    }

    fn cluster(count: u16) -> Vec<Self> {
        let first = Self::start(1, &[]);
        let seed = first.handle.local_address();
        let mut nodes = vec![first];
        nodes.extend((2..=count).map(|number| Self::start(number, &[seed])));
        within(5, "everyone lists everyone", || {
            nodes.iter().all(|node| node.listed().len() == usize::from(count))
        });
        nodes
    }

    fn listed(&self) -> Vec<u16> {
        self.handle.view().nodes().iter().map(|node| node.producer.tcp_port).collect()
    }

    fn producers(&self, topic: &str) -> Option<Vec<u16>> {
        let lookup = self.handle.view().lookup(topic)?;
        Some(lookup.producers.iter().map(|producer| producer.tcp_port).collect())
    }

    fn kill(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    fn leave(&self) {
        self.runtime.as_ref().unwrap().block_on(self.handle.leave());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn within(seconds: u64, what: &str, holds: impl Fn() -> bool) -> Duration {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(seconds), "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("{what}: {:?}", started.elapsed());
    started.elapsed()
}

#[test]
fn a_topic_created_on_one_node_is_in_the_answers_of_all() {
    let nodes = Node::cluster(5);
    nodes[2].handle.channel_created("orders", "audit");
    assert_eq!(nodes[2].producers("orders"), Some(vec![3]), "its own answer is immediate");
    within(3, "the topic everywhere", || {
        nodes.iter().all(|node| {
            node.producers("orders") == Some(vec![3])
                && node.handle.view().channels("orders") == ["audit"]
        })
    });
    nodes[2].handle.topic_deleted("orders");
    within(3, "the topic nowhere", || nodes.iter().all(|node| node.producers("orders").is_none()));
}

#[test]
fn a_thousand_topics_reach_everyone() {
    let nodes = Node::cluster(3);
    for number in 0..1000 {
        nodes[0].handle.channel_created(&format!("topic-{number}"), "channel");
    }
    within(5, "a thousand topics everywhere", || {
        nodes.iter().all(|node| node.handle.view().topics().len() == 1000)
    });
    let newcomer = Node::start(9, &[nodes[2].handle.local_address()]);
    within(5, "a newcomer knows them", || newcomer.handle.view().topics().len() == 1000);
}

#[test]
fn a_killed_node_is_gone_and_comes_back_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut nodes = Node::cluster(3);
    let seed = nodes[0].handle.local_address();
    let state_dir = Some(directory.path().to_path_buf());
    let keeps = |config: &mut Config| config.state_dir.clone_from(&state_dir);
    let mut victim = Node::start_with(4, &[seed], keeps);
    victim.handle.topic_created("orders");
    within(3, "listed", || nodes.iter().all(|node| node.producers("orders") == Some(vec![4])));
    let address = victim.handle.local_address();
    victim.kill();
    within(8, "gone", || nodes.iter().all(|node| node.producers("orders") == Some(vec![])));
    let again = Node::start_with(4, &[seed], |config| {
        keeps(config);
        config.bind = address;
    });
    within(3, "back, without its old topic", || {
        nodes.iter().all(|n| n.producers("orders").is_none() && n.listed() == [1, 2, 3, 4])
    });
    again.handle.topic_created("orders");
    nodes.push(again);
    within(3, "with it", || nodes.iter().all(|node| node.producers("orders") == Some(vec![4])));
}

#[test]
fn a_node_that_leaves_is_gone_at_once() {
    let nodes = Node::cluster(4);
    nodes[3].handle.channel_created("orders", "audit");
    within(3, "listed", || nodes.iter().all(|node| node.producers("orders") == Some(vec![4])));
    let started = Instant::now();
    nodes[3].leave();
    assert!(started.elapsed() < Duration::from_millis(1500));
    within(1, "gone", || {
        nodes[..3].iter().all(|n| n.producers("orders").is_none() && n.listed() == [1, 2, 3])
    });
}

#[test]
fn a_topic_deleted_by_the_lookup_api_goes_everywhere() {
    let nodes = Node::cluster(4);
    nodes[1].handle.channel_created("orders", "audit");
    nodes[2].handle.channel_created("orders", "audit");
    nodes[0].handle.create_name("orders", Some("by-hand"));
    within(3, "known", || {
        nodes.iter().all(|node| {
            node.producers("orders") == Some(vec![2, 3])
                && node.handle.view().channels("orders") == ["audit", "by-hand"]
        })
    });
    nodes[3].handle.delete_topic_registrations("orders");
    assert_eq!(nodes[3].producers("orders"), None, "at once where it was asked");
    within(2, "nowhere", || nodes.iter().all(|node| node.producers("orders").is_none()));
    nodes[1].handle.topic_created("orders");
    within(2, "registered anew", || {
        nodes.iter().all(|node| {
            node.producers("orders") == Some(vec![2])
                && node.handle.view().channels("orders").is_empty()
        })
    });
}

#[test]
fn a_tombstone_hides_a_producer_for_one_topic_until_its_lifetime_ends() {
    let short = |config: &mut Config| config.tombstone_lifetime = Duration::from_secs(2);
    let one = Node::start_with(1, &[], short);
    let two = Node::start_with(2, &[one.handle.local_address()], short);
    let nodes = [one, two];
    nodes[1].handle.topic_created("hidden");
    nodes[1].handle.topic_created("other");
    within(3, "known", || nodes.iter().all(|n| n.producers("other") == Some(vec![2])));
    nodes[0].handle.tombstone("hidden", "127.0.0.1:1002");
    assert_eq!(nodes[0].producers("hidden"), Some(vec![]), "at once where it was asked");
    within(1, "hidden on the other", || nodes[1].producers("hidden") == Some(vec![]));
    assert_eq!(nodes[0].producers("other"), Some(vec![2]));
    let listed = nodes[0].handle.view().nodes();
    let topics = &listed.iter().find(|node| node.producer.tcp_port == 2).unwrap().topics;
    assert_eq!(topics, &[("hidden".to_owned(), true), ("other".to_owned(), false)]);
    within(6, "back", || nodes.iter().all(|n| n.producers("hidden") == Some(vec![2])));
}

#[test]
fn a_foreign_producer_is_known_everywhere_until_it_disconnects_and_its_names_stay() {
    let nodes = Node::cluster(3);
    let foreign = nodes[0].handle.producer_connected(Producer {
        broadcast_address: "10.1.2.3".to_owned(),
        tcp_port: 4150,
        http_port: 4151,
        version: "1.2.0".to_owned(),
        ..Producer::default()
    });
    nodes[0].handle.producer_register(foreign, "orders", Some("audit"));
    nodes[0].handle.producer_register(foreign, "orders", Some("gone#ephemeral"));
    within(3, "known", || {
        nodes.iter().all(|n| n.producers("orders") == Some(vec![4150]) && n.listed().len() == 4)
    });
    nodes[0].handle.producer_gone(foreign);
    within(3, "gone", || {
        nodes.iter().all(|n| {
            n.producers("orders") == Some(vec![])
                && n.listed().len() == 3
                && n.handle.view().channels("orders") == ["audit"]
        })
    });
}

#[test]
fn clusters_with_different_names_ignore_each_other() {
    let one = Node::start(1, &[]);
    let named = |config: &mut Config| config.cluster_name = "another".to_owned();
    let other = Node::start_with(2, &[one.handle.local_address()], named);
    within(3, "it tried", || {
        one.handle
            .stats()
            .counters
            .iter()
            .any(|(name, count)| *name == "dropped_frame" && *count > 0)
    });
    assert_eq!(one.listed(), [1]);
    assert_eq!(other.listed(), [2]);
}
