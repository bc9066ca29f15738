//! A node as a client of nsqlookupds.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::support::{
    Cluster, FakeLookupd, Manner, Nsqd, eventually, for_a_while, is_reference, request,
};

/// How long something takes that waits for nobody; the rest is for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(5);
/// A member that does not answer is out of every answer within this.
const DETECT_MAX: Duration = Duration::from_secs(15);

/// Changes whom a running node registers with.
#[track_caller]
fn set_lookupds(node: &Nsqd, addresses: &[&str]) {
    let list = serde_json::to_vec(addresses).expect("JSON");
    let path = "/config/nsqlookupd_tcp_addresses";
    let answer = request(&node.http(), "PUT", path, &[], &list).expect("an answer");
    assert_eq!((answer.status, answer.json()), (200, serde_json::json!(addresses)));
}

/// Creates topics by publishing, in one connection.
#[track_caller]
fn publish_to(node: &Nsqd, topics: impl Iterator<Item = String>) {
    let mut client = node.client();
    for topic in topics {
        client.command(&format!("PUB {topic}"), Some(b"x"));
        client.expect_ok();
    }
}

#[test]
fn a_node_that_lost_its_connection_introduces_itself_and_registers_everything_again() {
    if is_reference() {
        return; // nsqd is back with its second PING
    }
    let lookupd = FakeLookupd::start();
    let node = Nsqd::start(&[&lookupd.flag()]);
    node.create_channel("t", "a");
    node.create_channel("t", "b%23ephemeral");
    node.post_ok("/topic/create?topic=alone", b"");
    let all = ["alone", "t", "t a", "t b#ephemeral"];
    lookupd.wait_for(&all);
    for round in 2..5 {
        lookupd.disconnect();
        lookupd.wait_for_identities(round);
        lookupd.wait_for(&all);
    }
    // What changed while it was away is in the list of its return.
    lookupd.set_manner(Manner::Closes);
    lookupd.disconnect();
    node.post_ok("/channel/delete?topic=t&channel=a", b"");
    node.post_ok("/topic/delete?topic=alone", b"");
    node.create_channel("new", "c");
    lookupd.set_manner(Manner::Good);
    lookupd.wait_for(&["new", "new c", "t", "t b#ephemeral"]);
    let identities = lookupd.identities();
    assert!(identities.iter().all(|identity| *identity == identities[0]), "{identities:?}");
    assert_eq!(identities[0]["tcp_port"], node.tcp_port());
}

#[test]
fn an_nsqlookupd_that_hangs_keeps_no_news_from_another_and_no_publisher_waiting() {
    if is_reference() {
        return; // nsqd visits them in turn
    }
    let (hangs, works) = (FakeLookupd::start(), FakeLookupd::start());
    hangs.set_manner(Manner::Silent);
    let node = Nsqd::start(&[&hangs.flag(), &works.flag()]);
    works.wait_for(&[]);
    works.wait_for_identities(1);
    let begun = Instant::now();
    publish_to(&node, (0..40).map(|number| format!("t{number}")));
    let want: Vec<String> = (0..40).map(|number| format!("t{number}")).collect();
    works.wait_for(&want.iter().map(String::as_str).collect::<Vec<_>>());
    // Visited in turn, the one that hangs would cost a second for each.
    assert!(begun.elapsed() < Duration::from_secs(20), "40 topics took {:?}", begun.elapsed());
    assert!(!hangs.identities().is_empty(), "it was there and it was tried");
}

#[test]
fn an_nsqlookupd_that_stops_answering_over_http_delays_a_new_topic_so_long_and_no_longer() {
    let (hangs, works) = (FakeLookupd::start(), FakeLookupd::start());
    hangs.set_http_answer(None);
    works.set_channels(&["known"]);
    let node = Nsqd::start(&[
        &hangs.flag(),
        &works.flag(),
        "-http-client-connect-timeout=300ms",
        "-http-client-request-timeout=300ms",
    ]);
    for lookupd in [&hangs, &works] {
        lookupd.wait_for_identities(1);
    }
    // The first may come before the answers to IDENTIFY have been read.
    let asked = eventually_asked(&node, &hangs);
    let begun = Instant::now();
    node.post_ok(&format!("/pub?topic={asked}"), b"x");
    assert!(begun.elapsed() < Duration::from_secs(15), "it took {:?}", begun.elapsed());
    node.wait_for_stat(&asked, "known", "depth", 1);
}

