use std::sync::Arc;

use linnet_assets::{Entry, Place};
use linnet_env::{FaultyDisk, ManualClock};
use linnet_jsapi::StreamConfig;
use linnet_wal::{Batch, Config, HardState as Record, Opened, StoreIdentity, Wal};

use super::*;
use crate::open::life::NextBatch;

const GROUP: GroupId = GroupId { epoch: 0, meta_index: 1, random: 7 };
const STORE: &str = "/store";

/// The only replica of a stream is here, and has the life in which it began.
fn assignment() -> Assignment {
    let me = Placed { peer: myself().peer.to_string(), life: 1 };
    Assignment { members: vec![me], ..Assignment::new_stream("A", config(), 1, GROUP, &[], &[]) }
}

fn config() -> StreamConfig {
    StreamConfig { name: "S".to_owned(), num_replicas: 1, ..StreamConfig::default() }
}

fn myself() -> Myself {
    Myself { peer: PeerId::of_name("a"), seed: 7 }
}

fn open_wal(disk: &Arc<dyn Disk>) -> Opened {
    let config = Config { segment_bytes: 64 << 10, first_segment_bytes: 64 << 10, ..Config::default() };
    Wal::open(disk.clone(), Path::new(STORE), config, StoreIdentity { store_id: [1; 16] }).unwrap()
}

/// A store whose log has these entries of the group, and whose server takes part in it.
fn store(entries: &[Entry<'_>]) -> Arc<dyn Disk> {
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new(1));
    let mut wal = open_wal(&disk).wal;
    let mut batch = Batch::default();
    for (index, entry) in (1..).zip(entries) {
        batch.entry(GROUP, index, 1, &[&entry.encode()]);
        batch.hard_state(GROUP, &Record { term: 1, ..Record::default() });
    }
    if !entries.is_empty() {
        wal.commit(&mut batch).unwrap();
    }
    remember_assignment(&*disk, Path::new(STORE), &assignment()).unwrap();
    let files = group_dir(Path::new(STORE), GROUP);
    disk.create_dir_all(&files).unwrap();
    disk.replace(&files.join("0000000001.blk"), b"block").unwrap();
    disk
}

fn open(disk: &Arc<dyn Disk>) -> ClusterStore {
    let Opened { wal, groups, .. } = open_wal(disk);
    let restoring = Restoring {
        disk,
        dir: Path::new(STORE),
        wal: &wal,
        groups: &groups,
        place: &Place::default(),
        clock: &ManualClock::default(),
        floor_step: 8,
        may_lack_groups: false,
    };
    restoring.run_clustered(myself(), &mut NextBatch::default()).unwrap()
}

fn entries() -> [Entry<'static>; 2] {
    [Entry::Config(Box::new(config())), Entry::Deleted]
}

#[test]
fn a_removal_that_was_cut_off_goes_on_whatever_the_log_still_has() {
    for entries in [&entries()[..0], &entries()[..1], &entries()[..]] {
        let disk = store(entries);
        note_removal(&*disk, Path::new(STORE), GROUP, &assignment()).unwrap();
        let found = open(&disk);
        assert_eq!(found.removing, [GROUP]);
        assert!(found.streams.is_empty() && found.unnamed.is_empty());
        assert!(!disk.exists(&group_dir(Path::new(STORE), GROUP)).unwrap());
        forget_assignment(&*disk, Path::new(STORE), GROUP).unwrap();
        assert!(open(&disk).removing.is_empty());
    }
}

#[test]
fn a_removal_concerns_the_group_that_goes_and_not_the_newest_of_its_name() {
    let disk = store(&entries()[..1]);
    let newest = GroupId { meta_index: 2, ..GROUP };
    let newest = Assignment { group: newest.to_string(), ..assignment() };
    note_removal(&*disk, Path::new(STORE), GROUP, &newest).unwrap();
    assert_eq!(open(&disk).removing, [GROUP]);
}

#[test]
fn the_only_replica_of_a_stream_that_has_ended_is_there_to_say_so() {
    let found = open(&store(&entries()));
    let [RestoredStream { outcome: RestoreOutcome::Open(group, _), .. }] = &found.streams[..] else {
        panic!("{} streams", found.streams.len());
    };
    assert!(group.stream().is_deleted() && found.removing.is_empty());
}

