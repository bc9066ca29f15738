//! Several nodes that gossip.

use std::collections::BTreeSet;
use std::time::Duration;

use super::http::get;
use super::node::Nsqd;
use super::wait::eventually_ok;

/// Joining takes well under a second on a quiet machine.
const JOIN_MAX: Duration = Duration::from_secs(20);

/// Nodes of one cluster; node 0 is the seed of all others.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Nsqd>,
}

impl Cluster {
    /// A cluster of `count` nodes, each of which already lists all of them in `/nodes`.
    #[track_caller]
    pub(crate) fn of(count: usize) -> Self {
        Self::with(count, &[])
    }

    /// The same, with these flags for each.
    #[track_caller]
    pub(crate) fn with(count: usize, flags: &[&str]) -> Self {
        let mut cluster = Self { nodes: Vec::new() };
        for index in 0..count {
            let id = format!("-node-id={index}");
            let mut node = Nsqd::prepare(&[&[id.as_str()], flags].concat());
            if index > 0 {
                node.set_seeds(vec![cluster.nodes[0].gossip()]);
            }
            node.launch();
            cluster.nodes.push(node);
        }
        let everyone: Vec<usize> = (0..count).collect();
        cluster.wait_until_known(JOIN_MAX, &everyone);
        cluster
    }

    /// Waits until each of these nodes lists exactly these nodes.
    #[track_caller]
    pub(crate) fn wait_until_known(&self, bound: Duration, indexes: &[usize]) {
        let want: BTreeSet<u64> =
            indexes.iter().map(|&i| self.nodes[i].tcp_port().into()).collect();
        for &index in indexes {
            eventually_ok(bound, &format!("node {index} lists nodes {indexes:?}"), || {
                let listed = listed(&self.nodes[index].http(), "/nodes")?;
                if listed == want { Ok(()) } else { Err(format!("{listed:?}, not {want:?}")) }
            });
        }
    }

    /// Waits until, asked on any of `asked`, `/lookup` names exactly the nodes `producers`.
    ///
    /// Both addresses of each node are asked: nsqd's and nsqlookupd's.
    #[track_caller]
    pub(crate) fn wait_for_lookup(
        &self,
        bound: Duration,
        topic: &str,
        asked: &[usize],
        producers: &[usize],
    ) {
        let want: BTreeSet<u64> =
            producers.iter().map(|&i| self.nodes[i].tcp_port().into()).collect();
        let path = format!("/lookup?topic={topic}");
        for &index in asked {
            for address in [self.nodes[index].http(), self.nodes[index].lookup_http()] {
                let what = format!("/lookup of {topic} on node {index} names {producers:?}");
                eventually_ok(bound, &what, || {
                    let listed = listed(&address, &path)?;
                    if listed == want { Ok(()) } else { Err(format!("{listed:?}, not {want:?}")) }
                });
            }
        }
    }
}

/// The TCP ports in an answer's `producers`; a 404 means nobody.
fn listed(address: &str, path: &str) -> Result<BTreeSet<u64>, String> {
    let answer = get(address, path).map_err(|error| error.to_string())?;
    if answer.status == 404 {
        return Ok(BTreeSet::new());
    }
    let json = answer.json();
    let producers = json["producers"].as_array().ok_or_else(|| format!("{path}: {json}"))?;
    let ports: Vec<u64> = producers.iter().filter_map(|p| p["tcp_port"].as_u64()).collect();
    let set: BTreeSet<u64> = ports.iter().copied().collect();
    if set.len() == ports.len() { Ok(set) } else { Err(format!("a node is listed twice: {json}")) }
}
