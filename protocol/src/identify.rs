//! IDENTIFY: what a client says about itself, and what it gets (tcp-protocol, section 6).

use std::time::Duration;

use serde::Serialize;
use serde::de::MapAccess;

use crate::VERSION;
use crate::error::{ClientError, Code};
use crate::frame;
use crate::go_json::{GoStruct, from_go_json, go_json, set, skip};

/// Least milliseconds between heartbeats, and least of a message timeout; fixed in nsqd.
const INTERVAL_MS_MIN: i64 = 1_000;

/// Least bytes of an output buffer; fixed in nsqd.
const OUTPUT_BUFFER_BYTES_MIN: i64 = 64;

/// Largest sample rate in percent; fixed in nsqd.
const SAMPLE_RATE_MAX: i32 = 99;

/// Deflate level of a client that asks for none.
const DEFLATE_LEVEL_DEFAULT: i64 = 6;

/// The body of IDENTIFY as the client wrote it; fields left out are empty, 0 or false.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names are NSQ's, their meaning is in the specification")]
pub struct Identify {
    pub client_id: String,
    pub hostname: String,
    pub user_agent: String,
    pub feature_negotiation: bool,
    /// Milliseconds.
    pub heartbeat_interval: i64,
    /// Bytes.
    pub output_buffer_size: i64,
    /// Milliseconds.
    pub output_buffer_timeout: i64,
    /// Percent.
    pub sample_rate: i32,
    /// Milliseconds.
    pub msg_timeout: i64,
    pub tls_v1: bool,
    pub deflate: bool,
    pub deflate_level: i64,
    pub snappy: bool,
    pub topology_region: String,
    pub topology_zone: String,
}

impl Identify {
    /// Reads the body of an IDENTIFY by the rules of Go's encoding/json.
    ///
    /// # Errors
    ///
    /// `E_BAD_BODY` unless it is `null` or an object whose known fields have the right types.
    pub fn parse(body: &[u8]) -> Result<Self, ClientError> {
        from_go_json(body).ok_or_else(|| bad_body("failed to decode JSON body"))
    }
}

impl GoStruct for Identify {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "client_id" => set(&mut self.client_id, map),
            "hostname" => set(&mut self.hostname, map),
            "user_agent" => set(&mut self.user_agent, map),
            "feature_negotiation" => set(&mut self.feature_negotiation, map),
            "heartbeat_interval" => set(&mut self.heartbeat_interval, map),
            "output_buffer_size" => set(&mut self.output_buffer_size, map),
            "output_buffer_timeout" => set(&mut self.output_buffer_timeout, map),
            "sample_rate" => set(&mut self.sample_rate, map),
            "msg_timeout" => set(&mut self.msg_timeout, map),
            "tls_v1" => set(&mut self.tls_v1, map),
            "deflate" => set(&mut self.deflate, map),
            "deflate_level" => set(&mut self.deflate_level, map),
            "snappy" => set(&mut self.snappy, map),
            "topology_region" => set(&mut self.topology_region, map),
            "topology_zone" => set(&mut self.topology_zone, map),
            _ => skip(map),
        }
    }
}

/// What the server offers and how far clients may go. The defaults are nsqd's flags.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerSettings {
    /// `--max-rdy-count`
    pub max_rdy_count: u64,
    /// `--msg-timeout`, of a client that names none.
    pub msg_timeout: Duration,
    /// `--max-msg-timeout`
    pub max_msg_timeout: Duration,
    /// `--max-heartbeat-interval`
    pub max_heartbeat_interval: Duration,
    /// `--max-output-buffer-size`, bytes.
    pub max_output_buffer_size: u64,
    /// `--output-buffer-timeout`, of a client that names none.
    pub output_buffer_timeout: Duration,
    /// `--min-output-buffer-timeout`
    pub min_output_buffer_timeout: Duration,
    /// `--max-output-buffer-timeout`
    pub max_output_buffer_timeout: Duration,
    /// `--max-deflate-level`
    pub max_deflate_level: i64,
    /// Whether there is a certificate.
    pub tls_v1: bool,
    /// `--deflate`, and whether this build can.
    pub deflate: bool,
    /// `--snappy`, and whether this build can.
    pub snappy: bool,
    /// Whether there are auth servers.
    pub auth_required: bool,
    /// `--topology-region`
    pub topology_region: String,
    /// `--topology-zone`
    pub topology_zone: String,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            max_rdy_count: 2_500,
            msg_timeout: Duration::from_secs(60),
            max_msg_timeout: Duration::from_secs(900),
            max_heartbeat_interval: Duration::from_secs(60),
            max_output_buffer_size: 64 * 1024,
            output_buffer_timeout: Duration::from_millis(250),
            min_output_buffer_timeout: Duration::from_millis(25),
            max_output_buffer_timeout: Duration::from_secs(30),
            max_deflate_level: 6,
            tls_v1: false,
            deflate: false,
            snappy: false,
            auth_required: false,
            topology_region: String::new(),
            topology_zone: String::new(),
        }
    }
}

