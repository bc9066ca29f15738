//! How long a stream may hold its place, and who gets one when all are taken.

use std::time::Duration;

use grapevine_protocol::Moment;

use super::{Conn, INBOUND_MAX, Role};
use crate::cluster::{Cluster, ConnId, Output};

/// How long whoever is called may take to say who it is: the time to connect, and a little more.
const HELLO_MAX: Duration = Duration::from_secs(4);

/// A caller says who it is in its first packet. One that has not done so for this long makes room
/// when somebody else calls, so that silent streams keep nobody out.
const SILENCE_MAX: Duration = Duration::from_secs(1);

impl Cluster {
    pub(in crate::cluster) fn accepted(&mut self, now: Moment, id: ConnId) {
        if self.is_stopped || self.membership.has_left() || !self.makes_room(now) {
            self.count("streams_refused");
            sometimes!("streams_full");
            return self.outputs.push_back(Output::Close(id));
        }
        self.streams.conns.insert(id, Conn::new(Role::Acceptor, now));
    }

    /// Whether there is a place for one more caller, after a silent one had to go if need be.
    fn makes_room(&mut self, now: Moment) -> bool {
        let callers =
            || self.streams.conns.iter().filter(|(_, c)| matches!(c.role, Role::Acceptor));
        if callers().count() < INBOUND_MAX {
            return true;
        }
        let silent = callers().filter(|(_, conn)| conn.hello.is_none());
        let Some((&id, conn)) = silent.min_by_key(|(_, conn)| conn.started) else { return false };
        if now.since(conn.started) < SILENCE_MAX {
            return false;
        }
        self.count("streams_silent");
        sometimes!("stream_silent");
        self.outputs.push_back(Output::Close(id));
        self.closed(now, id, false);
        true
    }

    /// Ends streams that take too long, and earlier those at whose other end nobody speaks.
    pub(in crate::cluster) fn close_overdue(&mut self, now: Moment) {
        let deadline = self.boot.timings.stream_deadline;
        let conns = self.streams.conns.iter();
        let overdue: Vec<ConnId> = conns
            .filter(|(_, conn)| {
                let patience =
                    if conn.hello.is_some() { deadline } else { HELLO_MAX.min(deadline) };
                now.since(conn.started) > patience
            })
            .map(|(&id, _)| id)
            .collect();
        for id in overdue {
            self.count("streams_overdue");
            sometimes!("stream_overdue");
            self.outputs.push_back(Output::Close(id));
            self.closed(now, id, false);
        }
    }
}
