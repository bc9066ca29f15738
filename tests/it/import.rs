//! Taking over the data path of a stock nsqd.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::nsqd_files::{
    QueueMessage, write_data, write_meta, write_metadata, write_queue,
};
use crate::support::{Frame, Nsqd, eventually, is_reference, run_to_exit};

/// An id as nsqd gave out in 2026: above any of ours for years.
const NSQD_ID: u64 = 0x18a2_e4b1_0000_0000;

fn messages(from: u64, to: u64) -> Vec<QueueMessage> {
    (from..to).map(|n| QueueMessage::new(NSQD_ID + n, &format!("m{n}"))).collect()
}

/// Names of the files right in `dir`, sorted.
fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.expect("an entry"));
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let mut names: Vec<String> =
        files.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_data_path_of_nsqd_is_taken_over_with_its_messages_attempts_ids_and_pauses() {
    if is_reference() {
        return; // nsqd gives the messages of a topic to its channels in any order
    }
    let mut node = Nsqd::prepare(&[]);
    let dir = node.data_path();
    write_metadata(
        &dir,
        r#"{"name":"t.diskqueue.x","paused":false,"channels":[{"name":"c","paused":true}]},
           {"name":"empty","paused":true,"channels":null}"#,
    );
    let mut of_channel = messages(0, 3);
    of_channel[1] = of_channel[1].clone().tried(3);
    write_queue(&dir, "t.diskqueue.x:c", &of_channel);
    write_queue(&dir, "t.diskqueue.x", &messages(3, 5));
    fs::write(dir.join("t.diskqueue.x:c.diskqueue.000000.dat.bad"), b"?").expect("a .bad file");
    node.launch();

    let stats = node.get("/stats?format=json&topic=empty").json();
    assert_eq!(stats["topics"][0]["paused"], true, "{stats}");
    let stats = node.channel_stats("t.diskqueue.x", "c");
    assert_eq!((&stats["paused"], &stats["depth"]), (&true.into(), &5.into()), "{stats}");
    node.post_ok("/channel/unpause?topic=t.diskqueue.x&channel=c", b"");
    let mut consumer = node.consumer("t.diskqueue.x", "c", 10);
    let mut bodies = BTreeSet::new();
    for _ in 0..5 {
        let Frame::Message { timestamp, attempts, id, body } = consumer.frame() else {
            panic!("five messages");
        };
        let number: u64 = String::from_utf8_lossy(&body[1..]).parse().expect("m<number>");
        assert_eq!(id, format!("{:016x}", NSQD_ID + number));
        assert_eq!(attempts, if number == 1 { 4 } else { 1 });
        assert_eq!(timestamp, 1_700_000_000_000_000_000 + ((NSQD_ID + number) as u32) as i64);
        consumer.command(&format!("FIN {id}"), None);
        bodies.insert(number);
    }
    assert_eq!(bodies, (0..5).collect());
    node.wait_for_stat("t.diskqueue.x", "c", "in_flight_count", 0);
    // The node's own messages come behind, and their ids are above those of nsqd.
    node.post_ok("/pub?topic=t.diskqueue.x", b"new");
    let (id, _, body) = consumer.message();
    assert!(id > format!("{:016x}", NSQD_ID + 5), "{id}");
    assert_eq!(body, "new");

    let old = dir.join("nsqd-files-imported");
    assert_eq!(files(&old).len(), 6, "{:?}", files(&old));
    assert!(!files(&dir).iter().any(|name| name.ends_with(".dat")), "{:?}", files(&dir));
    let log = node.log();
    for line in [
        "importing the data path of nsqd topics=2 files=6",
        "topic of nsqd written anew topic=t.diskqueue.x channels=1 messages=5 bytes=10",
        "data path of nsqd imported topics=2 channels=1 messages=5",
        "files of nsqd moved aside files=6",
        "set aside by nsqd as unreadable",
    ] {
        assert!(log.contains(line), "no {line:?} in\n{log}");
    }
    consumer.command(&format!("FIN {id}"), None);
    node.restart();
    assert_eq!(node.log().matches("importing the data path").count(), 1, "once only");
    node.wait_for_stat("t.diskqueue.x", "c", "depth", 0);
}

