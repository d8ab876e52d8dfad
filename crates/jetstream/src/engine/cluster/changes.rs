//! Which streams exist: what the leader of the catalogue's group decides.

use std::sync::Arc;
use std::time::Duration;

use linnet_assets::placement::{Candidate, Demand, Fleet, FleetLimits, Origin, PeerStats, Planner, Tags};
use linnet_env::{OsRng, Rng};
use linnet_ids::GroupId;
use linnet_jsapi::StreamConfig;
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::info::StreamInfo;
use linnet_replication::{Assignment, KeptConsumer, Placed};

use super::asks::{MetaRequest, StreamCall};
use super::{Cluster, Engine};

/// How long a new stream may take to find its first leader.
const LIVE_WITHIN: Duration = Duration::from_secs(5);

impl Engine {
    /// Creates a stream whose configuration has been judged, and describes it. The caller holds [`Engine::changes`].
    pub(crate) async fn create_clustered(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        account: &str,
        config: StreamConfig,
    ) -> Result<StreamInfo, ApiError> {
        let members = self.place(cluster, &config).await?;
        // Sequences of the catalogue are never used again, whatever is removed from it.
        let meta_index = cluster.view.last_seq() + 1;
        let group = GroupId { epoch: 0, meta_index, random: OsRng.next_u64() };
        let assignment = Assignment {
            account: account.to_owned(),
            group: group.to_string(),
            created: self.broker.clock().wall().0,
            live: false,
            members,
            ended: false,
            config,
        };
        {
            // The entry of an earlier stream of its name must not be forgotten after this.
            let _one_at_a_time = self.settling.lock().await;
            self.decide(cluster, assignment.store()).await?;
        }
        self.wait_until_live(cluster, &assignment).await?;
        self.describe_elsewhere(cluster, &assignment, StreamCall::Info).await
    }

    /// The servers for a stream, each with the life in which it may begin empty.
    async fn place(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        config: &StreamConfig,
    ) -> Result<Vec<Placed>, ApiError> {
        let here = self.broker.cluster_name().unwrap_or_default();
        let fleet = self.fleet(cluster).await;
        let origin = Origin { cluster: &here, alternates: &[] };
        let plan = Planner::new(&fleet, &OsRng).create_stream(&Demand::of(config), origin)?;
        let meta = cluster.meta();
        let members = meta.report.as_ref().map(|r| r.status.membership.members()).unwrap_or_default();
        let life = |peer| members.iter().find(|m| m.peer == peer).map_or(0, |m| m.incarnation);
        Ok(plan.peers.into_iter().map(|peer| Placed { peer: peer.to_string(), life: life(peer) }).collect())
    }

    /// What is known of the members of the catalogue's group.
    pub(super) async fn fleet(&self, cluster: &Arc<Cluster>) -> Fleet {
        let max_ha_assets = self.config.cluster.as_ref().and_then(|c| c.max_ha_assets).unwrap_or(0);
        let mut fleet = Fleet::new(FleetLimits::new(max_ha_assets, ""));
        let descriptions = self.describe_all(cluster).await;
        let meta = cluster.meta();
        let members = meta.report.as_ref().map(|r| r.status.membership.members()).unwrap_or_default();
        for member in members {
            let mut candidate = Candidate::unknown(member.peer);
            if let Some((_, description)) = descriptions.iter().find(|(peer, _)| *peer == member.peer) {
                candidate.name.clone_from(&description.name);
                candidate.cluster.clone_from(&description.cluster);
                candidate.tags = Tags::new(description.tags.iter().map(String::as_str));
                candidate.is_online = true;
                candidate.stats = Some(PeerStats {
                    memory_available: description.memory_available,
                    storage_available: description.storage_available,
                    ha_assets: 0,
                });
            }
            fleet.insert(candidate);
        }
        for assignment in cluster.view.all().iter().filter(|a| !a.ended) {
            let peers: Vec<_> = assignment.replicas().into_iter().map(|r| r.peer).collect();
            fleet.assigned(&peers);
        }
        fleet
    }

