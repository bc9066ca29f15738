//! Promises at the edges: damage, lost power, full queues, consumers that do not read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use grapevine_protocol::{ChannelName, Moment, TopicName};
use grapevine_storage::{
    Batch, CacheBudget, ChannelCheckpoint, Disk as _, Log, LogOptions, MemoryDisk, Mode,
    SyncHandle as _, TopicState,
};

use crate::{
    ChannelFile, ConsumerId, ConsumerSettings, Delivery, IdSource, Locality, Now, PullLimits,
    Settings, Signal, Topic, Wakes,
};

pub(crate) const NOW: Now = Now { mono: Moment(1), wall: 1_800_000_000_000_000_000 };
const BY: ConsumerId = ConsumerId(1);
const MINUTE: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(crate) struct Woken(pub(crate) AtomicU64);

impl Signal for Woken {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn close(&self) {}
}

fn later(now: Now, by: Duration) -> Now {
    Now { mono: now.mono + by, wall: now.wall + i64::try_from(by.as_nanos()).expect("short") }
}

pub(crate) fn settings(mem_queue_size: u64) -> Arc<Settings> {
    Arc::new(Settings {
        mem_queue_size,
        msg_timeout_max: Duration::from_secs(900),
        channel_consumers_max: 0,
        latency_window: None,
    })
}

/// Nothing is cached, so that what a test damages is what is read.
fn log_options() -> LogOptions {
    let cache = Arc::new(CacheBudget::new(0));
    LogOptions { mode: Mode::WriteThrough, segment_bytes_max: 1_000, cache }
}

pub(crate) fn open(disk: &MemoryDisk) -> Log<MemoryDisk> {
    Log::open(disk.clone(), log_options()).expect("a memory disk opens").0
}

pub(crate) fn topic_named(name: &str, disk: &MemoryDisk, mem_queue_size: u64) -> Topic<MemoryDisk> {
    Topic::new(TopicName::new(name).expect("valid"), open(disk), settings(mem_queue_size))
}

pub(crate) fn channel(topic: &mut Topic<MemoryDisk>, name: &str) {
    let name = ChannelName::new(name).expect("valid");
    assert!(topic.create_channel(&name, NOW, &mut Wakes::default()));
}

fn consumer(topic: &mut Topic<MemoryDisk>, channel: &str, id: ConsumerId, rdy: u64) -> Arc<Woken> {
    let signal = Arc::new(Woken::default());
    let settings = ConsumerSettings {
        id,
        signal: Arc::clone(&signal) as Arc<dyn Signal>,
        msg_timeout: MINUTE,
        sample_rate: 0,
        locality: Locality::Global,
        seed: 1,
    };
    topic.subscribe(channel, settings).expect("subscribes");
    topic.set_ready(channel, id, rdy);
    signal
}

pub(crate) fn publish(
    topic: &mut Topic<MemoryDisk>,
    ids: &IdSource,
    bodies: &[&str],
    deliver_at: i64,
) {
    let mut batch = Batch::new();
    for body in bodies {
        batch.push(body.as_bytes(), deliver_at);
    }
    let mut wakes = Wakes::default();
    topic.publish(&mut batch, ids, NOW, &mut wakes).expect("the disk is fine");
    wakes.wake();
}

/// Pulls as a connection does, until it would park; finishes everything.
fn drain(topic: &mut Topic<MemoryDisk>, channel: &str, now: Now) -> Vec<String> {
    let mut all = Vec::new();
    let limits = PullLimits { messages_max: 100, bytes_max: 1 << 20 };
    for _ in 0..10_000 {
        let mut got = Vec::new();
        let mut deliver = |message: Delivery<'_>| {
            got.push((message.id, String::from_utf8_lossy(message.body).into_owned()));
        };
        let mut wakes = Wakes::default();
        topic.pull(channel, BY, limits, now, &mut wakes, &mut deliver).expect("reads");
        if got.is_empty() && topic.park(channel, BY, now, &mut wakes) {
            return all;
        }
        for (id, body) in got {
            topic.finish(channel, BY, id, now).expect("in flight");
            all.push(body);
        }
    }
    panic!("the consumer neither gets anything nor may park");
}

fn due_in_a_minute() -> i64 {
    later(NOW, MINUTE).wall
}

fn recover(
    disk: &MemoryDisk,
    side: Option<&MemoryDisk>,
    state: TopicState,
    channels: Vec<(&str, ChannelCheckpoint)>,
) -> Topic<MemoryDisk> {
    let files = channels.into_iter().map(|(name, checkpoint)| ChannelFile {
        name: ChannelName::new(name).expect("valid"),
        checkpoint: Some(checkpoint),
    });
    let name = TopicName::new("t").expect("valid");
    let side = side.map(open);
    let files = files.collect();
    Topic::recover(name, open(disk), side, Some(state), files, settings(100), NOW)
        .expect("recovers")
}

