//! Whole data paths of nsqd, taken over.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::nsqd_files::{QueueMessage, write_data, write_meta, write_metadata, write_queue};
use super::take_over::Import;
use super::topic::ATTEMPTS_MAX;
use super::{ImportError, ImportLimits, take_over};
use crate::node::{Clock, Wake};
use grapevine_broker::{
    ChannelFile, ConsumerId, ConsumerSettings, IdSource, Locality, PullLimits, Settings, Topic,
    Wakes,
};
use grapevine_protocol::{ChannelName, TopicName};
use grapevine_storage::{
    CacheBudget, ChannelCheckpoint, DataPath, DirDisk, Log, LogOptions, Mode, TopicState,
};

const LIMITS: ImportLimits = ImportLimits {
    message_bytes_max: 1_000,
    segment_bytes_max: 300, // a handful of messages, so that logs have several segments
    wall_ns: 1_790_000_000_000_000_000,
};
const BY: ConsumerId = ConsumerId(1);

/// What a channel delivers: id, attempts and body, in order.
type Delivered = Vec<(u64, u16, String)>;

fn ids() -> IdSource {
    IdSource::new(1, 0)
}

/// A topic as a node would load it, open and with its channels running.
fn load(data_path: &DataPath, name: &str) -> (Topic<DirDisk>, TopicState) {
    let dir = data_path.topic_dir(name);
    let options = LogOptions {
        mode: Mode::WriteThrough,
        segment_bytes_max: LIMITS.segment_bytes_max,
        cache: Arc::new(CacheBudget::default()),
    };
    let (log, recovery) = Log::open(dir.disk(), options).unwrap();
    assert!(recovery.damaged.is_empty() && recovery.torn_bytes == 0, "{recovery:?}");
    let state = TopicState::decode(&dir.read_state().unwrap().unwrap()).unwrap();
    let channels = dir.channels().unwrap().into_iter().map(|name| {
        let bytes = dir.read_channel(&name).unwrap().unwrap();
        let checkpoint = Some(ChannelCheckpoint::decode(&bytes).unwrap());
        ChannelFile { name: ChannelName::new(&name).unwrap(), checkpoint }
    });
    let settings = Settings {
        mem_queue_size: 0,
        msg_timeout_max: Duration::from_secs(900),
        channel_consumers_max: 0,
        latency_window: None,
    };
    let (name, now) = (TopicName::new(name).unwrap(), Clock::start().now());
    let channels = channels.collect();
    let topic =
        Topic::recover(name, log, None, Some(state), channels, Arc::new(settings), now).unwrap();
    (topic, state)
}

/// Everything a channel delivers, its topic and itself being resumed first.
fn drain(topic: &mut Topic<DirDisk>, channel: &str) -> Delivered {
    let (now, mut wakes) = (Clock::start().now(), Wakes::default());
    let consumer = ConsumerSettings {
        id: BY,
        signal: Arc::new(Wake::default()),
        msg_timeout: Duration::from_secs(60),
        sample_rate: 0,
        locality: Locality::Global,
        seed: 1,
    };
    topic.set_paused(false, now, &mut wakes);
    topic.set_channel_paused(channel, false, &mut wakes);
    topic.subscribe(channel, consumer).unwrap();
    topic.set_ready(channel, BY, 2_500);
    let mut delivered = Vec::new();
    let limits = PullLimits { messages_max: 2_500, bytes_max: 1 << 20 };
    loop {
        let before = delivered.len();
        topic
            .pull(channel, BY, limits, now, &mut wakes, &mut |message| {
                assert_eq!(message.timestamp / 10_000_000_000, 170_000_000, "as nsqd stored it");
                let body = String::from_utf8_lossy(message.body).into_owned();
                delivered.push((message.id, message.attempts, body));
            })
            .unwrap();
        if delivered.len() == before {
            return delivered;
        }
    }
}