#[test]
fn a_running_nsqd_keeps_its_data_path_for_itself() {
    use rustix::fs::{FlockOperation, flock};
    let mut node = Nsqd::prepare(&[]);
    let dir = node.data_path();
    write_metadata(&dir, r#"{"name":"t","channels":null}"#);
    write_queue(&dir, "t", &messages(0, 1));
    // As nsqd holds it.
    let lock = fs::File::open(&dir).expect("the data path");
    flock(&lock, FlockOperation::NonBlockingLockExclusive).expect("locked");
    let before = files(&dir);
    let outcome = run_to_exit(node.command());
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("possibly in use by another instance of nsqd"), "{outcome:?}");
    assert_eq!(files(&dir), before, "nothing was touched");
    drop(lock);
    node.launch();
    assert!(dir.join("topics/t.topic").is_dir());
}

#[test]
fn a_broken_nsqd_dat_is_one_fatal_line_and_nothing_is_touched() {
    let node = Nsqd::prepare(&[]);
    let dir = node.data_path();
    write_queue(&dir, "t", &messages(0, 1));
    fs::write(dir.join("nsqd.dat"), b"{not json").expect("nsqd.dat");
    let outcome = run_to_exit(node.command());
    assert_eq!(outcome.code, Some(1));
    let fatal: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains("FATAL")).collect();
    assert_eq!(fatal.len(), 1, "{}", outcome.stderr);
    if !is_reference() {
        assert!(fatal[0].contains("failed to import the data path of nsqd: "), "{}", fatal[0]);
        assert!(
            fatal[0].contains("nsqd.dat: key must be a string at line 1 column 2"),
            "{fatal:?}"
        );
        let left = ["nsqd.dat", "t.diskqueue.000000.dat", "t.diskqueue.meta.dat"];
        let old: Vec<String> =
            files(&dir).into_iter().filter(|name| name.ends_with(".dat")).collect();
        assert_eq!(old, left);
        assert!(!dir.join("importing").exists() && !dir.join("topics").exists());
    }
}

