//! Nodes that find each other: any of them answers for all.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use crate::support::{Cluster, Nsqd, eventually, for_a_while, get, is_reference, put_pipe};

/// A change is everywhere within this; usually it is well under half a second.
const SPREAD_MAX: Duration = Duration::from_secs(5);
/// A killed node is out of every answer within this.
const DETECT_MAX: Duration = Duration::from_secs(15);

#[test]
fn any_node_answers_lookup_for_topics_of_all_nodes() {
    if is_reference() {
        return;
    }
    let cluster = Cluster::of(3);
    for index in 0..3 {
        cluster.nodes[index].create_channel("shared", &format!("c{index}"));
        cluster.nodes[index].create_channel(&format!("only{index}"), "c");
    }
    cluster.wait_for_lookup(SPREAD_MAX, "shared", &[0, 1, 2], &[0, 1, 2]);
    for index in 0..3 {
        cluster.wait_for_lookup(SPREAD_MAX, &format!("only{index}"), &[0, 1, 2], &[index]);
    }
    for node in &cluster.nodes {
        eventually(SPREAD_MAX, "the channels of all nodes are in one answer", || {
            let lookup = node.get("/lookup?topic=shared").json();
            lookup["channels"] == serde_json::json!(["c0", "c1", "c2"])
        });
    }
}

#[test]
fn a_deleted_topic_is_gone_everywhere_and_stays_gone() {
    if is_reference() {
        return;
    }
    let cluster = Cluster::of(3);
    cluster.nodes[1].create_channel("t", "c");
    cluster.wait_for_lookup(SPREAD_MAX, "t", &[0, 1, 2], &[1]);
    cluster.nodes[1].post_ok("/topic/delete?topic=t", b"");
    cluster.wait_for_lookup(SPREAD_MAX, "t", &[0, 1, 2], &[]);
    for_a_while(Duration::from_secs(3), "the topic stays away", || {
        cluster.nodes.iter().all(|node| {
            let lookup = node.get("/lookup?topic=t");
            lookup.status == 404 || lookup.json()["producers"] == serde_json::json!([])
        })
    });
}

#[test]
fn a_killed_node_leaves_the_answers_and_comes_back_once() {
    if is_reference() {
        return;
    }
    let mut cluster = Cluster::of(3);
    for index in [0, 2] {
        cluster.nodes[index].create_channel("t", "c");
    }
    cluster.wait_for_lookup(SPREAD_MAX, "t", &[0, 1, 2], &[0, 2]);
    cluster.nodes[2].kill();
    cluster.wait_for_lookup(DETECT_MAX, "t", &[0, 1], &[0]);
    cluster.wait_until_known(DETECT_MAX, &[0, 1]);

    cluster.nodes[2].launch();
    cluster.wait_for_lookup(SPREAD_MAX, "t", &[0, 1, 2], &[0, 2]);
    cluster.wait_until_known(SPREAD_MAX, &[0, 1, 2]);
}

#[test]
fn a_node_that_is_stopped_says_goodbye() {
    if is_reference() {
        return;
    }
    let mut cluster = Cluster::of(3);
    cluster.nodes[1].create_channel("t", "c");
    cluster.wait_for_lookup(SPREAD_MAX, "t", &[0, 1, 2], &[1]);
    assert!(cluster.nodes[1].terminate().success());
    cluster.wait_for_lookup(Duration::from_secs(2), "t", &[0, 2], &[]);
    cluster.wait_until_known(Duration::from_secs(2), &[0, 2]);
}

#[test]
fn a_cluster_works_on_without_its_seed() {
    if is_reference() {
        return;
    }
    let mut cluster = Cluster::of(3);
    let dead = cluster.nodes[0].gossip();
    cluster.nodes[0].kill();
    cluster.nodes[1].create_channel("t", "c");
    cluster.wait_for_lookup(DETECT_MAX, "t", &[1, 2], &[1]);

    // A new node with one dead and one living seed, and a restart whose only seed is dead.
    let mut joining = Nsqd::prepare(&[]);
    joining.set_seeds(vec![dead, cluster.nodes[2].gossip()]);
    joining.launch();
    cluster.nodes.push(joining);
    cluster.wait_until_known(DETECT_MAX, &[1, 2, 3]);
    cluster.wait_for_lookup(SPREAD_MAX, "t", &[1, 2, 3], &[1]);
    cluster.nodes[1].restart();
    cluster.wait_for_lookup(DETECT_MAX, "t", &[1, 2, 3], &[1]);
}

