//! Ways to break the server's promises on purpose, so that the checks are known to notice.

use std::io;
use std::path::Path;
use std::sync::Arc;

use linnet_env::{DirEntry, Disk, DiskFile, DiskLock, OpenMode};

use crate::Mode;
use crate::process::Letter;

/// A deliberate fault of the server, put between it and its disk or its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Every sync answers success and does nothing.
    IgnoreSyncs,
    /// Groups hear that their entries are durable as soon as these are appended.
    AckBeforeCommit,
    /// The last record of a batch of several is written without its content.
    LoseLastRecord,
    /// Block and state files are not synced before the checkpoint that names them is recorded.
    CheckpointBeforeSync,
    /// What consumers did is never written.
    LoseConsumerDeltas,
    /// A checkpoint is recorded with the body of the one before.
    OldCheckpointBody,
    /// Directories are never synced.
    ForgetNames,
    /// Deletes and purges are applied and not written.
    LoseRemovals,
    /// A checkpoint is recorded although its last entry is not part of it.
    CheckpointTooFar,
    /// How far sequences may go is not recorded.
    ForgetFloors,
    /// A direct get of several messages leaves some out.
    SkipInReads,
    /// `MSG.GET` gives another message's time.
    WrongTimes,
    /// A purge tells a number of messages that it did not remove.
    MiscountPurges,
    /// What the state tells of subjects is another one's.
    MiscountSubjects,
    /// That a consumer began anew is not written.
    LoseResets,
    /// A new consumer's start is written one message too far.
    ShiftStarts,
    /// A pause is answered and does not begin.
    IgnorePauses,
    /// A client that works on a message gets it again.
    RedeliverInProgress,
    /// Deliveries tell a wrong number of messages behind them.
    MiscountPending,
    /// Deliveries without payload tell a wrong size of it.
    WrongSizes,
    /// Requests get one message more than they ask for.
    OverfillRequests,
    /// What requests say of their priority is not read.
    IgnorePriorities,
    /// What requests say of how much must be pending is not read.
    IgnoreOverflow,
    /// A pinned client is given up whenever somebody asks for messages.
    LosePins,
    /// Messages to which nobody listens count as delivered.
    LoseUnheard,
    /// Heartbeats tell another number of deliveries.
    WrongBeats,
    /// Fast batches are told that one message more is stored.
    AckFastAhead,
    /// Copies of messages go to nobody.
    LoseCopies,
    /// An encrypted store is written in the clear.
    PlainFiles,
    /// What a mirror or source hands on differs in its last byte.
    SpoilTaken,
    /// A message of a backup is not restored.
    LoseRestored,
}

impl Mutation {
    /// Every mutation.
    pub const ALL: [Self; 31] = [
        Self::IgnoreSyncs,
        Self::AckBeforeCommit,
        Self::LoseLastRecord,
        Self::CheckpointBeforeSync,
        Self::LoseConsumerDeltas,
        Self::OldCheckpointBody,
        Self::ForgetNames,
        Self::LoseRemovals,
        Self::CheckpointTooFar,
        Self::ForgetFloors,
        Self::SkipInReads,
        Self::WrongTimes,
        Self::MiscountPurges,
        Self::MiscountSubjects,
        Self::LoseResets,
        Self::ShiftStarts,
        Self::IgnorePauses,
        Self::RedeliverInProgress,
        Self::MiscountPending,
        Self::WrongSizes,
        Self::OverfillRequests,
        Self::IgnorePriorities,
        Self::IgnoreOverflow,
        Self::LosePins,
        Self::LoseUnheard,
        Self::WrongBeats,
        Self::AckFastAhead,
        Self::LoseCopies,
        Self::PlainFiles,
        Self::SpoilTaken,
        Self::LoseRestored,
    ];

    /// The faults that bring it to light.
    pub(crate) fn mode(self) -> Mode {
        match self {
            Self::ForgetFloors => Mode::Damage,
            _ => Mode::Faults,
        }
    }

    /// What a broken server reads of a client's message.
    pub(crate) fn spoil_letter(self, letter: &mut Letter) {
        match (self, letter) {
            (Self::RedeliverInProgress, Letter::Ack { payload, .. }) if payload.starts_with(b"+WPI") => {
                *payload = b"-NAK".to_vec();
            }
            (Self::IgnorePriorities, Letter::Next { payload, .. }) => forget_field(payload, "priority"),
            (Self::IgnoreOverflow, Letter::Next { payload, .. }) => forget_field(payload, "min_pending"),
            (Self::OverfillRequests, Letter::Next { payload, .. }) => {
                let mut request: serde_json::Value = serde_json::from_slice(payload).unwrap_or_default();
                request["batch"] = request["batch"].as_u64().map_or(2, |batch| batch + 1).into();
                *payload = request.to_string().into_bytes();
            }
            _ => {}
        }
    }
}

fn forget_field(request: &mut Vec<u8>, field: &str) {
    let mut read: serde_json::Value = serde_json::from_slice(request).unwrap_or_default();
    if read.as_object_mut().is_some_and(|fields| fields.remove(field).is_some()) {
        *request = read.to_string().into_bytes();
    }
}

/// A disk that passes everything on but the syncs and the names a mutation drops.
pub(crate) struct MutatedDisk {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) mutation: Mutation,
}

struct UnsyncedFile(Arc<dyn DiskFile>);

impl DiskFile for UnsyncedFile {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(out, offset)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn write_vectored_all_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        self.0.write_vectored_all_at(parts, offset)
    }

    fn write_zeros_at(&self, len: usize, offset: u64) -> io::Result<()> {
        self.0.write_zeros_at(len, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}

impl MutatedDisk {
    fn is_block(path: &Path) -> bool {
        path.components().any(|c| c.as_os_str() == "groups")
    }

    fn is_floor(path: &Path) -> bool {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.contains("floor."))
    }
}

impl Disk for MutatedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, mode)?;
        if self.mutation == Mutation::ForgetFloors && Self::is_floor(path) {
            self.disk.remove_file(path)?;
        }
        if self.mutation == Mutation::CheckpointBeforeSync && Self::is_block(path) {
            return Ok(Arc::new(UnsyncedFile(file)));
        }
        Ok(file)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dropped = match self.mutation {
            Mutation::ForgetNames => true,
            Mutation::CheckpointBeforeSync => Self::is_block(dir),
            _ => false,
        };
        if dropped { Ok(()) } else { self.disk.sync_dir(dir) }
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        self.disk.free_space(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        self.disk.lock(path)
    }
}