/// All channels of all topics, and what they deliver.
fn everything(dir: &Path) -> BTreeMap<String, Delivered> {
    let data_path = DataPath::open(dir).unwrap();
    let mut all = BTreeMap::new();
    for name in data_path.topics().unwrap() {
        let (mut topic, _) = load(&data_path, &name);
        let channels: Vec<ChannelName> = topic.channel_names().cloned().collect();
        for channel in channels {
            all.insert(format!("{name}:{channel}"), drain(&mut topic, &channel));
        }
    }
    all
}

fn import(dir: &Path) -> Result<(), ImportError> {
    take_over(&DataPath::open(dir).unwrap(), &ids(), &LIMITS)
}

fn messages(from: u64, to: u64) -> Vec<QueueMessage> {
    (from..to).map(|id| QueueMessage::new(id, &format!("m{id}"))).collect()
}

fn delivered(ids: impl IntoIterator<Item = u64>) -> Delivered {
    ids.into_iter().map(|id| (id, 1, format!("m{id}"))).collect()
}

/// A data path with everything in it: two channels and a backlog of the topic, messages that were
/// handed out before, a paused topic, one without channels, several files, an unsynced tail.
fn write_all_kinds(dir: &Path) {
    write_metadata(
        dir,
        r#"{"name":"t","paused":false,"channels":[{"name":"a","paused":true},{"name":"b"}]},
           {"name":"p","paused":true,"channels":[{"name":"c","paused":false}]},
           {"name":"alone","channels":null}"#,
    );
    let mut of_a = messages(10, 20);
    of_a[3] = QueueMessage::new(13, "m13").tried(2);
    of_a[7] = QueueMessage::new(17, "m17").tried(5);
    write_data(dir, "t:a", 4, &of_a[..6]);
    write_data(dir, "t:a", 5, &of_a[6..]);
    let position = of_a[0].record().len();
    write_meta(dir, "t:a", &format!("1\n4,{position}\n5,0\n"));
    write_queue(dir, "t:b", &messages(15, 25));
    write_queue(dir, "t", &messages(30, 40));
    write_queue(dir, "p", &messages(50, 53));
    write_queue(dir, "p:c", &messages(53, 55));
    write_queue(dir, "alone", &messages(60, 62));
}

#[test]
fn each_channel_gets_its_own_queue_then_the_topics_and_nothing_of_another() {
    let folder = tempfile::tempdir().unwrap();
    write_all_kinds(folder.path());
    import(folder.path()).unwrap();

    let all = everything(folder.path());
    let mut of_a = delivered([13, 17, 11, 12, 14, 15, 16, 18, 19].into_iter().chain(30..40));
    (of_a[0].1, of_a[1].1) = (3, 6);
    let mut in_order = all["t:a"].clone();
    in_order.sort_unstable();
    of_a.sort_unstable();
    assert_eq!(in_order, of_a, "requeued and new messages may take turns");
    assert_eq!(all["t:b"], delivered((15..25).chain(30..40)));
    assert_eq!(all["p:c"], delivered((53..55).chain(50..53)), "its topic was resumed");
    assert_eq!(all.len(), 3);
}

#[test]
fn pauses_and_what_is_not_released_stay_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    write_all_kinds(folder.path());
    import(folder.path()).unwrap();

    let data_path = DataPath::open(folder.path()).unwrap();
    let now = Clock::start().now();
    let stats = |topic: &mut Topic<DirDisk>| topic.stats(now, &|_| true);
    let (mut topic, state) = load(&data_path, "p");
    assert!(state.paused);
    let shown = stats(&mut topic);
    assert_eq!((shown.depth, shown.channels[0].depth), (3, 2), "its backlog is kept back");
    let (mut topic, state) = load(&data_path, "alone");
    assert!(!state.paused);
    assert_eq!(stats(&mut topic).depth, 2);
    let first = ChannelName::new("first").unwrap();
    topic.create_channel(&first, now, &mut Wakes::default());
    assert_eq!(drain(&mut topic, "first"), delivered(60..62));
    let (mut topic, _) = load(&data_path, "t");
    let shown = stats(&mut topic);
    let channels: Vec<_> = shown.channels.iter().map(|c| (c.is_paused, c.depth)).collect();
    assert_eq!((shown.depth, channels), (0, vec![(true, 19), (false, 20)]));
}

