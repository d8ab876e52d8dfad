//! From what the catalogue says to what there is here.

use std::sync::Arc;

use linnet_assets::Command;
use linnet_env::{OsRng, Rng};
use linnet_ids::GroupId;
use linnet_replication::cluster::{self as decided, Founded, Here, MetaRequest};
use linnet_replication::{
    Assignment, Myself, StreamGroup, forget_assignment, note_removal, put_aside, remember_assignment,
};
use tokio::sync::oneshot;

use super::asks::group_of;
use super::attention::Scope;
use super::{Cluster, Engine};
use crate::catalogue::{JsAccount, StreamHandle};
use crate::engine::streams::Shown;
use crate::pump::{Control, Files};

/// Begins what this server is a member of, ends what it is not, and has streams follow their configuration.
pub(super) fn reconcile(engine: &Arc<Engine>, cluster: &Arc<Cluster>, scope: &Scope) {
    for assignment in cluster.assignments(scope) {
        let Some(group) = group_of(&assignment) else { continue };
        let Some(account) = engine.account(&assignment.account) else { continue };
        let here = account.stream(&assignment.config.name);
        if here.is_none() && cluster.is_unclaimed(group) {
            cluster.attention.lock().keep(group);
            continue;
        }
        if here.is_none() && cluster.keeps_unserved(group) {
            // The store has it: nothing may begin in its place before the store is opened again.
            if engine.health.is_unnamed(group) && !assignment.ended {
                engine.name_again(cluster, &assignment, group);
            }
            continue;
        }
        let found = here.as_ref().map(|handle| Here {
            group: handle.group,
            is_replica: handle.is_replica(),
            is_lost: handle.lost().is_some(),
            leads: engine.leads(handle),
            is_outlived: handle.group == group && cluster.outlived(group),
            has_other_history: handle.cell.has_other_history(),
            has_ended: handle.cell.has_ended(),
            is_relic: handle.cell.replica().is_some_and(|state| state.is_relic()),
            is_configured: *handle.config() == assignment.config,
        });
        let work = match (Here::work(found, &assignment, cluster.me()), here) {
            (Some(decided::Work::Begin), _) => Work::Begin(account),
            (Some(decided::Work::SayGone), _) => Work::SayGone,
            (Some(decided::Work::Inherit), Some(handle)) => Work::Inherit(account, handle),
            (Some(decided::Work::Remove), Some(handle)) => Work::Remove(account, handle),
            (Some(decided::Work::SetAside), Some(handle)) => Work::SetAside(account, handle),
            (Some(decided::Work::PutAside), Some(handle)) => Work::PutAside(account, handle),
            (Some(decided::Work::Leave), Some(handle)) => Work::Leave(account, handle),
            (Some(decided::Work::OpenUp), Some(handle)) => Work::OpenUp(handle),
            (Some(decided::Work::Settle), Some(handle)) => Work::Settle(handle),
            (Some(decided::Work::SayEnded), Some(_)) => Work::SayEnded,
            (Some(decided::Work::SayShaped), Some(_)) => Work::SayShaped,
            _ => continue,
        };
        cluster.attention.lock().keep(group);
        engine.start_work(cluster, &assignment, group, work);
    }
}

