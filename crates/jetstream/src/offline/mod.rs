//! The store of a server that does not run: looked at, verified, repaired, made compact.
//!
//! Everything is opened by the code that a server opens it with. [`Access::Look`] lets that code write to memory only
//! ([`overlay`]), so that what an opening would find and do can be told without doing it.

mod log;
mod overlay;
mod report;
mod upkeep;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use linnet_assets::Place;
use linnet_env::{Disk, DiskLock, OsRng, RealClock, Rng};
use linnet_replication::{FLOOR_STEP, OpenFailure, RestoreOutcome, RestoredStore, Restoring, StreamGroup};
use linnet_seal::MasterKey;
use linnet_wal::{Config as LogConfig, StoreIdentity, Wal};
use thiserror::Error;

use crate::config::Encryption;
use crate::engine::{StartError, require_log};
use crate::marker::Marker;
use log::PendingLog;
use overlay::OverlayDisk;

pub use report::{Damage, Inspection, SegmentFile, StreamFiles, Verification};
pub use upkeep::{Compaction, Repair};

/// Bytes verified between two reports of progress.
const STEP: u64 = 4 << 20;

/// What may be done to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Look,
    /// What is asked for.
    Change,
}

/// Keys of an encrypted store, as `jetstream { key, prev_key }` has them.
#[derive(Clone, Default)]
pub struct Keys {
    /// The key.
    pub key: Option<Arc<MasterKey>>,
    /// The one before.
    pub prev_key: Option<Arc<MasterKey>>,
}

impl Keys {
    /// One key.
    pub fn of(key: &str) -> Self {
        Self { key: Some(Arc::new(MasterKey::new(key))), prev_key: None }
    }
}

