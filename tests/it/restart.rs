//! What a node remembers: clean stops, kill -9, damaged files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use grapevine_storage::ChannelCheckpoint;

use crate::support::{Frame, Nsqd, RawClient, eventually, is_reference, mpub_body};

#[test]
fn a_clean_stop_keeps_what_was_in_flight_with_its_attempts() {
    let mut node = Nsqd::start(&[]);
    node.create_channel("t", "c");
    node.post_ok("/mpub?topic=t", b"1\n2\n3\n4\n5");
    let mut consumer = node.consumer("t", "c", 3);
    let held: BTreeSet<String> = (0..3).map(|_| consumer.message().2).collect();
    node.restart();

    node.wait_for_stat("t", "c", "depth", 5);
    let mut consumer = node.consumer("t", "c", 5);
    for _ in 0..5 {
        let (_, attempts, body) = consumer.message();
        assert_eq!(attempts, if held.contains(&body) { 2 } else { 1 }, "attempts of {body}");
    }
}

#[test]
fn a_clean_stop_forgets_nothing_that_was_finished() {
    let mut node = Nsqd::start(&[]);
    node.create_channel("t", "c");
    node.post_ok("/mpub?topic=t", b"1\n2\n3");
    let mut consumer = node.consumer("t", "c", 1);
    let mut left: BTreeSet<String> = ["1", "2", "3"].map(str::to_owned).into();
    for _ in 0..2 {
        left.remove(&consumer.take());
    }
    let (_, _, third) = consumer.message();
    node.restart();

    let mut consumer = node.consumer("t", "c", 5);
    assert_eq!(consumer.take(), third);
    assert_eq!(left, [third].into());
    assert_eq!(consumer.frame_or_silence(Duration::from_millis(300)), Frame::Silence);
}

#[test]
fn a_deferred_message_keeps_its_time_over_a_clean_stop() {
    if is_reference() {
        return; // nsqd drops the delay and delivers at once
    }
    let mut node = Nsqd::start(&[]);
    node.create_channel("t", "c");
    let start = Instant::now();
    let mut producer = node.client();
    producer.command("DPUB t 3000", Some(b"later"));
    producer.expect_ok();
    node.restart();

    let mut consumer = node.consumer("t", "c", 1);
    let (_, attempts, body) = consumer.message();
    assert_eq!((attempts, body.as_str()), (1, "later"));
    assert!(start.elapsed() >= Duration::from_millis(2_900), "{:?}", start.elapsed());
}

#[test]
fn pauses_survive_a_clean_stop_and_ephemeral_names_do_not() {
    let mut node = Nsqd::start(&[]);
    node.create_channel("t", "c");
    node.create_channel("t", "e%23ephemeral");
    node.create_channel("gone%23ephemeral", "c");
    node.post_ok("/channel/pause?topic=t&channel=c", b"");
    node.post_ok("/topic/create?topic=paused", b"");
    node.post_ok("/topic/pause?topic=paused", b"");
    node.restart();

    let stats = node.get("/stats?format=json").json();
    let names: Vec<&str> = stats["topics"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|t| t["topic_name"].as_str())
        .collect();
    assert_eq!(names, ["paused", "t"]);
    assert_eq!(stats["topics"][0]["paused"], true);
    let channels = stats["topics"][1]["channels"].as_array().unwrap();
    assert_eq!(channels.len(), 1, "{channels:?}");
    assert_eq!(channels[0]["paused"], true);
}

#[test]
fn topics_and_channels_are_there_after_a_kill_right_after_their_making() {
    let mut node = Nsqd::start(&[]);
    for index in 0..5 {
        node.create_channel(&format!("t{index}"), "c");
        node.kill();
        node.launch();
        for earlier in 0..=index {
            let stats = node.channel_stats(&format!("t{earlier}"), "c");
            assert_eq!(stats["channel_name"], "c", "t{earlier} after kill {index}");
        }
    }
}

