//! Orders in which `/connz` lists connections.

use std::cmp::Reverse;
use std::time::Duration;

use linnet_broker::{CloseReason, ConnSnapshot};
use linnet_ids::Wall;

use crate::answer::Refusal;
use crate::params::ConnState;

/// What is sorted: a connection, and how it ended if it did.
pub(crate) struct Entry {
    pub(crate) conn: ConnSnapshot,
    pub(crate) end: Option<(Wall, CloseReason)>,
    /// Subject, queue group, sid, deliveries of a closed connection's subscriptions.
    pub(crate) subs: Vec<(String, Option<String>, String, u64)>,
}

impl Entry {
    /// When it last had traffic.
    pub(crate) fn last_activity(&self) -> Wall {
        let quiet_after = self.conn.uptime.saturating_sub(self.conn.idle);
        let nanos = i64::try_from(quiet_after.as_nanos()).unwrap_or(i64::MAX);
        Wall(self.conn.start.0.saturating_add(nanos))
    }

    fn uptime(&self) -> Duration {
        self.conn.uptime
    }
}

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SortBy {
    Cid,
    Subs,
    Pending,
    MsgsTo,
    MsgsFrom,
    BytesTo,
    BytesFrom,
    Last,
    Idle,
    Uptime,
    Rtt,
    Stop,
    Reason,
}

impl SortBy {
    /// The order of this name for connections in `state`.
    pub(crate) fn parse(name: &str, state: ConnState) -> Result<Self, Refusal> {
        let by = match name {
            "" | "cid" | "start" => Self::Cid,
            "subs" => Self::Subs,
            "pending" => Self::Pending,
            "msgs_to" => Self::MsgsTo,
            "msgs_from" => Self::MsgsFrom,
            "bytes_to" => Self::BytesTo,
            "bytes_from" => Self::BytesFrom,
            "last" => Self::Last,
            "idle" => Self::Idle,
            "uptime" => Self::Uptime,
            "rtt" => Self::Rtt,
            "stop" => Self::Stop,
            "reason" => Self::Reason,
            _ => return Err(Refusal::bad_request(format!("invalid sorting option: {name}"))),
        };
        if matches!(by, Self::Stop | Self::Reason) && state != ConnState::Closed {
            return Err(Refusal::bad_request(format!("sort by {name} only valid on closed connections")));
        }
        Ok(by)
    }

    /// Brings `entries` into this order; equals are in order of their ids.
    pub(crate) fn sort(self, entries: &mut [Entry]) {
        entries.sort_by_key(|e| e.conn.cid);
        match self {
            Self::Cid => {}
            Self::Subs => entries.sort_by_key(|e| Reverse(e.conn.subscriptions)),
            Self::Pending => entries.sort_by_key(|e| Reverse(e.conn.pending_bytes)),
            Self::MsgsTo => entries.sort_by_key(|e| Reverse(e.conn.out_msgs)),
            Self::MsgsFrom => entries.sort_by_key(|e| Reverse(e.conn.in_msgs)),
            Self::BytesTo => entries.sort_by_key(|e| Reverse(e.conn.out_bytes)),
            Self::BytesFrom => entries.sort_by_key(|e| Reverse(e.conn.in_bytes)),
            Self::Last => entries.sort_by_key(|e| Reverse(e.last_activity())),
            Self::Idle => entries.sort_by_key(Entry::last_activity),
            Self::Uptime => entries.sort_by_key(Entry::uptime),
            Self::Rtt => entries.sort_by_key(|e| Reverse(e.conn.rtt)),
            Self::Stop => entries.sort_by_key(|e| Reverse(e.end.map(|(stop, _)| stop))),
            Self::Reason => entries.sort_by_key(|e| e.end.map(|(_, reason)| reason.as_str())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use linnet_broker::ClientInfo;

    fn entry(cid: u64, n: u64, end: Option<(i64, CloseReason)>) -> Entry {
        let seconds = Duration::from_secs;
        Entry {
            conn: ConnSnapshot {
                cid,
                peer: "127.0.0.1:1".parse().unwrap(),
                start: Wall(0),
                uptime: seconds(100 + n),
                idle: seconds(n),
                rtt: seconds(n),
                pending_bytes: usize::try_from(n).unwrap(),
                in_msgs: n,
                in_bytes: 10 - n,
                out_msgs: n,
                out_bytes: 10 - n,
                stalls: 0,
                subscriptions: usize::try_from(n).unwrap(),
                client: ClientInfo::default(),
                tls: None,
            },
            end: end.map(|(stop, reason)| (Wall(stop), reason)),
            subs: Vec::new(),
        }
    }

    fn order(name: &str, state: ConnState, mut entries: Vec<Entry>) -> Vec<u64> {
        SortBy::parse(name, state).unwrap().sort(&mut entries);
        entries.iter().map(|e| e.conn.cid).collect()
    }

    #[test]
    fn every_option_sorts_in_its_direction_with_ties_by_id() {
        for (name, expected) in [
            ("cid", [1, 2, 3]),
            ("start", [1, 2, 3]),
            ("subs", [2, 1, 3]),
            ("pending", [2, 1, 3]),
            ("msgs_to", [2, 1, 3]),
            ("msgs_from", [2, 1, 3]),
            ("bytes_to", [1, 3, 2]),
            ("bytes_from", [1, 3, 2]),
            ("uptime", [1, 3, 2]),
            ("rtt", [2, 1, 3]),
        ] {
            let entries = vec![entry(3, 1, None), entry(1, 1, None), entry(2, 5, None)];
            assert_eq!(order(name, ConnState::Open, entries), expected, "{name}");
        }
    }

    #[test]
    fn activity_sorts_by_when_it_was() {
        let entries = || {
            let mut all = vec![entry(1, 0, None), entry(2, 0, None)];
            all[0].conn.idle = Duration::from_secs(50);
            all
        };
        assert_eq!(order("last", ConnState::Open, entries()), [2, 1]);
        assert_eq!(order("idle", ConnState::Any, entries()), [1, 2]);
    }

    #[test]
    fn ends_sort_among_closed_connections_only() {
        let entries = || {
            vec![
                entry(1, 0, Some((5, CloseReason::WriteError))),
                entry(2, 0, Some((9, CloseReason::ClientClosed))),
            ]
        };
        assert_eq!(order("stop", ConnState::Closed, entries()), [2, 1]);
        assert_eq!(order("reason", ConnState::Closed, entries()), [2, 1]);
        for (name, state, text) in [
            ("stop", ConnState::Any, "sort by stop only valid on closed connections"),
            ("reason", ConnState::Open, "sort by reason only valid on closed connections"),
            ("zzz", ConnState::Closed, "invalid sorting option: zzz"),
        ] {
            assert_eq!(SortBy::parse(name, state).unwrap_err().text, text);
        }
    }
}
