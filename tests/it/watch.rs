//! `/lookup` with `wait`, and the headers of lookup answers.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Cluster, Nsqd, eventually, get, is_reference};

/// Longer than anything here takes; a watch that comes back sooner was woken.
const WAIT: &str = "15s";
const WOKEN_WITHIN: Duration = Duration::from_secs(12);

/// Index of an answer of `/lookup`.
fn index(address: &str, topic: &str) -> String {
    let answer = get(address, &format!("/lookup?topic={topic}")).expect("an answer");
    answer.header("x-nsq-gossip-index").expect("an index").to_owned()
}

#[test]
fn a_consumer_that_watches_learns_of_a_producer_on_another_node_at_once() {
    if is_reference() {
        return;
    }
    let cluster = Cluster::of(2);
    for (round, address) in
        [cluster.nodes[1].http(), cluster.nodes[1].lookup_http()].into_iter().enumerate()
    {
        let topic = format!("t{round}");
        assert_eq!(index(&address, &topic), "0", "there is no such topic yet");
        let path = format!("/lookup?topic={topic}&wait={WAIT}&index=0");
        let watching = thread::spawn(move || {
            let started = Instant::now();
            (get(&address, &path).expect("an answer"), started.elapsed())
        });
        // Not needed for the outcome: a change before the watch begins is seen as well.
        thread::sleep(Duration::from_millis(300));
        cluster.nodes[0].create_channel(&topic, "c");
        let (answer, took) = watching.join().expect("no panic");
        assert!(took < WOKEN_WITHIN, "woken after {took:?}");
        assert_eq!(answer.json()["producers"][0]["tcp_port"], cluster.nodes[0].tcp_port());
    }
}

#[test]
fn nodes_agree_on_the_index_of_an_answer_and_a_watch_ends_when_a_producer_leaves() {
    if is_reference() {
        return;
    }
    let mut cluster = Cluster::of(3);
    cluster.nodes[2].create_channel("t", "c");
    cluster.wait_for_lookup(WOKEN_WITHIN, "t", &[0, 1, 2], &[2]);
    eventually(WOKEN_WITHIN, "the index is the same everywhere", || {
        let indexes = cluster.nodes.iter().map(|node| index(&node.http(), "t"));
        let indexes: std::collections::BTreeSet<String> = indexes.collect();
        indexes.len() == 1
    });
    let known = index(&cluster.nodes[0].http(), "t");
    let (address, path) =
        (cluster.nodes[1].lookup_http(), format!("/lookup?topic=t&wait={WAIT}&index={known}"));
    let watching = thread::spawn(move || get(&address, &path).expect("an answer"));
    assert!(cluster.nodes[2].terminate().success());
    assert_ne!(watching.join().expect("no panic").header("x-nsq-gossip-index"), Some(&*known));
}

#[test]
fn a_stopping_node_answers_its_watches() {
    if is_reference() {
        return;
    }
    let mut node = Nsqd::start(&[]);
    let address = node.lookup_http();
    let path = "/lookup?topic=t&wait=5m&index=0";
    let watching = thread::spawn(move || get(&address, path).map(|answer| answer.status));
    thread::sleep(Duration::from_millis(300));
    let stopping = Instant::now();
    assert!(node.terminate().success());
    assert!(stopping.elapsed() < Duration::from_secs(10), "{:?}", stopping.elapsed());
    assert_eq!(watching.join().expect("no panic").expect("an answer"), 404);
    assert!(!node.log().contains("did not end in time"), "{}", node.log());
}

#[test]
fn the_age_of_answers_grows_only_while_a_node_is_alone() {
    if is_reference() {
        return;
    }
    let alone = Nsqd::start(&[]);
    let answer = alone.get("/topics");
    assert_eq!(answer.header("x-nsq-gossip-age"), None, "it has met nobody");

    let mut cluster = Cluster::of(2);
    let age = |cluster: &Cluster, path: &str| {
        let answer = cluster.nodes[0].get(path);
        answer.header("x-nsq-gossip-age").and_then(|age| age.parse::<u64>().ok())
    };
    for path in ["/lookup?topic=none", "/topics", "/channels?topic=none", "/nodes"] {
        eventually(WOKEN_WITHIN, path, || age(&cluster, path).is_some_and(|age| age < 5_000));
    }
    cluster.nodes[1].kill();
    let killed = age(&cluster, "/nodes").expect("an age");
    eventually(WOKEN_WITHIN, "the age grows", || {
        age(&cluster, "/nodes").is_some_and(|age| age > killed + 3_000)
    });
}

/// A connection that has asked for a watch which nothing but its client's end would end soon.
fn watching(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("a connection");
    let request = b"GET /lookup?topic=none&wait=5m&index=0 HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request).expect("the node takes the request");
    stream
}

#[test]
fn a_watch_is_answered_at_once_when_its_client_closes_its_side() {
    if is_reference() {
        return;
    }
    let node = Nsqd::start(&[]);
    for address in [node.http(), node.lookup_http()] {
        let mut stream = watching(&address);
        thread::sleep(Duration::from_millis(100));
        stream.shutdown(Shutdown::Write).expect("half closed");
        stream.set_read_timeout(Some(WOKEN_WITHIN)).expect("a timeout");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    }
}

#[test]
fn clients_that_are_gone_take_no_place_from_those_that_watch() {
    if is_reference() {
        return;
    }
    let node = Nsqd::start(&[]);
    // Some more than there are places.
    for number in 0..4_200 {
        let stream = watching(&node.lookup_http());
        if number % 2 == 0 {
            let reset = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            reset.expect("closing will reset the connection");
        }
        drop(stream);
    }
    for address in [node.http(), node.lookup_http()] {
        eventually(WOKEN_WITHIN, "there is a place", || {
            let path = "/lookup?topic=none&wait=10ms&index=0";
            get(&address, path).is_ok_and(|answer| answer.status == 404)
        });
    }
}
