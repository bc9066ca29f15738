//! What the oracle is told in, and how nodes and topics are named.

use std::net::SocketAddr;

use grapevine_gossip::cluster::Cluster;
use grapevine_gossip::{NodeId, Producer, ProducerId};

/// Why a node's core was called.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// Its process has just started; its own facts are written already.
    Start,
    /// A datagram came.
    Datagram,
    /// A frame came.
    Frame,
    /// A stream was opened, accepted or closed.
    Stream,
    /// Its timers were due.
    Wake,
    /// The epoch it asked for is durable.
    Persisted,
    /// A seed's name was resolved.
    Resolved,
    /// Its nsqd, a foreign producer or somebody at its HTTP API did something.
    Local,
    /// It was told to leave.
    Leave,
}

/// What somebody does at a node, in NSQ's words; its own section must then say so.
#[derive(Clone, Copy, Debug)]
pub enum Deed<'a> {
    /// A producer, the node's own nsqd or a foreign one, says who it is.
    Describes {
        /// Which.
        producer: ProducerId,
        /// Who it is.
        what: &'a Producer,
    },
    /// A topic, and a channel in it, exist at a producer.
    Registers {
        /// Which.
        producer: ProducerId,
        /// The topic.
        topic: &'a str,
        /// The channel.
        channel: Option<&'a str>,
    },
    /// The node's own nsqd deletes a channel, or a topic with everything in it.
    Deletes {
        /// The topic.
        topic: &'a str,
        /// The channel.
        channel: Option<&'a str>,
    },
    /// A foreign producer no longer has a channel, or a topic; their names stay.
    Unregisters {
        /// Which.
        producer: ProducerId,
        /// The topic.
        topic: &'a str,
        /// The channel.
        channel: Option<&'a str>,
    },
    /// A foreign producer's connection ends.
    HangsUp {
        /// Which.
        producer: ProducerId,
    },
    /// A foreign producer says that it is there.
    Pings {
        /// Which.
        producer: ProducerId,
    },
    /// Somebody, at whatever node, asks to hide this node's nsqd from a topic for a while.
    Hides {
        /// The topic.
        topic: &'a str,
    },
}

/// How a process ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// It was killed, or lost power.
    Crashed,
    /// It said goodbye.
    Left,
}

/// One node, for rules about everyone.
#[derive(Clone, Copy, Debug)]
pub struct NodeView<'a> {
    /// Its id.
    pub id: NodeId,
    /// Where others reach it.
    pub addr: SocketAddr,
    /// Its core, if its process runs.
    pub cluster: Option<&'a Cluster>,
    /// Its process stands still.
    pub is_paused: bool,
    /// It said goodbye and does not come back.
    pub has_left: bool,
    /// It has another cluster's name.
    pub is_stranger: bool,
}

/// How node `index`'s own nsqd describes itself, or its foreign producer number `foreign` (from 1).
pub fn producer(index: usize, foreign: usize) -> Producer {
    let port = 4150 + 10 * u16::try_from(foreign).unwrap_or(0);
    Producer {
        hostname: format!("node-{index:04}"),
        broadcast_address: format!("node-{index:04}.example"),
        tcp_port: port,
        http_port: port + 1,
        version: "1.3.0".to_owned(),
        ..Producer::default()
    }
}

/// Name of topic number `topic` of the workload.
pub fn topic_name(topic: usize) -> String {
    if topic >= 1000 {
        return format!("t{topic}");
    }
    // As `{topic:03}` writes it; clients ask for topics more often than anything else happens.
    let mut name = String::with_capacity(4);
    name.push('t');
    for unit in [100, 10, 1] {
        name.extend(char::from_digit((topic / unit % 10) as u32, 10));
    }
    name
}
