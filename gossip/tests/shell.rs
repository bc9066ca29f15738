//! The agent against peers that misbehave, on loopback: what the core never sees.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests of the shell")]
#![expect(clippy::unwrap_used, reason = "a test may")]
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use grapevine_gossip::agent::{Config, start};
use grapevine_gossip::{Handle, Producer};
use tokio::runtime::Runtime;

/// An agent with a thread of its own.
struct Node {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Node {
    fn start(number: u16, bind: SocketAddr, seeds: &[SocketAddr]) -> Self {
        Self::behind(number, bind, None, seeds)
    }

    /// A node that others reach at another address than the one it binds.
    fn behind(
        number: u16,
        bind: SocketAddr,
        advertise: Option<SocketAddr>,
        seeds: &[SocketAddr],
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let config = Config {
            bind,
            advertise,
            seeds: seeds.iter().map(SocketAddr::to_string).collect(),
            producer: Producer {
                broadcast_address: "127.0.0.1".to_owned(),
                tcp_port: number,
                http_port: number + 1000,
                ..Producer::default()
            },
            ..Config::default()
        };
        let handle = runtime.block_on(start(config)).unwrap();
        Self { handle, runtime: Some(runtime) }
    }

    fn alone(number: u16) -> Self {
        Self::start(number, any(), &[])
    }

    fn with_seeds(number: u16, seeds: &[SocketAddr]) -> Self {
        Self::start(number, any(), seeds)
    }

    fn addr(&self) -> SocketAddr {
        self.handle.local_address()
    }

    fn lists(&self, count: usize) -> bool {
        self.handle.view().nodes().len() == count
    }

    fn counter(&self, name: &str) -> u64 {
        let counters = self.handle.stats().counters;
        counters.iter().find(|(known, _)| *known == name).map_or(0, |&(_, count)| count)
    }

    fn leave(&self) {
        self.runtime.as_ref().unwrap().block_on(self.handle.leave());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn within(bound: Duration, what: &str, holds: impl Fn() -> bool) -> Duration {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < bound, "not within {bound:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    started.elapsed()
}

const SOON: Duration = Duration::from_secs(8);

/// Whether the other end closes the stream within `bound`.
fn is_closed_within(stream: &mut TcpStream, bound: Duration) -> bool {
    stream.set_read_timeout(Some(bound)).unwrap();
    match stream.read(&mut [0; 64]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn garbage_and_giants_end_their_stream_and_nothing_else() {
    let node = Node::alone(1);
    let giant = u32::MAX.to_be_bytes().to_vec();
    let garbage = [&40_u32.to_be_bytes()[..], &[0xa5; 40]].concat();
    let empty = 0_u32.to_be_bytes().to_vec();
    for bytes in [giant, garbage, empty] {
        let mut stream = TcpStream::connect(node.addr()).unwrap();
        stream.write_all(&bytes).unwrap();
        assert!(is_closed_within(&mut stream, SOON), "after {bytes:02x?}");
    }
    let other = Node::with_seeds(2, &[node.addr()]);
    within(SOON, "both list both", || node.lists(2) && other.lists(2));
}

#[test]
fn silent_streams_keep_nobody_out() {
    let node = Node::alone(1);
    let _silent: Vec<TcpStream> =
        (0..40).map(|_| TcpStream::connect(node.addr()).unwrap()).collect();
    let mut half = TcpStream::connect(node.addr()).unwrap();
    half.write_all(&[0, 0]).unwrap();
    within(SOON, "the node has accepted them", || node.counter("streams_refused") > 0);
    let other = Node::with_seeds(2, &[node.addr()]);
    within(SOON, "both list both", || node.lists(2) && other.lists(2));
}

#[test]
fn a_seed_that_is_not_up_yet_is_found_when_it_is() {
    // A port that was free a moment ago.
    let addr = TcpListener::bind(any()).unwrap().local_addr().unwrap();
    let early = Node::with_seeds(1, &[addr]);
    std::thread::sleep(Duration::from_millis(600));
    let late = Node::start(2, addr, &[]);
    within(SOON, "both list both", || early.lists(2) && late.lists(2));
}

#[test]
fn a_seed_that_says_nothing_or_goes_away_in_the_middle_does_not_hold_up_the_join() {
    let node = Node::alone(1);
    let mute = TcpListener::bind(any()).unwrap();
    let rude = TcpListener::bind(any()).unwrap();
    let seeds = [mute.local_addr().unwrap(), rude.local_addr().unwrap(), node.addr()];
    let mut kept = Vec::new();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = mute.accept() {
            kept.push(stream);
        }
    });
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = rude.accept() {
            // Half of a frame, then nobody is there.
            let _ = stream.write_all(&[0, 0, 1, 0, 9, 9, 9]);
        }
    });
    let joiner = Node::with_seeds(2, &seeds);
    within(SOON, "both list both", || node.lists(2) && joiner.lists(2));
}

#[test]
fn after_a_stall_the_socket_is_read_before_anybody_is_blamed() {
    let other = Node::alone(1);
    // The node runs in this thread, so that it stands still when this thread does.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = Config {
        bind: any(),
        seeds: vec![other.addr().to_string()],
        producer: Producer {
            broadcast_address: "127.0.0.1".to_owned(),
            tcp_port: 2,
            http_port: 1002,
            ..Producer::default()
        },
        ..Config::default()
    };
    runtime.block_on(async {
        let handle = start(config).await.unwrap();
        let both = |handle: &Handle| handle.view().nodes().len() == 2;
        for _ in 0..800 {
            if both(&handle) && other.lists(2) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(1600));
            for _ in 0..100 {
                tokio::time::sleep(Duration::from_millis(10)).await;
                assert!(both(&handle), "a node that stood still blames the other");
                assert!(other.lists(2), "a node that is back is not listed");
            }
        }
        let stalls =
            handle.stats().counters.iter().any(|&(name, count)| name == "stalls" && count >= 3);
        assert!(stalls, "the stalls were noticed");
    });
}

