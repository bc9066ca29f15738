//! What nsqlookupd says about the cluster.

use serde::{Deserialize, Serialize};

/// `GET /info` of nsqlookupd.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct VersionDocument {
    /// [`VERSION`](crate::VERSION)
    pub version: String,
}

/// `GET /topics`
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct TopicsDocument {
    /// Every topic known.
    pub topics: Vec<String>,
}

/// `GET /channels?topic=`
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct ChannelsDocument {
    /// Every channel of the topic known.
    pub channels: Vec<String>,
}

/// `GET /lookup?topic=`
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct LookupDocument {
    /// Every channel of the topic known.
    pub channels: Vec<String>,
    /// The live nodes that hold the topic.
    pub producers: Vec<Producer>,
}

/// `GET /nodes`
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct NodesDocument {
    /// Every live node.
    pub producers: Vec<NodeProducer>,
}

/// A node, as `/lookup` shows it.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(default)]
pub struct Producer {
    /// Address and port of its connection to the lookup service.
    pub remote_address: String,
    /// The name of its host.
    pub hostname: String,
    /// Where clients reach it.
    pub broadcast_address: String,
    /// Its port for clients.
    pub tcp_port: i32,
    /// Its port for HTTP.
    pub http_port: i32,
    /// The version it runs.
    pub version: String,
    /// `--topology-zone`
    pub topology_zone: String,
    /// `--topology-region`
    pub topology_region: String,
}

/// A node, as `/nodes` shows it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct NodeProducer {
    /// The node.
    #[serde(flatten)]
    pub producer: Producer,
    /// For each of [`topics`](Self::topics), whether it is tombstoned there; just as long.
    pub tombstones: Vec<bool>,
    /// The topics the node holds.
    pub topics: Vec<String>,
}

/// One registration of `GET /debug`, a map from `category:topic:channel` to lists of these.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct DebugProducer {
    /// Where clients reach the node.
    pub broadcast_address: String,
    /// The name of its host.
    pub hostname: String,
    /// Its port for HTTP.
    pub http_port: i32,
    /// Address and port of its connection to the lookup service.
    pub id: String,
    /// Unix nanoseconds of its last sign of life.
    pub last_update: i64,
    /// Its port for clients.
    pub tcp_port: i32,
    /// Whether it was ever tombstoned for this registration.
    pub tombstoned: bool,
    /// Unix nanoseconds; [`NEVER_TOMBSTONED`] if it was not.
    pub tombstoned_at: i64,
    /// `--topology-region`
    pub topology_region: String,
    /// `--topology-zone`
    pub topology_zone: String,
    /// The version it runs.
    pub version: String,
}

/// Go's zero time in unix nanoseconds, which overflows to this.
pub const NEVER_TOMBSTONED: i64 = -6_795_364_578_871_345_152;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::go_json;

    #[test]
    fn producers_have_nsqlookupds_keys_in_order() {
        let producer = concat!(
            r#"{"remote_address":"","hostname":"","broadcast_address":"","tcp_port":0,"#,
            r#""http_port":0,"version":"","topology_zone":"","topology_region":"""#
        );
        let lookup =
            LookupDocument { channels: vec!["c".into()], producers: vec![Producer::default()] };
        let want = format!(r#"{{"channels":["c"],"producers":[{producer}}}]}}"#);
        assert_eq!(go_json(&lookup), want.as_bytes());

        let node = NodeProducer {
            tombstones: vec![false],
            topics: vec!["t".into()],
            ..NodeProducer::default()
        };
        let nodes = NodesDocument { producers: vec![node] };
        let want = format!(r#"{{"producers":[{producer},"tombstones":[false],"topics":["t"]}}]}}"#);
        assert_eq!(go_json(&nodes), want.as_bytes());
        let read: NodesDocument = serde_json::from_str(&want).expect("valid");
        assert_eq!(read, nodes);
    }
}
