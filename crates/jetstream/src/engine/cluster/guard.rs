//! Whether others can do without this server: which other members of its groups are not there, or lack something.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use linnet_ids::{GroupId, LogIndex, PeerId};
use linnet_raft::MemberProgress;

use super::asks::{ASK_LAGGING, gather};
use super::{Cluster, Engine, META_KEY};
use crate::pump::ReplicaReport;

/// What a member lacks for so long is not on its way to it only.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long other servers may take to say it.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// What the catalogue's group is called.
const META_GROUP: &str = "the meta group";

/// What a stream's group is called.
fn stream_group(account: &str, stream: &str) -> String {
    format!("stream '{account} > {stream}'")
}

/// Servers that can be heard and do not leave.
fn there(cluster: &Cluster) -> Vec<PeerId> {
    let peers = cluster.link.peers().into_iter();
    peers.filter(|p| p.is_connected && p.is_reachable && !p.is_offline).map(|p| p.id).collect()
}

impl Cluster {
    /// A server's name, else its id.
    fn shown(&self, peer: PeerId) -> String {
        self.link.name_of(peer).unwrap_or_else(|| format!("peer {peer}"))
    }
}

impl Engine {
    /// Members, other than this server, of groups that this server votes in that could not take its place now: each as
    /// `name in group`. Empty for a server alone.
    pub async fn lagging(self: &Arc<Self>) -> Vec<String> {
        let Some(cluster) = self.cluster.clone() else { return Vec::new() };
        let me = cluster.me();
        let (here, elsewhere) = tokio::join!(
            self.lagging_beside(&cluster, me),
            gather::<Vec<String>>(&cluster, ASK_LAGGING, ANSWER_WITHIN, me.as_str().as_bytes().to_vec())
        );
        let mut all = here;
        all.extend(elsewhere.into_iter().flat_map(|(_, lagging)| lagging));
        all.extend(self.leaderless(&cluster));
        all.extend(self.away_from(&cluster));
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The same of the groups that this server leads, for a member of them.
    pub(super) async fn lagging_beside(&self, cluster: &Cluster, member: PeerId) -> Vec<String> {
        let groups = self.replica_names();
        let mut first: BTreeMap<GroupId, LogIndex> = BTreeMap::new();
        for group in groups.keys().filter(|group| cluster.news.leads(**group)) {
            let Some(report) = self.report_of(*group).await else { continue };
            let commit = report.status.commit;
            if is_voter(&report, member) && !self.behind(cluster, &report, member, commit).is_empty() {
                first.insert(*group, commit);
            }
        }
        if first.is_empty() {
            return Vec::new();
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        let mut all = Vec::new();
        for (group, commit) in first {
            let Some(report) = self.report_of(group).await else { continue };
            let shown = groups.get(&group).map(String::as_str).unwrap_or_default();
            let behind = self.behind(cluster, &report, member, commit);
            all.extend(behind.into_iter().map(|name| format!("{name} in {shown}")));
        }
        all
    }

    /// Voters beside a member that lack something up to `commit`, or are not there.
    fn behind(
        &self,
        cluster: &Cluster,
        report: &ReplicaReport,
        member: PeerId,
        commit: LogIndex,
    ) -> Vec<String> {
        if !report.status.is_leader {
            return Vec::new();
        }
        let there = there(cluster);
        let has_all = |progress: &MemberProgress| progress.matched >= commit && !progress.is_amnesiac;
        let others = report.progress.iter().filter(|(peer, _)| *peer != member && *peer != cluster.me());
        let voters = others.filter(|(peer, _)| report.status.membership.is_voter(*peer));
        let behind = voters
            .filter(|(peer, progress)| !there.contains(peer) || !progress.as_ref().is_some_and(has_all));
        behind.map(|(peer, _)| cluster.shown(*peer)).collect()
    }

    /// Members of groups here that this server cannot hear, whoever leads them.
    fn away_from(&self, cluster: &Cluster) -> Vec<String> {
        let (there, me) = (there(cluster), cluster.me());
        let mut all = Vec::new();
        let mut look = |peers: Vec<PeerId>, group: &str| {
            let away =
                peers.iter().filter(|peer| peers.contains(&me) && **peer != me && !there.contains(peer));
            all.extend(away.map(|peer| format!("{} in {group}", cluster.shown(*peer))));
        };
        if let Some(report) = &cluster.meta().report {
            look(report.status.membership.voters().map(|m| m.peer).collect(), META_GROUP);
        }
        for assignment in cluster.view.all().iter().filter(|assignment| !assignment.ended) {
            let peers = assignment.replicas().into_iter().map(|replica| replica.peer).collect();
            look(peers, &stream_group(&assignment.account, &assignment.config.name));
        }
        all
    }

    /// Groups here that have no leader: nobody knows who lacks what.
    fn leaderless(&self, cluster: &Cluster) -> Vec<String> {
        let mut all = Vec::new();
        if cluster.meta().leaderless_since.is_some() {
            all.push(format!("no leader in {META_GROUP}"));
        }
        for account in self.accounts() {
            for handle in account.streams().into_iter().filter(|handle| handle.is_replica()) {
                if handle.cell().replica().is_some_and(|state| state.leaderless_since.is_some()) {
                    let shown = stream_group(account.name(), &handle.config().name);
                    all.push(format!("no leader in {shown}"));
                }
            }
        }
        all
    }

    /// The groups with several replicas that are here, and what they are called.
    pub(super) fn replica_names(&self) -> BTreeMap<GroupId, String> {
        let mut names = BTreeMap::from([(GroupId::META, META_GROUP.to_owned())]);
        for account in self.accounts() {
            for handle in account.streams().into_iter().filter(|handle| handle.is_replica()) {
                names.insert(handle.group, stream_group(account.name(), &handle.config().name));
            }
        }
        names
    }

    async fn report_of(&self, group: GroupId) -> Option<ReplicaReport> {
        if group == GroupId::META {
            return self.report(&self.meta_pump(), META_KEY).await;
        }
        self.act_and_tell(group, |replica, _, _| ReplicaReport::of(replica)).await.flatten()
    }
}

fn is_voter(report: &ReplicaReport, member: PeerId) -> bool {
    report.status.membership.is_voter(member)
}
