//! One opening of a store directory.

mod cluster;
mod consumers;
mod reload;
mod restoring;
mod streams;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use linnet_assets::{BatchLimits, Command, CommandOutcome, Place, StreamReport};
use linnet_broker::{Account, AccountLimits, Broker};
use linnet_env::{Disk, DiskLock, OsRng, Rng};
use linnet_replication::{ClusterStore, FLOOR_STEP, LogKeeper, RestoredStore, Restoring, Site};
use linnet_wal::{StoreIdentity, Wal};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::api::Api;
use crate::backup::Slots;
use crate::budget::Budget;
use crate::catalogue::{Accounts, JsAccount, StreamHandle};
use crate::cell::Health;
use crate::cluster::MetaStatus;
use crate::config::Config;
use crate::disk_work::DiskWorkers;
use crate::inbox::{InboxLimits, StreamInbox};
use crate::lazy_disk::LazyDisk;
use crate::log_writer::{LogHandle, LogWriter};
use crate::marker::{Marker, MarkerError, PLAIN_FILES};
use crate::output::Hub;
use crate::pump::{Control, GroupKey, Pump, PumpHandle};
use crate::reserve::Reserve;
use crate::scrub::{self, ScrubReport};
use crate::usage::Usage;

pub use cluster::{Assigned, AssignedStream, Orphan};
pub(crate) use cluster::{Awaited, Cluster, Facts, Responder};
pub use reload::{Reach, Rules};

/// Key of the catalogue's own group.
const META_KEY: GroupKey = 0;
/// How long an orderly stop may take to write checkpoints.
const STOP_MAX: Duration = Duration::from_secs(30);

/// JetStream cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The directory is not ours.
    #[error(transparent)]
    Marker(#[from] MarkerError),
    /// Another process uses the directory.
    #[error("{0} is in use by another process")]
    Locked(PathBuf),
    /// Something that is no directory is in the way of the store's.
    #[error("storage directory is not a directory: {0}")]
    NotADirectory(PathBuf),
    /// The directory cannot be made.
    #[error("could not create storage directory - {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Files of the store cannot be converted to the configured encryption.
    #[error("converting the store stopped, the next start goes on: {0}")]
    Converting(io::Error),
    /// There is no log, yet groups that had one.
    #[error(
        "{log} holds no write-ahead log although {groups} holds groups: put the log back, or move the groups away \
         to begin empty"
    )]
    LogMissing {
        /// Where the log should be.
        log: PathBuf,
        /// What needs it.
        groups: PathBuf,
    },
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] linnet_wal::Error),
    /// The server cannot talk to the others of its cluster.
    #[error("{0}")]
    Cluster(String),
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

/// What was found in the store.
enum Content {
    Alone(Box<RestoredStore>),
    Clustered(ClusterStore),
}

impl Content {
    /// Index in the catalogue for the next new group of a server alone.
    fn next_index(&self) -> u64 {
        match self {
            Self::Alone(restored) => restored.next_index,
            Self::Clustered(_) => 0,
        }
    }
}

