//! The lines of one report, packed into datagrams.
//!
//! Names, types and order are nsqd's. Source: `statsdLoop`, nsqd/statsd.go (nsq 3103474b).

use std::collections::BTreeMap;
use std::io::Write as _;

use grapevine_broker::{ChannelStats, TopicStats};
use grapevine_protocol::documents::MemoryStats;
use grapevine_protocol::{ChannelName, TopicName};
use hdrhistogram::Histogram;

use crate::node::figures::latency_ns;

/// Counters as they were last reported: a report tells what was added since.
#[derive(Debug, Default)]
pub(super) struct Reported {
    topics: BTreeMap<TopicName, TopicCounters>,
}

#[derive(Debug)]
struct TopicCounters {
    /// Tells a topic from one of the same name that was deleted.
    number: u64,
    message_count: u64,
    message_bytes: u64,
    channels: BTreeMap<ChannelName, ChannelCounters>,
}

#[derive(Clone, Copy, Debug, Default)]
struct ChannelCounters {
    message_count: u64,
    requeue_count: u64,
    timeout_count: u64,
}

/// A report in the making.
#[derive(Debug)]
pub(super) struct Report<'a> {
    prefix: &'a str,
    packet_bytes_max: usize,
    quantiles: &'a [f64],
    before: Reported,
    after: Reported,
    packets: Vec<Vec<u8>>,
    line: Vec<u8>,
}

impl<'a> Report<'a> {
    /// An empty report in datagrams of at most `packet_bytes_max` bytes.
    ///
    /// `quantiles` are those that topics keep their latencies for.
    pub(super) fn new(
        prefix: &'a str,
        packet_bytes_max: usize,
        quantiles: &'a [f64],
        before: Reported,
    ) -> Self {
        Self {
            prefix,
            packet_bytes_max,
            quantiles,
            before,
            after: Reported::default(),
            packets: Vec::new(),
            line: Vec::new(),
        }
    }

    /// Adds a topic and its channels; `number` is the topic's own, unlike its name.
    pub(super) fn topic(&mut self, number: u64, stats: &TopicStats) {
        let before = self.before.topics.remove(&stats.name);
        // nsqd subtracts the deleted topic's counters from those of the new one.
        let before = before.filter(|before| before.number == number);
        let mut before = before.unwrap_or(TopicCounters {
            number,
            message_count: 0,
            message_bytes: 0,
            channels: BTreeMap::new(),
        });
        let name = format!("topic.{}", stats.name);
        self.counter(&name, "message_count", added(stats.message_count, before.message_count));
        self.counter(&name, "message_bytes", added(stats.message_bytes, before.message_bytes));
        self.gauge(&name, "depth", stats.depth);
        self.gauge(&name, "backend_depth", stats.backend_depth);
        self.latency(&name, stats.latency.as_ref());
        let mut channels = BTreeMap::new();
        for channel in &stats.channels {
            let before = before.channels.remove(&channel.name).unwrap_or_default();
            channels.insert(channel.name.clone(), self.channel(&name, channel, before));
        }
        let after = TopicCounters {
            number,
            message_count: stats.message_count,
            message_bytes: stats.message_bytes,
            channels,
        };
        self.after.topics.insert(stats.name.clone(), after);
    }

    /// Adds the memory of the process. There is no collector, so it never runs.
    pub(super) fn memory(&mut self, memory: &MemoryStats) {
        for (name, value) in memory.gauges() {
            self.gauge("mem", name, value);
        }
        self.counter("mem", "gc_runs", 0);
    }

    /// The datagrams, and what the next report compares with.
    pub(super) fn finish(self) -> (Vec<Vec<u8>>, Reported) {
        (self.packets, self.after)
    }

    fn channel(
        &mut self,
        topic: &str,
        stats: &ChannelStats,
        before: ChannelCounters,
    ) -> ChannelCounters {
        let name = format!("{topic}.channel.{}", stats.name);
        self.counter(&name, "message_count", added(stats.message_count, before.message_count));
        self.gauge(&name, "depth", stats.depth);
        self.gauge(&name, "backend_depth", stats.backend_depth);
        self.gauge(&name, "in_flight_count", stats.in_flight_count);
        self.gauge(&name, "deferred_count", stats.deferred_count);
        self.counter(&name, "requeue_count", added(stats.requeue_count, before.requeue_count));
        self.counter(&name, "timeout_count", added(stats.timeout_count, before.timeout_count));
        self.gauge(&name, "clients", stats.consumers.len() as u64);
        self.latency(&name, stats.latency.as_ref());
        ChannelCounters {
            message_count: stats.message_count,
            requeue_count: stats.requeue_count,
            timeout_count: stats.timeout_count,
        }
    }

