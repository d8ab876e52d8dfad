//! The threads that turn the loops of groups.
//!
//! A pump owns the groups given to it. It sleeps until an inbox, the log, a disk thread or a timer has something for
//! one of them, lets every such group act, hands the log what they proposed, then writes what they sent.

mod mailbox;
mod replicas;
mod slot;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use linnet_assets::{EntryError, Moment, Output};
use linnet_env::Clock;
use linnet_ids::{GroupId, Mono};
use linnet_jsapi::errors;
pub(crate) use linnet_replication::GroupKey;
use linnet_replication::raft::PeerChange;
use linnet_replication::{GroupJob, Host, Log, PassMail, StopReason, StreamGroup, Ticket, Touched, Turns};
use tokio::sync::oneshot;

use crate::bearing::Follower;
use crate::budget::{Budget, Held, Share};
use crate::disk_work::{DiskWork, DiskWorkers};
use crate::inbox::Mail;
use crate::log_writer::LogHandle;
use crate::output::{Change, Hub, Outbox};

pub(crate) use mailbox::{Act, Control, Files, Installation, PumpHandle};
pub(crate) use replicas::{EntriesRead, ReplicaObserver, ReplicaReport, Replicas};
pub(crate) use slot::StreamWatch;
use slot::{More, Slot, read_mail, refuse_publishes};

/// A pump looks around this often even if nothing happens.
const NAP_MAX: Duration = Duration::from_secs(10);
/// When a full disk is tried again.
const SPACE_AGAIN: Duration = Duration::from_millis(250);
/// How often all streams are asked to give up what they hold while the disk is behind.
const RELIEVE_EVERY: Duration = Duration::from_millis(100);

/// One pump thread's state.
pub(crate) struct Pump {
    handle: PumpHandle,
    groups: HashMap<GroupKey, Slot>,
    by_group: HashMap<GroupId, GroupKey>,
    turns: Turns,
    log: LogHandle,
    workers: DiskWorkers,
    hub: Hub,
    clock: Arc<dyn Clock>,
    usage: Arc<crate::usage::Usage>,
    budget: Arc<Budget>,
    /// Groups whose messages wait because the log has too much to write.
    pressed: Vec<GroupKey>,
    relieved: Option<Mono>,
    /// Its part in the cluster, if there is one.
    replicas: Option<Replicas>,
    stopping: Option<oneshot::Sender<()>>,
}

impl Pump {
    pub(crate) fn new(
        handle: PumpHandle,
        hub: Hub,
        clock: Arc<dyn Clock>,
        log: LogHandle,
        workers: DiskWorkers,
        usage: Arc<crate::usage::Usage>,
        budget: Arc<Budget>,
    ) -> Self {
        Self {
            handle,
            groups: HashMap::new(),
            by_group: HashMap::new(),
            turns: Turns::default(),
            log,
            workers,
            hub,
            clock,
            usage,
            budget,
            pressed: Vec::new(),
            relieved: None,
            replicas: None,
            stopping: None,
        }
    }

    /// Gives it a part in a cluster.
    pub(crate) fn join(self, replicas: Option<Replicas>) -> Self {
        Self { replicas, ..self }
    }

    /// Turns the groups until told to stop.
    pub(crate) fn run(mut self) {
        loop {
            let longest = if self.pressed.is_empty() { NAP_MAX } else { RELIEVE_EVERY };
            let nap = self.turns.next_due().map_or(longest, |due| due.since(self.clock.mono()).min(longest));
            let mail = self.handle.wait(nap);
            let at = Moment { now: self.clock.mono(), wall: self.clock.wall(), live: true };
            let mut touched = Touched::default();
            for control in mail.controls {
                self.control(control, &mut touched);
            }
            self.take_entries(mail.entries, at.now, &mut touched);
            if let Some(replicas) = &mut self.replicas {
                replicas.note_peers(&mail.incoming);
            }
            let mail = PassMail {
                failure: mail.failure.map(|failure| errors::stream_store_failed(failure.for_clients())),
                done: mail.disk,
                durable: mail.durable,
                checkpoints: mail.checkpoints,
                ready: mail.ready,
                incoming: mail.incoming,
            };
            let mut turns = std::mem::take(&mut self.turns);
            turns.pass(&mut self, mail, at, touched);
            self.turns = turns;
            self.log.kick();
            self.follow_changes();
            self.hub.flush();
            if let Some(replicas) = &mut self.replicas {
                replicas.send();
            }
            if self.stopping.is_some() && self.is_quiet() {
                if let Some(done) = self.stopping.take() {
                    let _ = done.send(());
                }
                // Whoever asks from now on, or has just asked, would keep the store open while it waits.
                self.handle.close();
                self.groups.values().for_each(|slot| slot.inbox.close());
                return;
            }
        }
    }

