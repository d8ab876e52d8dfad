//! One opening of a store directory.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use linnet_assets::{Advisory, Answer, Command, CommandOutcome, Entry, Output, Place, Purge, Token};
use linnet_broker::{Account, AccountLimits, Broker};
use linnet_env::{Clock, Disk, DiskLock, OsRng, Rng};
use linnet_ids::{GroupId, Wall};
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::policies::StorageType;
use linnet_jsapi::{Nanos, StreamConfig};
use linnet_replication::{Log, Opening, SoloGroup, fresh, recover};
use linnet_store::{Filter, Kind, LoadJob, Lookup};
use linnet_wal::{RecoveredGroup, StoreIdentity, Wal};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::api::Api;
use crate::budget::Budget;
use crate::catalogue::{Accounts, Assignment, JsAccount, StreamHandle};
use crate::cell::{Health, StreamCell};
use crate::config::Config;
use crate::disk_work::DiskWorkers;
use crate::inbox::{InboxLimits, StreamInbox};
use crate::lazy_disk::LazyDisk;
use crate::log_writer::{LogHandle, LogWriter};
use crate::marker::{Marker, MarkerError};
use crate::pump::{Control, GroupKey, Installation, Pump, PumpHandle};
use crate::services::ConsumerServices;
use crate::usage::Usage;

/// Key of the catalogue's own group.
const META_KEY: GroupKey = 0;
/// How long an orderly stop may take to write checkpoints.
const STOP_MAX: Duration = Duration::from_secs(30);
/// Files of a group that is gone are moved here.
const QUARANTINE: &str = "quarantine";

/// JetStream cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The directory is not ours.
    #[error(transparent)]
    Marker(#[from] MarkerError),
    /// Another process uses the directory.
    #[error("{0} is in use by another process")]
    Locked(PathBuf),
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] linnet_wal::Error),
    /// The catalogue of streams cannot be restored.
    #[error("the catalogue of streams cannot be restored: {0}")]
    Catalogue(String),
}

/// How a stop went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopReport {
    /// Everything is in checkpoints and the store is marked as closed in order.
    pub clean: bool,
}

/// JetStream on one server.
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) broker: Broker,
    pub(crate) accounts: Accounts,
    pub(crate) place: Place,
    pub(crate) usage: Arc<Usage>,
    pub(crate) health: Arc<Health>,
    /// Creating, changing and deleting streams happens one at a time.
    pub(crate) changes: tokio::sync::Mutex<()>,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    log: LogHandle,
    pumps: Vec<PumpHandle>,
    meta: Arc<StreamInbox>,
    workers: DiskWorkers,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
    next_key: AtomicU64,
    next_pump: AtomicU64,
    next_meta_index: AtomicU64,
    marker: Marker,
    lazy: Option<Arc<LazyDisk>>,
    api: Mutex<Option<Api>>,
    stopped: AtomicBool,
    _lock: Box<dyn DiskLock>,
}

/// What happens while nobody is there to receive anything.
struct Nobody;

impl Output for Nobody {
    fn publish(&mut self, _: &[u8], _: &[u8], _: &[u8], _: usize, _: &[u8]) -> usize {
        0
    }

    fn has_interest(&mut self, _: &[u8]) -> bool {
        false
    }

    fn answer(&mut self, _: Token, _: Answer) {}

    fn load(&mut self, _: LoadJob) {}

    fn advise(&mut self, _: Advisory) {}
}

/// Everything that exists while the store is being opened.
struct Starting<'a> {
    config: &'a Config,
    disk: &'a Arc<dyn Disk>,
    dir: &'a Path,
    wal: &'a Wal,
    groups: &'a [RecoveredGroup],
    place: &'a Place,
    clock: &'a Arc<dyn Clock>,
    /// Damage of the log may have taken a group, or what the catalogue said of it.
    may_lack_groups: bool,
}

