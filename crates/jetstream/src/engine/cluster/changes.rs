//! Which streams exist: what the leader of the catalogue's group decides.

use std::sync::Arc;
use std::time::Duration;

use linnet_assets::placement::{Demand, Origin, Planner};
use linnet_env::OsRng;
use linnet_ids::PeerId;
use linnet_jsapi::StreamConfig;
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::info::StreamInfo;
use linnet_replication::cluster::{MetaRequest, in_life};
use linnet_replication::{Assignment, KeptConsumer, Placed};

use super::asks::StreamCall;
use super::facts::Facts;
use super::reshaping::ReshapingFacts;
use super::{Cluster, Engine};

/// How long a new stream may take to find its first leader.
const LIVE_WITHIN: Duration = Duration::from_secs(5);

impl Engine {
    /// Decides that there is a new stream, whose configuration has been judged. The caller holds [`Engine::changes`].
    pub(crate) async fn create_clustered(
        &self,
        cluster: &Cluster,
        account: &str,
        config: StreamConfig,
        facts: &Facts,
    ) -> Result<Assignment, ApiError> {
        let peers = self.place(cluster, &config, facts)?;
        // Sequences of the catalogue are never used again, whatever is removed from it.
        let group = cluster.new_group();
        let created = self.broker.clock().wall().0;
        let mut assignment = {
            let meta = cluster.meta();
            let members = meta.report.as_ref().map(|r| r.status.membership.members()).unwrap_or_default();
            Assignment::new_stream(account, config, created, group, &peers, members)
        };
        // The entry of an earlier stream of its name must not be forgotten after this.
        let _one_at_a_time = self.settling.lock().await;
        if cluster.view.is_damaged() {
            // A stream of this name, or one with its subjects, may be among what cannot be read.
            return Err(cluster.not_found());
        }
        if let Some(ended) = cluster.view.entry(account, &assignment.config.name) {
            assignment = assignment.in_place_of(&ended);
        }
        self.decide(cluster, assignment.store()).await?;
        Ok(assignment)
    }

    /// A new stream as its first leader describes it.
    pub(crate) async fn describe_new(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        assignment: &Assignment,
    ) -> Result<StreamInfo, ApiError> {
        self.wait_until_live(cluster, assignment).await?;
        self.describe_elsewhere(cluster, assignment, StreamCall::Info).await
    }

    /// The servers for a stream, each with the life in which it may begin empty.
    pub(crate) async fn place_in_lives(
        &self,
        cluster: &Arc<Cluster>,
        config: &StreamConfig,
    ) -> Result<Vec<Placed>, ApiError> {
        let facts = self.facts(cluster).await;
        let peers = self.place(cluster, config, &facts)?;
        let meta = cluster.meta();
        let members = meta.report.as_ref().map(|r| r.status.membership.members()).unwrap_or_default();
        Ok(peers.into_iter().map(|peer| in_life(peer, members)).collect())
    }

    /// The servers for a stream.
    fn place(
        &self,
        cluster: &Cluster,
        config: &StreamConfig,
        facts: &Facts,
    ) -> Result<Vec<PeerId>, ApiError> {
        let here = self.broker.cluster_name().unwrap_or_default();
        let fleet = self.fleet(cluster, facts);
        let origin = Origin { cluster: &here, alternates: &[] };
        Ok(Planner::new(&fleet, &OsRng).create_stream(&Demand::of(config), origin)?.peers)
    }

