use std::path::Path;
use std::sync::Arc;

use super::{DamageKind, FaultyDisk};
use crate::disk::{Disk, DiskFile, OpenMode};

fn disk_with_file(seed: u64, len: usize) -> (FaultyDisk, Arc<dyn DiskFile>) {
    let disk = FaultyDisk::new(seed);
    disk.create_dir_all(Path::new("/d")).unwrap();
    let file = disk.open(Path::new("/d/f"), OpenMode::Create).unwrap();
    file.write_all_at(&vec![1; len], 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    (disk, file)
}

fn content(disk: &FaultyDisk) -> Vec<u8> {
    disk.read(Path::new("/d/f")).unwrap()
}

#[test]
fn synced_content_survives_every_crash() {
    for seed in 0..50 {
        let (disk, _file) = disk_with_file(seed, 3000);
        disk.crash(seed);
        assert_eq!(content(&disk), vec![1; 3000]);
    }
}

#[test]
fn unsynced_sectors_survive_one_by_one() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..400 {
        let (disk, file) = disk_with_file(seed, 1536);
        file.write_all_at(&[2; 1536], 0).unwrap();
        disk.crash(seed);
        let after = content(&disk);
        for sector in after.chunks(512) {
            assert!(sector.iter().all(|b| *b == sector[0]), "a sector is never torn inside");
        }
        seen.insert(after.chunks(512).map(|s| s[0]).collect::<Vec<_>>());
    }
    assert_eq!(seen.len(), 8, "every combination of three sectors occurs");
}

#[test]
fn an_earlier_unsynced_version_of_a_sector_may_survive() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let (disk, file) = disk_with_file(seed, 512);
        file.write_all_at(&[2; 512], 0).unwrap();
        file.write_all_at(&[3; 512], 0).unwrap();
        disk.crash(seed);
        seen.insert(content(&disk)[0]);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn an_unsynced_length_is_kept_or_lost() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let (disk, file) = disk_with_file(seed, 512);
        file.set_len(2048).unwrap();
        disk.crash(seed);
        seen.insert(content(&disk).len());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [512, 2048]);
}

#[test]
fn unsynced_names_are_kept_or_lost_and_synced_ones_stay() {
    let (mut created, mut renamed, mut removed) = ([0; 2], [0; 2], [0; 2]);
    for seed in 0..100 {
        let (disk, _file) = disk_with_file(seed, 512);
        for name in ["/d/a", "/d/b"] {
            disk.open(Path::new(name), OpenMode::Create).unwrap();
        }
        disk.sync_dir(Path::new("/d")).unwrap();
        disk.open(Path::new("/d/new"), OpenMode::Create).unwrap();
        disk.rename(Path::new("/d/a"), Path::new("/d/c")).unwrap();
        disk.remove_file(Path::new("/d/b")).unwrap();
        disk.crash(seed);
        let exists = |name: &str| disk.exists(Path::new(name)).unwrap();
        assert!(exists("/d/f"));
        assert_ne!(exists("/d/a"), exists("/d/c"), "a rename is one change");
        created[usize::from(exists("/d/new"))] += 1;
        renamed[usize::from(exists("/d/c"))] += 1;
        removed[usize::from(exists("/d/b"))] += 1;
    }
    for counts in [created, renamed, removed] {
        assert!(counts.iter().all(|n| *n > 10), "{counts:?}");
    }
}

#[test]
fn a_kill_keeps_pages_that_a_later_power_loss_may_take() {
    let mut lost = 0;
    for seed in 0..50 {
        let (disk, file) = disk_with_file(seed, 512);
        file.write_all_at(&[2; 512], 0).unwrap();
        disk.kill();
        assert!(file.write_all_at(&[3; 512], 0).is_err(), "handles of the dead process fail");
        assert_eq!(content(&disk), [2; 512]);
        assert!(disk.has_unsynced_data());
        disk.crash(seed);
        lost += u32::from(content(&disk)[0] == 1);
    }
    assert!(lost > 5);
    let (disk, file) = disk_with_file(0, 512);
    disk.crash(0);
    assert!(file.read_at(&mut [0; 8], 0).is_err());
}

#[test]
fn a_failed_sync_drops_the_pages_and_the_next_one_lies() {
    let (disk, file) = disk_with_file(1, 512);
    disk.fail_sync_after(0);
    file.write_all_at(&[2; 512], 0).unwrap();
    assert!(file.sync_data().is_err());
    assert!(file.sync_data().is_ok());
    assert_eq!(content(&disk), [2; 512], "the page cache still shows them");
    disk.crash(1);
    assert_eq!(content(&disk), [1; 512]);
    assert_eq!(disk.counters().sync_errors, 1);
}

#[test]
fn ignored_syncs_leave_everything_at_risk() {
    let mut lost = 0;
    for seed in 0..50 {
        let (disk, file) = disk_with_file(seed, 512);
        disk.ignore_syncs(true);
        file.write_all_at(&[2; 512], 0).unwrap();
        file.sync_data().unwrap();
        disk.crash(seed);
        lost += u32::from(content(&disk)[0] == 1);
    }
    assert!(lost > 5);
}

