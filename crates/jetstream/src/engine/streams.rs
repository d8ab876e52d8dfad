//! How streams come into being, change and end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use linnet_assets::{Answer, Command};

use linnet_env::{OsRng, Rng};
use linnet_ids::GroupId;
use linnet_jsapi::StreamConfig;
use linnet_jsapi::errors::{self, ApiError};
use linnet_replication::{
    Assignment, Change, FLOOR_STEP, Log, RestoreOutcome, RestoredStore, Site, Step, StreamGroup, group_dir,
    put_aside,
};
use tokio::sync::{Mutex, oneshot};

use super::Engine;
use crate::catalogue::{JsAccount, StreamHandle};
use crate::cell::StreamCell;
use crate::inbox::{InboxLimits, StreamInbox};
use crate::pump::{Control, Files, Installation, StreamWatch};
use crate::services::ConsumerServices;

/// Who finds a stream that is installed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Everywhere,
    Nowhere,
}

impl Engine {
    /// Hands restored groups to pumps and puts them into the catalogue.
    pub(super) async fn install_restored(&self, restored: RestoredStore) {
        self.install_catalogue(restored.meta).await;
        if restored.meta_found.half_state.is_some() {
            self.log.ask_for_checkpoint(GroupId::META);
        }
        let mut ended = Vec::new();
        for stream in restored.streams {
            match stream.outcome {
                RestoreOutcome::Open(group, found) => {
                    let (account, name) = (&stream.assignment.account, &stream.assignment.config.name);
                    self.health.note_losses(account, name, found.losses());
                    self.install_stream(stream.assignment, group).await;
                    if found.half_state.is_some() {
                        // It writes both copies anew.
                        self.log.ask_for_checkpoint(stream.group);
                    }
                }
                RestoreOutcome::Ended(_) => ended.push(stream.assignment),
                RestoreOutcome::Lost(reason) => {
                    self.install_lost(stream.assignment, stream.group, reason).await;
                }
            }
        }
        if let Some(note) = restored.may_lack_streams {
            self.health.note_missing_streams(note);
        }
        for unnamed in restored.unnamed {
            self.health.note_unnamed(&unnamed.group.to_string(), &unnamed.reason);
        }
        for assignment in ended {
            let _ = self.carry_out(Change::forget_ended(assignment), None, None).await;
        }
    }

    async fn install_stream(&self, assignment: Assignment, group: Box<StreamGroup>) {
        let name = assignment.config.name.clone();
        let Some(account) = self.account(&assignment.account) else {
            // Its account has no JetStream now: the data stays where it is.
            self.unserved.lock().insert(assignment.account.clone());
            tracing::warn!(
                "Stream '{} > {name}' is not served: its account has no JetStream",
                assignment.account
            );
            return;
        };
        let handle = self.install(&account, group, None, Shown::Everywhere).await;
        if !assignment.live {
            let _ = self.carry_out(Change::mark_live(assignment), Some(&account), Some(handle)).await;
        }
        tracing::info!("  Restored stream '{} > {name}'", account.name());
    }

    /// Makes a stream known that could not be recovered: what is in its place refuses everything.
    pub(super) async fn install_lost(&self, assignment: Assignment, group: GroupId, reason: String) {
        self.health.note_not_recovered(&assignment.account, &assignment.config.name, &reason);
        let account = self.account(&assignment.account);
        if account.is_none() {
            self.unserved.lock().insert(assignment.account.clone());
        }
        if let Some(account) = account {
            let stand_in = assignment.stand_in(group, self.place.clone(), self.broker.clock().mono());
            self.install(&account, Box::new(stand_in), Some(reason), Shown::Everywhere).await;
        }
        if !assignment.live {
            // Without damage in the log, the next opening would take it for new.
            let _ = self.carry_out(Change::mark_live(assignment), None, None).await;
        }
    }

