//! Groups whose log was damaged: what was handed out once is not handed out again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use linnet_assets::{Admitted, Advisory, Answer, Moment, Output, Place, Publish, StreamLimits, Token};
use linnet_env::{Disk, FaultyDisk};
use linnet_ids::{GroupId, Mono, StreamSeq, Wall};
use linnet_jsapi::StreamConfig;
use linnet_jsapi::policies::StorageType;
use linnet_store::{Kind, LoadJob};
use linnet_wal::{Batch, Config, HardState, Opened, StoreIdentity, Wal};

use super::{Opening, fresh, recover};
use crate::{Log, SoloGroup, Ticket};

const GROUP: GroupId = GroupId { epoch: 0, meta_index: 1, random: 7 };
const STORE: &str = "/store";

/// The batch that is written next.
#[derive(Default)]
struct NextBatch(Batch);

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

    fn end_group(&mut self, group: GroupId) -> Ticket {
        self.0.end_group(group);
        1
    }
}

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

fn group_dir() -> PathBuf {
    Path::new(STORE).join("group")
}

/// One life of a store with one stream.
struct Life {
    wal: Wal,
    group: SoloGroup,
    log: NextBatch,
    damaged: bool,
}

impl Life {
    fn begin(disk: &FaultyDisk) -> Self {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let config = Config { segment_bytes: 64 << 10, first_segment_bytes: 64 << 10, ..Config::default() };
        let identity = StoreIdentity { store_id: [1; 16] };
        let Opened { wal, groups, .. } = Wal::open(disk.clone(), Path::new(STORE), config, identity).unwrap();
        let config = StreamConfig {
            name: "S".to_owned(),
            subjects: vec!["a".to_owned()],
            max_msgs: -1,
            max_bytes: -1,
            max_msgs_per_subject: -1,
            storage: StorageType::File,
            ..StreamConfig::default()
        };
        let place = Place { server: "server".to_owned(), domain: String::new() };
        let mut log = NextBatch::default();
        let Some(recovered) = groups.iter().find(|g| g.group == GROUP) else {
            let kind = Kind::File { disk, dir: group_dir() };
            let group = fresh(GROUP, kind, config, Wall(1), place, Mono::default());
            return Self { wal, group, log, damaged: false };
        };
        let opening = Opening {
            group: GROUP,
            recovered: Some(recovered),
            wal: &wal,
            disk: &disk,
            dir: group_dir(),
            config,
            created: Wall(1),
            place,
            without_checkpoint: false,
            now: Mono::default(),
            wall: Wall(1),
        };
        let (group, restored) = recover(opening, &mut log).unwrap();
        Self { wal, group, log, damaged: restored.damage.is_some() }
    }

    /// Stores a message durably; its sequence.
    fn publish(&mut self) -> StreamSeq {
        let at = Moment { now: Mono::default(), wall: Wall(1), live: true };
        self.write(at);
        let publish = Publish { subject: b"a", reply: b"", header_len: 0, body: b"payload" };
        let stream = self.group.stream_mut();
        assert!(stream.admit(&publish, &StreamLimits::default(), at.wall, &mut Nobody) != Admitted::Wait);
        self.write(at);
        self.wal.seal().unwrap();
        self.group.stream().store().state().last_seq
    }

    fn write(&mut self, at: Moment) {
        self.group.flush(at, &mut self.log, &mut Nobody).unwrap();
        self.wal.commit(&mut self.log.0).unwrap();
        self.group.durable(1, at, &mut Nobody).unwrap();
    }

    /// The process ends, and the newest part of its log is gone.
    fn end_with_loss(self, disk: &FaultyDisk) {
        drop(self);
        disk.kill();
        let segments = disk.files_below(&Path::new(STORE).join("wal"));
        disk.lose_file(&segments.last().unwrap().0).unwrap();
    }
}

#[test]
fn no_sequence_is_used_again_however_often_the_end_of_the_log_is_lost() {
    let disk = FaultyDisk::new(1);
    let mut first = Life::begin(&disk);
    let mut highest = first.publish();
    assert_eq!(highest, 1);
    drop(first);
    disk.kill();
    for loss in 0..4 {
        let mut life = Life::begin(&disk);
        assert_eq!(life.damaged, loss > 0);
        for _ in 0..3 {
            let seq = life.publish();
            assert!(seq > highest, "{seq} was used before (up to {highest}), after {loss} losses");
            highest = seq;
        }
        life.end_with_loss(&disk);
    }
}

#[test]
fn a_damaged_group_remembers_what_it_skipped_before_anything_is_published() {
    let disk = FaultyDisk::new(1);
    let mut life = Life::begin(&disk);
    life.publish();
    drop(life);
    Life::begin(&disk).end_with_loss(&disk);
    let floors = |disk: &FaultyDisk| disk.files_below(&group_dir()).len();
    assert_eq!(floors(&disk), 0);
    Life::begin(&disk);
    assert_eq!(floors(&disk), 1, "remembered before anything is published");
    Life::begin(&disk);
    assert_eq!(floors(&disk), 1, "one is enough");
}