#[test]
fn a_node_that_has_left_frees_its_port_and_answers_no_more() {
    let node = Node::alone(1);
    let other = Node::with_seeds(2, &[node.addr()]);
    within(SOON, "both list both", || node.lists(2) && other.lists(2));
    let addr = other.addr();
    let started = Instant::now();
    other.leave();
    assert!(started.elapsed() < Duration::from_millis(1500), "goodbye is said, not timed out");
    within(SOON, "the other forgets it", || node.lists(1));
    // A second goodbye and late calls do no harm.
    other.leave();
    other.handle.topic_created("late");
    within(SOON, "the port is free", || TcpStream::connect(addr).is_err());
    let heir = Node::start(3, addr, &[node.addr()]);
    within(SOON, "another node lives there now", || node.lists(2) && heir.lists(2));
}

/// The way to a node, which can be cut: packets are lost then, and streams, old ones and new ones,
/// stand still.
struct Way {
    addr: SocketAddr,
    is_cut: Arc<AtomicBool>,
}

impl Way {
    /// The way to a node that will listen at `to`.
    fn to(to: SocketAddr) -> Self {
        let (listener, socket, addr) = free_port();
        let is_cut = Arc::new(AtomicBool::new(false));
        let cut = Arc::clone(&is_cut);
        std::thread::spawn(move || {
            let mut packet = [0; 2048];
            while let Ok((len, _)) = socket.recv_from(&mut packet) {
                if !cut.load(Ordering::SeqCst) {
                    let _ = socket.send_to(&packet[..len], to);
                }
            }
        });
        let cut = Arc::clone(&is_cut);
        std::thread::spawn(move || {
            while let Ok((here, _)) = listener.accept() {
                if let Ok(there) = TcpStream::connect(to) {
                    carry(here.try_clone().unwrap(), there.try_clone().unwrap(), &cut);
                    carry(there, here, &cut);
                }
            }
        });
        Self { addr, is_cut }
    }
}

/// Carries what comes from one stream to the other, while the way is not cut.
fn carry(mut from: TcpStream, mut to: TcpStream, is_cut: &Arc<AtomicBool>) {
    let is_cut = Arc::clone(is_cut);
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(len @ 1..) = from.read(&mut bytes) {
            if is_cut.load(Ordering::SeqCst) || to.write_all(&bytes[..len]).is_err() {
                // What was lost once is never delivered, so nothing after it can be.
                return;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
}

fn free_port() -> (TcpListener, UdpSocket, SocketAddr) {
    loop {
        let listener = TcpListener::bind(any()).unwrap();
        let addr = listener.local_addr().unwrap();
        if let Ok(socket) = UdpSocket::bind(addr) {
            return (listener, socket, addr);
        }
    }
}

#[test]
fn after_a_partition_of_packets_and_streams_both_find_each_other_again() {
    let binds = [free_port().2, free_port().2];
    let ways = binds.map(Way::to);
    let [first, second] = ways.each_ref().map(|way| way.addr);
    let nodes = [
        Node::behind(1, binds[0], Some(first), &[]),
        Node::behind(2, binds[1], Some(second), &[first]),
    ];
    within(SOON, "both list both", || nodes.iter().all(|node| node.lists(2)));
    let set = |is_cut| ways.iter().for_each(|way| way.is_cut.store(is_cut, Ordering::SeqCst));
    for topic in ["one", "two"] {
        set(true);
        within(3 * SOON, "each is alone", || nodes.iter().all(|node| node.lists(1)));
        nodes[1].handle.topic_created(topic);
        set(false);
        within(3 * SOON, "both list both", || nodes.iter().all(|node| node.lists(2)));
        within(SOON, "what was done meanwhile is known", || {
            nodes[0].handle.view().lookup(topic).is_some_and(|found| found.producers.len() == 1)
        });
    }
}

#[test]
fn a_member_that_is_killed_and_started_again_at_its_port_is_back_under_its_new_identity() {
    let node = Node::alone(1);
    let mut peer = Node::with_seeds(2, &[node.addr()]);
    within(SOON, "both list both", || node.lists(2) && peer.lists(2));
    for life in 3..6 {
        let addr = peer.addr();
        drop(peer);
        // The old process lets go of its port a little later.
        within(SOON, "the port is free", || {
            TcpListener::bind(addr).is_ok() && UdpSocket::bind(addr).is_ok()
        });
        peer = Node::start(life, addr, &[node.addr()]);
        within(SOON, "both list both, and nobody else", || {
            let view = node.handle.view();
            let nodes = view.nodes();
            nodes.len() == 2
                && nodes.iter().any(|listed| listed.producer.tcp_port == life)
                && peer.lists(2)
        });
    }
}
