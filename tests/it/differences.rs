//! Where a node differs from NSQ 1.3.0 on purpose; each is a line of docs/compatibility.md.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Frame, Nsqd, RawClient, eventually, get, is_reference, request};

#[test]
fn what_a_lost_consumer_held_is_given_out_at_once() {
    if is_reference() {
        return;
    }
    let node = Nsqd::start(&[]);
    let mut lost = node.consumer("t", "c", 1);
    node.client().publish("t", b"held");
    lost.message();
    let start = Instant::now();
    drop(lost);
    assert_eq!(node.consumer("t", "c", 1).message().1, 2);
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "the timeout is 60 s: {:?}",
        start.elapsed()
    );
}

#[test]
fn the_timeout_of_a_message_on_a_new_channel_is_kept_to_the_second() {
    if is_reference() {
        return;
    }
    let node = Nsqd::start(&["-msg-timeout=1s"]);
    let mut consumer = node.consumer("t", "c", 1);
    node.client().publish("t", b"slow");
    consumer.message();
    let start = Instant::now();
    assert_eq!(consumer.message().1, 2);
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn a_deferral_starts_when_it_is_published_even_if_no_channel_is_there() {
    if is_reference() {
        return;
    }
    let node = Nsqd::start(&[]);
    let mut producer = node.client();
    producer.command("DPUB t 1500", Some(b"later"));
    producer.expect_ok();
    let published = Instant::now();
    // The first channel comes when most of the delay is over.
    while published.elapsed() < Duration::from_millis(1_200) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut consumer = node.consumer("t", "c", 1);
    let subscribed = Instant::now();
    consumer.message();
    assert!(published.elapsed() >= Duration::from_millis(1_490), "{:?}", published.elapsed());
    assert!(subscribed.elapsed() < Duration::from_millis(1_400), "{:?}", subscribed.elapsed());
}

#[test]
fn messages_are_not_held_back_for_the_sake_of_an_output_buffer() {
    if is_reference() {
        return;
    }
    let node = Nsqd::start(&[]);
    let mut consumer = node.client();
    consumer.command("IDENTIFY", Some(br#"{"output_buffer_timeout":-1}"#));
    consumer.expect_ok();
    consumer.send(b"SUB t c\nRDY 100\n");
    consumer.expect_ok();
    node.client().publish("t", b"at once");
    assert_eq!(consumer.take(), "at once");
}

#[test]
fn messages_of_one_topic_and_one_consumer_come_in_order_however_many_there_are() {
    if is_reference() {
        return;
    }
    let node = Nsqd::start(&["-mem-queue-size=3"]);
    let mut producer = node.client();
    for index in 0..50 {
        producer.publish("t", format!("{index}").as_bytes());
    }
    let mut consumer = node.consumer("t", "c", 10);
    for index in 0..50 {
        assert_eq!(consumer.take(), index.to_string());
    }
}

#[test]
fn a_star_is_not_a_wild_card_of_the_lookup_api() {
    if is_reference() {
        return;
    }
    let node = Nsqd::start(&[]);
    node.create_channel("b", "c");
    node.create_channel("a", "c");
    let lookup = node.lookup_http();
    assert_eq!(get(&lookup, "/lookup?topic=*").unwrap().status, 404);
    let _ = crate::support::post(&lookup, "/topic/delete?topic=*", b"").unwrap();
    let topics = get(&lookup, "/topics").unwrap().json();
    assert_eq!(topics, json!({"topics": ["a", "b"]}), "sorted, and nothing is deleted");
}

#[test]
fn a_negative_length_does_not_end_the_lookup_server() {
    if is_reference() {
        return;
    }
    let node = Nsqd::start(&[]);
    let mut client = RawClient::connect(&node.lookup_tcp());
    client.send(b"  V1IDENTIFY\n\xff\xff\xff\xff");
    let size = client.bytes(4);
    let text = client.bytes(u32::from_be_bytes(size.try_into().unwrap()) as usize);
    assert!(text.starts_with(b"E_BAD_BODY IDENTIFY"), "{}", String::from_utf8_lossy(&text));
    assert_eq!(client.frame(), Frame::Closed);
    let mut next = RawClient::connect(&node.lookup_tcp());
    next.send(b"  V1PING\n");
    assert_eq!(next.bytes(6), b"\0\0\0\x02OK");
}

#[test]
fn there_is_no_go_profiler() {
    if is_reference() {
        return;
    }
    let node = Nsqd::start(&[]);
    for path in ["/debug/pprof/", "/debug/pprof/heap"] {
        assert_eq!(node.get(path).status, 404, "{path}");
    }
    // nsqd does what these ask for and answers 500 to the second.
    let rate = request(&node.http(), "PUT", "/debug/setblockrate?rate=1", &[], b"").unwrap();
    assert_eq!(rate.status, 404);
    assert_eq!(node.post("/debug/freememory", b"").status, 404);
}

#[test]
fn sighup_does_not_end_a_node() {
    if is_reference() {
        return; // it ends nsqd at once, and what is only in memory is lost
    }
    let mut node = Nsqd::start(&["-durability=memory"]);
    node.create_channel("t", "c");
    node.client().publish("t", b"in memory");
    node.signal(Signal::HUP);
    let told = || node.log().contains("SIGHUP has no effect");
    eventually(Duration::from_secs(10), "a line in the log", told);
    node.restart();
    assert_eq!(node.consumer("t", "c", 1).take(), "in memory");
}

#[test]
fn mem_queue_size_bounds_what_is_ephemeral_and_splits_depth_and_nothing_else() {
    if is_reference() {
        return;
    }
    let node = Nsqd::start(&["-mem-queue-size=3"]);
    node.create_channel("t", "c");
    node.create_channel("t", "e%23ephemeral");
    let mut producer = node.client();
    for _ in 0..10 {
        producer.publish("t", b"x");
        producer.publish("e#ephemeral", b"x");
    }
    let stats = node.get("/stats?format=json&include_mem=false").json();
    let depths = |of: &Value| (of["depth"].clone(), of["backend_depth"].clone());
    let [ephemeral, lasting] = [&stats["topics"][0], &stats["topics"][1]];
    assert_eq!(depths(ephemeral), (json!(3), json!(0)), "the rest is dropped");
    assert_eq!(ephemeral["message_count"], 10);
    assert_eq!(depths(&lasting["channels"][0]), (json!(10), json!(7)));
    assert_eq!(depths(&lasting["channels"][1]), (json!(3), json!(0)));
}

#[test]
fn memory_in_stats_has_the_keys_of_go_s_collector_and_one_figure() {
    if is_reference() {
        return;
    }
    let node = Nsqd::start(&[]);
    let mut memory = node.get("/stats?format=json").json()["memory"].take();
    let resident = memory["heap_in_use_bytes"].take();
    assert!(resident.as_u64().is_some_and(|bytes| bytes > 1_000_000), "{resident}");
    let expected = json!({
        "heap_objects": 0, "heap_idle_bytes": 0, "heap_in_use_bytes": null,
        "heap_released_bytes": 0, "gc_pause_usec_100": 0, "gc_pause_usec_99": 0,
        "gc_pause_usec_95": 0, "next_gc_bytes": 0, "gc_total_runs": 0,
    });
    assert_eq!(memory, expected);
}

#[test]
fn compression_that_is_not_on_offer_is_declined() {
    if is_reference() {
        return;
    }
    let node = Nsqd::start(&["-snappy=false", "-deflate=false"]);
    let mut client = node.client();
    let wishes = br#"{"feature_negotiation":true,"snappy":true,"deflate":true,"tls_v1":true}"#;
    client.command("IDENTIFY", Some(wishes));
    let Frame::Response(body) = client.frame() else { panic!("a response") };
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
    for feature in ["snappy", "deflate", "tls_v1"] {
        assert_eq!(answer[feature], false, "{feature} in {answer}");
    }
    client.publish("t", b"in plain");
}
