//! How a server enters its cluster, and leaves it when it stops.

use std::sync::Arc;
use std::time::Duration;

use linnet_ids::GroupId;
use linnet_raft::{Membership, Replica};
use linnet_replication::{
    Assignment, ClusterStore, RestoreOutcome, RestoredStream, StreamGroup, begin_catalogue, put_aside,
};

use super::succession::{self, Heir};
use super::{Cluster, Engine};
use crate::cluster::{Foundation, Founder};
use crate::engine::streams::Shown;

/// How long leaderships may take to move when the server stops.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(2);

impl Engine {
    /// Lets what this server holds take part, and finds or founds the catalogue's group if it holds nothing of that.
    pub(in crate::engine) async fn enter_cluster(self: &Arc<Self>, store: ClusterStore) {
        let Some(cluster) = self.cluster.clone() else { return };
        let founder = Founder::start(&cluster.link, &self.config.domain, self.plain_disk.clone(), &self.dir);
        let was_removed = |meta: &StreamGroup| meta.status().is_some_and(|status| status.is_removed);
        let has_meta = match store.meta {
            // It comes back like a server that has nothing of the catalogue.
            Some(meta) if was_removed(&meta) => {
                tracing::warn!(
                    "This server was taken out of the JetStream meta group, and waits to be taken in again"
                );
                self.end_catalogue();
                false
            }
            Some(meta) => {
                self.install_catalogue(meta).await;
                true
            }
            None => false,
        };
        for stream in store.streams {
            self.install_assigned(stream).await;
        }
        self.finish_removals(store.removing);
        for unnamed in store.unnamed {
            self.health.note_unnamed(&unnamed.group.to_string(), &unnamed.reason);
            cluster.note_unserved(unnamed.group);
        }
        let may_lack = store.may_lack_groups;
        let _ = cluster.founder.set(founder);
        self.follow_history(&cluster);
        if !has_meta {
            let engine = Arc::downgrade(self);
            tokio::spawn(async move {
                let Some(mut states) = cluster.founder().map(Founder::watch) else { return };
                loop {
                    let state = states.borrow_and_update().clone();
                    let Some(engine) = engine.upgrade() else { return };
                    engine.follow_history(&cluster);
                    if engine.begin_as(&cluster, state, may_lack).await {
                        return;
                    }
                    drop(engine);
                    if states.changed().await.is_err() {
                        return;
                    }
                }
            });
        }
        self.look_after_cluster();
    }

    /// Begins the catalogue's replica once it is known as what. False while it is not.
    async fn begin_as(&self, cluster: &Arc<Cluster>, state: Foundation, may_lack: bool) -> bool {
        let Some(founder) = cluster.founder() else { return false };
        let me = Replica { peer: cluster.me(), incarnation: founder.life() };
        match state {
            Foundation::Waiting => false,
            Foundation::Founded { founding, has_begun } if !has_begun && !may_lack => {
                self.begin_catalogue(cluster, me, Some(Membership::of_voters(founding.voters))).await;
                founder.begun().await
            }
            Foundation::Founded { .. } => {
                self.begin_catalogue(cluster, me, None).await;
                true
            }
            Foundation::Joins(founding) => {
                self.begin_catalogue(cluster, me, None).await;
                founder.belongs_to(founding).await;
                true
            }
        }
    }

    /// Begins the catalogue's replica: with the founders of a new group, or in one that exists.
    async fn begin_catalogue(&self, cluster: &Cluster, me: Replica, founders: Option<Membership>) {
        // What is there is of a catalogue that the log does not know any more.
        let (disk, dir) = (self.disk.clone(), self.dir.clone());
        let aside = move || {
            let note = "The catalogue of this server alone, or one that its log has lost\n";
            put_aside(&*disk, &dir, &GroupId::META.to_string(), note);
        };
        if let Err(e) = tokio::task::spawn_blocking(aside).await {
            tracing::warn!("Putting a catalogue aside: {e}");
        }
        let now = self.broker.clock().mono();
        let mut log = self.log.clone();
        let group = begin_catalogue(&self.site(), me, cluster.me.seed, founders, now, &mut log);
        self.install_catalogue(Box::new(group)).await;
    }