#[test]
fn a_seed_that_starts_last_is_found() {
    if is_reference() {
        return;
    }
    let mut first = Nsqd::prepare(&[]);
    let mut second = Nsqd::prepare(&[]);
    second.set_seeds(vec![first.gossip()]);
    second.launch();
    assert_eq!(second.get("/ping").text(), "OK", "a dead seed does not keep a node from starting");
    first.launch();
    let cluster = Cluster { nodes: vec![first, second] };
    cluster.wait_until_known(DETECT_MAX, &[0, 1]);
}

/// Bytes without a meaning, the same in every run.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

#[test]
fn garbage_from_strangers_does_no_harm() {
    if is_reference() {
        return;
    }
    let mut cluster = Cluster::of(3);
    cluster.nodes[1].create_channel("t", "c");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for node in &cluster.nodes {
        for seed in 0..1_000_u64 {
            let mut packet = noise(seed, 1 + (seed as usize * 37) % 1_400);
            if seed % 3 == 0 {
                packet[0] = (seed % 4) as u8; // what a version byte could be
            }
            let _ = socket.send_to(&packet, node.gossip());
        }
        for (seed, address) in (0..40_u64).flat_map(|seed| {
            [node.gossip(), node.tcp(), node.http(), node.lookup_http()].map(|to| (seed, to))
        }) {
            if let Ok(mut stream) = TcpStream::connect(address) {
                let mut bytes = noise(seed, 3_000);
                if seed % 2 == 0 {
                    bytes[..4].copy_from_slice(&[0xff; 4]); // the greatest length there is
                }
                let _ = stream.write_all(&bytes);
            }
        }
    }
    cluster.wait_until_known(SPREAD_MAX, &[0, 1, 2]);
    cluster.wait_for_lookup(SPREAD_MAX, "t", &[0, 1, 2], &[1]);
    for node in &mut cluster.nodes {
        assert!(node.is_running());
        assert!(!node.log().contains("panicked"), "{}", node.log());
        node.client().publish("after", b"all is well");
    }
}

#[test]
fn a_node_of_another_cluster_name_is_not_let_in() {
    if is_reference() {
        return;
    }
    let cluster = Cluster::of(2);
    cluster.nodes[0].create_channel("t", "c");
    let mut stranger = Nsqd::prepare(&["-cluster-name=another"]);
    stranger.set_seeds(vec![cluster.nodes[0].gossip()]);
    stranger.launch();
    stranger.create_channel("strange", "c");

    for_a_while(Duration::from_secs(3), "the clusters stay apart", || {
        let known = |node: &Nsqd| {
            let nodes = node.get("/nodes").json();
            nodes["producers"].as_array().map_or(0, Vec::len)
        };
        known(&stranger) <= 1 && cluster.nodes.iter().all(|node| known(node) == 2)
    });
    assert_eq!(cluster.nodes[0].get("/lookup?topic=strange").status, 404);
    assert_eq!(stranger.get("/lookup?topic=t").status, 404);
}

#[test]
fn the_first_message_of_a_topic_reaches_every_channel_the_cluster_knows() {
    if is_reference() {
        return;
    }
    let cluster = Cluster::of(3);
    cluster.nodes[0].create_channel("t", "a");
    cluster.nodes[1].create_channel("t", "b");
    cluster.nodes[1].create_channel("t", "e%23ephemeral");
    cluster.wait_for_lookup(SPREAD_MAX, "t", &[2], &[0, 1]);
    eventually(SPREAD_MAX, "node 2 knows the channels", || {
        cluster.nodes[2].get("/channels?topic=t").json()["channels"].as_array().map(Vec::len)
            == Some(3)
    });

    cluster.nodes[2].client().publish("t", b"first");
    let stats = cluster.nodes[2].get("/stats?format=json&topic=t").json();
    let channels: BTreeSet<&str> = stats["topics"][0]["channels"]
        .as_array()
        .expect("channels")
        .iter()
        .filter_map(|channel| channel["channel_name"].as_str())
        .collect();
    assert_eq!(channels, ["a", "b"].into(), "ephemeral ones are not made");
    for channel in ["a", "b"] {
        assert_eq!(cluster.nodes[2].consumer("t", channel, 1).take(), "first");
    }
}

