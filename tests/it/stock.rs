//! Stock nsqds that register with a cluster, as with nsqlookupds.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::{
    Cluster, Nsqd, Stock, eventually_ok, for_a_while, is_reference, stock_program,
};

/// A change is everywhere within this; usually it is well under half a second.
const SPREAD_MAX: Duration = Duration::from_secs(5);
/// A dead node is out of every answer within this.
const DETECT_MAX: Duration = Duration::from_secs(15);
/// An nsqd sees with one PING that its nsqlookupd is gone, and is back with the next.
const PING_MAX: Duration = Duration::from_secs(40);

/// How often each TCP port is in the answer's `producers`; nobody in a 404.
#[track_caller]
fn listed(node: &Nsqd, path: &str) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    let answer = crate::support::get(&node.lookup_http(), path).expect("an answer");
    let json = answer.json();
    for producer in json["producers"].as_array().into_iter().flatten() {
        *counts.entry(producer["tcp_port"].as_u64().expect("a port")).or_default() += 1;
    }
    counts
}

/// Waits until, asked on any of `nodes`, `/lookup?topic=t` and `/nodes` list the nsqd so often.
#[track_caller]
fn wait_for(nodes: &[&Nsqd], bound: Duration, nsqd: &Stock, lookup: usize, in_nodes: usize) {
    let port = u64::from(nsqd.tcp_port());
    for node in nodes {
        for (path, want) in [("/lookup?topic=t", lookup), ("/nodes", in_nodes)] {
            eventually_ok(bound, &format!("{path} lists the nsqd {want} times"), || {
                let counts = listed(node, path);
                if counts.get(&port).copied().unwrap_or(0) == want {
                    Ok(())
                } else {
                    Err(format!("{counts:?}"))
                }
            });
        }
    }
}

fn lookup_tcp(nodes: &[Nsqd]) -> Vec<String> {
    nodes.iter().map(Nsqd::lookup_tcp).collect()
}

#[test]
fn a_stock_nsqd_registered_at_every_node_is_listed_once() {
    let test = "a_stock_nsqd_registered_at_every_node_is_listed_once";
    let Some(program) = stock_program("nsqd", test).filter(|_| !is_reference()) else { return };
    let cluster = Cluster::of(3);
    let nsqd = Stock::nsqd(&program, &lookup_tcp(&cluster.nodes));
    let nodes: Vec<&Nsqd> = cluster.nodes.iter().collect();
    wait_for(&nodes, SPREAD_MAX, &nsqd, 0, 1);
    nsqd.post_ok("/topic/create?topic=t", b"");
    nsqd.post_ok("/channel/create?topic=t&channel=c", b"");
    wait_for(&nodes, SPREAD_MAX, &nsqd, 1, 1);
    for node in &nodes {
        eventually_ok(SPREAD_MAX, "the channel is known", || {
            let lookup = node.get("/lookup?topic=t").json();
            if lookup["channels"] == serde_json::json!(["c"]) {
                Ok(())
            } else {
                Err(lookup.to_string())
            }
        });
    }
    nsqd.post_ok("/topic/delete?topic=t", b"");
    wait_for(&nodes, SPREAD_MAX, &nsqd, 0, 1);
    drop(nsqd);
    for node in &nodes {
        eventually_ok(SPREAD_MAX, "the nsqd is gone with its connections", || {
            let counts = listed(node, "/nodes");
            if counts.len() == 3 { Ok(()) } else { Err(format!("{counts:?}")) }
        });
    }
}