/// Publishes numbered messages, alternately alone and in batches, until the connection ends;
/// returns the bodies that were acknowledged.
fn publish_until_killed(address: &str, prefix: &str, stop: &AtomicBool) -> Vec<String> {
    let mut client = RawClient::v2(address);
    let mut acknowledged = Vec::new();
    for turn in 0.. {
        let alone = turn % 2 == 0;
        let count = if alone { 1 } else { 20 };
        let bodies: Vec<String> = (0..count).map(|i| format!("{prefix}-{turn}-{i}")).collect();
        let (line, body) = if alone {
            ("PUB t\n", bodies[0].clone().into_bytes())
        } else {
            ("MPUB t\n", mpub_body(&bodies))
        };
        let mut bytes = line.as_bytes().to_vec();
        bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&body);
        let answered = client.try_send(&bytes).is_ok()
            && client.frame_or_silence(Duration::from_secs(10)) == Frame::Response(b"OK".to_vec());
        if !answered {
            assert!(stop.load(Ordering::SeqCst), "a publish failed before the node was killed");
            break;
        }
        acknowledged.extend(bodies);
    }
    acknowledged
}

#[test]
fn every_acknowledged_message_is_there_after_twenty_kills_in_the_middle_of_publishing() {
    if is_reference() {
        return; // nsqd loses what it holds in memory
    }
    let mut node = Nsqd::start(&["-max-bytes-per-file=65536"]);
    node.create_channel("t", "c");
    let mut acknowledged = Vec::new();
    for round in 0..20_u64 {
        let killed = AtomicBool::new(false);
        let address = node.tcp();
        acknowledged.extend(std::thread::scope(|scope| {
            let publisher =
                scope.spawn(|| publish_until_killed(&address, &format!("{round}"), &killed));
            // Different points of the work, from the first message on.
            std::thread::sleep(Duration::from_millis(5 + round * 7 % 60));
            killed.store(true, Ordering::SeqCst);
            node.kill();
            publisher.join().expect("the publisher")
        }));
        node.launch();
    }
    assert!(acknowledged.len() > 1_000, "only {} were published", acknowledged.len());

    let mut missing: BTreeSet<String> = acknowledged.into_iter().collect();
    let mut consumer = node.consumer("t", "c", 1_000);
    while !missing.is_empty() {
        match consumer.frame_or_silence(Duration::from_secs(10)) {
            Frame::Message { id, body, .. } => {
                missing.remove(&String::from_utf8(body).expect("our own text"));
                consumer.command(&format!("FIN {id}"), None);
            }
            other => panic!("{} are missing, e.g. {:?}: {other:?}", missing.len(), missing.first()),
        }
    }
}

#[test]
fn messages_finished_well_before_a_kill_do_not_come_again() {
    if is_reference() {
        return;
    }
    let mut node = Nsqd::start(&[]);
    node.create_channel("t", "c");
    node.post_ok("/mpub?topic=t", b"1\n2\n3");
    let mut consumer = node.consumer("t", "c", 1);
    for _ in 0..3 {
        consumer.take();
    }
    node.wait_for_stat("t", "c", "in_flight_count", 0);
    let file = node.data_path().join("topics/t.topic/c.channel");
    eventually(Duration::from_secs(10), "the checkpoint knows that all is finished", || {
        let bytes = std::fs::read(&file).unwrap_or_default();
        ChannelCheckpoint::decode(&bytes)
            .is_ok_and(|checkpoint| checkpoint.next.seq == 3 && checkpoint.entries.is_empty())
    });
    node.kill();
    node.launch();
    assert_eq!(node.channel_stats("t", "c")["depth"], 0);
}

