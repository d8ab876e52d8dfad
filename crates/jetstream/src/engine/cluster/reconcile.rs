//! From what the catalogue says to what there is here.

use std::sync::Arc;

use linnet_assets::Command;
use linnet_env::{OsRng, Rng};
use linnet_ids::GroupId;
use linnet_replication::{Assignment, Beginning, Myself, SoloGroup, forget_assignment, remember_assignment};

use super::asks::{MetaRequest, group_of};
use super::news::Fresh;
use super::{Cluster, Engine};
use crate::catalogue::{JsAccount, StreamHandle};
use crate::engine::streams::Shown;

/// Begins what this server is a member of, ends what it is not, and has streams follow their configuration.
pub(super) async fn reconcile(engine: &Arc<Engine>, cluster: &Arc<Cluster>, fresh: &Fresh) {
    super::transfers::serve(engine, cluster, fresh);
    for assignment in cluster.view.all() {
        let Some(group) = group_of(&assignment) else { continue };
        let Some(account) = engine.account(&assignment.account) else { continue };
        let here = account.stream(&assignment.config.name);
        let work = match here {
            None if assignment.replica(cluster.me()).is_none() => continue,
            Some(handle) if handle.group == group && !assignment.ended && cluster.outlived(group) => {
                Work::Remove(account, handle)
            }
            Some(handle)
                if handle.group == group
                    && handle.is_replica
                    && !assignment.ended
                    && assignment.replica(cluster.me()).is_none() =>
            {
                Work::Leave(account, handle)
            }
            None if assignment.ended => Work::SayGone,
            None => Work::Begin(account),
            Some(handle) if handle.group != group && handle.group.meta_index < group.meta_index => {
                Work::Remove(account, handle)
            }
            Some(handle) if handle.group != group => continue,
            Some(handle) if assignment.ended => Work::Remove(account, handle),
            Some(handle) if engine.leads(&handle) => Work::Settle(handle),
            Some(_) => continue,
        };
        engine.start_work(cluster, &assignment, group, work);
    }
}

enum Work {
    /// The stream begins here.
    Begin(Arc<JsAccount>),
    /// The stream, or an earlier one of its name, ends here.
    Remove(Arc<JsAccount>, Arc<StreamHandle>),
    /// The catalogue names this server no more.
    Leave(Arc<JsAccount>, Arc<StreamHandle>),
    /// Nothing of an ended stream is here.
    SayGone,
    /// This server leads it: the catalogue hears that it lives, and it follows its configuration.
    Settle(Arc<StreamHandle>),
}

impl Engine {
    /// Does it in a task of its own, unless something is being done about the group.
    fn start_work(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        assignment: &Arc<Assignment>,
        group: GroupId,
        work: Work,
    ) {
        if let Work::Settle(handle) = &work
            && assignment.live
            && *handle.config() == assignment.config
        {
            return;
        }
        if !cluster.busy.lock().insert(group) {
            return;
        }
        let (engine, cluster, assignment) = (self.clone(), cluster.clone(), assignment.clone());
        tokio::spawn(async move {
            // What could not be done is tried again when something changes or at the next look, not at once.
            let has_changed = match work {
                Work::Begin(account) => engine.begin_assigned(&cluster, &account, &assignment, group).await,
                Work::Remove(account, handle) => {
                    engine.remove_assigned(&cluster, &account, &handle).await;
                    engine.say_gone(&cluster, &assignment).await;
                    true
                }
                Work::Leave(account, handle) => {
                    let has_left = engine.has_left(&cluster, &assignment, &handle).await;
                    if has_left {
                        engine.remove_assigned(&cluster, &account, &handle).await;
                    }
                    has_left
                }
                Work::SayGone => {
                    engine.say_gone(&cluster, &assignment).await;
                    false
                }
                Work::Settle(handle) => {
                    engine.settle(&cluster, &assignment, &handle).await;
                    false
                }
            };
            cluster.busy.lock().remove(&group);
            if has_changed {
                cluster.news.nudge();
            }
        });
    }