/// Publishes to new topics until an nsqlookupd is asked for one's channels; the next name.
#[track_caller]
fn eventually_asked(node: &Nsqd, lookupd: &FakeLookupd) -> String {
    let mut number = 0;
    eventually(Duration::from_secs(20), "an nsqlookupd is asked", || {
        number += 1;
        node.post_ok(&format!("/topic/create?topic=probe{number}"), b"");
        !lookupd.questions().is_empty()
    });
    "next".to_owned()
}

#[test]
fn an_nsqlookupd_that_is_out_of_reach_is_not_asked_for_channels() {
    if is_reference() {
        return; // nsqd goes on asking it
    }
    let lookupd = FakeLookupd::start();
    let node = Nsqd::start(&[&lookupd.flag()]);
    eventually_asked(&node, &lookupd);
    lookupd.set_manner(Manner::Closes);
    lookupd.disconnect();
    let mut number = 0;
    let mut is_asked = || {
        number += 1;
        let asked = lookupd.questions().len();
        node.post_ok(&format!("/topic/create?topic=later{number}"), b"");
        lookupd.questions().len() > asked
    };
    eventually(AT_ONCE, "it is left alone", || !is_asked());
    lookupd.set_manner(Manner::Good);
    eventually(Duration::from_secs(20), "it is asked again", is_asked);
}

#[test]
fn a_new_topic_has_the_channels_every_nsqlookupd_knows_before_its_first_message() {
    if is_reference() {
        return; // nsqd takes any name
    }
    let lookupds = [FakeLookupd::start(), FakeLookupd::start(), FakeLookupd::start()];
    let flags: Vec<String> = lookupds.iter().map(FakeLookupd::flag).collect();
    let node = Nsqd::start(&flags.iter().map(String::as_str).collect::<Vec<_>>());
    for lookupd in &lookupds {
        eventually_asked(&node, lookupd);
    }
    lookupds[0].set_channels(&["a", "both", "gone#ephemeral"]);
    lookupds[1].set_channels(&["b", "both", "no channel's name"]);
    let broken = "HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\n{}";
    lookupds[2].set_http_answer(Some(broken.to_owned()));
    for topic in ["t", "t2#ephemeral"] {
        let target = topic.replace('#', "%23");
        node.post_ok(&format!("/pub?topic={target}"), b"x");
        let stats = node.get("/stats?format=json&include_mem=false").json();
        let topics = stats["topics"].as_array().expect("topics");
        let found = topics.iter().find(|found| found["topic_name"] == topic).expect("it is there");
        let channels: Vec<(&str, u64)> = found["channels"]
            .as_array()
            .expect("channels")
            .iter()
            .map(|channel| {
                let name = channel["channel_name"].as_str().expect("a name");
                (name, channel["depth"].as_u64().expect("a number"))
            })
            .collect();
        let names: BTreeSet<&str> = channels.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, BTreeSet::from(["a", "b", "both"]), "{topic}");
        assert!(channels.iter().all(|(_, depth)| *depth == 1), "{topic}: {channels:?}");
        let question = format!("/channels?topic={target}");
        assert!(lookupds[2].questions().contains(&question), "{:?}", lookupds[2].questions());
    }
}