fn files_with_extension(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_with_extension(&path, extension));
        } else if path.extension().is_some_and(|have| have == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Flips one byte of the place where `text` is stored.
#[track_caller]
fn damage(files: &[PathBuf], text: &str) {
    for path in files {
        let mut bytes = std::fs::read(path).expect("readable");
        if let Some(at) = bytes.windows(text.len()).position(|part| part == text.as_bytes()) {
            bytes[at] ^= 0x20;
            std::fs::write(path, bytes).expect("writable");
            return;
        }
    }
    panic!("{text} is in none of {files:?}");
}

/// A stopped node whose channel `c` of topic `t` holds `message-0` to `message-9`.
fn stopped_node_with_ten_messages() -> Nsqd {
    let mut node = Nsqd::start(&[]);
    node.create_channel("t", "c");
    for index in 0..10 {
        node.client().publish("t", format!("message-{index}").as_bytes());
    }
    assert!(node.terminate().success());
    node
}

#[track_caller]
fn take_all(node: &Nsqd, count: usize) -> BTreeSet<String> {
    let mut consumer = node.consumer("t", "c", 100);
    let bodies = (0..count).map(|_| consumer.take()).collect();
    assert_eq!(consumer.frame_or_silence(Duration::from_millis(300)), Frame::Silence);
    bodies
}

fn messages(range: std::ops::Range<u32>) -> BTreeSet<String> {
    range.map(|index| format!("message-{index}")).collect()
}

#[test]
fn a_damaged_record_costs_that_message_only_and_is_reported() {
    if is_reference() {
        return;
    }
    let mut node = stopped_node_with_ten_messages();
    damage(&files_with_extension(&node.data_path(), "seg"), "message-5");
    node.launch();
    let mut want = messages(0..10);
    want.remove("message-5");
    assert_eq!(take_all(&node, 9), want);
    let says_so = || node.log().to_lowercase().contains("damage");
    eventually(Duration::from_secs(5), "the log speaks of the damage", says_so);
    node.wait_for_stat("t", "c", "depth", 0);
}

#[test]
fn a_torn_tail_is_cut_off_and_nothing_else_is_lost() {
    if is_reference() {
        return;
    }
    let mut node = stopped_node_with_ten_messages();
    let segments = files_with_extension(&node.data_path(), "seg");
    let last = segments.last().expect("a segment");
    let mut bytes = std::fs::read(last).unwrap();
    bytes.extend_from_slice(&[7; 33]);
    std::fs::write(last, bytes).unwrap();
    node.launch();
    node.client().publish("t", b"message-10");
    assert_eq!(take_all(&node, 11), messages(0..11));
}

#[test]
fn a_damaged_checkpoint_brings_messages_again_rather_than_losing_any() {
    if is_reference() {
        return;
    }
    let mut node = stopped_node_with_ten_messages();
    let checkpoints = files_with_extension(&node.data_path(), "channel");
    assert_eq!(checkpoints.len(), 1, "{checkpoints:?}");
    std::fs::write(&checkpoints[0], b"this is not a checkpoint").unwrap();
    node.launch();
    let path = checkpoints[0].display().to_string();
    let log = node.log();
    assert!(log.contains("checkpoint") || log.contains(&path), "the log says so: {log}");
    assert_eq!(take_all(&node, 10), messages(0..10));
}

#[test]
fn strange_files_in_the_data_path_do_not_stop_a_node() {
    if is_reference() {
        return;
    }
    let mut node = stopped_node_with_ten_messages();
    std::fs::write(node.data_path().join("README"), b"not ours").unwrap();
    std::fs::create_dir_all(node.data_path().join("topics/not a topic name.topic")).unwrap();
    std::fs::write(node.data_path().join("topics/stray"), b"\0").unwrap();
    node.launch();
    assert_eq!(take_all(&node, 10), messages(0..10));
    assert!(node.data_path().join("README").exists(), "what is not ours stays");
}

#[test]
fn a_node_whose_id_or_epoch_cannot_be_read_says_what_becomes_of_it() {
    if is_reference() {
        return;
    }
    let mut node = Nsqd::start(&[]);
    assert!(node.terminate().success());
    for (file, content) in [("node.id", "no id\n"), ("gossip.epoch", "")] {
        std::fs::write(node.data_path().join(file), content).unwrap();
        assert!(!node.log().contains(file), "{file}: {}", node.log());
        node.launch();
        let log = node.log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(file)).collect();
        assert_eq!(lines.len(), 1, "{log}");
        assert!(lines[0].contains("WARNING: the "), "{}", lines[0]);
        assert!(lines[0].contains(&format!("content={:?}", content.trim())), "{}", lines[0]);
        node.restart();
        assert_eq!(node.log().matches(file).count(), 1, "only once");
        assert!(node.terminate().success());
    }
}