    fn is_quiet(&self) -> bool {
        self.turns.is_quiet() && self.groups.values().all(|s| s.failed.is_some() || s.group.is_quiet())
    }

    /// Runs something of a group; a panic stops that group and nothing else.
    fn guarded<R>(
        &mut self,
        key: GroupKey,
        act: impl FnOnce(&mut Slot, &mut Outbox<'_>, &mut LogHandle) -> R,
    ) -> Option<R> {
        let slot = self.groups.get_mut(&key)?;
        if slot.failed.is_some() {
            return None;
        }
        let (account, inbox) = (slot.account.clone(), slot.inbox.clone());
        let stream = slot.group.stream().config().name.clone();
        let mut outbox = self.hub.outbox(key, &account, &stream, &self.workers, &self.handle, &inbox);
        let log = &mut self.log;
        match catch_unwind(AssertUnwindSafe(|| act(slot, &mut outbox, log))) {
            Ok(result) => Some(result),
            Err(_) => {
                tracing::error!("Stream '{} > {stream}' stopped after an internal error", account.name());
                slot.cell.fail("internal error");
                slot.failed = Some(errors::STREAM_OFFLINE);
                None
            }
        }
    }

    fn control(&mut self, control: Control, touched: &mut Touched) {
        match control {
            Control::Install(installation) => {
                let Installation { key, group, inbox, account, cell, dir, services, failed, watch, done } =
                    *installation;
                let installed = if failed.is_none() {
                    Some(done)
                } else {
                    let _ = done.send(());
                    None
                };
                self.by_group.insert(group.group(), key);
                let mut group = group;
                if let Some(replicas) = &self.replicas {
                    let now = self.clock.mono();
                    for peer in &replicas.reachable {
                        group.on_peer(now, PeerChange::Reachable(*peer), &mut self.log);
                    }
                }
                let slot = Slot {
                    group,
                    inbox,
                    account,
                    cell,
                    dir,
                    services,
                    mail: Mail::default(),
                    share: Share::default(),
                    space_again: None,
                    read: 0,
                    more: More::None,
                    failed,
                    watch,
                    installed,
                    follower: Follower::default(),
                };
                self.groups.insert(key, slot);
                if let Some(slot) = self.groups.get_mut(&key) {
                    slot.services.sync(&slot.group, &slot.account, &slot.inbox);
                }
                touched.add(key);
            }
            Control::Report { key, done } => self.report(key, done),
            Control::Act { group, act } => {
                let Some(key) = self.by_group.get(&group).copied() else { return };
                let now = self.clock.mono();
                self.guarded(key, |slot, _, log| act(&mut slot.group, now, log));
                touched.add(key);
            }
            Control::Open { key, services, done } => {
                if let Some(slot) = self.groups.get_mut(&key) {
                    slot.services = *services;
                    slot.services.sync(&slot.group, &slot.account, &slot.inbox);
                }
                touched.add(key);
                let _ = done.send(());
            }
            Control::OriginChanged { key, name } => {
                let now = self.clock.mono();
                self.guarded(key, |slot, outbox, _| {
                    slot.group.stream_mut().origin_changed(&name, now, outbox);
                });
                touched.add(key);
            }
            Control::Remove { key, files, done } => {
                if let Some(mut slot) = self.groups.remove(&key) {
                    slot.inbox.close();
                    self.budget.update(&mut slot.share, &Held::default());
                    self.by_group.remove(&slot.group.group());
                    self.usage.forget(&slot.cell);
                    self.turns.forget(key);
                    if let Files::Remove(permission) = files {
                        self.workers.submit(DiskWork::RemoveDir(slot.dir, key, permission));
                    }
                }
                let _ = done.send(());
            }
            Control::Stop { checkpoint, done } => {
                self.stopping = Some(done);
                let keys: Vec<GroupKey> = self.groups.keys().copied().collect();
                let at = Moment { now: self.clock.mono(), wall: self.clock.wall(), live: true };
                for key in keys {
                    touched.add(key);
                    self.guarded(key, |slot, outbox, _| {
                        slot.group.stream_mut().end_requests("409 Server Shutdown", true, at, outbox);
                    });
                    if checkpoint {
                        self.checkpoint(key);
                    }
                }
            }
        }
    }

    /// True if no more messages should be taken: the log or the disk is behind.
    fn is_pressed(&self) -> bool {
        self.log.is_pressed() || self.budget.is_exceeded()
    }

    /// When the disk is far behind, every stream gives it what it has, also those that nobody writes to. When it has
    /// caught up, the streams that waited go on.
    fn relieve(&mut self, at: Moment, touched: &mut Touched) {
        if self.budget.is_exceeded() && self.relieved.is_none_or(|last| at.now.since(last) >= RELIEVE_EVERY) {
            self.relieved = Some(at.now);
            self.log.look_for_room();
            let keys: Vec<GroupKey> = self.groups.keys().copied().collect();
            for key in keys {
                let Some(slot) = self.groups.get_mut(&key) else { continue };
                let store = slot.group.stream_mut().store_mut();
                for job in store.take_writes(true) {
                    let job = GroupJob::Write(job, slot.dir.clone());
                    self.workers.submit(DiskWork::Group(job, key, self.handle.clone()));
                }
                if store.obsolete_bytes() > 0 {
                    self.checkpoint(key);
                }
            }
        }
        if !self.pressed.is_empty() && (!self.is_pressed() || self.log.is_disk_full()) {
            for key in self.pressed.drain(..) {
                touched.add(key);
            }
        }
    }

    /// Subscriptions follow the consumers and configurations that changed.
    fn follow_changes(&mut self) {
        for change in self.hub.take_changes() {
            let (Change::ConsumerCreated(key, _)
            | Change::ConsumerDeleted(key, _)
            | Change::Reconfigured(key)
            | Change::Listening(key, ..)
            | Change::StoppedListening(key, _)) = &change;
            let Some(slot) = self.groups.get_mut(key) else { continue };
            match change {
                Change::ConsumerCreated(_, consumer) => {
                    let stream = slot.group.stream();
                    slot.services.add_consumer(stream, &consumer, &slot.account, &slot.inbox);
                }
                Change::ConsumerDeleted(_, consumer) => slot.services.remove_consumer(&consumer),
                Change::Listening(_, link, subscriptions) => slot.services.add_origin(link, subscriptions),
                Change::StoppedListening(_, link) => slot.services.remove_origin(link),
                Change::Reconfigured(_) => slot.services.sync(&slot.group, &slot.account, &slot.inbox),
            }
        }
    }

    /// Hands what is worth it to the disk threads.
    fn disk_chores(&mut self, key: GroupKey) {
        let Some(slot) = self.groups.get_mut(&key) else { return };
        let store = slot.group.stream_mut().store_mut();
        let chores = self.budget.update(&mut slot.share, &Held::of(store));
        let has_obsolete = store.obsolete_bytes() > 0;
        let now = self.clock.mono();
        if !store.is_disk_full() {
            slot.space_again = None;
        } else if slot.space_again.is_none_or(|at| now < at) {
            // What comes back at once would be handed out again at once.
            slot.space_again.get_or_insert(now + SPACE_AGAIN);
            return;
        } else {
            slot.space_again = Some(now + SPACE_AGAIN);
        }
        let is_disk_full = store.is_disk_full() || self.log.is_disk_full();
        if chores.write {
            for job in store.take_writes(chores.write_all) {
                let job = GroupJob::Write(job, slot.dir.clone());
                self.workers.submit(DiskWork::Group(job, key, self.handle.clone()));
            }
        }
        let group = slot.group.group();
        let is_sending = self.replicas.as_ref().is_some_and(|replicas| replicas.is_sending(group));
        if (chores.checkpoint && !is_sending) || (has_obsolete && is_disk_full) {
            self.checkpoint(key);
        }
    }

    /// A stopped group answers everything with the reason.
    fn refuse_mail(&mut self, key: GroupKey) {
        let Some(slot) = self.groups.get_mut(&key) else { return };
        let error = slot.failed.clone().unwrap_or(errors::STREAM_OFFLINE);
        slot.inbox.take(&mut slot.mail, false);
        for (_, sender) in slot.mail.commands.drain(..) {
            let _ = sender.send(Err(error.clone()));
        }
        let (account, inbox) = (slot.account.clone(), slot.inbox.clone());
        let stream = slot.group.stream().config().name.clone();
        let mut outbox = self.hub.outbox(key, &account, &stream, &self.workers, &self.handle, &inbox);
        refuse_publishes(slot, &error, &mut outbox);
        slot.mail.others.clear();
    }
}

impl Host for Pump {
    fn with<R>(
        &mut self,
        key: GroupKey,
        act: impl FnOnce(&mut StreamGroup, &mut dyn Output, &mut dyn Log) -> R,
    ) -> Option<R> {
        self.guarded(key, |slot, outbox, log| act(&mut slot.group, outbox, log))
    }

