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

/// Outcome of a [`GroupJob`], for [`StreamGroup::job_done`](crate::StreamGroup::job_done).
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
        match self {
            Self::Load(job) => GroupDone::Loaded(job.run()),
            // Why there is no directory says whether the job can be done later; that there is none does not.
            Self::Write(job, dir) => GroupDone::Written(match disk.create_dir_all(&dir) {
                Ok(()) => job.run(),
                Err(error) => job.fail(error),
            }),
            Self::Checkpoint(job, dir) => GroupDone::Checkpointed(match disk.create_dir_all(&dir) {
                Ok(()) => job.run(),
                Err(error) => job.fail(error),
            }),
            Self::Floor(job, dir) => GroupDone::FloorRecorded(job.run(disk, &dir)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use linnet_env::FaultyDisk;
    use linnet_ids::{GroupId, Wall};
    use linnet_store::{Kind, Seed, StreamStore, encode_record};

    use super::*;

    #[test]
    fn a_directory_that_cannot_be_made_now_is_waited_for() {
        let disk = FaultyDisk::new(1);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let (dir, seed) = (PathBuf::from("/groups/one"), Seed::of(GroupId::from_bytes([7; GroupId::LEN])));
        let mut store = StreamStore::new(Kind::File { disk: shared, dir: dir.clone() }, seed, 1, -1);
        let mut record = Vec::new();
        encode_record(&mut record, seed, 1, Wall(1), b"s", 0, b"x");
        store.append(&record);
        let work = |store: &mut StreamStore, disk: &FaultyDisk| {
            for job in store.take_writes(true) {
                let GroupDone::Written(done) = GroupJob::Write(job, dir.clone()).run(disk) else { panic!() };
                store.written(done);
            }
            let job = GroupJob::Checkpoint(Box::new(store.begin_checkpoint(b"").unwrap()), dir.clone());
            let GroupDone::Checkpointed(taken) = job.run(disk) else { panic!() };
            store.finish_checkpoint(taken).is_some()
        };
        disk.set_descriptors(false);
        assert!(!work(&mut store, &disk) && store.failure().is_none() && store.is_disk_full());
        disk.set_descriptors(true);
        assert!(work(&mut store, &disk) && !store.is_disk_full());
    }
}
