//! Streams of which too few remember anything: in memory because their servers were restarted (rule R8), in files, after an
//! operator rescued the catalogue's group, because the files are lost. What is done about them is decided in
//! `linnet_replication::cluster`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use linnet_ids::{GroupId, PeerId};
use linnet_replication::Assignment;
use linnet_replication::cluster::{Rebirth, Standing};

use super::asks::{ASK_GIVE_UP, ASK_STANDING, group_of};
use super::{Cluster, Engine};

/// How often the streams are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a member may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// As the leader of the catalogue's group: looks for such streams, not more often than is useful.
pub(super) fn look_after(engine: &Arc<Engine>, cluster: &Arc<Cluster>) {
    let now = cluster.link.clock().mono();
    let takes_files = cluster.was_rescued_lately();
    {
        let mut last = cluster.reseeding.lock();
        if !cluster.leads_meta() || last.is_some_and(|last| now.since(last) < LOOK_EVERY) {
            return;
        }
        *last = Some(now);
    }
    let (engine, cluster) = (engine.clone(), cluster.clone());
    tokio::spawn(async move {
        for assignment in cluster.view.all() {
            if assignment.may_be_forgotten() || (takes_files && assignment.is_shared()) {
                engine.reseed(&cluster, &assignment).await;
            }
        }
    });
}

impl Engine {
    /// How the replica of a group here stands; `None` if there is none.
    pub(super) async fn standing(&self, group: GroupId) -> Option<Standing> {
        let status = self.act_and_tell(group, |replica, _, _| replica.status()).await.flatten()?;
        Some(Standing::of(&status))
    }

    /// The replica of a group here gives up what it promised.
    pub(super) async fn give_up(&self, group: GroupId) {
        let given = self.act_and_tell(group, |replica, now, log| replica.give_up(now, log));
        if given.await == Some(true) {
            tracing::warn!("Group {group} cannot go on: too few of its replicas remember it");
        }
    }

    /// Has a stream begin again of which too few remember anything.
    async fn reseed(&self, cluster: &Arc<Cluster>, assignment: &Assignment) {
        let Some(group) = group_of(assignment) else { return };
        let servers: Vec<PeerId> = {
            let meta = cluster.meta();
            let members = meta.report.as_ref().map(|r| r.status.membership.members()).unwrap_or_default();
            members.iter().map(|member| member.peer).collect()
        };
        let mut standings = BTreeMap::new();
        for peer in assignment.holding_peers().into_iter().filter(|peer| servers.contains(peer)) {
            let standing: Option<Standing> = if peer == cluster.me() {
                self.standing(group).await
            } else {
                let body = assignment.group.as_bytes();
                let answer = cluster.link.ask(peer, ASK_STANDING, body, ANSWER_WITHIN).await;
                answer.ok().and_then(|answer| serde_json::from_slice(&answer).ok())
            };
            let Some(standing) = standing else { return };
            if standing.has_leader {
                return;
            }
            standings.insert(peer, standing);
        }
        match Rebirth::of(&standings, |peer| servers.contains(&peer)) {
            Rebirth::Wait => {}
            Rebirth::GiveUp(peers) if !assignment.may_be_forgotten() => {
                self.go_on_with(cluster, assignment, &peers).await;
            }
            // Its files are lost with what was in them, and an operator deletes it or brings one of the disks.
            Rebirth::Begin(_) if !assignment.may_be_forgotten() => {}
            Rebirth::GiveUp(peers) => {
                for peer in peers {
                    if peer == cluster.me() {
                        self.give_up(group).await;
                    } else {
                        // Whoever does not hear it is asked again with the next look.
                        let body = assignment.group.as_bytes();
                        let _ = cluster.link.ask(peer, ASK_GIVE_UP, body, ANSWER_WITHIN).await;
                    }
                }
                cluster.news.nudge();
            }
            Rebirth::Begin(seed) => self.begin_anew(cluster, assignment, seed).await,
        }
    }

    /// Has a stream begin again that never lived: its founders have lost their disks.
    pub(super) async fn begin_once_more(&self, cluster: &Arc<Cluster>, assignment: &Assignment) {
        let (account, name) = (&assignment.account, &assignment.config.name);
        let why = format!("Stream '{account} > {name}' was never begun by its servers; it begins once more");
        self.begin_as_another(cluster, assignment, None, &why).await;
    }

    async fn begin_anew(&self, cluster: &Arc<Cluster>, assignment: &Assignment, seed: Option<PeerId>) {
        let (account, name) = (&assignment.account, &assignment.config.name);
        let why = match seed {
            None => format!(
                "Stream '{account} > {name}' in memory was forgotten by all its servers; it begins again, empty"
            ),
            Some(peer) => format!(
                "Stream '{account} > {name}' in memory was forgotten by most of its servers; it begins again with \
                 what peer {peer} has, which may lack what was acknowledged last"
            ),
        };
        self.begin_as_another(cluster, assignment, seed, &why).await;
    }

    async fn begin_as_another(
        &self,
        cluster: &Arc<Cluster>,
        assignment: &Assignment,
        seed: Option<PeerId>,
        why: &str,
    ) {
        let _one_at_a_time = self.settling.lock().await;
        let name = &assignment.config.name;
        let entry = cluster.view.stream(&assignment.account, name);
        let is_unchanged =
            entry.is_some_and(|entry| entry.group == assignment.group && entry.live == assignment.live);
        if !is_unchanged || !cluster.leads_meta() {
            return;
        }
        let next = cluster.new_group();
        let meta = cluster.meta();
        let members = meta.report.as_ref().map(|r| r.status.membership.members()).unwrap_or_default();
        let anew = assignment.begin_anew(next, members, seed);
        drop(meta);
        let account = &assignment.account;
        tracing::warn!("{why}");
        if let Err(error) = self.decide(cluster, anew.store()).await {
            tracing::warn!("Stream '{account} > {name}' cannot begin again yet: {error}");
        }
    }
}
