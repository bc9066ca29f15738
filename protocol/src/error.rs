//! What a client did wrong, in the words it will read on the wire.

use std::fmt::{self, Write as _};

/// A command that was refused.
///
/// [`payload`](Self::payload) is the data of the error frame byte for byte, and `Display` the same
/// as text (bytes that are not UTF-8 shown as U+FFFD), so a test that compares `to_string()` checks
/// compatibility with stock client libraries. Texts: tcp-protocol, section 5.
#[derive(Clone, Eq, PartialEq)]
pub struct ClientError {
    /// The part programs look at; it also decides whether the connection survives.
    pub code: Code,
    /// The part people read, after the code and one space. Bytes, as it may quote the client raw.
    pub detail: Vec<u8>,
}

impl ClientError {
    /// An error with `detail` after its code.
    pub fn new(code: Code, detail: impl Into<Vec<u8>>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// The four bytes at the start of the connection were not a protocol this server speaks.
    pub const fn bad_protocol() -> Self {
        Self { code: Code::BadProtocol, detail: Vec::new() }
    }

    /// `verb` (`FIN`, `REQ`, `TOUCH`) named a message that is not in flight on this channel.
    pub fn not_in_flight(verb: Verb, id: crate::MessageId) -> Self {
        Self::about_message(verb, id, "ID not in flight")
    }

    /// `verb` (`FIN`, `REQ`, `TOUCH`) named a message that is in flight to another connection.
    pub fn not_owner(verb: Verb, id: crate::MessageId) -> Self {
        Self::about_message(verb, id, "client does not own message")
    }

    /// `verb` (`FIN`, `REQ`, `TOUCH`) failed for `reason`.
    pub fn about_message(verb: Verb, id: crate::MessageId, reason: &str) -> Self {
        let code = match verb {
            Verb::Fin => Code::FinFailed,
            Verb::Req => Code::ReqFailed,
            Verb::Touch => Code::TouchFailed,
            Verb::Pub | Verb::Mpub | Verb::Dpub | Verb::Sub | Verb::Identify | Verb::Auth => {
                Code::Invalid
            }
        };
        let mut detail = Vec::with_capacity(64);
        detail.extend_from_slice(verb.as_str().as_bytes());
        detail.push(b' ');
        detail.extend_from_slice(id.as_bytes());
        detail.extend_from_slice(b" failed ");
        detail.extend_from_slice(reason.as_bytes());
        Self { code, detail }
    }

    /// A publish (`PUB`, `MPUB`, `DPUB`) could not be stored, for `reason`.
    pub fn publish_failed(verb: Verb, reason: impl fmt::Display) -> Self {
        let code = match verb {
            Verb::Mpub => Code::MpubFailed,
            Verb::Dpub => Code::DpubFailed,
            Verb::Pub
            | Verb::Sub
            | Verb::Fin
            | Verb::Req
            | Verb::Touch
            | Verb::Identify
            | Verb::Auth => Code::PubFailed,
        };
        Self::new(code, format!("{} failed {reason}", verb.as_str()))
    }

    /// `SUB` failed for `reason`, such as `exiting`.
    pub fn sub_failed(reason: impl fmt::Display) -> Self {
        Self::new(Code::SubFailed, format!("SUB failed {reason}"))
    }

    /// `SUB` met `--max-channel-consumers`.
    pub fn too_many_consumers(topic: &str, channel: &str, consumers_max: u64) -> Self {
        Self::sub_failed(format_args!(
            "consumers for {topic}:{channel} exceeds limit of {consumers_max}"
        ))
    }

    /// An upgrade (TLS, snappy, deflate) after IDENTIFY failed for `reason`.
    pub fn identify_failed(reason: impl fmt::Display) -> Self {
        Self::new(Code::IdentifyFailed, format!("IDENTIFY failed {reason}"))
    }

    /// `AUTH` on a connection that has its authorizations already.
    pub fn auth_already_set() -> Self {
        Self::new(Code::Invalid, "AUTH already set")
    }

    /// `AUTH` on a server without auth servers.
    pub fn auth_disabled() -> Self {
        Self::new(Code::AuthDisabled, "AUTH disabled")
    }

    /// No auth server gave a usable answer, or the first one since the TTL ran out.
    pub fn auth_failed() -> Self {
        Self::new(Code::AuthFailed, "AUTH failed")
    }

    /// The auth server's answer permits nothing.
    pub fn auth_empty() -> Self {
        Self::new(Code::Unauthorized, "AUTH no authorizations found")
    }

    /// `verb` (`SUB`, `PUB`, `MPUB`, `DPUB`) came before a successful `AUTH`.
    pub fn auth_first(verb: Verb) -> Self {
        Self::new(Code::AuthFirst, format!("AUTH required before {}", verb.as_str()))
    }

    /// `verb` is not permitted on this topic and channel (`""` for publishes).
    pub fn unauthorized(verb: Verb, topic: &str, channel: &str) -> Self {
        let (verb, topic) = (verb.as_str(), go_quote(topic.as_bytes()));
        let channel = go_quote(channel.as_bytes());
        Self::new(Code::Unauthorized, format!("AUTH failed for {verb} on {topic} {channel}"))
    }

    /// Whether the connection is closed after this error.
    pub const fn is_fatal(&self) -> bool {
        self.code.is_fatal()
    }

    /// The data of the error frame.
    pub fn payload(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(self.payload_len());
        payload.extend_from_slice(self.code.as_str().as_bytes());
        if self.code != Code::BadProtocol {
            payload.push(b' ');
            payload.extend_from_slice(&self.detail);
        }
        payload
    }

    /// Bytes in [`payload`](Self::payload).
    pub fn payload_len(&self) -> usize {
        self.code.as_str().len() + 1 + self.detail.len()
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.payload()))
    }
}

