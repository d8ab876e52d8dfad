//! Which servers a stream shall be on: what the leader of the catalogue's group decides after the stream is created.

use std::sync::Arc;
use std::time::Duration;

use linnet_assets::Command;
use linnet_assets::placement::{Demand, Fleet, Group, Planner, Replica, scale_down};
use linnet_env::OsRng;
use linnet_ids::PeerId;
use linnet_jsapi::StreamConfig;
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::info::StreamInfo;
use linnet_replication::{Assignment, Placed};

use super::asks::StreamCall;
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
        let before = cluster.view.version();
        let mut changes = cluster.view.watch();
        self.ask_catalogue(command).await?;
        let deadline = tokio::time::Instant::now() + SEEN_WITHIN;
        while cluster.view.version() == before {
            if !matches!(tokio::time::timeout_at(deadline, changes.changed()).await, Ok(Ok(()))) {
                break;
            }
        }
        Ok(())
    }

    /// The members that a stream shall have with another number of replicas.
    pub(super) async fn rescaled(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        present: &Assignment,
        config: &StreamConfig,
    ) -> Result<Vec<Placed>, ApiError> {
        let demand = Demand::of(config);
        let peers: Vec<PeerId> = present.replicas().into_iter().map(|r| r.peer).collect();
        if peers.len() == demand.replicas {
            return Ok(present.members.clone());
        }
        let info = self.describe_clustered(cluster, present).await?;
        let leader = info.cluster.as_ref().map(|c| PeerId::of_name(&c.leader));
        if peers.len() > demand.replicas {
            return Ok(placed(present, &scale_down(leader, &replicas_of(&info, &peers), demand.replicas)));
        }
        if !self.is_replicated(cluster, present).await? {
            return Err(errors::stream_update(
                "more replicas than one are not supported yet for this stream",
            ));
        }
        let fleet = self.fleet(cluster).await;
        let home = home_of(self, &fleet, &peers);
        let group = Group { cluster: &home, peers: &peers, leader };
        let plan = Planner::new(&fleet, &OsRng).scale_up(&demand, &group)?;
        Ok(placed(present, &plan.peers))
    }

    /// True if a stream's group can have several members.
    async fn is_replicated(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        assignment: &Assignment,
    ) -> Result<bool, ApiError> {
        let members = self.ask_leader(cluster, assignment, StreamCall::Members).await?;
        Ok(members.as_array().is_some_and(|members| !members.is_empty()))
    }

    /// An operator takes a stream off a server: another one gets it (jetstream-clustering 1.12).
    pub(crate) async fn replace_member(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        present: &Assignment,
        gone: PeerId,
    ) -> Result<(), ApiError> {
        let peers: Vec<PeerId> = present.replicas().into_iter().map(|r| r.peer).collect();
        if !peers.contains(&gone) {
            return Err(errors::CLUSTER_PEER_NOT_MEMBER);
        }
        if peers.len() < 2 {
            // Whoever replaced the only one would begin without anything.
            return Err(errors::PEER_REMAP);
        }
        let fleet = self.fleet(cluster).await;
        let home = home_of(self, &fleet, &peers);
        let group = Group { cluster: &home, peers: &peers, leader: None };
        let demand = Demand::of(&present.config);
        let plan = Planner::new(&fleet, &OsRng).replace(&demand, &group, gone, &[])?;
        let members = placed(present, &plan.peers);
        self.amend(cluster, present, |entry| entry.members = members).await.map(|_| ())
    }

    /// Gives streams that have too few members, or members that were taken out of the cluster, others as far as there
    /// are any. One that would lose its last member keeps it: it has the data, if anybody has.
    pub(super) async fn heal_streams(self: &Arc<Self>, cluster: &Arc<Cluster>) {
        let meta = cluster.meta();
        let Some(report) = meta.report.as_ref().filter(|report| report.status.is_leader) else { return };
        let servers: Vec<PeerId> = report.status.membership.members().iter().map(|m| m.peer).collect();
        drop(meta);
        let ailing: Vec<Arc<Assignment>> =
            cluster.view.all().into_iter().filter(|a| is_ailing(a, &servers)).collect();
        if ailing.is_empty() {
            return;
        }
        let fleet = self.fleet(cluster).await;
        for assignment in ailing {
            let peers: Vec<PeerId> = assignment.replicas().into_iter().map(|r| r.peer).collect();
            let home = home_of(self, &fleet, &peers);
            let group = Group { cluster: &home, peers: &peers, leader: None };
            let repair = Planner::new(&fleet, &OsRng).heal(&Demand::of(&assignment.config), &group, &[]);
            let Some(repair) = repair.filter(|repair| !repair.is_emptied) else { continue };
            let members = placed(&assignment, &repair.peers);
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
                    repair.missing
                ),
                Err(e) => {
                    tracing::warn!("Stream '{} > {name}' cannot get other members: {e}", assignment.account)
                }
            }
        }
    }
}