    /// True if a replica began.
    async fn begin_assigned(
        &self,
        cluster: &Cluster,
        account: &Arc<JsAccount>,
        assignment: &Assignment,
        group: GroupId,
    ) -> bool {
        if assignment.is_volatile() && !cluster.is_current() {
            // Consumers that it is to begin with may not be known here yet.
            return false;
        }
        let (disk, dir, remembered) = (self.disk.clone(), self.dir.clone(), assignment.clone());
        let written =
            tokio::task::spawn_blocking(move || remember_assignment(&*disk, &dir, &remembered)).await;
        if let Ok(Err(e)) = written {
            tracing::error!(
                "Stream '{} > {}' cannot begin here: {e}",
                account.name(),
                assignment.config.name
            );
            return false;
        }
        match self.first_replica(cluster, assignment, group) {
            Ok(solo) => {
                self.install(account, Box::new(solo), None, Shown::Everywhere).await;
            }
            Err(reason) => self.install_lost(assignment.clone(), group, reason).await,
        }
        true
    }

    /// A replica without anything. Fails, with the reason in words, if the only one that there was is lost.
    fn first_replica(
        &self,
        cluster: &Cluster,
        assignment: &Assignment,
        group: GroupId,
    ) -> Result<SoloGroup, String> {
        let now = self.broker.clock().mono();
        let site = self.site();
        let life = cluster.meta().report.as_ref().map(|report| report.incarnation);
        let is_founder = assignment.replica(cluster.me()).is_some_and(|r| Some(r.incarnation) == life);
        let is_new = is_founder && !assignment.live;
        if assignment.members.len() > 1 {
            let how = if is_new { Beginning::Founding } else { Beginning::Joining };
            let mut log = self.log.clone();
            // The group may have had a replica here before, in a life that is over: this one draws another.
            let me = Myself { seed: OsRng.next_u64(), ..cluster.me };
            return Ok(assignment.begin_replica(group, &site, me, how, now, &mut log));
        }
        if assignment.is_volatile() {
            let consumers = cluster.view.consumers_of(&assignment.group);
            return assignment.begin_in_memory(group, &consumers, &site, now);
        }
        if is_new { Ok(assignment.begin_alone(group, &site, now)) } else { Err("its log is lost".to_owned()) }
    }

    async fn remove_assigned(&self, cluster: &Cluster, account: &JsAccount, handle: &Arc<StreamHandle>) {
        let name = handle.config().name.clone();
        account.streams.write().remove(&name);
        let has_log = handle.is_replica || !handle.cell.is_memory();
        self.remove(account, handle, has_log).await;
        cluster.news.forget(handle.group);
        cluster.outlived.lock().remove(&handle.group);
        cluster.announced.lock().remove(&handle.group);
        let (disk, dir, group) = (self.disk.clone(), self.dir.clone(), handle.group);
        let forgotten = tokio::task::spawn_blocking(move || forget_assignment(&*disk, &dir, group)).await;
        if let Ok(Err(e)) = forgotten {
            tracing::warn!("Forgetting the assignment of group {group}: {e}");
        }
        super::super::streams::tell_readers(account, &name);
    }

    async fn say_gone(&self, cluster: &Arc<Cluster>, assignment: &Assignment) {
        if !assignment.ended {
            return;
        }
        let request = MetaRequest::Gone {
            account: assignment.account.clone(),
            stream: assignment.config.name.clone(),
            group: assignment.group.clone(),
            peer: cluster.me().to_string(),
        };
        self.tell_meta(cluster, request).await;
    }

    async fn settle(&self, cluster: &Arc<Cluster>, assignment: &Assignment, handle: &Arc<StreamHandle>) {
        if *handle.config() != assignment.config {
            let update = Command::Update(Box::new(assignment.config.clone()));
            if let Err(error) = handle.ask(update).await {
                tracing::warn!(
                    "Stream '{}' does not take its configuration: {error}",
                    assignment.config.name
                );
                return;
            }
        }
        if !assignment.live {
            let request = MetaRequest::Live {
                account: assignment.account.clone(),
                stream: assignment.config.name.clone(),
                group: assignment.group.clone(),
            };
            self.tell_meta(cluster, request).await;
        }
    }
}

impl Cluster {
    /// True if the replica here was removed from its group, which wants another one here.
    fn outlived(&self, group: GroupId) -> bool {
        self.outlived.lock().contains(&group)
    }
}
