//! What is told of elections: log lines, and advisories for whoever listens (jetstream-clustering 1.7 and 7).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use linnet_broker::Account;
use linnet_ids::{GroupId, Mono, PeerId};
use serde_json::{Map, Value};

use super::attention::Scope;
use super::news::Fresh;
use super::{Cluster, Engine, LEADERLESS_AFTER};
use crate::advisories::Writer;
use crate::catalogue::{JsAccount, StreamHandle};

/// How often it is told of a group that it has no quorum.
const LOST_AGAIN: Duration = Duration::from_secs(20);

/// Groups that are named in a line of the log.
const SHOWN_MAX: usize = 3;

/// Remembers what was told.
#[derive(Default)]
pub(super) struct Announcer {
    /// The leader of the catalogue's group.
    meta_leader: Option<PeerId>,
    /// Groups without a quorum, and when that was told last.
    lost: HashMap<GroupId, Mono>,
}

/// What happened to a stream.
#[derive(Clone, Copy)]
enum StreamEvent {
    /// This server leads it.
    Elected,
    /// It has had no leader for long.
    QuorumLost,
}

impl Announcer {
    /// Tells what is new. Nothing here waits for a pump.
    pub(super) fn announce(
        &mut self,
        engine: &Arc<Engine>,
        cluster: &Arc<Cluster>,
        fresh: &Fresh,
        scope: &Scope,
    ) {
        announce_resigned(engine, cluster, fresh);
        self.announce_meta(engine, cluster);
        for (group, _) in fresh.changed.iter().filter(|(_, leads)| **leads) {
            if let Some((account, handle)) = find(engine, cluster, *group) {
                tell(engine, cluster, &account, &handle, StreamEvent::Elected);
            }
        }
        if *scope != Scope::All {
            return;
        }
        let now = engine.broker.clock().mono();
        for account in engine.accounts() {
            for handle in account.streams().into_iter().filter(|handle| handle.is_replica()) {
                let leaderless_since = handle.cell.replica().and_then(|state| state.leaderless_since);
                if leaderless_since.is_none_or(|since| now.since(since) <= LEADERLESS_AFTER) {
                    self.lost.remove(&handle.group);
                } else if self.lost.get(&handle.group).is_none_or(|told| now.since(*told) >= LOST_AGAIN) {
                    self.lost.insert(handle.group, now);
                    tell(engine, cluster, &account, &handle, StreamEvent::QuorumLost);
                }
            }
        }
    }

    fn announce_meta(&mut self, engine: &Arc<Engine>, cluster: &Arc<Cluster>) {
        let standing = cluster.meta();
        let Some(report) = &standing.report else { return };
        let leader = report.status.leader;
        // It leads once it has applied what was before its time.
        let is_elected_only = leader == Some(cluster.me()) && !cluster.leads_meta();
        if leader == self.meta_leader || is_elected_only {
            return;
        }
        self.meta_leader = leader;
        match leader {
            None => tracing::info!("JetStream cluster no metadata leader"),
            Some(peer) if peer == cluster.me() => {
                tracing::info!("Self is new JetStream cluster metadata leader");
                let mut fields = Map::new();
                fields.insert("leader".to_owned(), peer.as_str().into());
                fields.insert("replicas".to_owned(), json(&cluster.members(report)));
                let name = engine.broker.cluster_name().unwrap_or_default();
                fields.insert("cluster".to_owned(), name.into());
                let told =
                    Told { topic: "DOMAIN.LEADER_ELECTED".to_owned(), kind: "domain_leader_elected", fields };
                told.publish(engine, &system_accounts(engine));
            }
            Some(peer) => {
                let view = cluster.link.peers().into_iter().find(|view| view.id == peer);
                let of = view.map(|view| view.cluster).unwrap_or_default();
                let name = cluster.link.name_of(peer).unwrap_or_else(|| peer.to_string());
                tracing::info!("JetStream cluster new metadata leader: {name}/{of}");
            }
        }
    }
}

/// The stream of a group. The catalogue knows its name, if it is known already.
fn find(engine: &Engine, cluster: &Cluster, group: GroupId) -> Option<(Arc<JsAccount>, Arc<StreamHandle>)> {
    if let Some(assignment) = cluster.view.of_group(group) {
        let account = engine.account(&assignment.account)?;
        let handle = account.stream(&assignment.config.name).filter(|handle| handle.group == group)?;
        return Some((account, handle));
    }
    engine.accounts().into_iter().find_map(|account| {
        let handle = account.streams().into_iter().find(|handle| handle.group == group)?;
        Some((account, handle))
    })
}

