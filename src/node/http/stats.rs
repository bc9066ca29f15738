//! `/stats`: the figures of this node, as JSON or for people.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use grapevine_admin::{ApiError, Query, json, text};
use grapevine_broker::{
    ChannelStats as BrokerChannel, ConsumerId, ConsumerStats, TopicStats as BrokerTopic,
};
use grapevine_protocol::documents::{
    ChannelStats, ClientStats, E2eLatency, Percentile, PubCount, StatsDocument, StatsTextHead,
    TopicStats, stats_text,
};
use grapevine_protocol::{TopicName, VERSION};
use hdrhistogram::Histogram;

use super::status::WithDrain;
use crate::node::figures::{latency_ns, memory};
use crate::node::{Client, Node, wall_ns};

/// `GET /stats`. Unknown names are no error; they match nothing.
///
/// Source: `doStats`, nsqd/http.go, and `GetStats`, nsqd/stats.go (nsq 3103474b).
pub(super) async fn stats(
    State(node): State<Arc<Node>>,
    query: Query,
) -> Result<Response, ApiError> {
    let filter = Filter {
        topic: query.first("topic").unwrap_or_default(),
        channel: query.first("channel").unwrap_or_default(),
        has_clients: is_wanted(&query, "include_clients"),
    };
    let mut document = gather(&node, &filter);
    document.memory = is_wanted(&query, "include_mem").then(memory);
    if query.first("format") == Some("json") {
        let draining = node.registry.drain.is_on();
        return Ok(json(&WithDrain { document, draining }));
    }
    let now_ns = wall_ns();
    let start_time = jiff::Timestamp::from_second(node.start_time).unwrap_or_default().to_string();
    let head = StatsTextHead {
        start_time: &start_time,
        uptime_ns: now_ns.saturating_sub(node.start_time.saturating_mul(NS_PER_SECOND)),
        now: now_ns / NS_PER_SECOND,
    };
    Ok(text(stats_text(&document, &head)))
}

const NS_PER_SECOND: i64 = 1_000_000_000;

/// What `/stats` is asked for; an empty name is all of them.
struct Filter<'a> {
    topic: &'a str,
    channel: &'a str,
    has_clients: bool,
}

/// `false` and `0` switch something off; every other value leaves it on.
fn is_wanted(query: &Query, key: &str) -> bool {
    !matches!(query.first(key), Some("false" | "0"))
}

fn gather(node: &Node, filter: &Filter<'_>) -> StatsDocument {
    let registry = &node.registry;
    let mut document = StatsDocument {
        version: VERSION.to_owned(),
        health: registry.health().text(),
        start_time: node.start_time,
        ..StatsDocument::default()
    };
    let topics = match filter.topic {
        "" => registry.all_topics(),
        name => match registry.existing_topic(name) {
            Some(topic) => vec![topic],
            None => return document, // nsqd stops here too: topics and producers are null
        },
    };
    let wants = |name: &str| filter.channel.is_empty() || filter.channel == name;
    let gathered: Vec<BrokerTopic> = topics
        .iter()
        .map(|topic| topic.stats(&|name| wants(name)))
        .filter(|topic| filter.channel.is_empty() || !topic.channels.is_empty())
        .collect();
    let clients = Clients::of(node, filter, &gathered);
    let quantiles = &node.options.e2e_processing_latency_percentiles;
    let shown = gathered.into_iter().map(|topic| clients.topic(topic, quantiles));
    document.topics = Some(shown.collect());
    document.producers = clients.producers(filter.topic);
    document
}

/// The node's connections, with the figures their channels keep about them.
struct Clients {
    /// `None` when nobody asked for clients.
    by_id: Option<BTreeMap<ConsumerId, Arc<Client>>>,
    figures: BTreeMap<ConsumerId, ConsumerStats>,
}

impl Clients {
    fn of(node: &Node, filter: &Filter<'_>, topics: &[BrokerTopic]) -> Self {
        let by_id = filter
            .has_clients
            .then(|| node.clients().into_iter().map(|client| (client.id, client)).collect());
        let channels = topics.iter().flat_map(|topic| &topic.channels);
        let figures = channels.flat_map(|channel| channel.consumers.clone()).collect();
        Self { by_id, figures }
    }

