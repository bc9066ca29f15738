//! What a core is told beside datagrams.

use grapevine_gossip::cluster::{ClusterTime, Input};

use super::hooks::Cause;
use super::node::Arrival;
use super::{World, summary};

impl World<'_> {
    /// Apart from datagrams, as in `perform`. Why the node was called, and a number for what it was
    /// given.
    #[inline(never)]
    pub(super) fn give_other(
        &mut self,
        index: usize,
        time: ClusterTime,
        arrival: &Arrival,
    ) -> (Cause, u64) {
        let Some(cluster) = self.nodes[index].cluster.as_mut() else { return (Cause::Stream, 0) };
        match arrival {
            // `give_now` hands those over.
            Arrival::Datagram(parcel) => (Cause::Datagram, u64::from(*parcel)),
            Arrival::Accepted(conn) => {
                cluster.handle(time, Input::Accepted(*conn));
                (Cause::Stream, conn.0)
            }
            Arrival::Connected(conn) => {
                cluster.handle(time, Input::Connected(*conn));
                (Cause::Stream, conn.0)
            }
            Arrival::Frame { conn, bytes, .. } => {
                cluster.handle(time, Input::Frame(*conn, bytes));
                (Cause::Frame, summary(bytes) ^ conn.0)
            }
            Arrival::Closed { conn, is_refused } => {
                let (conn, is_refused) = (*conn, *is_refused);
                cluster.handle(time, Input::Closed { conn, is_refused });
                (Cause::Stream, conn.0 ^ u64::from(is_refused))
            }
            Arrival::Resolved(seed) => {
                let addr = self.plan.seeds.get(*seed).and_then(|&at| self.nodes.get(at));
                let addrs = addr.map(|node| node.addr).into_iter().collect();
                let cluster = self.nodes[index].cluster.as_mut();
                let Some(cluster) = cluster else { return (Cause::Stream, 0) };
                cluster.handle(time, Input::Resolved { seed: *seed, addrs });
                (Cause::Resolved, *seed as u64)
            }
            Arrival::Persisted(epoch) => {
                cluster.handle(time, Input::Persisted(*epoch));
                (Cause::Persisted, *epoch)
            }
        }
    }
}