/// Tells of groups that this server led and that have no leader, as too few of their members can be heard.
fn announce_resigned(engine: &Engine, cluster: &Cluster, fresh: &Fresh) {
    if fresh.resigned.is_empty() {
        return;
    }
    let unheard: Vec<String> =
        cluster.link.peers().into_iter().filter(|p| !p.is_reachable).map(|p| p.name).collect();
    let mut groups = Vec::new();
    let has_no_leader = |handle: &StreamHandle| {
        handle.cell.replica().is_some_and(|state| state.leaderless_since.is_some() && !state.is_leader)
    };
    if fresh.resigned.contains(&GroupId::META) && cluster.meta().leaderless_since.is_some() {
        groups.push("the meta group".to_owned());
    }
    for account in engine.accounts() {
        for handle in account.streams().into_iter().filter(|h| fresh.resigned.contains(&h.group)) {
            if has_no_leader(&handle) {
                groups.push(format!("stream '{} > {}'", account.name(), handle.config().name));
            }
        }
    }
    // Without a silent server it was handed over, or another one was elected.
    if groups.is_empty() || unheard.is_empty() {
        return;
    }
    let more = groups.len().saturating_sub(SHOWN_MAX);
    groups.truncate(SHOWN_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    tracing::warn!(
        "Raft heartbeat timeout, stepping down: {} cannot be heard, which leaves no quorum of {}{more}",
        unheard.join(", "),
        groups.join(", ")
    );
}

/// Tells of a stream and its consumers in a task of its own: the replica is asked.
fn tell(
    engine: &Arc<Engine>,
    cluster: &Arc<Cluster>,
    account: &Arc<JsAccount>,
    handle: &Arc<StreamHandle>,
    event: StreamEvent,
) {
    let (engine, cluster) = (engine.clone(), cluster.clone());
    let (account, handle) = (account.clone(), handle.clone());
    tokio::spawn(async move {
        let Some(report) = engine.report(&handle.pump, handle.key).await else { return };
        let stream = handle.config().name.clone();
        let name = format!("{} > {stream}", account.name());
        match event {
            StreamEvent::Elected => {
                let term = report.status.term;
                if !engine.leads(&handle) || cluster.announced.lock().insert(handle.group, term) == Some(term)
                {
                    return;
                }
                tracing::info!("JetStream cluster new stream leader for '{name}'");
            }
            StreamEvent::QuorumLost => {
                tracing::warn!("JetStream cluster stream '{name}' has NO quorum, stalled")
            }
        }
        let mut fields = Map::new();
        fields.insert("stream".to_owned(), stream.as_str().into());
        if matches!(event, StreamEvent::Elected) {
            fields.insert("leader".to_owned(), engine.place.server.as_str().into());
        }
        fields.insert("replicas".to_owned(), json(&cluster.members(&report)));
        let (topic, stream_kind, consumer_kind) = match event {
            StreamEvent::Elected => ("LEADER_ELECTED", "stream_leader_elected", "consumer_leader_elected"),
            StreamEvent::QuorumLost => ("QUORUM_LOST", "stream_quorum_lost", "consumer_quorum_lost"),
        };
        let told =
            Told { topic: format!("STREAM.{topic}.{stream}"), kind: stream_kind, fields: fields.clone() };
        told.publish_both(&engine, &account);
        // Consumers are led where their stream is.
        for consumer in engine.consumer_infos(&handle).await {
            let mut fields = fields.clone();
            fields.insert("consumer".to_owned(), consumer.name.as_str().into());
            let topic = format!("CONSUMER.{topic}.{stream}.{}", consumer.name);
            Told { topic, kind: consumer_kind, fields }.publish_both(&engine, &account);
        }
    });
}

/// An advisory.
pub(super) struct Told {
    pub(super) topic: String,
    pub(super) kind: &'static str,
    pub(super) fields: Map<String, Value>,
}

impl Told {
    /// In the account of the asset, and in the system account, where it is said whose the asset is.
    fn publish_both(mut self, engine: &Engine, account: &JsAccount) {
        self.publish(engine, std::slice::from_ref(&account.account));
        self.fields.insert("account".to_owned(), account.name().into());
        self.publish(engine, &system_accounts(engine));
    }

    pub(super) fn publish(&self, engine: &Engine, accounts: &[Arc<Account>]) {
        let mut publisher = engine.broker.publisher();
        let mut writer = Writer::new(&engine.broker, &engine.config.domain);
        for account in accounts {
            writer.publish(&mut publisher, account, &self.topic, self.kind, &self.fields);
        }
        publisher.flush();
    }
}

/// Which server an advisory is about: this one.
pub(super) fn own_fields(engine: &Engine) -> Map<String, Value> {
    let identity = engine.broker.identity();
    let cluster = engine.broker.cluster_name().unwrap_or_default();
    let fields =
        [("server", identity.name.clone()), ("server_id", identity.id.clone()), ("cluster", cluster)];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
}

pub(super) fn system_accounts(engine: &Engine) -> Vec<Arc<Account>> {
    engine.broker.accounts().into_iter().filter(|account| account.is_system()).collect()
}

fn json(members: &[linnet_jsapi::info::PeerInfo]) -> Value {
    serde_json::to_value(members).unwrap_or_default()
}