#[test]
fn a_damaged_file_costs_its_rest_is_reported_and_kept() {
    if is_reference() {
        return; // nsqd loses the rest for good
    }
    let mut node = Nsqd::prepare(&[]);
    let dir = node.data_path();
    write_metadata(&dir, r#"{"name":"t","channels":[{"name":"c"}]}"#);
    write_data(&dir, "t:c", 0, &messages(0, 3));
    write_data(&dir, "t:c", 1, &messages(3, 5));
    write_meta(&dir, "t:c", "5\n0,0\n1,0\n");
    let first = dir.join("t:c.diskqueue.000000.dat");
    let mut bytes = fs::read(&first).expect("a data file");
    let second = bytes.len() / 3;
    bytes[second] = 0x80;
    fs::write(&first, &bytes).expect("damaged");
    node.launch();

    let mut consumer = node.consumer("t", "c", 10);
    let taken: Vec<String> = (0..3).map(|_| consumer.take()).collect();
    assert_eq!(taken, ["m0", "m3", "m4"]);
    let log = node.log();
    let line = format!("offset={second} bytes={} reason=\"length out of bounds\"", 2 * second);
    assert!(log.contains("part of a queue of nsqd not read") && log.contains(&line), "{log}");
    let kept = dir.join("nsqd-files-imported/t:c.diskqueue.000000.dat");
    assert_eq!(fs::read(kept).expect("kept"), bytes, "somebody may yet read the rest");
}

/// Enough topics and messages for a kill to fall between any two steps.
const TOPICS: u64 = 40;
const MESSAGES: u64 = 500;

fn write_many_topics(dir: &Path) {
    let topics: Vec<String> =
        (0..TOPICS).map(|n| format!(r#"{{"name":"t{n}","channels":[{{"name":"c"}}]}}"#)).collect();
    write_metadata(dir, &topics.join(","));
    for n in 0..TOPICS {
        let from = n * MESSAGES;
        write_queue(dir, &format!("t{n}:c"), &messages(from, from + MESSAGES / 2));
        write_queue(dir, &format!("t{n}"), &messages(from + MESSAGES / 2, from + MESSAGES));
    }
}

/// Starts the node and kills it as soon as `is_time`; `false` if it was ready before that.
fn kill_when(node: &mut Nsqd, is_time: impl Fn(&Path) -> bool) -> bool {
    let dir = node.data_path();
    node.launch_without_waiting();
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        if is_time(&dir) {
            node.kill();
            return true;
        }
        if node.log().contains("TCP: listening") {
            node.kill();
            return false;
        }
        assert!(Instant::now() < end, "neither ready nor importing:\n{}", node.log());
        std::thread::yield_now();
    }
}

#[test]
fn killed_in_the_middle_of_an_import_nothing_is_lost_and_nothing_comes_twice() {
    if is_reference() {
        return;
    }
    let mut node = Nsqd::prepare(&[]);
    write_many_topics(&node.data_path());
    let topics = |dir: &Path, below: &str| {
        fs::read_dir(dir.join(below)).map_or(0, |entries| entries.count() as u64)
    };
    // While topics are written, twice; after the commit; while topics take their places; while
    // nsqd's files are moved.
    let killed = [
        kill_when(&mut node, |dir| topics(dir, "importing/topics") > TOPICS / 8),
        kill_when(&mut node, |dir| topics(dir, "importing/topics") > TOPICS / 2),
        kill_when(&mut node, |dir| dir.join("importing/commit").exists()),
        kill_when(&mut node, |dir| topics(dir, "topics") > TOPICS / 3),
        kill_when(&mut node, |dir| topics(dir, "nsqd-files-imported") > TOPICS / 2),
    ];
    assert!(killed[0] && killed[1], "{killed:?}:\n{}", node.log());
    node.launch();

    for n in 0..TOPICS {
        let mut consumer = node.consumer(&format!("t{n}"), "c", 2_500);
        for number in n * MESSAGES..(n + 1) * MESSAGES {
            assert_eq!(consumer.take(), format!("m{number}"), "of t{n}");
        }
        node.wait_for_stat(&format!("t{n}"), "c", "in_flight_count", 0);
        node.wait_for_stat(&format!("t{n}"), "c", "depth", 0);
    }
    let old = files(&node.data_path().join("nsqd-files-imported"));
    assert_eq!(old.len() as u64, 1 + 4 * TOPICS);
    assert!(!node.data_path().join("importing").exists());
}

#[test]
fn rolling_back_is_moving_the_old_files_back() {
    if is_reference() {
        return;
    }
    let mut node = Nsqd::prepare(&[]);
    let dir = node.data_path();
    write_metadata(&dir, r#"{"name":"t","channels":[{"name":"c"}]}"#);
    write_queue(&dir, "t:c", &messages(0, 2));
    let before = files(&dir);
    node.launch();
    node.terminate();
    let old = dir.join("nsqd-files-imported");
    for name in files(&old) {
        fs::rename(old.join(&name), dir.join(&name)).expect("moved back");
    }
    let there: BTreeSet<String> = files(&dir).into_iter().collect();
    assert!(before.iter().all(|name| there.contains(name)), "what nsqd left is there again");

    // And forth again: a topic that holds messages here is not replaced by nsqd's.
    let outcome = run_to_exit(node.command());
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("topic t of nsqd is here already"), "{}", outcome.stderr);
    fs::rename(dir.join("topics"), dir.join("topics-before")).expect("moved away");
    node.launch();
    let mut consumer = node.consumer("t", "c", 10);
    assert_eq!([consumer.take(), consumer.take()], ["m0", "m1"]);
    let is_aside = || files(&dir.join("nsqd-files-imported-2")) == before;
    eventually(Duration::from_secs(5), "the second import has its own directory", is_aside);
}

/// For docs/benchmarks.md: `GRAPEVINE_TEST_SERVER="target/release/grapevine nsqd" cargo test
/// --profile quick --test it a_million_messages -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, of a release build"]
fn a_million_messages_are_taken_over_within_ten_seconds_and_200_mb() {
    const COUNT: u64 = 1_000_000;
    const FILES: u64 = 3; // of 100 MiB at most, as nsqd makes them
    const TRIED_OF: u64 = 1_000; // one in so many was in flight when nsqd stopped
    let off = ["-gossip-address=", "-lookup-http-address=", "-lookup-tcp-address="];
    let mut node = Nsqd::prepare(&off);
    let dir = node.data_path();
    write_metadata(&dir, r#"{"name":"t","channels":[{"name":"c"}]}"#);
    let body = "x".repeat(200);
    for file in 0..FILES {
        let numbers = COUNT * file / FILES..COUNT * (file + 1) / FILES;
        let message = |n| {
            let attempts = u16::from(n % TRIED_OF == 0);
            QueueMessage::new(NSQD_ID + n, &body).tried(attempts)
        };
        write_data(&dir, "t:c", file, &numbers.map(message).collect::<Vec<_>>());
    }
    write_meta(&dir, "t:c", &format!("{COUNT}\n0,0\n{},0\n", FILES - 1));

    let start = Instant::now();
    node.launch();
    let took = start.elapsed();
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).expect("its status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    let peak_kb: u64 = peak.trim().trim_end_matches(" kB").parse().expect("kilobytes");
    println!("{COUNT} messages: {took:?} from start to /ping, VmHWM {peak_kb} kB\n{}", node.log());
    node.wait_for_stat("t", "c", "depth", COUNT);
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(peak_kb < 200_000, "{peak_kb} kB");
}
