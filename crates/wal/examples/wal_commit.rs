//! Prints how long a durable commit takes, for batches of 1, 16 and 512 records of 200 bytes.
//!
//! `cargo run --release -p linnet-wal --example wal_commit [DIRECTORY]`; `LINNET_CIPHER=chacha` or `aes`
//! encrypts

#![allow(clippy::print_stdout, reason = "the example's purpose is to print")]

use std::path::PathBuf;
use std::sync::Arc;

use linnet_env::{Clock, Disk, OsRng, RealClock, RealDisk};
use linnet_ids::GroupId;
use linnet_seal::{Cipher, KeyRing, MasterKey, SealedDisk};
use linnet_wal::{Batch, Config, StoreIdentity, Wal};

const RECORD: [u8; 200] = [7; 200];

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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parent = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(parent)?;
    let clock = RealClock::new();
    let identity = StoreIdentity { store_id: [1; 16] };
    let mut wal = Wal::open(disk(), dir.path(), Config::default(), identity)?.wal;
    let mut batch = Batch::new();
    let group = GroupId { epoch: 0, meta_index: 1, random: 2 };
    for (records, rounds) in [(1_u64, 3000_u32), (16, 3000), (512, 500)] {
        let mut latencies = Vec::with_capacity(rounds as usize);
        for _ in 0..rounds {
            let last = wal.last_index(group);
            for n in 1..=records {
                batch.entry(group, last + n, 1, &[&RECORD]);
            }
            let before = clock.mono();
            wal.commit(&mut batch)?;
            latencies.push((clock.mono().0 - before.0) as f64 / 1000.0);
            if let Some(job) = wal.prepare_next() {
                wal.install(job.run()?);
            }
        }
        latencies.sort_by(f64::total_cmp);
        let mean = latencies.iter().sum::<f64>() / latencies.len() as f64;
        let at = |q: f64| latencies[(latencies.len() as f64 * q) as usize];
        println!(
            "{records:4} records: {mean:8.1} us per commit, median {:8.1}, p99 {:8.1}, {:8.2} us per record",
            at(0.5),
            at(0.99),
            mean / records as f64
        );
    }
    let last = wal.last_index(group);
    drop(wal);
    let before = clock.mono();
    let opened = Wal::open(disk(), dir.path(), Config::default(), identity)?;
    let millis = (clock.mono().0 - before.0) as f64 / 1e6;
    let report = &opened.report;
    println!("reopened {last} entries, {} MiB in {millis:.0} ms", report.replayed_bytes >> 20);
    let before = clock.mono();
    let read = opened.wal.entries(group).collect::<Result<Vec<_>, _>>()?.len();
    println!("read back {read} entries in {:.0} ms", (clock.mono().0 - before.0) as f64 / 1e6);
    Ok(())
}
