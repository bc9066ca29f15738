//! The network between the nodes: loopback, or a network namespace for each node.
//!
//! Each namespace has two interfaces: one for gossip, on a bridge of its half while the network is
//! parted, and one that is always connected, over which the nodes are asked. Bridges that are not
//! connected drop what one half sends to the other, without an answer, as a broken cable does.
//!
//! Neighbours' hardware addresses are fixed, as between networks that a router joins. Else a
//! kernel that looked for one while the network was parted asks again only once a second, and until
//! then holds back datagrams to it: that is no part of the model.

use std::io;
use std::process::Command;

/// Prefix of everything that is made, so that it can be removed.
const NAME: &str = "gvfid";

/// Where nodes live.
#[derive(Debug)]
pub(crate) enum Network {
    /// All on 127.0.0.1.
    Loopback,
    /// Node `i` in namespace `gvfid<i>`.
    Namespaces(usize),
}

impl Network {
    pub(crate) fn loopback() -> Self {
        Self::Loopback
    }

    /// Makes `nodes` namespaces and the bridges between them.
    pub(crate) fn namespaces(nodes: usize) -> io::Result<Self> {
        remove(nodes);
        let network = Self::Namespaces(nodes);
        for bridge in ["a", "b", "c"] {
            ip(&format!("link add {NAME}{bridge} type bridge"))?;
            ip(&format!("link set {NAME}{bridge} up"))?;
        }
        ip(&format!("addr add 10.213.1.254/24 dev {NAME}c"))?;
        for node in 0..nodes {
            let space = format!("{NAME}{node}");
            ip(&format!("netns add {space}"))?;
            ip(&format!("-n {space} link set lo up"))?;
            for (net, bridge) in [(0, "a"), (1, "c")] {
                let outside = format!("{space}o{net}");
                let (name, address) = (format!("e{net}"), hardware_address(net, node));
                ip(&format!(
                    "link add {outside} type veth peer name {name} address {address} netns {space}"
                ))?;
                ip(&format!("link set {outside} master {NAME}{bridge}"))?;
                ip(&format!("link set {outside} up"))?;
                ip(&format!("-n {space} addr add 10.213.{net}.{}/24 dev e{net}", node + 1))?;
                ip(&format!("-n {space} link set e{net} up"))?;
            }
            for other in (0..nodes).filter(|&other| other != node) {
                let (to, address) = (other + 1, hardware_address(0, other));
                ip(&format!(
                    "-n {space} neigh add 10.213.0.{to} lladdr {address} dev e0 nud permanent"
                ))?;
            }
        }
        Ok(network)
    }

    /// The address node `node` gossips at, and the one it answers HTTP at.
    pub(crate) fn addresses(&self, node: usize) -> (String, String) {
        match self {
            Self::Loopback => ("127.0.0.1".to_owned(), "127.0.0.1".to_owned()),
            Self::Namespaces(_) => {
                (format!("10.213.0.{}", node + 1), format!("10.213.1.{}", node + 1))
            }
        }
    }

    /// What starts a program where node `node` lives.
    pub(crate) fn command(&self, node: usize, program: &std::path::Path) -> Command {
        match self {
            Self::Loopback => Command::new(program),
            Self::Namespaces(_) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &format!("{NAME}{node}")]).arg(program);
                command
            }
        }
    }

    /// Parts nodes from `first` on from those before. False if this network cannot be parted.
    pub(crate) fn part(&self, first: usize) -> io::Result<bool> {
        let Self::Namespaces(nodes) = self else { return Ok(false) };
        for node in first..*nodes {
            ip(&format!("link set {NAME}{node}o0 master {NAME}b"))?;
        }
        Ok(true)
    }

    /// Joins what was parted.
    pub(crate) fn heal(&self) -> io::Result<()> {
        let Self::Namespaces(nodes) = self else { return Ok(()) };
        for node in 0..*nodes {
            ip(&format!("link set {NAME}{node}o0 master {NAME}a"))?;
        }
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Self::Namespaces(nodes) = self {
            remove(*nodes);
        }
    }
}

/// Of a node's interface in one of the two networks; the first byte says that it was made up.
fn hardware_address(net: usize, node: usize) -> String {
    format!("02:00:00:00:{net:02x}:{node:02x}")
}

/// Removes what an earlier run may have left.
fn remove(nodes: usize) {
    for node in 0..nodes {
        // Interfaces go with their namespace. An error means that there is none.
        let _ = ip(&format!("netns del {NAME}{node}"));
    }
    for bridge in ["a", "b", "c"] {
        let _ = ip(&format!("link del {NAME}{bridge}"));
    }
}

fn ip(words: &str) -> io::Result<()> {
    let output = Command::new("ip").args(words.split(' ')).output()?;
    if output.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("ip {words}: {reason}")))
}
