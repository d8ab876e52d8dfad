//! Groups of streams have the members that the catalogue names, and servers that are none any more let go.

use std::sync::Arc;
use std::time::Duration;

use linnet_ids::{GroupId, PeerId};
use linnet_raft::{Change, Replica, Role};
use linnet_replication::Assignment;
use linnet_replication::cluster::{Standpoint, Step, has_let_go};

use super::asks::{ASK_LIFE, StreamCall, group_of};
use super::attention::Scope;
use super::news::Fresh;
use super::{Cluster, Engine};
use crate::catalogue::StreamHandle;

/// How long a server may take to name its life.
const LIFE_WITHIN: Duration = Duration::from_secs(1);
/// How long another member may take to lead.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(2);

/// Pause between two steps of a group that make progress.
const STEP_AGAIN: Duration = Duration::from_millis(20);

/// What came of a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The members are those that are wanted.
    Done,
    /// The next one can follow soon.
    Soon,
    /// Something else has to happen first.
    Later,
}

/// Brings the groups that this server leads one step nearer to the members that they shall have.
pub(super) fn follow(engine: &Arc<Engine>, cluster: &Arc<Cluster>, fresh: &Fresh, scope: &Scope) {
    {
        let mut seated = cluster.seated.lock();
        for group in fresh.changed.keys() {
            seated.remove(group);
        }
    }
    for group in cluster.led(scope) {
        if group == GroupId::META {
            continue;
        }
        let Some(assignment) = cluster.view.of_group(group).filter(|a| a.live && !a.ended) else { continue };
        let wanted: Vec<PeerId> = assignment.replicas().into_iter().map(|r| r.peer).collect();
        let is_told = assignment.reshaping.is_none();
        if is_told && cluster.seated.lock().get(&group) == Some(&wanted) {
            continue;
        }
        cluster.attention.lock().keep(group);
        if !cluster.moving.lock().insert(group) {
            continue;
        }
        let (engine, cluster) = (engine.clone(), cluster.clone());
        tokio::spawn(async move {
            let outcome = engine.take_step(&cluster, &assignment, group, &wanted).await;
            match outcome {
                Outcome::Done if !is_told => engine.say_shaped(&cluster, &assignment).await,
                Outcome::Done => {
                    cluster.seated.lock().insert(group, wanted);
                }
                Outcome::Soon => tokio::time::sleep(STEP_AGAIN).await,
                Outcome::Later => {}
            }
            cluster.moving.lock().remove(&group);
            if outcome == Outcome::Soon {
                cluster.news.nudge();
            }
        });
    }
}

/// What the leader of a group does next about its members.
struct NextStep {
    step: Step,
    /// It is the only voter.
    decides_alone: bool,
    /// A change is under way.
    is_moving: bool,
    /// Lives that are over.
    retired: Vec<Replica>,
}

impl Engine {
    async fn take_step(
        &self,
        cluster: &Arc<Cluster>,
        assignment: &Arc<Assignment>,
        group: GroupId,
        wanted: &[PeerId],
    ) -> Outcome {
        let mut heard: Vec<PeerId> =
            cluster.link.peers().into_iter().filter(|p| p.is_reachable).map(|p| p.id).collect();
        let next = loop {
            let next = self.next_step(cluster.me(), group, heard.clone(), wanted.to_vec()).await;
            let Some(NextStep { step: Step::TakeIn(peer), retired, .. }) = &next else { break next };
            match life_in(cluster, *peer, group, None).await {
                Some(incarnation) if retired.contains(&Replica { peer: *peer, incarnation }) => {
                    // It was taken out in that life, and may not have heard it.
                    life_in(cluster, *peer, group, Some(incarnation)).await;
                }
                Some(incarnation) => {
                    self.change_members(group, Change::Add(Replica { peer: *peer, incarnation }));
                    return Outcome::Soon;
                }
                None => {}
            }
            // One that does not begin keeps nobody waiting.
            heard.retain(|other| other != peer);
        };
        let next = next.map(|next| (next.step, next.decides_alone, next.is_moving));
        match next {
            Some((Step::Done, ..)) => return Outcome::Done,
            // From then on this server does not decide alone, also if its log should lose that.
            Some((Step::Change(change @ Change::Promote(_)), true, ..)) => {
                if self.remember(assignment).await {
                    self.change_members(group, change);
                }
            }
            Some((Step::Change(change), ..)) => self.change_members(group, change),
            Some((Step::HandOver(peer), ..)) => {
                let handed = self.act_and_tell(group, move |replica, now, log| {
                    replica.transfer(now, peer, HAND_OVER_WITHIN, log)
                });
                if let Some(Err(e)) = handed.await {
                    tracing::debug!("Group {group}: handing over to peer {peer} waits: {e}");
                }
            }
            Some((Step::Wait, _, true)) => {}
            Some((Step::Wait | Step::TakeIn(_), ..)) | None => return Outcome::Later,
        }
        Outcome::Soon
    }

