//! Prints what the store costs: `cargo run --release -p linnet-store --example store_speed`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring program")]

use std::sync::Arc;

use linnet_env::{Clock, Disk, OsRng, RealClock, RealDisk};
use linnet_ids::{GroupId, Wall};
use linnet_seal::{Cipher, KeyRing, MasterKey, SealedDisk};
use linnet_store::{Filter, Kind, Lookup, Seed, StreamStore, encode_record};

const MESSAGES: u64 = 2_000_000;

struct Watch(RealClock);

impl Watch {
    /// Runs `work`, prints nanoseconds for each of `count`.
    fn time<T>(&self, what: &str, count: u64, work: impl FnOnce() -> T) -> T {
        let start = self.0.mono();
        let out = work();
        let nanos = self.0.mono().0 - start.0;
        println!("{what:<58} {:>9} ns each {:>9} us", nanos / count.max(1), nanos / 1000);
        out
    }
}

fn seed() -> Seed {
    Seed::of(GroupId::from_bytes([7; GroupId::LEN]))
}

/// Encodes a message and lends its bytes.
struct Encoder(Vec<u8>);

impl Encoder {
    fn record(&mut self, seq: u64, subject: &[u8]) -> &[u8] {
        self.0.clear();
        let time = Wall(i64::try_from(seq).unwrap());
        encode_record(&mut self.0, seed(), seq, time, subject, 0, &[b'x'; 128]);
        &self.0
    }
}

fn fill(store: &mut StreamStore, from: u64, count: u64, subjects: u64) {
    let mut encoder = Encoder(Vec::new());
    for seq in from..from + count {
        let subject = format!("orders.eu.{:07}", seq * 7919 % subjects);
        store.append(encoder.record(seq, subject.as_bytes()));
    }
}