/// What holds for one connection: the defaults, changed by every IDENTIFY.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientSettings {
    /// What the client calls itself.
    pub client_id: String,
    /// The host it says it is on.
    pub hostname: String,
    /// Its library.
    pub user_agent: String,
    /// Time between heartbeats; `None`: no heartbeats and no deadlines.
    pub heartbeat_interval: Option<Duration>,
    /// Bytes gathered before they are written; 1: every frame at once.
    pub output_buffer_size: usize,
    /// How long messages may wait in the buffer; zero: no timer.
    pub output_buffer_timeout: Duration,
    /// How long the client may hold a message.
    pub msg_timeout: Duration,
    /// Percent of the messages it wants; 0: all.
    pub sample_rate: i32,
    /// Where it runs.
    pub topology_region: String,
    /// Where in the region it runs.
    pub topology_zone: String,
}

impl ClientSettings {
    /// The settings of a connection from `remote_ip` before IDENTIFY.
    pub fn new(remote_ip: &str, server: &ServerSettings) -> Self {
        Self {
            client_id: remote_ip.to_owned(),
            hostname: remote_ip.to_owned(),
            user_agent: String::new(),
            // Half of the 60 s after which nsqd gives up on a client.
            heartbeat_interval: Some(Duration::from_secs(30)),
            output_buffer_size: 16 * 1024,
            output_buffer_timeout: server.output_buffer_timeout,
            msg_timeout: server.msg_timeout,
            sample_rate: 0,
            topology_region: String::new(),
            topology_zone: String::new(),
        }
    }

    fn set_heartbeat_interval(&mut self, ms: i64, max: Duration) -> Result<(), ClientError> {
        match ms {
            -1 => self.heartbeat_interval = None,
            0 => {}
            _ if (INTERVAL_MS_MIN..=millis(max)).contains(&ms) => {
                self.heartbeat_interval = Some(duration(ms));
            }
            _ => return Err(bad_field("heartbeat interval", ms)),
        }
        Ok(())
    }

    fn set_output_buffer(
        &mut self,
        bytes: i64,
        timeout_ms: i64,
        server: &ServerSettings,
    ) -> Result<(), ClientError> {
        let timeouts =
            millis(server.min_output_buffer_timeout)..=millis(server.max_output_buffer_timeout);
        match timeout_ms {
            -1 => self.output_buffer_timeout = Duration::ZERO,
            0 => {}
            _ if timeouts.contains(&timeout_ms) => {
                self.output_buffer_timeout = duration(timeout_ms);
            }
            _ => return Err(bad_field("output buffer timeout", timeout_ms)),
        }
        let bytes_max = i64::try_from(server.max_output_buffer_size).unwrap_or(i64::MAX);
        match (bytes, usize::try_from(bytes)) {
            (-1, _) => {
                self.output_buffer_size = 1;
                self.output_buffer_timeout = Duration::ZERO;
            }
            (0, _) => {}
            (_, Ok(size)) if (OUTPUT_BUFFER_BYTES_MIN..=bytes_max).contains(&bytes) => {
                self.output_buffer_size = size;
            }
            (_, Ok(_) | Err(_)) => return Err(bad_field("output buffer size", bytes)),
        }
        Ok(())
    }

    fn set_sample_rate(&mut self, percent: i32) -> Result<(), ClientError> {
        if !(0..=SAMPLE_RATE_MAX).contains(&percent) {
            return Err(bad_field("sample rate", percent.into()));
        }
        self.sample_rate = percent;
        Ok(())
    }

    fn set_msg_timeout(&mut self, ms: i64, max: Duration) -> Result<(), ClientError> {
        match ms {
            0 => {}
            _ if (INTERVAL_MS_MIN..=millis(max)).contains(&ms) => self.msg_timeout = duration(ms),
            _ => return Err(bad_field("msg timeout", ms)),
        }
        Ok(())
    }
}

