//! Who gets a message: sampling, nearness, the limit of consumers, clients that do not read.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Frame, Nsqd, RawClient, eventually, is_reference, mpub_body};

/// How long something may take on a busy machine.
const BOUND: Duration = Duration::from_secs(15);

/// A node in zone z1 of region r1 that minds it.
fn aware(flags: &[&str]) -> Nsqd {
    let place = [
        "-enable-experiment=topology-aware-consumption",
        "-topology-region=r1",
        "-topology-zone=z1",
    ];
    Nsqd::start(&[&place, flags].concat())
}

/// A client that has sent these settings in an IDENTIFY.
#[track_caller]
fn identified(node: &Nsqd, settings: &Value) -> RawClient {
    let mut client = node.client();
    identify(&mut client, settings);
    client
}

#[track_caller]
fn identify(client: &mut RawClient, settings: &Value) {
    client.command("IDENTIFY", Some(settings.to_string().as_bytes()));
    client.expect_ok();
}

/// A consumer of channel `c` of topic `t` with these settings.
#[track_caller]
fn consumer(node: &Nsqd, settings: &Value, rdy: u32) -> RawClient {
    let mut client = identified(node, settings);
    subscribe(node, &mut client, rdy);
    client
}

/// Subscribes and waits until the node knows how many messages the client wants.
#[track_caller]
fn subscribe(node: &Nsqd, client: &mut RawClient, rdy: u32) {
    client.command("SUB t c", None);
    client.expect_ok();
    let ready = |node: &Nsqd| {
        let clients = node.channel_stats("t", "c")["clients"].take();
        let counts = clients.as_array().cloned().unwrap_or_default();
        counts.iter().filter_map(|client| client["ready_count"].as_u64()).sum::<u64>()
    };
    let before = ready(node);
    client.command(&format!("RDY {rdy}"), None);
    eventually(BOUND, "RDY", || ready(node) == before + u64::from(rdy));
}

#[track_caller]
fn publish(node: &Nsqd, count: usize) {
    let mut producer = node.client();
    producer.command("MPUB t", Some(&mpub_body(&vec!["x"; count])));
    producer.expect_ok();
}

/// Bodies a client has been sent, none of them answered, until nothing comes for a moment.
fn received(client: &mut RawClient) -> usize {
    let mut count = 0;
    while let Frame::Message { .. } = client.frame_or_silence(Duration::from_millis(300)) {
        count += 1;
    }
    count
}

/// Deliveries to the zone, to the region, and elsewhere; counters that are 0 are not shown.
#[track_caller]
fn localities(node: &Nsqd) -> [u64; 3] {
    let stats = node.channel_stats("t", "c");
    ["zone_local_msg_count", "region_local_msg_count", "global_msg_count"]
        .map(|counter| stats[counter].as_u64().unwrap_or(0))
}

#[test]
fn a_sampled_consumer_gets_its_share_and_the_rest_is_gone() {
    let node = Nsqd::start(&[]);
    let mut sampled = consumer(&node, &json!({"sample_rate": 20}), 2_500);
    publish(&node, 1_000);
    let share = received(&mut sampled);
    // 21 of 100 draws are good; six deviations are 77.
    assert!((133..=287).contains(&share), "{share} of 1,000");
    let stats = node.channel_stats("t", "c");
    assert_eq!(stats["depth"], 0);
    assert_eq!(stats["in_flight_count"], share as u64);
    assert_eq!(stats["message_count"], 1_000);
}

#[test]
fn the_last_identify_before_sub_rules_delivery() {
    if is_reference() {
        return; // nsqd goes on with the first one's settings
    }
    let node = Nsqd::start(&[]);
    let mut client = identified(&node, &json!({"sample_rate": 1, "msg_timeout": 60_000}));
    identify(&mut client, &json!({"sample_rate": 0, "msg_timeout": 1_000}));
    subscribe(&node, &mut client, 100);
    publish(&node, 100);
    let start = Instant::now();
    for _ in 0..100 {
        client.message();
    }
    assert_eq!(client.message().1, 2, "the second one's timeout is over");
    assert!(start.elapsed() < BOUND, "{:?}", start.elapsed());
}