/// The store cannot be opened.
#[derive(Debug, Error)]
pub enum OfflineError {
    /// There is none.
    #[error("{0} holds no store: it has no linnet.store, nor has a directory jetstream in it")]
    NoStore(PathBuf),
    /// As a server would refuse it.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A change of encryption is not finished.
    #[error(
        "{0} is being converted to another key or cipher: start the server with both keys to finish that first"
    )]
    Converting(PathBuf),
    /// The catalogue cannot be opened.
    #[error("the catalogue of streams cannot be restored: {0}")]
    Catalogue(#[from] OpenFailure),
    /// The log refused a write.
    #[error("writing to the write-ahead log: {0}")]
    Log(#[from] linnet_wal::Error),
    /// The disk refused.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A stream refused what its log holds.
    #[error("stream '{stream}': {reason}")]
    Stream {
        /// Its account and name.
        stream: String,
        /// Why.
        reason: String,
    },
}

/// A store that is open without a server.
pub struct OfflineStore {
    disk: Arc<dyn Disk>,
    /// The disk without encryption, on which the marker is.
    plain_disk: Arc<dyn Disk>,
    dir: PathBuf,
    marker: Marker,
    /// What was wrong before anything was opened: marker and log.
    damages: Vec<Damage>,
    /// The log's files before it was opened, which begins another one.
    segments: Vec<SegmentFile>,
    wal: Wal,
    log: PendingLog,
    store: RestoredStore,
    clock: RealClock,
    _lock: Box<dyn DiskLock>,
}

impl OfflineStore {
    /// Opens the store in `dir`, which is the `store_dir` of a server or the directory `jetstream` in it. Fails if a
    /// server uses it.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, keys: &Keys, access: Access) -> Result<Self, OfflineError> {
        let dir = store_dir(&*disk, dir)?;
        let refused = |e: crate::marker::MarkerError| OfflineError::Start(e.into());
        let Some((found, wrong)) = Marker::look(&*disk, &dir).map_err(refused)? else {
            return Err(OfflineError::NoStore(dir));
        };
        let lock_path = dir.join("lock");
        let locked = disk.lock(&lock_path);
        let lock = locked.map_err(|source| OfflineError::Io { path: lock_path, source })?;
        let lock = lock.ok_or_else(|| StartError::Locked(dir.clone()))?;
        let plain_disk: Arc<dyn Disk> = match access {
            Access::Look => Arc::new(OverlayDisk::new(disk)),
            Access::Change => disk,
        };
        let encryption = keys.key.as_ref().zip(found.encryption.as_ref()).map(|(key, sealed)| Encryption {
            cipher: sealed.cipher(),
            key: key.clone(),
            prev_key: keys.prev_key.clone(),
        });
        let rng: Arc<dyn Rng> = Arc::new(OsRng);
        // What a key that does not fit would change is not changed.
        let judged: Arc<dyn Disk> = Arc::new(OverlayDisk::new(plain_disk.clone()));
        let (_, plan) = Marker::open(&*judged, &dir, &*rng, encryption.as_ref()).map_err(refused)?;
        if plan.is_some_and(|plan| plan.must_convert()) {
            return Err(OfflineError::Converting(dir));
        }
        let (marker, plan) = Marker::open(&*plain_disk, &dir, &*rng, encryption.as_ref()).map_err(refused)?;
        let disk = match plan {
            Some(plan) => plan.disk(plain_disk.clone(), rng),
            None => plain_disk.clone(),
        };
        require_log(&*disk, &dir)?;
        let segments = report::segments(&*disk, &dir)?;
        let identity = StoreIdentity { store_id: marker.id().unwrap_or_default() };
        let opened = Wal::open(disk.clone(), &dir, LogConfig::default(), identity)?;
        let mut damages: Vec<Damage> =
            wrong.into_iter().map(|(file, what)| Damage::of_file(file, what)).collect();
        damages.extend(opened.report.damages.iter().map(|found| Damage::of_log(&dir, found)));
        let clock = RealClock::new();
        let mut log = PendingLog::default();
        let place = Place::default();
        let restoring = Restoring {
            disk: &disk,
            dir: &dir,
            wal: &opened.wal,
            groups: &opened.groups,
            place: &place,
            clock: &clock,
            floor_step: FLOOR_STEP,
            may_lack_groups: opened.report.any_group_may_be_affected(),
        };
        let store = restoring.run(&mut log)?;
        // Their entries in the catalogue go first, which a server sees to.
        let ended = store.streams.iter().filter(|s| matches!(s.outcome, RestoreOutcome::Ended(_)));
        log.keep(ended.map(|stream| stream.group));
        Ok(Self {
            segments,
            disk,
            plain_disk,
            dir,
            marker,
            damages,
            wal: opened.wal,
            log,
            store,
            clock,
            _lock: lock,
        })
    }

    /// What there is.
    pub fn inspect(&mut self) -> Result<Inspection, OfflineError> {
        report::inspect(self)
    }

    /// Reads everything. `progress` is told of bytes read and of the stream.
    pub fn verify(&mut self, progress: &mut dyn FnMut(&str, u64)) -> Verification {
        let mut damages = self.damages.clone();
        damages.extend(self.damage_of_opening());
        let mut verification = Verification { messages: 0, bytes: 0, damages: Vec::new() };
        for (name, group) in groups_of(&mut self.store) {
            let store = group.stream_mut().store_mut();
            let mut from = 0;
            while let Some(block) = store.pin_block(from) {
                from = block.next;
                let mut reader = block.messages.read();
                loop {
                    let step = reader.verify(STEP);
                    verification.messages += step.msgs;
                    verification.bytes += step.bytes;
                    progress(&name, verification.bytes);
                    damages.extend(step.damaged.iter().map(|found| Damage::of_record(&name, found)));
                    damages
                        .extend(step.unread.iter().map(|error| Damage::of_stream(&name, error.to_string())));
                    for found in step.damaged {
                        store.mark_damaged(found.seq);
                    }
                    if step.is_done {
                        break;
                    }
                }
            }
        }
        verification.damages = damages;
        verification
    }

    /// What opening the groups came across.
    fn damage_of_opening(&self) -> Vec<Damage> {
        let mut damages = Vec::new();
        if let Some(error) = &self.store.made_anew {
            let what = format!("it is made anew from the logs of the streams: {error}");
            damages.push(Damage::of_stream("catalogue of streams", what));
        }
        let meta = [("catalogue of streams".to_owned(), &self.store.meta_found)];
        let mut lost = Vec::new();
        let streams = self.store.streams.iter().filter_map(|stream| {
            let name = report::full_name(&stream.assignment);
            match &stream.outcome {
                RestoreOutcome::Open(_, found) => Some((name, found)),
                RestoreOutcome::Ended(_) => None,
                RestoreOutcome::Lost(reason) => {
                    lost.push(Damage::of_stream(&name, format!("it cannot be recovered: {reason}")));
                    None
                }
            }
        });
        for (name, found) in meta.into_iter().chain(streams) {
            damages.extend(found.lost_in.iter().map(|(seq, file)| Damage::of_message(&name, *seq, file)));
            let harmless = "the index is damaged; the block is read instead";
            damages.extend(
                found.bad_indexes.iter().map(|file| Damage::of_file(file.clone(), harmless.to_owned())),
            );
            let harmless = "one of two copies of the state is damaged; the other is used";
            let half = found.half_state.iter();
            damages.extend(half.map(|file| Damage::of_file(file.clone(), harmless.to_owned())));
            damages.extend(found.losses().into_iter().map(|what| Damage::of_stream(&name, what)));
        }
        damages.extend(lost);
        damages.extend(self.store.unnamed.iter().map(|unnamed| {
            Damage::of_stream(
                &format!("group {}", unnamed.group),
                format!("its stream is unknown: {}", unnamed.reason),
            )
        }));
        if let Some(note) = &self.store.may_lack_streams {
            let what = "streams may be missing of which nothing is left".to_owned();
            damages.push(Damage::of_file(note.clone(), what));
        }
        // What is known from before is neither lost again nor alive.
        for (name, group) in open_groups(&self.store) {
            let store = group.stream().store();
            let known = store.damaged().iter().filter(|seq| store.subject_of(**seq).is_none());
            let told = |seq: &u64| {
                damages.iter().any(|d| d.sequence == Some(*seq) && d.stream.as_ref() == Some(&name))
            };
            let known: Vec<Damage> = known
                .filter(|seq| !told(seq))
                .map(|seq| Damage {
                    sequence: Some(*seq),
                    ..Damage::of_stream(&name, "lost to damage before".to_owned())
                })
                .collect();
            damages.extend(known);
        }
        damages
    }
}

