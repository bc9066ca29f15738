//! `/stats` for people (http-api, section 3).

use std::fmt::Write as _;

use super::stats::{ChannelStats, ClientStats, E2eLatency, MemoryStats, StatsDocument, TopicStats};
use crate::duration::go_duration;

/// What the text form shows beyond the JSON form.
#[derive(Clone, Copy, Debug)]
pub struct StatsTextHead<'a> {
    /// The start of the process, RFC 3339 with seconds.
    pub start_time: &'a str,
    /// Nanoseconds since then.
    pub uptime_ns: i64,
    /// Now, in unix seconds, for the age of connections.
    pub now: i64,
}

/// `stats` as `/stats` without `format=json` shows them.
pub fn stats_text(stats: &StatsDocument, head: &StatsTextHead<'_>) -> String {
    let mut out = String::with_capacity(1024);
    // Writing to a string cannot fail.
    let _ = write_head(&mut out, stats, head);
    let topics = stats.topics.as_deref().unwrap_or_default();
    out.push_str(if topics.is_empty() { "\nTopics: None\n" } else { "\nTopics:" });
    for topic in topics {
        let _ = write_topic(&mut out, topic, head.now);
    }
    let producers = stats.producers.as_deref().unwrap_or_default();
    out.push_str(if producers.is_empty() { "\nProducers: None\n" } else { "\nProducers:\n" });
    for client in producers {
        out.push_str("   ");
        let _ = write_client(&mut out, client, head.now);
    }
    out
}

fn write_head(
    out: &mut String,
    stats: &StatsDocument,
    head: &StatsTextHead<'_>,
) -> std::fmt::Result {
    writeln!(out, "nsqd v{} (built w/rust)", stats.version)?;
    writeln!(out, "start_time {}", head.start_time)?;
    writeln!(out, "uptime {}", go_duration(head.uptime_ns))?;
    writeln!(out, "\nHealth: {}", stats.health)?;
    match &stats.memory {
        Some(memory) => write_memory(out, memory),
        None => Ok(()),
    }
}

fn write_memory(out: &mut String, memory: &MemoryStats) -> std::fmt::Result {
    out.push_str("\nMemory:\n");
    let runs = ("gc_total_runs", u64::from(memory.gc_total_runs));
    for (key, value) in memory.gauges().into_iter().chain([runs]) {
        writeln!(out, "   {key:<25}\t{value}")?;
    }
    Ok(())
}

fn write_topic(out: &mut String, topic: &TopicStats, now: i64) -> std::fmt::Result {
    let TopicStats { topic_name, depth, backend_depth, message_count, .. } = topic;
    let prefix = if topic.paused { "*P " } else { "   " };
    let latency = human_latency(&topic.e2e_processing_latency);
    writeln!(
        out,
        "\n{prefix}[{topic_name:<15}] depth: {depth:<5} be-depth: {backend_depth:<5} \
         msgs: {message_count:<8} e2e%: {latency}"
    )?;
    for channel in &topic.channels {
        write_channel(out, channel, now)?;
    }
    Ok(())
}

fn write_channel(out: &mut String, channel: &ChannelStats, now: i64) -> std::fmt::Result {
    let ChannelStats { channel_name, depth, backend_depth, in_flight_count, .. } = channel;
    let ChannelStats { deferred_count, requeue_count, timeout_count, message_count, .. } = channel;
    let prefix = if channel.paused { "   *P " } else { "      " };
    let latency = human_latency(&channel.e2e_processing_latency);
    writeln!(
        out,
        "{prefix}[{channel_name:<25}] depth: {depth:<5} be-depth: {backend_depth:<5} \
         inflt: {in_flight_count:<4} def: {deferred_count:<4} re-q: {requeue_count:<5} \
         timeout: {timeout_count:<5} msgs: {message_count:<8} e2e%: {latency}"
    )?;
    for client in channel.clients.as_deref().unwrap_or_default() {
        out.push_str("        ");
        write_client(out, client, now)?;
    }
    Ok(())
}

