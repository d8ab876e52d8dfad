//! For tests: lives of a store with one stream.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use linnet_assets::{Command, Moment, Nobody, Place, Publish, StreamLimits};
use linnet_env::{Disk, FaultyDisk};
use linnet_ids::{GroupId, Mono, PeerId, StreamSeq, Wall};
use linnet_jsapi::StreamConfig;
use linnet_jsapi::policies::StorageType;
use linnet_raft::LogPoint;
use linnet_store::Kind;
use linnet_wal::{Batch, Config, HardState, Opened, StoreIdentity, Wal};

use super::{Opening, fresh, recover};
use crate::{GroupDone, Log, StreamGroup, Ticket};

pub(crate) const GROUP: GroupId = GroupId { epoch: 0, meta_index: 1, random: 7 };
const STORE: &str = "/store";
/// Bytes of a sector of the disk.
const SECTOR: u64 = 512;

/// The batch that is written next.
#[derive(Default)]
pub(crate) struct NextBatch(pub(crate) Batch);

impl Log for NextBatch {
    fn append(&mut self, group: GroupId, index: u64, term: u64, payload: &[u8]) -> Ticket {
        self.0.entry(group, index, term, &[payload]);
        1
    }

    fn hard_state(&mut self, group: GroupId, state: &HardState) -> Ticket {
        self.0.hard_state(group, state);
        1
    }

    fn checkpoint(&mut self, group: GroupId, applied: u64, term: u64, body: &[u8]) -> Ticket {
        self.0.checkpoint(group, applied, term, body);
        1
    }

    fn append_with_state(
        &mut self,
        group: GroupId,
        index: u64,
        term: u64,
        payload: &[u8],
        state: &HardState,
    ) -> Ticket {
        self.0.entry(group, index, term, &[payload]);
        self.0.hard_state(group, state);
        1
    }

    fn install(&mut self, group: GroupId, last: LogPoint, body: &[u8], state: &HardState) -> Ticket {
        self.0.install(group, last.index, last.term, last.chain, body);
        self.0.hard_state(group, state);
        1
    }

    fn end_group(&mut self, group: GroupId) -> Ticket {
        self.0.end_group(group);
        1
    }
}

/// Paths of the files in the stream's directory.
pub(crate) fn stream_files(disk: &FaultyDisk) -> Vec<PathBuf> {
    disk.files_below(&group_dir()).into_iter().map(|(path, _)| path).collect()
}

pub(crate) fn group_dir() -> PathBuf {
    Path::new(STORE).join("group")
}

/// Sequences that a replica reserves at a time.
pub(crate) const REPLICA_STEP: StreamSeq = 8;

/// One life of a store with one stream.
pub(crate) struct Life {
    pub(crate) group: StreamGroup,
    pub(crate) damaged: bool,
    disk: FaultyDisk,
    wal: Wal,
    log: NextBatch,
    now: Mono,
}

impl Life {
    /// Opens the store; its stream reserves sequences `floor_step` at a time.
    pub(crate) fn begin(disk: &FaultyDisk, floor_step: StreamSeq) -> Self {
        Self::begin_with(disk, floor_step, 0, || ())
    }

    /// As [`Life::begin`], for a stream whose configuration asks for a first sequence.
    pub(crate) fn begin_at(disk: &FaultyDisk, floor_step: StreamSeq, first_seq: StreamSeq) -> Self {
        Self::begin_with(disk, floor_step, first_seq, || ())
    }

    /// As [`Life::begin_at`]; something happens once the log is verified.
    pub(crate) fn begin_with(
        faulty: &FaultyDisk,
        floor_step: StreamSeq,
        first_seq: StreamSeq,
        happens: impl FnOnce(),
    ) -> Self {
        let disk: Arc<dyn Disk> = Arc::new(faulty.clone());
        let config = Config { segment_bytes: 1 << 20, first_segment_bytes: 1 << 20, ..Config::default() };
        let identity = StoreIdentity { store_id: [1; 16] };
        let Opened { wal, groups, .. } = Wal::open(disk.clone(), Path::new(STORE), config, identity).unwrap();
        happens();
        let config = StreamConfig {
            name: "S".to_owned(),
            subjects: vec!["a".to_owned()],
            max_msgs: -1,
            max_bytes: -1,
            max_msgs_per_subject: -1,
            storage: StorageType::File,
            first_seq,
            ..StreamConfig::default()
        };
        let place = Place { server: "server".to_owned(), ..Place::default() };
        let mut log = NextBatch::default();
        let now = Mono::default();
        let (group, damaged) = match groups.iter().find(|g| g.group == GROUP) {
            None => {
                let kind = Kind::File { disk, dir: group_dir() };
                (fresh(GROUP, kind, config, Wall(1), place, floor_step, now), false)
            }
            recovered => {
                let opening = Opening {
                    group: GROUP,
                    recovered,
                    wal: &wal,
                    disk: &disk,
                    dir: group_dir(),
                    config,
                    created: Wall(1),
                    without_checkpoint: false,
                    place,
                    floor_step,
                    now,
                    wall: Wall(1),
                };
                let (group, restored) = recover(opening, &mut log).unwrap();
                (group, restored.damage.is_some())
            }
        };
        let mut life = Self { group, damaged, disk: faulty.clone(), wal, log, now };
        life.write();
        life
    }

    /// Where its log ends.
    pub(crate) fn log_end(&self) -> LogPoint {
        let index = self.wal.last_index(GROUP);
        let (term, chain) = (self.wal.term(GROUP, index).unwrap(), self.wal.chain(GROUP, index).unwrap());
        LogPoint { index, term, chain }
    }

