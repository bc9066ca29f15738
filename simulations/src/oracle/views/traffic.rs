//! What is sent: sizes, how much, how often, and to whom.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use grapevine_gossip::cluster::Cluster;
use grapevine_gossip::codec::{SwimKind, swim_receiver};
use grapevine_gossip::envelope::{HEADER_BYTES, claimed_sender};
use grapevine_gossip::message::{
    DATAGRAM_BYTES_MAX, FRAME_BYTES_MAX, Liveness, MemberState, swim_kind, swim_packet,
};
use grapevine_protocol::Moment;

use crate::oracle::violation;
use crate::outcome::Violation;
use crate::plan::Plan;
use crate::world::timings;

/// Renewals of one node in a minute.
const RENEWALS_MAX: usize = 6;

/// Less than a minute of any node's own time, however fast its clock runs.
const RENEWALS_PERIOD: Duration = Duration::from_secs(45);

/// After its last renewal a node may have to wait for a minute of its own clock, which may be slow,
/// and then some seconds until all know.
const SPENT_FOR: Duration = Duration::from_secs(90);

/// Datagrams of one node in a second that do not come from its rounds of rumours: probes and their
/// answers, digests, pulls and what they bring.
const DATAGRAMS_BASE_MAX: u32 = 400;

/// Datagrams in each round of rumours: three listeners, for membership and for the catalogue, the
/// latter with as many datagrams as a burst of changes takes.
const DATAGRAMS_PER_ROUND_MAX: f64 = 12.0;

/// Inputs that one node handles in a second: what it is sent, and its timers.
const INPUTS_BASE_MAX: u32 = 4_000;

/// The same for each node there is, since all may join through one seed at once: a dozen inputs for
/// a stream, and as many for news.
const INPUTS_PER_NODE_MAX: u32 = 50;

/// What is counted of one node.
#[derive(Debug, Default)]
struct Meter {
    second: u64,
    datagrams: u32,
    probes: u32,
    inputs: u32,
    identity: Option<(u64, u32)>,
    /// Apart, so that what each event touches is together.
    rare: Box<Rare>,
}

/// What is seldom counted.
#[derive(Debug, Default)]
struct Rare {
    renewals: VecDeque<Moment>,
    /// Bytes to and from addresses nobody has vouched for.
    outside: BTreeMap<SocketAddr, Balance>,
}

#[derive(Debug, Default)]
struct Balance {
    sent: u64,
    received: u64,
}

/// What all nodes send.
#[derive(Debug)]
pub(super) struct Traffic {
    meters: Vec<Meter>,
    datagrams_max: u32,
    probes_max: u32,
    inputs_max: u32,
    pub(super) renewals: u64,
}

impl Traffic {
    pub(super) fn new(plan: &Plan) -> Self {
        let timings = timings(&plan.knobs);
        let per_second = |period: Duration| 1.0 / period.as_secs_f64();
        let rounds = per_second(timings.spread_period) * DATAGRAMS_PER_ROUND_MAX;
        Self {
            meters: (0..plan.nodes).map(|_| Meter::default()).collect(),
            datagrams_max: DATAGRAMS_BASE_MAX + 4 * plan.nodes as u32 + rounds as u32,
            // A clock may run fast, and what was late is made up for.
            probes_max: (per_second(timings.probe_period) * 1.3) as u32 + 3,
            inputs_max: INPUTS_BASE_MAX + INPUTS_PER_NODE_MAX * plan.nodes as u32,
            renewals: 0,
        }
    }

    /// A new process: it has renewed nothing and knows nobody.
    pub(super) fn started(&mut self, node: usize) {
        self.meters[node] = Meter::default();
    }

    /// A core was called.
    pub(super) fn handled(
        &mut self,
        node: usize,
        cluster: &Cluster,
        now: Moment,
    ) -> Result<(), Violation> {
        let meter = &mut self.meters[node];
        meter.roll(now);
        meter.inputs += 1;
        if meter.inputs > self.inputs_max {
            let what = format!("inputs={} in=1s", meter.inputs);
            return Err(violation("V8", "storm", node, what));
        }
        let me = cluster.membership().me();
        let identity = Some((me.epoch, me.renew));
        if meter.identity == identity {
            return Ok(());
        }
        let before = std::mem::replace(&mut meter.identity, identity);
        let Some((epoch, renew)) = before else { return Ok(()) };
        if epoch != me.epoch || me.renew <= renew {
            return Ok(());
        }
        self.renewals += u64::from(me.renew - renew);
        meter.rare.renewals.extend((renew..me.renew).map(|_| now));
        meter.rare.renewals.retain(|&at| now.since(at) < SPENT_FOR);
        let recent =
            meter.rare.renewals.iter().filter(|&&at| now.since(at) < RENEWALS_PERIOD).count();
        if recent > RENEWALS_MAX {
            let what = format!("renewals={recent} in={RENEWALS_PERIOD:?}");
            return Err(violation("L4", "too-many-renewals", node, what));
        }
        Ok(())
    }