fn write(store: &mut StreamStore) {
    for job in store.take_writes(false) {
        store.written(job.run());
    }
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// The disk, encrypting if `LINNET_CIPHER` is `chacha` or `aes`.
fn disk() -> Arc<dyn Disk> {
    let cipher = match std::env::var("LINNET_CIPHER").as_deref() {
        Ok("chacha") => Cipher::ChaCha,
        Ok("aes") => Cipher::Aes,
        _ => return Arc::new(RealDisk),
    };
    let ring = KeyRing::new(cipher, Arc::new(MasterKey::new("key")), []);
    Arc::new(SealedDisk::new(Arc::new(RealDisk), Arc::new(ring), Arc::new(OsRng)))
}

fn main() {
    let watch = Watch(RealClock::new());
    let root = tempfile::tempdir().unwrap();
    let disk = disk();

    memory(&watch);
    subject_memory();
    searches(&watch);
    queue(&watch, &disk, &root.path().join("queue"));
    files(&watch, &disk, &root.path().join("files"));
}

fn memory(watch: &Watch) {
    let mut baseline = Encoder(Vec::new());
    watch.time("(encoding a record, included below)", 1_000_000, || {
        (1..=1_000_000).for_each(|seq| {
            let subject = format!("orders.eu.{:07}", seq * 7919 % 100_000);
            baseline.record(seq, subject.as_bytes());
        });
    });
    for subjects in [1, 100_000] {
        let mut store = StreamStore::new(Kind::Memory, seed(), 0, -1);
        watch.time(&format!("append, memory, {subjects} subjects"), 1_000_000, || {
            fill(&mut store, 1, 1_000_000, subjects);
        });
        watch.time("  remove from the front", 900_000, || {
            (1..=900_000).for_each(|seq| assert!(store.remove(seq, false).is_some()));
        });
    }
}

fn subject_memory() {
    let before = resident();
    let mut store = StreamStore::new(Kind::Memory, seed(), 0, 1);
    let mut encoder = Encoder(Vec::new());
    for seq in 1..=1_000_000_u64 {
        store.append(encoder.record(seq, format!("orders.eu.{seq:07}").as_bytes()));
    }
    let data = 1_000_000 * (32 + 17 + 128);
    let total = resident().saturating_sub(before);
    println!(
        "{:<58} {:>9} bytes",
        "memory of a message and its subject, without its record",
        (total - data) / 1_000_000
    );
}

fn searches(watch: &Watch) {
    let mut store = StreamStore::new(Kind::Memory, seed(), 0, -1);
    let count = 1_000_000;
    fill(&mut store, 1, count, 100_000);
    let mut encoder = Encoder(Vec::new());
    store.append(encoder.record(count + 1, b"rare.one"));
    store.append(encoder.record(count + 2, b"orders.eu.0000001"));
    let rare = Filter::new(["rare.*"]);
    watch.time("next over 1M messages, wildcard, last one matches", 1, || store.next(1, &rare));
    let literal = Filter::new(["orders.eu.0000001"]);
    watch.time("next, literal subject, 100k messages on", 1, || store.next(count - 99_998, &literal));
    watch.time("next, all, every message", count, || {
        let mut at = 0;
        while let Some(seq) = store.next(at + 1, &Filter::all()) {
            at = seq;
        }
    });
    watch.time("next, wildcard that wants everything, every message", count, || {
        let (mut at, filter) = (0, Filter::new(["orders.>"]));
        while let Some(seq) = store.next(at + 1, &filter) {
            at = seq;
        }
    });
    watch.time("next, wildcard that wants 1 in 50000, every message", 20, || {
        let (mut at, filter) = (0, Filter::new(["*.eu.0000001", "*.eu.0099999"]));
        while let Some(seq) = store.next(at + 1, &filter) {
            at = seq;
        }
    });
    watch.time("count from the middle, all", 1, || store.count(count / 2, &Filter::all()));
    watch.time("count from the middle, literal", 1, || store.count(count / 2, &literal));
    watch.time("count from the middle, wildcard", 1, || store.count(count / 2, &Filter::new(["orders.*.*"])));
    watch.time("first_of after removing the oldest, 100k apart", 5, || {
        for _ in 0..5 {
            let first = store.first_of(b"orders.eu.0000001").unwrap();
            store.remove(first, false);
        }
    });
    watch.time("set_max_per_subject, 1M messages", 1, || store.set_max_per_subject(10));

    let mut store = StreamStore::new(Kind::Memory, seed(), 0, -1);
    store.append(encoder.record(1, b"work"));
    watch.time("queue behind a stuck first message", count, || {
        for seq in 2..=count + 1 {
            store.append(encoder.record(seq, b"work"));
            store.remove(seq, false);
        }
    });
}

fn queue(watch: &Watch, disk: &Arc<dyn Disk>, dir: &std::path::Path) {
    disk.create_dir_all(dir).unwrap();
    let kind = Kind::File { disk: disk.clone(), dir: dir.to_owned() };
    let mut store = StreamStore::new(kind, seed(), 0, -1);
    let before = resident();
    let mut encoder = Encoder(Vec::new());
    watch.time("work queue on disk, append and remove 100 later", 3_000_000, || {
        for seq in 1..=3_000_000_u64 {
            store.append(encoder.record(seq, b"work"));
            if seq > 100 {
                store.remove(seq - 100, false);
            }
            if seq % 1000 == 0 {
                write(&mut store);
            }
        }
    });
    println!("{:<58} {:>9} bytes", "  memory grown", resident().saturating_sub(before));
}

fn files(watch: &Watch, disk: &Arc<dyn Disk>, dir: &std::path::Path) {
    disk.create_dir_all(dir).unwrap();
    let kind = Kind::File { disk: disk.clone(), dir: dir.to_owned() };
    let mut store = StreamStore::new(kind, seed(), 0, -1);
    watch.time("append and write, file, 100k subjects", MESSAGES, || {
        for batch in 0..MESSAGES / 1000 {
            fill(&mut store, batch * 1000 + 1, 1000, 100_000);
            write(&mut store);
        }
    });
    let job = watch.time("begin a checkpoint", 1, || store.begin_checkpoint(b"").unwrap());
    let taken = watch.time("run it", 1, || job.run());
    let (body, _) = watch.time("finish it", 1, || store.finish_checkpoint(taken).unwrap());
    watch.time("in-order get", MESSAGES, || {
        for seq in 1..=MESSAGES {
            if let Lookup::Cold(job) = store.get(seq, true) {
                store.loaded(job.run()).unwrap();
                assert!(matches!(store.get(seq, true), Lookup::Found(_)));
            }
        }
    });
    drop(store);
    let open = || StreamStore::open(disk, dir.to_owned(), seed(), Some(body), |_| -1).unwrap().0;
    let mut store = watch.time("open 2M messages, with index files", MESSAGES, open);
    watch.time("first_timestamp and remove from the front, cold", 500_000, || {
        for _ in 0..500_000 {
            store.first_timestamp().unwrap();
            let first = store.state().first_seq;
            store.remove(first, false).unwrap();
        }
    });
    drop(store);
    for entry in disk.list(dir).unwrap().into_iter().filter(|e| e.name.ends_with(".idx")) {
        disk.remove_file(&dir.join(entry.name)).unwrap();
    }
    watch.time("open 2M messages, without", MESSAGES, open);
}
