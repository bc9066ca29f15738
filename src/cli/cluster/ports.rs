//! Free ports of the loopback interface.

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;

/// Below the ports that systems give to outgoing connections, so that none of those takes a port
/// between its reservation and its use, or while a killed node is away.
const PORTS: Range<u16> = 20_000..30_000;

/// Ports that are free for TCP and UDP.
///
/// # Errors
///
/// Fewer than `count` are free.
pub(super) fn free(count: usize) -> io::Result<Vec<u16>> {
    let total = u32::from(PORTS.end - PORTS.start);
    // Programs that look at the same time should not look at the same place.
    let offset = std::process::id().wrapping_mul(41) % total;
    let mut found = Vec::with_capacity(count);
    for step in 0..total {
        if found.len() == count {
            return Ok(found);
        }
        let port = u16::try_from((offset + step) % total).expect("less than the number of ports");
        let port = PORTS.start + port;
        let address = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            found.push(port);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, format!("no {count} free ports in {PORTS:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_are_different_and_can_be_bound() {
        let ports = free(20).expect("free ports");
        let different: std::collections::BTreeSet<_> = ports.iter().collect();
        assert_eq!(different.len(), 20);
        TcpListener::bind((Ipv4Addr::LOCALHOST, ports[0])).expect("the port is free");
    }
}
