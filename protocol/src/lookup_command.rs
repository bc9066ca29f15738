//! The TCP protocol of nsqlookupd, by which nsqds register (tcp-protocol, section 16).
//!
//! Commands are lines; answers are a size and data, without a type. Every error is fatal.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use serde::de::MapAccess;
use serde::{Deserialize, Serialize};

use crate::error::{ClientError, Code};
use crate::frame::FrameError;
use crate::go_json::{GoStruct, from_go_json, set, skip};
use crate::mpub::word_at;
use crate::name::{ChannelName, TopicName};

/// The first bytes of a connection of an nsqd to an nsqlookupd.
pub const MAGIC_V1: &[u8; 4] = b"  V1";

/// Bytes of a line at most, its newline included. nsqlookupd has no limit; a command and two names
/// are below 200 bytes, and this is what nsqd allows on its own port.
pub const LOOKUP_LINE_BYTES_MAX: usize = crate::LINE_BYTES_MAX;

/// Bytes of an IDENTIFY body at most. nsqlookupd has no limit; an nsqd sends some 200 bytes, and a
/// host name or a zone that needs 64 KiB does not exist.
pub const LOOKUP_BODY_BYTES_MAX: usize = 64 * 1024;

/// Bytes of the length in front of a body or an answer.
const SIZE_BYTES: usize = 4;

/// A command of an nsqd, checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LookupCommand {
    /// Sign of life; allowed before IDENTIFY.
    Ping,
    /// Who this is; once.
    Identify(PeerInfo),
    /// The node holds a topic, and perhaps a channel of it.
    Register(TopicName, Option<ChannelName>),
    /// The node holds it no more.
    Unregister(TopicName, Option<ChannelName>),
}

/// What an nsqd and an nsqlookupd tell each other with IDENTIFY.
///
/// Serializes with nsqd's keys in nsqd's order. The answer of an nsqlookupd is a
/// [`LookupIdentity`].
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct PeerInfo {
    /// Where clients reach it.
    pub broadcast_address: String,
    /// The name of its host.
    pub hostname: String,
    /// Its port for HTTP.
    pub http_port: i32,
    /// Its port for clients.
    pub tcp_port: i32,
    /// `--topology-region`
    pub topology_region: String,
    /// `--topology-zone`
    pub topology_zone: String,
    /// The version it runs.
    pub version: String,
}

impl PeerInfo {
    /// Reads the body of an IDENTIFY by the rules of Go's encoding/json.
    ///
    /// # Errors
    ///
    /// `E_BAD_BODY` if it is no object, or if address, ports or version are missing.
    pub fn parse(body: &[u8]) -> Result<Self, ClientError> {
        let peer: Self =
            from_go_json(body).ok_or_else(|| bad_body("failed to decode JSON body"))?;
        let complete = !peer.broadcast_address.is_empty()
            && peer.tcp_port != 0
            && peer.http_port != 0
            && !peer.version.is_empty();
        if complete { Ok(peer) } else { Err(bad_body("missing fields")) }
    }
}

impl GoStruct for PeerInfo {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "broadcast_address" => set(&mut self.broadcast_address, map),
            "hostname" => set(&mut self.hostname, map),
            "http_port" => set(&mut self.http_port, map),
            "tcp_port" => set(&mut self.tcp_port, map),
            "topology_region" => set(&mut self.topology_region, map),
            "topology_zone" => set(&mut self.topology_zone, map),
            "version" => set(&mut self.version, map),
            _ => skip(map),
        }
    }
}

/// How an nsqlookupd answers IDENTIFY, key for key.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct LookupIdentity {
    /// Where its HTTP is reached.
    pub broadcast_address: String,
    /// The name of its host.
    pub hostname: String,
    /// Its port for HTTP.
    pub http_port: i32,
    /// Its port for nsqds.
    pub tcp_port: i32,
    /// The version it runs.
    pub version: String,
}

/// What the bytes at the start of the input are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LookupDecoded {
    /// A whole command in the first `consumed` bytes.
    Command {
        /// What the nsqd asks for.
        command: LookupCommand,
        /// Bytes to drop from the front of the input.
        consumed: usize,
    },
    /// More bytes are needed. If there will be none, `at_end` is what to send, if anything.
    Incomplete {
        /// `None` if the connection may end here.
        at_end: Option<ClientError>,
    },
    /// [`LOOKUP_LINE_BYTES_MAX`] bytes without a newline: close the connection.
    LineTooLong,
}