#[test]
fn a_stock_nsqd_that_hangs_is_hidden_after_the_inactive_producer_timeout_and_comes_back() {
    let test = "a_stock_nsqd_that_hangs_is_hidden_after_the_inactive_producer_timeout";
    let Some(program) = stock_program("nsqd", test).filter(|_| !is_reference()) else { return };
    // A little more than the 15 s between two PINGs.
    let cluster = Cluster::with(2, &["-inactive-producer-timeout=17s"]);
    let nsqd = Stock::nsqd(&program, &lookup_tcp(&cluster.nodes[..1]));
    nsqd.post_ok("/topic/create?topic=t", b"");
    let nodes: Vec<&Nsqd> = cluster.nodes.iter().collect();
    wait_for(&nodes, SPREAD_MAX, &nsqd, 1, 1);
    nsqd.freeze();
    wait_for(&nodes, Duration::from_secs(17) + SPREAD_MAX, &nsqd, 0, 0);
    nsqd.thaw();
    wait_for(&nodes, PING_MAX, &nsqd, 1, 1);
}

#[test]
fn a_tombstone_hides_a_stock_nsqd_everywhere_for_its_lifetime() {
    let test = "a_tombstone_hides_a_stock_nsqd_everywhere_for_its_lifetime";
    let Some(program) = stock_program("nsqd", test).filter(|_| !is_reference()) else { return };
    let cluster = Cluster::with(3, &["-tombstone-lifetime=4s"]);
    let nsqd = Stock::nsqd(&program, &lookup_tcp(&cluster.nodes[..2]));
    nsqd.post_ok("/topic/create?topic=t", b"");
    nsqd.post_ok("/topic/create?topic=other", b"");
    let nodes: Vec<&Nsqd> = cluster.nodes.iter().collect();
    wait_for(&nodes, SPREAD_MAX, &nsqd, 1, 1);
    // At a node that the nsqd is not connected to.
    let path = format!("/topic/tombstone?topic=t&node={}", nsqd.http());
    let answer = crate::support::post(&cluster.nodes[2].lookup_http(), &path, b"");
    assert_eq!(answer.expect("an answer").status, 200);
    wait_for(&nodes, Duration::from_secs(3), &nsqd, 0, 1);
    let of_nsqd = cluster.nodes[0].get("/nodes").json()["producers"]
        .as_array()
        .expect("producers")
        .iter()
        .find(|producer| producer["tcp_port"] == nsqd.tcp_port())
        .expect("it is listed")
        .clone();
    assert_eq!(of_nsqd["topics"], serde_json::json!(["other", "t"]));
    assert_eq!(of_nsqd["tombstones"], serde_json::json!([false, true]));
    wait_for(&nodes, Duration::from_secs(4) + SPREAD_MAX, &nsqd, 1, 1);
}

#[test]
fn a_stock_nsqd_survives_the_death_of_the_node_it_is_registered_with() {
    let test = "a_stock_nsqd_survives_the_death_of_the_node_it_is_registered_with";
    let Some(program) = stock_program("nsqd", test).filter(|_| !is_reference()) else { return };
    let mut cluster = Cluster::of(3);
    let one = Stock::nsqd(&program, &lookup_tcp(&cluster.nodes[..1]));
    let two = Stock::nsqd(&program, &lookup_tcp(&cluster.nodes[..2]));
    for nsqd in [&one, &two] {
        nsqd.post_ok("/topic/create?topic=t", b"");
        nsqd.post_ok("/channel/create?topic=t&channel=c", b"");
        wait_for(&cluster.nodes.iter().collect::<Vec<_>>(), SPREAD_MAX, nsqd, 1, 1);
    }
    cluster.nodes[0].kill();
    let others = [&cluster.nodes[1], &cluster.nodes[2]];
    for_a_while(Duration::from_secs(6), "who is registered elsewhere too stays", || {
        others
            .iter()
            .all(|node| listed(node, "/lookup?topic=t").get(&two.tcp_port().into()) == Some(&1))
    });
    wait_for(&others, DETECT_MAX, &one, 0, 0);
    let lookup = others[1].get("/lookup?topic=t").json();
    assert_eq!(lookup["channels"], serde_json::json!(["c"]), "{lookup}");
    cluster.nodes[0].launch();
    let all: Vec<&Nsqd> = cluster.nodes.iter().collect();
    for nsqd in [&one, &two] {
        wait_for(&all, PING_MAX, nsqd, 1, 1);
    }
}
