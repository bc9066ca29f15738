//! What an operator can set: nsqd's flags, its TOML file, and the few options of ours.
//!
//! [`Options`] is made once, at the edge, by [`Options::parse_like_go`]; past it nothing checks
//! again. Syntax, names, defaults and exit codes are nsqd 1.3.0's, including those of Go's `flag`
//! package.

mod address;
mod file;
pub(crate) mod go_flags;
mod kinds;
mod live;
mod no_effect;
mod options;
mod parse;
mod validate;
pub(crate) mod values;

#[cfg(test)]
mod tests;

pub use address::Address;
pub use go_flags::FlagError;
pub use kinds::{Durability, LogLevel, TlsRequired, TlsVersion};
pub use live::{ConfigValue, Live, SetError};
pub use options::{Advertised, Options};
pub use parse::{Invocation, OptionsError};
