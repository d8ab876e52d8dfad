use std::path::PathBuf;

use linnet_env::Disk;
use linnet_store::{CheckpointJob, CheckpointTaken, LoadDone, LoadJob, WriteDone, WriteJob};

use crate::floor::{FloorDone, FloorJob};

/// Work of a group for a disk thread. Paths are the group's directory, which the first job makes.
pub enum GroupJob {
    /// Read a part of a block.
    Load(LoadJob),
    /// Write parts of a block.
    Write(WriteJob, PathBuf),
    /// Make blocks and state durable.
    Checkpoint(Box<CheckpointJob>, PathBuf),
    /// Record how far sequences may go.
    Floor(FloorJob, PathBuf),
}

/// Outcome of a [`GroupJob`], for [`SoloGroup::job_done`](crate::SoloGroup::job_done).
pub enum GroupDone {
    /// Of a load.
    Loaded(LoadDone),
    /// Of a write.
    Written(WriteDone),
    /// Of a checkpoint.
    Checkpointed(CheckpointTaken),
    /// Of recording a floor.
    FloorRecorded(FloorDone),
}

impl GroupJob {
    /// Bytes that it takes of the disk, as far as that is known.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Load(_) | Self::Floor(..) => 0,
            Self::Write(job, _) => job.len() as u64,
            Self::Checkpoint(job, _) => job.bytes(),
        }
    }

    /// Does not do the work, because the disk has no space to spare for it. What takes no space is done all the same.
    pub fn refuse(self, disk: &dyn Disk) -> GroupDone {
        match self {
            Self::Write(job, _) => GroupDone::Written(job.refuse()),
            Self::Checkpoint(job, _) => GroupDone::Checkpointed(job.refuse()),
            Self::Load(_) | Self::Floor(..) => self.run(disk),
        }
    }

    /// Does the work.
    pub fn run(self, disk: &dyn Disk) -> GroupDone {
        // A failure shows in the job that needs the directory.
        let ensure = |dir: PathBuf| {
            if let Err(error) = disk.create_dir_all(&dir) {
                tracing::warn!("Creating {}: {error}", dir.display());
            }
        };
        match self {
            Self::Load(job) => GroupDone::Loaded(job.run()),
            Self::Write(job, dir) => {
                ensure(dir);
                GroupDone::Written(job.run())
            }
            Self::Checkpoint(job, dir) => {
                ensure(dir);
                GroupDone::Checkpointed(job.run())
            }
            Self::Floor(job, dir) => GroupDone::FloorRecorded(job.run(disk, &dir)),
        }
    }
}
