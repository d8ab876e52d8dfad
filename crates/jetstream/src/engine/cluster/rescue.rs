//! What a rescue of the catalogue's group means for a server: those that take part tell of it, and one that was taken for
//! lost begins with nothing of the catalogue once it hears of it. What it has of streams stays.
//!
//! Streams whose other replicas are lost go on in the same way with those that are left.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use linnet_ids::{GroupId, PeerId};
use linnet_raft::{Fault, Replica};
use linnet_replication::{Assignment, Log, Rescued};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::announce::{Told, own_fields, system_accounts};
use super::asks::{ASK_GO_ON, group_of};
use super::{Cluster, Engine};
use crate::engine::META_KEY;
use crate::pump::{Control, Files, ReplicaReport};

/// For so long after a rescue of the catalogue's group its leader takes what was lost of streams for lost.
const RESCUED_FOR: Duration = Duration::from_secs(3600);
/// How long those that remember may take to go on without the others.
const GO_ON_WITHIN: Duration = Duration::from_secs(60);
/// How long a member may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// A question to a member of a group.
#[derive(Debug, Serialize, Deserialize)]
struct GoOn {
    group: String,
    /// So many must agree.
    needed: usize,
}

/// Answers what the leader of the catalogue's group asks.
pub(super) fn answer(engine: &Arc<Engine>, cluster: &Arc<Cluster>) {
    let weak = Arc::downgrade(engine);
    cluster.link.answer_with(ASK_GO_ON, move |_, body, answerer| {
        let Some(engine) = weak.upgrade() else { return };
        tokio::spawn(async move {
            let Ok(GoOn { group, needed }) = serde_json::from_slice(&body) else { return };
            if let Some(group) = GroupId::parse(&group) {
                engine.go_on(group, needed).await;
                answerer.answer(b"");
            }
        });
    });
}

impl Cluster {
    /// True for some time after the catalogue's group was rescued.
    pub(super) fn was_rescued_lately(&self) -> bool {
        let Some(rescued) = self.view.rescued() else { return false };
        let epoch = self.meta().report.as_ref().map_or(0, |report| report.status.epoch());
        rescued.is_recent(epoch, self.link.clock().wall(), RESCUED_FOR)
    }

    /// A rescue that the catalogue does not know.
    fn unknown_rescue(&self) -> Option<Rescued> {
        let epoch = self.meta().report.as_ref().map_or(0, |report| report.status.epoch());
        let is_known = epoch == 0 || self.view.rescued().is_some_and(|rescued| rescued.epoch == epoch);
        (!is_known && self.leads_meta()).then(|| Rescued { epoch, at: self.link.clock().wall().0 })
    }
}

/// As the leader of the catalogue's group: writes down that it was rescued, and when.
pub(super) fn note(engine: &Arc<Engine>, cluster: &Arc<Cluster>) {
    let Some(rescued) = cluster.unknown_rescue() else { return };
    let Some(busy) = cluster.take_on("", "") else { return };
    let (engine, cluster) = (engine.clone(), cluster.clone());
    tokio::spawn(async move {
        if let Err(e) = engine.decide(&cluster, rescued.store()).await {
            tracing::debug!("That the meta group was rescued cannot be written down yet: {e}");
        }
        drop(busy);
    });
}

impl Engine {
    /// Has a stream go on with those that remember it.
    pub(super) async fn go_on_with(&self, cluster: &Cluster, assignment: &Assignment, remember: &[PeerId]) {
        let (account, name) = (&assignment.account, &assignment.config.name);
        let needed = remember.len();
        tracing::warn!(
            "Stream '{account} > {name}' goes on with {needed} of {} replicas: the others are lost",
            assignment.config.num_replicas
        );
        for peer in remember {
            if *peer == cluster.me() {
                if let Some(group) = group_of(assignment) {
                    self.go_on(group, needed).await;
                }
                continue;
            }
            let question = GoOn { group: assignment.group.clone(), needed };
            let Ok(body) = serde_json::to_vec(&question) else { return };
            // Whoever does not hear it is asked again with the next look.
            if let Err(e) = cluster.link.ask(*peer, ASK_GO_ON, &body, ANSWER_WITHIN).await {
                tracing::debug!("Peer {peer} does not go on with group {}: {e}", assignment.group);
            }
        }
    }

    /// The replica here goes on with those that remember, if so many agree.
    async fn go_on(&self, group: GroupId, needed: usize) {
        let allowed =
            self.act_and_tell(group, move |replica, now, log| replica.rescue(now, needed, GO_ON_WITHIN, log));
        if let Some(Err(e)) = allowed.await {
            tracing::debug!("Group {group} does not go on with what is left: {e}");
        }
    }

    /// Tells whoever listens that an operator lets fewer servers decide.
    pub(crate) fn tell_rescue(&self, before: usize, now: usize) {
        let mut fields = own_fields(self);
        fields.insert("prev_quorum".to_owned(), before.into());
        fields.insert("new_quorum".to_owned(), now.into());
        let told = Told { topic: "SERVER.META_RESCUE".to_owned(), kind: "meta_rescue", fields };
        told.publish(self, &system_accounts(self));
    }

    /// JetStream ends here if this server is taken out of the catalogue's group while it runs. One that was taken out while
    /// it was away, or that the group was rescued without, gives up what it has of the catalogue and comes back.
    pub(super) async fn look_at_membership(&self, cluster: &Arc<Cluster>, report: &ReplicaReport) {
        let status = &report.status;
        if status.belongs(Replica { peer: cluster.me(), incarnation: report.incarnation }) {
            cluster.was_member.store(true, Ordering::Relaxed);
        }
        let is_rescued_without = matches!(status.fault, Some(Fault::OtherHistory(_)));
        if status.is_removed && cluster.was_member.load(Ordering::Relaxed) {
            self.health.note_removed();
        } else if (status.is_removed || is_rescued_without) && cluster.leave_history() {
            tracing::warn!(
                "The meta group went on without this server, which takes the catalogue from the others"
            );
            self.leave_history().await;
        }
    }

    /// Gives up what this server has of the catalogue. Once that is in the log, the store is to be opened again: the
    /// catalogue comes from the others then.
    pub(super) async fn leave_history(&self) {
        let (done, removed) = oneshot::channel();
        self.meta_pump().control(Control::Remove { key: META_KEY, files: Files::Keep, done });
        let _ = removed.await;
        self.end_catalogue();
        self.health.ask_for_reopening();
    }

    /// The log says that this server has nothing of the catalogue.
    pub(super) fn end_catalogue(&self) {
        self.log.disown(GroupId::META);
        self.log.clone().end_group(GroupId::META);
        self.log.kick();
    }
}
