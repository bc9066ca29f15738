//! What nsqd says about itself: `/info` and `/stats?format=json`.

use serde::{Deserialize, Serialize};

use crate::go_json::go_float;

/// `GET /info` of nsqd.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct InfoDocument {
    /// [`VERSION`](crate::VERSION)
    pub version: String,
    /// Where other hosts reach the node.
    pub broadcast_address: String,
    /// The name of its host.
    pub hostname: String,
    /// Where HTTP really listens; -1 for a unix socket.
    pub http_port: i32,
    /// Where TCP really listens; -1 for a unix socket.
    pub tcp_port: i32,
    /// Unix seconds.
    pub start_time: i64,
    /// Nanoseconds.
    pub max_heartbeat_interval: i64,
    /// Bytes.
    pub max_output_buffer_size: i64,
    /// Nanoseconds.
    pub max_output_buffer_timeout: i64,
    /// 1 to 9.
    pub max_deflate_level: i64,
    /// `--topology-zone`
    pub topology_zone: String,
    /// `--topology-region`
    pub topology_region: String,
}

/// `GET /stats?format=json` of nsqd.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct StatsDocument {
    /// [`VERSION`](crate::VERSION)
    pub version: String,
    /// `OK`, or `NOK - ` and why.
    pub health: String,
    /// Unix seconds.
    pub start_time: i64,
    /// Sorted by name; `None` (`null`) if the topic asked for does not exist.
    pub topics: Option<Vec<TopicStats>>,
    /// Absent with `include_mem=false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryStats>,
    /// Connections that have published; `None` (`null`) if there are none or they were not asked
    /// for.
    pub producers: Option<Vec<ClientStats>>,
}

/// One topic of `/stats`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct TopicStats {
    /// Its name.
    pub topic_name: String,
    /// Sorted by name.
    pub channels: Vec<ChannelStats>,
    /// Messages waiting for a first channel, or for the end of a pause.
    pub depth: i64,
    /// Those of them on disk.
    pub backend_depth: i64,
    /// Messages published since the start.
    pub message_count: u64,
    /// Bytes published since the start.
    pub message_bytes: u64,
    /// Whether messages stay in the topic.
    pub paused: bool,
    /// Time from publishing to FIN, over all channels.
    pub e2e_processing_latency: E2eLatency,
}

/// One channel of `/stats`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct ChannelStats {
    /// Its name.
    pub channel_name: String,
    /// Messages waiting, without those in flight or deferred.
    pub depth: i64,
    /// Those of them on disk.
    pub backend_depth: i64,
    /// Messages handed out and not answered.
    pub in_flight_count: i64,
    /// Messages whose time has not come.
    pub deferred_count: i64,
    /// Messages that entered the channel since the start.
    pub message_count: u64,
    /// Deliveries to consumers in the same zone; absent when 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub zone_local_msg_count: u64,
    /// Deliveries to consumers in the same region; absent when 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub region_local_msg_count: u64,
    /// Deliveries to any other consumer; absent when 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub global_msg_count: u64,
    /// REQs since the start.
    pub requeue_count: u64,
    /// Deliveries never answered, since the start.
    pub timeout_count: u64,
    /// Subscribed connections.
    pub client_count: i64,
    /// Those connections; `None` (`null`) with `include_clients=false`.
    pub clients: Option<Vec<ClientStats>>,
    /// Whether nothing is delivered.
    pub paused: bool,
    /// Time from publishing to FIN.
    pub e2e_processing_latency: E2eLatency,
}