    async fn wait_until_live(&self, cluster: &Cluster, assignment: &Assignment) -> Result<(), ApiError> {
        let deadline = tokio::time::Instant::now() + LIVE_WITHIN;
        let mut changes = cluster.view.watch();
        loop {
            changes.borrow_and_update();
            let entry = cluster.view.stream(&assignment.account, &assignment.config.name);
            let Some(entry) = entry.filter(|entry| entry.group == assignment.group) else {
                // It was deleted meanwhile.
                return Err(errors::CLUSTER_NOT_AVAIL);
            };
            if entry.live {
                return Ok(());
            }
            if tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
                // Whoever begins it yet is told that it has ended.
                self.amend(cluster, assignment, Assignment::end).await?;
                return Err(errors::CLUSTER_NOT_AVAIL);
            }
        }
    }

    pub(super) async fn describe_elsewhere(
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

    /// A stream as its leader describes it once it is as the catalogue said at a sequence.
    pub(crate) async fn describe_updated(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        assignment: &Assignment,
        seq: u64,
    ) -> Result<StreamInfo, ApiError> {
        self.describe_elsewhere(cluster, assignment, StreamCall::Settled(seq)).await
    }

    /// Decides that a stream has another configuration, which has been judged; the catalogue is to be followed up to the
    /// sequence. The caller holds [`Engine::changes`].
    pub(crate) async fn update_clustered(
        &self,
        cluster: &Cluster,
        present: &Assignment,
        config: StreamConfig,
        facts: &ReshapingFacts,
    ) -> Result<(Arc<Assignment>, u64), ApiError> {
        let target = self.reshaped(cluster, present, &config, facts)?;
        let since = self.broker.clock().wall();
        let change = |entry: &mut Assignment| {
            if let Some(members) = target {
                entry.reshape(members, &config, since);
            }
            entry.config = config;
        };
        let assignment = self.amend(cluster, present, change).await?;
        Ok((assignment, cluster.view.last_seq()))
    }

    /// Ends a stream: in its own log if it has a leader, then in the catalogue.
    pub(crate) async fn delete_clustered(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        assignment: &Assignment,
    ) -> Result<(), ApiError> {
        match self.ask_leader(cluster, assignment, StreamCall::End).await {
            Ok(_) => {}
            // It has ended before, and whoever did that did not come to say so.
            Err(error) if error == errors::STREAM_NOT_FOUND => {}
            Err(error) if error == errors::CLUSTER_NOT_AVAIL => tracing::warn!(
                "Stream '{} > {}' ends without a leader of its own",
                assignment.account,
                assignment.config.name
            ),
            Err(error) => return Err(error),
        }
        match self.amend(cluster, assignment, Assignment::end).await {
            Ok(_) => {}
            // Its leader, or somebody else who deletes it, was first to say that it has ended.
            Err(error) if error == errors::STREAM_NOT_FOUND => {}
            Err(error) => return Err(error),
        }
        self.forget_kept(cluster, assignment).await
    }

    /// The consumers of a stream that has ended are not kept any more.
    async fn forget_kept(&self, cluster: &Cluster, ended: &Assignment) -> Result<(), ApiError> {
        let _one_at_a_time = self.settling.lock().await;
        let kept = cluster.view.consumers_of(&ended.group);
        let (account, stream) = (&ended.account, &ended.config.name);
        if kept.is_empty() {
            return Ok(());
        }
        if cluster.view.stream(account, stream).is_none() {
            return self.decide(cluster, KeptConsumer::forget_all(account, stream)).await;
        }
        // Another stream has the name by now, and may have consumers of its own.
        for consumer in kept {
            self.decide(cluster, KeptConsumer::forget(account, stream, &consumer.name)).await?;
        }
        Ok(())
    }

    /// Ends all streams of an account.
    pub(crate) async fn purge_account(self: &Arc<Self>, cluster: &Arc<Cluster>, account: &str) {
        for assignment in cluster.view.streams_of(account) {
            if let Err(error) = self.delete_clustered(cluster, &assignment).await {
                let stream = &assignment.config.name;
                tracing::error!("Stream '{account} > {stream}' cannot be deleted: {error}");
            }
        }
    }

    /// Takes in what another server says, as the leader of the catalogue's group.
    pub(super) async fn serve_meta(&self, cluster: &Cluster, request: MetaRequest) -> Result<(), ApiError> {
        if !cluster.leads_meta() {
            return Err(errors::CLUSTER_NOT_LEADER);
        }
        if let MetaRequest::Claim { assignment } = request {
            return self.take_claim(cluster, *assignment).await;
        }
        let _one_at_a_time = self.settling.lock().await;
        if let Some(command) = cluster.view.with(|known| request.command(known))? {
            self.decide(cluster, command).await?;
        }
        Ok(())
    }
}
