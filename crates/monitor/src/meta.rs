//! The meta group as pages show it (monitoring, "Meta group object").

use std::time::Duration;

use linnet_ids::Wall;
use linnet_jetstream::{Engine, MetaPeer, MetaStatus};
use serde::Serialize;

use crate::format::{nanos, signed};

/// The group as one server sees it.
#[derive(Serialize)]
pub(crate) struct Meta {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<String>,
    /// Id of the leader.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    replicas: Vec<Replica>,
    cluster_size: i64,
    quorum_needed: i64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    rescue: bool,
    pending: i64,
    pending_requests: i64,
    pending_infos: i64,
    snapshot: Snapshot,
}

#[derive(Serialize)]
struct Replica {
    name: String,
    current: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    offline: bool,
    /// Nanoseconds.
    active: i64,
    #[serde(skip_serializing_if = "is_zero")]
    lag: u64,
    peer: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pending: bool,
    /// Since when it has not been heard, of one that is offline.
    #[serde(skip_serializing_if = "Option::is_none")]
    offline_since: Option<String>,
}

#[derive(Serialize)]
struct Snapshot {
    pending_entries: u64,
    pending_size: u64,
    last_time: String,
    /// Nanoseconds.
    #[serde(skip_serializing_if = "is_none_or_zero")]
    last_duration: Option<i64>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn is_none_or_zero(n: &Option<i64>) -> bool {
    n.unwrap_or(0) == 0
}

/// A shorter silence is none.
const HEARD_WITHIN: Duration = Duration::from_secs(1);

impl Replica {
    fn at(wall: Wall, peer: &MetaPeer) -> Self {
        let is_silent = peer.is_offline && peer.unheard >= HEARD_WITHIN;
        Self {
            name: peer.name.clone(),
            current: peer.is_current,
            offline: peer.is_offline,
            active: nanos(peer.active),
            lag: peer.lag,
            peer: peer.peer.to_string(),
            pending: peer.is_pending,
            offline_since: is_silent.then(|| wall.before(peer.unheard).rfc3339()),
        }
    }
}

impl Meta {
    fn new(status: &MetaStatus, wall: Wall) -> Self {
        let snapshot = &status.snapshot;
        Self {
            name: status.cluster.clone(),
            leader: status.leader.as_ref().map(|leader| leader.name.clone()),
            peer: status.leader.as_ref().map(|leader| leader.peer.to_string()),
            replicas: status.peers.iter().map(|peer| Replica::at(wall, peer)).collect(),
            cluster_size: signed(status.size),
            quorum_needed: signed(status.quorum),
            rescue: status.is_rescued,
            pending: signed(status.pending_requests.saturating_add(status.pending_infos)),
            pending_requests: signed(status.pending_requests),
            pending_infos: signed(status.pending_infos),
            snapshot: Snapshot {
                pending_entries: snapshot.pending_entries,
                pending_size: snapshot.pending_bytes,
                last_time: snapshot.last.map_or_else(|| Wall::ZERO_TEXT.to_owned(), Wall::rfc3339),
                last_duration: Some(nanos(snapshot.took)),
            },
        }
    }

    /// As pages show it; `None` for a server alone.
    pub(crate) fn of(engine: &Engine) -> Option<Self> {
        engine.meta_status().map(|status| Self::new(&status, engine.wall()))
    }

    /// As servers broadcast it: only the leader tells of the others.
    pub(crate) fn broadcast(engine: &Engine) -> Option<Self> {
        let status = engine.meta_status()?;
        let whole = Self::new(&status, engine.wall());
        Some(if status.is_leader {
            whole
        } else {
            Self { name: "_meta_".to_owned(), replicas: Vec::new(), ..whole }
        })
    }

    /// Name of the leader, if it is known.
    pub(crate) fn leader(&self) -> Option<&str> {
        self.leader.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use linnet_ids::PeerId;
    use linnet_jetstream::{MetaLeader, MetaSnapshot};

    use super::*;

    fn status() -> MetaStatus {
        let peer = |name: &str| MetaPeer {
            name: name.to_owned(),
            peer: PeerId::of_name(name),
            is_current: true,
            is_offline: false,
            is_reachable: true,
            active: Duration::from_nanos(262_278_878),
            unheard: Duration::from_nanos(262_278_878),
            lag: 0,
            is_pending: false,
        };
        MetaStatus {
            cluster: "C".to_owned(),
            leader: Some(MetaLeader { name: "n1".to_owned(), peer: PeerId::of_name("n1") }),
            peers: vec![peer("n2"), MetaPeer { is_current: false, is_offline: true, lag: 7, ..peer("n3") }],
            size: 3,
            quorum: 2,
            pending_requests: 4,
            pending_infos: 1,
            ..MetaStatus::default()
        }
    }

    #[test]
    fn the_object_has_nats_servers_keys_in_their_order() {
        let text = serde_json::to_string(&Meta::new(&status(), Wall(0))).unwrap();
        let expected = concat!(
            r#"{"name":"C","leader":"n1","peer":"fjFyEjc1","replicas":["#,
            r#"{"name":"n2","current":true,"active":262278878,"peer":"44jzkV9D"},"#,
            r#"{"name":"n3","current":false,"offline":true,"active":262278878,"lag":7,"peer":"BXScrY9i"}],"#,
            r#""cluster_size":3,"quorum_needed":2,"pending":5,"pending_requests":4,"pending_infos":1,"#,
            r#""snapshot":{"pending_entries":0,"pending_size":0,"last_time":"0001-01-01T00:00:00Z"}}"#,
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn since_when_a_member_is_offline_is_told() {
        let mut status = status();
        status.peers[1].unheard = Duration::from_secs(30);
        let value = serde_json::to_value(Meta::new(&status, Wall(100_000_000_000))).unwrap();
        let since: Vec<_> = (0..2).map(|at| value["replicas"][at]["offline_since"].clone()).collect();
        assert_eq!(since, [serde_json::Value::Null, "1970-01-01T00:01:10Z".into()]);
    }

    #[test]
    fn what_is_unknown_is_left_out_and_what_is_special_is_told() {
        let snapshot = MetaSnapshot {
            pending_entries: 2,
            pending_bytes: 30,
            last: Some(Wall(1_000_000_000)),
            took: Duration::from_nanos(5),
        };
        let status = MetaStatus { leader: None, peers: Vec::new(), is_rescued: true, snapshot, ..status() };
        let value = serde_json::to_value(Meta::new(&status, Wall(0))).unwrap();
        assert!(
            value.get("leader").is_none() && value.get("peer").is_none() && value.get("replicas").is_none()
        );
        assert_eq!(value["rescue"], true);
        assert_eq!(
            value["snapshot"],
            serde_json::json!({
                "pending_entries": 2, "pending_size": 30, "last_time": "1970-01-01T00:00:01Z", "last_duration": 5
            })
        );
    }
}
