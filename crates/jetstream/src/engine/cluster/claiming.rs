//! Streams that a server has and that the catalogue may not know: those it had before it was part of a cluster, and those
//! that were restored from a backup. They are hidden until the catalogue names them. One that cannot get into the
//! catalogue stays where it is, and is told of.

use std::sync::Arc;
use std::time::Duration;

use linnet_assets::{Command, RestoreMark, RestorePart};
use linnet_ids::{GroupId, Mono};
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::info::StreamInfo;
use linnet_jsapi::stream_rules::OtherStreams as _;
use linnet_replication::cluster::MetaRequest;
use linnet_replication::{Assignment, Placed, Reshaping};

use super::asks::group_of;
use super::orphans::Orphan;
use super::{Cluster, Engine};
use crate::catalogue::{JsAccount, Known, StreamHandle};

/// How often the catalogue is asked again.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// How long the catalogue may take to take a restored stream in.
const CLAIMED_WITHIN: Duration = Duration::from_secs(8);
/// How long a restored stream may take to get its other replicas before its client is answered.
const SHAPED_WITHIN: Duration = Duration::from_secs(2);
const SHAPED_LOOK: Duration = Duration::from_millis(20);

/// What this server has of a stream that the catalogue may not know.
pub(super) struct Unclaimed {
    account: Arc<JsAccount>,
    handle: Arc<StreamHandle>,
    /// As the catalogue shall know it.
    assignment: Arc<Assignment>,
    /// When the catalogue was asked last.
    asked: Option<Mono>,
    /// It was told why the catalogue cannot take it.
    is_told: bool,
    /// It is restored from a backup, and its log does not say yet that it is complete.
    is_restored: bool,
}

impl Cluster {
    /// This server has a stream, hidden, that the catalogue may not know.
    pub(super) fn note_unclaimed(
        &self,
        account: Arc<JsAccount>,
        handle: Arc<StreamHandle>,
        assignment: Assignment,
    ) {
        let group = handle.group();
        let assignment = Arc::new(Assignment { unclaimed: false, ..assignment });
        let unclaimed =
            Unclaimed { account, handle, assignment, asked: None, is_told: false, is_restored: false };
        self.unclaimed.lock().insert(group, unclaimed);
    }

    /// True if what this server has of a group is hidden.
    pub(in crate::engine) fn is_unclaimed(&self, group: GroupId) -> bool {
        self.unclaimed.lock().contains_key(&group)
    }

    /// Why the catalogue cannot take a stream; `None` if it can.
    fn conflict(&self, assignment: &Assignment) -> Option<String> {
        let (account, config) = (&assignment.account, &assignment.config);
        // What has ended gives its name to a younger one only.
        let gives_way = |entry: &Assignment| {
            entry.group == assignment.group || (entry.ended && group_of(entry) < group_of(assignment))
        };
        if self.view.entry(account, &config.name).is_some_and(|entry| !gives_way(&entry)) {
            return Some("the cluster has another stream of this name".to_owned());
        }
        let known = Known(self.view.streams_of(account));
        let taken = config.subjects.iter().find(|subject| known.overlaps(subject, &config.name));
        taken.map(|subject| format!("another stream of the cluster has subject '{subject}'"))
    }
}

/// Asks the catalogue to take what this server has.
pub(super) fn look_after(engine: &Arc<Engine>, cluster: &Arc<Cluster>) {
    if !cluster.is_current() {
        return;
    }
    let now = engine.broker.clock().mono();
    let mut due = Vec::new();
    for unclaimed in cluster.unclaimed.lock().values_mut() {
        if unclaimed.asked.is_none_or(|asked| now.since(asked) >= ASK_EVERY) {
            unclaimed.asked = Some(now);
            due.push((unclaimed.account.clone(), unclaimed.handle.clone(), unclaimed.assignment.clone()));
        }
    }
    for (account, handle, assignment) in due {
        let Some(busy) = cluster.take_on(&assignment.account, &assignment.config.name) else { continue };
        let (engine, cluster) = (engine.clone(), cluster.clone());
        tokio::spawn(async move {
            engine.claim(&cluster, &account, &handle, &assignment).await;
            drop(busy);
            cluster.news.nudge();
        });
    }
}