/// The catalogue and the streams that are open.
fn open_groups(store: &RestoredStore) -> impl Iterator<Item = (String, &StreamGroup)> {
    let meta = [("catalogue of streams".to_owned(), &*store.meta)];
    let streams = store.streams.iter().filter_map(|stream| match &stream.outcome {
        RestoreOutcome::Open(group, _) => Some((report::full_name(&stream.assignment), &**group)),
        _ => None,
    });
    meta.into_iter().chain(streams)
}

/// The same, to be worked on.
fn groups_of(store: &mut RestoredStore) -> impl Iterator<Item = (String, &mut StreamGroup)> {
    let meta = [("catalogue of streams".to_owned(), &mut *store.meta)];
    let streams = store.streams.iter_mut().filter_map(|stream| match &mut stream.outcome {
        RestoreOutcome::Open(group, _) => Some((report::full_name(&stream.assignment), &mut **group)),
        _ => None,
    });
    meta.into_iter().chain(streams)
}

/// Where the store is that somebody means by `dir`.
fn store_dir(disk: &dyn Disk, dir: &Path) -> Result<PathBuf, OfflineError> {
    let below = dir.join("jetstream");
    for candidate in [dir, &below] {
        if Marker::is_there(disk, candidate) {
            return Ok(candidate.to_owned());
        }
    }
    Err(OfflineError::NoStore(dir.to_owned()))
}
