//! Topic and channel names: checked once at the edge, trusted afterwards.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Longest topic or channel name in bytes, the `#ephemeral` suffix included (tcp-protocol, section
/// 3).
pub const NAME_BYTES_MAX: usize = 64;

/// What marks a topic or channel that lives in memory only and ends with its last user.
const EPHEMERAL: &str = "#ephemeral";

/// Whether NSQ accepts `name` for a topic or a channel.
///
/// 1 to 64 bytes in total, `^[.a-zA-Z0-9_-]+(#ephemeral)?$`.
pub fn is_valid_name(name: &[u8]) -> bool {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return false;
    }
    let base = name.strip_suffix(EPHEMERAL.as_bytes()).unwrap_or(name);
    !base.is_empty() && base.iter().all(|&byte| IN_NAMES[usize::from(byte)])
}

/// Which bytes a name is made of. A table, as every publish checks its topic.
const IN_NAMES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        byte += 1;
    }
    table
};

/// A name that NSQ does not accept: not 1 to 64 bytes of `[.a-zA-Z0-9_-]` with an optional
/// `#ephemeral`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InvalidName;

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "name is not 1 to 64 bytes of [.a-zA-Z0-9_-] with an optional #ephemeral at the end",
        )
    }
}

impl std::error::Error for InvalidName {}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `name` by NSQ's rule.
            ///
            /// # Errors
            ///
            /// [`InvalidName`] if it is not 1 to 64 bytes of `[.a-zA-Z0-9_-]` with an optional
            /// `#ephemeral`.
            pub fn new(name: impl AsRef<[u8]>) -> Result<Self, InvalidName> {
                let name = name.as_ref();
                match std::str::from_utf8(name) {
                    Ok(text) if is_valid_name(name) => Ok(Self(Arc::from(text))),
                    Ok(_) | Err(_) => Err(InvalidName),
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether it ends in `#ephemeral`: in memory only, gone with its last user.
            pub fn is_ephemeral(&self) -> bool {
                self.0.ends_with(EPHEMERAL)
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name! {
    /// A topic name NSQ accepts. Cheap to clone.
    TopicName
}
name! {
    /// A channel name NSQ accepts. Cheap to clone.
    ChannelName
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_nsqs_rule() {
        for good in ["a", ".", "A-z_0.9", "x#ephemeral", &"n".repeat(64)] {
            assert!(is_valid_name(good.as_bytes()), "{good}");
        }
        let too_long = format!("{}#ephemeral", "n".repeat(55));
        for bad in
            ["", "#ephemeral", "x#Ephemeral", "a b", "a#", "ä", "a\n", &too_long, &"n".repeat(65)]
        {
            assert!(!is_valid_name(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn only_the_exact_suffix_is_ephemeral() {
        assert!(TopicName::new("t#ephemeral").is_ok_and(|name| name.is_ephemeral()));
        assert!(TopicName::new("t-ephemeral").is_ok_and(|name| !name.is_ephemeral()));
    }
}