    fn latency(&mut self, name: &str, latency: Option<&Histogram<u64>>) {
        let Some(latency) = latency else { return };
        for quantile in self.quantiles {
            // Dashboards know these names, so 0.999 is rounded to 100 as well.
            let figure = format!("e2e_processing_latency_{:.0}", quantile * 100.0);
            self.gauge(name, &figure, latency_ns(latency, *quantile));
        }
    }

    fn counter(&mut self, name: &str, figure: &str, added: u64) {
        self.add(name, figure, added, 'c');
    }

    fn gauge(&mut self, name: &str, figure: &str, value: u64) {
        self.add(name, figure, value, 'g');
    }

    /// Adds a line to the last datagram, or to a new one if it does not fit whole.
    fn add(&mut self, name: &str, figure: &str, value: u64, kind: char) {
        self.line.clear();
        writeln!(self.line, "{}{name}.{figure}:{value}|{kind}", self.prefix)
            .expect("memory takes every byte");
        match self.packets.last_mut() {
            Some(last) if last.len() + self.line.len() <= self.packet_bytes_max => {
                last.extend_from_slice(&self.line);
            }
            Some(_) | None => self.packets.push(self.line.clone()),
        }
    }
}

/// What a counter grew by; a channel that was deleted and made again starts over.
const fn added(now: u64, before: u64) -> u64 {
    match now.checked_sub(before) {
        Some(added) => added,
        None => now,
    }
}

#[cfg(test)]
mod tests {
    use grapevine_broker::ConsumerStats;

    use super::*;

    fn channel(name: &str) -> ChannelStats {
        ChannelStats {
            name: ChannelName::new(name).unwrap(),
            depth: 1,
            backend_depth: 2,
            in_flight_count: 3,
            deferred_count: 4,
            message_count: 5,
            requeue_count: 6,
            timeout_count: 7,
            zone_local_count: 0,
            region_local_count: 0,
            global_count: 0,
            is_paused: false,
            latency: None,
            consumers: [(grapevine_broker::ConsumerId(1), ConsumerStats::default())].into(),
        }
    }

    fn topic(message_count: u64, channels: Vec<ChannelStats>) -> TopicStats {
        TopicStats {
            name: TopicName::new("t").unwrap(),
            depth: 8,
            backend_depth: 9,
            message_count,
            message_bytes: 10 * message_count,
            is_paused: false,
            latency: None,
            channels,
        }
    }

    /// One report about one topic, as text.
    fn report(number: u64, stats: &TopicStats, before: Reported) -> (String, Reported) {
        let mut report = Report::new("p.", 10_000, &[], before);
        report.topic(number, stats);
        let (packets, after) = report.finish();
        (String::from_utf8(packets.concat()).unwrap(), after)
    }

    #[test]
    fn every_figure_has_the_name_the_type_and_the_place_it_has_in_nsqd() {
        let mut report = Report::new("p.", 10_000, &[], Reported::default());
        report.topic(1, &topic(11, vec![channel("c#ephemeral")]));
        report.memory(&MemoryStats { heap_in_use_bytes: 12, ..MemoryStats::default() });
        let (packets, _) = report.finish();
        let expected = "p.topic.t.message_count:11|c
p.topic.t.message_bytes:110|c
p.topic.t.depth:8|g
p.topic.t.backend_depth:9|g
p.topic.t.channel.c#ephemeral.message_count:5|c
p.topic.t.channel.c#ephemeral.depth:1|g
p.topic.t.channel.c#ephemeral.backend_depth:2|g
p.topic.t.channel.c#ephemeral.in_flight_count:3|g
p.topic.t.channel.c#ephemeral.deferred_count:4|g
p.topic.t.channel.c#ephemeral.requeue_count:6|c
p.topic.t.channel.c#ephemeral.timeout_count:7|c
p.topic.t.channel.c#ephemeral.clients:1|g
p.mem.heap_objects:0|g
p.mem.heap_idle_bytes:0|g
p.mem.heap_in_use_bytes:12|g
p.mem.heap_released_bytes:0|g
p.mem.gc_pause_usec_100:0|g
p.mem.gc_pause_usec_99:0|g
p.mem.gc_pause_usec_95:0|g
p.mem.next_gc_bytes:0|g
p.mem.gc_runs:0|c
";
        assert_eq!(String::from_utf8(packets.concat()).unwrap(), expected);
    }

