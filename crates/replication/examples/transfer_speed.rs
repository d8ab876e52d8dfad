//! Prints how fast a state goes from one replica to another on one machine, without the network:
//! `cargo run -p linnet-replication --example transfer_speed [MiB [directory]]`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring program")]

use std::path::Path;
use std::sync::Arc;

use linnet_assets::{Place, Stream};
use linnet_env::{Clock, Disk, RealClock, RealDisk};
use linnet_ids::{GroupId, Mono, Wall};
use linnet_jsapi::StreamConfig;
use linnet_jsapi::policies::Compression;
use linnet_replication::transfer::{ChunkRequest, Part, Sink, Source, WINDOW};
use linnet_store::{Kind, Seed, StreamStore, encode_record};

const GROUP: GroupId = GroupId { epoch: 0, meta_index: 1, random: 7 };

struct Watch(RealClock);

impl Watch {
    fn time<T>(&self, what: &str, bytes: u64, work: impl FnOnce() -> T) -> T {
        let start = self.0.mono();
        let out = work();
        let millis = (self.0.mono().0 - start.0) / 1_000_000;
        println!("  {what:<20} {millis:>7} ms {:>6} MB/s", bytes / 1000 / millis.max(1));
        out
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let bytes = arguments.next().map_or(512, |text| text.parse::<u64>().unwrap()) << 20;
    let parent = arguments.next().unwrap_or_else(|| ".".to_owned());
    for (payload, compression) in [
        (128, Compression::None),
        (1024, Compression::None),
        (1024, Compression::S2),
        (65_536, Compression::None),
    ] {
        println!("messages of {payload} bytes, compression {compression:?}");
        let dir = tempfile::tempdir_in(&parent).unwrap();
        run(dir.path(), bytes, payload, compression);
    }
}

fn run(dir: &Path, bytes: u64, payload: usize, compression: Compression) {
    let watch = Watch(RealClock::new());
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let kind = |name: &str| {
        let dir = dir.join(name);
        disk.create_dir_all(&dir).unwrap();
        Kind::File { disk: disk.clone(), dir }
    };
    let mut store = StreamStore::new(kind("leader"), Seed::of(GROUP), 0, -1);
    fill(&mut store, bytes, payload);
    let config =
        StreamConfig { max_bytes: -1, max_msgs_per_subject: -1, compression, ..StreamConfig::default() };
    let mut leader = Stream::new(config, Wall(1), Place::default(), store, Vec::new(), Mono::default());
    let mut present = StreamStore::new(kind("follower"), Seed::of(GROUP), 0, -1);
    let source = Source::new(&mut leader, 1);
    let mut sink = Sink::begin(&mut present, &source.description()).unwrap();
    watch.time("read only", bytes, || {
        let parts = (0..).map(|number| ChunkRequest { transfer: 1, part: Part::Messages(number) });
        parts.map_while(|request| source.chunk(request).ok()).count()
    });
    watch.time("read and written", bytes, || {
        loop {
            let requests = sink.next_requests(WINDOW);
            if requests.is_empty() {
                break;
            }
            for request in requests {
                sink.take(&source.chunk(request).unwrap().bytes).unwrap();
            }
        }
    });
    let received = watch.time("made durable", bytes, || sink.finish(Wall(1)).unwrap());
    let (stream, _) = received.into_stream(&mut present, Wall(1), Place::default(), Mono::default());
    assert_eq!(stream.store().state(), leader.store().state());
}

fn fill(store: &mut StreamStore, bytes: u64, payload: usize) {
    let mut record = Vec::new();
    let mut body: Vec<u8> = (0..payload).map(|n| u8::try_from(n * 7 % 61).unwrap()).collect();
    let mut done = 0;
    for seq in 1.. {
        if done >= bytes {
            break;
        }
        body[..8].copy_from_slice(&u64::to_le_bytes(seq));
        record.clear();
        let subject = format!("orders.eu.{:05}", seq * 7919 % 10_000);
        encode_record(&mut record, Seed::of(GROUP), seq, Wall(1), subject.as_bytes(), 0, &body);
        store.append(&record);
        done += record.len() as u64;
        if seq % 1000 == 0 {
            store.take_writes(false).into_iter().for_each(|job| store.written(job.run()));
        }
    }
}
