//! How a server enters its cluster, and leaves it when it stops.

use std::sync::Arc;
use std::time::Duration;

use linnet_ids::GroupId;
use linnet_raft::{Membership, Replica};
use linnet_replication::{Assignment, ClusterStore, RestoreOutcome, RestoredStream, begin_catalogue};

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
        let has_meta = store.meta.is_some();
        if let Some(meta) = store.meta {
            self.install_catalogue(meta).await;
        }
        for stream in store.streams {
            self.install_assigned(stream).await;
        }
        for unnamed in store.unnamed {
            self.health.note_unnamed(&unnamed.group.to_string(), &unnamed.reason);
        }
        let may_lack = store.may_lack_groups;
        let _ = cluster.founder.set(founder);
        if !has_meta {
            let engine = Arc::downgrade(self);
            tokio::spawn(async move {
                let Some(mut states) = cluster.founder().map(Founder::watch) else { return };
                loop {
                    let state = states.borrow_and_update().clone();
                    let Some(engine) = engine.upgrade() else { return };
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
        let now = self.broker.clock().mono();
        let mut log = self.log.clone();
        let group = begin_catalogue(&self.site(), me, cluster.me.seed, founders, now, &mut log);
        self.install_catalogue(Box::new(group)).await;
    }

    async fn install_assigned(&self, stream: RestoredStream) {
        let RestoredStream { assignment, group, outcome } = stream;
        let name = assignment.config.name.clone();
        match outcome {
            RestoreOutcome::Open(solo, found) => {
                self.health.note_losses(&assignment.account, &name, found.losses());
                let Some(account) = self.account(&assignment.account) else {
                    tracing::warn!(
                        "Stream '{} > {name}' is not served: its account has no JetStream",
                        assignment.account
                    );
                    return;
                };
                self.install(&account, solo, None, Shown::Everywhere).await;
                tracing::info!("  Restored stream '{} > {name}'", account.name());
            }
            RestoreOutcome::Ended(_) => self.forget_ended(&assignment, group).await,
            RestoreOutcome::Lost(reason) => self.install_lost(assignment, group, reason).await,
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
        let _ = tokio::time::timeout(HAND_OVER_WITHIN, self.hand_over(engine)).await;
        self.link.stop().await;
    }

    async fn hand_over(&self, engine: &Engine) {
        loop {
            let leading = self.news.leading();
            let mut waits = false;
            for group in leading {
                let reachable: Vec<_> = self
                    .link
                    .peers()
                    .into_iter()
                    .filter(|p| p.is_reachable && !p.is_offline)
                    .map(|p| p.id)
                    .collect();
                let told = engine.act_and_tell(group, move |replica, now, log| {
                    let status = replica.status()?;
                    let voters = status.membership.voters().map(|m| m.peer);
                    let best = voters
                        .filter(|peer| reachable.contains(peer))
                        .filter_map(|peer| Some((replica.progress(peer)?.matched, peer)))
                        .max()?
                        .1;
                    // A transfer that is under way goes on.
                    let _ = replica.transfer(now, best, HAND_OVER_WITHIN, log);
                    Some(())
                });
                waits |= told.await.flatten().is_some();
            }
            if !waits {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