    fn topic(&self, topic: BrokerTopic, quantiles: &[f64]) -> TopicStats {
        let channels = topic.channels.into_iter();
        TopicStats {
            topic_name: topic.name.to_string(),
            channels: channels.map(|channel| self.channel(channel, quantiles)).collect(),
            depth: signed(topic.depth),
            backend_depth: signed(topic.backend_depth),
            message_count: topic.message_count,
            message_bytes: topic.message_bytes,
            paused: topic.is_paused,
            e2e_processing_latency: latency(topic.latency.as_ref(), quantiles),
        }
    }

    fn channel(&self, channel: BrokerChannel, quantiles: &[f64]) -> ChannelStats {
        let clients = self.by_id.as_ref().map(|by_id| {
            let connected = channel.consumers.keys().filter_map(|id| by_id.get(id));
            connected.map(|client| self.client(client, Vec::new())).collect()
        });
        ChannelStats {
            channel_name: channel.name.to_string(),
            depth: signed(channel.depth),
            backend_depth: signed(channel.backend_depth),
            in_flight_count: signed(channel.in_flight_count),
            deferred_count: signed(channel.deferred_count),
            message_count: channel.message_count,
            zone_local_msg_count: channel.zone_local_count,
            region_local_msg_count: channel.region_local_count,
            global_msg_count: channel.global_count,
            requeue_count: channel.requeue_count,
            timeout_count: channel.timeout_count,
            client_count: signed(channel.consumers.len() as u64),
            clients,
            paused: channel.is_paused,
            e2e_processing_latency: latency(channel.latency.as_ref(), quantiles),
        }
    }

    /// Connections that published, each with its counts; `None`, not an empty list, if none did.
    ///
    /// The topic asked for limits the counts, not the connections. nsqd lists one topic at most
    /// (any of them); this lists all.
    fn producers(&self, topic: &str) -> Option<Vec<ClientStats>> {
        let mut producers = Vec::new();
        for client in self.by_id.as_ref()?.values() {
            let published = client.published();
            if !published.is_empty() {
                producers.push(self.client(client, pub_counts(&published, topic)));
            }
        }
        (!producers.is_empty()).then_some(producers)
    }

    fn client(&self, client: &Client, pub_counts: Vec<PubCount>) -> ClientStats {
        let (settings, layers) = (client.settings(), client.layers());
        let tls = layers.tls.unwrap_or_default();
        let granted = client.permissions().filter(|granted| !granted.is_empty());
        let (identity, identity_url) = granted
            .as_ref()
            .map_or(("", ""), |granted| (granted.identity.as_str(), granted.identity_url.as_str()));
        let figures = self.figures.get(&client.id).copied().unwrap_or_default();
        ClientStats {
            client_id: settings.client_id.clone(),
            hostname: settings.hostname.clone(),
            version: "V2".to_owned(),
            remote_address: client.remote_address.clone(),
            state: i32::from(client.state()),
            ready_count: signed(figures.ready_count),
            in_flight_count: signed(figures.in_flight_count),
            message_count: figures.message_count,
            finish_count: figures.finish_count,
            requeue_count: figures.requeue_count,
            connect_ts: client.connect_ts,
            sample_rate: settings.sample_rate,
            deflate: layers.is_deflate,
            snappy: layers.is_snappy,
            user_agent: settings.user_agent.clone(),
            topology_zone: settings.topology_zone.clone(),
            topology_region: settings.topology_region.clone(),
            pub_counts,
            authed: granted.is_some(),
            auth_identity: identity.to_owned(),
            auth_identity_url: identity_url.to_owned(),
            tls: !tls.version.is_empty(),
            // Go has reported this as true for every TLS connection for years.
            tls_negotiated_protocol_is_mutual: !tls.version.is_empty(),
            tls_cipher_suite: tls.cipher_suite,
            tls_version: tls.version.to_owned(),
            ..ClientStats::default()
        }
    }
}

fn pub_counts(published: &BTreeMap<TopicName, u64>, topic: &str) -> Vec<PubCount> {
    let wanted = published.iter().filter(|(name, _)| topic.is_empty() || name.as_str() == topic);
    wanted.map(|(name, count)| PubCount { topic: name.to_string(), count: *count }).collect()
}

/// Values at the configured quantiles, in nanoseconds; `percentiles` is null without any.
fn latency(histogram: Option<&Histogram<u64>>, quantiles: &[f64]) -> E2eLatency {
    let Some(histogram) = histogram else {
        return E2eLatency::default();
    };
    let at = |quantile: &f64| Percentile {
        quantile: *quantile,
        value: latency_ns(histogram, *quantile) as f64,
    };
    E2eLatency {
        count: signed(histogram.len()),
        percentiles: Some(quantiles.iter().map(at).collect()),
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