/// One connection of `/stats`, as a consumer or as a producer.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct ClientStats {
    /// What it calls itself.
    pub client_id: String,
    /// The host it says it is on.
    pub hostname: String,
    /// `V2`
    pub version: String,
    /// Address and port; `@` for a unix socket.
    pub remote_address: String,
    /// [`ClientState::as_number`](crate::ClientState::as_number)
    pub state: i32,
    /// Its last RDY.
    pub ready_count: i64,
    /// Messages it holds.
    pub in_flight_count: i64,
    /// Messages delivered to it.
    pub message_count: u64,
    /// Its FINs.
    pub finish_count: u64,
    /// Its REQs.
    pub requeue_count: u64,
    /// Unix seconds of its connection.
    pub connect_ts: i64,
    /// Percent of the messages it takes; 0: all.
    pub sample_rate: i32,
    /// Whether the connection is compressed with deflate.
    pub deflate: bool,
    /// Whether the connection is compressed with snappy.
    pub snappy: bool,
    /// Its library.
    pub user_agent: String,
    /// Whether it has authorizations; absent when not.
    #[serde(skip_serializing_if = "is_false")]
    pub authed: bool,
    /// Who it is to the auth server; absent when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth_identity: String,
    /// More about who it is; absent when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth_identity_url: String,
    /// The zone it says it is in.
    pub topology_zone: String,
    /// The region it says it is in.
    pub topology_region: String,
    /// What it has published; absent when nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pub_counts: Vec<PubCount>,
    /// Whether the connection is TLS.
    pub tls: bool,
    /// The cipher suite, by its registered name.
    pub tls_cipher_suite: String,
    /// `TLS1.0` to `TLS1.3`, or empty.
    pub tls_version: String,
    /// The ALPN protocol, always empty.
    pub tls_negotiated_protocol: String,
    /// Kept for old readers.
    pub tls_negotiated_protocol_is_mutual: bool,
}

/// What a connection has published to one topic.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct PubCount {
    /// The topic.
    pub topic: String,
    /// Messages.
    pub count: u64,
}

/// Latency from publishing to FIN.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct E2eLatency {
    /// Messages in the window.
    pub count: i64,
    /// In the order of the flag; `None` (`null`) if no percentiles are configured.
    pub percentiles: Option<Vec<Percentile>>,
}

/// One percentile.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Percentile {
    /// Above 0, at most 1.
    #[serde(serialize_with = "go_float")]
    pub quantile: f64,
    /// Nanoseconds.
    #[serde(serialize_with = "go_float")]
    pub value: f64,
}

/// Memory of the process, in the terms of Go's run time; what has no counterpart here is 0.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct MemoryStats {
    /// Live objects.
    pub heap_objects: u64,
    /// Bytes held and not used.
    pub heap_idle_bytes: u64,
    /// Bytes in use.
    pub heap_in_use_bytes: u64,
    /// Bytes given back.
    pub heap_released_bytes: u64,
    /// Longest pause, microseconds.
    pub gc_pause_usec_100: u64,
    /// 99th percentile of pauses, microseconds.
    pub gc_pause_usec_99: u64,
    /// 95th percentile of pauses, microseconds.
    pub gc_pause_usec_95: u64,
    /// Bytes at which the next collection starts.
    pub next_gc_bytes: u64,
    /// Collections.
    pub gc_total_runs: u32,
}