impl Starting<'_> {
    fn opening(&self, group: GroupId, config: StreamConfig, created: Wall) -> Opening<'_> {
        Opening {
            group,
            recovered: self.groups.iter().find(|g| g.group == group),
            wal: self.wal,
            disk: self.disk,
            dir: group_dir(self.dir, group),
            config,
            created,
            place: self.place.clone(),
            now: self.clock.mono(),
            wall: self.clock.wall(),
        }
    }
}

fn group_dir(dir: &Path, group: GroupId) -> PathBuf {
    dir.join("groups").join(group.to_string())
}

/// The catalogue is a stream of the server itself: the newest message of each subject is what counts.
fn catalogue_config() -> StreamConfig {
    StreamConfig {
        name: "_catalogue_".to_owned(),
        max_msgs: -1,
        max_bytes: -1,
        max_msgs_per_subject: 1,
        max_consumers: -1,
        num_replicas: 1,
        duplicate_window: Nanos::ZERO,
        storage: StorageType::File,
        ..StreamConfig::default()
    }
}

impl Engine {
    /// Opens the store and everything in it, starts the threads and answers the API.
    pub async fn start(
        config: Config,
        broker: Broker,
        disk: Arc<dyn Disk>,
        server: &str,
    ) -> Result<Arc<Self>, StartError> {
        let clock = broker.clock().clone();
        let dir = config.store_dir.join("jetstream");
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| StartError::Io { path, source }
        };
        disk.create_dir_all(&dir).map_err(at(&dir))?;
        // Before the lock file is made: what is not ours stays as it is.
        Marker::check(&*disk, &dir)?;
        let lock_path = dir.join("lock");
        let lock =
            disk.lock(&lock_path).map_err(at(&lock_path))?.ok_or_else(|| StartError::Locked(dir.clone()))?;
        let marker = Marker::open(&*disk, &dir, &OsRng)?;
        let store_id = marker.id().unwrap_or_default();
        let lazy = config.sync_interval.map(|_| Arc::new(LazyDisk::new(disk.clone())));
        let wal_disk: Arc<dyn Disk> = match &lazy {
            Some(lazy) => lazy.clone(),
            None => disk.clone(),
        };
        let opened = Wal::open(wal_disk, &dir, linnet_wal::Config::default(), StoreIdentity { store_id })?;
        report_log(&opened.report, &marker);

        let place = Place { server: server.to_owned(), domain: config.domain.clone() };
        let health = Arc::new(Health::default());
        let usage = Arc::new(Usage::new(config.max_memory, config.max_storage));
        let mut accounts = Accounts::new();
        for (name, limits) in &config.accounts {
            let bound = |n: i64| u64::try_from(n).ok();
            usage.add_account(name, bound(limits.max_memory), bound(limits.max_storage));
            if let Some(account) = broker.account(name) {
                accounts.insert(name.clone(), Arc::new(JsAccount::new(account, *limits)));
            }
        }
        let (workers, mut threads) = DiskWorkers::start(disk.clone()).map_err(at(&dir))?;
        let mut log = LogHandle::new();
        let pump_count = std::thread::available_parallelism().map_or(1, |n| (n.get() / 2).clamp(1, 8));
        let pumps: Vec<PumpHandle> = (0..pump_count).map(|_| PumpHandle::new()).collect();
        let starting = Starting {
            config: &config,
            disk: &disk,
            dir: &dir,
            wal: &opened.wal,
            groups: &opened.groups,
            place: &place,
            clock: &clock,
            may_lack_groups: opened.report.any_group_may_be_affected(),
        };
        let restored = restore(starting, &mut log, &health)?;