#[test]
fn answers_that_make_no_sense_cost_the_connection_and_nothing_else() {
    if is_reference() {
        return; // the negative length ends nsqd
    }
    let sized = |text: &str| [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat();
    let strange: [(Vec<u8>, &str); 6] = [
        (sized("E_INVALID"), "it answered IDENTIFY with"),
        (sized("\u{1}no JSON"), "it answered IDENTIFY with"),
        (b"\xff\xff\xff\xffminus one".to_vec(), "not an answer of nsqlookupd"),
        (b"\x7f\xff\xff\xfftoo long".to_vec(), "not an answer of nsqlookupd"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "not an answer of nsqlookupd"),
        (b"\0\0".to_vec(), "no answer within 1s"),
    ];
    let lookupds: Vec<FakeLookupd> = strange.iter().map(|_| FakeLookupd::start()).collect();
    for (lookupd, (bytes, _)) in lookupds.iter().zip(&strange) {
        lookupd.set_manner(Manner::Says(bytes.clone()));
    }
    let flags: Vec<String> = lookupds.iter().map(FakeLookupd::flag).collect();
    let node = Nsqd::start(&flags.iter().map(String::as_str).collect::<Vec<_>>());
    node.create_channel("t", "c");
    for lookupd in &lookupds {
        lookupd.wait_for_identities(2);
    }
    let log = node.log();
    for (lookupd, (_, reason)) in lookupds.iter().zip(&strange) {
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("not registered with nsqlookupd"))
            .filter(|line| line.contains(lookupd.address()))
            .collect();
        assert!(lines.iter().any(|line| line.contains(reason)), "no {reason:?} in {lines:?}");
        assert!(lines.iter().all(|line| line.is_ascii()), "{lines:?}");
        // A busy machine may add reasons of its own; the same is not said twice running.
        let reasons = lines.iter().filter_map(|line| line.split_once("reason=")).map(|(_, r)| r);
        let reasons: Vec<&str> = reasons.collect();
        assert!(reasons.windows(2).all(|two| two[0] != two[1]), "{reasons:?}");
    }
    for lookupd in &lookupds {
        lookupd.set_manner(Manner::Good);
        lookupd.disconnect();
    }
    for lookupd in &lookupds {
        lookupd.wait_for(&["t", "t c"]);
    }
}

#[test]
fn many_topics_are_registered_one_by_one_and_all_again_after_a_reconnect() {
    if is_reference() {
        return; // nsqd is back with its second PING
    }
    let lookupd = FakeLookupd::start();
    let node = Nsqd::start(&[&lookupd.flag()]);
    lookupd.wait_for_identities(1);
    let names: Vec<String> = (0..1_000).map(|number| format!("t{number}")).collect();
    let entries: Vec<&str> = names.iter().map(String::as_str).collect();
    publish_to(&node, names.iter().cloned());
    lookupd.wait_for(&entries);
    lookupd.disconnect();
    lookupd.wait_for_identities(2);
    lookupd.wait_for(&entries);
}

#[test]
fn what_is_created_and_deleted_again_and_again_is_registered_as_it_is_in_the_end() {
    let lookupd = FakeLookupd::start();
    let node = Nsqd::start(&[&lookupd.flag()]);
    lookupd.wait_for_identities(1);
    let act = |what: String| {
        // Which of several hits is a matter of luck: 200 and 404 are both right.
        node.post(&what, b"");
    };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for round in 0..50 {
                    match (thread + round) % 4 {
                        0 => act("/topic/create?topic=t".to_owned()),
                        1 => act("/channel/create?topic=t&channel=c".to_owned()),
                        2 => act("/channel/delete?topic=t&channel=c".to_owned()),
                        _ => act("/topic/delete?topic=t".to_owned()),
                    }
                }
            });
        }
    });
    let stats = node.get("/stats?format=json&include_mem=false").json();
    let mut want = Vec::new();
    if let Some(topic) = stats["topics"].as_array().and_then(|topics| topics.first()) {
        want.push("t");
        if topic["channels"].as_array().is_some_and(|channels| !channels.is_empty()) {
            want.push("t c");
        }
    }
    lookupd.wait_for(&want);
    for_a_while(Duration::from_millis(300), "and nothing comes after it", || {
        lookupd.registered().len() == want.len()
    });
    node.create_channel("t", "c");
    lookupd.wait_for(&["t", "t c"]);
    node.post_ok("/topic/delete?topic=t", b"");
    lookupd.wait_for(&[]);
}