#[test]
fn deferred_publishes_lost_to_damage_do_not_keep_others_waiting() {
    let disk = MemoryDisk::default();
    let mut topic = topic_named("t", &disk, 100);
    let ids = IdSource::new(1, 0);
    channel(&mut topic, "c");
    consumer(&mut topic, "c", BY, 10);
    publish(&mut topic, &ids, &["late-1", "late-2"], due_in_a_minute());
    publish(&mut topic, &ids, &["now"], 0);
    topic.rest();
    let segment = disk.list().expect("lists").pop().expect("one segment");
    disk.damage(&segment, |bytes| {
        for body in [b"late-1", b"late-2"] {
            let at = bytes.windows(6).position(|window| window == body).expect("it is there");
            bytes[at] ^= 1;
        }
    });

    assert_eq!(drain(&mut topic, "c", NOW), ["now"]);
    for body in ["next", "and the one after"] {
        publish(&mut topic, &ids, &[body], 0);
        assert_eq!(drain(&mut topic, "c", NOW), [body]);
    }
}

#[test]
fn deferred_publishes_lost_with_the_power_do_not_keep_others_waiting() {
    let disk = MemoryDisk::default();
    let mut topic = topic_named("t", &disk, 100);
    let ids = IdSource::new(1, 0);
    channel(&mut topic, "c");
    publish(&mut topic, &ids, &["old"], 0);
    topic.sync_handle().expect("something was written").sync().expect("syncs");
    publish(&mut topic, &ids, &["late-1", "late-2"], due_in_a_minute());
    let checkpoint = topic.checkpoint(NOW, true);
    drop(topic);
    disk.crash(&mut |_| 0);

    let state = checkpoint.state.expect("everything was asked for");
    let channels = vec![("c", checkpoint.channels[0].1.clone())];
    let mut topic = recover(&disk, None, state, channels);
    consumer(&mut topic, "c", BY, 10);
    assert_eq!(drain(&mut topic, "c", NOW), ["old"]);
    for body in ["next", "and the one after"] {
        publish(&mut topic, &ids, &[body], 0);
        assert_eq!(drain(&mut topic, "c", NOW), [body]);
    }
}

#[test]
fn a_message_moved_to_the_side_log_survives_a_power_loss_once_the_checkpoint_is_written() {
    let (disk, side_disk) = (MemoryDisk::default(), MemoryDisk::default());
    let mut topic = topic_named("t", &disk, 100);
    let ids = IdSource::new(1, 0);
    channel(&mut topic, "c");
    consumer(&mut topic, "c", BY, 10);
    publish(&mut topic, &ids, &["late"], due_in_a_minute());
    for _ in 0..100 {
        publish(&mut topic, &ids, &["x".repeat(30).as_str()], 0);
    }
    assert_eq!(drain(&mut topic, "c", NOW).len(), 100);
    topic.sync_handle().expect("something was written").sync().expect("syncs");

    let moved = topic.relocate(&mut || Ok(open(&side_disk))).expect("moves");
    assert!(moved, "one deferred message must not keep the oldest segment");
    let handle = topic.side_sync_handle();
    let checkpoint = topic.checkpoint(NOW, true);
    assert!(checkpoint.has_side, "the owner must know that it has to sync");
    handle.expect("something was written").sync().expect("syncs");
    let forgotten = topic.checkpointed(&checkpoint, true);
    assert!(!forgotten.log.is_empty());
    forgotten.log.iter().for_each(|name| disk.remove(name).expect("removes"));
    drop(topic);
    disk.crash(&mut |_| 0);
    side_disk.crash(&mut |_| 0);

    let state = checkpoint.state.expect("everything was asked for");
    let channels = vec![("c", checkpoint.channels[0].1.clone())];
    let mut topic = recover(&disk, Some(&side_disk), state, channels);
    consumer(&mut topic, "c", BY, 10);
    assert_eq!(drain(&mut topic, "c", later(NOW, 2 * MINUTE)), ["late"]);
}