    async fn wait_until_live(&self, cluster: &Cluster, assignment: &Assignment) -> Result<(), ApiError> {
        let deadline = tokio::time::Instant::now() + LIVE_WITHIN;
        let mut changes = cluster.view.watch();
        loop {
            changes.borrow_and_update();
            let entry = cluster.view.stream(&assignment.account, &assignment.config.name);
            if entry.is_some_and(|entry| entry.live && entry.group == assignment.group) {
                return Ok(());
            }
            if tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
                // Whoever begins it yet is told that it has ended.
                self.amend(cluster, assignment, |entry| entry.ended = true).await?;
                return Err(errors::CLUSTER_NOT_AVAIL);
            }
        }
    }

    async fn describe_elsewhere(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        assignment: &Assignment,
        call: StreamCall,
    ) -> Result<StreamInfo, ApiError> {
        let value = self.ask_leader(cluster, assignment, call).await?;
        serde_json::from_value(value).map_err(|_| errors::CLUSTER_NOT_AVAIL)
    }

    /// A stream as its leader describes it.
    pub(crate) async fn describe_clustered(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        assignment: &Assignment,
    ) -> Result<StreamInfo, ApiError> {
        self.describe_elsewhere(cluster, assignment, StreamCall::Info).await
    }

    /// Changes a stream's configuration, which has been judged, and describes the stream. The caller holds
    /// [`Engine::changes`].
    pub(crate) async fn update_clustered(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        present: &Assignment,
        config: StreamConfig,
    ) -> Result<StreamInfo, ApiError> {
        let members = match config.num_replicas == present.config.num_replicas {
            true => None,
            false => Some(self.rescaled(cluster, present, &config).await?),
        };
        let change = |entry: &mut Assignment| {
            entry.config = config;
            entry.members = members.unwrap_or_else(|| std::mem::take(&mut entry.members));
        };
        let assignment = self.amend(cluster, present, change).await?;
        let seq = cluster.view.last_seq();
        self.describe_elsewhere(cluster, &assignment, StreamCall::Settled(seq)).await
    }

    /// Ends a stream: in its own log if it has a leader, then in the catalogue. The caller holds [`Engine::changes`].
    pub(crate) async fn delete_clustered(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        assignment: &Assignment,
    ) -> Result<(), ApiError> {
        match self.ask_leader(cluster, assignment, StreamCall::End).await {
            Ok(_) => {}
            Err(error) if error == errors::CLUSTER_NOT_AVAIL => tracing::warn!(
                "Stream '{} > {}' ends without a leader of its own",
                assignment.account,
                assignment.config.name
            ),
            Err(error) => return Err(error),
        }
        self.amend(cluster, assignment, |entry| entry.ended = true).await?;
        if assignment.is_volatile() {
            let _one_at_a_time = self.settling.lock().await;
            let forget = KeptConsumer::forget_all(&assignment.account, &assignment.config.name);
            self.decide(cluster, forget).await?;
        }
        Ok(())
    }

    /// Takes in what another server says, as the leader of the catalogue's group.
    pub(super) async fn serve_meta(&self, cluster: &Cluster, request: MetaRequest) -> Result<(), ApiError> {
        if !cluster.leads_meta() {
            return Err(errors::CLUSTER_NOT_LEADER);
        }
        let _one_at_a_time = self.settling.lock().await;
        match request {
            MetaRequest::Live { account, stream, group } => {
                let entry = cluster.view.entry(&account, &stream).filter(|a| a.group == group);
                if let Some(entry) = entry.filter(|a| !a.live && !a.ended) {
                    let live = Assignment { live: true, ..(*entry).clone() };
                    self.decide(cluster, live.store()).await?;
                }
            }
            MetaRequest::Keep { account, stream, consumer } => {
                let entry = cluster.view.stream(&account, &stream).filter(|a| a.group == consumer.group);
                entry.ok_or(errors::STREAM_NOT_FOUND)?;
                self.decide(cluster, consumer.store(&account, &stream)).await?;
            }
            MetaRequest::Drop { account, stream, group, consumer } => {
                let kept = cluster.view.consumers_of(&group);
                if kept.iter().any(|kept| kept.name == consumer) {
                    self.decide(cluster, KeptConsumer::forget(&account, &stream, &consumer)).await?;
                }
            }
            MetaRequest::Gone { account, stream, group, peer } => {
                let entry = cluster.view.entry(&account, &stream).filter(|a| a.ended && a.group == group);
                if let Some(entry) = entry {
                    let mut left = (*entry).clone();
                    left.members.retain(|member| member.peer != peer);
                    let command = if left.members.is_empty() { left.forget() } else { left.store() };
                    self.decide(cluster, command).await?;
                }
            }
        }
        Ok(())
    }
}
