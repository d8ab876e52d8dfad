//! What is told of elections: log lines, and advisories for whoever listens (jetstream-clustering 1.7 and 7).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use linnet_broker::Account;
use linnet_ids::{GroupId, Mono, PeerId};
use serde_json::{Map, Value};

use super::news::Fresh;
use super::{Cluster, Engine, LEADERLESS_AFTER};
use crate::advisories::Writer;
use crate::catalogue::{JsAccount, StreamHandle};

/// How often it is told of a group that it has no quorum.
const LOST_AGAIN: Duration = Duration::from_secs(20);

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
    pub(super) fn announce(&mut self, engine: &Arc<Engine>, cluster: &Arc<Cluster>, fresh: &Fresh) {
        self.announce_meta(engine, cluster);
        let elected: Vec<GroupId> =
            fresh.changed.iter().filter(|(_, leads)| **leads).map(|(g, _)| *g).collect();
        let now = engine.broker.clock().mono();
        for account in engine.accounts() {
            for handle in account.streams().into_iter().filter(|handle| handle.is_replica) {
                if elected.contains(&handle.group) {
                    tell(engine, cluster, &account, &handle, StreamEvent::Elected);
                }
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
struct Told {
    topic: String,
    kind: &'static str,
    fields: Map<String, Value>,
}

impl Told {
    /// In the account of the asset, and in the system account, where it is said whose the asset is.
    fn publish_both(mut self, engine: &Engine, account: &JsAccount) {
        self.publish(engine, std::slice::from_ref(&account.account));
        self.fields.insert("account".to_owned(), account.name().into());
        self.publish(engine, &system_accounts(engine));
    }

    fn publish(&self, engine: &Engine, accounts: &[Arc<Account>]) {
        let mut publisher = engine.broker.publisher();
        let mut writer = Writer::new(&engine.broker, &engine.config.domain);
        for account in accounts {
            writer.publish(&mut publisher, account, &self.topic, self.kind, &self.fields);
        }
        publisher.flush();
    }
}

fn system_accounts(engine: &Engine) -> Vec<Arc<Account>> {
    engine.broker.accounts().into_iter().filter(|account| account.is_system()).collect()
}

fn json(members: &[linnet_jsapi::info::PeerInfo]) -> Value {
    serde_json::to_value(members).unwrap_or_default()
}
