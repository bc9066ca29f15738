//! nsqd's HTTP API and nsqlookupd's, from outside.

use serde_json::json;

use crate::support::{Nsqd, Response, get, is_reference, mpub_body, post, request};

#[track_caller]
fn assert_error(answer: &Response, status: u16, code: &str) {
    assert_eq!((answer.status, answer.json()), (status, json!({"message": code})));
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(answer.header("x-nsq-content-type"), Some("nsq; version=1.0"));
}

#[test]
fn pub_and_mpub_reach_a_consumer() {
    let node = Nsqd::start(&[]);
    node.create_channel("t", "c");
    let answer = node.post("/pub?topic=t", b"one");
    assert_eq!((answer.status, answer.text().as_str()), (200, "OK"));
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(answer.header("x-nsq-content-type"), Some("nsq; version=1.0"));
    node.post_ok("/mpub?topic=t", b"two\n\nthree\r\n");
    node.post_ok("/mpub?topic=t&binary=true", &mpub_body(&["four\n", "five"]));

    let mut consumer = node.consumer("t", "c", 10);
    let mut bodies: Vec<String> = (0..5).map(|_| consumer.take()).collect();
    bodies.sort();
    assert_eq!(bodies, ["five", "four\n", "one", "three\r", "two"]);
}

#[test]
fn a_publish_that_is_refused_says_why() {
    let node = Nsqd::start(&["-max-msg-size=100", "-max-body-size=400"]);
    for (path, body, status, code) in [
        ("/pub", &b""[..], 400, "MSG_EMPTY"),
        ("/pub", b"x", 400, "MISSING_ARG_TOPIC"),
        ("/pub?topic=a/b", b"x", 400, "INVALID_TOPIC"),
        ("/pub?topic=%zz", b"x", 400, "INVALID_REQUEST"),
        ("/pub?topic=t&defer=-1", b"x", 400, "INVALID_DEFER"),
        ("/pub?topic=t&defer=", b"x", 400, "INVALID_DEFER"),
        ("/pub?topic=t", &[b'x'; 101], 413, "MSG_TOO_BIG"),
        ("/mpub?topic=t", &[b'x'; 101], 413, "MSG_TOO_BIG"),
        ("/mpub?topic=t", &[b'x'; 401], 413, "BODY_TOO_BIG"),
        ("/mpub?topic=t&binary=true", b"\0\0\0\0", 413, "BAD_BODY"),
        ("/mpub?topic=t&binary=true", b"\0\0\0\x01\0\0\0\x05x", 413, "BAD_MESSAGE"),
    ] {
        let answer = node.post(path, body);
        assert_eq!(
            (answer.status, answer.json()["message"].as_str()),
            (status, Some(code)),
            "{path}"
        );
    }
    assert_error(&node.post("/pub?topic=t", &[b'x'; 101]), 413, "MSG_TOO_BIG");
    node.post_ok("/pub?topic=t", &[b'x'; 100]);
}

#[test]
fn unknown_paths_and_wrong_methods_are_told_apart() {
    let node = Nsqd::start(&[]);
    assert_error(&node.get("/nope"), 404, "NOT_FOUND");
    assert_error(&node.post("/put?topic=t", b"x"), 404, "NOT_FOUND");
    let answer = node.get("/pub?topic=t");
    assert_error(&answer, 405, "METHOD_NOT_ALLOWED");
    assert_eq!(answer.header("allow"), Some("OPTIONS, POST"));
    let options = request(&node.http(), "OPTIONS", "/ping", &[], b"").unwrap();
    assert_eq!((options.status, options.header("allow")), (200, Some("GET, OPTIONS")));
}

#[test]
fn topics_and_channels_are_made_paused_emptied_and_deleted() {
    let node = Nsqd::start(&[]);
    assert_error(&node.post("/topic/create", b""), 400, "MISSING_ARG_TOPIC");
    assert_error(&node.post("/topic/create?topic=a/b", b""), 400, "INVALID_TOPIC");
    assert_error(&node.post("/channel/create?topic=no&channel=c", b""), 404, "TOPIC_NOT_FOUND");
    node.create_channel("t", "c");
    assert_error(&node.post("/channel/pause?topic=t&channel=no", b""), 404, "CHANNEL_NOT_FOUND");

    node.post_ok("/mpub?topic=t", b"1\n2\n3");
    node.wait_for_stat("t", "c", "depth", 3);
    node.post_ok("/channel/pause?topic=t&channel=c", b"");
    assert_eq!(node.channel_stats("t", "c")["paused"], true);
    node.post_ok("/channel/empty?topic=t&channel=c", b"");
    assert_eq!(node.channel_stats("t", "c")["depth"], 0);
    node.post_ok("/topic/pause?topic=t", b"");
    node.post_ok("/pub?topic=t", b"held back");
    let topic = node.get("/stats?format=json&topic=t").json()["topics"][0].clone();
    assert_eq!((&topic["depth"], &topic["paused"]), (&json!(1), &json!(true)), "{topic}");
    assert_eq!(topic["channels"][0]["depth"], 0);
    node.post_ok("/topic/unpause?topic=t", b"");
    node.wait_for_stat("t", "c", "depth", 1);

    node.post_ok("/channel/delete?topic=t&channel=c", b"");
    assert_error(&node.post("/channel/delete?topic=t&channel=c", b""), 404, "CHANNEL_NOT_FOUND");
    node.post_ok("/topic/delete?topic=t", b"");
    assert_error(&node.post("/topic/delete?topic=t", b""), 404, "TOPIC_NOT_FOUND");
}

