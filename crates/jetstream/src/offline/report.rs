//! What is told of a store.

use std::path::{Path, PathBuf};

use linnet_env::{DirEntry, Disk};
use linnet_jsapi::policies::StorageType;
use linnet_replication::{Assignment, RestoreOutcome, group_dir};
use linnet_store::DamagedRecord;
use linnet_wal::FoundDamage;
use serde::Serialize;

use super::{OfflineError, OfflineStore};

/// Something that is damaged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// In which file, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Where in the file, as the engines count: behind the header of an encrypted file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Account and name of the stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// The message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// What is wrong.
    pub what: String,
}

impl Damage {
    pub(super) fn of_file(file: PathBuf, what: String) -> Self {
        Self { file: Some(file), offset: None, stream: None, sequence: None, what }
    }

    pub(super) fn of_stream(stream: &str, what: String) -> Self {
        Self { file: None, offset: None, stream: Some(stream.to_owned()), sequence: None, what }
    }

    pub(super) fn of_log(dir: &Path, found: &FoundDamage) -> Self {
        let file = dir.join("wal").join(format!("{:010}.wal", found.segment));
        let what = format!("the write-ahead log is damaged: {:?}", found.kind);
        Self { offset: Some(found.offset), ..Self::of_file(file, what) }
    }

    pub(super) fn of_record(stream: &str, found: &DamagedRecord) -> Self {
        Self { offset: Some(found.offset), ..Self::of_message(stream, found.seq, &found.file) }
    }

    pub(super) fn of_message(stream: &str, seq: u64, file: &Path) -> Self {
        Self {
            file: Some(file.to_owned()),
            sequence: Some(seq),
            ..Self::of_stream(stream, "the message is damaged".to_owned())
        }
    }
}

/// What reading everything came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Intact messages in blocks.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is damaged.
    pub damages: Vec<Damage>,
}

/// What a store consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// Its directory.
    pub directory: PathBuf,
    /// Its id.
    pub store_id: String,
    /// Version of its layout.
    pub format: u32,
    /// How often it was opened.
    pub opened: u64,
    /// It was closed in order.
    pub clean: bool,
    /// Its files are encrypted.
    pub encrypted: bool,
    /// Segments of the log.
    pub segments: Vec<SegmentFile>,
    /// Streams in files and memory.
    pub streams: Vec<StreamFiles>,
    /// Groups of which nobody knows the stream.
    pub unnamed: Vec<String>,
    /// What showed at once; `verify` reads everything.
    pub damages: Vec<Damage>,
}

/// A file of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SegmentFile {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// A stream of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamFiles {
    /// Account.
    pub account: String,
    /// Name.
    pub stream: String,
    /// Group, which is the name of its directory.
    pub group: String,
    /// Its messages are in memory only.
    pub memory: bool,
    /// Messages.
    pub messages: u64,
    /// Bytes as the server accounts for them.
    pub bytes: u64,
    /// First sequence.
    pub first_seq: u64,
    /// Last sequence.
    pub last_seq: u64,
    /// Consumers.
    pub consumers: u64,
    /// Block files.
    pub blocks: u64,
    /// Messages that are known to be damaged.
    pub damaged: u64,
    /// Why it cannot be recovered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
}

/// Account and name, as logs have them.
pub(super) fn full_name(assignment: &Assignment) -> String {
    format!("{} > {}", assignment.account, assignment.config.name)
}

/// The files of the log.
pub(super) fn segments(disk: &dyn Disk, dir: &Path) -> Result<Vec<SegmentFile>, OfflineError> {
    let files = files(disk, &dir.join("wal"), ".wal")?.into_iter();
    Ok(files.map(|e| SegmentFile { name: e.name, bytes: e.len }).collect())
}

fn files(disk: &dyn Disk, dir: &Path, ending: &str) -> Result<Vec<DirEntry>, OfflineError> {
    match disk.list(dir) {
        Ok(entries) => Ok(entries.into_iter().filter(|e| !e.is_dir && e.name.ends_with(ending)).collect()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(OfflineError::Io { path: dir.to_owned(), source }),
    }
}

pub(super) fn inspect(store: &OfflineStore) -> Result<Inspection, OfflineError> {
    let mut streams = Vec::new();
    for stream in &store.store.streams {
        let Assignment { account, config, .. } = &stream.assignment;
        let blocks = files(&*store.disk, &group_dir(&store.dir, stream.group), ".blk")?.len() as u64;
        let mut told = StreamFiles {
            account: account.clone(),
            stream: config.name.clone(),
            group: stream.group.to_string(),
            memory: config.storage == StorageType::Memory,
            blocks,
            ..StreamFiles::default()
        };
        match &stream.outcome {
            RestoreOutcome::Open(group, _) => {
                let state = group.stream().store().state();
                (told.messages, told.bytes) = (state.msgs, state.bytes);
                (told.first_seq, told.last_seq) = (state.first_seq, state.last_seq);
                told.consumers = group.stream().consumer_count() as u64;
                told.damaged = group.stream().store().damaged().len() as u64;
            }
            RestoreOutcome::Lost(reason) => told.lost = Some(reason.clone()),
            RestoreOutcome::Ended(_) => continue,
        }
        streams.push(told);
    }
    let mut damages = store.damages.clone();
    damages.extend(store.damage_of_opening());
    Ok(Inspection {
        directory: store.dir.clone(),
        store_id: store.marker.store_id.clone(),
        format: store.marker.format,
        opened: store.marker.opened,
        clean: store.marker.clean,
        encrypted: store.marker.encryption.is_some(),
        segments: store.segments.clone(),
        streams,
        unnamed: store.store.unnamed.iter().map(|unnamed| unnamed.group.to_string()).collect(),
        damages,
    })
}
