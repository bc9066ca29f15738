//! Emptying a node: `/drain`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Cluster, Nsqd, RawClient, eventually, for_a_while, get, is_reference, mpub_body, post,
    put_pipe, request,
};

/// A change is everywhere within this; usually it is well under half a second.
const SPREAD_MAX: Duration = Duration::from_secs(5);

/// What `DELETE /drain` answers.
fn undrain(node: &Nsqd) -> Value {
    request(&node.http(), "DELETE", "/drain", &[], b"").expect("an answer").json()
}

/// The ports of the nodes that publishers find at `node`.
fn listed(node: &Nsqd) -> Vec<u64> {
    let nodes = get(&node.lookup_http(), "/nodes").expect("an answer").json();
    let producers = nodes["producers"].as_array().cloned().unwrap_or_default();
    let mut ports: Vec<u64> =
        producers.iter().filter_map(|producer| producer["tcp_port"].as_u64()).collect();
    ports.sort_unstable();
    ports
}

#[track_caller]
fn assert_refuses_publishes(node: &Nsqd) {
    let refusal = "failed draining: this node takes no new messages";
    let commands: [(&str, &str, Vec<u8>); 3] = [
        ("PUB t", "E_PUB_FAILED PUB", b"x".to_vec()),
        ("DPUB t 10", "E_DPUB_FAILED DPUB", b"x".to_vec()),
        ("MPUB t", "E_MPUB_FAILED MPUB", mpub_body(&[b"x"])),
    ];
    for (command, code, body) in commands {
        let mut client = node.client();
        client.command(command, Some(&body));
        client.expect_fatal(&format!("{code} {refusal}"));
    }
    for path in ["/pub?topic=t", "/mpub?topic=t", "/pub?topic=new"] {
        let answer = node.post(path, b"x");
        assert_eq!((answer.status, answer.json()), (503, json!({ "message": "DRAINING" })));
    }
}

#[test]
fn a_draining_node_refuses_publishes_and_is_found_by_consumers_but_not_by_publishers() {
    if is_reference() {
        return;
    }
    let cluster = Cluster::of(2);
    let (stays, drains) = (&cluster.nodes[0], &cluster.nodes[1]);
    let (one, both) = (vec![u64::from(stays.tcp_port())], listed(stays));
    drains.create_channel("t", "c");
    drains.client().publish("t", b"before");
    cluster.wait_for_lookup(SPREAD_MAX, "t", &[0, 1], &[1]);

    let state = drains.post("/drain", b"").json();
    let left = json!([{ "topic": "t", "channel": "c", "messages": 1 }]);
    let want = json!({ "draining": true, "exit_when_empty": false, "unfinished": 1, "left": left });
    assert_eq!(state, want);
    assert_refuses_publishes(drains);
    eventually(SPREAD_MAX, "publishers do not find it", || {
        listed(stays) == one && listed(drains) == one
    });
    cluster.wait_for_lookup(SPREAD_MAX, "t", &[0, 1], &[1]);
    assert_eq!(drains.consumer("t", "c", 1).take(), "before", "consumers are served");
    assert_eq!(drains.get("/ping").text(), "OK", "it is well");

    assert_eq!(undrain(drains)["draining"], false);
    drains.client().publish("t", b"after");
    eventually(SPREAD_MAX, "publishers find it again", || listed(stays) == both);
}

#[test]
fn a_drained_node_exits_when_its_last_message_is_finished_and_starts_as_usual() {
    if is_reference() {
        return;
    }
    let mut node = Nsqd::start(&[]);
    node.create_channel("t", "c");
    node.client().publish("t", b"last");
    assert_eq!(node.post("/drain?exit_when_empty=true", b"").json()["unfinished"], 1);
    let mut consumer = node.consumer("t", "c", 1);
    let (id, _, body) = consumer.message();
    assert_eq!(body, "last");
    // With a consumer it is not finished, however long that takes.
    for_a_while(Duration::from_secs(2), "the node stays", || node.is_running());
    consumer.command(&format!("FIN {id}"), None);
    eventually(Duration::from_secs(15), "the node exits", || !node.is_running());
    assert_eq!(node.wait().code(), Some(0), "{}", node.log());

    node.launch();
    assert_eq!(node.get("/drain").json()["draining"], false);
    node.client().publish("t", b"more");
}

#[test]
fn a_drain_survives_a_crash_until_it_is_undone() {
    if is_reference() {
        return;
    }
    let mut node = Nsqd::start(&[]);
    node.create_channel("t", "c");
    node.client().publish("t", b"kept");
    node.post_ok("/drain", b"");
    node.kill();
    node.launch();
    assert_refuses_publishes(&node);
    assert_eq!(node.get("/drain").json()["unfinished"], 1);
    node.post_ok("/undrain", b"");
    node.restart();
    assert_eq!(node.get("/drain").json()["draining"], false);
    node.client().publish("t", b"again");
}