    fn keys(&self) -> Vec<GroupKey> {
        self.groups.keys().copied().collect()
    }

    fn key_of(&self, group: GroupId) -> Option<GroupKey> {
        self.by_group.get(&group).copied()
    }

    fn turn(&mut self, key: GroupKey, at: Moment) -> Option<Result<Option<Ticket>, EntryError>> {
        let usage = self.usage.clone();
        let is_pressed = self.is_pressed();
        let is_disk_full = is_pressed && self.log.is_disk_full();
        let outcome = self.guarded(key, |slot, outbox, log| {
            let is_pressed = is_pressed && !slot.group.stream().store().is_memory();
            slot.more = read_mail(slot, at, &usage, is_pressed, outbox);
            if is_disk_full && slot.more == More::WhenLogAllows {
                refuse_publishes(slot, &errors::STORAGE_RESOURCES_EXCEEDED, outbox);
                slot.more = More::None;
            }
            slot.group.flush(at, log, outbox)
        });
        if outcome.is_none() {
            self.refuse_mail(key);
        }
        outcome
    }

    fn turned(&mut self, key: GroupKey) -> Option<Mono> {
        self.follow_changes();
        let slot = self.groups.get_mut(&key)?;
        slot.cell.publish(slot.group.stream());
        self.usage.update(&slot.cell, slot.group.stream());
        if !slot.group.is_waiting()
            && let Some(done) = slot.installed.take()
        {
            let _ = done.send(());
        }
        self.serve_replica(key);
        let slot = self.groups.get_mut(&key)?;
        if let Some(watch) = &mut slot.watch {
            watch(slot.group.stream_mut());
        }
        self.note_damage(key);
        let slot = self.groups.get_mut(&key)?;
        let released = slot.group.take_released();
        if !released.is_empty() {
            self.workers.submit(DiskWork::Remove(released));
        }
        let slot = self.groups.get_mut(&key)?;
        let more = std::mem::take(&mut slot.more);
        self.disk_chores(key);
        let slot = self.groups.get(&key)?;
        let due = slot.group.next_due().into_iter().chain(slot.space_again).min();
        match more {
            More::None => {}
            More::Now => self.handle.schedule(key),
            More::WhenLogAllows => self.pressed.push(key),
        }
        due
    }

