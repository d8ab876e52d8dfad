//! Streams that get more replicas or fewer, or go elsewhere (jetstream-clustering 1.10, 1.12): what the leader of the
//! catalogue's group decides about it. What is decided is the members that a stream shall have; its own leader gets there
//! one step at a time ([`steps`](super::steps)), and says when it is done.

use std::sync::Arc;

use linnet_assets::placement::{Demand, Group, Origin, Planner, scale_down};
use linnet_env::OsRng;
use linnet_ids::PeerId;
use linnet_jsapi::StreamConfig;
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::info::StreamInfo;
use linnet_jsapi::policies::StorageType;
use linnet_jsapi::requests::StreamMoveRequest;
use linnet_replication::cluster::{MetaRequest, placed};
use linnet_replication::{Assignment, Placed};

use super::asks::StreamCall;
use super::facts::Facts;
use super::placing::{home_of, replicas_of};
use super::{Cluster, Engine};

fn peers_of(assignment: &Assignment) -> Vec<PeerId> {
    assignment.replicas().into_iter().map(|replica| replica.peer).collect()
}

/// The server that leads a stream.
fn leader_of(info: &StreamInfo) -> Option<PeerId> {
    info.cluster.as_ref().map(|cluster| PeerId::of_name(&cluster.leader))
}

/// What another configuration does to the members of a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shift {
    /// Nothing.
    None,
    /// Their number becomes another one.
    Scale,
    /// They may have to be elsewhere.
    Move,
}

impl Shift {
    fn of(present: &Assignment, config: &StreamConfig) -> Result<Self, ApiError> {
        let is_scaled = config.num_replicas != present.config.num_replicas;
        let is_moved = config.placement != present.config.placement;
        if !is_scaled && !is_moved {
            return Ok(Self::None);
        }
        match &present.reshaping {
            Some(change) if change.is_move => return Err(errors::STREAM_MOVE_IN_PROGRESS),
            Some(_) if is_moved => return Err(errors::STREAM_RECONFIGURE_IN_PROGRESS),
            _ => {}
        }
        match (is_scaled, is_moved) {
            (true, true) => Err(errors::STREAM_MOVE_AND_SCALE),
            (true, false) => Ok(Self::Scale),
            _ => Ok(Self::Move),
        }
    }
}

/// What was asked before a stream's members become others, as far as it matters.
#[derive(Default)]
pub(crate) struct ReshapingFacts {
    servers: Option<Facts>,
    info: Option<StreamInfo>,
}

impl ReshapingFacts {
    /// What servers said. It was not asked for if the change was another one then.
    fn servers(&self) -> Result<&Facts, ApiError> {
        self.servers.as_ref().ok_or(errors::CLUSTER_NOT_AVAIL)
    }
}

impl Engine {
    /// Asks what is to be known before a stream gets another configuration.
    pub(crate) async fn reshaping_facts(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        present: &Assignment,
        config: &StreamConfig,
    ) -> Result<ReshapingFacts, ApiError> {
        let wanted = Demand::of(config).replicas;
        let count = peers_of(present).len();
        let mut facts = ReshapingFacts::default();
        match Shift::of(present, config)? {
            Shift::Scale if count != wanted => {
                facts.info = Some(self.describe_clustered(cluster, present).await?);
                if count < wanted {
                    facts.servers = Some(self.facts(cluster).await);
                }
            }
            Shift::Move => facts.servers = Some(self.facts(cluster).await),
            Shift::None | Shift::Scale => {}
        }
        Ok(facts)
    }

    /// The members that a stream shall have with another configuration; `None` if they stay.
    pub(super) fn reshaped(
        &self,
        cluster: &Cluster,
        present: &Assignment,
        config: &StreamConfig,
        facts: &ReshapingFacts,
    ) -> Result<Option<Vec<Placed>>, ApiError> {
        match Shift::of(present, config)? {
            Shift::None => Ok(None),
            Shift::Scale => self.rescaled(cluster, present, config, facts),
            Shift::Move => self.relocated(cluster, present, config, facts.servers()?),
        }
    }