#[test]
fn stats_have_nsqd_s_keys_in_nsqd_s_order() {
    let node = Nsqd::start(&[]);
    let mut consumer = node.consumer("t", "c", 1);
    node.post_ok("/mpub?topic=t", b"1\n2\n3");
    consumer.message();
    node.wait_for_stat("t", "c", "in_flight_count", 1);
    let stats = node.get("/stats?format=json&include_mem=false").json();

    let keys = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().expect("an object").keys().cloned().collect()
    };
    // One of ours comes last.
    let ours = if is_reference() { &[][..] } else { &["draining"] };
    let nsqd_s = ["version", "health", "start_time", "topics", "producers"];
    assert_eq!(keys(&stats), [&nsqd_s[..], ours].concat());
    assert_eq!(
        keys(&stats["topics"][0]),
        [
            "topic_name",
            "channels",
            "depth",
            "backend_depth",
            "message_count",
            "message_bytes",
            "paused",
            "e2e_processing_latency"
        ]
    );
    let channel = &stats["topics"][0]["channels"][0];
    let have = keys(channel);
    for key in [
        "channel_name",
        "depth",
        "backend_depth",
        "in_flight_count",
        "deferred_count",
        "message_count",
        "requeue_count",
        "timeout_count",
        "client_count",
        "clients",
        "paused",
        "e2e_processing_latency",
    ] {
        assert!(have.iter().any(|name| name == key), "{key} in {channel}");
    }
    assert_eq!((&channel["depth"], &channel["client_count"]), (&json!(2), &json!(1)));
    let client = &channel["clients"][0];
    assert_eq!((&client["state"], &client["ready_count"]), (&json!(3), &json!(1)), "{client}");
    assert_eq!(stats["topics"][0]["message_bytes"], 3);

    let nothing = node.get("/stats?format=json&topic=nope").json();
    assert_eq!((&nothing["topics"], &nothing["producers"]), (&json!(null), &json!(null)));
    let text = node.get("/stats").text();
    assert!(text.contains("[t              ] depth: 0"), "{text}");
}

#[test]
fn info_names_the_ports_that_are_really_open() {
    let node = Nsqd::start(&[]);
    let info = node.get("/info").json();
    assert_eq!(info["tcp_port"], node.tcp_port());
    assert_eq!(info["broadcast_address"], "127.0.0.1");
    assert_eq!(info["max_heartbeat_interval"], 60_000_000_000_u64);
    assert!(info["version"].as_str().unwrap().starts_with("1.3.0"), "{info}");
}

#[test]
fn settings_can_be_read_and_two_of_them_written() {
    let node = Nsqd::start(&[]);
    assert_eq!(node.get("/config/max_msg_size").text(), "1048576");
    assert_error(&node.get("/config/max-msg-size"), 400, "INVALID_OPTION");
    let put = |path, body| request(&node.http(), "PUT", path, &[], body).unwrap();
    assert_eq!(put("/config/log_level", b"error").text(), "4");
    assert_error(&put("/config/log_level", b"loud"), 400, "INVALID_VALUE");
    assert_error(&put("/config/max_msg_size", b"5"), 400, "INVALID_OPTION");
}

#[test]
fn bytes_that_are_not_http_get_a_plain_400() {
    let node = Nsqd::start(&[]);
    let mut client = crate::support::RawClient::connect(&node.http());
    client.send(b"  V2IDENTIFY\n\0\0\0\x02{}\r\n\r\n");
    let start = client.bytes(24);
    assert_eq!(String::from_utf8_lossy(&start), "HTTP/1.1 400 Bad Request");
}

#[test]
fn any_node_answers_nsqlookupd_s_api_on_both_addresses() {
    if is_reference() {
        return;
    }
    let node = Nsqd::start(&[]);
    node.create_channel("t", "c");
    for address in [node.http(), node.lookup_http()] {
        let answer = get(&address, "/lookup?topic=t").unwrap();
        assert_eq!(answer.header("x-nsq-content-type"), Some("nsq; version=1.0"));
        let lookup = answer.json();
        assert_eq!(lookup["channels"], json!(["c"]));
        let producer = &lookup["producers"][0];
        let keys: Vec<&str> = producer.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "remote_address",
                "hostname",
                "broadcast_address",
                "tcp_port",
                "http_port",
                "version",
                "topology_zone",
                "topology_region"
            ]
        );
        assert_eq!(producer["tcp_port"], node.tcp_port());
        assert_eq!(get(&address, "/topics").unwrap().json(), json!({"topics": ["t"]}));
        assert_eq!(get(&address, "/channels?topic=t").unwrap().json(), json!({"channels": ["c"]}));
        assert_eq!(get(&address, "/channels?topic=no").unwrap().json(), json!({"channels": []}));
        let nodes = get(&address, "/nodes").unwrap().json();
        assert_eq!(nodes["producers"][0]["topics"], json!(["t"]));
        assert_eq!(nodes["producers"][0]["tombstones"], json!([false]));
        assert_error(&get(&address, "/lookup").unwrap(), 400, "MISSING_ARG_TOPIC");
        assert_error(&get(&address, "/lookup?topic=no").unwrap(), 404, "TOPIC_NOT_FOUND");
    }
}

#[test]
fn a_tombstone_hides_a_producer_from_lookup_but_not_from_nodes() {
    if is_reference() {
        return;
    }
    let node = Nsqd::start(&[]);
    node.create_channel("t", "c");
    let lookup = node.lookup_http();
    let path = format!("/topic/tombstone?topic=t&node={}", node.http());
    assert_eq!(post(&lookup, &path, b"").unwrap().status, 200);
    let answer = get(&lookup, "/lookup?topic=t").unwrap();
    assert_eq!((answer.status, &answer.json()["producers"]), (200, &json!([])));
    let nodes = get(&lookup, "/nodes").unwrap().json();
    assert_eq!(nodes["producers"][0]["tombstones"], json!([true]));
}