/// A store with a replica of a group, in which others vote too or nobody does, whose checkpoint cannot be understood.
fn ruined(group: GroupId, others: &[&str]) -> Arc<dyn Disk> {
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new(1));
    let mut wal = open_wal(&disk).wal;
    let me = Replica { peer: myself().peer, incarnation: 1 };
    let others = others.iter().map(|name| Replica { peer: PeerId::of_name(name), incarnation: 1 });
    let voters = Membership::of_voters(others.chain([me]));
    let opening = NodeOpening::founding(group, me, voters, 7);
    let mut log = NextBatch::default();
    let stream = assignment().empty_stream(group, &site(&disk), Mono(0));
    drop(StreamGroup::replica(opening, stream, None, Mono(0), &mut log));
    wal.commit(&mut log.0).unwrap();
    let mut batch = Batch::default();
    batch.entry(group, 1, 1, &[b"something"]);
    batch.checkpoint(group, 1, 1, b"what is this?");
    wal.commit(&mut batch).unwrap();
    let files = group_dir(Path::new(STORE), group);
    disk.create_dir_all(&files).unwrap();
    disk.replace(&files.join("0000000001.blk"), b"block").unwrap();
    disk
}

fn site(disk: &Arc<dyn Disk>) -> Site {
    let dir = Path::new(STORE).to_owned();
    Site { disk: disk.clone(), dir, place: Place::default(), floor_step: 8 }
}

fn is_put_aside(disk: &Arc<dyn Disk>, group: GroupId) -> bool {
    let store = Path::new(STORE);
    disk.exists(&store.join("quarantine").join(group.to_string()).join("0000000001.blk")).unwrap()
        && !disk.exists(&group_dir(store, group)).unwrap()
}

#[test]
fn a_replica_that_cannot_be_understood_is_put_aside_and_begins_anew() {
    let three = |disk: &Arc<dyn Disk>| {
        let assignment = Assignment {
            live: true,
            members: ["a", "b", "c"]
                .map(|name| Placed { peer: PeerId::of_name(name).to_string(), life: 1 })
                .to_vec(),
            ..assignment()
        };
        remember_assignment(&**disk, Path::new(STORE), &assignment).unwrap();
    };
    let disk = ruined(GROUP, &["b", "c"]);
    three(&disk);
    let found = open(&disk);
    let RestoreOutcome::Open(replica, _) = &found.streams[0].outcome else { panic!("it is lost") };
    let status = replica.status().unwrap();
    assert!(status.is_amnesiac && status.last == 0, "{status:?}");
    assert!(is_put_aside(&disk, GROUP));
    // Nobody else has it.
    let disk = ruined(GROUP, &[]);
    three(&disk);
    assert!(matches!(open(&disk).streams[0].outcome, RestoreOutcome::Lost(_)));
    assert!(!is_put_aside(&disk, GROUP));
}

#[test]
fn a_catalogue_that_cannot_be_understood_comes_from_the_others() {
    let disk = ruined(GroupId::META, &["b", "c"]);
    assert!(open(&disk).meta.is_none() && is_put_aside(&disk, GroupId::META));
}

/// A stream goes on under another group with what one server has; the others have no life in it yet.
#[test]
fn a_member_without_a_life_that_lost_power_before_it_wrote_anything_begins_another_one() {
    let disk = store(&[]);
    let me = Placed { peer: myself().peer.to_string(), life: 0 };
    let other = Placed { peer: PeerId::of_name("b").to_string(), life: 3 };
    let anew = Assignment { members: vec![me, other], ..assignment() };
    remember_assignment(&*disk, Path::new(STORE), &anew).unwrap();
    let found = open(&disk);
    let [RestoredStream { outcome: RestoreOutcome::Open(replica, _), .. }] = &found.streams[..] else {
        panic!("the replica is opened")
    };
    assert!(replica.incarnation().is_some_and(|life| life > 0), "it can be taken in");
    assert!(replica.status().is_some_and(|status| status.is_amnesiac));
}