        let own_account = Account::new("_server_", true, AccountLimits::default());
        let inbox_limits = InboxLimits { msgs: config.max_buffered_msgs, bytes: config.max_buffered_bytes };
        let meta_pump = pumps.first().cloned().unwrap_or_else(PumpHandle::new);
        let budget = Arc::new(Budget::default());
        let meta = StreamInbox::new(META_KEY, meta_pump.clone(), inbox_limits);
        for (n, handle) in pumps.iter().enumerate() {
            let pump = Pump::new(
                handle.clone(),
                &broker,
                log.clone(),
                workers.clone(),
                usage.clone(),
                budget.clone(),
                health.clone(),
            );
            let thread = std::thread::Builder::new().name(format!("js-pump-{n}"));
            threads.push(thread.spawn(move || pump.run()).map_err(at(&dir))?);
        }
        let writer = LogWriter {
            wal: opened.wal,
            handle: log.clone(),
            pumps: pumps.clone(),
            workers: workers.clone(),
            asked: HashMap::new(),
            waiting_for: None,
            looked: None,
            is_stuck: false,
            clock: clock.clone(),
            health: health.clone(),
        };
        let thread = std::thread::Builder::new().name("js-log".to_owned());
        threads.push(thread.spawn(move || writer.run()).map_err(at(&dir))?);

