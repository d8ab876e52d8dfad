//! Which servers a stream shall be on: what the leader of the catalogue's group decides after the stream is created.

use std::sync::Arc;
use std::time::Duration;

use linnet_assets::Command;
use linnet_assets::placement::{Fleet, Replica};
use linnet_env::OsRng;
use linnet_ids::PeerId;
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::info::StreamInfo;
use linnet_replication::Assignment;
use linnet_replication::cluster::{gone_with_its_server, heal, is_ailing};

use super::{Cluster, Engine};

/// How long this server may take to see what it has decided itself.
const SEEN_WITHIN: Duration = Duration::from_secs(1);

impl Engine {
    /// Changes the entry of a stream, unless the stream has ended or is another one by now: then there is none. One
    /// change at a time, each of what the one before left.
    pub(super) async fn amend(
        &self,
        cluster: &Cluster,
        of: &Assignment,
        change: impl FnOnce(&mut Assignment),
    ) -> Result<Arc<Assignment>, ApiError> {
        let _one_at_a_time = self.settling.lock().await;
        let (account, stream) = (&of.account, &of.config.name);
        let entry = cluster.view.stream(account, stream).filter(|entry| entry.group == of.group);
        let mut entry = (*entry.ok_or(errors::STREAM_NOT_FOUND)?).clone();
        change(&mut entry);
        self.decide(cluster, entry.store()).await?;
        Ok(Arc::new(entry))
    }

    /// Has the catalogue take a command. Afterwards this server sees what came of it.
    pub(super) async fn decide(&self, cluster: &Cluster, command: Command) -> Result<(), ApiError> {
        if let Some(dissolved) = cluster.view.dissolved() {
            let why = format!("this cluster gives itself up for that of {}", dissolved.met);
            return Err(errors::CLUSTER_NOT_AVAIL.because(&why));
        }
        let before = cluster.view.version();
        let mut changes = cluster.view.watch();
        self.ask_catalogue(command).await.map_err(|error| match cluster.lack() {
            Some(lack) => errors::CLUSTER_NOT_AVAIL.because(&lack),
            None => error,
        })?;
        let deadline = tokio::time::Instant::now() + SEEN_WITHIN;
        while cluster.view.version() == before {
            if !matches!(tokio::time::timeout_at(deadline, changes.changed()).await, Ok(Ok(()))) {
                break;
            }
        }
        Ok(())
    }

    /// Gives streams that have too few members, or members that were taken out of the cluster, others as far as there
    /// are any.
    pub(super) async fn heal_streams(self: &Arc<Self>, cluster: &Arc<Cluster>) {
        let meta = cluster.meta();
        let Some(report) = meta.report.as_ref().filter(|report| report.status.is_leader) else { return };
        let members = report.status.membership.members().to_vec();
        let servers: Vec<PeerId> = members.iter().map(|member| member.peer).collect();
        drop(meta);
        let all = cluster.view.all();
        for stillborn in all.iter().filter(|a| a.is_stillborn(&members)) {
            self.begin_once_more(cluster, stillborn).await;
        }
        for gone in all.iter().filter_map(|a| gone_with_its_server(a, &servers)) {
            if let Err(e) = self.serve_meta(cluster, gone).await {
                tracing::debug!("An ended stream is still assigned to a server that is gone: {e}");
            }
        }
        let ailing: Vec<Arc<Assignment>> = all.into_iter().filter(|a| is_ailing(a, &servers)).collect();
        if ailing.is_empty() {
            return;
        }
        let facts = self.facts(cluster).await;
        let fleet = self.fleet(cluster, &facts);
        for assignment in ailing {
            let peers: Vec<PeerId> = assignment.replicas().into_iter().map(|r| r.peer).collect();
            let home = home_of(self, &fleet, &peers);
            let Some((members, missing)) = heal(&assignment, &fleet, &home, &OsRng) else { continue };
            let healed = self
                .amend(cluster, &assignment, |entry| {
                    if entry.members == assignment.members {
                        entry.members = members;
                    }
                })
                .await;
            let name = &assignment.config.name;
            match healed {
                Ok(_) => tracing::info!(
                    "Stream '{} > {name}' gets other members, {} are missing",
                    assignment.account,
                    missing
                ),
                Err(e) => {
                    tracing::warn!("Stream '{} > {name}' cannot get other members: {e}", assignment.account)
                }
            }
        }
    }
}

/// The cluster that a group is in.
pub(super) fn home_of(engine: &Engine, fleet: &Fleet, peers: &[PeerId]) -> String {
    let known = peers.iter().filter_map(|peer| fleet.get(*peer)).map(|c| c.cluster.clone());
    let mut named = known.filter(|cluster| !cluster.is_empty());
    named.next().unwrap_or_else(|| engine.broker.cluster_name().unwrap_or_default())
}

/// The replicas as the leader describes them.
pub(super) fn replicas_of(info: &StreamInfo, peers: &[PeerId]) -> Vec<Replica> {
    let cluster = info.cluster.clone().unwrap_or_default();
    let leader = PeerId::of_name(&cluster.leader);
    let describe = |peer: &PeerId| {
        let name = peer.to_string();
        let known = cluster.replicas.iter().find(|replica| replica.peer == name);
        let leads = *peer == leader;
        let lag = known.map(|replica| replica.lag).or_else(|| leads.then_some(0));
        Replica { peer: *peer, is_online: leads || known.is_some_and(|r| r.current && !r.offline), lag }
    };
    peers.iter().map(describe).collect()
}