impl Engine {
    /// Gets a stream into the catalogue, and shows it then.
    async fn claim(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        account: &Arc<JsAccount>,
        handle: &Arc<StreamHandle>,
        assignment: &Arc<Assignment>,
    ) {
        let (name, group) = (&assignment.config.name, handle.group());
        if cluster.view.of_group(group).is_none() {
            if let Some(reason) = cluster.conflict(assignment) {
                self.tell_unclaimed(cluster, assignment, group, &reason);
                return;
            }
            let claim = MetaRequest::Claim { assignment: Box::new((**assignment).clone()) };
            if !self.tell_meta(cluster, claim).await {
                return;
            }
        }
        if let Err(error) = self.show_claimed(cluster, account, handle, assignment).await {
            tracing::debug!("Stream '{} > {name}' cannot be shown yet: {error}", account.name());
            return;
        }
        tracing::info!("Stream '{} > {name}' of this server is part of the cluster now", account.name());
    }

    /// Tells once that a stream stays hidden.
    fn tell_unclaimed(&self, cluster: &Cluster, assignment: &Assignment, group: GroupId, reason: &str) {
        let mut all = cluster.unclaimed.lock();
        let Some(unclaimed) = all.get_mut(&group).filter(|unclaimed| !unclaimed.is_told) else { return };
        unclaimed.is_told = true;
        drop(all);
        let what = format!("stream '{} > {}' of this server", assignment.account, assignment.config.name);
        tracing::error!("JetStream: {what} stays hidden: {reason}");
        let orphan = Orphan {
            group: group.to_string(),
            account: assignment.account.clone(),
            stream: assignment.config.name.clone(),
            reason: reason.to_owned(),
        };
        cluster.note_hidden(group, orphan);
    }

    async fn show_claimed(
        &self,
        cluster: &Cluster,
        account: &Arc<JsAccount>,
        handle: &Arc<StreamHandle>,
        assignment: &Assignment,
    ) -> Result<(), ApiError> {
        if account.stream(&assignment.config.name).is_some_and(|other| other.group() != handle.group()) {
            // An earlier one of its name, which goes.
            return Err(errors::STREAM_NAME_EXIST_RESTORE_FAILED);
        }
        let mine = Placed { peer: cluster.me().to_string(), life: 0 };
        let alone =
            Assignment { members: vec![mine], reshaping: None, unclaimed: false, ..assignment.clone() };
        if !self.remember(&alone).await {
            return Err(errors::INSUFFICIENT_RESOURCES);
        }
        let is_restored = cluster.unclaimed.lock().get(&handle.group()).is_some_and(|u| u.is_restored);
        if is_restored {
            handle.ask(Command::Restore(RestorePart::Mark(RestoreMark::Done))).await?;
        }
        self.show(account, handle).await?;
        cluster.unclaimed.lock().remove(&handle.group());
        cluster.note_shown(handle.group());
        Ok(())
    }

    /// Takes in, as the leader of the catalogue's group, what another server has.
    pub(super) async fn take_claim(&self, cluster: &Cluster, assignment: Assignment) -> Result<(), ApiError> {
        // What was judged for a stream of its name must be decided before.
        let _no_other_change = self.changes.lock().await;
        let _one_at_a_time = self.settling.lock().await;
        let (account, name) = (&assignment.account, &assignment.config.name);
        match cluster.view.entry(account, name) {
            Some(entry) if entry.group == assignment.group => return Ok(()),
            _ if cluster.conflict(&assignment).is_some() => {
                return Err(errors::STREAM_NAME_EXIST_RESTORE_FAILED);
            }
            _ => {}
        }
        tracing::info!("Stream '{account} > {name}' is taken into the catalogue as it is on a server");
        if cluster.view.is_damaged() {
            return Err(cluster.not_found());
        }
        let mut claimed = Assignment { unclaimed: false, ..assignment };
        if let Some(ended) = cluster.view.entry(&claimed.account, &claimed.config.name) {
            claimed = claimed.in_place_of(&ended);
        }
        self.decide(cluster, claimed.store()).await
    }