impl fmt::Debug for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientError({:?})", self.to_string())
    }
}

impl std::error::Error for ClientError {}

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $text:literal,)*) => {
        /// Every error code of the V2 protocol.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum Code { $($(#[$doc])* $code,)* }

        impl Code {
            /// The code as it appears on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$code => $text,)* }
            }
        }
    };
}

codes! {
    /// Unknown magic; the only error without a detail.
    BadProtocol = "E_BAD_PROTOCOL",
    /// Unknown command, wrong state, wrong parameters.
    Invalid = "E_INVALID",
    /// The body of IDENTIFY, AUTH or MPUB is wrong.
    BadBody = "E_BAD_BODY",
    /// The body of a message is wrong.
    BadMessage = "E_BAD_MESSAGE",
    /// Not a topic name.
    BadTopic = "E_BAD_TOPIC",
    /// Not a channel name.
    BadChannel = "E_BAD_CHANNEL",
    /// A negotiated upgrade failed.
    IdentifyFailed = "E_IDENTIFY_FAILED",
    /// AUTH without auth servers.
    AuthDisabled = "E_AUTH_DISABLED",
    /// No usable answer from the auth servers.
    AuthFailed = "E_AUTH_FAILED",
    /// AUTH is missing.
    AuthFirst = "E_AUTH_FIRST",
    /// The answer to AUTH could not be sent.
    AuthError = "E_AUTH_ERROR",
    /// Not permitted.
    Unauthorized = "E_UNAUTHORIZED",
    /// The subscription failed.
    SubFailed = "E_SUB_FAILED",
    /// A PUB could not be stored.
    PubFailed = "E_PUB_FAILED",
    /// An MPUB could not be stored.
    MpubFailed = "E_MPUB_FAILED",
    /// A DPUB could not be stored.
    DpubFailed = "E_DPUB_FAILED",
    /// A FIN named a message this connection does not hold; not fatal.
    FinFailed = "E_FIN_FAILED",
    /// A REQ named a message this connection does not hold; not fatal.
    ReqFailed = "E_REQ_FAILED",
    /// A TOUCH named a message this connection does not hold; not fatal.
    TouchFailed = "E_TOUCH_FAILED",
}

impl Code {
    /// Whether nsqd closes the connection after sending this error.
    ///
    /// Only the three verbs about one message (`FIN`, `REQ`, `TOUCH`) leave it open.
    pub const fn is_fatal(self) -> bool {
        !matches!(self, Self::FinFailed | Self::ReqFailed | Self::TouchFailed)
    }

    /// The code without `E_`, as `/mpub?binary` puts it into its answer.
    pub fn http_message(self) -> &'static str {
        self.as_str().strip_prefix("E_").unwrap_or(self.as_str())
    }
}

