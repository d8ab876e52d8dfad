use std::sync::Arc;
use std::time::Duration;

use linnet_ids::{GroupId, Mono, PeerId};
use linnet_jsapi::policies::StorageType;
use linnet_replication::transfer::{Source, Sources, TooManySources};
use linnet_store::Kind;

use crate::bench::{Bench, GROUP, config};

const OTHER: GroupId = GroupId { epoch: 0, meta_index: 2, random: 7 };

fn source(transfer: u64) -> Arc<Source> {
    let mut bench = Bench::new(Kind::Memory, config(StorageType::Memory));
    Arc::new(Source::new(&mut bench.stream, transfer))
}

fn peer(n: u8) -> PeerId {
    PeerId::from_bytes([b'a' + n; 8]).unwrap()
}

#[test]
fn there_are_only_so_many_and_only_while_somebody_asks() {
    let patience = Duration::from_secs(10);
    let at = |seconds: u64| Mono::default() + Duration::from_secs(seconds);
    let mut sources = Sources::new(2, patience);
    assert_eq!(sources.next_due(), None);
    sources.hold(GROUP, peer(1), source(1), at(0)).unwrap();
    sources.hold(OTHER, peer(1), source(2), at(1)).unwrap();
    assert_eq!(sources.hold(GROUP, peer(2), source(3), at(1)), Err(TooManySources));
    assert!(!sources.has_room(GROUP, peer(2)) && sources.has_room(GROUP, peer(1)));
    // Another one for the same peer takes the place of the first.
    sources.hold(GROUP, peer(1), source(4), at(2)).unwrap();
    assert!(sources.find(peer(1), 1, at(2)).is_none());
    assert_eq!(sources.of(GROUP, peer(1)).map(|s| s.transfer()), Some(4));
    assert!(sources.find(peer(2), 4, at(2)).is_none(), "it is another peer's");
    assert_eq!(sources.next_due(), Some(at(11)));
    assert!(sources.find(peer(1), 2, at(9)).is_some());
    assert_eq!(sources.next_due(), Some(at(12)));
    sources.expire(at(12));
    assert!(sources.of(GROUP, peer(1)).is_none() && sources.of(OTHER, peer(1)).is_some());
    // The one that it is taking stays.
    sources.expire(at(13));
    assert!(!sources.is_sending(OTHER) && sources.has_room(OTHER, peer(1)));
    assert!(sources.find(peer(1), 2, at(14)).is_some());
    assert!(sources.is_sending(OTHER) && !sources.is_sending(GROUP));
    assert!(!sources.has_room(OTHER, peer(1)));
    assert_eq!(sources.hold(OTHER, peer(1), source(7), at(17)), Err(TooManySources));
    sources.expire(at(18));
    assert!(!sources.is_sending(OTHER) && sources.has_room(OTHER, peer(1)));
    sources.release(OTHER, peer(1));
    sources.hold(GROUP, peer(1), source(5), at(18)).unwrap();
    sources.hold(GROUP, peer(2), source(6), at(18)).unwrap();
    sources.release_group(GROUP);
    assert_eq!(sources.next_due(), None);
}

#[test]
fn one_that_was_taken_makes_room_when_it_is_not_asked_for_any_more() {
    let at = |seconds: u64| Mono::default() + Duration::from_secs(seconds);
    let mut sources = Sources::new(2, Duration::from_secs(9));
    for n in 1..3 {
        sources.hold(GROUP, peer(n), source(u64::from(n)), at(0)).unwrap();
    }
    assert!(sources.find(peer(1), 1, at(1)).is_some());
    sources.expire(at(3));
    assert!(!sources.has_room(GROUP, peer(3)), "the first is being taken, the second was not begun");
    sources.expire(at(4));
    sources.hold(GROUP, peer(3), source(3), at(4)).unwrap();
    let left = [1, 2, 3].map(|n| sources.of(GROUP, peer(n)).is_some());
    assert_eq!(left, [false, true, true]);
}