/// Decodes the command at the front of `input`; `identified` says whether IDENTIFY has succeeded.
///
/// # Errors
///
/// The error to send with [`lookup_response`] before closing.
pub fn decode_lookup(input: &[u8], identified: bool) -> Result<LookupDecoded, ClientError> {
    let window = &input[..input.len().min(LOOKUP_LINE_BYTES_MAX)];
    let Some(newline) = memchr::memchr(b'\n', window) else {
        return Ok(match window.len() {
            LOOKUP_LINE_BYTES_MAX => LookupDecoded::LineTooLong,
            _ => LookupDecoded::Incomplete { at_end: None },
        });
    };
    let line_len = newline + 1;
    let mut words = input[..newline].trim_ascii().split(|&byte| byte == b' ');
    let name = words.next().unwrap_or_default();
    let command = match name {
        b"PING" => LookupCommand::Ping,
        b"IDENTIFY" if identified => return Err(invalid("cannot IDENTIFY again")),
        b"IDENTIFY" => return decode_identify(input, line_len),
        b"REGISTER" | b"UNREGISTER" if !identified => {
            return Err(invalid("client must IDENTIFY"));
        }
        b"REGISTER" => {
            let (topic, channel) = names("REGISTER", words.next(), words.next())?;
            LookupCommand::Register(topic, channel)
        }
        b"UNREGISTER" => {
            let (topic, channel) = names("UNREGISTER", words.next(), words.next())?;
            LookupCommand::Unregister(topic, channel)
        }
        _ => return Err(invalid([b"invalid command ", name].concat())),
    };
    Ok(LookupDecoded::Command { command, consumed: line_len })
}

/// Appends an answer: its size and `data`.
pub fn lookup_response(out: &mut BytesMut, data: &[u8]) {
    out.reserve(SIZE_BYTES + data.len());
    out.put_u32(u32::try_from(data.len()).unwrap_or(u32::MAX));
    out.put_slice(data);
}

/// Takes one answer of at most `max` bytes off the front of `input`; `None` until it is all there.
///
/// For an nsqd that registers with a stock nsqlookupd.
///
/// # Errors
///
/// [`FrameError`] if its size is negative or above `max`.
pub fn decode_lookup_response(
    input: &mut BytesMut,
    max: usize,
) -> Result<Option<Bytes>, FrameError> {
    let Some(size) = word_at(input, 0) else {
        return Ok(None);
    };
    let len = usize::try_from(size).map_err(|_| FrameError::Size(size))?;
    if len > max {
        return Err(FrameError::TooBig { size: len, max });
    }
    if input.len() < SIZE_BYTES + len {
        return Ok(None);
    }
    input.advance(SIZE_BYTES);
    Ok(Some(input.split_to(len).freeze()))
}

fn decode_identify(input: &[u8], line_len: usize) -> Result<LookupDecoded, ClientError> {
    let Some(size) = word_at(input, line_len) else {
        let at_end = Some(bad_body("failed to read body size"));
        return Ok(LookupDecoded::Incomplete { at_end });
    };
    // nsqlookupd allocates whatever is announced, and dies of a negative size.
    let size = match usize::try_from(size) {
        Ok(size) if size <= LOOKUP_BODY_BYTES_MAX => size,
        Ok(_) | Err(_) => return Err(bad_body("failed to read body")),
    };
    let body_at = line_len + SIZE_BYTES;
    let consumed = body_at + size;
    match input.get(body_at..consumed) {
        Some(body) => {
            let command = LookupCommand::Identify(PeerInfo::parse(body)?);
            Ok(LookupDecoded::Command { command, consumed })
        }
        None => Ok(LookupDecoded::Incomplete { at_end: Some(bad_body("failed to read body")) }),
    }
}

fn names(
    command: &str,
    topic: Option<&[u8]>,
    channel: Option<&[u8]>,
) -> Result<(TopicName, Option<ChannelName>), ClientError> {
    let Some(topic) = topic else {
        return Err(invalid(format!("{command} insufficient number of params")));
    };
    let topic =
        TopicName::new(topic).map_err(|_| bad_name(Code::BadTopic, command, "topic", topic))?;
    let channel = match channel {
        None | Some(b"") => None,
        Some(name) => Some(
            ChannelName::new(name)
                .map_err(|_| bad_name(Code::BadChannel, command, "channel", name))?,
        ),
    };
    Ok((topic, channel))
}

fn bad_name(code: Code, command: &str, kind: &str, name: &[u8]) -> ClientError {
    let start = format!("{command} {kind} name '");
    ClientError::new(code, [start.as_bytes(), name, b"' is not valid"].concat())
}

fn bad_body(what: &str) -> ClientError {
    ClientError::new(Code::BadBody, format!("IDENTIFY {what}"))
}

