//! Asking a node of our own.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::node::http_client::{HttpClient, Limits};

/// A node on this machine answers within milliseconds, or is not well. A larger answer than 4 MiB
/// is not read.
const LIMITS: Limits = Limits {
    connect_timeout: Duration::from_secs(2),
    request_timeout: Duration::from_secs(2),
    body_bytes_max: 4 << 20,
};

/// The JSON document that `address` answers for `path`.
///
/// # Errors
///
/// No connection, no answer in time, no JSON, or a status other than 200; 404 is
/// [`io::ErrorKind::NotFound`].
pub(super) async fn get_json(address: SocketAddr, path: &str) -> io::Result<Value> {
    let url = format!("http://{address}{path}");
    let answer = HttpClient::new(LIMITS, None).get(&url, &[]).await.map_err(io::Error::other)?;
    match answer.status {
        200 => Ok(serde_json::from_slice(&answer.body)?),
        404 => Err(io::Error::from(io::ErrorKind::NotFound)),
        status => Err(io::Error::other(format!("HTTP status {status}"))),
    }
}
