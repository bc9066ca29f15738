//! The data path and the real files in it.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use grapevine_storage::{
    Batch, Cursor, DataPath, DataPathError, DirDisk, Disk, Log, LogOptions, Mode, SyncHandle,
};

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("the system has a directory for temporary files")
}

fn options() -> LogOptions {
    LogOptions { mode: Mode::WriteThrough, segment_bytes_max: 1_000, cache: Arc::default() }
}

fn append(log: &mut Log<DirDisk>, bodies: &[&[u8]]) -> Cursor {
    let mut batch = Batch::new();
    bodies.iter().for_each(|body| batch.push(body, 0));
    log.append(&mut batch, 1, 1, 1).expect("there is room")
}

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).expect("it was just made").permissions().mode() & 0o777
}

fn open_files(below: &Path) -> usize {
    let is_below = |link: &fs::DirEntry| {
        fs::read_link(link.path()).is_ok_and(|target| target.starts_with(below))
    };
    let links = fs::read_dir("/proc/self/fd").expect("Linux");
    links.filter_map(Result::ok).filter(is_below).count()
}

#[test]
fn a_data_path_belongs_to_one_node_at_a_time() {
    let dir = temporary();
    let first = DataPath::open(dir.path()).unwrap();

    let error = DataPath::open(dir.path()).unwrap_err();
    assert!(matches!(error, DataPathError::Locked { .. }));
    assert_eq!(
        error.to_string(),
        format!(
            "failed to lock data-path: cannot flock directory {} (possibly in use by another \
             instance of nsqd)",
            dir.path().display()
        )
    );

    let clone = first.clone();
    drop(first);
    assert!(DataPath::open(dir.path()).is_err(), "a clone keeps the lock");
    drop(clone);
    DataPath::open(dir.path()).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "opening leaves nothing behind");
}

#[test]
fn a_data_path_must_exist_and_be_a_directory() {
    let dir = temporary();
    let missing = dir.path().join("missing");
    assert!(matches!(DataPath::open(&missing), Err(DataPathError::Open { .. })));
    fs::write(&missing, b"").unwrap();
    assert!(matches!(DataPath::open(&missing), Err(DataPathError::Open { .. })));
}

#[test]
fn topics_and_channels_are_found_again_whatever_their_valid_names() {
    let dir = temporary();
    let data_path = DataPath::open(dir.path()).unwrap();
    assert_eq!(data_path.topics().unwrap(), Vec::<String>::new());

    let names = [".", "..", "a.topic", "orders", "x.channel"];
    for topic in names {
        let topic_dir = data_path.topic_dir(topic);
        topic_dir.create(true).unwrap();
        topic_dir.create(false).unwrap();
        for channel in names {
            topic_dir.write_channel(channel, channel.as_bytes(), false).unwrap();
            append(&mut Log::open(topic_dir.side_disk(channel), options()).unwrap().0, &[b"aside"]);
        }
        topic_dir.write_state(topic.as_bytes(), true).unwrap();
    }
    let topics = dir.path().join("topics");
    fs::create_dir(topics.join("not valid.topic")).unwrap();
    fs::create_dir(topics.join("other")).unwrap();
    fs::write(topics.join("file.topic"), b"").unwrap();
    fs::write(topics.join("orders.topic/bad name.channel"), b"").unwrap();
    fs::write(topics.join("orders.topic/half.channel.7.tmp"), b"").unwrap();

    assert_eq!(data_path.topics().unwrap(), names);
    for topic in names {
        let topic_dir = data_path.topic_dir(topic);
        assert_eq!(topic_dir.channels().unwrap(), names);
        assert_eq!(topic_dir.read_state().unwrap().unwrap(), topic.as_bytes());
        assert_eq!(topic_dir.read_channel("..").unwrap().unwrap(), b"..");
        assert_eq!(topic_dir.read_channel("none").unwrap(), None);
    }
}

#[test]
fn what_is_removed_is_gone_and_removing_it_again_is_fine() {
    let dir = temporary();
    let data_path = DataPath::open(dir.path()).unwrap();
    let topic_dir = data_path.topic_dir("orders");
    topic_dir.create(false).unwrap();
    for channel in ["billing", "shipping"] {
        topic_dir.write_channel(channel, b"1", false).unwrap();
        append(&mut Log::open(topic_dir.side_disk(channel), options()).unwrap().0, &[b"aside"]);
    }

    for _ in 0..2 {
        topic_dir.remove_channel("billing").unwrap();
    }
    assert_eq!(topic_dir.channels().unwrap(), ["shipping"]);
    assert!(!dir.path().join("topics/orders.topic/billing.side").exists());
    assert!(dir.path().join("topics/orders.topic/shipping.side").exists());
    for _ in 0..2 {
        topic_dir.remove_all().unwrap();
    }
    assert_eq!(data_path.topics().unwrap(), Vec::<String>::new());
}

#[test]
fn a_file_is_replaced_whole_and_for_this_user_only() {
    let dir = temporary();
    let data_path = DataPath::open(dir.path()).unwrap();
    assert_eq!(data_path.read_file("node.ids").unwrap(), None);
    for (i, durable) in [true, false].into_iter().enumerate() {
        data_path.replace_file("node.ids", &[i as u8; 3], durable).unwrap();
        assert_eq!(data_path.read_file("node.ids").unwrap().unwrap(), [i as u8; 3]);
    }
    assert_eq!(mode_of(&dir.path().join("node.ids")), 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
}

#[test]
fn a_log_in_a_directory_is_there_after_a_restart_and_idle_holds_no_file() {
    let dir = temporary();
    let at = dir.path().join("topics/orders.topic");
    let (mut log, _) = Log::open(DirDisk::new(&at), options()).unwrap();
    assert!(!at.exists(), "the directory comes with the first write");
    for _ in 0..10 {
        append(&mut log, &[b"one", &[2; 300], b"three"]);
    }
    log.sync_handle().unwrap().sync().unwrap();
    assert_eq!(mode_of(&at), 0o700);
    let names = log.disk().list().unwrap();
    assert!(names.len() > 1);
    assert_eq!(mode_of(&at.join(&names[0])), 0o600);
    log.go_idle();
    assert_eq!(open_files(&at), 0);

    let (mut log, recovery) = Log::open(DirDisk::new(&at), options()).unwrap();
    assert_eq!((recovery.torn_bytes, recovery.damaged.len()), (0, 0));
    let mut bytes = 0;
    let end = log.read(Cursor::default(), u64::MAX, &mut |record| {
        bytes += record.body.len();
        ControlFlow::Continue(())
    });
    assert_eq!((end.unwrap(), bytes), (log.end(), 10 * 308));

    let end = log.end();
    let disk = log.disk().clone();
    for name in log.release(end) {
        disk.remove(&name).unwrap();
    }
    assert!(disk.list().unwrap().len() <= 1);
    append(&mut log, &[b"after"]);
    log.sync_handle().unwrap().sync().unwrap();
    log.go_idle();
    assert_eq!(open_files(&at), 0);
}

#[test]
fn a_log_that_could_not_write_goes_on_when_it_can() {
    let dir = temporary();
    let at = dir.path().join("orders.topic");
    let (mut log, _) = Log::open(DirDisk::new(&at), options()).unwrap();
    fs::write(&at, b"in the way").unwrap();
    let mut batch = Batch::new();
    batch.push(b"refused", 0);
    log.append(&mut batch, 1, 1, 1).unwrap_err();

    fs::remove_file(&at).unwrap();
    assert_eq!(log.append(&mut batch, 1, 1, 1).unwrap(), Cursor::default());
}