        let engine = Arc::new(Self {
            accounts,
            broker,
            place,
            usage,
            health,
            changes: tokio::sync::Mutex::new(()),
            log,
            pumps,
            meta: meta.clone(),
            workers,
            threads: Mutex::new(threads),
            next_key: AtomicU64::new(META_KEY + 1),
            next_pump: AtomicU64::new(0),
            next_meta_index: AtomicU64::new(restored.next_index),
            marker,
            lazy,
            api: Mutex::new(None),
            stopped: AtomicBool::new(false),
            _lock: lock,
            disk,
            dir,
            config,
        });
        engine.install_restored(restored, meta_pump, meta, own_account).await;
        engine.start_syncing();
        *engine.api.lock() = Some(Api::start(&engine));
        Ok(engine)
    }

    /// Hands restored groups to pumps and puts them into the catalogue.
    async fn install_restored(
        &self,
        restored: Restored,
        meta_pump: PumpHandle,
        meta: Arc<StreamInbox>,
        own: Arc<Account>,
    ) {
        let (done, installed) = oneshot::channel();
        self.log.own(GroupId::META, meta_pump.clone());
        meta_pump.control(Control::Install(Box::new(Installation {
            key: META_KEY,
            dir: group_dir(&self.dir, GroupId::META),
            group: restored.meta,
            inbox: meta,
            account: own,
            cell: Arc::new(StreamCell::new("", false)),
            services: ConsumerServices::internal(),
            done,
        })));
        let _ = installed.await;
        for assignment in restored.lost_unmarked {
            let _ = self.store_assignment(&Assignment { live: true, ..assignment }).await;
        }
        for (assignment, group) in restored.streams {
            let Some(account) = self.accounts.get(&assignment.account).cloned() else {
                // Its account has no JetStream now: the data stays where it is.
                tracing::warn!(
                    "Stream '{} > {}' is not served: its account has no JetStream",
                    assignment.account,
                    assignment.config.name
                );
                continue;
            };
            let name = assignment.config.name.clone();
            let must_mark = !assignment.live;
            self.install(&account, group).await;
            if must_mark {
                let live = Assignment { live: true, ..assignment };
                let _ = self.store_assignment(&live).await;
            }
            tracing::info!("  Restored stream '{} > {name}'", account.name());
        }
        for (assignment, _) in restored.ended {
            let _ = self.forget_assignment(&assignment.account, &assignment.config.name).await;
        }
    }

    /// Gives a group to a pump and makes it known. Returns when everything it proposed is applied.
    async fn install(&self, account: &Arc<JsAccount>, group: SoloGroup) -> Arc<StreamHandle> {
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        let nth = usize::try_from(self.next_pump.fetch_add(1, Ordering::Relaxed)).unwrap_or(0);
        let pump = self.pumps[nth % self.pumps.len()].clone();
        let limits =
            InboxLimits { msgs: self.config.max_buffered_msgs, bytes: self.config.max_buffered_bytes };
        let inbox = StreamInbox::new(key, pump.clone(), limits);
        let stream = group.stream();
        let cell = Arc::new(StreamCell::new(account.name(), stream.store().is_memory()));
        let handle = Arc::new(StreamHandle {
            key,
            group: group.group(),
            pump: pump.clone(),
            inbox: inbox.clone(),
            cell: cell.clone(),
            config: ArcSwap::from_pointee(stream.config().clone()),
            created: stream.created(),
        });
        self.log.own(group.group(), pump.clone());
        let (done, installed) = oneshot::channel();
        account.streams.write().insert(stream.config().name.clone(), handle.clone());
        pump.control(Control::Install(Box::new(Installation {
            key,
            dir: group_dir(&self.dir, group.group()),
            group,
            inbox,
            account: account.account.clone(),
            cell,
            services: ConsumerServices::new(&self.config.domain),
            done,
        })));
        let _ = installed.await;
        handle
    }

    /// Syncs the log in the background when the configuration asks for lazy syncs.
    fn start_syncing(self: &Arc<Self>) {
        let (Some(lazy), Some(interval)) = (self.lazy.clone(), self.config.sync_interval) else { return };
        let engine = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                if engine.upgrade().is_none_or(|e| e.stopped.load(Ordering::Relaxed)) {
                    return;
                }
                let lazy = lazy.clone();
                let synced = tokio::task::spawn_blocking(move || lazy.sync_all()).await;
                if let Ok(Err(error)) = synced {
                    tracing::error!("Syncing the write-ahead log failed: {error}");
                }
            }
        });
    }

    async fn store_assignment(&self, assignment: &Assignment) -> Answer {
        let subject = Assignment::subject(&assignment.account, &assignment.config.name);
        let command = Command::Append { subject, payload: assignment.encode() };
        self.meta.command(command).await.unwrap_or(Err(errors::INSUFFICIENT_RESOURCES))
    }

    async fn forget_assignment(&self, account: &str, stream: &str) -> Answer {
        let filter = String::from_utf8_lossy(&Assignment::subject(account, stream)).into_owned();
        let command = Command::Purge(Purge { filter, below: 0, keep: 0 });
        self.meta.command(command).await.unwrap_or(Err(errors::INSUFFICIENT_RESOURCES))
    }

    /// Creates a stream whose configuration has been judged. The caller holds [`Engine::changes`].
    pub(crate) async fn create_stream(
        &self,
        account: &Arc<JsAccount>,
        config: StreamConfig,
    ) -> Result<Arc<StreamHandle>, ApiError> {
        let created = self.broker.clock().wall();
        let index = self.next_meta_index.fetch_add(1, Ordering::Relaxed);
        let group = GroupId { epoch: 0, meta_index: index, random: OsRng.next_u64() };
        let assignment = Assignment {
            account: account.name().to_owned(),
            group: group.to_string(),
            created: created.0,
            live: false,
            config: config.clone(),
        };
        self.store_assignment(&assignment).await?;
        let kind = match config.storage {
            StorageType::Memory => Kind::Memory,
            StorageType::File => Kind::File { disk: self.disk.clone(), dir: group_dir(&self.dir, group) },
        };
        let now = self.broker.clock().mono();
        let solo = fresh(group, kind, config, created, self.place.clone(), now);
        let handle = self.install(account, solo).await;
        self.store_assignment(&Assignment { live: true, ..assignment }).await?;
        Ok(handle)
    }

    /// Changes a stream's configuration, which has been judged. The caller holds [`Engine::changes`].
    pub(crate) async fn update_stream(
        &self,
        account: &Arc<JsAccount>,
        handle: &Arc<StreamHandle>,
        config: StreamConfig,
    ) -> Result<(), ApiError> {
        let assignment = Assignment {
            account: account.name().to_owned(),
            group: handle.group.to_string(),
            created: handle.created.0,
            live: true,
            config: config.clone(),
        };
        self.store_assignment(&assignment).await?;
        handle.ask(Command::Update(Box::new(config.clone()))).await?;
        handle.config.store(Arc::new(config));
        Ok(())
    }

    /// Deletes a stream: its end first, then its place in the catalogue, then its files. The caller holds
    /// [`Engine::changes`].
    pub(crate) async fn delete_stream(
        &self,
        account: &Arc<JsAccount>,
        handle: &Arc<StreamHandle>,
    ) -> Result<(), ApiError> {
        let name = handle.config().name.clone();
        handle.ask(Command::Delete).await?;
        account.streams.write().remove(&name);
        self.forget_assignment(account.name(), &name).await?;
        self.health.forget(account.name(), &name);
        let (done, removed) = oneshot::channel();
        handle.pump.control(Control::Remove { key: handle.key, remove_files: true, done });
        let _ = removed.await;
        self.log.disown(handle.group);
        if !handle.cell.is_memory() {
            self.log.clone().end_group(handle.group);
            self.log.kick();
        }
        Ok(())
    }

    /// The accounts with JetStream.
    pub fn accounts(&self) -> Vec<Arc<JsAccount>> {
        let mut all: Vec<_> = self.accounts.values().cloned().collect();
        all.sort_by(|a, b| a.name().cmp(b.name()));
        all
    }

    /// The account of this name, if it has JetStream.
    pub fn account(&self, name: &str) -> Option<Arc<JsAccount>> {
        self.accounts.get(name).cloned()
    }

    /// Settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Directory of the store.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Bytes in use.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// What is wrong.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// State of a stream as the API shows it, with its consumers if asked.
    pub async fn stream_state(&self, handle: &StreamHandle) -> Option<linnet_jsapi::info::StreamState> {
        match handle.ask(Command::State { subjects: None, deleted: false }).await {
            Ok(CommandOutcome::State(state)) => Some(*state),
            _ => None,
        }
    }

    /// The consumers of a stream as the API shows them.
    pub async fn consumer_infos(&self, handle: &StreamHandle) -> Vec<linnet_jsapi::info::ConsumerInfo> {
        match handle.ask(Command::Consumer(linnet_assets::ConsumerCommand::List)).await {
            Ok(CommandOutcome::Consumers(infos)) => infos,
            _ => Vec::new(),
        }
    }

    /// Stops answering, writes checkpoints, ends the threads, marks the store as closed in order.
    pub async fn stop(&self) -> StopReport {
        if self.stopped.swap(true, Ordering::SeqCst) {
            return StopReport { clean: false };
        }
        self.api.lock().take();
        let mut waits = Vec::new();
        for pump in &self.pumps {
            let (done, stopped) = oneshot::channel();
            pump.control(Control::Stop { checkpoint: true, done });
            waits.push(stopped);
        }
        let mut clean = self.health.log_failure().is_none();
        let mut ended = true;
        for wait in waits {
            ended &= matches!(tokio::time::timeout(STOP_MAX, wait).await, Ok(Ok(())));
        }
        self.log.stop();
        self.workers.stop();
        if ended {
            let threads = std::mem::take(&mut *self.threads.lock());
            let joined = tokio::task::spawn_blocking(move || threads.into_iter().all(|t| t.join().is_ok()));
            ended = joined.await.unwrap_or(false);
        }
        clean &= ended;
        if let Some(lazy) = self.lazy.clone() {
            clean &= matches!(tokio::task::spawn_blocking(move || lazy.sync_all()).await, Ok(Ok(())));
        }
        if clean && let Err(error) = self.marker.close(&*self.disk, &self.dir) {
            tracing::warn!("{error}");
            clean = false;
        }
        StopReport { clean }
    }
}