    #[test]
    fn counters_are_told_as_what_was_added_and_zeros_are_told_too() {
        let (_, reported) = report(1, &topic(5, vec![channel("c")]), Reported::default());
        let (text, reported) = report(1, &topic(7, vec![channel("c")]), reported);
        assert!(text.contains("p.topic.t.message_count:2|c\n"), "{text}");
        assert!(text.contains("p.topic.t.message_bytes:20|c\n"), "{text}");
        assert!(text.contains("p.topic.t.channel.c.requeue_count:0|c\n"), "{text}");
        assert_eq!(reported.topics.len(), 1);
    }

    #[test]
    fn a_topic_that_was_deleted_and_made_again_counts_from_zero() {
        let (_, reported) = report(1, &topic(5, vec![channel("c")]), Reported::default());
        let (text, _) = report(2, &topic(6, vec![channel("c")]), reported);
        assert!(text.contains("p.topic.t.message_count:6|c\n"), "{text}");
        assert!(text.contains("p.topic.t.channel.c.message_count:5|c\n"), "{text}");
    }

    #[test]
    fn a_channel_that_was_deleted_and_made_again_counts_from_zero() {
        let (_, reported) = report(1, &topic(5, vec![channel("c")]), Reported::default());
        let again = ChannelStats { message_count: 1, requeue_count: 0, ..channel("c") };
        let (text, _) = report(1, &topic(5, vec![again]), reported);
        assert!(text.contains("p.topic.t.channel.c.message_count:1|c\n"), "{text}");
        assert!(text.contains("p.topic.t.channel.c.requeue_count:0|c\n"), "{text}");
    }

    #[test]
    fn what_is_gone_is_not_remembered() {
        let (_, reported) = report(1, &topic(5, vec![channel("c")]), Reported::default());
        let (_, reported) = report(1, &topic(5, vec![]), reported);
        assert!(reported.topics["t"].channels.is_empty());
        let (_, reported) = Report::new("", 100, &[], reported).finish();
        assert!(reported.topics.is_empty());
    }

    #[test]
    fn lines_are_packed_whole_and_one_that_is_too_long_goes_alone() {
        let mut report = Report::new("", 60, &[], Reported::default());
        report.topic(1, &topic(1, vec![channel(&"c".repeat(64))]));
        let (packets, _) = report.finish();
        let first = "topic.t.message_count:1|c\ntopic.t.message_bytes:10|c\n";
        assert_eq!(packets[0], first.as_bytes());
        assert!(packets.iter().all(|packet| packet.ends_with(b"\n")));
        let lines = |packet: &Vec<u8>| packet.iter().filter(|byte| **byte == b'\n').count();
        assert!(packets.iter().all(|packet| packet.len() <= 60 || lines(packet) == 1));
        assert_eq!(packets.iter().map(lines).sum::<usize>(), 12);
    }

    #[test]
    fn percentiles_are_named_in_whole_hundredths_as_nsqd_names_them() {
        let mut latency = Histogram::new_with_bounds(1, 1_000_000, 2).unwrap();
        latency.record(100).unwrap();
        let stats = TopicStats { latency: Some(latency), ..topic(1, vec![]) };
        let mut report = Report::new("", 10_000, &[1.0, 0.999, 0.95, 0.5], Reported::default());
        report.topic(1, &stats);
        let text = String::from_utf8(report.finish().0.concat()).unwrap();
        let percentiles: Vec<&str> =
            text.lines().filter_map(|line| line.split_once("latency_")).map(|two| two.1).collect();
        assert_eq!(percentiles, ["100:100000|g", "100:100000|g", "95:100000|g", "50:100000|g"]);
    }
}