    fn checkpoint(&mut self, key: GroupKey) {
        if let Some(slot) = self.groups.get_mut(&key)
            && let Some(job) = slot.group.begin_checkpoint()
        {
            let job = GroupJob::Checkpoint(Box::new(job), slot.dir.clone());
            self.workers.submit(DiskWork::Group(job, key, self.handle.clone()));
        }
    }

    fn raise_floor(&mut self, key: GroupKey, now: Mono) {
        if let Some(slot) = self.groups.get_mut(&key)
            && let Some(job) = slot.group.begin_floor(now)
        {
            let job = GroupJob::Floor(job, slot.dir.clone());
            self.workers.submit(DiskWork::Group(job, key, self.handle.clone()));
        }
    }

    fn remove_files(&mut self, files: Vec<PathBuf>) {
        self.workers.submit(DiskWork::Remove(files));
    }

    fn stop(&mut self, key: GroupKey, why: StopReason<'_>) {
        let Some(slot) = self.groups.get_mut(&key) else { return };
        match why {
            StopReason::Log(error) => {
                slot.cell.fail("write-ahead log failed");
                slot.failed = Some(error.clone());
            }
            StopReason::Entry(error) => {
                tracing::error!("Stream '{}' stopped: {error}", slot.group.stream().config().name);
                slot.cell.fail(&error.to_string());
                slot.failed = Some(errors::STREAM_OFFLINE);
            }
        }
    }

    fn add_others(&mut self, at: Moment, touched: &mut Touched) {
        self.relieve(at, touched);
    }
}
