//! Recovery of the log: a small log with any bytes written over it opens or is refused, and never gives a wrong entry.

use std::path::Path;
use std::sync::Arc;

use linnet_env::{Disk, FaultyDisk, OpenMode};
use linnet_ids::GroupId;
use linnet_wal::{Batch, Config, StoreIdentity, Wal};

const ENTRIES: u64 = 8;

fn config() -> Config {
    Config {
        segment_bytes: 64 << 10,
        first_segment_bytes: 64 << 10,
        max_bytes: 1 << 20,
        reserve_segments: 0,
        ahead_after: 0,
    }
}

fn payload(index: u64) -> Vec<u8> {
    vec![index as u8; 100 + index as usize]
}

/// The first four bytes say where the others go.
pub fn run(bytes: &[u8]) {
    let Some((place, damage)) = bytes.split_first_chunk::<4>() else { return };
    let disk = FaultyDisk::new(1);
    let shared: Arc<dyn Disk> = Arc::new(disk);
    let dir = Path::new("/store");
    shared.create_dir_all(dir).expect("a healthy disk");
    let identity = StoreIdentity { store_id: [7; 16] };
    let group = GroupId { epoch: 0, meta_index: 1, random: 9 };
    let mut opened = Wal::open(shared.clone(), dir, config(), identity).expect("a fresh log");
    for index in 1..=ENTRIES {
        let mut batch = Batch::new();
        batch.entry(group, index, 1, &[&payload(index)]);
        opened.wal.commit(&mut batch).expect("a healthy disk");
    }
    drop(opened);
    let wal = dir.join("wal");
    let files = shared.list(&wal).expect("a healthy disk");
    let position = u32::from_le_bytes(*place);
    let Some(entry) = files.get(position as usize % files.len().max(1)) else { return };
    let file = shared.open(&wal.join(&entry.name), OpenMode::ReadWrite).expect("a healthy disk");
    let offset = u64::from(position >> 2) % entry.len.max(1);
    let len = damage.len().min(usize::try_from(entry.len - offset).unwrap_or(0));
    file.write_all_at(&damage[..len], offset).expect("a healthy disk");
    drop(file);
    let Ok(opened) = Wal::open(shared, dir, config(), identity) else { return };
    for entry in opened.wal.entries(group).flatten() {
        assert_eq!(entry.payload, payload(entry.index), "a wrong entry was served");
    }
}