#[test]
fn a_crash_after_any_step_loses_nothing_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    write_all_kinds(folder.path());
    let old_files = files_of(folder.path());
    import(folder.path()).unwrap();
    let want = everything(folder.path());

    let crash = || {
        let path = "here".into();
        ImportError::Io { path, error: std::io::ErrorKind::Interrupted.into() }
    };
    let mut crashes = 0;
    loop {
        let folder = tempfile::tempdir().unwrap();
        write_all_kinds(folder.path());
        let data_path = DataPath::open(folder.path()).unwrap();
        // The first start gets past `crashes` steps, the second not past one, the third does it.
        let mut has_crashed = false;
        for steps_max in [crashes, 0] {
            let mut steps = 0;
            let ended = Import::new(&data_path, &ids(), &LIMITS).run(&mut || {
                steps += 1;
                if steps > steps_max { Err(crash()) } else { Ok(()) }
            });
            has_crashed |= ended.is_err() && steps_max == crashes;
        }
        take_over(&data_path, &ids(), &LIMITS).unwrap();
        take_over(&data_path, &ids(), &LIMITS).unwrap();
        drop(data_path);
        assert_eq!(everything(folder.path()), want, "after a crash at step {crashes}");
        assert_eq!(files_of(&folder.path().join("nsqd-files-imported")), old_files);
        let left: Vec<String> = files_of(folder.path()).into_keys().collect();
        assert_eq!(left, ["message-ids"], "after a crash at step {crashes}");
        assert!(!folder.path().join("importing").exists());
        if !has_crashed {
            break;
        }
        crashes += 1;
    }
    assert!(crashes > 15, "only {crashes} steps: the test does not see them all");
}

/// The files right in `dir`, with what is in them.
fn files_of(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect()
}

#[test]
fn any_file_may_be_cut_at_any_byte() {
    let write = |dir: &Path| {
        write_metadata(dir, r#"{"name":"t","channels":[{"name":"c"}]}"#);
        write_data(dir, "t:c", 0, &messages(1, 4));
        write_data(dir, "t:c", 1, &messages(4, 6));
        let record = messages(1, 2)[0].record().len();
        write_meta(dir, "t:c", &format!("4\n0,{record}\n1,{}\n", 2 * record));
    };
    let record = messages(1, 2)[0].record().len();
    let original = tempfile::tempdir().unwrap();
    write(original.path());
    for (name, bytes) in files_of(original.path()) {
        for cut in 0..bytes.len() {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path());
            fs::write(folder.path().join(&name), &bytes[..cut]).unwrap();
            let result = import(folder.path());
            if name == "nsqd.dat" {
                let error = result.expect_err("not JSON").to_string();
                assert!(error.contains("nsqd.dat: "), "{error}");
                assert_eq!(files_of(folder.path())[&name], &bytes[..cut], "left as it was");
                assert!(!folder.path().join("importing").exists());
                continue;
            }
            result.unwrap();
            let want: Vec<u64> = match name.as_str() {
                "t:c.diskqueue.000000.dat" => (2..(cut / record) as u64 + 1).chain(4..6).collect(),
                "t:c.diskqueue.000001.dat" => (2..(cut / record) as u64 + 4).collect(),
                // Without its positions the whole queue comes, also what was finished.
                _ => {
                    let is_usable = bytes[..cut].iter().filter(|&&b| b == b',').count() == 2
                        && bytes[cut - 1] != b',';
                    (if is_usable { 2 } else { 1 }..6).collect()
                }
            };
            let all = everything(folder.path());
            assert_eq!(all["t:c"], delivered(want), "{name} cut at {cut}");
            let kept = files_of(&folder.path().join("nsqd-files-imported"));
            assert_eq!(kept[&name], &bytes[..cut], "what could not be read is still there");
        }
    }
}

