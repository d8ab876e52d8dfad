//! Opening a server's store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use linnet_assets::{Place, Stream};
use linnet_env::{Disk, FaultyDisk};
use linnet_ids::{GroupId, Mono, PeerId, Wall};
use linnet_jsapi::policies::{Compression, StorageType};
use linnet_jsapi::{Nanos, StreamConfig};
use linnet_raft::Opening as NodeOpening;
use linnet_replication::raft::open_stream_replica;
use linnet_replication::{FLOOR_STEP, Opening, StreamGroup};
use linnet_store::{Kind, Layout, Seed, StreamStore};
use linnet_wal::{Config, Opened, StoreIdentity, Wal};

use super::ReplicaMutation;
use crate::field::{STORE, WalQueue};

pub(super) const GROUP: GroupId = GroupId { epoch: 0, meta_index: 5, random: 43 };
/// Wall clock when the simulated clock is at zero.
const START: i64 = 1_700_000_000_000_000_000;

pub(super) fn dir() -> PathBuf {
    Path::new(STORE).join("group")
}

pub(super) fn wall(now: Mono) -> Wall {
    Wall(START.saturating_add(i64::try_from(now.0).unwrap_or(i64::MAX)))
}

fn config(seed: u64) -> StreamConfig {
    StreamConfig {
        name: "S".to_owned(),
        subjects: vec!["s.>".to_owned()],
        max_msgs: if seed.is_multiple_of(3) { 150 } else { -1 },
        max_bytes: -1,
        max_msgs_per_subject: -1,
        max_consumers: -1,
        max_msg_size: -1,
        allow_msg_ttl: true,
        duplicate_window: Nanos::from_secs(120),
        storage: StorageType::File,
        num_replicas: 3,
        compression: if seed.is_multiple_of(2) { Compression::S2 } else { Compression::None },
        ..StreamConfig::default()
    }
}

/// Sizes at which a handful of messages fills several blocks.
pub(super) fn layout() -> Layout {
    Layout { block_max: 4 << 10, rows_max: 40, extent: 1 << 10, squeeze_min: 600, ..Layout::default() }
}

/// How a server is opened.
pub(super) struct Start<'a> {
    pub(super) me: PeerId,
    pub(super) disk: &'a FaultyDisk,
    pub(super) store_id: [u8; 16],
    /// What a replica begins as that has nothing of the group and never had.
    pub(super) founding: Option<NodeOpening>,
    pub(super) boot: u64,
    /// Seed of the stream's configuration.
    pub(super) seed: u64,
    pub(super) mutation: Option<ReplicaMutation>,
}

/// Opens the store: the replica and the log, or why it cannot be opened.
pub(super) fn open(start: &Start<'_>, now: Mono, queue: &mut WalQueue) -> Result<(StreamGroup, Wal), String> {
    let Start { me, disk, store_id, ref founding, boot, seed, .. } = *start;
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let limits = Config {
        segment_bytes: 256 << 10,
        first_segment_bytes: 64 << 10,
        max_bytes: 4 << 20,
        reserve_segments: 1,
        ahead_after: 16 << 10,
    };
    let opened = Wal::open(shared.clone(), Path::new(STORE), limits, StoreIdentity { store_id });
    let Opened { wal, groups, .. } = opened.map_err(|e| e.to_string())?;
    disk.create_dir_all(&dir()).map_err(|e| e.to_string())?;
    let recovered = groups.iter().find(|g| g.group == GROUP);
    let (stream, node) = match founding.clone().filter(|_| recovered.is_none()) {
        Some(founding) => {
            let kind = Kind::File { disk: shared, dir: dir() };
            let store = StreamStore::new(kind, Seed::of(GROUP), 0, -1);
            let stream = Stream::new(config(seed), wall(Mono(0)), Place::default(), store, Vec::new(), now);
            (stream, NodeOpening { seed: boot, ..founding })
        }
        None => {
            let opening = Opening {
                group: GROUP,
                recovered,
                wal: &wal,
                disk: &shared,
                dir: dir(),
                config: config(seed),
                created: wall(Mono(0)),
                without_checkpoint: false,
                place: Place::default(),
                floor_step: FLOOR_STEP,
                now,
                wall: wall(now),
            };
            let (stream, node, found) = open_stream_replica(&opening, me, boot).map_err(|e| e.to_string())?;
            if !found.lost.is_empty() || !found.ruined.is_empty() {
                return Err(format!("lost at opening: {:?} {:?}", found.lost, found.ruined));
            }
            for path in &found.strays {
                disk.remove_file(path).map_err(|e| e.to_string())?;
            }
            (stream, node)
        }
    };
    Ok((StreamGroup::replica(node, stream, None, now, queue), wal))
}
