//! Options with a closed set of values.

use std::str::FromStr;

/// How much is logged: `-log-level`.
///
/// The numbers are those of `GET /config/log_level`.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum LogLevel {
    /// One line per command batch and more.
    Debug = 1,
    /// Lifecycle facts.
    #[default]
    Info = 2,
    /// Degraded, recovering by itself.
    Warn = 3,
    /// A person must act.
    Error = 4,
    /// Only what ends the program.
    Fatal = 5,
}

impl LogLevel {
    /// The level with this number; anything unknown is [`LogLevel::Fatal`].
    pub(crate) fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Debug,
            2 => Self::Info,
            3 => Self::Warn,
            4 => Self::Error,
            _ => Self::Fatal,
        }
    }
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "debug" => Ok(Self::Debug),
            "info" => Ok(Self::Info),
            "warn" => Ok(Self::Warn),
            "error" => Ok(Self::Error),
            "fatal" => Ok(Self::Fatal),
            _ => Err(format!("invalid log level '{text}' (debug, info, warn, error, fatal)")),
        }
    }
}

/// Who must speak TLS: `-tls-required`. The numbers are those of `GET /config/tls_required`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
pub enum TlsRequired {
    /// Nobody.
    #[default]
    No = 0,
    /// TCP clients; plain HTTP stays open.
    TcpHttps = 1,
    /// Everybody.
    Yes = 2,
}

impl FromStr for TlsRequired {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("tcp-https") {
            return Ok(Self::TcpHttps);
        }
        match super::values::boolean(text) {
            Ok(true) => Ok(Self::Yes),
            Ok(false) => Ok(Self::No),
            Err(_) => Err(format!("'{text}' is none of true, false, tcp-https")),
        }
    }
}

/// The oldest TLS version accepted: `-tls-min-version`. The numbers are those of the TLS protocol.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
#[repr(u16)]
pub enum TlsVersion {
    /// TLS 1.0.
    #[default]
    Tls10 = 769,
    /// TLS 1.1.
    Tls11 = 770,
    /// TLS 1.2.
    Tls12 = 771,
    /// TLS 1.3.
    Tls13 = 772,
}

impl FromStr for TlsVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "" | "tls1.0" => Ok(Self::Tls10),
            "tls1.1" => Ok(Self::Tls11),
            "tls1.2" => Ok(Self::Tls12),
            "tls1.3" => Ok(Self::Tls13),
            _ => Err(format!("'{text}' is none of tls1.0, tls1.1, tls1.2, tls1.3")),
        }
    }
}

/// What has happened to a message when its publisher reads `OK`: `-durability`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Durability {
    /// The operating system has it: it survives the death of the process.
    #[default]
    Os,
    /// As in nsqd: in RAM until `-mem-queue-size` messages, and written on a clean stop.
    Memory,
    /// It is on the device: it survives the loss of power.
    Fsync,
}

impl Durability {
    /// The word that selects it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Os => "os",
            Self::Memory => "memory",
            Self::Fsync => "fsync",
        }
    }
}

impl FromStr for Durability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "os" => Ok(Self::Os),
            "memory" => Ok(Self::Memory),
            "fsync" => Ok(Self::Fsync),
            _ => Err(format!("'{text}' is none of os, memory, fsync")),
        }
    }
}