/// Says what opening the log found.
fn report_log(report: &linnet_wal::Report, marker: &Marker) {
    if !marker.clean {
        tracing::info!("  Store was not closed in order: replayed {} batches of the log", report.batches);
    }
    if let Some(torn) = &report.torn_tail {
        tracing::warn!(
            "  Write-ahead log ends in an unfinished batch (segment {}, byte {})",
            torn.segment,
            torn.offset
        );
    }
    for damage in &report.damages {
        tracing::error!(
            "  Write-ahead log is damaged in segment {} at byte {}: {:?}",
            damage.segment,
            damage.offset,
            damage.kind
        );
    }
}

/// What was found in the store.
struct Restored {
    meta: SoloGroup,
    streams: Vec<(Assignment, SoloGroup)>,
    /// Streams whose end is in their log but which the catalogue still names.
    ended: Vec<(Assignment, GroupId)>,
    /// Streams that may have been running and are not marked as live. With nothing in the log and no damage in it any
    /// more, the next opening would take them for new.
    lost_unmarked: Vec<Assignment>,
    next_index: u64,
}

/// Restores the catalogue and the groups it names.
fn restore(mut starting: Starting<'_>, log: &mut LogHandle, health: &Health) -> Result<Restored, StartError> {
    let opening = starting.opening(GroupId::META, catalogue_config(), starting.clock.wall());
    let (mut meta, found) =
        recover(opening, log, &mut Nobody).map_err(|e| StartError::Catalogue(e.to_string()))?;
    starting.may_lack_groups |= found.damage.is_some() || !found.lost_entries.is_empty();
    let starting = &starting;
    for lost in found.lost_entries.iter() {
        tracing::error!("  Catalogue of streams: {lost}");
    }
    let mut streams = Vec::new();
    let mut ended = Vec::new();
    let mut lost_unmarked = Vec::new();
    let mut known = vec![GroupId::META];
    let mut next_index = 1;
    for assignment in assignments(&mut meta) {
        let Some(group) = GroupId::parse(&assignment.group) else { continue };
        known.push(group);
        next_index = next_index.max(group.meta_index + 1);
        let (account, name) = (assignment.account.clone(), assignment.config.name.clone());
        match open_group(starting, log, &assignment, group) {
            Ok(solo) if solo.stream().is_deleted() => {
                log.end_group(group);
                ended.push((assignment, group));
            }
            Ok(solo) => streams.push((assignment, solo)),
            Err(reason) => {
                tracing::error!("  Stream '{account} > {name}' could not be recovered: {reason}");
                health.note_not_recovered(&account, &name, &reason);
                if !assignment.live {
                    lost_unmarked.push(assignment);
                }
            }
        }
    }
    end_forgotten(starting, &known, log);
    put_away_strays(starting, &known);
    Ok(Restored { meta, streams, ended, lost_unmarked, next_index })
}

