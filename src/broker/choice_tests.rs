//! Promises about who gets a message: nearness, sampling, the limit of consumers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use grapevine_protocol::TopicName;
use grapevine_storage::MemoryDisk;

use crate::edge_tests::{NOW, Woken, channel, open, publish, settings, topic_named};
use crate::{
    ConsumerId, ConsumerSettings, Delivery, IdSource, Locality, PullLimits, Settings, Signal,
    SubscribeError, Topic, Wakes,
};

const NEAR: ConsumerId = ConsumerId(1);
const SAME_REGION: ConsumerId = ConsumerId(2);
const FAR: ConsumerId = ConsumerId(3);

struct Wanted {
    id: ConsumerId,
    locality: Locality,
    sample_rate: u8,
    seed: u64,
}

impl Wanted {
    const fn at(id: ConsumerId, locality: Locality) -> Self {
        Self { id, locality, sample_rate: 0, seed: 1 }
    }
}

fn subscribe(topic: &mut Topic<MemoryDisk>, wanted: Wanted) -> Result<Arc<Woken>, SubscribeError> {
    let signal = Arc::new(Woken::default());
    let settings = ConsumerSettings {
        id: wanted.id,
        signal: Arc::clone(&signal) as Arc<dyn Signal>,
        msg_timeout: Duration::from_secs(60),
        sample_rate: wanted.sample_rate,
        locality: wanted.locality,
        seed: wanted.seed,
    };
    topic.subscribe("c", settings)?;
    Ok(signal)
}

/// A channel whose far consumer has waited longest, each of them with room for `rdy` messages.
fn three_that_wait(rdy: u64) -> (Topic<MemoryDisk>, [Arc<Woken>; 3]) {
    let mut topic = topic_named("t", &MemoryDisk::default(), 100);
    channel(&mut topic, "c");
    let places = [(FAR, Locality::Global), (SAME_REGION, Locality::Region), (NEAR, Locality::Zone)];
    let signals = places.map(|(id, locality)| {
        let signal = subscribe(&mut topic, Wanted::at(id, locality)).expect("subscribes");
        topic.set_ready("c", id, rdy);
        assert!(topic.park("c", id, NOW, &mut Wakes::default()), "nothing to take yet");
        signal
    });
    (topic, signals)
}

fn woken(signals: &[Arc<Woken>; 3]) -> [u64; 3] {
    signals.each_ref().map(|signal| signal.0.load(Ordering::Relaxed))
}

/// How many messages `by` takes in one pull.
fn pull(topic: &mut Topic<MemoryDisk>, by: ConsumerId) -> u64 {
    let limits = PullLimits { messages_max: 10_000, bytes_max: 1 << 20 };
    let mut wakes = Wakes::default();
    let pulled = topic.pull("c", by, limits, NOW, &mut wakes, &mut |_| {}).expect("reads");
    wakes.wake();
    pulled.count
}

/// Deliveries to the zone, the region and elsewhere.
fn localities(topic: &mut Topic<MemoryDisk>) -> [u64; 3] {
    let channel = topic.stats(NOW, &|_| true).channels.remove(0);
    [channel.zone_local_count, channel.region_local_count, channel.global_count]
}

#[test]
fn a_message_goes_to_the_nearest_of_those_that_wait() {
    let (mut topic, signals) = three_that_wait(1);
    let ids = IdSource::new(1, 0);
    publish(&mut topic, &ids, &["a"], 0);
    assert_eq!(woken(&signals), [0, 0, 1], "though it has waited for the shortest time");
    publish(&mut topic, &ids, &["b"], 0);
    assert_eq!(woken(&signals), [0, 1, 1], "the near one is busy");
    publish(&mut topic, &ids, &["c"], 0);
    assert_eq!(woken(&signals), [1, 1, 1]);
    for id in [FAR, SAME_REGION, NEAR] {
        assert_eq!(pull(&mut topic, id), 1);
    }
    assert_eq!(localities(&mut topic), [1, 1, 1]);
}

#[test]
fn a_burst_goes_farther_only_when_the_near_ones_are_full() {
    let (mut topic, signals) = three_that_wait(2);
    publish(&mut topic, &IdSource::new(1, 0), &["a", "b"], 0);
    assert_eq!(woken(&signals), [0, 0, 1]);
    assert_eq!(pull(&mut topic, NEAR), 2);

    let (mut topic, signals) = three_that_wait(2);
    publish(&mut topic, &IdSource::new(1, 0), &["a", "b", "c", "d"], 0);
    assert_eq!(woken(&signals), [0, 1, 1]);
    assert_eq!([pull(&mut topic, NEAR), pull(&mut topic, SAME_REGION)], [2, 2]);
    assert_eq!(localities(&mut topic), [2, 2, 0]);
}