#[test]
fn messages_that_wait_for_a_channel_or_for_their_time_keep_a_node_from_exiting() {
    if is_reference() {
        return;
    }
    let node = Nsqd::start(&[]);
    node.create_channel("deferred", "c");
    let mut client = node.client();
    client.command("DPUB deferred 60000", Some(b"later"));
    client.expect_ok();
    client.publish("channelless", b"x");
    let left = node.post("/drain?exit_when_empty=1", b"").json()["left"].clone();
    let want = json!([
        { "topic": "channelless", "channel": null, "messages": 1 },
        { "topic": "deferred", "channel": "c", "messages": 1 },
    ]);
    assert_eq!(left, want);
    let refused = node.post("/drain?exit_when_empty=maybe", b"");
    assert_eq!(
        (refused.status, refused.text()),
        (400, r#"{"message":"INVALID_EXIT_WHEN_EMPTY"}"#.into())
    );
}

#[test]
fn a_request_whose_body_comes_when_the_node_drains_already_is_refused() {
    if is_reference() {
        return;
    }
    let node = Nsqd::start(&[]);
    let mut slow = RawClient::connect(&node.http());
    slow.send(b"POST /mpub?topic=t HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\nhello");
    eventually(SPREAD_MAX, "the request is let in", || {
        node.get("/stats?format=json").json()["topics"][0]["topic_name"] == "t"
    });
    assert_eq!(node.post("/drain", b"").json()["unfinished"], 0);
    slow.send(b"\nworld");
    let answer = slow.bytes("HTTP/1.1 503".len());
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 503");
    assert_eq!(node.get("/drain").json()["unfinished"], 0, "empty for good");
}

#[test]
fn a_publish_that_waits_for_the_cluster_when_the_node_drains_is_refused() {
    if is_reference() {
        return;
    }
    let mut node = Nsqd::prepare(&["-init-grace=5s"]);
    node.set_seeds(vec!["127.0.0.1:1".to_owned()]);
    node.launch();
    let address = node.http();
    let waiting = std::thread::spawn(move || post(&address, "/pub?topic=new", b"x"));
    let mut client = node.client();
    client.command("PUB other", Some(b"x"));
    // Not needed for the outcome: whoever comes later is refused as well.
    std::thread::sleep(Duration::from_millis(300));
    node.post_ok("/drain", b"");
    client.expect_fatal("E_PUB_FAILED PUB failed draining: this node takes no new messages");
    let answer = waiting.join().expect("no panic").expect("an answer");
    assert_eq!((answer.status, answer.json()), (503, json!({ "message": "DRAINING" })));
    assert_eq!(node.get("/drain").json()["unfinished"], 0);
}

#[test]
fn whether_a_node_exits_when_it_is_empty_stays_as_it_is_until_it_is_said_anew() {
    if is_reference() {
        return;
    }
    let mut node = Nsqd::start(&[]);
    node.create_channel("t", "c");
    node.client().publish("t", b"x");
    let exits = |path: &str, want: bool| {
        let answer = node.post(path, b"").json();
        assert_eq!(answer["exit_when_empty"], want, "{path}: {answer}");
    };
    exits("/drain", false);
    exits("/drain?exit_when_empty=true", true);
    exits("/drain", true);
    exits("/drain?exit_when_empty=false", false);
    exits("/drain", false);
    exits("/drain?exit_when_empty=true", true);
    exits("/undrain", false);
    exits("/drain", false);
    exits("/drain?exit_when_empty=true", true);
    exits("/drain", true);
    node.kill();
    node.launch();
    assert_eq!(node.get("/drain").json()["exit_when_empty"], true, "as it was said last");
}

#[test]
fn whether_a_node_drains_is_in_its_info_and_in_its_stats() {
    if is_reference() {
        return;
    }
    let node = Nsqd::start(&[]);
    for (path, draining) in [("/undrain", false), ("/drain", true), ("/undrain", false)] {
        node.post_ok(path, b"");
        for document in ["/info", "/stats?format=json"] {
            assert_eq!(node.get(document).json()["draining"], draining, "{document} after {path}");
        }
        assert_eq!(node.get("/info").json()["tcp_port"], node.tcp_port(), "as nsqd's otherwise");
    }
}

#[test]
fn publishers_never_find_a_restarting_node_that_drains() {
    if is_reference() {
        return;
    }
    let mut cluster = Cluster::of(2);
    cluster.nodes[1].create_channel("t", "c");
    cluster.nodes[1].post_ok("/drain", b"");
    let one = vec![u64::from(cluster.nodes[0].tcp_port())];
    eventually(SPREAD_MAX, "publishers do not find it", || listed(&cluster.nodes[0]) == one);
    assert!(cluster.nodes[1].terminate().success());
    // It joins the others, but does not get to know yet that it drains.
    let file = cluster.nodes[1].data_path().join("drain");
    let joined = cluster.nodes[0].log().matches("member up").count();
    put_pipe(&file);
    cluster.nodes[1].launch_without_waiting();
    eventually(SPREAD_MAX, "it joins", || {
        cluster.nodes[0].log().matches("member up").count() > joined
    });
    let second = Duration::from_secs(1);
    for_a_while(second, "publishers do not find it", || listed(&cluster.nodes[0]) == one);
    assert!(cluster.nodes[1].is_running());
    std::fs::write(&file, "stay").expect("read at last");
    cluster.wait_for_lookup(SPREAD_MAX, "t", &[0], &[1]);
    for_a_while(second, "publishers do not find it", || listed(&cluster.nodes[0]) == one);
}
