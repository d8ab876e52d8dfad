//! `/raftz`: the replicas of groups on this server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use futures_util::StreamExt;
use linnet_jetstream::{Engine, GroupState, GroupStatus};
use linnet_jsapi::info::StreamState;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::answer::{Page, Refusal, json};
use crate::format::rtt;
use crate::json::Layout;
use crate::monitor::Monitor;
use crate::params::Params;

/// Streams asked at a time.
const ASKED_AT_ONCE: usize = 64;
/// Time for all streams of an answer; those that were not reached are left out.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// A replica. Names are those of nats-server; `leader` is an id here, not a name.
#[derive(Serialize)]
pub(crate) struct Group {
    id: String,
    state: &'static str,
    size: usize,
    quorum_needed: usize,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    observer: bool,
    committed: u64,
    applied: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    catching_up: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leader_since: Option<String>,
    ever_had_leader: bool,
    term: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    voted_for: Option<String>,
    pterm: u64,
    pindex: u64,
    system_account: bool,
    traffic_account: String,
    /// There are no such queues here.
    ipq_proposal_len: usize,
    ipq_entry_len: usize,
    ipq_resp_len: usize,
    ipq_apply_len: usize,
    wal: StreamState,
    #[serde(skip_serializing_if = "Option::is_none")]
    wal_error: Option<String>,
    peers: BTreeMap<String, Peer>,
}

#[derive(Serialize)]
struct Peer {
    name: String,
    /// It is a member.
    known: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_replicated_index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<String>,
}

impl Group {
    fn new(status: &GroupStatus, traffic_account: &str) -> Self {
        let held = (status.last_index + 1).saturating_sub(status.first_index);
        let peers = status.peers.iter().map(|peer| {
            let shown = Peer {
                name: peer.name.clone(),
                known: true,
                last_replicated_index: peer.matched.filter(|index| *index > 0),
                last_seen: peer.silence.map(rtt),
            };
            (peer.peer.to_string(), shown)
        });
        Self {
            id: status.me.to_string(),
            state: match status.state {
                GroupState::Leader => "LEADER",
                GroupState::Follower => "FOLLOWER",
                GroupState::Candidate => "CANDIDATE",
                GroupState::Closed => "CLOSED",
            },
            size: status.size,
            quorum_needed: status.quorum,
            observer: status.is_observer,
            committed: status.committed,
            applied: status.applied,
            catching_up: status.is_catching_up,
            leader: status.leader.map(|peer| peer.to_string()),
            leader_since: status.leader_since.map(linnet_ids::Wall::rfc3339),
            ever_had_leader: status.ever_had_leader,
            term: status.term,
            voted_for: status.voted_for.map(|peer| peer.to_string()),
            pterm: status.last_term,
            pindex: status.last_index,
            system_account: true,
            traffic_account: traffic_account.to_owned(),
            ipq_proposal_len: 0,
            ipq_entry_len: 0,
            ipq_resp_len: 0,
            ipq_apply_len: 0,
            wal: StreamState {
                msgs: held,
                first_seq: status.first_index,
                last_seq: status.last_index,
                ..StreamState::default()
            },
            wal_error: status.write_error.clone(),
            peers: peers.collect(),
        }
    }
}

/// What is asked for. The names are those in JSON.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Question {
    account: String,
    group: String,
}

/// Groups by account and name.
pub(crate) type Groups = BTreeMap<String, BTreeMap<String, Group>>;

/// `/raftz`.
pub(crate) async fn page(monitor: &Monitor, params: &Params) -> Page {
    let question =
        Question { account: params.text("acc").to_owned(), group: params.text("group").to_owned() };
    if !is_clustered(monitor) {
        return Err(Refusal::not_found("No Raft nodes registered"));
    }
    let Some(groups) = report(monitor, &question).await else {
        return Err(Refusal::not_found("No Raft nodes returned, check supplied filters"));
    };
    Ok(json(StatusCode::OK, &groups, Layout::Three))
}

fn is_clustered(monitor: &Monitor) -> bool {
    monitor.engine().is_some_and(|engine| engine.config().cluster.is_some())
}

