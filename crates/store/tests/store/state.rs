//! State files: two copies of the same state, of which one is enough.

use std::path::PathBuf;

use linnet_env::{Disk, FaultyDisk};
use linnet_store::CheckpointBody;

use crate::damage::{len_of, open, read_everything, stored};
use crate::sealed::{shared, with_encryption};
use crate::support::dir;

fn path() -> PathBuf {
    dir().join("state.0000000001")
}

/// Where the second copy begins.
fn second(body: CheckpointBody) -> u64 {
    body.len.next_multiple_of(4096)
}

/// The store does not open, says which file it is, and changes nothing.
fn assert_refused(disk: &FaultyDisk, body: CheckpointBody) {
    let files = disk.files_below(&dir());
    let error = open(disk, body).err().expect("the state is not what was recorded");
    assert!(error.is_damaged_state() && error.to_string().contains("state.0000000001"), "{error}");
    assert_eq!(disk.files_below(&dir()), files);
}

#[test]
fn a_flipped_bit_costs_nothing_and_is_told() {
    let stored = stored();
    let (len, second) = (stored.body.len, second(stored.body));
    assert_eq!(len_of(&stored.disk, &path()), second + len);
    for bit in 0..(second + len) * 8 {
        let disk = stored.disk.fork();
        disk.flip_bit(&path(), bit).unwrap();
        let is_between = (len * 8..second * 8).contains(&bit);
        // What is between the copies is nobody's; one bit in a hundred stands for the others.
        if is_between && bit % 100 != 0 {
            continue;
        }
        let (_, report) = open(&disk, stored.body).unwrap();
        assert_eq!(report.half_state, (!is_between).then(path), "bit {bit}");
        assert_eq!(read_everything(&stored, &disk), [], "bit {bit}");
    }
}

#[test]
fn a_sector_that_cannot_be_read_costs_nothing_and_is_told() {
    let stored = stored();
    for sector in [0, second(stored.body) / 512] {
        let disk = stored.disk.fork();
        disk.make_sector_unreadable(&path(), sector).unwrap();
        assert_eq!(open(&disk, stored.body).unwrap().1.half_state, Some(path()));
        assert_eq!(read_everything(&stored, &disk), []);
    }
}

#[test]
fn a_file_cut_short_needs_its_first_copy() {
    let stored = stored();
    for cut in 0..len_of(&stored.disk, &path()) {
        let disk = stored.disk.fork();
        disk.truncate(&path(), cut).unwrap();
        if cut < stored.body.len {
            assert_refused(&disk, stored.body);
        } else if cut % 16 == 0 {
            assert_eq!(open(&disk, stored.body).unwrap().1.half_state, Some(path()));
            assert_eq!(read_everything(&stored, &disk), []);
        }
    }
}

#[test]
fn a_state_of_which_both_copies_are_damaged_is_refused_and_nothing_is_deleted() {
    let stored = stored();
    let (bits, second) = (stored.body.len * 8, second(stored.body));
    for bit in 0..bits {
        let disk = stored.disk.fork();
        disk.flip_bit(&path(), bit).unwrap();
        disk.flip_bit(&path(), second * 8 + (bit * 7 + 3) % bits).unwrap();
        assert_refused(&disk, stored.body);
    }
    let disk = stored.disk.fork();
    disk.lose_file(&path()).unwrap();
    assert_refused(&disk, stored.body);
}

#[test]
fn a_flipped_bit_costs_nothing_with_encryption() {
    with_encryption(|| {
        let stored = stored();
        for (at, is_told) in [(0, false), (8192, true), (8192 + second(stored.body), true)] {
            let disk = stored.disk.fork();
            disk.flip_bit(&path(), at * 8 + 3).unwrap();
            let (_, report) = open(&disk, stored.body).unwrap();
            assert_eq!(report.half_state, is_told.then(path), "byte {at}");
            assert_eq!(read_everything(&stored, &disk), [], "byte {at}");
        }
    });
}

#[test]
fn a_state_that_an_earlier_version_wrote_once_opens() {
    let stored = stored();
    let disk = stored.disk.fork();
    let content = shared(&disk).read(&path()).unwrap();
    let mut state = content[..usize::try_from(stored.body.len).unwrap()].to_vec();
    assert_eq!(state[..16], *b"linnet state v2\n");
    state[14] = b'1';
    disk.replace(&path(), &state).unwrap();
    let mut earlier = stored;
    earlier.body.crc = crc32fast::hash(&state);
    assert_eq!(open(&disk, earlier.body).unwrap().1.half_state, None);
    assert_eq!(read_everything(&earlier, &disk), []);
    disk.flip_bit(&path(), 200).unwrap();
    assert_refused(&disk, earlier.body);
}