    async fn install_assigned(&self, stream: RestoredStream) {
        let RestoredStream { assignment, group, outcome } = stream;
        let name = assignment.config.name.clone();
        let has_ended = matches!(outcome, RestoreOutcome::Ended(_));
        if !has_ended && self.account(&assignment.account).is_none() {
            return self.leave_unserved(&assignment, group);
        }
        match outcome {
            RestoreOutcome::Open(solo, found) => {
                self.health.note_losses(&assignment.account, &name, found.losses());
                let Some(account) = self.account(&assignment.account) else { return };
                if assignment.unclaimed {
                    let handle = self.install(&account, solo, None, Shown::Nowhere).await;
                    if let Some(cluster) = &self.cluster {
                        cluster.note_unclaimed(account.clone(), handle, assignment);
                    }
                } else {
                    self.install(&account, solo, None, Shown::Everywhere).await;
                }
                tracing::info!("  Restored stream '{} > {name}'", account.name());
            }
            RestoreOutcome::Ended(_) => self.forget_ended(&assignment, group).await,
            // Others have it, and answer for it.
            RestoreOutcome::Lost(reason) if !assignment.is_alone() => {
                tracing::error!("Stream '{} > {name}' cannot be had here: {reason}", assignment.account);
                self.health.note_not_recovered(&assignment.account, &name, &reason);
                if let Some(cluster) = &self.cluster {
                    cluster.note_unserved(group);
                }
            }
            RestoreOutcome::Lost(reason) => self.install_lost(assignment, group, reason).await,
        }
    }

    /// The account of a stream has no JetStream: what the store has of it stays as it is, until the store is opened with
    /// that account.
    fn leave_unserved(&self, assignment: &Assignment, group: GroupId) {
        let (account, name) = (&assignment.account, &assignment.config.name);
        tracing::warn!("Stream '{account} > {name}' is not served: its account has no JetStream");
        self.unserved.lock().insert(account.clone());
        if let Some(cluster) = &self.cluster {
            cluster.note_unserved(group);
        }
    }

    /// The log of a stream says that it has ended.
    async fn forget_ended(&self, assignment: &Assignment, group: GroupId) {
        let (disk, dir) = (self.disk.clone(), self.dir.clone());
        let forget = move || linnet_replication::forget_assignment(&*disk, &dir, group);
        if let Ok(Err(e)) = tokio::task::spawn_blocking(forget).await {
            tracing::warn!("Stream '{}' has ended: {e}", assignment.config.name);
        }
    }
}

impl Cluster {
    /// Hands leaderships to others, as long as that takes but not too long, and says that this server stops.
    pub(in crate::engine) async fn leave(&self, engine: &Engine) {
        engine.be_reluctant(engine.replica_names().into_keys(), true);
        let handing_over = async {
            while self.hand_over(engine).await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let mut hurried = self.hurried.subscribe();
        tokio::select! {
            _ = tokio::time::timeout(HAND_OVER_WITHIN, handing_over) => {}
            _ = hurried.wait_for(|is_hurried| *is_hurried) => {}
        }
        self.link.stop().await;
    }

    /// Whoever waits for leaderships to move waits no more.
    pub(in crate::engine) fn hurry(&self) {
        self.hurried.send_replace(true);
    }

    /// Asks others to take over what this server leads. False if nobody can, or nothing is led.
    pub(super) async fn hand_over(&self, engine: &Engine) -> bool {
        let mut waits = false;
        for group in self.news.leading() {
            let peers = self.link.peers().into_iter().filter(|p| p.is_reachable && !p.is_offline);
            let able: Vec<_> = peers.map(|p| p.id).collect();
            let told = engine.act_and_tell(group, move |replica, now, log| {
                let status = replica.status()?;
                let voters = status.membership.voters().map(|m| m.peer);
                let heirs = voters.filter(|peer| able.contains(peer)).filter_map(|peer| {
                    let progress = replica.progress(peer).filter(|p| !p.is_amnesiac)?;
                    Some(Heir { peer, matched: progress.matched })
                });
                let best = succession::best(group, heirs)?;
                // A transfer that is under way goes on.
                let _ = replica.transfer(now, best, HAND_OVER_WITHIN, log);
                Some(())
            });
            waits |= told.await.flatten().is_some();
        }
        waits
    }
}
