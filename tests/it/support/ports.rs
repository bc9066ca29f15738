//! Loopback ports that stay ours while nobody listens on them.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the ephemeral range (32768 on Linux), so that no outgoing connection takes a port, and
/// below those `grapevine cluster` draws from (20000), so that its test does not either.
const FIRST: u16 = 15_000;
const COUNT: u16 = 4_000;

/// Lock files of the ports taken; held until the process ends, so that a node can come back to
/// its own port and no other test run takes it meanwhile.
static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());
static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port that is free for TCP and UDP now and reserved among test processes.
pub(crate) fn free_port() -> u16 {
    let dir = std::env::temp_dir().join("grapevine-test-ports");
    std::fs::create_dir_all(&dir).expect("temporary folder for port locks");
    let offset = (std::process::id() % 97) as u16 * 41;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + offset.wrapping_add(step) % COUNT;
        let Ok(lock) = File::create(dir.join(port.to_string())) else { continue };
        if lock.try_lock().is_err() {
            continue;
        }
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, port));
        if tcp.is_ok() && udp.is_ok() {
            HELD.lock().expect("port list").push(lock);
            return port;
        }
    }
    panic!("no free port in {FIRST}..{}", FIRST + COUNT);
}