#[test]
fn more_deferred_messages_than_are_moved_at_once_do_not_keep_a_segment_for_ever() {
    let (disk, side_disk) = (MemoryDisk::default(), MemoryDisk::default());
    let options = LogOptions { segment_bytes_max: 1_000_000, ..log_options() };
    let log = Log::open(disk.clone(), options).expect("opens").0;
    let mut topic = Topic::new(TopicName::new("t").expect("valid"), log, settings(100));
    let ids = IdSource::new(1, 0);
    channel(&mut topic, "c");
    consumer(&mut topic, "c", BY, 1_000);
    publish(&mut topic, &ids, &["l"; 2_000], due_in_a_minute());
    for _ in 0..100 {
        publish(&mut topic, &ids, &["n"; 1_000], 0);
    }
    assert_eq!(drain(&mut topic, "c", NOW).len(), 100_000);

    let before = disk.list().expect("lists").len();
    for _ in 0..4 {
        topic.relocate(&mut || Ok(open(&side_disk))).expect("moves");
        let checkpoint = topic.checkpoint(NOW, true);
        for name in topic.checkpointed(&checkpoint, true).log {
            disk.remove(&name).expect("removes");
        }
    }
    assert!(before > 2, "{before}");
    assert_eq!(disk.list().expect("lists").len(), 1, "of {before} segments");
    let late = drain(&mut topic, "c", later(NOW, 2 * MINUTE));
    assert_eq!(late.len(), 2_000);
}

#[test]
fn ids_of_messages_that_were_moved_are_known_although_the_log_is_lost() {
    let (disk, side_disk) = (MemoryDisk::default(), MemoryDisk::default());
    let mut topic = topic_named("t", &disk, 100);
    let ids = IdSource::new(1, 0);
    channel(&mut topic, "c");
    consumer(&mut topic, "c", BY, 1_000);
    publish(&mut topic, &ids, &["late"], due_in_a_minute());
    let late = ids.high_water() - IdSource::STEP;
    for _ in 0..100 {
        publish(&mut topic, &ids, &["now"], 0);
        drain(&mut topic, "c", NOW);
    }
    assert!(topic.relocate(&mut || Ok(open(&side_disk))).expect("moves"));
    let checkpoint = topic.checkpoint(NOW, true);
    let channels = checkpoint.channels.into_iter().map(|(_, state)| ("c", state)).collect();
    let state = checkpoint.state.expect("all was asked for");

    let recovered = recover(&MemoryDisk::default(), Some(&side_disk), state, channels);
    assert_eq!(recovered.highest_held_id(), late);
    let ids = IdSource::new(1, 0);
    ids.raise(recovered.highest_held_id());
    assert!(ids.reserve(1, 0) > late, "also if the clock shows an earlier time");
}

#[test]
fn an_ephemeral_channel_nobody_reads_holds_no_segments() {
    let (disk, side_disk) = (MemoryDisk::default(), MemoryDisk::default());
    let mut topic = topic_named("t", &disk, 20);
    let ids = IdSource::new(1, 0);
    channel(&mut topic, "c");
    channel(&mut topic, "e#ephemeral");
    consumer(&mut topic, "c", BY, 10);
    for i in 0..300 {
        publish(&mut topic, &ids, &[format!("{i}").as_str()], 0);
        drain(&mut topic, "c", NOW);
        topic.relocate(&mut || Ok(open(&side_disk))).expect("moves");
        let checkpoint = topic.checkpoint(NOW, false);
        for name in topic.checkpointed(&checkpoint, true).log {
            disk.remove(&name).expect("removes");
        }
    }
    let segments = disk.list().expect("lists").len();
    assert!(segments <= 4, "{segments} segments of one kilobyte each");
    consumer(&mut topic, "e#ephemeral", BY, 1);
    let expected: Vec<String> = (0..20).map(|i| i.to_string()).collect();
    let mut got = drain(&mut topic, "e#ephemeral", NOW);
    got.sort_by_key(|body| body.parse::<u32>().expect("a number"));
    assert_eq!(got, expected, "the first that fit, as in nsqd");
}

#[test]
fn with_no_memory_queue_an_ephemeral_channel_hands_over_to_whoever_waits() {
    let disk = MemoryDisk::default();
    let mut topic = topic_named("t", &disk, 0);
    let ids = IdSource::new(1, 0);
    channel(&mut topic, "e#ephemeral");
    publish(&mut topic, &ids, &["nobody is there"], 0);
    consumer(&mut topic, "e#ephemeral", BY, 2);
    assert!(drain(&mut topic, "e#ephemeral", NOW).is_empty());

    publish(&mut topic, &ids, &["a", "b", "no room"], 0);
    assert_eq!(drain(&mut topic, "e#ephemeral", NOW), ["a", "b"]);
}