/// JetStream on one server.
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) broker: Broker,
    accounts: ArcSwap<Accounts>,
    rules: ArcSwap<Rules>,
    /// Accounts without JetStream that have streams in the store.
    unserved: Mutex<BTreeSet<String>>,
    pub(crate) place: Place,
    pub(crate) usage: Arc<Usage>,
    pub(crate) health: Arc<Health>,
    /// What streams there are is judged and decided one change at a time. In a cluster nobody is waited for meanwhile but
    /// the catalogue itself.
    pub(crate) changes: tokio::sync::Mutex<()>,
    /// What other servers say about streams is taken in one at a time.
    settling: tokio::sync::Mutex<()>,
    /// Its part in a cluster; `None` for a server alone.
    pub(crate) cluster: Option<Arc<Cluster>>,
    /// Account of the groups that are the server's own.
    own_account: Arc<Account>,
    /// Snapshots and restores that may still begin.
    pub(crate) backups: Slots,
    budget: Arc<Budget>,
    disk: Arc<dyn Disk>,
    /// The disk without encryption, on which the marker is.
    plain_disk: Arc<dyn Disk>,
    dir: PathBuf,
    log: LogHandle,
    pumps: Vec<PumpHandle>,
    pub(crate) meta: Arc<StreamInbox>,
    workers: DiskWorkers,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
    next_key: AtomicU64,
    next_pump: AtomicU64,
    next_meta_index: AtomicU64,
    marker: Marker,
    lazy: Option<Arc<LazyDisk>>,
    api: Mutex<Option<Api>>,
    pub(crate) stopped: AtomicBool,
    /// How far verifying of stored messages has come.
    pub(crate) scrub: Mutex<ScrubReport>,
    /// Where the meta group stands.
    pub(crate) meta_status: ArcSwapOption<MetaStatus>,
    _lock: Box<dyn DiskLock>,
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
        disk.create_dir_all(&dir).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                StartError::NotADirectory(dir.clone())
            }
            _ => StartError::Directory { path: dir.clone(), source },
        })?;
        // Before the lock file is made: what is not ours stays as it is.
        Marker::check(&*disk, &dir)?;
        let lock_path = dir.join("lock");
        let lock =
            disk.lock(&lock_path).map_err(at(&lock_path))?.ok_or_else(|| StartError::Locked(dir.clone()))?;
        let reserve = Reserve::new(disk.clone(), &dir);
        reserve.give_up_if_full();
        let rng: Arc<dyn Rng> = Arc::new(OsRng);
        let (mut marker, plan) = Marker::open(&*disk, &dir, &*rng, config.encryption.as_ref())?;
        let plain_disk = disk.clone();
        let disk = match plan {
            Some(plan) => {
                if plan.must_convert() {
                    plan.convert(&disk, &rng, &dir, PLAIN_FILES).map_err(StartError::Converting)?;
                    marker.note_converted(&*disk, &dir)?;
                }
                plan.disk(disk, rng)
            }
            None => disk,
        };
        let store_id = marker.id().unwrap_or_default();
        require_log(&*disk, &dir)?;
        let lazy = config.sync_interval.map(|_| Arc::new(LazyDisk::new(disk.clone())));
        let wal_disk: Arc<dyn Disk> = match &lazy {
            Some(lazy) => lazy.clone(),
            None => disk.clone(),
        };
        let opened = Wal::open(wal_disk, &dir, config.log, StoreIdentity { store_id })?;
        report_log(&opened.report, &marker);

        let place = Place {
            server: server.to_owned(),
            domain: config.domain.clone(),
            batches: Arc::new(BatchLimits::new(config.batches)),
        };
        let health = Arc::new(Health::default());
        let usage = Arc::new(Usage::new(config.max_memory, config.max_storage));
        let mut accounts = Accounts::new();
        for (name, limits) in &config.accounts {
            let bound = |n: i64| u64::try_from(n).ok();
            usage.set_account(name, bound(limits.max_memory), bound(limits.max_storage));
            if let Some(account) = broker.account(name) {
                accounts.insert(name.clone(), Arc::new(JsAccount::new(account, *limits)));
            }
        }
        let (workers, mut threads) = DiskWorkers::start(disk.clone(), reserve).map_err(at(&dir))?;
        let mut log = LogHandle::new();
        let pump_count = std::thread::available_parallelism().map_or(1, |n| (n.get() / 2).clamp(1, 8));
        let pumps: Vec<PumpHandle> = (0..pump_count).map(|_| PumpHandle::new()).collect();
        let restoring = Restoring {
            disk: &disk,
            dir: &dir,
            wal: &opened.wal,
            groups: &opened.groups,
            place: &place,
            clock: &*clock,
            floor_step: FLOOR_STEP,
            may_lack_groups: opened.report.any_group_may_be_affected(),
        };
        let catalogue = |e: linnet_replication::OpenFailure| StartError::Catalogue(e.to_string());
        let cluster = match &config.cluster {
            Some(_) => Some(Cluster::start(&broker, &config.domain, &*disk, &dir, &log, &pumps)?),
            None => None,
        };
        let restored = match &cluster {
            Some(cluster) => {
                Content::Clustered(restoring.run_clustered(cluster.myself(), &mut log).map_err(catalogue)?)
            }
            None => Content::Alone(Box::new(restoring.run(&mut log).map_err(catalogue)?)),
        };

        let own_account = Account::new("_server_", true, AccountLimits::default());
        let inbox_limits = InboxLimits { msgs: config.max_buffered_msgs, bytes: config.max_buffered_bytes };
        let budget = Arc::new(Budget::default());
        let meta =
            StreamInbox::new(META_KEY, pumps.first().cloned().unwrap_or_else(PumpHandle::new), inbox_limits);
        for (n, handle) in pumps.iter().enumerate() {
            let pump = Pump::new(
                handle.clone(),
                Hub::new(&broker, &config.domain),
                clock.clone(),
                log.clone(),
                workers.clone(),
                usage.clone(),
                budget.clone(),
            );
            let pump = pump.join(cluster.as_ref().map(|cluster| cluster.replicas()));
            let thread = std::thread::Builder::new().name(format!("js-pump-{n}"));
            threads.push(thread.spawn(move || pump.run()).map_err(at(&dir))?);
        }
        let mut writer = LogWriter {
            keeper: LogKeeper::new(opened.wal),
            handle: log.clone(),
            pumps: pumps.clone(),
            workers: workers.clone(),
            is_stuck: false,
            budget: budget.clone(),
            full_since: None,
            cannot_prepare: false,
            clock: clock.clone(),
            health: health.clone(),
            is_clustered: cluster.is_some(),
        };
        // Streams must know of a lack of space before they take anything.
        writer.maintain();
        let thread = std::thread::Builder::new().name("js-log".to_owned());
        threads.push(thread.spawn(move || writer.run()).map_err(at(&dir))?);

        let scrub = Mutex::new(ScrubReport::load(&*disk, &dir, clock.wall()));
        let engine = Arc::new(Self {
            accounts: ArcSwap::from_pointee(accounts),
            rules: ArcSwap::from_pointee(Rules::of(&config)),
            unserved: Mutex::default(),
            broker,
            place,
            usage,
            health,
            changes: tokio::sync::Mutex::new(()),
            settling: tokio::sync::Mutex::new(()),
            cluster: cluster.clone(),
            own_account,
            backups: Slots::of_server(),
            budget,
            log,
            pumps,
            meta: meta.clone(),
            workers,
            threads: Mutex::new(threads),
            next_key: AtomicU64::new(META_KEY + 1),
            next_pump: AtomicU64::new(0),
            next_meta_index: AtomicU64::new(restored.next_index()),
            marker,
            lazy,
            api: Mutex::new(None),
            stopped: AtomicBool::new(false),
            scrub,
            meta_status: ArcSwapOption::empty(),
            _lock: lock,
            disk,
            plain_disk,
            dir,
            config,
        });
        match restored {
            Content::Alone(restored) => engine.install_restored(*restored).await,
            Content::Clustered(store) => engine.enter_cluster(store).await,
        }
        engine.start_syncing();
        scrub::start(&engine);
        *engine.api.lock() = Some(Api::start(&engine));
        Ok(engine)
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

    /// The accounts with JetStream.
    pub fn accounts(&self) -> Vec<Arc<JsAccount>> {
        let mut all: Vec<_> = self.accounts.load().values().cloned().collect();
        all.sort_by(|a, b| a.name().cmp(b.name()));
        all
    }

    /// The account of this name, if it has JetStream.
    pub fn account(&self, name: &str) -> Option<Arc<JsAccount>> {
        self.accounts.load().get(name).cloned()
    }

    /// Where groups live.
    pub(crate) fn site(&self) -> Site {
        let (disk, dir, place) = (self.disk.clone(), self.dir.clone(), self.place.clone());
        Site { disk, dir, place, floor_step: FLOOR_STEP }
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    pub(crate) fn workers(&self) -> &DiskWorkers {
        &self.workers
    }

    /// How far verifying of stored messages has come; `None` if it is switched off.
    pub fn scrub_report(&self) -> Option<ScrubReport> {
        (!self.config.scrub.interval.is_zero()).then(|| self.scrub.lock().clone())
    }

    /// Where the meta group of the cluster stands; `None` for a server alone.
    pub fn meta_status(&self) -> Option<Arc<MetaStatus>> {
        let cluster = self.config.cluster.as_ref()?;
        let recovering = || Arc::new(MetaStatus { cluster: cluster.name.clone(), ..MetaStatus::default() });
        Some(self.meta_status.load_full().unwrap_or_else(recovering))
    }

    /// Settings it was started with. Some have been replaced since: [`Engine::rules`].
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The time.
    pub fn wall(&self) -> linnet_ids::Wall {
        self.broker.clock().wall()
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
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Set if there may have been streams of which nothing is left: the file that says so. An operator who removes it
    /// has dealt with that.
    pub fn may_lack_streams(&self) -> Option<PathBuf> {
        self.health.missing_streams_note().filter(|note| self.disk.exists(note).unwrap_or(true))
    }

    /// Where a stream stands, as the API shows it.
    pub async fn stream_report(&self, handle: &StreamHandle) -> Option<StreamReport> {
        match handle.ask(Command::State { subjects: None, deleted: false }).await {
            Ok(CommandOutcome::State(report)) => Some(*report),
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

    /// Whoever stops it waits no more for others to take over.
    pub fn hurry(&self) {
        if let Some(cluster) = &self.cluster {
            cluster.hurry();
        }
    }

    /// Stops answering, writes checkpoints, ends the threads, marks the store as closed in order.
    pub async fn stop(&self) -> StopReport {
        if self.stopped.swap(true, Ordering::SeqCst) {
            return StopReport { clean: false };
        }
        self.api.lock().take();
        if let Some(cluster) = &self.cluster {
            cluster.leave(self).await;
        }
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
        if clean && let Err(error) = self.marker.close(&*self.plain_disk, &self.dir) {
            tracing::warn!("{error}");
            clean = false;
        }
        StopReport { clean }
    }
}

/// A log that is gone must not be begun anew: it says which messages and streams there are.
pub(crate) fn require_log(disk: &dyn Disk, dir: &Path) -> Result<(), StartError> {
    let (log, groups) = (dir.join("wal"), dir.join("groups"));
    let names = |path: &Path| match disk.list(path) {
        Ok(entries) => Ok(entries.into_iter().map(|e| e.name).collect()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(StartError::Io { path: path.to_owned(), source }),
    };
    let has_log = names(&log)?.iter().any(|name| name.ends_with(".wal"));
    if has_log || names(&groups)?.is_empty() { Ok(()) } else { Err(StartError::LogMissing { log, groups }) }
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