    /// The members with another number of replicas.
    fn rescaled(
        &self,
        cluster: &Cluster,
        present: &Assignment,
        config: &StreamConfig,
        facts: &ReshapingFacts,
    ) -> Result<Option<Vec<Placed>>, ApiError> {
        let demand = Demand::of(config);
        let peers = peers_of(present);
        if peers.len() == demand.replicas {
            return Ok(None);
        }
        let info = facts.info.as_ref().ok_or(errors::CLUSTER_NOT_AVAIL)?;
        let leader = leader_of(info);
        if peers.len() > demand.replicas {
            let stay = scale_down(leader, &replicas_of(info, &peers), demand.replicas);
            return Ok(Some(placed(present, &stay)));
        }
        let fleet = self.fleet(cluster, facts.servers()?);
        let home = home_of(self, &fleet, &peers);
        let group = Group { cluster: &home, peers: &peers, leader };
        let plan = Planner::new(&fleet, &OsRng).scale_up(&demand, &group)?;
        Ok(Some(placed(present, &plan.peers)))
    }

    /// The members with another placement.
    fn relocated(
        &self,
        cluster: &Cluster,
        present: &Assignment,
        config: &StreamConfig,
        facts: &Facts,
    ) -> Result<Option<Vec<Placed>>, ApiError> {
        if !present.may_move() {
            return Err(errors::STREAM_OFFLINE);
        }
        let peers = peers_of(present);
        let fleet = self.fleet(cluster, facts);
        let home = home_of(self, &fleet, &peers);
        let group = Group { cluster: &home, peers: &peers, leader: None };
        let origin = Origin { cluster: &home, alternates: &[] };
        let plan = Planner::new(&fleet, &OsRng).relocate(&Demand::of(config), origin, &group)?;
        Ok((plan.peers != peers).then(|| placed(present, &plan.peers)))
    }

    /// Takes back the change of a stream's replicas that is under way.
    pub(crate) async fn cancel_move(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        present: &Assignment,
    ) -> Result<StreamInfo, ApiError> {
        let mut is_taken_back = false;
        let assignment = self.amend(cluster, present, |entry| is_taken_back = entry.take_back()).await?;
        if !is_taken_back {
            return Err(errors::STREAM_RECONFIGURE_NOT_IN_PROGRESS);
        }
        self.describe_settled(cluster, &assignment).await
    }

    /// An operator moves a stream off a server.
    pub(crate) async fn move_stream(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        asked: &Assignment,
        request: &StreamMoveRequest,
    ) -> Result<StreamInfo, ApiError> {
        let facts = self.facts(cluster).await;
        let assignment = {
            let _one_at_a_time = self.changes.lock().await;
            let present = &*cluster.still(asked)?;
            let peers = peers_of(present);
            let fleet = self.fleet(cluster, &facts);
            let from = match request.server.as_str() {
                "" => peers.first().copied(),
                // Of one that cannot be heard nothing but the id is known, which its name makes.
                name => fleet
                    .iter()
                    .find(|c| c.name == name || c.peer == PeerId::of_name(name))
                    .filter(|c| {
                        request.cluster.is_empty() || c.cluster.is_empty() || c.cluster == request.cluster
                    })
                    .map(|c| c.peer),
            };
            let from = from.ok_or(errors::CLUSTER_SERVER_NOT_MEMBER)?;
            if !peers.contains(&from) {
                return Err(errors::CLUSTER_PEER_NOT_MEMBER);
            }
            if !present.may_move() || (peers.len() < 2 && !fleet.is_online(from)) {
                return Err(errors::STREAM_OFFLINE);
            }
            if let Some(change) = &present.reshaping {
                return Err(match change.is_move {
                    true => errors::STREAM_MOVE_IN_PROGRESS,
                    false => errors::STREAM_RECONFIGURE_IN_PROGRESS,
                });
            }
            let home = home_of(self, &fleet, &peers);
            let group = Group { cluster: &home, peers: &peers, leader: None };
            let demand = Demand::of(&present.config);
            let plan = Planner::new(&fleet, &OsRng).move_off(&demand, &group, from, &request.tags)?;
            self.give_members(cluster, present, &plan.peers).await?
        };
        self.describe_settled(cluster, &assignment).await
    }