#[test]
fn a_message_published_the_moment_a_node_is_up_reaches_the_channels_of_the_cluster() {
    if is_reference() {
        return;
    }
    let mut cluster = Cluster::of(2);
    cluster.nodes[0].create_channel("t", "a");
    cluster.wait_for_lookup(SPREAD_MAX, "t", &[1], &[0]);
    for _ in 0..3 {
        let mut joining = Nsqd::prepare(&[]);
        joining.set_seeds(vec![cluster.nodes[1].gossip()]);
        joining.launch();
        joining.post_ok("/pub?topic=t", b"at once");
        joining.wait_for_stat("t", "a", "depth", 1);
        cluster.nodes.push(joining);
    }
}

#[test]
fn names_made_through_the_lookup_api_are_known_everywhere_without_a_producer() {
    if is_reference() {
        return;
    }
    let cluster = Cluster::of(2);
    let address = cluster.nodes[0].lookup_http();
    let path = "/channel/create?topic=named&channel=c";
    assert_eq!(crate::support::post(&address, path, b"").expect("an answer").status, 200);
    for node in &cluster.nodes {
        eventually(SPREAD_MAX, "the name is known", || {
            get(&node.lookup_http(), "/channels?topic=named")
                .is_ok_and(|answer| answer.json()["channels"] == serde_json::json!(["c"]))
        });
        assert_eq!(
            node.get("/stats?format=json&topic=named").json()["topics"],
            serde_json::json!(null)
        );
    }
}

#[test]
fn a_channel_deleted_at_every_lookup_address_is_there_for_each_of_them_once() {
    if is_reference() {
        return;
    }
    let cluster = Cluster::of(3);
    cluster.nodes[1].create_channel("t", "c");
    cluster.nodes[2].create_channel("t", "c");
    cluster.wait_for_lookup(SPREAD_MAX, "t", &[0, 1, 2], &[1, 2]);
    let channels = |node: &Nsqd| node.get("/lookup?topic=t").json()["channels"].clone();
    let path = "/channel/delete?topic=t&channel=c";
    for node in &cluster.nodes {
        let delete = || crate::support::post(&node.lookup_http(), path, b"").expect("an answer");
        assert_eq!(delete().status, 200);
        let again = delete();
        assert_eq!((again.status, &*again.text()), (404, r#"{"message":"CHANNEL_NOT_FOUND"}"#));
        // The next one has heard of it when it is asked.
        for other in &cluster.nodes {
            eventually(SPREAD_MAX, "it is gone", || channels(other) == serde_json::json!([]));
        }
    }
    let path = "/channel/delete?topic=t&channel=never";
    let answer = crate::support::post(&cluster.nodes[0].lookup_http(), path, b"");
    assert_eq!(answer.expect("an answer").status, 404);
}

#[test]
fn a_starting_node_is_found_when_it_serves_and_not_before() {
    if is_reference() {
        return;
    }
    let mut cluster = Cluster::of(2);
    cluster.nodes[1].create_channel("t", "c");
    assert!(cluster.nodes[1].terminate().success());
    cluster.wait_for_lookup(SPREAD_MAX, "t", &[0], &[]);
    // It joins the others, but cannot load its topic yet.
    let file = cluster.nodes[1].data_path().join("topics/t.topic/topic.state");
    let state = std::fs::read(&file).expect("the topic's state");
    let joined = cluster.nodes[0].log().matches("member up").count();
    put_pipe(&file);
    cluster.nodes[1].launch_without_waiting();
    eventually(SPREAD_MAX, "it joins", || {
        cluster.nodes[0].log().matches("member up").count() > joined
    });
    for_a_while(Duration::from_secs(1), "nobody finds it", || {
        let nodes = cluster.nodes[0].get("/nodes").json();
        nodes["producers"].as_array().is_some_and(|producers| producers.len() == 1)
    });
    assert!(cluster.nodes[1].is_running());
    std::fs::write(&file, state).expect("read at last");
    cluster.wait_for_lookup(SPREAD_MAX, "t", &[0], &[1]);
    assert_eq!(cluster.nodes[1].get("/ping").text(), "OK", "who finds it is served");
    cluster.wait_until_known(SPREAD_MAX, &[0, 1]);
}