    /// Gets a stream into the catalogue that was restored from a backup and is complete, with the replicas that it shall
    /// have, and shows it.
    pub(in crate::engine) async fn claim_restored(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        account: &Arc<JsAccount>,
        handle: &Arc<StreamHandle>,
        members: Vec<Placed>,
    ) -> Result<(), ApiError> {
        let group = handle.group();
        let mine = Placed { peer: cluster.me().to_string(), life: 0 };
        let config = (*handle.config()).clone();
        let reshaping = Reshaping {
            since: self.broker.clock().wall().0,
            is_move: false,
            replicas: config.num_replicas,
            placement: config.placement.clone(),
            members: vec![mine.clone()],
            others: Vec::new(),
        };
        let is_here = members.len() == 1 && members.iter().all(|member| member.peer == mine.peer);
        let assignment = Assignment {
            members,
            reshaping: (!is_here).then_some(reshaping),
            ..handle.assignment(account, config)
        };
        let noted =
            Assignment { members: vec![mine], reshaping: None, unclaimed: true, ..assignment.clone() };
        if !self.remember(&noted).await {
            return Err(errors::stream_restore("its assignment cannot be noted"));
        }
        cluster.note_unclaimed(account.clone(), handle.clone(), assignment.clone());
        if let Some(unclaimed) = cluster.unclaimed.lock().get_mut(&group) {
            unclaimed.is_restored = true;
        }
        let deadline = tokio::time::Instant::now() + CLAIMED_WITHIN;
        while cluster.is_unclaimed(group) {
            // Whoever looks after what is unclaimed does the rest, also after this is given up.
            let is_over = tokio::time::Instant::now() >= deadline;
            if let Some(reason) = cluster.conflict(&assignment)
                && let Some(_busy) = cluster.take_on(&assignment.account, &assignment.config.name)
            {
                self.forget_unclaimed(cluster, group).await;
                return Err(errors::stream_restore(reason));
            }
            if is_over {
                return Err(errors::stream_restore("the cluster has not taken it in yet"));
            }
            cluster.news.nudge();
            tokio::time::sleep(SHAPED_LOOK).await;
        }
        self.wait_until_shaped(cluster, group).await;
        Ok(())
    }

    async fn forget_unclaimed(&self, cluster: &Cluster, group: GroupId) {
        cluster.unclaimed.lock().remove(&group);
        self.forget_assigned(group).await;
    }

    async fn wait_until_shaped(&self, cluster: &Cluster, group: GroupId) {
        let deadline = tokio::time::Instant::now() + SHAPED_WITHIN;
        let is_under_way = || cluster.view.of_group(group).is_none_or(|entry| entry.reshaping.is_some());
        while is_under_way() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(SHAPED_LOOK).await;
        }
    }

    /// A stream that was restored, as its leader describes it.
    pub(crate) async fn describe_restored(
        self: &Arc<Self>,
        handle: &StreamHandle,
    ) -> Result<StreamInfo, ApiError> {
        let cluster = self.cluster.clone().ok_or(errors::CLUSTER_NOT_AVAIL)?;
        let assignment = cluster.view.of_group(handle.group()).ok_or(errors::STREAM_NOT_FOUND)?;
        let mut info = self.describe_clustered(&cluster, &assignment).await?;
        linnet_jsapi::metadata::add_server_keys(&mut info.config.metadata);
        info.domain = None;
        Ok(info)
    }
}
