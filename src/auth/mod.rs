//! Who may publish and subscribe where: the rules, without I/O. `node::auth` asks for them.

mod file;
mod permit;

pub(crate) use file::{AUTH_FILE_BYTES_MAX, AuthClients};
pub(crate) use permit::{BadGrant, Compiled, Permissions};
