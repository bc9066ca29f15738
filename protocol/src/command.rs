//! What clients of nsqd ask for, and the limits they are held to.

use crate::message_id::MessageId;
use crate::mpub::Messages;

/// A whole command whose parameters, names and sizes have been checked.
///
/// Borrows from the input. What needs more than the bytes (authorization, consumer limits, whether
/// a message is in flight) is for the session.
#[derive(Clone, Debug)]
pub enum Command<'a> {
    /// `IDENTIFY` with its JSON body.
    Identify(&'a [u8]),
    /// `AUTH` with the secret.
    Auth(&'a [u8]),
    /// `SUB topic channel`; both names are valid.
    Sub {
        /// A valid topic name.
        topic: &'a str,
        /// A valid channel name.
        channel: &'a str,
    },
    /// `RDY count`, at most `rdy_max`; 1 if no count was given.
    Rdy(u64),
    /// `FIN id`
    Fin(MessageId),
    /// `REQ id delay`; the delay in milliseconds, already clamped to `req_timeout_ms_max`.
    Req(MessageId, u64),
    /// `TOUCH id`
    Touch(MessageId),
    /// `CLS`
    Cls,
    /// `NOP`, or a command that nsqd ignores (`RDY` after `CLS`).
    Nop,
    /// `PUB topic` and a body of 1 to `msg_bytes_max` bytes.
    Pub {
        /// A valid topic name.
        topic: &'a str,
        /// The message.
        body: &'a [u8],
    },
    /// `MPUB topic` and its messages, every one of 1 to `msg_bytes_max` bytes.
    Mpub {
        /// A valid topic name.
        topic: &'a str,
        /// The messages, at least one.
        messages: Messages<'a>,
    },
    /// `DPUB topic delay` and a body of 1 to `msg_bytes_max` bytes.
    Dpub {
        /// A valid topic name.
        topic: &'a str,
        /// Milliseconds to hold the message back, 0 to `req_timeout_ms_max`.
        delay_ms: u64,
        /// The message.
        body: &'a [u8],
    },
}

/// Where a connection is in its life (tcp-protocol, section 4).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ClientState {
    /// After the magic; pure producers stay here.
    #[default]
    Init,
    /// After a successful `SUB`.
    Subscribed,
    /// After `CLS`.
    Closing,
}

impl ClientState {
    /// The number `/stats` shows.
    pub const fn as_number(self) -> i32 {
        match self {
            Self::Init => 0,
            Self::Subscribed => 3,
            Self::Closing => 4,
        }
    }
}

/// What the session knows that decides which commands are allowed now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Gate {
    /// Where the connection is in its life.
    pub state: ClientState,
    /// Whether heartbeats are on, the default; `SUB` is refused without them.
    pub heartbeats_enabled: bool,
    /// Whether the server insists on TLS and this connection is not (yet) TLS.
    pub tls_missing: bool,
}

impl Default for Gate {
    fn default() -> Self {
        Self { state: ClientState::Init, heartbeats_enabled: true, tls_missing: false }
    }
}

/// What a client may send at most. The defaults are nsqd's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Bytes of one message, `--max-msg-size`.
    pub msg_bytes_max: u32,
    /// Bytes of a body of IDENTIFY, AUTH or MPUB, `--max-body-size`.
    pub body_bytes_max: u32,
    /// Messages in flight a client may ask for, `--max-rdy-count`.
    pub rdy_max: u64,
    /// Milliseconds of delay of REQ and DPUB, `--max-req-timeout`.
    pub req_timeout_ms_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            msg_bytes_max: 1 << 20,
            body_bytes_max: 5 << 20,
            rdy_max: 2_500,
            req_timeout_ms_max: 3_600_000,
        }
    }
}