#[test]
fn touching_a_message_again_and_again_costs_no_memory() {
    let disk = MemoryDisk::default();
    let mut topic = topic_named("t", &disk, 100);
    channel(&mut topic, "c");
    consumer(&mut topic, "c", BY, 1);
    publish(&mut topic, &IdSource::new(1, 0), &["a"], 0);
    let mut id = 0;
    let limits = PullLimits { messages_max: 1, bytes_max: 1 };
    let mut deliver = |message: Delivery<'_>| id = message.id;
    topic.pull("c", BY, limits, NOW, &mut Wakes::default(), &mut deliver).expect("reads");
    for i in 1..10_000 {
        topic.touch("c", BY, id, later(NOW, Duration::from_micros(i))).expect("in flight");
    }
    let noted = topic.channels["c"].consumers[&BY].deadlines_noted();
    assert!(noted < 100, "{noted} deadlines for one message");
    topic.finish("c", BY, id, NOW).expect("in flight");
}

#[test]
fn a_checkpoint_of_a_channel_newer_than_the_topics_defers_nothing_twice() {
    let disk = MemoryDisk::default();
    let mut topic = topic_named("t", &disk, 100);
    channel(&mut topic, "c");
    topic.set_paused(true, NOW, &mut Wakes::default());
    let paused = topic.checkpoint(NOW, true).state.expect("everything was asked for");
    publish(&mut topic, &IdSource::new(1, 0), &["late"], due_in_a_minute());
    topic.set_paused(false, NOW, &mut Wakes::default());
    // The process dies after the channel's checkpoint was written and before the topic's was.
    let channels = vec![("c", topic.checkpoint(NOW, true).channels[0].1.clone())];
    drop(topic);

    let mut topic = recover(&disk, None, paused, channels);
    // The wall clock was set a little meanwhile.
    let now = Now { wall: NOW.wall + 1, ..NOW };
    topic.set_paused(false, now, &mut Wakes::default());
    consumer(&mut topic, "c", BY, 1);
    assert_eq!(drain(&mut topic, "c", later(NOW, 2 * MINUTE)), ["late"]);
}

#[test]
fn a_message_does_not_wait_for_a_consumer_whose_client_does_not_read() {
    let disk = MemoryDisk::default();
    let mut topic = topic_named("t", &disk, 100);
    let other = ConsumerId(2);
    channel(&mut topic, "c");
    let stuck = consumer(&mut topic, "c", BY, 1);
    let good = consumer(&mut topic, "c", other, 1);
    let mut wakes = Wakes::default();
    for id in [BY, other] {
        let limits = PullLimits { messages_max: 1, bytes_max: 1 };
        topic.pull("c", id, limits, NOW, &mut wakes, &mut |_| {}).expect("reads");
        assert!(topic.park("c", id, NOW, &mut wakes));
    }
    publish(&mut topic, &IdSource::new(1, 0), &["a"], 0);
    assert_eq!(stuck.0.load(Ordering::Relaxed), 1, "it has waited longest");
    assert_eq!(good.0.load(Ordering::Relaxed), 0);

    topic.unpark("c", BY, &mut wakes);
    wakes.wake();
    assert_eq!(good.0.load(Ordering::Relaxed), 1);
    topic.unpark("c", BY, &mut wakes);
}

#[test]
fn publishing_deferred_messages_reads_nothing() {
    let disk = MemoryDisk::default();
    let mut topic = topic_named("t", &disk, 100);
    channel(&mut topic, "c");
    let reads = disk.reads();
    let late = "late".repeat(10_000); // more than is kept in memory here
    publish(&mut topic, &IdSource::new(1, 0), &[late.as_str(); 9], due_in_a_minute());
    assert_eq!(disk.reads(), reads, "what cannot be read must not fail what was stored");
    consumer(&mut topic, "c", BY, 10);
    assert_eq!(drain(&mut topic, "c", NOW).len(), 0);
    assert_eq!(drain(&mut topic, "c", later(NOW, 2 * MINUTE)).len(), 9);
}

#[test]
fn a_topic_that_is_deleted_hands_out_nothing_more() {
    let disk = MemoryDisk::default();
    let mut topic = topic_named("t", &disk, 100);
    channel(&mut topic, "c");
    consumer(&mut topic, "c", BY, 10);
    publish(&mut topic, &IdSource::new(1, 0), &["a"], 0);
    topic.exit();
    let limits = PullLimits { messages_max: 1, bytes_max: 1 };
    let pulled = topic.pull("c", BY, limits, NOW, &mut Wakes::default(), &mut |_| {});
    assert_eq!(pulled.expect("reads").count, 0, "its files may be another topic's by now");
}