#[test]
fn an_id_that_comes_twice_is_two_messages_and_new_ids_are_above_all() {
    let folder = tempfile::tempdir().unwrap();
    write_metadata(folder.path(), r#"{"name":"t","channels":[{"name":"c"}]}"#);
    let high = 0x18a2_e4b1_0000_1000;
    let twice = [messages(high, high + 2), messages(high, high + 1)].concat();
    write_queue(folder.path(), "t:c", &twice);
    write_queue(folder.path(), "t", &messages(high + 1, high + 3));
    let ids = ids();
    take_over(&DataPath::open(folder.path()).unwrap(), &ids, &LIMITS).unwrap();

    let all = everything(folder.path());
    let bodies: Vec<&str> = all["t:c"].iter().map(|(_, _, body)| &**body).collect();
    let body = |n: u64| format!("m{}", high + n);
    assert_eq!(bodies, [body(0), body(1), body(0), body(1), body(2)]);
    let mut numbers: Vec<u64> = all["t:c"].iter().map(|(id, _, _)| *id).collect();
    assert_eq!((numbers[0], numbers[1], numbers[4]), (high, high + 1, high + 2));
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 5);
    assert!(ids.reserve(1, LIMITS.wall_ns) > high + 2);
    let mark = fs::read_to_string(folder.path().join("message-ids")).unwrap();
    assert!(mark.parse::<u64>().unwrap() > high + 2, "also after a crash");
}

#[test]
fn attempts_beyond_the_limit_start_over_and_no_message_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    write_metadata(folder.path(), r#"{"name":"t","channels":[{"name":"c"}]}"#);
    let tried = ATTEMPTS_MAX as u64 + 3;
    let mut all = messages(1, tried + 2);
    all[..tried as usize].iter_mut().for_each(|message| message.attempts = 2);
    write_queue(folder.path(), "t:c", &all);
    let limits = ImportLimits { segment_bytes_max: 100 << 20, ..LIMITS };
    take_over(&DataPath::open(folder.path()).unwrap(), &ids(), &limits).unwrap();

    let data_path = DataPath::open(folder.path()).unwrap();
    let bytes = data_path.topic_dir("t").read_channel("c").unwrap().unwrap();
    let entries = ChannelCheckpoint::decode(&bytes).unwrap().entries;
    assert_eq!(entries.len(), ATTEMPTS_MAX);
    assert!(entries.iter().all(|entry| entry.attempts == 2));
    let stats = load(&data_path, "t").0.stats(Clock::start().now(), &|_| true);
    assert_eq!(stats.channels[0].depth, tried + 1);
}

#[test]
fn a_topic_that_is_here_already_is_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    write_all_kinds(folder.path());
    let data_path = DataPath::open(folder.path()).unwrap();
    data_path.topic_dir("t").write_channel("mine", b"", false).unwrap();
    let before = files_of(folder.path());
    let error = take_over(&data_path, &ids(), &LIMITS).unwrap_err().to_string();
    assert!(error.starts_with("topic t of nsqd is here already: move away either"), "{error}");
    assert_eq!(files_of(folder.path()), before, "nothing has been changed");
    assert!(!data_path.dir().join("importing").exists());
}

#[test]
fn an_nsqd_that_ran_between_the_commit_and_the_end_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    write_all_kinds(folder.path());
    let data_path = DataPath::open(folder.path()).unwrap();
    let ids = ids();
    let import = Import::new(&data_path, &ids, &LIMITS);
    let crash = || ImportError::ReadBack { topic: "t".to_owned(), reason: "a crash" };
    let commit = folder.path().join("importing/commit");
    let ended = import.run(&mut || if commit.exists() { Err(crash()) } else { Ok(()) });
    ended.unwrap_err();
    drop(import);
    write_queue(folder.path(), "t:b", &messages(70, 90));

    let error = take_over(&data_path, &ids, &LIMITS).unwrap_err().to_string();
    assert!(
        error.contains("t:b.diskqueue.000000.dat has changed since it was imported"),
        "{error}"
    );
    fs::rename(folder.path().join("importing"), folder.path().join("set aside")).unwrap();
    take_over(&data_path, &ids, &LIMITS).unwrap();
    drop(data_path);
    assert_eq!(everything(folder.path())["t:b"], delivered((70..90).chain(30..40)));
}
