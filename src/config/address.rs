//! Where a listener listens.

use std::fmt;
use std::path::PathBuf;

/// Where a listener listens: the value of `-tcp-address`, `-http-address` and their like.
///
/// As in nsqd, what does not read as `host:port` is the path of a unix socket, and an empty value
/// turns the listener off.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Address {
    /// Nothing listens.
    #[default]
    Off,
    /// `host:port`; the host may be a name, an empty host means every interface, port 0 means any
    /// free one.
    Tcp(String),
    /// A unix socket at this path.
    Unix(PathBuf),
}

impl Address {
    /// Reads an address the way nsqd's `util.TypeOfAddr` does; every text means something.
    pub fn parse(text: &str) -> Self {
        if text.is_empty() {
            Self::Off
        } else if is_host_port(text) {
            Self::Tcp(text.to_owned())
        } else {
            Self::Unix(PathBuf::from(text))
        }
    }

    /// Whether nothing listens.
    pub fn is_off(&self) -> bool {
        *self == Self::Off
    }

    /// `host:port` in a form the standard library resolves: an empty host becomes `0.0.0.0`.
    ///
    /// `None` unless this is a TCP address.
    pub fn host_port(&self) -> Option<String> {
        match self {
            Self::Tcp(text) if text.starts_with(':') => Some(format!("0.0.0.0{text}")),
            Self::Tcp(text) => Some(text.clone()),
            Self::Off | Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => Ok(()),
            Self::Tcp(text) => f.write_str(text),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Whether `text` splits into host and port as Go's `net.SplitHostPort` would, with a port number.
pub(crate) fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    port.parse::<u16>().is_ok() && !host.contains('/') && (bracketed || !host.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_host_and_port_is_a_unix_socket_and_nothing_turns_it_off() {
        assert_eq!(Address::parse(""), Address::Off);
        for tcp in ["0.0.0.0:4150", "localhost:0", ":4150", "[::1]:4150"] {
            assert_eq!(Address::parse(tcp), Address::Tcp(tcp.to_owned()));
        }
        for unix in ["/run/nsqd.sock", "nsqd.sock", "/run/odd:1", "::1"] {
            assert_eq!(Address::parse(unix), Address::Unix(PathBuf::from(unix)));
        }
    }

    #[test]
    fn an_empty_host_means_every_interface() {
        assert_eq!(Address::parse(":4150").host_port().as_deref(), Some("0.0.0.0:4150"));
        assert_eq!(Address::parse("/run/nsqd.sock").host_port(), None);
    }

    #[test]
    fn an_address_is_shown_as_it_was_written() {
        for text in ["", ":4150", "[::1]:4150", "/run/nsqd.sock"] {
            assert_eq!(Address::parse(text).to_string(), text);
        }
    }
}
