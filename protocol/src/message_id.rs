//! Message ids: 64 bits, sixteen lower-case hexadecimal digits on the wire.

use std::fmt;

/// Bytes of a message id on the wire.
pub const MESSAGE_ID_LEN: usize = 16;

/// A message id as a client writes it: any sixteen bytes.
///
/// Ids this server gave out are lower-case hexadecimal; anything else is never in flight, but is
/// still an id, and answered with `E_FIN_FAILED` rather than a fatal error (tcp-protocol, section
/// 5).
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MessageId([u8; MESSAGE_ID_LEN]);

impl MessageId {
    /// The id of message number `id`, as Go's `%016x` prints it.
    pub const fn from_u64(id: u64) -> Self {
        let mut digits = [0; MESSAGE_ID_LEN];
        let bytes = id.to_be_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let pair = HEX_PAIRS[bytes[at] as usize];
            digits[2 * at] = pair[0];
            digits[2 * at + 1] = pair[1];
            at += 1;
        }
        Self(digits)
    }

    /// The id in `bytes`; `None` unless there are exactly sixteen.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(<[u8; MESSAGE_ID_LEN]>::try_from(bytes).ok()?))
    }

    /// The number of the message; `None` if these are not sixteen lower-case hexadecimal digits,
    /// so that no message can have this id.
    pub fn as_u64(&self) -> Option<u64> {
        let mut id = 0_u64;
        let mut seen = 0_u8;
        for &digit in &self.0 {
            let value = HEX_VALUES[usize::from(digit)];
            seen |= value;
            id = id << 4 | u64::from(value & 0x0f);
        }
        (seen & NOT_HEX == 0).then_some(id)
    }

    /// The sixteen bytes as on the wire.
    pub const fn as_bytes(&self) -> &[u8; MESSAGE_ID_LEN] {
        &self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({self})")
    }
}

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Two digits for every byte: an id costs eight loads.
const HEX_PAIRS: [[u8; 2]; 256] = {
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [HEX_DIGITS[byte >> 4], HEX_DIGITS[byte & 15]];
        byte += 1;
    }
    pairs
};

/// Marks, in [`HEX_VALUES`], bytes that are no lower-case hexadecimal digit.
const NOT_HEX: u8 = 0x80;

const HEX_VALUES: [u8; 256] = {
    let mut values = [NOT_HEX; 256];
    let mut value = 0_u8;
    while value < 16 {
        values[HEX_DIGITS[value as usize] as usize] = value;
        value += 1;
    }
    values
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_sixteen_lower_case_digits_and_back() {
        for id in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX, 0x18a2_8e47_cee6_9000] {
            let text = MessageId::from_u64(id);
            assert_eq!(text.to_string(), format!("{id:016x}"));
            assert_eq!(text.as_u64(), Some(id));
        }
    }

    #[test]
    fn any_sixteen_bytes_are_an_id_but_only_ours_have_a_number() {
        assert_eq!(MessageId::from_bytes(b"0123456789ABCDEF").map(|id| id.as_u64()), Some(None));
        assert_eq!(MessageId::from_bytes(b"\xff123456789abcdef").map(|id| id.as_u64()), Some(None));
        assert_eq!(MessageId::from_bytes(b"0123456789abcde"), None);
        assert_eq!(MessageId::from_bytes(b"0123456789abcdef0"), None);
    }
}