/// What the page shows; `None` without a system account, whose groups are meant if no account is named.
pub(crate) async fn report(monitor: &Monitor, question: &Question) -> Option<Groups> {
    let system = monitor.system_account()?;
    let engine = monitor.engine();
    let meta = engine.as_ref().and_then(|engine| engine.meta_status());
    let mut groups = select(meta.as_ref().and_then(|status| status.raft.as_ref()), &system, question);
    if let Some(engine) = engine.filter(|_| !question.account.is_empty()) {
        let streams = streams(monitor, &engine, question, &system).await;
        if !streams.is_empty() {
            groups.entry(question.account.clone()).or_default().extend(streams);
        }
    }
    Some(groups)
}

/// The replicas of an account's streams that answer in time.
async fn streams(
    monitor: &Monitor,
    engine: &Arc<Engine>,
    question: &Question,
    system: &str,
) -> BTreeMap<String, Group> {
    let Some(account) = engine.account(&question.account) else { return BTreeMap::new() };
    let is_meant = |name: &str| question.group.is_empty() || question.group == name;
    let mut streams = account.streams();
    streams.retain(|stream| is_meant(&engine.raft_group(stream)));
    let deadline = Instant::now() + ANSWER_TIME_MAX;
    let asked = futures_util::stream::iter(streams).map(|stream| async move {
        let status = monitor.asker.ask_replica(engine, &stream, deadline).await?;
        Some((status.name.clone(), Group::new(&status, system)))
    });
    asked.buffered(ASKED_AT_ONCE).filter_map(std::future::ready).collect().await
}

fn select(meta: Option<&GroupStatus>, system: &str, question: &Question) -> Groups {
    let is_meant = |asked: &str, is: &str| asked.is_empty() || asked == is;
    let meta =
        meta.filter(|group| is_meant(&question.account, system) && is_meant(&question.group, &group.name));
    let groups = meta
        .map(|group| (system.to_owned(), BTreeMap::from([(group.name.clone(), Group::new(group, system))])));
    groups.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use linnet_ids::{PeerId, Wall};
    use linnet_jetstream::GroupPeer;

    use super::*;

    fn status() -> GroupStatus {
        let peer = |name: &str, matched, silence: Option<u64>| GroupPeer {
            peer: PeerId::of_name(name),
            name: name.to_owned(),
            matched,
            silence: silence.map(Duration::from_nanos),
        };
        GroupStatus {
            name: "_meta_".to_owned(),
            me: PeerId::of_name("n1"),
            state: GroupState::Leader,
            size: 3,
            quorum: 2,
            is_observer: false,
            committed: 3,
            applied: 3,
            is_catching_up: false,
            leader: Some(PeerId::of_name("n1")),
            leader_since: Some(Wall(1_000_000_000)),
            ever_had_leader: true,
            term: 1,
            voted_for: Some(PeerId::of_name("n1")),
            last_term: 1,
            last_index: 3,
            first_index: 2,
            write_error: None,
            peers: vec![peer("n2", Some(3), Some(282_613_270)), peer("n3", Some(0), None)],
        }
    }

    fn asked(account: &str, group: &str) -> Groups {
        let question = Question { account: account.to_owned(), group: group.to_owned() };
        select(Some(&status()), "$SYS", &question)
    }

    #[test]
    fn a_replica_has_nats_servers_keys_in_their_order() {
        let text = serde_json::to_string(&asked("", "")).unwrap();
        let expected = concat!(
            r#"{"$SYS":{"_meta_":{"id":"fjFyEjc1","state":"LEADER","size":3,"quorum_needed":2,"committed":3,"#,
            r#""applied":3,"leader":"fjFyEjc1","leader_since":"1970-01-01T00:00:01Z","ever_had_leader":true,"#,
            r#""term":1,"voted_for":"fjFyEjc1","pterm":1,"pindex":3,"system_account":true,"#,
            r#""traffic_account":"$SYS","ipq_proposal_len":0,"ipq_entry_len":0,"ipq_resp_len":0,"#,
            r#""ipq_apply_len":0,"wal":{"messages":2,"bytes":0,"first_seq":2,"#,
            r#""first_ts":"0001-01-01T00:00:00Z","last_seq":3,"last_ts":"0001-01-01T00:00:00Z","#,
            r#""consumer_count":0},"peers":{"44jzkV9D":{"name":"n2","known":true,"last_replicated_index":3,"#,
            r#""last_seen":"282.61327ms"},"BXScrY9i":{"name":"n3","known":true}}}}}"#,
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn filters_name_account_and_group() {
        assert_eq!(asked("$SYS", "_meta_").len(), 1);
        assert!(asked("A", "").is_empty() && asked("", "x").is_empty());
        assert!(select(None, "$SYS", &Question::default()).is_empty());
    }
}
