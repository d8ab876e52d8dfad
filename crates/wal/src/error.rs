use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use linnet_ids::GroupId;

use crate::format::{Lsn, SegmentNo};

/// Why the log could not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A write or sync failed. Final for this opening: every later call answers the same.
    #[error("the write-ahead log stopped: {0}")]
    Stopped(Arc<Failure>),
    /// No space for a new segment. Nothing was written; the same batch may be tried again later.
    #[error("no space for a new segment of the write-ahead log in {}", .path.display())]
    DiskFull {
        /// Directory of the segments.
        path: PathBuf,
    },
    /// No space for the segment that opening begins, and none that was made ahead. Nothing was written.
    #[error(
        "opening the write-ahead log in {} takes {bytes} bytes of disk space for a new segment, {free} are free",
        .path.display()
    )]
    NoSpaceToOpen {
        /// Directory of the segments.
        path: PathBuf,
        /// Least size of the segment.
        bytes: u64,
        /// What the disk still has.
        free: u64,
    },
    /// The log is as large as it may become. Nothing was written; checkpoint or rewrite, then try again.
    #[error("the write-ahead log holds {live_bytes} of at most {max_bytes} bytes")]
    Full {
        /// Bytes of segments still needed.
        live_bytes: u64,
        /// Configured bound.
        max_bytes: u64,
    },
    /// The batch does not fit a segment. Nothing was written.
    #[error("a batch of {bytes} bytes does not fit a segment, which takes {max}")]
    TooLarge {
        /// Size on disk the batch would have.
        bytes: u64,
        /// Largest size on disk of a batch.
        max: u64,
    },
    /// The batch contradicts the log. Nothing was written.
    #[error("group {group}: {refusal}")]
    Refused {
        /// Group of the offending record.
        group: GroupId,
        /// What is wrong with it.
        refusal: Refusal,
    },
    /// An entry or checkpoint body is there by its directory, but its stored bytes do not verify.
    #[error("group {group}: index {index} is damaged in segment {segment} at byte {offset}")]
    Damaged {
        /// Group of the entry.
        group: GroupId,
        /// Index of the entry; of a checkpoint, its applied index.
        index: u64,
        /// Segment that holds it, or held it when it was found damaged.
        segment: SegmentNo,
        /// Byte offset of the payload.
        offset: u64,
    },
    /// The log holds no entry of this index although it holds later ones.
    #[error("group {group}: entry {index} is lost")]
    Lost {
        /// Group of the entry.
        group: GroupId,
        /// Index of the entry.
        index: u64,
    },
    /// Segments exist, but none of them can be read as part of this store's log.
    #[error("nothing can be read of the write-ahead log: {} is damaged at byte {offset}", .path.display())]
    Unreadable {
        /// The newest segment.
        path: PathBuf,
        /// Where reading failed.
        offset: u64,
    },
    /// A segment was written by a version of the format that this one does not know.
    #[error("{} has format version {found}", .path.display())]
    Version {
        /// The segment.
        path: PathBuf,
        /// Its version.
        found: u16,
    },
    /// The configuration is out of bounds.
    #[error(
        "segment_bytes must be a multiple of 4096 from 65536 to 1073741824, first_segment_bytes one up to it, and \
         max_bytes at least four segments"
    )]
    Config,
    /// The file system refused something that is not the writing of a batch.
    #[error("{action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        source: Arc<io::Error>,
    },
}

impl Error {
    /// True if the same call may succeed later as things are.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::NoSpaceToOpen { .. } | Self::Full { .. })
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source: Arc::new(source) }
    }

    /// As [`Error::io`], but lack of space becomes the retryable [`Error::DiskFull`].
    pub(crate) fn space_or_io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Io { action, path, source: Arc::new(source) },
        }
    }
}

/// The failure that stopped the log.
#[derive(Debug, thiserror::Error)]
#[error("{action} at byte {offset} of {}, batch {}: {source}", .path.display(), .lsn.0)]
pub struct Failure {
    /// What failed.
    pub action: &'static str,
    /// The segment.
    pub path: PathBuf,
    /// Where the batch begins.
    pub offset: u64,
    /// The batch; it may or may not be found when the log is opened again.
    pub lsn: Lsn,
    /// The answer of the file system.
    pub source: io::Error,
}

/// How a batch contradicts the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An entry would leave a gap.
    #[error("entry {index} would follow entry {last}")]
    Gap {
        /// Index of the entry.
        index: u64,
        /// Last index of the group.
        last: u64,
    },
    /// An entry would replace what a checkpoint has made permanent.
    #[error("entry {index} would replace applied entry {applied}")]
    BelowApplied {
        /// Index of the entry.
        index: u64,
        /// Applied index of the newest checkpoint.
        applied: u64,
    },
    /// A checkpoint names an entry that is not in the log, or another term for it.
    #[error("the checkpoint at {applied} names an entry that the log does not hold in that term")]
    UnknownPosition {
        /// Applied index of the refused checkpoint.
        applied: u64,
    },
    /// A restored entry is not the one the log was given.
    #[error("entry {index} to restore is not the one that was written")]
    OtherEntry {
        /// Index of the entry.
        index: u64,
    },
    /// A checkpoint is older than the newest one.
    #[error("the checkpoint at {applied} is older than the one at {newest}")]
    OlderCheckpoint {
        /// Applied index of the refused checkpoint.
        applied: u64,
        /// Applied index of the newest checkpoint.
        newest: u64,
    },
    /// A membership value is longer than 64 KiB.
    #[error("a membership value of {bytes} bytes is too long")]
    LongMembership {
        /// Its length.
        bytes: usize,
    },
}
