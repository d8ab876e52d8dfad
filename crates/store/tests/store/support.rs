use std::path::PathBuf;

use linnet_env::{Disk, FaultyDisk};
use linnet_ids::{GroupId, StreamSeq, Wall};
use linnet_store::{Kind, Layout, Lookup, Seed, StreamStore, encode_record};

use crate::sealed::shared;

/// Sizes at which a handful of messages fills several blocks.
pub(crate) const SMALL: Layout = Layout {
    block_max: 700,
    rows_max: 12,
    extent: 200,
    squeeze_min: 60,
    read_ahead: 300,
    read_one: 90,
    cache_extents: 2,
    frame: 150,
};

pub(crate) fn seed() -> Seed {
    Seed::of(GroupId::from_bytes([7; GroupId::LEN]))
}

pub(crate) fn dir() -> PathBuf {
    PathBuf::from("/streams/one")
}

pub(crate) fn new_disk(number: u64) -> FaultyDisk {
    let disk = FaultyDisk::new(number);
    disk.create_dir_all(&dir()).unwrap();
    disk
}

pub(crate) fn file_kind(disk: &FaultyDisk) -> Kind {
    Kind::File { disk: shared(disk), dir: dir() }
}

pub(crate) fn record(
    seq: StreamSeq,
    timestamp: i64,
    subject: &str,
    headers: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let mut out = Vec::new();
    let body = [headers, payload].concat();
    encode_record(&mut out, seed(), seq, Wall(timestamp), subject.as_bytes(), headers.len(), &body);
    out
}

pub(crate) fn append(store: &mut StreamStore, seq: StreamSeq, subject: &str, payload: &[u8]) {
    store.append(&record(seq, i64::try_from(seq).unwrap() * 10, subject, b"", payload));
}

/// What a look-up came to after loading whatever it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Message { subject: Vec<u8>, headers: Vec<u8>, payload: Vec<u8>, timestamp: i64 },
    Missing,
    Damaged,
    Repairing,
}

pub(crate) fn get(store: &mut StreamStore, seq: StreamSeq, in_order: bool) -> Got {
    for _ in 0..3 {
        let looked_up = if in_order { store.get(seq, true) } else { store.get_one(seq) };
        match looked_up {
            Lookup::Found(found) => {
                assert_eq!(found.seq, seq);
                return Got::Message {
                    subject: found.subject.to_vec(),
                    headers: found.headers.to_vec(),
                    payload: found.payload.to_vec(),
                    timestamp: found.timestamp.0,
                };
            }
            Lookup::Missing => return Got::Missing,
            Lookup::Damaged => return Got::Damaged,
            Lookup::Repairing => return Got::Repairing,
            Lookup::Cold(job) => {
                assert_eq!(job.seq(), seq);
                // An error shows in the next look-up.
                let _ = store.loaded(job.run());
            }
        }
    }
    panic!("message {seq} stays cold");
}

/// Writes, syncs and records everything; the files that may go are removed.
pub(crate) fn checkpoint(store: &mut StreamStore, disk: &FaultyDisk) -> linnet_store::CheckpointBody {
    let job = store.begin_checkpoint(b"extra").expect("a checkpoint can start");
    let (body, removable) = store.finish_checkpoint(job.run()).expect("the checkpoint succeeds");
    for path in removable.into_iter().filter(|path| disk.exists(path).unwrap()) {
        disk.remove_file(&path).unwrap();
    }
    body
}

pub(crate) fn write_all(store: &mut StreamStore) {
    for job in store.take_writes(true) {
        store.written(job.run());
    }
}
