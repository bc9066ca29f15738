//! The broker against a naive model: no message lost, none in two places, for random commands,
//! restarts, crashes, power losses and full disks. Channel 2 is ephemeral.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use grapevine_protocol::{ChannelName, Moment, TopicName};
use grapevine_storage::{
    Batch, CacheBudget, ChannelCheckpoint, Disk as _, Log, LogOptions, MemoryDisk, Mode,
    SyncHandle as _, TopicState,
};
use proptest::prelude::*;

use crate::{
    ChannelFile, ConsumerId, ConsumerSettings, IdSource, Locality, Now, PullLimits, Settings,
    Signal, Topic, Wakes,
};

struct Quiet;

impl Signal for Quiet {
    fn wake(&self) {}
    fn close(&self) {}
}

#[derive(Clone, Debug)]
enum Step {
    Publish { count: u8, delay_ms: u16 },
    CreateChannel(u8),
    Pull { channel: u8, consumer: u8, rdy: u8 },
    Finish { channel: u8, pick: u8 },
    Requeue { channel: u8, pick: u8, delay_ms: u16 },
    Touch { channel: u8, pick: u8 },
    Leave { channel: u8, consumer: u8 },
    Pass { ms: u16 },
    Pause(bool),
    EmptyTopic,
    EmptyChannel(u8),
    DeleteChannel(u8),
    Checkpoint,
    Relocate,
    Restart { is_clean: bool },
    Sync,
    PowerLoss { keep: u8 },
    Disk { is_failing: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let delay = prop_oneof![3 => Just(0_u16), 1 => 1..2_000_u16];
    let step = prop_oneof![
        6 => (1..20_u8, delay.clone())
            .prop_map(|(count, delay_ms)| Step::Publish { count, delay_ms }),
        1 => (0..3_u8).prop_map(Step::CreateChannel),
        8 => (0..3_u8, 0..2_u8, 1..15_u8)
            .prop_map(|(channel, consumer, rdy)| Step::Pull { channel, consumer, rdy }),
        8 => (0..3_u8, any::<u8>()).prop_map(|(channel, pick)| Step::Finish { channel, pick }),
        3 => (0..3_u8, any::<u8>(), delay)
            .prop_map(|(channel, pick, delay_ms)| Step::Requeue { channel, pick, delay_ms }),
        1 => (0..3_u8, any::<u8>()).prop_map(|(channel, pick)| Step::Touch { channel, pick }),
        1 => (0..3_u8, 0..2_u8).prop_map(|(channel, consumer)| Step::Leave { channel, consumer }),
        3 => (1..3_000_u16).prop_map(|ms| Step::Pass { ms }),
        1 => any::<bool>().prop_map(Step::Pause),
        1 => Just(Step::EmptyTopic),
        1 => (0..3_u8).prop_map(Step::EmptyChannel),
        1 => (0..3_u8).prop_map(Step::DeleteChannel),
        2 => Just(Step::Checkpoint),
        2 => Just(Step::Relocate),
        1 => any::<bool>().prop_map(|is_clean| Step::Restart { is_clean }),
        2 => Just(Step::Sync),
        1 => any::<u8>().prop_map(|keep| Step::PowerLoss { keep }),
        1 => any::<bool>().prop_map(|is_failing| Step::Disk { is_failing }),
    ];
    proptest::collection::vec(step, 1..120)
}

/// What one channel owes: every message is in exactly one of these, or finished.
#[derive(Clone, Debug, Default)]
struct Owed {
    /// Released and never delivered, or to be delivered again: attempts so far, not before.
    waiting: BTreeMap<u64, (u16, i64)>,
    in_flight: BTreeMap<u64, (u8, u16)>,
}

struct World {
    disk: MemoryDisk,
    side_disk: MemoryDisk,
    topic: Topic<MemoryDisk>,
    ids: IdSource,
    now: Now,
    /// Bodies are numbers; not yet released: number and not-before.
    unreleased: Vec<(u64, i64)>,
    channels: BTreeMap<u8, Owed>,
    /// Message ids as last seen, by body number.
    seen_ids: BTreeMap<u64, u64>,
    files: BTreeMap<ChannelName, Vec<u8>>,
    state: Option<Vec<u8>>,
    is_paused: bool,
    published: u64,
    /// After a crash a channel may see finished messages and wrong attempts again.
    is_exact: bool,
    /// And after some the topic's depth is not what it was.
    is_depth_exact: bool,
    is_failing: bool,
    has_failed: bool,
    /// Messages from this number on have not been synced.
    unsynced_from: u64,
    /// Not synced before a restart: nobody promises to do so after it.
    never_synced: BTreeSet<u64>,
    /// Published and not synced before a power loss: they may arrive or not.
    doubtful: BTreeSet<u64>,
}

fn settings() -> Arc<Settings> {
    Arc::new(Settings {
        mem_queue_size: MEM_QUEUE_SIZE,
        msg_timeout_max: Duration::from_secs(900),
        channel_consumers_max: 0,
        latency_window: None,
    })
}

fn log_options() -> LogOptions {
    LogOptions {
        mode: Mode::WriteThrough,
        segment_bytes_max: 1_000,
        cache: Arc::new(CacheBudget::new(1 << 20)),
    }
}

fn channel_name(channel: u8) -> ChannelName {
    let suffix = if channel == EPHEMERAL { "#ephemeral" } else { "" };
    ChannelName::new(format!("c{channel}{suffix}")).expect("valid")
}

/// The channel that keeps no more than fits and is not remembered.
const EPHEMERAL: u8 = 2;

/// Small, so that the ephemeral channel drops messages.
const MEM_QUEUE_SIZE: u64 = 30;

const MSG_TIMEOUT_MS: i64 = 1_000;

impl World {
    fn new() -> Self {
        let disk = MemoryDisk::default();
        let mut log = Log::open(disk.clone(), log_options()).expect("a memory disk opens").0;
        assert!(log.sync_handle().is_none(), "asked for once, so that rolled segments are synced");
        let name = TopicName::new("t").expect("valid");
        Self {
            disk,
            side_disk: MemoryDisk::default(),
            topic: Topic::new(name, log, settings()),
            ids: IdSource::new(1, 0),
            now: Now { mono: Moment(1), wall: 1_800_000_000_000_000_000 },
            unreleased: Vec::new(),
            channels: BTreeMap::new(),
            seen_ids: BTreeMap::new(),
            files: BTreeMap::new(),
            state: None,
            is_paused: false,
            published: 0,
            is_exact: true,
            is_depth_exact: true,
            is_failing: false,
            has_failed: false,
            unsynced_from: 0,
            never_synced: BTreeSet::new(),
            doubtful: BTreeSet::new(),
        }
    }

