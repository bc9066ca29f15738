//! The node's HTTP listeners: nsqd's API with the cluster view, and nsqlookupd's API.
//!
//! Handlers translate; what they change is decided in the registry and in gossip. There is no Go
//! profiler here: everything under `/debug` answers 404 on nsqd's port, where nsqd serves pprof.

mod config;
mod drain;
mod lookup;
mod publish;
mod stats;
mod status;
/// One connection, from its TLS handshake, if there is one, to its end.
async fn converse(
    mut transport: Transport,
    remote: Remote,
    api: &Api,
    tls: Option<Arc<ServerConfig>>,
    mut stop: watch::Receiver<bool>,
) {
    if let Some(tls) = tls {
        let accepted = tokio::select! {
            accepted = Box::pin(upgrade::accept(transport, Bytes::new(), tls)) => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((inside, _)) => transport = inside,
            Err(refused) => {
                debug!(client = %remote.0, reason = refused.reason, "tls handshake failed");
                return;
            }
        }
    }
    let stopped = async { drop(stop.wait_for(|stop| *stop).await) };
    if let Err(error) = serve_connection(transport, remote.clone(), api, stopped).await {
        debug!(client = %remote.0, %error, "http connection ended early");
    }
}

#[cfg(test)]
mod tests;
mod topics;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use grapevine_admin::{Api, CONNECTIONS_MAX, Remote, Routes, serve_connection};
use rustls::ServerConfig;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::listener::Listener;
use super::start::Node;
use super::transport::Transport;
use super::upgrade;
use crate::config::TlsRequired;

pub(crate) use lookup::GossipLookup;

/// Pause after a failed accept (too many open files, say), so that the node does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves nsqd's API, and the cluster view beside it, until `stop`. Where TLS is required of
/// everybody, all it says is which port speaks it.
pub(crate) async fn serve(listener: Listener, node: Arc<Node>, stop: watch::Receiver<bool>) {
    let (required, https_port) = (node.options.tls_required, node.https_port.unwrap_or(0));
    let mut api = nsqd_api(node);
    if required == TlsRequired::Yes {
        api = api.refusing_plain_http(https_port);
    }
    accept_until(listener, api, None, stop).await;
}

/// Serves the same over TLS.
pub(crate) async fn serve_https(
    listener: Listener,
    tls: Arc<ServerConfig>,
    node: Arc<Node>,
    stop: watch::Receiver<bool>,
) {
    accept_until(listener, nsqd_api(node), Some(tls), stop).await;
}

/// Serves nsqlookupd's API until `stop`.
pub(crate) async fn serve_lookup(listener: Listener, node: Arc<Node>, stop: watch::Receiver<bool>) {
    let cluster = GossipLookup::new(node.registry.cluster().clone());
    accept_until(listener, grapevine_admin::lookup::api(Arc::new(cluster)), None, stop).await;
}

/// Source: `newHTTPServer`, nsqd/http.go (nsq 3103474b).
fn nsqd_api(node: Arc<Node>) -> Api {
    let cluster = GossipLookup::new(node.registry.cluster().clone());
    let routes = Routes::default()
        .get("/ping", status::ping)
        .get("/info", status::info)
        .get("/stats", stats::stats)
        .publish("/pub", publish::publish_one)
        .publish("/mpub", publish::publish_many)
        .post("/topic/create", topics::create_topic)
        .post("/topic/delete", topics::delete_topic)
        .post("/topic/empty", topics::empty_topic)
        .post("/topic/pause", topics::pause_topic)
        .post("/topic/unpause", topics::unpause_topic)
        .post("/channel/create", topics::create_channel)
        .post("/channel/delete", topics::delete_channel)
        .post("/channel/empty", topics::empty_channel)
        .post("/channel/pause", topics::pause_channel)
        .post("/channel/unpause", topics::unpause_channel)
        .get("/drain", drain::show)
        .post("/drain", drain::begin)
        .delete("/drain", drain::end)
        .post("/undrain", drain::end)
        .get("/config/{opt}", config::show)
        .put("/config/{opt}", config::change);
    routes.with_state(node).merge(grapevine_admin::lookup::view(Arc::new(cluster)))
}

/// Accepts connections until `stop`, then waits for the answers under way.
async fn accept_until(
    listener: Listener,
    api: Api,
    tls: Option<Arc<ServerConfig>>,
    mut stop: watch::Receiver<bool>,
) {
    let api = Arc::new(api);
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = async {
                let permit = Arc::clone(&room).acquire_owned().await;
                (listener.accept().await, permit)
            } => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            (Ok((transport, remote)), permit) => {
                let (api, tls, stop) = (Arc::clone(&api), tls.clone(), stop.clone());
                connections.spawn(async move {
                    converse(transport, Remote(remote.into()), &api, tls, stop).await;
                    drop(permit);
                });
            }
            (Err(error), _) => {
                warn!(%error, "cannot accept an http connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    listener.remove_file();
    while connections.join_next().await.is_some() {}
}
