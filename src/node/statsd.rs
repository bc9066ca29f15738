//! Pushing figures to a statsd over UDP: `-statsd-address`.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{error, info, warn};

use super::figures;
use super::start::Node;
use report::{Report, Reported};

mod report;

/// What is left of an interval for a round's own work; its datagrams are spread over the rest.
///
/// Source: `statsdLoop`, nsqd/statsd.go (nsq 3103474b).
const ROUND_TIME_MAX: Duration = Duration::from_secs(1);

/// How long DNS may take before a round is given up.
const RESOLVE_TIME_MAX: Duration = Duration::from_secs(1);

/// More does not fit into a UDP datagram over IPv4.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// Pushes a report each `-statsd-interval`, the first one an interval after the start, until the
/// node stops.
///
/// Nothing waits for statsd: what cannot be sent is lost, except that counters which could not be
/// addressed at all are told with the next report.
pub(crate) async fn run(node: Arc<Node>, mut stopped: watch::Receiver<bool>) {
    let interval = node.options.statsd_interval;
    let mut rounds = tokio::time::interval_at(Instant::now() + interval, interval);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut reported = Reported::default();
    let mut health = Health::default();
    loop {
        tokio::select! {
            _ = rounds.tick() => {}
            _ = stopped.wait_for(|is_stopped| *is_stopped) => return,
        }
        let address = &node.options.statsd_address;
        let socket = match open(address).await {
            Ok(socket) => socket,
            Err(error) => {
                health.failed(address, &error);
                continue;
            }
        };
        let asked = Arc::clone(&node);
        // Reading every topic takes its lock and, with percentiles, adds up its histograms.
        let gathered = tokio::task::spawn_blocking(move || gather(&asked, reported));
        let packets;
        (packets, reported) = match gathered.await {
            Ok(gathered) => gathered,
            Err(error) => {
                error!(%error, "statsd report failed");
                return;
            }
        };
        match send(&socket, &packets, interval.saturating_sub(ROUND_TIME_MAX), &mut stopped).await {
            Ok(()) => health.succeeded(address),
            Err(error) => health.failed(address, &error),
        }
    }
}

/// Every line of a report in datagrams, topic by topic.
///
/// A report is kept whole, so that its datagrams can be spread evenly; its size follows from the
/// names of this node.
fn gather(node: &Node, before: Reported) -> (Vec<Vec<u8>>, Reported) {
    let options = &node.options;
    let bytes_max = usize::try_from(options.statsd_udp_packet_size).unwrap_or(usize::MAX);
    let prefix = options.statsd_prefix_with_host();
    let quantiles = &options.e2e_processing_latency_percentiles;
    let mut report = Report::new(&prefix, bytes_max.min(DATAGRAM_BYTES_MAX), quantiles, before);
    let has_ephemeral = !options.statsd_exclude_ephemeral;
    for topic in node.registry.all_topics() {
        if has_ephemeral || !topic.name().is_ephemeral() {
            let stats = topic.stats(&|channel| has_ephemeral || !channel.is_ephemeral());
            report.topic(topic.number(), &stats);
        }
    }
    if options.statsd_mem_stats {
        report.memory(&figures::memory());
    }
    report.finish()
}

/// A socket for one round, so that an address that moved is found.
async fn open(address: &str) -> io::Result<UdpSocket> {
    // Go takes an address without a host for this machine.
    let named = match address.starts_with(':') {
        true => format!("localhost{address}"),
        false => address.to_owned(),
    };
    let found = tokio::time::timeout(RESOLVE_TIME_MAX, tokio::net::lookup_host(named)).await;
    let found = found.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "no such address");
    for to in found {
        match connect(to).await {
            Ok(socket) => return Ok(socket),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

async fn connect(to: SocketAddr) -> io::Result<UdpSocket> {
    let from: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(from).await?;
    socket.connect(to).await?;
    Ok(socket)
}

/// Sends `packets` evenly over `span`; what is left when the node stops goes out at once.
async fn send(
    socket: &UdpSocket,
    packets: &[Vec<u8>],
    span: Duration,
    stopped: &mut watch::Receiver<bool>,
) -> io::Result<()> {
    let start = Instant::now();
    let mut is_stopping = false;
    let mut result = Ok(());
    for (index, packet) in packets.iter().enumerate() {
        let due = start + span.mul_f64(index as f64 / packets.len() as f64);
        if index > 0 && !is_stopping {
            let stop = stopped.wait_for(|is_stopped| *is_stopped);
            is_stopping = tokio::time::timeout_at(due, stop).await.is_ok();
        }
        // An error is most often the news that nobody read the datagram before: go on.
        result = result.and(socket.send(packet).await.map(|_| ()));
    }
    result
}

/// Whether statsd can be reached; a change is one line in the log.
#[derive(Debug, Default)]
struct Health {
    is_failing: bool,
}

impl Health {
    fn failed(&mut self, address: &str, error: &io::Error) {
        if !std::mem::replace(&mut self.is_failing, true) {
            warn!(address, %error, "cannot push to statsd; it is tried again each interval");
        }
    }

    fn succeeded(&mut self, address: &str) {
        if std::mem::take(&mut self.is_failing) {
            info!(address, "statsd can be reached again");
        }
    }
}
