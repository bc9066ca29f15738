//! A consumer that finds the topic's nodes as NSQ clients do: it asks `/lookup`, again and again.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::client::Client;
use super::tally::Tally;
use super::{CHANNEL, TOPIC, http};

/// NSQ's clients ask once a minute by default; a demo cannot wait that long.
const LOOKUP_INTERVAL: Duration = Duration::from_millis(300);

/// Messages in flight at a time, per node.
const READY: u32 = 100;

/// Reads from every node that a `/lookup` names.
#[derive(Debug)]
pub(super) struct Consumer {
    /// Nodes to ask, in turn.
    pub(super) lookups: Vec<SocketAddr>,
    pub(super) tally: Arc<Tally>,
    /// Whether messages are wanted.
    pub(super) is_ready: watch::Receiver<bool>,
}

impl Consumer {
    /// Runs until it is dropped.
    pub(super) async fn run(self) {
        let mut connections: BTreeMap<u16, AbortHandle> = BTreeMap::new();
        let mut tasks = JoinSet::new();
        let mut interval = tokio::time::interval(LOOKUP_INTERVAL);
        for lookup in self.lookups.iter().cycle() {
            interval.tick().await;
            connections.retain(|_, connection| !connection.is_finished());
            while tasks.try_join_next().is_some() {}
            for port in producers(*lookup).await {
                if connections.contains_key(&port) {
                    continue;
                }
                let reading = read(port, Arc::clone(&self.tally), self.is_ready.clone());
                // A connection that ends is made again while `/lookup` names its node.
                connections.insert(port, tasks.spawn(async move { drop(reading.await) }));
            }
        }
    }
}

/// The ports of the topic's nodes, as `lookup` knows them.
async fn producers(lookup: SocketAddr) -> Vec<u16> {
    let answer = http::get_json(lookup, &format!("/lookup?topic={TOPIC}")).await;
    let answer = answer.unwrap_or_default();
    let producers = answer["producers"].as_array().into_iter().flatten();
    let ports = producers.filter_map(|producer| producer["tcp_port"].as_u64());
    ports.filter_map(|port| u16::try_from(port).ok()).collect()
}

/// Reads from one node until it is gone.
async fn read(port: u16, tally: Arc<Tally>, mut ready: watch::Receiver<bool>) -> io::Result<()> {
    let mut client = Client::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    client.subscribe(TOPIC, CHANNEL).await?;
    ready.mark_changed();
    loop {
        tokio::select! {
            biased;
            changed = ready.changed() => {
                changed.map_err(io::Error::other)?;
                let is_ready = *ready.borrow_and_update();
                client.ready(if is_ready { READY } else { 0 }).await?;
            }
            message = client.message() => {
                let message = message?;
                let number = std::str::from_utf8(&message.body).ok().and_then(|it| it.parse().ok());
                client.finish(&message).await?;
                if let Some(number) = number {
                    tally.consumed(number);
                }
            }
        }
    }
}
