//! Real nodes, and waiting until they agree on something.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Anyhow;
use crate::http::Client;
use crate::namespaces::Network;

/// Pause between two questions to a node.
const POLL: Duration = Duration::from_millis(2);

/// Longest wait for anything; more is a failure.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Ports of the first node; each node has three, 10 after those of the one before.
const PORT_FIRST: u16 = 21_500;

/// Processes of the program.
pub(crate) struct Cluster {
    program: PathBuf,
    network: Network,
    folder: PathBuf,
    processes: Vec<Option<Child>>,
    clients: Vec<Client>,
    /// Nodes that run and can answer.
    awake: BTreeSet<usize>,
}

/// What to wait for at every node that is awake.
#[derive(Clone, Copy)]
pub(crate) enum Wait<'a> {
    /// It lists every node.
    AllListed,
    /// It does not list this one.
    Gone(usize),
    /// It lists the nodes of its half only, which end before this one and begin with it.
    Halves(usize),
    /// It knows that node `at` has `topic`.
    Topic { topic: &'a str, at: usize },
}

impl Cluster {
    pub(crate) fn start(program: PathBuf, network: Network, nodes: usize) -> Anyhow<Self> {
        let folder = std::env::temp_dir().join(format!("fidelity-{}", std::process::id()));
        let clients = (0..nodes)
            .map(|node| {
                let (_, http) = network.addresses(node);
                let to: SocketAddr = (http.parse::<std::net::IpAddr>()?, port(node, 1)).into();
                Ok(Client::new(to))
            })
            .collect::<Anyhow<Vec<Client>>>()?;
        let processes = (0..nodes).map(|_| None).collect();
        let mut cluster =
            Self { program, network, folder, processes, clients, awake: BTreeSet::new() };
        for node in 0..nodes {
            cluster.launch(node)?;
        }
        Ok(cluster)
    }

    /// What anything takes from one process to another and into the hands of the task that it is
    /// meant for, in microseconds: half of the median time in which a node at rest answers the
    /// least that it can be asked. The way through the kernel is the smaller part of it.
    pub(crate) fn delay_us(&mut self) -> Anyhow<u64> {
        const TRIPS: usize = 1000;
        self.wait(Wait::AllListed)?;
        let mut trips = Vec::with_capacity(TRIPS);
        for trip in 0..TRIPS {
            let client = trip % self.clients.len();
            std::thread::sleep(POLL);
            let started = Instant::now();
            self.clients[client].ask("GET", "/ping")?;
            trips.push(started.elapsed());
        }
        trips.sort_unstable();
        let delay = u64::try_from(trips[TRIPS / 2].as_micros() / 2)?;
        println!("one way on this machine: {delay} us");
        Ok(delay)
    }

    /// Starts the process of a node, with what its disk holds.
    pub(crate) fn launch(&mut self, node: usize) -> Anyhow<()> {
        let data = self.folder.join(node.to_string());
        std::fs::create_dir_all(&data)?;
        let (gossip, http) = self.network.addresses(node);
        let mut command = self.network.command(node, &self.program);
        command.arg("nsqd").arg(format!("--data-path={}", data.display()));
        command.arg(format!("--tcp-address={http}:{}", port(node, 0)));
        command.arg(format!("--http-address={http}:{}", port(node, 1)));
        command.arg(format!("--gossip-address={gossip}:{}", port(node, 2)));
        command.arg(format!("--broadcast-address={http}"));
        command.args(["--lookup-http-address=", "--lookup-tcp-address=", "--log-level=error"]);
        for seed in (0..2).filter(|&seed| seed != node) {
            let (address, _) = self.network.addresses(seed);
            command.arg(format!("--gossip-seed-address={address}:{}", port(seed, 2)));
        }
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        self.processes[node] = Some(process);
        self.awake.insert(node);
        Ok(())
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, node: usize) -> Anyhow<()> {
        self.awake.remove(&node);
        if let Some(mut process) = self.processes[node].take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// `STOP` or `CONT`.
    pub(crate) fn signal(&mut self, node: usize, name: &str) -> Anyhow<()> {
        let Some(process) = &self.processes[node] else { return Ok(()) };
        let id = process.id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &id]).status()?;
        if !status.success() {
            return Err(format!("kill -{name} {id}: {status}").into());
        }
        if name == "STOP" {
            self.awake.remove(&node);
        } else {
            self.awake.insert(node);
        }
        Ok(())
    }

    pub(crate) fn create_topic(&mut self, node: usize, topic: &str) -> Anyhow<()> {
        let (status, body) =
            self.clients[node].ask("POST", &format!("/topic/create?topic={topic}"))?;
        if status == 200 { Ok(()) } else { Err(format!("{status}: {body}").into()) }
    }

    /// Parts the network; false if it cannot be.
    pub(crate) fn part(&self, first: usize) -> Anyhow<bool> {
        Ok(self.network.part(first)?)
    }

    pub(crate) fn heal(&self) -> Anyhow<()> {
        Ok(self.network.heal()?)
    }

    /// Returns when it is so at every node that is awake.
    pub(crate) fn wait(&mut self, what: Wait<'_>) -> Anyhow<()> {
        let started = Instant::now();
        let mut waiting = self.awake.clone();
        while !waiting.is_empty() {
            waiting.retain(|&node| !self.is_so(node, what));
            if started.elapsed() > WAIT_MAX {
                return Err(format!("nodes {waiting:?} did not agree in {WAIT_MAX:?}").into());
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn is_so(&mut self, node: usize, what: Wait<'_>) -> bool {
        let all = 0..self.processes.len();
        match what {
            Wait::AllListed => self.listed(node) == Some(all.collect()),
            Wait::Gone(gone) => self.listed(node).is_some_and(|listed| !listed.contains(&gone)),
            Wait::Halves(first) => {
                let half = all.filter(|&other| (other < first) == (node < first));
                self.listed(node) == Some(half.collect())
            }
            Wait::Topic { topic, at } => {
                let answer = self.clients[node].ask("GET", &format!("/lookup?topic={topic}"));
                answer
                    .is_ok_and(|(status, body)| status == 200 && self.nodes_in(&body).contains(&at))
            }
        }
    }

    /// The nodes that `node` lists as producers.
    fn listed(&mut self, node: usize) -> Option<BTreeSet<usize>> {
        let (status, body) = self.clients[node].ask("GET", "/nodes").ok()?;
        (status == 200).then(|| self.nodes_in(&body))
    }

    /// The nodes among the `producers` of a document, known by their ports.
    fn nodes_in(&self, body: &str) -> BTreeSet<usize> {
        let document: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
        let producers = document["producers"].as_array().cloned().unwrap_or_default();
        let ports = producers.iter().filter_map(|producer| producer["http_port"].as_u64());
        let ports: BTreeSet<u64> = ports.collect();
        (0..self.processes.len())
            .filter(|&node| ports.contains(&u64::from(port(node, 1))))
            .collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().flatten() {
            // It may have ended; either way it is gone afterwards.
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn port(node: usize, which: u16) -> u16 {
    PORT_FIRST + 10 * u16::try_from(node).unwrap_or(0) + which
}