    /// Gives a group to a pump and makes it known. Returns when everything it proposed is applied. `lost` says why the
    /// group is only a stand-in.
    pub(super) async fn install(
        &self,
        account: &Arc<JsAccount>,
        group: Box<StreamGroup>,
        lost: Option<String>,
        shown: Shown,
    ) -> Arc<StreamHandle> {
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        let nth = usize::try_from(self.next_pump.fetch_add(1, Ordering::Relaxed)).unwrap_or(0);
        let pump = self.pumps[nth % self.pumps.len()].clone();
        let limits =
            InboxLimits { msgs: self.config.max_buffered_msgs, bytes: self.config.max_buffered_bytes };
        let inbox = StreamInbox::new(key, pump.clone(), limits);
        let stream = group.stream();
        let is_memory = stream.store().is_memory() && lost.is_none();
        let cell = Arc::new(StreamCell::new(account.name(), is_memory));
        let failed = lost.is_some().then_some(errors::STREAM_OFFLINE);
        let handle = Arc::new(StreamHandle {
            key,
            group: group.group(),
            pump: pump.clone(),
            inbox: inbox.clone(),
            cell: cell.clone(),
            config: ArcSwap::from_pointee(stream.config().clone()),
            created: stream.created(),
            is_replica: AtomicBool::new(group.is_replica()),
            lost,
            // One that begins has none yet.
            kept: Mutex::new(if is_memory { stream.consumer_names() } else { BTreeSet::new() }),
        });
        if failed.is_none() {
            self.log.own(group.group(), pump.clone());
        }
        let (done, installed) = oneshot::channel();
        let services = match shown {
            Shown::Everywhere => {
                account.streams.write().insert(stream.config().name.clone(), handle.clone());
                ConsumerServices::new(&self.config.domain)
            }
            Shown::Nowhere => ConsumerServices::internal(),
        };
        pump.control(Control::Install(Box::new(Installation {
            key,
            dir: group_dir(&self.dir, group.group()),
            group: *group,
            inbox,
            account: account.account.clone(),
            cell,
            services,
            failed,
            watch: self.cluster.is_some().then(|| follow_config(&handle)),
            done,
        })));
        let _ = installed.await;
        handle
    }

    /// Carries out a change of which streams exist; the stream's handle, if it has one.
    pub(super) async fn carry_out(
        &self,
        (mut change, mut step): (Change, Step),
        account: Option<&Arc<JsAccount>>,
        mut handle: Option<Arc<StreamHandle>>,
    ) -> Result<Option<Arc<StreamHandle>>, ApiError> {
        loop {
            let now = || self.broker.clock().mono();
            step = match (step, account, &handle) {
                (Step::Catalogue(command), _, _) => change.answered(self.ask_catalogue(command).await, now()),
                (Step::Stream(command), _, Some(stream)) => change.answered(stream.ask(command).await, now()),
                (Step::Install(group), Some(account), _) => {
                    handle = Some(self.install(account, group, None, Shown::Everywhere).await);
                    change.done(now())
                }
                (Step::Hide, Some(account), Some(stream)) => {
                    account.hide(stream);
                    change.done(now())
                }
                (Step::Remove { has_log }, Some(account), Some(stream)) => {
                    self.remove(account, stream, has_log).await;
                    change.done(now())
                }
                (Step::End(result), _, _) => return result.map(|()| handle),
                (Step::Stream(_) | Step::Install(_) | Step::Hide | Step::Remove { .. }, _, _) => {
                    return Err(errors::STREAM_NOT_FOUND);
                }
            };
        }
    }

    pub(super) async fn ask_catalogue(&self, command: Command) -> Answer {
        self.meta.command(command).await.unwrap_or(Err(errors::INSUFFICIENT_RESOURCES))
    }