/// Every assignment in the catalogue.
fn assignments(meta: &mut SoloGroup) -> Vec<Assignment> {
    let mut all = Vec::new();
    let mut next = 0;
    while let Some(seq) = meta.stream().store().next(next, &Filter::all()) {
        next = seq + 1;
        loop {
            match meta.stream().store().get(seq, true) {
                Lookup::Found(record) => {
                    match serde_json::from_slice(record.payload) {
                        Ok(assignment) => all.push(assignment),
                        Err(e) => tracing::error!("  Catalogue entry {seq} cannot be read: {e}"),
                    }
                    break;
                }
                Lookup::Cold(job) => {
                    if meta.stream_mut().store_mut().loaded(job.run()).is_err() {
                        break;
                    }
                }
                Lookup::Missing => break,
                Lookup::Damaged => {
                    tracing::error!("  Catalogue entry {seq} is damaged");
                    break;
                }
            }
        }
    }
    all
}

fn open_group(
    starting: &Starting<'_>,
    log: &mut LogHandle,
    assignment: &Assignment,
    group: GroupId,
) -> Result<SoloGroup, String> {
    let created = Wall(assignment.created);
    let now = starting.clock.mono();
    if assignment.config.storage == StorageType::Memory {
        return Ok(fresh(
            group,
            Kind::Memory,
            assignment.config.clone(),
            created,
            starting.place.clone(),
            now,
        ));
    }
    let recovered = starting.groups.iter().any(|g| g.group == group);
    if !recovered {
        // Without damage, a stream that is not live has stored nothing yet.
        if assignment.live || starting.may_lack_groups {
            return Err("its log is lost".to_owned());
        }
        let kind = Kind::File { disk: starting.disk.clone(), dir: group_dir(starting.dir, group) };
        return Ok(fresh(group, kind, assignment.config.clone(), created, starting.place.clone(), now));
    }
    let opening = starting.opening(group, assignment.config.clone(), created);
    let (solo, found) = recover(opening, log, &mut Nobody).map_err(|e| e.to_string())?;
    let name = &assignment.config.name;
    for lost in &found.lost_entries {
        tracing::error!("  Stream '{} > {name}': {lost}", assignment.account);
    }
    if !found.lost.is_empty() {
        tracing::error!(
            "  Stream '{} > {name}': {} messages are damaged",
            assignment.account,
            found.lost.len()
        );
    }
    quarantine(starting, &group_dir(starting.dir, group), &found.ruined);
    // Blocks that no checkpoint names hold nothing that the log does not; after damage they may, so they are kept.
    if found.damage.is_none() {
        for stray in &found.strays {
            if let Err(e) = starting.disk.remove_file(stray) {
                tracing::warn!("  Removing {}: {e}", stray.display());
            }
        }
    } else {
        quarantine(starting, &group_dir(starting.dir, group), &found.strays);
    }
    Ok(solo)
}