    /// An operator takes a stream off a server, which goes at once or, if it `stays_until_replaced`, last.
    pub(crate) async fn replace_member(
        &self,
        cluster: &Arc<Cluster>,
        asked: &Assignment,
        gone: PeerId,
        stays_until_replaced: bool,
    ) -> Result<(), ApiError> {
        let facts = self.facts(cluster).await;
        let _one_at_a_time = self.changes.lock().await;
        let present = &*cluster.still(asked)?;
        let peers = peers_of(present);
        if !peers.contains(&gone) {
            return Err(errors::CLUSTER_PEER_NOT_MEMBER);
        }
        if !present.may_move() {
            return Err(errors::PEER_REMAP);
        }
        let fleet = self.fleet(cluster, &facts);
        if peers.len() < 2 && (!stays_until_replaced || !fleet.is_online(gone)) {
            // Whoever replaced the only one would begin without anything.
            return Err(errors::PEER_REMAP);
        }
        let home = home_of(self, &fleet, &peers);
        let group = Group { cluster: &home, peers: &peers, leader: None };
        let demand = Demand::of(&present.config);
        let plan = Planner::new(&fleet, &OsRng).replace(&demand, &group, gone, &[])?;
        self.give_members(cluster, present, &plan.peers).await.map(|_| ())
    }

    /// Moves all streams off a server, as far as there are others that may have them.
    pub(crate) async fn evacuate(&self, cluster: &Arc<Cluster>, gone: PeerId) {
        let facts = self.facts(cluster).await;
        let is_there = |a: &Arc<Assignment>| !a.ended && peers_of(a).contains(&gone);
        for present in cluster.view.all().iter().filter(|a| is_there(a)) {
            let (account, stream) = (&present.account, &present.config.name);
            match self.evacuate_stream(cluster, present, gone, &facts).await {
                Ok(()) => tracing::info!("Stream '{account} > {stream}' moves off peer {gone}"),
                Err(error) => tracing::warn!("Stream '{account} > {stream}' stays on peer {gone}: {error}"),
            }
        }
    }

    async fn evacuate_stream(
        &self,
        cluster: &Cluster,
        asked: &Assignment,
        gone: PeerId,
        facts: &Facts,
    ) -> Result<(), ApiError> {
        let _one_at_a_time = self.changes.lock().await;
        let present = &*cluster.still(asked)?;
        let peers = peers_of(present);
        let fleet = self.fleet(cluster, facts);
        let home = home_of(self, &fleet, &peers);
        let group = Group { cluster: &home, peers: &peers, leader: None };
        let demand = Demand::of(&present.config);
        let plan = Planner::new(&fleet, &OsRng).replace(&demand, &group, gone, &[gone])?;
        // Nobody else has anything of one whose only server is away.
        if !present.may_move() || (peers.len() < 2 && !fleet.is_online(gone)) {
            return Err(errors::STREAM_OFFLINE);
        }
        self.give_members(cluster, present, &plan.peers).await.map(|_| ())
    }

    /// Decides that a stream shall have these members, with the configuration that it has.
    async fn give_members(
        &self,
        cluster: &Cluster,
        present: &Assignment,
        peers: &[PeerId],
    ) -> Result<Arc<Assignment>, ApiError> {
        let members = placed(present, peers);
        let now = self.broker.clock().wall();
        let change = |entry: &mut Assignment| {
            let config = entry.config.clone();
            entry.reshape(members, &config, now);
        };
        self.amend(cluster, present, change).await
    }

    async fn describe_settled(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        assignment: &Assignment,
    ) -> Result<StreamInfo, ApiError> {
        let seq = cluster.view.last_seq();
        self.describe_elsewhere(cluster, assignment, StreamCall::Settled(seq)).await
    }

    /// Tells the catalogue that a stream that this server leads has the members that it shall have.
    pub(super) async fn say_shaped(&self, cluster: &Arc<Cluster>, assignment: &Assignment) {
        if assignment.config.storage == StorageType::Memory
            && assignment.members.len() < 2
            && let Some(account) = self.account(&assignment.account)
            && let Some(handle) = account.stream(&assignment.config.name)
            && let Err(error) = self.keep_present_consumers(cluster, &account, &handle).await
        {
            let stream = &assignment.config.name;
            tracing::warn!("Consumers of stream '{} > {stream}' cannot be kept yet: {error}", account.name());
            return;
        }
        let request = MetaRequest::Shaped {
            account: assignment.account.clone(),
            stream: assignment.config.name.clone(),
            group: assignment.group.clone(),
            members: assignment.members.iter().map(|member| member.peer.clone()).collect(),
        };
        self.tell_meta(cluster, request).await;
    }
}