fn write_client(out: &mut String, client: &ClientStats, now: i64) -> std::fmt::Result {
    let ClientStats { version, state, in_flight_count, ready_count, .. } = client;
    let ClientStats { finish_count, requeue_count, message_count, .. } = client;
    let port = client.remote_address.rsplit_once(':').map_or("", |(_, port)| port);
    let id = format!("{}:{port} {}", client.hostname, client.user_agent);
    let age = now.saturating_sub(client.connect_ts).saturating_mul(1_000_000_000);
    let connected = go_duration(age);
    if client.pub_counts.is_empty() {
        return writeln!(
            out,
            "[{version} {id:<21}] state: {state} inflt: {in_flight_count:<4} \
             rdy: {ready_count:<4} fin: {finish_count:<8} re-q: {requeue_count:<8} \
             msgs: {message_count:<8} connected: {connected}"
        );
    }
    let total: u64 = client.pub_counts.iter().map(|published| published.count).sum();
    let counts = client.pub_counts.iter();
    let counts: Vec<_> = counts.map(|each| format!("{}={}", each.topic, each.count)).collect();
    let topics = counts.join(",");
    writeln!(out, "[{version} {id:<21}] msgs: {total:<8} topics: {topics} connected: {connected}")
}

/// Comma-separated latencies in the largest unit they exceed one of.
fn human_latency(latency: &E2eLatency) -> String {
    let percentiles = latency.percentiles.as_deref().unwrap_or_default();
    let human: Vec<_> =
        percentiles.iter().map(|percentile| human_nanos(percentile.value)).collect();
    human.join(", ")
}

fn human_nanos(nanos: f64) -> String {
    let (unit_ns, unit) = match nanos {
        _ if nanos > 1e9 => (1e9, "s"),
        _ if nanos > 1e6 => (1e6, "ms"),
        _ if nanos > 1e3 => (1e3, "us"),
        _ => (1.0, "ns"),
    };
    format!("{:.1}{unit}", nanos / unit_ns)
}

#[cfg(test)]
mod tests {
    use super::super::stats::{Percentile, PubCount};
    use super::*;

    const HEAD: StatsTextHead<'static> = StatsTextHead {
        start_time: "2024-01-02T03:04:05Z",
        uptime_ns: 61_500_000_000,
        now: 1_000_090,
    };

    #[test]
    fn an_empty_node_says_none() {
        let stats = StatsDocument {
            version: "1.3.0".into(),
            health: "OK".into(),
            ..StatsDocument::default()
        };
        let want = "nsqd v1.3.0 (built w/rust)\nstart_time 2024-01-02T03:04:05Z\nuptime 1m1.5s\n\n\
                    Health: OK\n\nTopics: None\n\nProducers: None\n";
        assert_eq!(stats_text(&stats, &HEAD), want);
    }

    #[test]
    fn topics_channels_and_clients_are_laid_out_as_nsqd_does() {
        let client = ClientStats {
            hostname: "h".into(),
            version: "V2".into(),
            remote_address: "127.0.0.1:5000".into(),
            user_agent: "ua/1".into(),
            state: 3,
            connect_ts: 1_000_000,
            ..ClientStats::default()
        };
        let producer = ClientStats {
            pub_counts: vec![PubCount { topic: "t".into(), count: 7 }],
            ..client.clone()
        };
        let percentiles = vec![Percentile { quantile: 1.0, value: 259_800_000.0 }];
        let channel = ChannelStats {
            channel_name: "ch".into(),
            paused: true,
            clients: Some(vec![client]),
            e2e_processing_latency: E2eLatency { count: 1, percentiles: Some(percentiles) },
            ..ChannelStats::default()
        };
        let topic = TopicStats {
            topic_name: "t".into(),
            message_count: 3,
            channels: vec![channel],
            ..TopicStats::default()
        };
        let stats = StatsDocument {
            topics: Some(vec![topic]),
            producers: Some(vec![producer]),
            ..StatsDocument::default()
        };
        let text = stats_text(&stats, &HEAD);
        let tail = text.split_once("\nTopics:").expect("there are topics").1;
        let want = "\n   [t              ] depth: 0     be-depth: 0     msgs: 3        e2e%: \n   \
                    *P [ch                       ] depth: 0     be-depth: 0     inflt: 0    \
                    def: 0    re-q: 0     timeout: 0     msgs: 0        e2e%: 259.8ms\n        \
                    [V2 h:5000 ua/1          ] state: 3 inflt: 0    rdy: 0    fin: 0        \
                    re-q: 0        msgs: 0        connected: 1m30s\n\nProducers:\n   \
                    [V2 h:5000 ua/1          ] msgs: 7        topics: t=7 connected: 1m30s\n";
        assert_eq!(tail, want);
    }

    #[test]
    fn memory_is_listed_when_it_was_asked_for() {
        let memory = MemoryStats { heap_objects: 12, ..MemoryStats::default() };
        let stats = StatsDocument { memory: Some(memory), ..StatsDocument::default() };
        let text = stats_text(&stats, &HEAD);
        assert!(text.contains("\nMemory:\n   heap_objects             \t12\n"), "{text}");
        assert!(text.contains("   gc_total_runs            \t0\n\nTopics: None"), "{text}");
    }
}
