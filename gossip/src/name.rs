//! Names of topics and channels, as sections hold them.

use std::sync::Arc;

use crate::codec::{BorrowDecode, BorrowDecoder, DecodeError};

/// A topic or channel name; empty where a key has none.
pub type Name = Arc<str>;

/// Decodes a name straight from the bytes it is in: the codec's own way makes a string of it first.
pub(crate) fn name<'de, D: BorrowDecoder<'de>>(from: &mut D) -> Result<Name, DecodeError> {
    let name = <&str>::borrow_decode(from)?;
    Ok(if name.is_empty() { Name::default() } else { Name::from(name) })
}
