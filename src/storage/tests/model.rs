//! A log against a plain list of messages, whatever is done to it in whatever order.

use std::ops::ControlFlow;
use std::sync::Arc;

use grapevine_storage::{Batch, CacheBudget, Cursor, Disk, Log, LogOptions, MemoryDisk, Mode};
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Append {
        messages: usize,
        body_bytes: usize,
    },
    AppendToFullDisk {
        messages: usize,
        room: u64,
    },
    Read {
        channel: usize,
        messages: u64,
    },
    ReadOne {
        back: usize,
    },
    Release,
    Roll,
    GoIdle,
    Flush,
    /// The process dies (or stops cleanly: flushed first) and starts again.
    Reopen {
        is_clean: bool,
    },
    AdvancePast {
        seqs: u64,
        bytes: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..20_usize, prop_oneof![0..300_usize, 3_000..9_000_usize])
            .prop_map(|(messages, body_bytes)| Step::Append { messages, body_bytes }),
        1 => (1..20_usize, 0..400_u64)
            .prop_map(|(messages, room)| Step::AppendToFullDisk { messages, room }),
        8 => (0..CHANNELS, 1..60_u64)
            .prop_map(|(channel, messages)| Step::Read { channel, messages }),
        2 => (0..200_usize).prop_map(|back| Step::ReadOne { back }),
        4 => Just(Step::Release),
        1 => Just(Step::Roll),
        2 => Just(Step::GoIdle),
        1 => Just(Step::Flush),
        2 => any::<bool>().prop_map(|is_clean| Step::Reopen { is_clean }),
        1 => (0..5_u64, 0..100_u64).prop_map(|(seqs, bytes)| Step::AdvancePast { seqs, bytes }),
    ]
}

/// What was appended, and where it went.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Message {
    cursor: Cursor,
    id: u64,
    body: Vec<u8>,
}

struct Model {
    disk: MemoryDisk,
    options: LogOptions,
    log: Log<MemoryDisk>,
    /// Everything that must still be readable, if it is not below the floor.
    messages: Vec<Message>,
    channels: [Cursor; CHANNELS],
    floor: Cursor,
    next_id: u64,
}

impl Model {
    fn new(mode: Mode, cache_bytes: u64) -> Self {
        let cache = Arc::new(CacheBudget::new(cache_bytes));
        let options = LogOptions { mode, segment_bytes_max: 8_192, cache };
        let disk = MemoryDisk::new();
        let (log, _) = Log::open(disk.clone(), options.clone()).expect("a memory disk can be read");
        let channels = [Cursor::default(); CHANNELS];
        let (messages, floor) = (Vec::new(), Cursor::default());
        Self { disk, options, log, messages, channels, floor, next_id: 1 }
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Append { messages, body_bytes } => self.append(messages, body_bytes),
            Step::AppendToFullDisk { messages, room } => {
                self.disk.set_room(Some(room));
                self.append(messages, 100);
                self.disk.set_room(None);
            }
            Step::Read { channel, messages } => self.read(channel, messages),
            Step::ReadOne { back } => self.read_one(back),
            Step::Release => {
                self.floor = self.channels.iter().copied().min().expect("there are channels");
                for name in self.log.release(self.floor) {
                    self.disk.remove(&name).expect("a memory disk removes");
                }
            }
            Step::Roll => self.log.roll(),
            Step::GoIdle => self.log.go_idle(),
            Step::Flush => self.log.flush().expect("there is room"),
            Step::Reopen { is_clean } => self.reopen(is_clean),
            Step::AdvancePast { seqs, bytes } => {
                let end = self.log.end();
                let past = Cursor { seq: end.seq + seqs, offset: end.offset + bytes };
                self.log.advance_to(past);
                assert_eq!(self.log.end(), past);
            }
        }
        let unread = self.messages.iter().filter(|message| message.cursor >= self.floor).count();
        assert!(self.log.unwritten_messages() <= self.log.end().seq);
        assert!(unread == 0 || self.log.start() <= self.log.end());
    }

    fn append(&mut self, messages: usize, body_bytes: usize) {
        let mut batch = Batch::new();
        let mut appended = Vec::new();
        let mut cursor = self.log.end();
        for i in 0..messages {
            let id = self.next_id + i as u64;
            let body: Vec<u8> = (0..body_bytes).map(|at| (id as usize + at) as u8).collect();
            batch.push(&body, 0);
            let bytes = 40 + body.len() as u64;
            appended.push(Message { cursor, id, body });
            cursor = Cursor { seq: cursor.seq + 1, offset: cursor.offset + bytes };
        }
        let end = self.log.end();
        if self.log.append(&mut batch, self.next_id, 1, 0).is_ok() {
            assert_eq!(self.log.end(), cursor);
            self.messages.extend(appended);
        } else {
            assert_eq!(self.log.end(), end);
        }
        self.next_id += messages as u64;
    }

    fn read(&mut self, channel: usize, messages: u64) {
        let from = self.channels[channel];
        let until = from.seq + messages;
        let mut seen = Vec::new();
        let next = self.log.read(from, until, &mut |record| {
            let body = record.body.to_vec();
            seen.push(Message { cursor: record.cursor, id: record.id, body });
            ControlFlow::Continue(())
        });
        let next = next.expect("nothing is wrong with the disk");
        let in_range = |message: &&Message| (from.seq..until).contains(&message.cursor.seq);
        let expected: Vec<Message> = self.messages.iter().filter(in_range).cloned().collect();
        assert_eq!(seen, expected);
        assert!(next.seq >= from.seq && next.seq <= self.log.end().seq);
        assert!(next.seq >= until.min(self.log.end().seq), "nothing is left out");
        self.channels[channel] = next;
    }

    fn read_one(&mut self, back: usize) {
        let Some(message) = self.messages.iter().rev().nth(back) else { return };
        if message.cursor < self.floor {
            return;
        }
        let mut seen = None;
        let found = self.log.read_one(message.cursor, &mut |record| {
            let body = record.body.to_vec();
            seen = Some(Message { cursor: record.cursor, id: record.id, body });
        });
        assert!(found.expect("nothing is wrong with the disk"));
        assert_eq!(seen.as_ref(), Some(message));
    }

    fn reopen(&mut self, is_clean: bool) {
        if is_clean {
            self.log.flush().expect("there is room");
        }
        let end = self.log.end();
        let unwritten = self.log.unwritten_messages();
        let (log, recovery) =
            Log::open(self.disk.clone(), self.options.clone()).expect("a memory disk can be read");
        assert_eq!((recovery.torn_bytes, recovery.damaged.len()), (0, 0));
        self.log = log;
        self.log.advance_to(end);
        // What was only in memory went with the process.
        self.messages.retain(|message| message.cursor.seq + unwritten < end.seq);
        assert_eq!(self.log.unwritten_messages(), 0);
    }
}