/// Commands that name themselves in errors raised past the decoder.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Verb {
    /// `IDENTIFY`
    Identify,
    /// `AUTH`
    Auth,
    /// `SUB`
    Sub,
    /// `PUB`
    Pub,
    /// `MPUB`
    Mpub,
    /// `DPUB`
    Dpub,
    /// `FIN`
    Fin,
    /// `REQ`
    Req,
    /// `TOUCH`
    Touch,
}

impl Verb {
    /// The command's name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identify => "IDENTIFY",
            Self::Auth => "AUTH",
            Self::Sub => "SUB",
            Self::Pub => "PUB",
            Self::Mpub => "MPUB",
            Self::Dpub => "DPUB",
            Self::Fin => "FIN",
            Self::Req => "REQ",
            Self::Touch => "TOUCH",
        }
    }
}

/// `bytes` as Go's `%q` writes them: in double quotes, with everything unprintable escaped.
pub fn go_quote(bytes: &[u8]) -> String {
    let mut quoted = String::with_capacity(bytes.len() + 2);
    quoted.push('"');
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            quote_char(&mut quoted, character);
        }
        for byte in chunk.invalid() {
            let _ = write!(quoted, "\\x{byte:02x}");
        }
    }
    quoted.push('"');
    quoted
}

fn quote_char(quoted: &mut String, character: char) {
    match character {
        '"' => quoted.push_str("\\\""),
        '\\' => quoted.push_str("\\\\"),
        '\x07' => quoted.push_str("\\a"),
        '\x08' => quoted.push_str("\\b"),
        '\x0c' => quoted.push_str("\\f"),
        '\n' => quoted.push_str("\\n"),
        '\r' => quoted.push_str("\\r"),
        '\t' => quoted.push_str("\\t"),
        '\x0b' => quoted.push_str("\\v"),
        '\0'..' ' | '\x7f' => {
            let _ = write!(quoted, "\\x{:02x}", u32::from(character));
        }
        ' '..='~' => quoted.push(character),
        _ if is_printable(character) => quoted.push(character),
        '\u{80}'..='\u{ffff}' => {
            let _ = write!(quoted, "\\u{:04x}", u32::from(character));
        }
        _ => {
            let _ = write!(quoted, "\\U{:08x}", u32::from(character));
        }
    }
}

/// Whether Go prints `character` as it is. Not the first of its string, so that the standard
/// library does not take a combining accent for unprintable.
fn is_printable(character: char) -> bool {
    let text = String::from_iter(['a', character]);
    !text.escape_debug().skip(1).any(|escaped| escaped == '\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_three_codes_leave_the_connection_open() {
        let id = crate::MessageId::from_u64(0x0123_4567_89ab_cdef);
        let error = ClientError::not_in_flight(Verb::Fin, id);
        assert_eq!(error.to_string(), "E_FIN_FAILED FIN 0123456789abcdef failed ID not in flight");
        assert!(!error.is_fatal());
        assert!(!ClientError::not_owner(Verb::Req, id).is_fatal());
        assert!(!ClientError::not_owner(Verb::Touch, id).is_fatal());
        assert!(ClientError::sub_failed("exiting").is_fatal());
        assert!(ClientError::publish_failed(Verb::Pub, "exiting").is_fatal());
    }

    #[test]
    fn bad_protocol_stands_alone() {
        assert_eq!(ClientError::bad_protocol().payload(), b"E_BAD_PROTOCOL");
    }

    #[test]
    fn names_are_quoted_as_go_does() {
        for (name, quoted) in [
            (&b"plain"[..], r#""plain""#),
            (b"a\"b\\", r#""a\"b\\""#),
            (b"\x01\n\x7f", r#""\x01\n\x7f""#),
            (b"\xff\xc3", r#""\xff\xc3""#),
            ("h\u{e9}e\u{301}".as_bytes(), "\"h\u{e9}e\u{301}\""),
            ("\u{a0}\u{200b}".as_bytes(), r#""\u00a0\u200b""#),
            ("\u{e0001}".as_bytes(), r#""\U000e0001""#),
        ] {
            assert_eq!(go_quote(name), quoted);
        }
    }
}