    /// How many more messages the ephemeral channel takes.
    fn ephemeral_room(&mut self) -> usize {
        let stats = self.topic.stats(self.now, &|name| name.is_ephemeral());
        let depth = stats.channels.first().map_or(0, |channel| channel.depth);
        MEM_QUEUE_SIZE.saturating_sub(depth) as usize
    }

    /// `ephemeral_room`: as it was before the topic released anything.
    fn release(&mut self, ephemeral_room: usize) {
        if self.is_paused || self.channels.is_empty() {
            return;
        }
        for (i, (number, not_before)) in self.unreleased.drain(..).enumerate() {
            for (&channel, owed) in &mut self.channels {
                if channel != EPHEMERAL || i < ephemeral_room {
                    owed.waiting.insert(number, (0, not_before));
                }
            }
        }
    }

    fn expire_model(&mut self, deadlines: &BTreeMap<(u8, u64), i64>) {
        for (&(channel, number), &deadline) in deadlines {
            if deadline <= self.now.wall
                && let Some(owed) = self.channels.get_mut(&channel)
                && let Some((_, attempts)) = owed.in_flight.remove(&number)
            {
                owed.waiting.insert(number, (attempts, 0));
            }
        }
    }

    fn checkpoint(&mut self, all: bool) {
        let side_handle = self.topic.side_sync_handle();
        let checkpoint = self.topic.checkpoint(self.now, all);
        let is_synced = side_handle.is_none_or(|handle| handle.sync().is_ok());
        if self.is_failing || (checkpoint.has_side && !is_synced) {
            return self.checkpointed(&checkpoint, false);
        }
        for (name, state) in &checkpoint.channels {
            self.files.insert(name.clone(), state.encode());
        }
        if let Some(state) = &checkpoint.state {
            self.state = Some(state.encode());
        }
        self.checkpointed(&checkpoint, true);
    }

    fn checkpointed(&mut self, checkpoint: &crate::Checkpoint, is_written: bool) {
        let forgotten = self.topic.checkpointed(checkpoint, is_written);
        for name in forgotten.log {
            self.disk.remove(&name).expect("a memory disk removes");
        }
        for name in forgotten.side {
            self.side_disk.remove(&name).expect("a memory disk removes");
        }
    }