const CHANNELS: usize = 3;

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![
        Just(Mode::WriteThrough),
        (0..100_u64).prop_map(|messages_max| Mode::WriteBehind { messages_max }),
        Just(Mode::MemoryOnly),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_log_reads_back_what_was_appended_whatever_happens_between(
        mode in mode(),
        cache_bytes in prop_oneof![Just(0), 4_096..100_000_u64, Just(32 << 20)],
        steps in vec(step(), 1..120),
    ) {
        let mut model = Model::new(mode, cache_bytes);
        for step in &steps {
            model.apply(step);
        }
        for channel in 0..CHANNELS {
            model.read(channel, u64::MAX / 2);
        }
        let cache = model.options.cache.clone();
        drop(model);
        prop_assert_eq!(cache.used(), 0);
    }

    #[test]
    fn a_cursor_that_fits_nothing_is_followed_without_panic_or_end(
        mode in mode(),
        steps in vec(step(), 1..40),
        seq in 0..300_u64,
        offset in 0..40_000_u64,
    ) {
        let mut model = Model::new(mode, 50_000);
        for step in &steps {
            model.apply(step);
        }
        let mut last = None;
        model.log.read(Cursor { seq, offset }, u64::MAX, &mut |record| {
            assert!(record.cursor.seq >= seq && last < Some(record.cursor.seq));
            last = Some(record.cursor.seq);
            ControlFlow::Continue(())
        }).expect("nothing is wrong with the disk");
        model.log.read_one(Cursor { seq, offset }, &mut |_| ()).expect("as above");
    }

    #[test]
    fn any_bytes_in_a_segment_are_passed_over_without_panic(
        bytes in vec(any::<u8>(), 0..2_000),
        at in 0..3_000_usize,
    ) {
        let disk = MemoryDisk::new();
        let mut model = Model::new(Mode::WriteThrough, 1 << 20);
        model.append(30, 60);
        let name = model.disk.list().expect("listable").remove(0);
        let mut file = model.disk.read(&name).expect("readable").expect("written");
        let at = at.min(file.len());
        let end = (at + bytes.len()).min(file.len());
        file[at..end].copy_from_slice(&bytes[..end - at]);
        disk.append(&name, 0, &file).expect("there is room");

        let (mut log, _) = Log::open(disk, model.options.clone()).expect("damage is passed over");
        let mut ids = Vec::new();
        log.read(Cursor::default(), u64::MAX, &mut |record| {
            ids.push(record.id);
            ControlFlow::Continue(())
        }).expect("damage is passed over");
        let untouched = |i: &u64| {
            let start = 80 + (*i as usize - 1) * 100;
            start + 100 <= at || start >= end
        };
        if at >= 80 {
            let expected: Vec<u64> = (1..=30).filter(untouched).collect();
            prop_assert!(expected.iter().all(|id| ids.contains(id)), "{ids:?}");
        }
    }
}
