//! Snapshots of streams and restoring from them (jetstream, "Snapshot and restore").
//!
//! Each runs as a task of its own behind the answer to its request. What touches the disk or computes runs on the
//! runtime's blocking threads. A snapshot reads the stream as it was when it began, while the stream goes on; a restore
//! stores what it is sent through the log of a group that nobody sees before it is complete.

mod consumer;
mod feed;
mod incoming;
mod restore;
mod slots;
mod snapshot;
mod window;

pub(crate) use restore::{RestoreJob, RestoreOrder};
pub(crate) use slots::{Kind, Slot, Slots};
pub(crate) use snapshot::{SnapshotJob, SnapshotOrder};

/// What goes on behind the answer to a request.
pub(crate) enum Job {
    Snapshot(Box<SnapshotJob>),
    Restore(Box<RestoreJob>),
}

impl Job {
    pub(crate) fn start(self) {
        match self {
            Self::Snapshot(job) => drop(tokio::spawn(job.run())),
            Self::Restore(job) => drop(tokio::task::spawn_blocking(|| job.run())),
        }
    }
}