    fn fail(&mut self, is_failing: bool) {
        self.is_failing = is_failing;
        self.has_failed |= is_failing;
        let failure = is_failing.then_some(std::io::ErrorKind::StorageFull);
        self.disk.set_failure(failure);
        self.side_disk.set_failure(failure);
    }

    fn restart(&mut self) {
        let log = Log::open(self.disk.clone(), log_options()).expect("a memory disk opens").0;
        let side = self.side_disk.clone();
        let side = (!side.list().expect("lists").is_empty())
            .then(|| Log::open(side, log_options()).expect("a memory disk opens").0);
        let files = self.files.iter().map(|(name, bytes)| ChannelFile {
            name: name.clone(),
            checkpoint: Some(ChannelCheckpoint::decode(bytes).expect("we wrote it")),
        });
        let state =
            self.state.as_ref().map(|bytes| TopicState::decode(bytes).expect("we wrote it"));
        let name = TopicName::new("t").expect("valid");
        self.topic = Topic::recover(name, log, side, state, files.collect(), settings(), self.now)
            .expect("recovers");
        drop(self.topic.sync_handle());
    }
}

/// Runs `steps` on both; every pull is compared with what the model owes.
fn run(steps: Vec<Step>) {
    let mut world = World::new();
    let mut deadlines: BTreeMap<(u8, u64), i64> = BTreeMap::new();
    let mut joined: BTreeSet<(u8, u8)> = BTreeSet::new();
    let mut wakes = Wakes::default();
    for step in steps {
        step_once(&mut world, &mut deadlines, &mut joined, &mut wakes, step);
    }
    // In the end everything owed arrives.
    world.fail(false);
    world.is_paused = false;
    let room = world.ephemeral_room();
    world.topic.set_paused(false, world.now, &mut wakes);
    world.release(room);
    world.now.mono = world.now.mono + Duration::from_secs(3_600);
    world.now.wall += 3_600_000_000_000;
    world.topic.expire(world.now, &mut wakes);
    world.expire_model(&deadlines);
    deadlines.clear();
    for channel in world.channels.keys().copied().collect::<Vec<_>>() {
        let pull = Step::Pull { channel, consumer: 0, rdy: 200 };
        for _ in 0..40 {
            step_once(&mut world, &mut deadlines, &mut joined, &mut wakes, pull.clone());
            for (number, _) in world.channels[&channel].in_flight.clone() {
                let id = world.seen_ids[&number];
                let (consumer, _) = world.channels[&channel].in_flight[&number];
                let by = ConsumerId(u64::from(consumer));
                world
                    .topic
                    .finish(&channel_name(channel), by, id, world.now)
                    .expect("in flight for the model means in flight");
                world.channels.get_mut(&channel).expect("there").in_flight.remove(&number);
            }
        }
        let lost = world.channels[&channel].waiting.keys();
        let lost: Vec<_> = lost.filter(|number| !world.doubtful.contains(number)).collect();
        if channel == EPHEMERAL && !world.is_depth_exact {
            continue; // nobody knows what it had room for
        }
        assert!(lost.is_empty(), "lost in channel {channel}: {lost:?}");
    }
}

fn step_once(
    world: &mut World,
    deadlines: &mut BTreeMap<(u8, u64), i64>,
    joined: &mut BTreeSet<(u8, u8)>,
    wakes: &mut Wakes,
    step: Step,
) {
    let now = world.now;
    match step {
        Step::Publish { count, delay_ms } => {
            let mut batch = Batch::new();
            let due = match delay_ms {
                0 => 0,
                ms => now.wall + i64::from(ms) * 1_000_000,
            };
            let numbers = world.published..world.published + u64::from(count);
            for number in numbers.clone() {
                batch.push(&number.to_be_bytes(), due);
            }
            let room = world.ephemeral_room();
            let stored = world.topic.publish(&mut batch, &world.ids, now, wakes);
            assert_eq!(stored.is_err(), world.is_failing, "{stored:?}");
            // Refused ones may be found after a crash, since the disk would not cut them off.
            world.published = numbers.end;
            if stored.is_ok() {
                world.unreleased.extend(numbers.map(|number| (number, due)));
                world.release(room);
            }
        }
        Step::CreateChannel(channel) => {
            let room = match world.channels.contains_key(&channel) {
                true => world.ephemeral_room(),
                false => MEM_QUEUE_SIZE as usize,
            };
            world.topic.create_channel(&channel_name(channel), now, wakes);
            world.channels.entry(channel).or_default();
            world.release(room);
            world.checkpoint(false);
        }
        Step::Pull { channel, consumer, rdy } => {
            pull(world, deadlines, joined, wakes, channel, consumer, rdy)
        }
        Step::Finish { channel, pick } => answer(world, channel, pick, |world, by, id, number| {
            world.topic.finish(&channel_name(channel), by, id, now).expect("held");
            world.channels.get_mut(&channel).expect("there").in_flight.remove(&number);
        }),
        Step::Requeue { channel, pick, delay_ms } => {
            answer(world, channel, pick, |world, by, id, number| {
                let delay = Duration::from_millis(delay_ms.into());
                let mut wakes = Wakes::default();
                world
                    .topic
                    .requeue(&channel_name(channel), by, id, delay, now, &mut wakes)
                    .expect("held");
                let owed = world.channels.get_mut(&channel).expect("there");
                let (_, attempts) = owed.in_flight.remove(&number).expect("held");
                let due = now.wall + i64::from(delay_ms) * 1_000_000;
                owed.waiting.insert(number, (attempts, if delay_ms == 0 { 0 } else { due }));
            });
        }
        Step::Touch { channel, pick } => {
            let mut touched = None;
            answer(world, channel, pick, |world, by, id, number| {
                world.topic.touch(&channel_name(channel), by, id, now).expect("held");
                touched = Some(number);
            });
            if let Some(number) = touched {
                deadlines.insert((channel, number), now.wall + MSG_TIMEOUT_MS * 1_000_000);
            }
        }
        Step::Leave { channel, consumer } => {
            let was_joined = joined.remove(&(channel, consumer));
            let by = ConsumerId(u64::from(consumer));
            world.topic.unsubscribe(&channel_name(channel), by, wakes);
            let is_empty = !joined.iter().any(|joined| joined.0 == channel);
            if channel == EPHEMERAL && was_joined && is_empty {
                world.channels.remove(&channel);
                world.checkpoint(false);
            }
            if let Some(owed) = world.channels.get_mut(&channel) {
                let held: Vec<_> = owed
                    .in_flight
                    .iter()
                    .filter(|(_, held)| held.0 == consumer)
                    .map(|(n, h)| (*n, h.1))
                    .collect();
                for (number, attempts) in held {
                    owed.in_flight.remove(&number);
                    owed.waiting.insert(number, (attempts, 0));
                }
            }
        }
        Step::Pass { ms } => {
            world.now.mono = now.mono + Duration::from_millis(ms.into());
            world.now.wall += i64::from(ms) * 1_000_000;
            world.topic.expire(world.now, wakes);
            world.expire_model(deadlines);
        }
        Step::Pause(is_paused) => {
            let room = world.ephemeral_room();
            world.topic.set_paused(is_paused, now, wakes);
            world.is_paused = is_paused;
            world.release(room);
            world.checkpoint(false);
        }
        Step::EmptyTopic => {
            world.topic.empty();
            world.unreleased.clear();
            world.checkpoint(false);
        }
        Step::EmptyChannel(channel) => {
            world.topic.empty_channel(&channel_name(channel), wakes);
            if let Some(owed) = world.channels.get_mut(&channel) {
                *owed = Owed::default();
            }
            world.checkpoint(false);
        }
        Step::DeleteChannel(channel) => {
            world.topic.delete_channel(&channel_name(channel));
            world.channels.remove(&channel);
            joined.retain(|joined| joined.0 != channel);
            world.checkpoint(false);
            world.files.remove(&channel_name(channel));
        }
        Step::Checkpoint => world.checkpoint(false),
        Step::Relocate => {
            let side_disk = world.side_disk.clone();
            let mut open = || Log::open(side_disk.clone(), log_options()).map(|(log, _)| log);
            match world.topic.relocate(&mut open) {
                Ok(true) => world.checkpoint(false),
                Ok(false) => {}
                Err(error) => assert!(world.is_failing, "{error}"),
            }
        }
        Step::Restart { is_clean } => restart(world, joined, is_clean),
        Step::Sync => {
            let synced = world.topic.sync_handle().map_or(Ok(()), |handle| handle.sync());
            if synced.is_ok() {
                world.unsynced_from = world.published;
            }
        }
        Step::PowerLoss { keep } => {
            world.doubtful.extend(world.unsynced_from..world.published);
            world.doubtful.append(&mut world.never_synced);
            world.is_depth_exact = false;
            let mut kept = |unsynced: u64| unsynced * u64::from(keep) / 255;
            world.disk.crash(&mut kept);
            world.side_disk.crash(&mut kept);
            restart(world, joined, false);
        }
        Step::Disk { is_failing } => world.fail(is_failing),
    }
    compare_depths(world);
}

fn restart(world: &mut World, joined: &mut BTreeSet<(u8, u8)>, is_clean: bool) {
    world.never_synced.extend(world.unsynced_from..world.published);
    world.unsynced_from = world.published;
    let had_ephemeral = world.channels.remove(&EPHEMERAL).is_some();
    if is_clean {
        world.checkpoint(true);
    }
    if !is_clean || world.has_failed {
        world.is_exact = false;
        // What went to it, or was emptied while nothing could be written, may be in the topic.
        world.is_depth_exact &= !had_ephemeral && !world.has_failed;
    }
    joined.clear();
    world.restart();
    // What was done while nothing could be written may be forgotten.
    let before = world.channels.len();
    let topic = &world.topic;
    world.channels.retain(|&channel, _| topic.has_channel(&channel_name(channel)));
    if world.channels.len() < before || topic.is_paused() != world.is_paused {
        world.is_paused = topic.is_paused();
        world.is_depth_exact = false;
        world.doubtful.extend(0..world.published);
        world.release(MEM_QUEUE_SIZE as usize);
    }
    for owed in world.channels.values_mut() {
        for (number, (_, attempts)) in std::mem::take(&mut owed.in_flight) {
            owed.waiting.insert(number, (attempts, 0));
        }
    }
}

fn pull(
    world: &mut World,
    deadlines: &mut BTreeMap<(u8, u64), i64>,
    joined: &mut BTreeSet<(u8, u8)>,
    wakes: &mut Wakes,
    channel: u8,
    consumer: u8,
    rdy: u8,
) {
    if !world.channels.contains_key(&channel) {
        return;
    }
    let (name, by, now) = (channel_name(channel), ConsumerId(u64::from(consumer)), world.now);
    if joined.insert((channel, consumer)) {
        let settings = ConsumerSettings {
            id: by,
            signal: Arc::new(Quiet),
            msg_timeout: Duration::from_millis(MSG_TIMEOUT_MS.unsigned_abs()),
            sample_rate: 0,
            locality: Locality::Global,
            seed: 1,
        };
        world.topic.subscribe(&name, settings).expect("subscribes");
    }
    world.topic.set_ready(&name, by, rdy.into());
    let limits = PullLimits { messages_max: 100, bytes_max: 1 << 20 };
    let mut got = Vec::new();
    world
        .topic
        .pull(&name, by, limits, now, wakes, &mut |message| {
            let number = u64::from_be_bytes(message.body.try_into().expect("eight bytes"));
            got.push((number, message.id, message.attempts));
        })
        .expect("the disk is fine");
    let owed = world.channels.get_mut(&channel).expect("there");
    for (number, id, attempts) in got {
        world.seen_ids.insert(number, id);
        assert!(!owed.in_flight.contains_key(&number), "{number} was in flight already");
        let waiting = owed.waiting.remove(&number);
        if world.is_exact {
            let (before, not_before) = waiting.expect("delivered what is not owed");
            assert_eq!(attempts, before + 1, "attempts of {number}");
            assert!(not_before <= now.wall, "{number} came before its time");
        }
        owed.in_flight.insert(number, (consumer, attempts));
        deadlines.insert((channel, number), now.wall + MSG_TIMEOUT_MS * 1_000_000);
    }
}

fn answer(
    world: &mut World,
    channel: u8,
    pick: u8,
    act: impl FnOnce(&mut World, ConsumerId, u64, u64),
) {
    let Some(owed) = world.channels.get(&channel) else { return };
    if owed.in_flight.is_empty() {
        return;
    }
    let index = usize::from(pick) % owed.in_flight.len();
    let (&number, &(consumer, _)) = owed.in_flight.iter().nth(index).expect("within");
    let id = world.seen_ids[&number];
    act(world, ConsumerId(consumer.into()), id, number);
}

/// Depths, in-flight and deferred counts are what the model says, while no crash blurred them.
fn compare_depths(world: &mut World) {
    let stats = world.topic.stats(world.now, &|_| true);
    if world.is_depth_exact {
        assert_eq!(stats.depth, world.unreleased.len() as u64, "topic depth");
    }
    if !world.is_exact {
        return;
    }
    for channel in stats.channels {
        let number: u8 = channel.name[1..2].parse().expect("our names");
        let owed = &world.channels[&number];
        assert_eq!(channel.in_flight_count, owed.in_flight.len() as u64, "in flight");
        let total = channel.depth + channel.deferred_count;
        assert_eq!(total, owed.waiting.len() as u64, "depth and deferred of {}", channel.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_message_is_lost_or_in_two_places_whatever_happens(steps in steps()) {
        run(steps);
    }
}