enum Work {
    /// The stream begins here.
    Begin(Arc<JsAccount>),
    /// The stream begins here with what a replica of an earlier group holds, which ends.
    Inherit(Arc<JsAccount>, Arc<StreamHandle>),
    /// The stream, or an earlier one of its name, ends here.
    Remove(Arc<JsAccount>, Arc<StreamHandle>),
    /// Another stream has its name, and nothing says that this one has ended.
    SetAside(Arc<JsAccount>, Arc<StreamHandle>),
    /// The group was rescued without the replica here.
    PutAside(Arc<JsAccount>, Arc<StreamHandle>),
    /// The catalogue names this server no more.
    Leave(Arc<JsAccount>, Arc<StreamHandle>),
    /// Nothing of an ended stream is here.
    SayGone,
    /// This server holds it alone, and others shall have it, too: it becomes the first member of a group.
    OpenUp(Arc<StreamHandle>),
    /// A stream that is led here has ended in its own log, and the catalogue does not know it.
    SayEnded,
    /// A change of its members was taken back before it began.
    SayShaped,
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
        let Some(busy) = cluster.take_on(&assignment.account, &assignment.config.name) else { return };
        let (engine, cluster, assignment) = (self.clone(), cluster.clone(), assignment.clone());
        tokio::spawn(async move {
            // What could not be done is tried again when something changes or at the next look, not at once.
            let has_changed = match work {
                Work::Begin(account) => engine.begin_assigned(&cluster, &account, &assignment, group).await,
                Work::Inherit(account, handle) => {
                    engine.inherit(&cluster, &account, &handle, &assignment, group).await
                }
                Work::Remove(account, handle) => {
                    let is_removed = engine.remove_assigned(&cluster, &account, &handle, &assignment).await;
                    if is_removed {
                        engine.say_gone(&cluster, &assignment).await;
                    }
                    is_removed
                }
                // The entry may be older than what is here.
                Work::SetAside(..) if !cluster.is_current() => false,
                // Nothing of one in memory outlives it here.
                Work::SetAside(account, handle) if handle.cell.is_memory() => {
                    engine.remove_assigned(&cluster, &account, &handle, &assignment).await
                }
                Work::SetAside(account, handle) => {
                    engine.set_aside(&cluster, &account, &handle).await;
                    true
                }
                Work::PutAside(account, handle) => {
                    engine.put_history_aside(&cluster, &account, &handle).await;
                    true
                }
                Work::Leave(account, handle) => {
                    let is_removed = engine.leaves(&cluster, &assignment, &handle).await
                        && engine.remove_assigned(&cluster, &account, &handle, &assignment).await;
                    cluster.lives.lock().has_left(handle.group);
                    is_removed
                }
                Work::OpenUp(handle) => engine.open_up(&cluster, &handle).await,
                Work::SayGone => {
                    engine.say_gone(&cluster, &assignment).await;
                    false
                }
                Work::SayEnded => {
                    engine.say_ended(&cluster, &assignment).await;
                    false
                }
                Work::SayShaped => {
                    engine.say_shaped(&cluster, &assignment).await;
                    false
                }
                Work::Settle(handle) => {
                    engine.settle(&cluster, &assignment, &handle).await;
                    false
                }
            };
            drop(busy);
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
        if !cluster.is_current() {
            // It may have had a replica that has ended since. Consumers to begin with may not be known here yet either.
            return false;
        }
        if !self.remember(assignment).await {
            return false;
        }
        // A disk may take its time.
        let is_wanted = cluster.view.of_group(group).is_some_and(|entry| !entry.ended);
        let here = account.stream(&assignment.config.name).map(|handle| handle.group());
        if !is_wanted || here.is_some() {
            if here != Some(group) {
                self.forget_assigned(group).await;
            }
            return true;
        }
        match self.first_replica(cluster, assignment, group) {
            Ok(solo) => {
                self.install(account, Box::new(solo), None, Shown::Everywhere).await;
            }
            Err(reason) => self.install_lost(assignment.clone(), group, reason).await,
        }
        true
    }

    /// Goes on with what the replica of an earlier group holds. True if it does.
    async fn inherit(
        &self,
        cluster: &Cluster,
        account: &Arc<JsAccount>,
        handle: &Arc<StreamHandle>,
        assignment: &Assignment,
        group: GroupId,
    ) -> bool {
        if !cluster.is_current() || !self.remember(assignment).await {
            return false;
        }
        let wall = self.broker.clock().wall();
        let content = self.act_and_tell(handle.group, move |replica, now, _| {
            replica.bequeath(linnet_assets::Moment { now, wall, live: false })
        });
        let content = match content.await {
            Some(Ok(Some(content))) => content,
            Some(Err(error)) => {
                tracing::error!("Stream '{}' cannot go on: {error}", assignment.config.name);
                return false;
            }
            Some(Ok(None)) | None => return false,
        };
        // What is on its way here is in no other place: it goes on even if the earlier group cannot be removed yet.
        self.remove_assigned(cluster, account, handle, assignment).await;
        let now = self.broker.clock().mono();
        let me = Myself { seed: OsRng.next_u64(), ..cluster.me };
        let (assignment, mut log) = (assignment.clone(), self.log.clone());
        let begin = move || assignment.begin_with(group, &content, me, (now, wall), &mut log);
        let Ok(first) = tokio::task::spawn_blocking(begin).await else { return false };
        self.install(account, Box::new(first), None, Shown::Everywhere).await;
        true
    }

    /// Writes down that this server takes part in a group. False if that cannot be written now.
    pub(super) async fn remember(&self, assignment: &Assignment) -> bool {
        let (disk, dir, remembered) = (self.disk.clone(), self.dir.clone(), assignment.clone());
        let written =
            tokio::task::spawn_blocking(move || remember_assignment(&*disk, &dir, &remembered)).await;
        match written {
            Ok(Ok(())) => true,
            Ok(Err(e)) => {
                let (account, stream) = (&assignment.account, &assignment.config.name);
                tracing::error!("Stream '{account} > {stream}' cannot be noted in the store: {e}");
                false
            }
            Err(_) => false,
        }
    }

    /// A replica without anything. Fails, with the reason in words, if the only one that there was is lost.
    fn first_replica(
        &self,
        cluster: &Cluster,
        assignment: &Assignment,
        group: GroupId,
    ) -> Result<StreamGroup, String> {
        let now = self.broker.clock().mono();
        let consumers = cluster.view.consumers_of(&assignment.group);
        let founded = Founded {
            me: Myself { seed: OsRng.next_u64(), ..cluster.me },
            life: cluster.meta().report.as_ref().map(|report| report.incarnation),
            consumers: &consumers,
        };
        assignment.first_replica(group, &self.site(), founded, now, &mut self.log.clone())
    }

    /// Removes what this server has of a group. `assignment` is the newest one of the stream's name. False if that cannot
    /// be noted in the store, without which a crash would leave half of it: then nothing is removed.
    async fn remove_assigned(
        &self,
        cluster: &Cluster,
        account: &JsAccount,
        handle: &Arc<StreamHandle>,
        assignment: &Assignment,
    ) -> bool {
        let (group, name) = (handle.group, handle.config().name.clone());
        // The files of one that could not be recovered are kept aside.
        if handle.lost().is_none() && !self.note_removal(account, &name, group, assignment).await {
            return false;
        }
        account.hide(handle);
        self.remove(account, handle, false).await;
        cluster.news.forget(group);
        cluster.outlived.lock().remove(&group);
        cluster.announced.lock().remove(&group);
        let has_log = handle.is_replica() || !handle.cell.is_memory();
        if !has_log || self.log.end(group).await {
            self.forget_assigned(group).await;
        }
        super::super::streams::tell_readers(account, &name);
        true
    }

    async fn note_removal(
        &self,
        account: &JsAccount,
        name: &str,
        group: GroupId,
        assignment: &Assignment,
    ) -> bool {
        let (disk, dir, assignment) = (self.disk.clone(), self.dir.clone(), assignment.clone());
        let noted = tokio::task::spawn_blocking(move || note_removal(&*disk, &dir, group, &assignment)).await;
        if let Ok(Err(e)) = &noted {
            tracing::error!("Stream '{} > {name}' cannot be noted as ending: {e}", account.name());
        }
        matches!(noted, Ok(Ok(())))
    }

    /// Serves a stream no more, and keeps all that the store has of it: an operator decides what becomes of it.
    async fn set_aside(&self, cluster: &Cluster, account: &JsAccount, handle: &Arc<StreamHandle>) {
        let (name, group) = (handle.config().name.clone(), handle.group);
        let reason = format!("another stream has the name of stream '{} > {name}' by now", account.name());
        tracing::error!(
            "Group {group} is kept and not served: {reason}, and nothing says that this one ended"
        );
        self.stop_serving(cluster, account, handle).await;
        self.health.note_unnamed(&group.to_string(), &reason);
        self.forget_assigned(group).await;
    }

    /// The store has a group whose assignment here was lost, and the catalogue names it: it is noted again, and the store
    /// opened with that.
    fn name_again(self: &Arc<Self>, cluster: &Arc<Cluster>, assignment: &Arc<Assignment>, group: GroupId) {
        let is_member = assignment.holding_peers().contains(&cluster.me());
        if !is_member || !cluster.is_current() {
            return;
        }
        let Some(busy) = cluster.take_on(&assignment.account, &assignment.config.name) else { return };
        let (engine, assignment) = (self.clone(), assignment.clone());
        tokio::spawn(async move {
            if engine.remember(&assignment).await {
                let (account, stream) = (&assignment.account, &assignment.config.name);
                tracing::warn!(
                    "Group {group} is stream '{account} > {stream}': the store is opened again with it"
                );
                engine.health.ask_for_reopening();
                busy.keep();
            }
        });
    }

    /// Serves a stream no more as long as the store is open, and leaves what the store has of it as it is.
    pub(super) async fn stop_serving(
        &self,
        cluster: &Cluster,
        account: &JsAccount,
        handle: &Arc<StreamHandle>,
    ) {
        self.take_out(cluster, account, handle).await;
        cluster.note_unserved(handle.group);
    }

    /// Nobody finds the stream any more. Its files and its log stay.
    async fn take_out(&self, cluster: &Cluster, account: &JsAccount, handle: &Arc<StreamHandle>) {
        let name = handle.config().name.clone();
        account.hide(handle);
        self.health.forget(account.name(), &name);
        let (done, removed) = oneshot::channel();
        handle.pump.control(Control::Remove { key: handle.key, files: Files::Keep, done });
        let _ = removed.await;
        self.log.disown(handle.group);
        cluster.news.forget(handle.group);
        super::super::streams::tell_readers(account, &name);
    }

    /// Keeps what this server has of a group that was rescued without it, which may be more than was rescued, in the
    /// store's quarantine; nothing of it is left where a replica can begin anew.
    async fn put_history_aside(&self, cluster: &Cluster, account: &JsAccount, handle: &Arc<StreamHandle>) {
        self.take_out(cluster, account, handle).await;
        let note = format!(
            "Stream '{} > {}' was rescued without this server, which may have had more of it\n",
            account.name(),
            handle.config().name
        );
        tracing::error!("{}: that is kept aside, and a replica begins anew", note.trim_end());
        let (disk, dir, group) = (self.disk.clone(), self.dir.clone(), handle.group.to_string());
        let _ = tokio::task::spawn_blocking(move || put_aside(&*disk, &dir, &group, &note)).await;
        if self.log.end(handle.group).await {
            self.forget_assigned(handle.group).await;
        }
    }

    /// Nothing names a group here any more.
    pub(super) async fn forget_assigned(&self, group: GroupId) {
        let (disk, dir) = (self.disk.clone(), self.dir.clone());
        let forgotten = tokio::task::spawn_blocking(move || forget_assignment(&*disk, &dir, group)).await;
        if let Ok(Err(e)) = forgotten {
            tracing::warn!("Forgetting the assignment of group {group}: {e}");
        }
    }

    /// Goes on with removals that the end of the process cut off.
    pub(super) fn finish_removals(self: &Arc<Self>, groups: Vec<GroupId>) {
        let engine = self.clone();
        tokio::spawn(async move {
            for group in groups {
                if engine.log.end(group).await {
                    engine.forget_assigned(group).await;
                }
            }
        });
    }

    async fn say_ended(&self, cluster: &Arc<Cluster>, assignment: &Assignment) {
        let request = MetaRequest::Ended {
            account: assignment.account.clone(),
            stream: assignment.config.name.clone(),
            group: assignment.group.clone(),
        };
        self.tell_meta(cluster, request).await;
    }

    async fn say_gone(&self, cluster: &Arc<Cluster>, assignment: &Assignment) {
        let here = self.account(&assignment.account).and_then(|a| a.stream(&assignment.config.name));
        for group in assignment.gone_from(cluster.me(), here.map(|handle| handle.group)) {
            if !cluster.keeps_unserved(group) {
                self.tell_meta(cluster, assignment.say_gone(group, cluster.me())).await;
            }
        }
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
    /// The store has a group that is not served, as its account has no JetStream or as another stream has its name.
    pub(super) fn note_unserved(&self, group: GroupId) {
        self.unserved.lock().insert(group);
    }

    fn keeps_unserved(&self, group: GroupId) -> bool {
        self.unserved.lock().contains(&group)
    }

    /// True if the replica here was removed from its group, which wants another one here.
    fn outlived(&self, group: GroupId) -> bool {
        self.outlived.lock().contains(&group)
    }
}