fn invalid(detail: impl Into<Vec<u8>>) -> ClientError {
    ClientError::new(Code::Invalid, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str =
        r#"{"broadcast_address":"b","tcp_port":4150,"http_port":4151,"version":"1"}"#;

    fn identify(body: &[u8]) -> Vec<u8> {
        let size = u32::try_from(body.len()).expect("short").to_be_bytes();
        [b"IDENTIFY\n", &size[..], body].concat()
    }

    fn error(input: &[u8], identified: bool) -> String {
        decode_lookup(input, identified).expect_err("refused").to_string()
    }

    fn command(input: &[u8], identified: bool) -> LookupCommand {
        match decode_lookup(input, identified) {
            Ok(LookupDecoded::Command { command, consumed }) if consumed == input.len() => command,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_nsqd_introduces_itself_and_registers() {
        let LookupCommand::Identify(peer) = command(&identify(PEER.as_bytes()), false) else {
            panic!("no IDENTIFY");
        };
        assert_eq!((peer.tcp_port, peer.http_port), (4150, 4151));
        let (topic, channel) =
            (TopicName::new("t").expect("valid"), ChannelName::new("c").expect("valid"));
        let registered = LookupCommand::Register(topic.clone(), Some(channel));
        assert_eq!(command(b"REGISTER t c\r\n", true), registered);
        assert_eq!(command(b"REGISTER t \n", true), LookupCommand::Register(topic.clone(), None));
        assert_eq!(command(b"UNREGISTER t\n", true), LookupCommand::Unregister(topic, None));
        assert_eq!(command(b"  PING x\n", false), LookupCommand::Ping);
    }

    #[test]
    fn every_error_has_nsqlookupds_words() {
        for (input, identified, text) in [
            (&b"BOGUS x\n"[..], false, "E_INVALID invalid command BOGUS"),
            (b"\n", false, "E_INVALID invalid command "),
            (b"REGISTER t\n", false, "E_INVALID client must IDENTIFY"),
            (b"UNREGISTER\n", false, "E_INVALID client must IDENTIFY"),
            (b"IDENTIFY\n", true, "E_INVALID cannot IDENTIFY again"),
            (b"REGISTER\n", true, "E_INVALID REGISTER insufficient number of params"),
            (b"UNREGISTER \n", true, "E_INVALID UNREGISTER insufficient number of params"),
            (b"REGISTER a$b c\n", true, "E_BAD_TOPIC REGISTER topic name 'a$b' is not valid"),
            (b"UNREGISTER t c*\n", true, "E_BAD_CHANNEL UNREGISTER channel name 'c*' is not valid"),
            (b"IDENTIFY\n\xff\xff\xff\xff", false, "E_BAD_BODY IDENTIFY failed to read body"),
            (b"IDENTIFY\n\x7f\xff\xff\xff", false, "E_BAD_BODY IDENTIFY failed to read body"),
            (&identify(b"nonsense"), false, "E_BAD_BODY IDENTIFY failed to decode JSON body"),
            (&identify(b"{}"), false, "E_BAD_BODY IDENTIFY missing fields"),
            (&identify(b"null"), false, "E_BAD_BODY IDENTIFY missing fields"),
        ] {
            assert_eq!(error(input, identified), text);
        }
    }

    #[test]
    fn a_short_body_is_named_only_at_the_end() {
        let at_end = |input: &[u8]| match decode_lookup(input, false) {
            Ok(LookupDecoded::Incomplete { at_end }) => at_end.map(|error| error.to_string()),
            other => panic!("{other:?}"),
        };
        assert_eq!(at_end(b""), None);
        assert_eq!(at_end(b"PIN"), None);
        let size = "E_BAD_BODY IDENTIFY failed to read body size";
        assert_eq!(at_end(b"IDENTIFY\n\0\0\0").as_deref(), Some(size));
        let body = "E_BAD_BODY IDENTIFY failed to read body";
        assert_eq!(at_end(b"IDENTIFY\n\0\0\0\x02{").as_deref(), Some(body));
    }

    #[test]
    fn an_endless_line_is_cut_off() {
        let line = vec![b'x'; LOOKUP_LINE_BYTES_MAX];
        assert_eq!(decode_lookup(&line, true), Ok(LookupDecoded::LineTooLong));
    }

    #[test]
    fn answers_carry_no_type() {
        let mut out = BytesMut::new();
        lookup_response(&mut out, b"OK");
        assert_eq!(out, &b"\0\0\0\x02OK"[..]);
        let answer = decode_lookup_response(&mut out, 10).expect("valid");
        assert_eq!(answer.as_deref(), Some(&b"OK"[..]));
        assert_eq!(decode_lookup_response(&mut out, 10), Ok(None));
    }
}