/// Moves files that nothing names out of the way, never deletes them.
fn quarantine(starting: &Starting<'_>, dir: &Path, files: &[PathBuf]) {
    if files.is_empty() {
        return;
    }
    let to = dir.join(QUARANTINE);
    if let Err(e) = starting.disk.create_dir_all(&to) {
        tracing::error!("  Creating {}: {e}", to.display());
        return;
    }
    for file in files {
        let Some(name) = file.file_name() else { continue };
        tracing::warn!("  Moved {} to {}", file.display(), to.display());
        if let Err(e) = starting.disk.rename(file, &to.join(name)) {
            tracing::error!("  Moving {}: {e}", file.display());
        }
    }
    // A move that a power loss undoes would leave a file that the next opening takes for one of no use.
    for dir in [&to, dir] {
        if let Err(e) = starting.disk.sync_dir(dir) {
            tracing::error!("  Syncing {}: {e}", dir.display());
        }
    }
}

/// A deletion may be cut off after the catalogue forgot the stream: its log, which says that it has ended, goes now.
fn end_forgotten(starting: &Starting<'_>, known: &[GroupId], log: &mut LogHandle) {
    for group in starting.groups.iter().map(|g| g.group).filter(|g| !known.contains(g)) {
        let mut entries = starting.wal.entries(group).flatten();
        if entries.any(|entry| matches!(Entry::decode(&entry.payload), Ok(Entry::Deleted))) {
            log.end_group(group);
        }
    }
}

/// Directories of groups that the catalogue does not name are moved aside with a note saying why.
fn put_away_strays(starting: &Starting<'_>, known: &[GroupId]) {
    let groups = starting.dir.join("groups");
    let Ok(entries) = starting.disk.list(&groups) else { return };
    for entry in entries.into_iter().filter(|e| e.is_dir) {
        if GroupId::parse(&entry.name).is_some_and(|id| known.contains(&id)) {
            continue;
        }
        // What the log still knows is a group whose assignment is lost: it stays untouched and is listed.
        if GroupId::parse(&entry.name).is_some_and(|id| starting.groups.iter().any(|g| g.group == id)) {
            tracing::warn!(
                "  Group {} has a log but no entry in the catalogue; it is left as it is",
                entry.name
            );
            continue;
        }
        let to = starting.dir.join(QUARANTINE);
        let moved = starting.disk.create_dir_all(&to).and_then(|()| {
            starting.disk.rename(&groups.join(&entry.name), &to.join(&entry.name))?;
            let note = "No entry of the catalogue and no log names this group.\n";
            starting.disk.replace(&to.join(format!("{}.reason", entry.name)), note.as_bytes())
        });
        match moved {
            Ok(()) => tracing::warn!("  Moved group {} to {}: nothing names it", entry.name, to.display()),
            Err(e) => tracing::error!("  Moving group {}: {e}", entry.name),
        }
    }
    let _ = starting.config;
}
