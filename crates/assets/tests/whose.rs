//! What a stream's log and its checkpoints tell of the stream itself: whose it is, and that it has ended.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use linnet_assets::{Command, Moment, Nobody, Owner, Place, Proposal, Stream, StreamSaved};
use linnet_ids::{GroupId, Mono, Wall};
use linnet_jsapi::StreamConfig;
use linnet_store::{Kind, Seed, StreamStore};

fn stream() -> Stream {
    let group = GroupId { epoch: 0, meta_index: 1, random: 1 };
    let store = StreamStore::new(Kind::Memory, Seed::of(group), 0, -1);
    Stream::new(StreamConfig::default(), Wall(1), Place::default(), store, Vec::new(), Mono::default())
}

/// Applies what the stream proposes; the entries.
fn settle(stream: &mut Stream) -> Vec<Vec<u8>> {
    let at = Moment { now: Mono::default(), wall: Wall(1), live: true };
    let proposals = stream.take_proposals(at.now);
    proposals.iter().for_each(|p| stream.apply(p, at, &mut Nobody).unwrap());
    proposals.into_iter().map(|p| p.bytes).collect()
}

/// The stream as a checkpoint gives it back.
fn reopened(saved: &StreamSaved) -> Stream {
    let saved: StreamSaved = serde_json::from_slice(&serde_json::to_vec(saved).unwrap()).unwrap();
    let mut stream = stream();
    stream.restore_life(saved.owner, saved.deleted, saved.restoring);
    stream
}

#[test]
fn the_owner_is_written_once() {
    let owner = Owner { account: "A".to_owned(), created: 7 };
    let mut first = stream();
    first.record_owner(owner.clone());
    let log = settle(&mut first);
    assert_eq!(log.len(), 1);
    first.record_owner(owner.clone());
    assert_eq!(settle(&mut first).len(), 0);

    let mut replayed = stream();
    let at = Moment { now: Mono::default(), wall: Wall(1), live: false };
    for bytes in log {
        let proposal = Proposal::new(bytes, None);
        replayed.apply(&proposal, at, &mut Nobody).unwrap();
    }
    assert_eq!(replayed.saved().owner, Some(owner.clone()));
    let mut again = reopened(&first.saved());
    again.record_owner(owner);
    assert_eq!(settle(&mut again).len(), 0);
}

#[test]
fn a_checkpoint_behind_the_end_keeps_the_end() {
    let mut first = stream();
    assert!(!reopened(&first.saved()).is_deleted());
    first.command(
        Command::Delete,
        1,
        Moment { now: Mono::default(), wall: Wall(1), live: true },
        &mut Nobody,
    );
    settle(&mut first);
    assert!(first.is_deleted() && reopened(&first.saved()).is_deleted());
}