    /// A node has renewed its identity as often as it may, and stays out until it may again. It
    /// also takes others for dead who do not answer it.
    pub(super) fn is_any_spent(&self, now: Moment) -> bool {
        self.meters.iter().any(|meter| {
            let recent = meter.rare.renewals.iter().filter(|&&at| now.since(at) < SPENT_FOR);
            recent.count() >= RENEWALS_MAX
        })
    }

    /// A frame is written.
    pub(super) fn wrote_frame(&self, node: usize, bytes: &[u8]) -> Result<(), Violation> {
        fits(node, bytes, FRAME_BYTES_MAX, "frame")
    }

    /// A datagram is sent. `is_vouched`: the receiver is, or was, a member at the sender.
    pub(super) fn sent(
        &mut self,
        node: usize,
        to: SocketAddr,
        bytes: &[u8],
        is_vouched: bool,
        cluster: Option<&Cluster>,
        now: Moment,
    ) -> Result<(), Violation> {
        fits(node, bytes, DATAGRAM_BYTES_MAX, "datagram")?;
        let meter = &mut self.meters[node];
        meter.roll(now);
        meter.datagrams += 1;
        if meter.datagrams > self.datagrams_max {
            let what = format!("datagrams={} in=1s", meter.datagrams);
            return Err(violation("L4", "too-many-datagrams", node, what));
        }
        match bytes.get(HEADER_BYTES..).and_then(swim_kind) {
            // A member asked to have somebody probed: it vouches for the address.
            Some(SwimKind::Indirect) => return Ok(()),
            Some(SwimKind::Ping) => {
                meter.probes += 1;
                if meter.probes > self.probes_max {
                    let what = format!("probes={} in=1s", meter.probes);
                    return Err(violation("L4", "too-many-probes", node, what));
                }
            }
            Some(SwimKind::TurnUndead) => expelled(node, bytes, cluster)?,
            Some(_) | None => {}
        }
        if is_vouched { Ok(()) } else { meter.outside_sent(node, to, bytes.len()) }
    }

    /// A member has this address: what it is sent need not be counted any more.
    pub(super) fn vouched(&mut self, node: usize, addr: SocketAddr) {
        self.meters[node].rare.outside.remove(&addr);
    }

    /// A datagram came from somebody nobody has vouched for.
    pub(super) fn received(&mut self, node: usize, from: SocketAddr, bytes: usize) {
        self.meters[node].rare.outside.entry(from).or_default().received += bytes as u64;
    }
}

impl Meter {
    fn roll(&mut self, now: Moment) {
        let second = now.as_nanos() / 1_000_000_000;
        if second != self.second {
            self.second = second;
            (self.datagrams, self.probes, self.inputs) = (0, 0, 0);
        }
    }

    fn outside_sent(&mut self, node: usize, to: SocketAddr, bytes: usize) -> Result<(), Violation> {
        let balance = self.rare.outside.entry(to).or_default();
        balance.sent += bytes as u64;
        if balance.sent > balance.received {
            let what = format!("to={to} sent={} received={}", balance.sent, balance.received);
            return Err(violation("B4", "amplifier", node, what));
        }
        Ok(())
    }
}

fn fits(node: usize, bytes: &[u8], most: usize, kind: &str) -> Result<(), Violation> {
    if bytes.len() <= most {
        return Ok(());
    }
    Err(violation("B1", "too-large", node, format!("{kind}={} most={most}", bytes.len())))
}

/// Somebody is told that it is down: it must not be alive to the sender.
fn expelled(node: usize, bytes: &[u8], cluster: Option<&Cluster>) -> Result<(), Violation> {
    let body = claimed_sender(bytes).zip(bytes.get(HEADER_BYTES..));
    let swim = body.and_then(|(sender, body)| swim_packet(sender, body));
    let receiver = swim.and_then(|swim| swim_receiver(&swim));
    let Some((receiver, cluster)) = receiver.zip(cluster) else { return Ok(()) };
    let states = cluster.membership().states();
    let is_alive =
        |state: &MemberState| state.identity == receiver && state.liveness == Liveness::Alive;
    // The first is the sender itself.
    if states.iter().skip(1).any(is_alive) {
        let what = format!("to={}", receiver.addr);
        return Err(violation("S10", "expels-the-living", node, what));
    }
    Ok(())
}

/// Bytes per node and second that an idle node may send: 0.8 KB at 10 nodes, 1.0 KB at 100 and
/// 1.5 KB at 1000, in between in proportion to the logarithm, and a tenth more: what follows on
/// chaos has nodes that are down or have left, who are tried again now and then.
pub(super) fn idle_bytes_max(nodes: usize) -> f64 {
    let tens = libm::log10(nodes.max(1) as f64);
    let kilobytes = match tens {
        tens if tens <= 2.0 => 0.8 + 0.2 * (tens - 1.0).max(0.0),
        tens => 1.0 + 0.5 * (tens - 2.0),
    };
    kilobytes * 1024.0 * 1.1
}