#[test]
fn the_nsqlookupds_change_while_the_node_runs() {
    let (first, second) = (FakeLookupd::start(), FakeLookupd::start());
    let node = Nsqd::start(&[&first.flag()]);
    node.create_channel("t", "c");
    first.wait_for(&["t", "t c"]);
    // Twice the same is one connection.
    set_lookupds(&node, &[first.address(), second.address(), second.address()]);
    second.wait_for(&["t", "t c"]);
    assert_eq!((first.identities().len(), second.identities().len()), (1, 1), "first is kept");
    set_lookupds(&node, &[second.address()]);
    eventually(AT_ONCE, "the connection to the first is closed", || first.connections() == 0);
    let heard = first.lines().len();
    let asked = first.questions().len();
    node.create_channel("t2", "c");
    second.wait_for(&["t", "t c", "t2", "t2 c"]);
    assert_eq!((first.lines().len(), first.questions().len()), (heard, asked));
    set_lookupds(&node, &[]);
    eventually(AT_ONCE, "the other connection is closed", || second.connections() == 0);
    set_lookupds(&node, &[first.address()]);
    first.wait_for(&["t", "t c", "t2", "t2 c"]);
}

#[test]
fn a_sign_of_life_comes_every_fifteen_seconds() {
    let lookupd = FakeLookupd::start();
    let _node = Nsqd::start(&[&lookupd.flag()]);
    lookupd.wait_for_identities(1);
    let begun = Instant::now();
    eventually(Duration::from_secs(25), "a PING comes", || {
        lookupd.lines().iter().any(|line| line == "PING")
    });
    let waited = begun.elapsed();
    assert!(waited > Duration::from_secs(12), "{waited:?}");
    assert_eq!(lookupd.identities().len(), 1, "in the same connection");
}

#[test]
fn a_draining_node_stays_registered_so_that_consumers_come_and_empty_it() {
    if is_reference() {
        return;
    }
    let lookupd = FakeLookupd::start();
    let node = Nsqd::start(&[&lookupd.flag()]);
    node.create_channel("t", "c");
    lookupd.wait_for(&["t", "t c"]);
    node.post_ok("/drain", b"");
    lookupd.disconnect();
    lookupd.wait_for_identities(2);
    lookupd.wait_for(&["t", "t c"]);
}

#[test]
fn a_node_that_registers_with_its_own_cluster_is_there_once_drains_and_dies_as_without() {
    if is_reference() {
        return;
    }
    let cluster = Cluster::of(3);
    let [first, second, third] = &cluster.nodes[..] else { unreachable!() };
    set_lookupds(second, &[&first.lookup_tcp(), &second.lookup_tcp(), &third.lookup_tcp()]);
    second.create_channel("t", "c");
    for node in &cluster.nodes {
        eventually(AT_ONCE, "the node registers", || {
            node.log().contains("producer is a member; gossip speaks for it")
        });
    }
    cluster.wait_for_lookup(AT_ONCE, "t", &[0, 1, 2], &[1]);
    cluster.wait_until_known(AT_ONCE, &[0, 1, 2]);

    second.post_ok("/drain", b"");
    let listed = |asked: &Nsqd| {
        let nodes = asked.get("/nodes").json();
        let producers = nodes["producers"].as_array().expect("producers");
        producers.iter().any(|producer| producer["tcp_port"] == second.tcp_port())
    };
    for node in [first, third] {
        eventually(AT_ONCE, "publishers do not find it", || !listed(node));
    }
    second.post_ok("/undrain", b"");
    eventually(AT_ONCE, "publishers find it again", || listed(first));

    // Its connections stay open, and still nobody is sent to it.
    second.freeze();
    cluster.wait_for_lookup(DETECT_MAX, "t", &[0, 2], &[]);
    cluster.wait_until_known(DETECT_MAX, &[0, 2]);
    second.thaw();
    cluster.wait_for_lookup(DETECT_MAX, "t", &[0, 1, 2], &[1]);
    second.post_ok("/topic/delete?topic=t", b"");
    cluster.wait_for_lookup(AT_ONCE, "t", &[0, 1, 2], &[]);
    for node in [first, third] {
        eventually(AT_ONCE, "not even its name is left", || {
            node.get("/lookup?topic=t").status == 404
        });
    }
}