impl MemoryStats {
    /// What may go up and down, by the names that all of nsqd's outputs have for it: everything but
    /// the number of collections, which they call differently.
    pub const fn gauges(&self) -> [(&'static str, u64); 8] {
        [
            ("heap_objects", self.heap_objects),
            ("heap_idle_bytes", self.heap_idle_bytes),
            ("heap_in_use_bytes", self.heap_in_use_bytes),
            ("heap_released_bytes", self.heap_released_bytes),
            ("gc_pause_usec_100", self.gc_pause_usec_100),
            ("gc_pause_usec_99", self.gc_pause_usec_99),
            ("gc_pause_usec_95", self.gc_pause_usec_95),
            ("next_gc_bytes", self.next_gc_bytes),
        ]
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
const fn is_false(fact: &bool) -> bool {
    !*fact
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::go_json;

    fn text(document: &impl Serialize) -> String {
        String::from_utf8(go_json(document)).expect("JSON is UTF-8")
    }

    #[test]
    fn info_has_nsqds_keys_in_order() {
        let want = concat!(
            r#"{"version":"","broadcast_address":"","hostname":"","http_port":0,"tcp_port":0,"#,
            r#""start_time":0,"max_heartbeat_interval":0,"max_output_buffer_size":0,"#,
            r#""max_output_buffer_timeout":0,"max_deflate_level":0,"topology_zone":"","#,
            r#""topology_region":""}"#
        );
        assert_eq!(text(&InfoDocument::default()), want);
    }

    #[test]
    fn stats_have_nsqds_keys_in_order_and_leave_out_what_is_zero() {
        let channel = ChannelStats { clients: Some(Vec::new()), ..ChannelStats::default() };
        let topic = TopicStats { channels: vec![channel], ..TopicStats::default() };
        let stats = StatsDocument { topics: Some(vec![topic]), ..StatsDocument::default() };
        let want = concat!(
            r#"{"version":"","health":"","start_time":0,"topics":[{"topic_name":"","channels":["#,
            r#"{"channel_name":"","depth":0,"backend_depth":0,"in_flight_count":0,"#,
            r#""deferred_count":0,"message_count":0,"requeue_count":0,"timeout_count":0,"#,
            r#""client_count":0,"clients":[],"paused":false,"#,
            r#""e2e_processing_latency":{"count":0,"percentiles":null}}],"#,
            r#""depth":0,"backend_depth":0,"message_count":0,"message_bytes":0,"paused":false,"#,
            r#""e2e_processing_latency":{"count":0,"percentiles":null}}],"producers":null}"#
        );
        assert_eq!(text(&stats), want);
    }

    #[test]
    fn a_client_has_nsqds_keys_in_order() {
        let client = ClientStats {
            authed: true,
            auth_identity: "joe".into(),
            auth_identity_url: "http://x?a&b".into(),
            pub_counts: vec![PubCount { topic: "t".into(), count: 3 }],
            ..ClientStats::default()
        };
        let want = concat!(
            r#"{"client_id":"","hostname":"","version":"","remote_address":"","state":0,"#,
            r#""ready_count":0,"in_flight_count":0,"message_count":0,"finish_count":0,"#,
            r#""requeue_count":0,"connect_ts":0,"sample_rate":0,"deflate":false,"snappy":false,"#,
            r#""user_agent":"","authed":true,"auth_identity":"joe","#,
            r#""auth_identity_url":"http://x?a\u0026b","topology_zone":"","topology_region":"","#,
            r#""pub_counts":[{"topic":"t","count":3}],"tls":false,"tls_cipher_suite":"","#,
            r#""tls_version":"","tls_negotiated_protocol":"","#,
            r#""tls_negotiated_protocol_is_mutual":false}"#
        );
        assert_eq!(text(&client), want);
        assert!(!text(&ClientStats::default()).contains("auth"));
    }

    #[test]
    fn percentiles_are_written_as_go_writes_floats() {
        let percentiles = vec![
            Percentile { quantile: 1.0, value: 259_800_000.0 },
            Percentile { quantile: 0.99, value: 1.5 },
        ];
        let latency = E2eLatency { count: 20, percentiles: Some(percentiles) };
        let want = concat!(
            r#"{"count":20,"percentiles":[{"quantile":1,"value":259800000},"#,
            r#"{"quantile":0.99,"value":1.5}]}"#
        );
        assert_eq!(text(&latency), want);
    }

    #[test]
    fn what_a_stock_nsqd_leaves_out_reads_as_its_default() {
        let json = r#"{"version":"1.3.0","topics":null,"producers":null,"unknown":[1]}"#;
        let stats: StatsDocument = serde_json::from_str(json).expect("valid");
        assert_eq!((stats.version.as_str(), stats.topics), ("1.3.0", None));
    }
}