/// True for a stream of several replicas that lacks some, or has some on servers that are not in the cluster.
fn is_ailing(assignment: &Assignment, servers: &[PeerId]) -> bool {
    let wanted = usize::try_from(assignment.config.num_replicas).unwrap_or(0);
    let peers = assignment.replicas();
    wanted > 1
        && assignment.live
        && !assignment.ended
        && (peers.len() < wanted || peers.iter().any(|r| !servers.contains(&r.peer)))
}

/// The members as the catalogue keeps them. Those that come have no life in which they may begin without the others.
fn placed(present: &Assignment, peers: &[PeerId]) -> Vec<Placed> {
    let place = |peer: &PeerId| {
        let peer = peer.to_string();
        let known = present.members.iter().find(|member| member.peer == peer).cloned();
        known.unwrap_or(Placed { peer, life: 0 })
    };
    peers.iter().map(place).collect()
}

/// The cluster that a group is in.
fn home_of(engine: &Engine, fleet: &Fleet, peers: &[PeerId]) -> String {
    let known = peers.iter().filter_map(|peer| fleet.get(*peer)).map(|c| c.cluster.clone());
    let mut named = known.filter(|cluster| !cluster.is_empty());
    named.next().unwrap_or_else(|| engine.broker.cluster_name().unwrap_or_default())
}

/// The replicas as the leader describes them.
fn replicas_of(info: &StreamInfo, peers: &[PeerId]) -> Vec<Replica> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment(replicas: i64, names: &[&str]) -> Assignment {
        let place = |name: &&str| Placed { peer: PeerId::of_name(name).to_string(), life: 7 };
        Assignment {
            account: "A".to_owned(),
            group: String::new(),
            created: 1,
            live: true,
            members: names.iter().map(place).collect(),
            ended: false,
            config: StreamConfig { num_replicas: replicas, ..StreamConfig::default() },
        }
    }

    #[test]
    fn streams_that_lack_a_member_are_found() {
        let servers = ["a", "b", "c"].map(PeerId::of_name);
        let is_ailing = |replicas, names: &[&str]| is_ailing(&assignment(replicas, names), &servers);
        assert!(!is_ailing(3, &["a", "b", "c"]));
        assert!(is_ailing(3, &["a", "b"]));
        assert!(is_ailing(3, &["a", "b", "gone"]));
        assert!(!is_ailing(1, &["gone"]), "nobody else has what is there");
        let ended = Assignment { ended: true, ..assignment(3, &["a"]) };
        let begins = Assignment { live: false, ..assignment(3, &["a"]) };
        assert!(!super::is_ailing(&ended, &servers) && !super::is_ailing(&begins, &servers));
    }

    #[test]
    fn only_those_that_were_there_keep_a_life_to_begin_in() {
        let members = placed(&assignment(3, &["a", "b"]), &["b", "c"].map(PeerId::of_name));
        assert_eq!(members.iter().map(|m| m.life).collect::<Vec<_>>(), [7, 0]);
    }
}
