//! Registering with stock nsqlookupds, for consumers and tools that still ask those.
//!
//! Each nsqlookupd has a task of its own, so that one which hangs does not keep news from the
//! others. Source: nsqd/lookup.go, nsqd/lookup_peer.go (nsq 3103474b); tcp-protocol.md section 17.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use grapevine_protocol::{ChannelName, LookupIdentity, PeerInfo, TopicName, VERSION};
use parking_lot::Mutex;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

use self::peer::Peer;
use self::wanted::{Change, Registrations};
use super::http_client::{HttpClient, Limits};
use super::upgrade;
use crate::config::Options;

mod peer;
mod wanted;

/// Most bytes of an nsqlookupd's list of channels: more than 60,000 of the longest names.
const CHANNELS_BYTES_MAX: usize = 4 << 20;

/// New topics whose channels are asked for at once; more wait for their turn.
const QUESTIONS_MAX: usize = 64;

/// What the nsqlookupds are to know, and what is known of them.
///
/// [`run`](Self::run) does the work; everything else takes a short lock and returns.
pub struct Lookupds {
    registrations: Mutex<Registrations>,
    /// Wakes whoever sends changes.
    changed: watch::Sender<()>,
    /// Where those that identified themselves answer HTTP, by their TCP address.
    http_addresses: Mutex<BTreeMap<String, String>>,
    http: HttpClient,
    questions: Semaphore,
    question_timeout: Duration,
}

impl Lookupds {
    /// Nobody to register with yet.
    ///
    /// # Errors
    ///
    /// If the certificates of `-tls-root-ca-file` cannot be read; the text names the file.
    pub(crate) fn new(options: &Options) -> Result<Arc<Self>, String> {
        let limits = Limits {
            connect_timeout: options.http_client_connect_timeout,
            request_timeout: options.http_client_request_timeout,
            body_bytes_max: CHANNELS_BYTES_MAX,
        };
        let tls = Some(upgrade::client_config(options)?);
        Ok(Arc::new(Self {
            registrations: Mutex::default(),
            changed: watch::Sender::default(),
            http_addresses: Mutex::default(),
            http: HttpClient::new(limits, tls),
            questions: Semaphore::new(QUESTIONS_MAX),
            question_timeout: options.http_client_request_timeout,
        }))
    }

    /// Registers with the nsqlookupds of `options`, which may change, until `stop`. Then the
    /// connections just close, which is how an nsqlookupd learns that an nsqd has stopped.
    pub(crate) async fn run(
        self: Arc<Self>,
        options: Arc<Options>,
        hostname: String,
        mut stop: watch::Receiver<bool>,
    ) {
        let me = Arc::new(introduction(&options, hostname));
        let answer_bytes_max = usize::try_from(options.max_body_size).unwrap_or(usize::MAX);
        let mut addresses = options.live.watch_nsqlookupd_tcp_addresses();
        let mut peers: BTreeMap<String, JoinSet<()>> = BTreeMap::new();
        loop {
            let wanted: BTreeSet<String> = addresses.borrow_and_update().iter().cloned().collect();
            let ended: Vec<String> =
                peers.keys().filter(|&address| !wanted.contains(address)).cloned().collect();
            for address in ended {
                info!(address, "no longer registering with nsqlookupd");
                // Nobody asks it once its connection is seen to close; nor later, should it just
                // have said where its HTTP is.
                self.lost(&address);
                if let Some(mut peer) = peers.remove(&address) {
                    peer.shutdown().await;
                }
                self.lost(&address);
            }
            for address in wanted {
                let (me, lookupds) = (Arc::clone(&me), Arc::clone(&self));
                peers.entry(address.clone()).or_insert_with(|| {
                    let mut task = JoinSet::new();
                    task.spawn(Peer { address, me, answer_bytes_max, lookupds }.run());
                    task
                });
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                // The options outlive this task.
                Ok(()) = addresses.changed() => {}
            }
        }
    }

    pub(crate) fn topic_created(&self, topic: &TopicName) {
        self.change(|registrations| registrations.topic_created(topic));
    }

    pub(crate) fn topic_deleted(&self, topic: &TopicName) {
        self.change(|registrations| registrations.topic_deleted(topic));
    }

    pub(crate) fn channel_created(&self, topic: &TopicName, channel: &ChannelName) {
        self.change(|registrations| registrations.channel_created(topic, channel));
    }