/// What an IDENTIFY leads to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Negotiated {
    /// Data of the response frame: `OK`, or the JSON of a client that negotiates.
    pub response: Vec<u8>,
    /// First, TLS begins.
    pub tls_v1: bool,
    /// Then, snappy begins.
    pub snappy: bool,
    /// Or deflate, at [`deflate_level`](Self::deflate_level).
    pub deflate: bool,
    /// 1 to `--max-deflate-level`.
    pub deflate_level: i64,
}

/// Applies `identify` to `client` and says what to answer and which upgrades follow.
///
/// A name that is empty or left out keeps what it was, at first the remote address, where nsqd
/// shows a blank: an operator looking at `/stats` is better served by an address.
///
/// # Errors
///
/// The first setting out of range, in nsqd's order, or both compressions at once; `client` is as it
/// was. All are fatal.
pub fn negotiate(
    identify: &Identify,
    server: &ServerSettings,
    client: &mut ClientSettings,
) -> Result<Negotiated, ClientError> {
    let mut next = client.clone();
    next.set_heartbeat_interval(identify.heartbeat_interval, server.max_heartbeat_interval)?;
    next.set_output_buffer(identify.output_buffer_size, identify.output_buffer_timeout, server)?;
    next.set_sample_rate(identify.sample_rate)?;
    next.set_msg_timeout(identify.msg_timeout, server.max_msg_timeout)?;
    keep_or_set(&mut next.client_id, &identify.client_id);
    keep_or_set(&mut next.hostname, &identify.hostname);
    next.user_agent.clone_from(&identify.user_agent);
    next.topology_region.clone_from(&identify.topology_region);
    next.topology_zone.clone_from(&identify.topology_zone);

    let negotiated = if identify.feature_negotiation {
        features(identify, server, &next)?
    } else {
        Negotiated {
            response: frame::OK.to_vec(),
            tls_v1: false,
            snappy: false,
            deflate: false,
            deflate_level: DEFLATE_LEVEL_DEFAULT.min(server.max_deflate_level),
        }
    };
    *client = next;
    Ok(negotiated)
}

fn features(
    identify: &Identify,
    server: &ServerSettings,
    client: &ClientSettings,
) -> Result<Negotiated, ClientError> {
    let tls_v1 = server.tls_v1 && identify.tls_v1;
    let deflate = server.deflate && identify.deflate;
    let snappy = server.snappy && identify.snappy;
    if deflate && snappy {
        let text = "cannot enable both deflate and snappy compression";
        return Err(ClientError::new(Code::IdentifyFailed, text));
    }
    let deflate_level = match identify.deflate_level {
        level if deflate && level > 0 => level,
        _ => DEFLATE_LEVEL_DEFAULT,
    }
    .min(server.max_deflate_level);
    let response = go_json(&IdentifyResponse {
        max_rdy_count: server.max_rdy_count,
        version: VERSION,
        max_msg_timeout: millis(server.max_msg_timeout),
        msg_timeout: millis(client.msg_timeout),
        tls_v1,
        deflate,
        deflate_level,
        max_deflate_level: server.max_deflate_level,
        snappy,
        sample_rate: client.sample_rate,
        auth_required: server.auth_required,
        output_buffer_size: client.output_buffer_size,
        output_buffer_timeout: millis(client.output_buffer_timeout),
        topology_region: &server.topology_region,
        topology_zone: &server.topology_zone,
    });
    Ok(Negotiated { response, tls_v1, snappy, deflate, deflate_level })
}

/// The answer to a client that negotiates, in nsqd's order; times in milliseconds.
#[derive(Serialize)]
struct IdentifyResponse<'a> {
    max_rdy_count: u64,
    version: &'a str,
    max_msg_timeout: i64,
    msg_timeout: i64,
    tls_v1: bool,
    deflate: bool,
    deflate_level: i64,
    max_deflate_level: i64,
    snappy: bool,
    sample_rate: i32,
    auth_required: bool,
    output_buffer_size: usize,
    output_buffer_timeout: i64,
    topology_region: &'a str,
    topology_zone: &'a str,
}

fn keep_or_set(name: &mut String, given: &str) {
    if !given.is_empty() {
        given.clone_into(name);
    }
}

fn duration(ms: i64) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn bad_body(what: &str) -> ClientError {
    ClientError::new(Code::BadBody, format!("IDENTIFY {what}"))
}

fn bad_field(field: &str, value: i64) -> ClientError {
    bad_body(&format!("{field} ({value}) is invalid"))
}

#[cfg(test)]
mod tests;