#[test]
fn a_write_error_leaves_a_prefix() {
    let (disk, file) = disk_with_file(1, 2048);
    disk.fail_write_after(1800);
    file.write_all_at(&[2; 600], 0).unwrap();
    assert!(file.write_vectored_all_at(&[&[3; 300], &[4; 1100]], 600).is_err());
    assert!(file.write_all_at(&[1; 1], 2047).is_ok(), "it strikes once");
    let expected = [vec![2; 600], vec![3; 300], vec![4; 636], vec![1; 512]].concat();
    assert_eq!(content(&disk), expected);
}

#[test]
fn a_full_disk_refuses_growth_and_allows_overwriting() {
    let (disk, file) = disk_with_file(1, 2048);
    disk.set_capacity(Some(2048));
    let refused = file.write_all_at(&[2; 100], 2000).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::StorageFull);
    assert!(file.set_len(4096).is_err());
    file.write_all_at(&[2; 100], 0).unwrap();
    assert_eq!(disk.free_space(Path::new("/d")).unwrap(), 0);
    disk.remove_file(Path::new("/d/f")).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(disk.free_space(Path::new("/d")).unwrap(), 2048);
}

#[test]
fn damage_strikes_the_chosen_place() {
    let (disk, file) = disk_with_file(1, 2048);
    file.write_all_at(&[2; 512], 512).unwrap();
    file.sync_data().unwrap();
    let path = Path::new("/d/f");
    disk.flip_bit(path, 8 * 3 + 1).unwrap();
    assert_eq!(content(&disk)[3], 3);
    disk.make_sector_stale(path, 1).unwrap();
    assert_eq!(content(&disk)[512..1024], [1; 512]);
    disk.zero_sector(path, 2).unwrap();
    assert_eq!(content(&disk)[1024..1536], [0; 512]);
    disk.misplace_sector(path, 2, 3).unwrap();
    assert_eq!(content(&disk)[1536..], [0; 512]);
    disk.make_sector_unreadable(path, 0).unwrap();
    assert!(file.read_at(&mut [0; 16], 500).is_err());
    assert!(file.read_at(&mut [0; 16], 512).is_ok());
    file.write_all_at(&[1; 512], 0).unwrap();
    assert!(file.read_at(&mut [0; 16], 500).is_ok());
    disk.truncate(path, 700).unwrap();
    assert_eq!(content(&disk).len(), 700);
    disk.lose_file(path).unwrap();
    assert!(!disk.exists(path).unwrap());
    let counters = disk.counters();
    assert_eq!((counters.flipped, counters.zeroed, counters.made_stale, counters.removed), (1, 1, 1, 1));
}

#[test]
fn random_damage_is_the_same_for_the_same_seed() {
    for kind in DamageKind::ALL {
        let places: Vec<_> = (0..2)
            .map(|_| {
                let (disk, _file) = disk_with_file(1, 5000);
                (disk.damage_at_random(Path::new("/d"), kind, 9), disk.files_below(Path::new("/d")))
            })
            .collect();
        assert!(places[0].0.is_some());
        assert_eq!(places[0], places[1]);
    }
}

#[test]
fn power_goes_off_after_the_armed_number_of_operations() {
    let (disk, file) = disk_with_file(1, 512);
    disk.power_off_after(1);
    file.write_all_at(&[2; 512], 0).unwrap();
    assert!(disk.is_off());
    assert!(file.sync_data().is_err());
    assert!(file.read_at(&mut [0; 8], 0).is_err());
    disk.kill();
    assert_eq!(content(&disk), [2; 512]);
}

#[test]
fn the_write_that_meets_the_end_of_power_stores_some_sectors() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let (disk, file) = disk_with_file(seed, 1536);
        disk.power_off_after(0);
        assert!(file.write_all_at(&[2; 1536], 0).is_err());
        assert!(file.write_all_at(&[3; 1536], 0).is_err());
        disk.kill();
        let sectors: Vec<u8> = content(&disk).chunks(512).map(|s| s[0]).collect();
        seen.insert(sectors);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [[1, 1, 1], [2, 1, 1], [2, 2, 1]]);
}

#[test]
fn a_lock_is_exclusive_and_dies_with_its_process() {
    let disk = FaultyDisk::new(1);
    let path = Path::new("/lock");
    let held = disk.lock(path).unwrap();
    assert!(held.is_some());
    assert!(disk.lock(path).unwrap().is_none());
    disk.kill();
    let next = disk.lock(path).unwrap();
    assert!(next.is_some());
    drop(held);
    assert!(disk.lock(path).unwrap().is_none());
}

#[test]
fn a_fork_is_independent() {
    let (disk, file) = disk_with_file(1, 512);
    let fork = disk.fork();
    file.write_all_at(&[2; 512], 0).unwrap();
    assert_eq!(content(&fork), [1; 512]);
    fork.zero_sector(Path::new("/d/f"), 0).unwrap();
    assert_eq!(content(&disk), [2; 512]);
}

#[test]
fn replace_is_old_or_new_across_crashes() {
    for seed in 0..200 {
        let (disk, _file) = disk_with_file(seed, 512);
        disk.power_off_after(seed % 8);
        let replaced = disk.replace(Path::new("/d/f"), &[7; 900]);
        disk.crash(seed);
        let after = content(&disk);
        assert!(after == [1; 512] || after == [7; 900], "{seed}");
        if replaced.is_ok() {
            assert_eq!(after, [7; 900]);
        }
    }
}