    /// Stops a group that has ended and removes its files. Those of one that could not be recovered are kept aside.
    pub(super) async fn remove(&self, account: &JsAccount, handle: &StreamHandle, has_log: bool) {
        self.health.forget(account.name(), &handle.config().name);
        let files = match handle.lost() {
            None => Files::Remove(self.workers.may_remove_dir().await),
            Some(_) => Files::Keep,
        };
        let (done, removed) = oneshot::channel();
        handle.pump.control(Control::Remove { key: handle.key, files, done });
        let _ = removed.await;
        if let Some(reason) = handle.lost() {
            let note = format!("Stream '{} > {}': {reason}\n", account.name(), handle.config().name);
            let (disk, dir, group) = (self.disk.clone(), self.dir.clone(), handle.group.to_string());
            let moved = tokio::task::spawn_blocking(move || put_aside(&*disk, &dir, &group, &note));
            let _ = moved.await;
        }
        self.log.disown(handle.group);
        if has_log {
            self.log.clone().end_group(handle.group);
            self.log.kick();
        }
    }

    /// The id of a group that never was, on a server that is no part of a cluster.
    pub(super) fn new_group(&self) -> GroupId {
        let meta_index = self.next_meta_index.fetch_add(1, Ordering::Relaxed);
        GroupId { epoch: 0, meta_index, random: OsRng.next_u64() }
    }

    /// Creates a stream whose configuration has been judged. The caller holds [`Engine::changes`].
    pub(crate) async fn create_stream(
        &self,
        account: &Arc<JsAccount>,
        config: StreamConfig,
    ) -> Result<Arc<StreamHandle>, ApiError> {
        let group = self.new_group();
        let name = config.name.clone();
        let assignment = Assignment {
            account: account.name().to_owned(),
            group: group.to_string(),
            created: self.broker.clock().wall().0,
            live: false,
            members: Vec::new(),
            ended: false,
            reshaping: None,
            unclaimed: false,
            earlier: Vec::new(),
            continues: None,
            config,
        };
        let (disk, dir, place) = (self.disk.clone(), self.dir.clone(), self.place.clone());
        let site = Site { disk, dir, place, floor_step: FLOOR_STEP };
        let change = Change::create(assignment, group, site);
        let created = self.carry_out(change, Some(account), None).await?.ok_or(errors::STREAM_NOT_FOUND)?;
        tell_readers(account, &name);
        Ok(created)
    }

    /// Changes a stream's configuration, which has been judged. The caller holds [`Engine::changes`].
    pub(crate) async fn update_stream(
        &self,
        account: &Arc<JsAccount>,
        handle: &Arc<StreamHandle>,
        config: StreamConfig,
    ) -> Result<(), ApiError> {
        let change = Change::update(handle.assignment(account, config.clone()));
        self.carry_out(change, Some(account), Some(handle.clone())).await?;
        handle.config.store(Arc::new(config));
        Ok(())
    }

    /// Deletes a stream. The caller holds [`Engine::changes`].
    pub(crate) async fn delete_stream(
        &self,
        account: &Arc<JsAccount>,
        handle: &Arc<StreamHandle>,
    ) -> Result<(), ApiError> {
        // Whoever creates a consumer now finds no stream afterwards.
        let _no_consumers = handle.kept.lock().await;
        let assignment = handle.assignment(account, (*handle.config()).clone());
        let change = match handle.lost() {
            None => Change::delete(assignment),
            Some(_) => Change::abandon(assignment),
        };
        self.carry_out(change, Some(account), Some(handle.clone())).await?;
        tell_readers(account, &handle.config().name);
        Ok(())
    }
}

/// Has the handle of a replica show the configuration that its log led to.
fn follow_config(handle: &Arc<StreamHandle>) -> StreamWatch {
    let handle = Arc::downgrade(handle);
    let mut seen = 0;
    Box::new(move |stream| {
        if stream.revision() != seen {
            seen = stream.revision();
            if let Some(handle) = handle.upgrade() {
                handle.config.store(Arc::new(stream.config().clone()));
            }
        }
    })
}

/// Tells the mirror and the sources of a stream that it came or went. Otherwise they would notice by its silence.
pub(super) fn tell_readers(account: &JsAccount, name: &str) {
    for handle in account.streams.read().values() {
        let config = handle.config.load();
        if config.mirror.iter().chain(&config.sources).any(|origin| origin.name == name) {
            handle.pump.control(Control::OriginChanged { key: handle.key, name: name.to_owned() });
        }
    }
}
