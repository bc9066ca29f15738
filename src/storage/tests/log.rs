//! What the log promises, on a disk that fails when told to.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use grapevine_storage::{
    Batch, CacheBudget, Cursor, Disk, Log, LogOptions, MemoryDisk, Mode, Recovery, SyncHandle,
};

const SEGMENT_BYTES: u64 = 4_096;
const HEADER: usize = 40;
const SEGMENT_HEADER: usize = 80;

fn options(mode: Mode) -> LogOptions {
    LogOptions { mode, segment_bytes_max: SEGMENT_BYTES, cache: Arc::default() }
}

fn open(disk: &MemoryDisk) -> (Log<MemoryDisk>, Recovery) {
    Log::open(disk.clone(), options(Mode::WriteThrough)).expect("a memory disk can be read")
}

/// Message `i` has id `i` and a body that says so.
fn body(i: u64) -> Vec<u8> {
    format!("message {i} {}", "x".repeat(i as usize % 50)).into_bytes()
}

fn append(log: &mut Log<MemoryDisk>, messages: std::ops::Range<u64>) -> io::Result<Cursor> {
    let mut batch = Batch::new();
    messages.clone().for_each(|i| batch.push(&body(i), 0));
    log.append(&mut batch, messages.start, 1, 1_000)
}

/// The ids of everything that can be read from `from` on; checks each body on the way.
fn ids_from(log: &mut Log<MemoryDisk>, from: Cursor) -> Vec<u64> {
    let mut ids = Vec::new();
    let mut last = from;
    log.read(from, u64::MAX, &mut |record| {
        assert_eq!(record.body, body(record.id));
        assert!(record.cursor.seq >= last.seq, "seqs never go back");
        last = record.next;
        ids.push(record.id);
        ControlFlow::Continue(())
    })
    .expect("damage is passed over");
    ids
}

fn ids(log: &mut Log<MemoryDisk>) -> Vec<u64> {
    ids_from(log, Cursor::default())
}

fn ids_but(all: std::ops::Range<u64>, lost: u64) -> Vec<u64> {
    all.filter(|&i| i != lost).collect()
}

/// Where each record of the first segment begins in the file, and where the last ends.
fn positions(messages: std::ops::Range<u64>) -> Vec<usize> {
    let mut at = SEGMENT_HEADER;
    let mut positions = vec![at];
    for i in messages {
        at += HEADER + body(i).len();
        positions.push(at);
    }
    positions
}

fn remove(disk: &MemoryDisk, names: Vec<String>) {
    names.iter().for_each(|name| disk.remove(name).expect("a memory disk removes"));
}

