//! A stream that is restored from a backup: what is removed of it, and when its limits hold.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use linnet_assets::{Command, Entry, Moment, Nobody, Place, Proposal, RestoreMark, RestorePart, Stream};
use linnet_ids::{GroupId, Mono, Wall};
use linnet_jsapi::StreamConfig;
use linnet_store::{Filter, Kind, Seed, StreamStore, encode_record};

const GROUP: GroupId = GroupId { epoch: 0, meta_index: 1, random: 1 };

/// A stream that keeps three messages, two of a subject.
fn stream() -> Stream {
    let config = StreamConfig {
        name: "S".to_owned(),
        subjects: vec!["s.*".to_owned()],
        max_msgs: 3,
        max_bytes: -1,
        max_msgs_per_subject: 2,
        ..StreamConfig::default()
    };
    let store = StreamStore::new(Kind::Memory, Seed::of(GROUP), 1, 2);
    Stream::new(config, Wall(1), Place::default(), store, Vec::new(), Mono::default())
}

/// Takes a part of the backup; the entries of the log that it makes.
fn take(stream: &mut Stream, part: RestorePart) -> Vec<Vec<u8>> {
    let at = Moment { now: Mono::default(), wall: Wall(9), live: true };
    stream.command(Command::Restore(part), 1, at, &mut Nobody);
    let proposals = stream.take_proposals(at.now);
    proposals.iter().for_each(|p| stream.apply(p, at, &mut Nobody).unwrap());
    proposals.into_iter().map(|p| p.bytes).collect()
}

fn sequences(stream: &Stream) -> Vec<u64> {
    let next = |from: u64| stream.store().next(from, &Filter::all());
    std::iter::successors(next(1), |seq| next(seq + 1)).collect()
}

fn messages(subjects: &[&str]) -> RestorePart {
    let mut records = Entry::Messages(&[]).encode();
    for (seq, subject) in (1..).zip(subjects) {
        encode_record(&mut records, Seed::of(GROUP), seq, Wall(5), subject.as_bytes(), 0, b"x");
    }
    RestorePart::Messages(records)
}

const fn removed(first: u64, last: u64) -> RestorePart {
    RestorePart::Mark(RestoreMark::Removed { first, last })
}

#[test]
fn limits_hold_when_everything_that_is_removed_is_known() {
    let mut first = stream();
    first.begin_restore();
    let mut log: Vec<Vec<u8>> = first.take_proposals(Mono::default()).into_iter().map(|p| p.bytes).collect();
    log.extend(take(&mut first, messages(&["s.a", "s.a", "s.a", "s.b", "s.b", "s.c", "s.c"])));
    assert_eq!(sequences(&first).len(), 7);
    log.extend(take(&mut first, removed(3, 5)));
    log.extend(take(&mut first, removed(7, 7)));
    assert_eq!(take(&mut first, removed(3, 5)), Vec::<Vec<u8>>::new(), "what is gone needs no entry");
    assert_eq!(take(&mut first, removed(8, u64::MAX)), Vec::<Vec<u8>>::new());
    assert_eq!(sequences(&first), [1, 2, 6]);
    log.extend(take(&mut first, RestorePart::Mark(RestoreMark::Done)));
    assert_eq!(sequences(&first), [1, 2, 6]);

    let mut replayed = stream();
    let at = Moment { now: Mono::default(), wall: Wall(9), live: false };
    for bytes in log {
        let proposal = Proposal::new(bytes, None);
        replayed.apply(&proposal, at, &mut Nobody).unwrap();
    }
    assert_eq!(sequences(&replayed), [1, 2, 6]);
    assert!(!replayed.is_restoring());
}

#[test]
fn what_goes_beyond_the_limits_goes_at_the_end() {
    let mut stream = stream();
    stream.begin_restore();
    take(&mut stream, messages(&["s.a", "s.a", "s.a", "s.b", "s.c"]));
    assert_eq!(sequences(&stream), [1, 2, 3, 4, 5]);
    take(&mut stream, RestorePart::Mark(RestoreMark::Done));
    assert_eq!(sequences(&stream), [3, 4, 5]);
}