    /// What the leader of a group does next about its members; `None` if it is not here.
    async fn next_step(
        &self,
        me: PeerId,
        group: GroupId,
        heard: Vec<PeerId>,
        wanted: Vec<PeerId>,
    ) -> Option<NextStep> {
        let next = self.act_and_tell(group, move |replica, _, _| {
            let status = replica.status()?;
            let standpoint = Standpoint {
                me,
                status: &status,
                progress: &|peer| replica.progress(peer),
                is_heard: &|peer| peer == me || heard.contains(&peer),
                wanted: &wanted,
            };
            let members = status.membership.members();
            Some(NextStep {
                step: standpoint.next(),
                decides_alone: status.membership.voter_count() == 1,
                is_moving: !status.is_membership_committed
                    || members.iter().any(|m| m.role == Role::Learner && (standpoint.is_heard)(m.peer)),
                retired: status.membership.retired().to_vec(),
            })
        });
        next.await.flatten()
    }

    /// The life in which this server would take part in a group. One that is over cannot be taken in again, as the replica
    /// knows or the group's leader says: it makes room for a new one.
    pub(super) async fn name_life(
        &self,
        cluster: &Cluster,
        group: GroupId,
        over: Option<u64>,
    ) -> Option<u64> {
        let known = self.act_and_tell(group, |replica, _, _| {
            let is_removed = replica.status()?.is_removed;
            Some((replica.incarnation()?, is_removed))
        });
        let (life, is_removed) = known.await.flatten()?;
        // It may have begun another life since it was told to make room.
        let is_over = is_removed || Some(life) == over || cluster.outlived.lock().contains(&group);
        if is_over {
            cluster.outlived.lock().insert(group);
            cluster.attention.lock().keep(group);
            cluster.news.nudge();
            return None;
        }
        let now = cluster.link.clock().mono();
        Some(life).filter(|life| *life > 0 && cluster.lives.lock().name(now, group))
    }

    /// True if this server, which the catalogue does not name, is no member of the group either, and none is about to
    /// take it in. From then on the replica names no life until [`super::lives::Lives::has_left`].
    pub(super) async fn leaves(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        assignment: &Assignment,
        handle: &StreamHandle,
    ) -> bool {
        self.has_left(cluster, assignment, handle).await
            && cluster.lives.lock().leave(cluster.link.clock().mono(), handle.group)
    }

    /// True if this server is no member of the group: by what it holds itself, or else by what the group's leader says
    /// while this server knows what the catalogue says now.
    async fn has_left(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        assignment: &Assignment,
        handle: &StreamHandle,
    ) -> bool {
        let Some(group) = group_of(assignment) else { return false };
        if !handle.is_replica() {
            // It held the stream alone once, and others have it by now.
            return cluster.is_current();
        }
        let Some(report) = self.report(&handle.pump, handle.key).await else { return false };
        if has_let_go(&report.status) {
            return true;
        }
        if report.status.is_leader || !cluster.is_current() {
            return false;
        }
        let answer = self.ask_members(cluster, assignment, &StreamCall::Members).await;
        let Some(Ok(members)) = answer else { return false };
        let Ok(members) = serde_json::from_value::<Vec<String>>(members) else { return false };
        let is_left = !members.is_empty() && !members.contains(&cluster.me().to_string());
        if is_left {
            tracing::info!("Group {group} has no replica on this server any more");
        }
        is_left
    }
}

/// The life that a server names; `over` is one that it must not name again.
async fn life_in(cluster: &Cluster, peer: PeerId, group: GroupId, over: Option<u64>) -> Option<u64> {
    let body = match over {
        None => group.to_string(),
        Some(life) => format!("{group} {life}"),
    };
    let answer = cluster.link.ask(peer, ASK_LIFE, body.as_bytes(), LIFE_WITHIN).await.ok()?;
    serde_json::from_slice(&answer).ok()
}