#[test]
fn a_message_requeued_is_offered_near_first_and_counted_again() {
    let (mut topic, signals) = three_that_wait(1);
    publish(&mut topic, &IdSource::new(1, 0), &["a"], 0);
    let mut taken = 0;
    let limits = PullLimits { messages_max: 1, bytes_max: 1 };
    let mut deliver = |message: Delivery<'_>| taken = message.id;
    let mut wakes = Wakes::default();
    topic.pull("c", NEAR, limits, NOW, &mut wakes, &mut deliver).expect("reads");

    // The near one has no room until it answers, and does not wait again before its next turn.
    topic.requeue("c", NEAR, taken, Duration::ZERO, NOW, &mut wakes).expect("in flight");
    wakes.wake();
    assert_eq!(woken(&signals), [0, 1, 1]);
    assert_eq!(pull(&mut topic, SAME_REGION), 1);
    assert_eq!(localities(&mut topic), [1, 1, 0]);
}

#[test]
fn a_sampled_share_is_delivered_and_the_rest_is_gone() {
    let mut shares = Vec::new();
    for seed in 1..=5 {
        let mut topic = topic_named("t", &MemoryDisk::default(), 100);
        channel(&mut topic, "c");
        let wanted = Wanted { sample_rate: 20, seed, ..Wanted::at(NEAR, Locality::Zone) };
        subscribe(&mut topic, wanted).expect("subscribes");
        topic.set_ready("c", NEAR, 2_500);
        publish(&mut topic, &IdSource::new(1, 0), &["x"; 1_000], 0);
        let share = pull(&mut topic, NEAR);
        // One draw of 0 to 99 for each message; 0 to 20 are delivered. Six deviations are 77.
        assert!((133..=287).contains(&share), "{share} of 1,000");
        let figures = topic.stats(NOW, &|_| true).channels.remove(0);
        assert_eq!((figures.depth, figures.in_flight_count), (0, share));
        assert_eq!(figures.consumers[&NEAR].message_count, share);
        assert_eq!(figures.zone_local_count, 1_000, "counted before the draw, as in nsqd");
        shares.push(share);
    }
    shares.dedup();
    assert!(shares.len() > 1, "each connection draws for itself: {shares:?}");
}

#[test]
fn a_pull_that_samples_everything_out_ends_after_as_many_bytes_as_any_other() {
    let mut topic = topic_named("t", &MemoryDisk::default(), 100);
    channel(&mut topic, "c");
    let wanted = Wanted { sample_rate: 1, ..Wanted::at(NEAR, Locality::Global) };
    subscribe(&mut topic, wanted).expect("subscribes");
    topic.set_ready("c", NEAR, 2_500);
    publish(&mut topic, &IdSource::new(1, 0), &["123456789"; 1_000], 0);
    let limits = PullLimits { messages_max: 512, bytes_max: 1_000 };
    let mut wakes = Wakes::default();
    let pulled = topic.pull("c", NEAR, limits, NOW, &mut wakes, &mut |_| {}).expect("reads");
    assert!(pulled.has_more, "{pulled:?}");
    assert_eq!(topic.stats(NOW, &|_| true).channels[0].depth, 900, "ten bytes are one message");
}

#[test]
fn a_channel_takes_as_many_consumers_as_it_may_and_another_when_one_has_left() {
    let settings = Settings { channel_consumers_max: 2, ..(*settings(100)).clone() };
    let log = open(&MemoryDisk::default());
    let mut topic = Topic::new(TopicName::new("t").expect("valid"), log, Arc::new(settings));
    channel(&mut topic, "c");
    let mut wakes = Wakes::default();
    let try_subscribe = |topic: &mut Topic<MemoryDisk>, id| {
        subscribe(topic, Wanted::at(id, Locality::Global)).map(|_| ())
    };
    assert_eq!(try_subscribe(&mut topic, NEAR), Ok(()));
    assert_eq!(try_subscribe(&mut topic, FAR), Ok(()));
    let refused = Err(SubscribeError::TooManyConsumers(2));
    assert_eq!(try_subscribe(&mut topic, SAME_REGION), refused);
    topic.unsubscribe("c", FAR, &mut wakes);
    assert_eq!(try_subscribe(&mut topic, SAME_REGION), Ok(()));
}