#[test]
fn a_stored_message_keeps_the_id_and_the_timestamp_it_came_with() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    let mut batch = Batch::new();
    for (id, timestamp) in [(900, 5), (3, -1)] {
        batch.push_stored(&body(id), id, timestamp);
    }
    log.append(&mut batch, 7, 1, 1_000).unwrap();
    batch.clear();
    batch.push(&body(7), 0);
    log.append(&mut batch, 7, 1, 1_000).unwrap();

    let (mut log, recovery) = open(&disk);
    assert_eq!((recovery.damaged.len(), recovery.highest_id), (0, 900));
    let mut found = Vec::new();
    log.read(Cursor::default(), u64::MAX, &mut |record| {
        assert_eq!(record.body, body(record.id));
        found.push((record.id, record.timestamp));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(found, [(900, 5), (3, -1), (7, 1_000)]);
}

#[test]
fn a_record_carries_what_it_was_appended_with() {
    let (mut log, _) = open(&MemoryDisk::new());
    let mut batch = Batch::new();
    batch.push(b"now", 0);
    batch.push(b"later", 77);
    assert!(batch.has_deferred());
    assert_eq!((batch.len(), batch.body_bytes(), batch.bytes()), (2, 8, 88));

    let first = log.append(&mut batch, 100, 7, 5).unwrap();

    let mut seen = Vec::new();
    log.read(first, 2, &mut |record| {
        seen.push((
            record.cursor.seq,
            record.id,
            record.timestamp,
            record.deliver_at,
            record.body.to_vec(),
        ));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(seen, [(0, 100, 5, 0, b"now".to_vec()), (1, 107, 5, 77, b"later".to_vec())]);
    assert_eq!(log.end(), Cursor { seq: 2, offset: 88 });
}

#[test]
fn reading_stops_at_the_bound_and_when_told_and_goes_on_from_there() {
    let (mut log, _) = open(&MemoryDisk::new());
    append(&mut log, 0..10).unwrap();

    let third = log.read(Cursor::default(), 3, &mut |_| ControlFlow::Continue(())).unwrap();
    let fourth = log.read(third, 10, &mut |_| ControlFlow::Break(())).unwrap();

    assert_eq!((third.seq, fourth.seq), (3, 4));
    assert_eq!(ids_from(&mut log, fourth), (4..10).collect::<Vec<_>>());
}

#[test]
fn everything_survives_the_death_of_the_process() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    for i in 0..40 {
        append(&mut log, i * 10..i * 10 + 10).unwrap();
    }
    let (end, segments) = (log.end(), log.segments());
    drop(log);

    let (mut log, recovery) = open(&disk);

    assert_eq!((recovery.torn_bytes, recovery.damaged.len(), recovery.highest_id), (0, 0, 399));
    assert_eq!((log.end(), log.segments()), (end, segments));
    assert_eq!(ids(&mut log), (0..400).collect::<Vec<_>>());
}

#[test]
fn a_tail_torn_at_any_byte_costs_only_the_record_it_is_in() {
    let full = MemoryDisk::new();
    let (mut log, _) = open(&full);
    append(&mut log, 0..5).unwrap();
    let name = full.list().unwrap().remove(0);
    let positions = positions(0..5);

    for len in 0..=positions[5] {
        let disk = full.snapshot();
        disk.truncate(&name, len as u64).unwrap();
        let (mut log, recovery) = open(&disk);

        let whole = positions[1..].iter().filter(|&&end| end <= len).count() as u64;
        assert_eq!(ids(&mut log), (0..whole).collect::<Vec<_>>(), "cut at {len}");
        let kept = if len < SEGMENT_HEADER { 0 } else { positions[whole as usize] };
        assert_eq!(recovery.torn_bytes, (len - kept) as u64, "cut at {len}");

        append(&mut log, whole..9).unwrap();
        let (mut log, _) = open(&disk);
        assert_eq!(ids(&mut log), (0..9).collect::<Vec<_>>(), "cut at {len}, then appended");
    }
}

#[test]
fn a_damaged_byte_anywhere_costs_only_its_record_in_the_last_segment_as_in_others() {
    let full = MemoryDisk::new();
    let (mut log, _) = open(&full);
    append(&mut log, 0..12).unwrap();
    let positions = positions(0..12);
    for has_second_segment in [false, true] {
        if has_second_segment {
            log.roll();
            append(&mut log, 12..14).unwrap();
        }
        let all = 0..log.end().seq;
        let name = full.list().unwrap().remove(0);
        for at in 0..positions[12] {
            let disk = full.snapshot();
            disk.damage(&name, |bytes| bytes[at] ^= 0x41);
            let (mut log, _) = open(&disk);
            let hit = positions.iter().rposition(|&start| start <= at).map(|i| i as u64);
            let expected = hit.map_or_else(|| all.clone().collect(), |i| ids_but(all.clone(), i));
            assert_eq!(ids(&mut log), expected, "byte {at}, record {hit:?}");
            assert_eq!(ids(&mut log), expected, "and again");
            if has_second_segment && hit.is_some() {
                let damage = log.take_damage();
                assert_eq!((damage.len(), damage[0].messages), (1, 1), "reported once, byte {at}");
            }
        }
    }
}

#[test]
fn a_body_that_looks_like_a_record_is_never_delivered_as_one() {
    let forger = MemoryDisk::new();
    let (mut log, _) = open(&forger);
    append(&mut log, 0..3).unwrap();
    let name = forger.list().unwrap().remove(0);
    let forged = forger.read(&name).unwrap().unwrap()[positions(0..3)[2]..].to_vec();

    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    append(&mut log, 0..1).unwrap();
    let mut batch = Batch::new();
    batch.push(&[b"prefix".as_slice(), &forged, b"suffix"].concat(), 0);
    log.append(&mut batch, 1, 1, 0).unwrap();
    append(&mut log, 2..4).unwrap();
    let hit = positions(0..1)[1] + HEADER + 2;
    disk.damage(&name, |bytes| bytes[hit] ^= 1);

    let (mut log, recovery) = open(&disk);
    let mut seen = Vec::new();
    log.read(Cursor::default(), u64::MAX, &mut |record| {
        seen.push((record.id, record.timestamp));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(seen, [(0, 1_000), (2, 1_000), (3, 1_000)]);
    assert_eq!(recovery.damaged.len(), 1);
}

#[test]
fn a_segment_whose_headers_are_both_gone_is_reported_and_the_others_are_read() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    for i in 0..3 {
        append(&mut log, i * 10..i * 10 + 10).unwrap();
        log.roll();
    }
    let name = disk.list().unwrap().remove(1);
    disk.damage(&name, |bytes| bytes[..SEGMENT_HEADER].fill(0));

    let (mut log, recovery) = open(&disk);

    assert_eq!(ids(&mut log), (0..10).chain(20..30).collect::<Vec<_>>());
    assert_eq!(recovery.damaged[0].segment, name);
    append(&mut log, 30..40).unwrap();
    assert_eq!(ids(&mut log), (0..10).chain(20..40).collect::<Vec<_>>());
}

#[test]
fn a_file_that_vanishes_costs_its_messages_and_nothing_else() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    for i in 0..3 {
        append(&mut log, i * 10..i * 10 + 10).unwrap();
        log.roll();
    }
    log.go_idle();
    disk.remove(&disk.list().unwrap()[1]).unwrap();

    assert_eq!(ids(&mut log), (0..10).chain(20..30).collect::<Vec<_>>());
    assert_eq!(log.damaged_messages(), 10);
}

#[test]
fn a_new_segment_starts_before_the_bound_is_passed_and_a_large_batch_gets_its_own() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    append(&mut log, 0..10).unwrap();
    let mut batch = Batch::new();
    batch.push(&vec![1; 3 * SEGMENT_BYTES as usize], 0);
    log.append(&mut batch, 10, 1, 0).unwrap();
    append(&mut log, 11..12).unwrap();

    let segments = log.segments();
    assert_eq!(segments.iter().map(|segment| segment.first.seq).collect::<Vec<_>>(), [0, 10, 11]);
    assert!(segments.windows(2).all(|pair| pair[0].end == pair[1].first));

    log.go_idle();
    let (mut lens, from) = (Vec::new(), log.start());
    log.read(from, u64::MAX, &mut |record| {
        lens.push(record.body.len());
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(lens[10], 3 * SEGMENT_BYTES as usize);
    assert_eq!(lens.len(), 12);
}

#[test]
fn finished_segments_are_named_for_removal_once_and_a_drained_log_keeps_its_count() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    for i in 0..40 {
        append(&mut log, i * 10..i * 10 + 10).unwrap();
    }
    let first_kept = log.segments()[3];

    assert_eq!(log.release(first_kept.first).len(), 3);
    assert_eq!(log.release(first_kept.first), Vec::<String>::new());
    assert_eq!(log.start(), first_kept.first);

    let end = log.end();
    let names = log.release(end);
    remove(&disk, names);
    remove(&disk, disk.list().unwrap().into_iter().take(3).collect());
    assert_eq!(log.start(), end);
    assert!(disk.bytes() < SEGMENT_BYTES, "a drained log holds next to nothing");
    let (log, _) = open(&disk);
    assert_eq!(log.end(), end, "numbers go on after a restart");
}

#[test]
fn a_full_disk_refuses_the_whole_batch_keeps_the_rest_and_recovers_by_itself() {
    for room in [0, 1, 50, 100, 130, 500] {
        let disk = MemoryDisk::new();
        let (mut log, _) = open(&disk);
        append(&mut log, 0..5).unwrap();
        let end = log.end();
        for is_new_segment in [false, true] {
            if is_new_segment {
                log.roll();
            }
            disk.set_room(Some(room));
            let error = append(&mut log, 5..25).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            assert_eq!(log.end(), end);
            assert_eq!(ids(&mut log), (0..5).collect::<Vec<_>>());
            disk.set_room(None);
        }
        append(&mut log, 5..25).unwrap();
        assert_eq!(ids(&mut log), (0..25).collect::<Vec<_>>());
        let (mut log, recovery) = open(&disk);
        assert_eq!(recovery.torn_bytes, 0);
        assert_eq!(ids(&mut log), (0..25).collect::<Vec<_>>());
    }
}

#[test]
fn junk_that_could_not_be_cut_after_a_failed_write_is_never_read() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    append(&mut log, 0..5).unwrap();
    disk.set_failure(Some(io::ErrorKind::Other));
    append(&mut log, 5..15).unwrap_err();
    disk.set_failure(None);

    append(&mut log, 5..8).unwrap();

    assert_eq!(ids(&mut log), (0..8).collect::<Vec<_>>());
    let (mut log, recovery) = open(&disk);
    assert_eq!(ids(&mut log), (0..8).collect::<Vec<_>>());
    assert_eq!(recovery.damaged, []);
}

#[test]
fn what_was_synced_survives_a_power_loss_across_segments() {
    for kept in [0, 1, 100, u64::MAX] {
        let disk = MemoryDisk::new();
        let (mut log, _) = open(&disk);
        for i in 0..30 {
            append(&mut log, i * 10..i * 10 + 10).unwrap();
            if i % 4 == 0 {
                log.sync_handle().expect("something was written").sync().unwrap();
            }
        }
        let (synced, end) = (290, log.end());
        disk.crash(&mut |_| kept);

        let (mut log, _) = open(&disk);
        let there = ids(&mut log);
        assert!(there.len() >= synced, "kept {kept}: only {} are left", there.len());
        assert_eq!(there, (0..there.len() as u64).collect::<Vec<_>>());

        log.advance_to(end);
        assert_eq!(append(&mut log, 300..310).unwrap(), end, "remembered places are not reused");
        assert_eq!(ids_from(&mut log, end), (300..310).collect::<Vec<_>>());
        let all = there.iter().copied().chain(300..310).collect::<Vec<_>>();
        assert_eq!(ids(&mut log), all);
        assert_eq!(ids(&mut open(&disk).0), all);
    }
}

#[test]
fn written_behind_messages_reach_the_disk_only_beyond_the_bound_or_when_flushed() {
    let disk = MemoryDisk::new();
    let behind = options(Mode::WriteBehind { messages_max: 20 });
    let (mut log, _) = Log::open(disk.clone(), behind.clone()).unwrap();
    append(&mut log, 0..20).unwrap();
    assert_eq!((disk.bytes(), log.unwritten_messages()), (0, 20));

    append(&mut log, 20..25).unwrap();
    assert_eq!(log.unwritten_messages(), 5, "the twenty went, the five stay");
    assert_eq!(ids(&mut log), (0..25).collect::<Vec<_>>());

    log.flush().unwrap();
    assert_eq!(log.unwritten_messages(), 0);
    let (mut log, _) = Log::open(disk, behind).unwrap();
    assert_eq!(ids(&mut log), (0..25).collect::<Vec<_>>());
}

#[test]
fn what_was_released_before_it_had_to_be_written_never_is() {
    let disk = MemoryDisk::new();
    let behind = options(Mode::WriteBehind { messages_max: 20 });
    let (mut log, _) = Log::open(disk.clone(), behind.clone()).unwrap();
    let mut read_to = Cursor::default();
    for i in 0..100 {
        append(&mut log, i * 10..i * 10 + 10).unwrap();
        let until = read_to.seq + 10;
        read_to = log.read(read_to, until, &mut |_| ControlFlow::Continue(())).unwrap();
        remove(&disk, log.release(read_to));
    }
    assert_eq!(disk.bytes(), 0);

    append(&mut log, 1_000..1_015).unwrap();
    let floor = log.read(read_to, 1_005, &mut |_| ControlFlow::Continue(())).unwrap();
    remove(&disk, log.release(floor));
    log.flush().unwrap();
    drop(log);

    let (mut log, recovery) = Log::open(disk.clone(), behind).unwrap();
    assert_eq!(recovery.damaged, []);
    assert_eq!(log.start(), floor);
    assert_eq!(ids_from(&mut log, read_to), (1_005..1_015).collect::<Vec<_>>());
    assert_eq!(ids(&mut log), (1_005..1_015).collect::<Vec<_>>(), "an older cursor jumps the gap");
}

#[test]
fn a_memory_log_never_touches_the_disk_and_frees_what_is_released() {
    let disk = MemoryDisk::new();
    disk.set_failure(Some(io::ErrorKind::Other));
    let memory = options(Mode::MemoryOnly);
    let (mut log, _) = Log::open(disk, memory.clone()).unwrap();
    for i in 0..1_000 {
        append(&mut log, i * 10..i * 10 + 10).unwrap();
    }
    assert_eq!(ids(&mut log), (0..10_000).collect::<Vec<_>>());
    let before = memory.cache.used();

    let half = log.read(Cursor::default(), 5_000, &mut |_| ControlFlow::Continue(())).unwrap();
    log.release(half);
    log.go_idle();
    assert!(memory.cache.used() < before * 3 / 4);
    assert_eq!(ids_from(&mut log, half), (5_000..10_000).collect::<Vec<_>>());
}

#[test]
fn an_idle_log_holds_no_buffers() {
    let through = options(Mode::WriteThrough);
    let (mut log, _) = Log::open(MemoryDisk::new(), through.clone()).unwrap();
    append(&mut log, 0..200).unwrap();
    assert_eq!(ids(&mut log).len(), 200);
    assert!(through.cache.used() > 0);

    log.go_idle();

    assert_eq!(through.cache.used(), 0);
    assert!(size_of_val(&log) < 700, "{} bytes", size_of_val(&log));
    assert_eq!(ids(&mut log).len(), 200);
    drop(log);
    assert_eq!(through.cache.used(), 0, "a closed log owes nothing");
}

#[test]
fn a_reader_at_the_tail_reads_no_file_and_a_lagging_one_reads_blocks() {
    let disk = MemoryDisk::new();
    let large = LogOptions { segment_bytes_max: 1 << 30, ..options(Mode::WriteThrough) };
    let (mut log, _) = Log::open(disk.clone(), large).unwrap();
    let mut batch = Batch::new();
    (0..100).for_each(|_| batch.push(&[0; 200], 0));
    let reads = disk.reads();
    let mut at = Cursor::default();
    for i in 0..500 {
        log.append(&mut batch, i * 100, 1, 0).unwrap();
        at = log.read(at, u64::MAX, &mut |_| ControlFlow::Continue(())).unwrap();
    }
    assert_eq!(disk.reads(), reads);

    let (mut first, mut second) = (Cursor::default(), Cursor::default());
    while first < at {
        let until = first.seq + 7;
        first = log.read(first, until, &mut |_| ControlFlow::Continue(())).unwrap();
        second = log.read(second, until, &mut |_| ControlFlow::Continue(())).unwrap();
    }
    let blocks = at.offset / (100 * 1024) + 1;
    assert!(disk.reads() - reads <= blocks, "{} reads", disk.reads() - reads);
}

#[test]
fn without_any_memory_to_take_everything_still_works() {
    for mode in [Mode::WriteThrough, Mode::WriteBehind { messages_max: 100 }] {
        let none = LogOptions { cache: Arc::new(CacheBudget::new(0)), ..options(mode) };
        let (mut log, _) = Log::open(MemoryDisk::new(), none.clone()).unwrap();
        for i in 0..100 {
            append(&mut log, i * 10..i * 10 + 10).unwrap();
        }
        assert_eq!(ids(&mut log), (0..1_000).collect::<Vec<_>>());
        assert!(none.cache.used() <= 8 * 1024, "one small chunk and one small block");
    }
}

#[test]
fn a_single_record_is_found_where_it_is_and_nowhere_else() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    for i in 0..40 {
        append(&mut log, i * 10..i * 10 + 10).unwrap();
    }
    let mut places = Vec::new();
    log.read(Cursor::default(), u64::MAX, &mut |record| {
        places.push(record.cursor);
        ControlFlow::Continue(())
    })
    .unwrap();
    log.go_idle();

    for i in [399, 3, 200, 201, 0] {
        let mut found = 0;
        assert!(log.read_one(places[i], &mut |record| found = record.id).unwrap());
        assert_eq!(found, i as u64);
    }
    assert!(!log.read_one(log.end(), &mut |_| panic!("nothing is there")).unwrap());
    remove(&disk, log.release(places[300]));
    assert!(!log.read_one(places[3], &mut |_| panic!("it was released")).unwrap());
}

#[test]
fn what_a_killed_process_had_not_synced_is_synced_by_the_next() {
    let disk = MemoryDisk::default();
    append(&mut open(&disk).0, 0..9).expect("room"); // and the process is killed
    let (mut log, _) = open(&disk);
    log.roll();
    append(&mut log, 9..12).expect("room");
    log.sync_handle().expect("something is not synced").sync().expect("syncs");
    disk.crash(&mut |_| 0);
    assert_eq!(ids(&mut open(&disk).0), (0..12).collect::<Vec<_>>());
}