    pub(crate) fn channel_deleted(&self, topic: &TopicName, channel: &str) {
        self.change(|registrations| registrations.channel_deleted(topic, channel));
    }

    fn change(&self, how: impl FnOnce(&mut Registrations)) {
        how(&mut self.registrations.lock());
        self.changed.send_replace(());
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn all(&self) -> (Vec<Change>, u64) {
        self.registrations.lock().all()
    }

    fn since(&self, position: u64, max: usize) -> Option<Vec<Change>> {
        self.registrations.lock().since(position, max)
    }

    /// An nsqlookupd said who it is.
    fn found(&self, address: &str, identity: &LookupIdentity) {
        if identity.broadcast_address.is_empty() {
            warn!(
                address,
                "nsqlookupd does not say where its HTTP is; it is not asked for channels"
            );
            self.lost(address);
            return;
        }
        let http_address = host_port(&identity.broadcast_address, identity.http_port);
        self.http_addresses.lock().insert(address.to_owned(), http_address);
    }

    /// It is out of reach, or nobody wants to know of it any more.
    fn lost(&self, address: &str) {
        self.http_addresses.lock().remove(address);
    }

    /// The channels that nsqlookupds know for a topic, without ephemeral ones: those a topic that
    /// is new here must have before its first message.
    ///
    /// All are asked at once; who does not answer within `-http-client-request-timeout` is passed
    /// over with a line in the log.
    ///
    /// Source: `NSQD.GetTopic`, nsqd/nsqd.go (nsq 3103474b).
    pub(crate) async fn channels(&self, topic: &TopicName) -> BTreeSet<ChannelName> {
        let addresses: BTreeSet<String> = self.http_addresses.lock().values().cloned().collect();
        if addresses.is_empty() {
            return BTreeSet::new();
        }
        let turn = tokio::time::timeout(self.question_timeout, self.questions.acquire()).await;
        if turn.is_err() {
            warn!(%topic, "too many new topics at once; nsqlookupds are not asked for channels");
            return BTreeSet::new();
        }
        let mut asking = JoinSet::new();
        for address in addresses {
            let name = utf8_percent_encode(topic.as_str(), NON_ALPHANUMERIC);
            let url = format!("http://{address}/channels?topic={name}");
            asking.spawn(ask(self.http.clone(), address, url));
        }
        let mut channels = BTreeSet::new();
        for known in asking.join_all().await {
            match known {
                Ok(known) => channels.extend(known),
                Err((address, reason)) => {
                    warn!(%topic, address, reason, "nsqlookupd does not tell the topic's channels");
                }
            }
        }
        channels
    }
}

/// What this node says of itself, as nsqd does.
fn introduction(options: &Options, hostname: String) -> PeerInfo {
    PeerInfo {
        broadcast_address: options.broadcast_address.clone(),
        hostname,
        http_port: options.advertised_http_port().into(),
        tcp_port: options.advertised_tcp_port().into(),
        topology_region: options.topology_region.clone(),
        topology_zone: options.topology_zone.clone(),
        version: VERSION.to_owned(),
    }
}

/// What `/channels` answers.
#[derive(Deserialize)]
struct Channels {
    channels: Option<Vec<String>>,
}

async fn ask(
    http: HttpClient,
    address: String,
    url: String,
) -> Result<Vec<ChannelName>, (String, String)> {
    let answer = match http.get(&url, &[]).await {
        Ok(answer) if answer.status == 200 => answer,
        Ok(answer) => return Err((address, format!("status {}", answer.status))),
        Err(error) => return Err((address, error.to_string())),
    };
    match serde_json::from_slice::<Channels>(&answer.body) {
        Ok(Channels { channels }) => {
            let names =
                channels.into_iter().flatten().filter_map(|name| ChannelName::new(name).ok());
            Ok(names.filter(|name| !name.is_ephemeral()).collect())
        }
        Err(error) => Err((address, format!("not a list of channels: {error}"))),
    }
}

/// `host:port`, with an IPv6 address in brackets.
fn host_port(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_ipv6_is_put_in_brackets() {
        assert_eq!(host_port("one.example", 4161), "one.example:4161");
        assert_eq!(host_port("::1", 4161), "[::1]:4161");
    }
}
