//! Sockets clients connect to, and the first four bytes they send.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use grapevine_broker::ConsumerId;
use grapevine_protocol::{ClientError, ClientSettings, frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use super::client::Client;
use super::connection::Connection;
use super::registry::Registry;
use super::session::{Session, SessionOptions};
use super::transport::Transport;
use crate::config::Address;

/// What a V2 client sends first.
const MAGIC_V2: &[u8; 4] = b"  V2";

/// Pause after a failed accept (too many open files, say), so that the node does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections the kernel holds ready for us; the default of 128 is small for a reconnecting fleet.
const BACKLOG: i32 = 4_096;

/// A listening socket of either kind.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix stream socket; the file is removed at the end.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Binds `address`; `None` if it is off.
    ///
    /// # Errors
    ///
    /// The operating system's, with the address in its text.
    pub async fn bind(address: &Address) -> io::Result<Option<Self>> {
        let named = |error: io::Error, address: &dyn std::fmt::Display| {
            io::Error::new(error.kind(), format!("listen ({address}) failed - {error}"))
        };
        match address {
            Address::Off => Ok(None),
            Address::Tcp(text) => {
                let listener = bind_tcp(text).await.map_err(|error| named(error, text))?;
                Ok(Some(Self::Tcp(listener)))
            }
            Address::Unix(path) => {
                let listener = bind_unix(path).map_err(|error| named(error, &path.display()))?;
                Ok(Some(Self::Unix(listener, path.clone())))
            }
        }
    }

    /// The port; `None` for a unix socket.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok().map(|address| address.port()),
            Self::Unix(..) => None,
        }
    }

    /// Where it listens, as text.
    pub fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => {
                listener.local_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string())
            }
            Self::Unix(_, path) => path.display().to_string(),
        }
    }

    /// Removes the file of a unix socket; nothing for TCP.
    pub(super) fn remove_file(&self) {
        if let Self::Unix(_, path) = self
            && let Err(error) = std::fs::remove_file(path)
        {
            error!(path = %path.display(), %error, "cannot remove the socket file");
        }
    }

    /// The next connection and who it is.
    pub(super) async fn accept(&self) -> io::Result<(Transport, String)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Transport::Tcp(stream), remote.to_string()))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Transport::Unix(stream), "@".to_owned()))
            }
        }
    }
}

async fn bind_tcp(text: &str) -> io::Result<TcpListener> {
    let host_port = match text.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => text.to_owned(),
    };
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "no such address");
    for address in tokio::net::lookup_host(&host_port).await? {
        match listen(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG as u32)
}

/// Binds a socket file; one that a dead process left is replaced.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        result => result,
    }
}

/// Accepts clients until `stop`.
pub(crate) async fn serve(
    listener: Listener,
    registry: Arc<Registry>,
    options: Arc<SessionOptions>,
    mut stop: watch::Receiver<bool>,
) {
    let ids = Arc::new(AtomicU64::new(1));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((transport, remote)) => {
                let id = ConsumerId(ids.fetch_add(1, Ordering::Relaxed));
                let (registry, options) = (Arc::clone(&registry), Arc::clone(&options));
                let stop = stop.clone();
                tokio::spawn(async move {
                    welcome(transport, remote, id, registry, options, stop).await;
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept a client");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    listener.remove_file();
}

/// Reads the magic, then serves the client.
async fn welcome(
    mut transport: Transport,
    remote: String,
    id: ConsumerId,
    registry: Arc<Registry>,
    options: Arc<SessionOptions>,
    mut stop: watch::Receiver<bool>,
) {
    let mut magic = [0; 4];
    tokio::select! {
        read = transport.read_exact(&mut magic) => {
            if let Err(error) = read {
                debug!(client = %remote, %error, "client left before its protocol was known");
                return;
            }
        }
        _ = stop.wait_for(|stop| *stop) => return,
    }
    if magic != *MAGIC_V2 {
        info!(client = %remote, magic = %magic.escape_ascii(), "client speaks no known protocol");
        let mut output = bytes::BytesMut::new();
        frame::error(&mut output, &ClientError::bad_protocol());
        let _ = transport.write_all(&output).await;
        let _ = transport.shutdown().await;
        return;
    }
    let ip = remote.rsplit_once(':').map_or(remote.as_str(), |(ip, _)| ip);
    let settings = ClientSettings::new(ip, &options.server);
    let connect_ts = super::clock::wall_ns() / 1_000_000_000;
    let client = Arc::new(Client::new(id, remote, connect_ts, settings));
    registry.add_client(&client);
    if *stop.borrow() {
        registry.remove_client(id);
        return;
    }
    debug!(client = %client.remote_address, "client connected");
    Connection::new(transport, Session::new(registry, options, client)).run().await;
}