    /// Opens the store as that of a server in a cluster: the group as the replica that its log says it is. `None` if it
    /// says that the group has one voter and no consensus.
    pub(crate) fn begin_as_replica(faulty: &FaultyDisk, me: PeerId) -> Option<Self> {
        let disk: Arc<dyn Disk> = Arc::new(faulty.clone());
        let config = Config { segment_bytes: 1 << 20, first_segment_bytes: 1 << 20, ..Config::default() };
        let identity = StoreIdentity { store_id: [1; 16] };
        let Opened { wal, groups, .. } = Wal::open(disk.clone(), Path::new(STORE), config, identity).unwrap();
        let recovered = groups.iter().find(|g| g.group == GROUP);
        let state = recovered.and_then(|r| r.hard_state.as_ref())?;
        if state.membership.is_empty() {
            return None;
        }
        let now = Mono::default();
        let opening = Opening {
            group: GROUP,
            recovered,
            wal: &wal,
            disk: &disk,
            dir: group_dir(),
            config: StreamConfig::default(),
            created: Wall(1),
            without_checkpoint: false,
            place: Place::default(),
            floor_step: REPLICA_STEP,
            now,
            wall: Wall(1),
        };
        let (stream, node, found) = crate::raft::open_stream_replica(&opening, me, 1).unwrap();
        let skip_to = super::behind_lost_log(&opening, &node, &stream, &found).unwrap();
        let damaged = node.may_have_forgotten;
        let mut log = NextBatch::default();
        let group = StreamGroup::replica(node, stream, None, now, &mut log);
        let group = group.reserving(REPLICA_STEP, found.floor, skip_to);
        Some(Self { group, damaged, disk: faulty.clone(), wal, log, now })
    }

    /// Lets the group act and makes durable what it writes, so often.
    pub(crate) fn turn(&mut self, times: usize) {
        for _ in 0..times {
            if self.group.next_due().is_some_and(|due| due <= self.now) {
                let at = self.at();
                self.group.on_timer(at, &mut self.log, &mut Nobody);
            }
            self.write();
        }
    }

    fn at(&self) -> Moment {
        Moment { now: self.now, wall: Wall(1), live: true }
    }

    /// Offers so many messages and makes durable what is admitted: how many.
    pub(crate) fn offer(&mut self, count: usize) -> usize {
        let publish = Publish { subject: b"a", reply: b"", header_len: 0, body: b"payload", origin: None };
        let publishes = std::iter::repeat_n(publish, count);
        let (admitted, _) = self.group.offer(publishes, &StreamLimits::default(), self.at(), &mut Nobody);
        self.write();
        admitted
    }

    /// Stores a message durably, after a higher floor if it needs one; its sequence.
    pub(crate) fn publish(&mut self) -> StreamSeq {
        if self.offer(1) == 0 {
            assert!(self.raise_floor(), "a message waits and no floor is to be recorded");
            assert_eq!(self.offer(1), 1);
        }
        self.raise_floor();
        self.last_seq()
    }

    pub(crate) fn last_seq(&self) -> StreamSeq {
        self.group.stream().store().state().last_seq
    }

    /// Records a higher floor, if the stream wants that now.
    pub(crate) fn raise_floor(&mut self) -> bool {
        let Some(job) = self.group.begin_floor(self.now) else { return false };
        let done = job.run(&self.disk, &group_dir());
        self.job_done(GroupDone::FloorRecorded(done));
        true
    }

    pub(crate) fn job_done(&mut self, done: GroupDone) {
        let at = self.at();
        self.group.job_done(done, at, &mut self.log, &mut Nobody);
    }

    /// Carries out a command.
    pub(crate) fn command(&mut self, command: Command) {
        let at = self.at();
        self.group.stream_mut().command(command, 1, at, &mut Nobody);
        self.write();
    }

    /// Lets time pass until the group wants to be looked at.
    pub(crate) fn pass_time(&mut self) {
        self.now = self.group.next_due().unwrap().max(self.now);
        let at = self.at();
        self.group.on_timer(at, &mut self.log, &mut Nobody);
    }

    fn write(&mut self) {
        let at = self.at();
        self.group.flush(at, &mut self.log, &mut Nobody).unwrap();
        self.wal.commit(&mut self.log.0).unwrap();
        self.group.durable(1, at, &mut self.log, &mut Nobody).unwrap();
        self.wal.seal().unwrap();
    }

    /// The process ends; what it wrote stays.
    pub(crate) fn end(self) {
        let disk = self.disk.clone();
        drop(self);
        disk.kill();
    }

    /// The process ends, and the newest part of its log is gone.
    pub(crate) fn end_with_loss(self) {
        let disk = self.disk.clone();
        self.end();
        lose_newest_segment(&disk);
    }
}

/// The oldest part of the log cannot be read any more.
pub(crate) fn make_oldest_segment_unreadable(disk: &FaultyDisk) {
    let (path, len) = segments(disk).remove(0);
    (0..len / SECTOR).for_each(|sector| disk.make_sector_unreadable(&path, sector).unwrap());
}

/// The oldest part of the log goes.
pub(crate) fn lose_oldest_segment(disk: &FaultyDisk) {
    lose(disk, segments(disk).first());
}

/// The newest part of the log goes.
pub(crate) fn lose_newest_segment(disk: &FaultyDisk) {
    lose(disk, segments(disk).last());
}

fn segments(disk: &FaultyDisk) -> Vec<(PathBuf, u64)> {
    disk.files_below(&Path::new(STORE).join("wal"))
}

fn lose(disk: &FaultyDisk, segment: Option<&(PathBuf, u64)>) {
    disk.lose_file(&segment.unwrap().0).unwrap();
}