#[test]
fn messages_go_to_the_zone_then_to_the_region_then_anywhere() {
    let far = json!({"topology_region": "r9", "topology_zone": "z9"});
    let neighbour = json!({"topology_region": "r1", "topology_zone": "z2"});
    let near = json!({"topology_region": "r1", "topology_zone": "z1"});
    for (index, settings) in [&near, &neighbour].into_iter().enumerate() {
        let node = aware(&[]);
        let mut others = vec![consumer(&node, &far, 100)];
        if index == 0 {
            others.push(consumer(&node, &neighbour, 100));
        }
        let mut chosen = consumer(&node, settings, 100);
        let mut producer = node.client();
        for count in 1..=20 {
            producer.publish("t", b"x");
            let all = |node: &Nsqd| localities(node).iter().sum::<u64>();
            eventually(BOUND, "a delivery", || all(&node) == count);
        }
        // A consumer is preferred while it waits, which is a moment after its last delivery.
        let got = received(&mut chosen);
        assert!(got >= 16, "{got} of 20");
        assert_eq!(localities(&node)[index], got as u64);
        assert_eq!(others.iter_mut().map(received).sum::<usize>(), 20 - got);
    }
}

#[test]
fn messages_from_the_disk_are_counted_by_nearness_as_well() {
    if is_reference() {
        return; // nsqd counts those that never left memory
    }
    let node = aware(&["-mem-queue-size=0"]);
    node.create_channel("t", "c");
    publish(&node, 10);
    let near = json!({"topology_region": "r1", "topology_zone": "z1"});
    let mut near = consumer(&node, &near, 10);
    for _ in 0..10 {
        near.take();
    }
    assert_eq!(localities(&node), [10, 0, 0]);
}

#[test]
fn a_client_that_does_not_say_where_it_is_is_far() {
    if is_reference() {
        return; // to nsqd an empty zone is the same place as an empty zone
    }
    let node =
        Nsqd::start(&["-enable-experiment=topology-aware-consumption", "-topology-region=r1"]);
    let mut silent = node.client();
    subscribe(&node, &mut silent, 1);
    publish(&node, 1);
    silent.take();
    let mut nameless = consumer(&node, &json!({"topology_region": "", "topology_zone": ""}), 1);
    drop(silent);
    eventually(BOUND, "the first one is gone", || {
        node.channel_stats("t", "c")["client_count"] == 1
    });
    publish(&node, 1);
    nameless.take();
    assert_eq!(localities(&node), [0, 0, 2]);
}

#[test]
fn without_the_experiment_every_consumer_is_equally_far() {
    let node = Nsqd::start(&["-topology-region=r1", "-topology-zone=z1"]);
    let near = json!({"topology_region": "r1", "topology_zone": "z1"});
    let mut near = consumer(&node, &near, 2);
    publish(&node, 2);
    near.take();
    near.take();
    assert_eq!(localities(&node), [0, 0, 2]);
}

#[test]
fn a_channel_takes_no_more_consumers_than_it_may() {
    let node = Nsqd::start(&["-max-channel-consumers=2"]);
    let first = node.consumer("t", "c", 1);
    let _second = node.consumer("t", "c", 1);
    let mut third = node.client();
    third.command("SUB t c", None);
    third.expect_fatal("E_SUB_FAILED SUB failed consumers for t:c exceeds limit of 2");
    let _other = node.consumer("t", "other", 1);
    drop(first);
    eventually(BOUND, "the first one is gone", || {
        node.channel_stats("t", "c")["client_count"] == 1
    });
    let _third = node.consumer("t", "c", 1);
    assert_eq!(node.channel_stats("t", "c")["client_count"], 2);
}

#[test]
fn a_client_that_writes_but_does_not_read_loses_its_connection_and_what_it_held() {
    if is_reference() {
        return; // nsqd keeps the connection, without messages or heartbeats, while it writes
    }
    let node = Nsqd::start(&[]);
    let mut stuck = identified(&node, &json!({"heartbeat_interval": 1_000}));
    subscribe(&node, &mut stuck, 2_500);
    let mut producer = node.client();
    for _ in 0..40 {
        producer.publish("t", &vec![b'x'; 1_000_000]); // more than both sockets' buffers hold
    }
    eventually(BOUND, "the connection ends", || {
        let _ = stuck.try_send(b"NOP\n");
        node.channel_stats("t", "c")["client_count"] == 0
    });
    let stats = node.channel_stats("t", "c");
    assert_eq!((&stats["depth"], &stats["in_flight_count"]), (&json!(40), &json!(0)));
}
