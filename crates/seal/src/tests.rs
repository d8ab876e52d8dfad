use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use linnet_env::{DamageKind, Disk, DiskFile, FaultyDisk, OpenMode, SeededRng};

use crate::{Cipher, HEADER_BYTES, KeyRing, MasterKey, SealedDisk, convert};

const CIPHERS: [Cipher; 2] = [Cipher::ChaCha, Cipher::Aes];

fn ring(cipher: Cipher, key: &str, others: &[&str]) -> Arc<KeyRing> {
    Arc::new(KeyRing::new(
        cipher,
        Arc::new(MasterKey::new(key)),
        others.iter().map(|key| Arc::new(MasterKey::new(key))),
    ))
}

fn sealed(disk: &FaultyDisk, ring: Arc<KeyRing>) -> SealedDisk {
    // Salts must differ between lives.
    let seed = disk.free_space(Path::new("/")).unwrap_or(0) ^ fastrand::u64(..);
    SealedDisk::new(Arc::new(disk.clone()), ring, Arc::new(SeededRng::new(seed)))
}

fn path() -> PathBuf {
    PathBuf::from("/d/file")
}

fn new_disk() -> FaultyDisk {
    let disk = FaultyDisk::new(7);
    disk.create_dir_all(Path::new("/d")).unwrap();
    disk
}

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| rng.u8(..)).collect()
}

fn raw(disk: &FaultyDisk) -> Vec<u8> {
    disk.read(&path()).unwrap()
}

/// A file with this content, synced.
fn write(disk: &FaultyDisk, ring: Arc<KeyRing>, content: &[u8]) -> Arc<dyn DiskFile> {
    let sealed = sealed(disk, ring);
    let file = sealed.open(&path(), OpenMode::Create).unwrap();
    file.write_all_at(content, 0).unwrap();
    file.sync_data().unwrap();
    sealed.sync_dir(Path::new("/d")).unwrap();
    file
}

#[test]
fn what_is_written_is_read_at_any_offset_and_is_not_on_the_disk() {
    for cipher in CIPHERS {
        let disk = new_disk();
        let content = b"subject payload ".repeat(50_000);
        let (first, second) = content.split_at(300_001);
        let file = write(&disk, ring(cipher, "k", &[]), first);
        file.write_vectored_all_at(&[&second[..7], &[], &second[7..]], first.len() as u64).unwrap();
        let other = sealed(&disk, ring(cipher, "k", &[]));
        assert_eq!(other.read(&path()).unwrap(), content);
        let file = other.open(&path(), OpenMode::Read).unwrap();
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..200 {
            let start = rng.usize(..content.len());
            let mut out = vec![0; rng.usize(1..3000)];
            let read = file.read_at(&mut out, start as u64).unwrap();
            assert_eq!(out[..read], content[start..start + read]);
            assert!(read == out.len() || start + read == content.len());
        }
        assert_eq!(other.list(Path::new("/d")).unwrap()[0].len, content.len() as u64);
        assert!(!raw(&disk).windows(8).any(|w| w == b"payload "));
    }
}

#[test]
fn two_files_with_the_same_content_share_nothing() {
    let disk = new_disk();
    write(&disk, ring(Cipher::ChaCha, "k", &[]), &[7; 4096]);
    let first = raw(&disk);
    disk.remove_file(&path()).unwrap();
    write(&disk, ring(Cipher::ChaCha, "k", &[]), &[7; 4096]);
    let second = raw(&disk);
    let content = usize::try_from(HEADER_BYTES).unwrap();
    let equal = first[content..].iter().zip(&second[content..]).filter(|(a, b)| a == b).count();
    assert!(equal < 64, "{equal} of 4096 bytes are equal");
}

fn damage(disk: &FaultyDisk, path: &Path, offset: u64, kind: DamageKind) {
    match kind {
        DamageKind::Flip => disk.flip_bit(path, offset * 8),
        DamageKind::Zero => disk.zero_sector(path, offset / 512),
        _ => disk.make_sector_unreadable(path, offset / 512),
    }
    .unwrap();
}

#[test]
fn a_flipped_bit_costs_a_bit() {
    for cipher in CIPHERS {
        let disk = new_disk();
        let content = bytes(2, 5000);
        write(&disk, ring(cipher, "k", &[]), &content);
        damage(&disk, &path(), HEADER_BYTES + 1500, DamageKind::Flip);
        let back = sealed(&disk, ring(cipher, "k", &[])).read(&path()).unwrap();
        let bits: u32 = back.iter().zip(&content).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!(bits, 1);
    }
}

#[test]
fn either_copy_of_the_header_is_enough_and_without_both_nothing_verifies() {
    let content = bytes(3, 3000);
    for kind in [DamageKind::Flip, DamageKind::Zero, DamageKind::Unreadable] {
        for copy in [0, 4096] {
            let disk = new_disk();
            write(&disk, ring(Cipher::Aes, "k", &[]), &content);
            damage(&disk, &path(), copy, kind);
            assert_eq!(sealed(&disk, ring(Cipher::Aes, "k", &[])).read(&path()).unwrap(), content);
            damage(&disk, &path(), 4096 - copy, kind);
            let back = sealed(&disk, ring(Cipher::Aes, "k", &[])).read(&path()).unwrap();
            assert_eq!(back.len(), content.len());
            let equal = back.iter().zip(&content).filter(|(a, b)| a == b).count();
            assert!(equal < 64, "{equal}");
        }
    }
}

#[test]
fn every_bit_of_a_header_counts() {
    let content = bytes(4, 600);
    let disk = new_disk();
    write(&disk, ring(Cipher::ChaCha, "k", &[]), &content);
    let file = disk.open(&path(), OpenMode::ReadWrite).unwrap();
    let mut header = vec![0; 512];
    file.read_exact_at(&mut header, 0).unwrap();
    file.write_all_at(&[0; 512], 4096).unwrap();
    for bit in 0..512 * 8 {
        let mut bad = header.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        file.write_all_at(&bad, 0).unwrap();
        let back = sealed(&disk, ring(Cipher::ChaCha, "k", &[])).read(&path());
        assert!(back.is_err() || back.unwrap() != content, "bit {bit}");
    }
    file.write_all_at(&header, 0).unwrap();
    assert_eq!(sealed(&disk, ring(Cipher::ChaCha, "k", &[])).read(&path()).unwrap(), content);
}

#[test]
fn a_file_of_another_key_cannot_be_opened() {
    let disk = new_disk();
    write(&disk, ring(Cipher::ChaCha, "k", &[]), &bytes(5, 100));
    let error = sealed(&disk, ring(Cipher::ChaCha, "other", &[])).open(&path(), OpenMode::Read);
    assert_eq!(error.err().unwrap().kind(), std::io::ErrorKind::PermissionDenied);
    let both = sealed(&disk, ring(Cipher::Aes, "other", &["k"]));
    assert_eq!(both.read(&path()).unwrap(), bytes(5, 100), "keys and ciphers of before are known");
}

#[test]
fn space_that_waits_reads_as_zeros_and_gives_nothing_away() {
    let disk = new_disk();
    let sealed_disk = sealed(&disk, ring(Cipher::ChaCha, "k", &[]));
    let file = sealed_disk.open(&path(), OpenMode::Create).unwrap();
    file.write_zeros_at(8192, 0).unwrap();
    assert!(raw(&disk)[8192..].iter().all(|b| *b == 0));
    // Zeros that are content are encrypted, and a part of a sector is judged by the whole of it.
    file.write_all_at(&[0; 600], 512).unwrap();
    assert!(raw(&disk)[8192 + 512..8192 + 1112].chunks(100).all(|c| c.iter().any(|b| *b != 0)));
    for (offset, len) in [(0, 8192), (1, 511), (100, 1000), (1112, 3), (1111, 1), (4097, 13)] {
        let mut out = vec![9; len];
        file.read_exact_at(&mut out, offset).unwrap();
        // Behind what was written, the rest of that sector is nobody's.
        let nobodys = 1112..1536;
        for (at, byte) in (offset..).zip(&out).filter(|(at, _)| !nobodys.contains(at)) {
            assert_eq!(*byte, 0, "{offset}: {at}");
        }
    }
}

#[test]
fn one_byte_whose_encryption_is_zero_is_read_as_it_was_written() {
    // One in 256 single bytes encrypts to zero.
    for seed in 0..600 {
        let disk = new_disk();
        let content = bytes(seed, 1);
        write(&disk, ring(Cipher::ChaCha, "k", &[]), &content);
        assert_eq!(sealed(&disk, ring(Cipher::ChaCha, "k", &[])).read(&path()).unwrap(), content);
    }
}

/// Bytes of the file that were written twice under the same keystream: those where two states of the disk differ exactly
/// as the two texts do.
fn given_away(before: &[u8], after: &[u8], first: &[u8], second: &[u8]) -> usize {
    let pairs = before.iter().zip(after).zip(first.iter().zip(second));
    pairs.filter(|((a, b), (x, y))| x != y && *a ^ *b == *x ^ *y).count()
}

#[test]
fn a_place_that_is_written_again_gets_another_key() {
    let content = usize::try_from(HEADER_BYTES).unwrap();
    for cipher in CIPHERS {
        let disk = new_disk();
        let first = bytes(6, 4096);
        write(&disk, ring(cipher, "k", &[]), &first);
        let mut expected = first.clone();
        for (round, range) in [(1_u64, 1000..3000), (2, 2000..2500), (3, 900..3100), (4, 0..10)] {
            let before = raw(&disk);
            let old = expected.clone();
            let piece = bytes(100 + round, range.len());
            expected[range.clone()].copy_from_slice(&piece);
            let file = sealed(&disk, ring(cipher, "k", &[])).open(&path(), OpenMode::ReadWrite).unwrap();
            file.write_all_at(&piece, range.start as u64).unwrap();
            file.write_all_at(&piece, range.start as u64).unwrap();
            assert_eq!(sealed(&disk, ring(cipher, "k", &[])).read(&path()).unwrap(), expected, "{round}");
            let after = raw(&disk);
            let given = given_away(&before[content..], &after[content..], &old, &expected);
            assert!(given < 40, "round {round}: {given}");
        }
    }
}

#[test]
fn what_follows_in_a_file_that_was_there_needs_no_other_key() {
    let disk = new_disk();
    write(&disk, ring(Cipher::ChaCha, "k", &[]), &bytes(7, 700));
    let mut expected = bytes(7, 700);
    for round in 0..40 {
        let piece = bytes(round, 333);
        let file = sealed(&disk, ring(Cipher::ChaCha, "k", &[])).open(&path(), OpenMode::ReadWrite).unwrap();
        file.write_all_at(&piece, expected.len() as u64).unwrap();
        expected.extend(piece);
    }
    assert_eq!(sealed(&disk, ring(Cipher::ChaCha, "k", &[])).read(&path()).unwrap(), expected);
}

#[test]
fn parts_that_are_written_again_have_a_bound() {
    let disk = new_disk();
    write(&disk, ring(Cipher::ChaCha, "k", &[]), &bytes(8, 5000));
    let file = sealed(&disk, ring(Cipher::ChaCha, "k", &[])).open(&path(), OpenMode::ReadWrite).unwrap();
    let outcomes: Vec<bool> = (0..9_u64).map(|n| file.write_all_at(&bytes(n, 50), n * 100).is_ok()).collect();
    assert_eq!(outcomes, [vec![true; 8], vec![false]].concat());
    file.write_all_at(&bytes(50, 5000), 0).unwrap();
    assert_eq!(sealed(&disk, ring(Cipher::ChaCha, "k", &[])).read(&path()).unwrap(), bytes(50, 5000));
}

#[test]
fn a_file_used_again_gets_another_key_and_its_content_is_gone() {
    let disk = new_disk();
    let first = bytes(9, 4096);
    write(&disk, ring(Cipher::ChaCha, "k", &[]), &first);
    let before = raw(&disk);
    let file = sealed(&disk, ring(Cipher::ChaCha, "k", &[])).open(&path(), OpenMode::Reuse).unwrap();
    let mut out = vec![0; 4096];
    file.read_exact_at(&mut out, 0).unwrap();
    assert_ne!(out, first);
    file.write_zeros_at(4096, 0).unwrap();
    let second = bytes(10, 4096);
    file.write_all_at(&second, 0).unwrap();
    assert_eq!(sealed(&disk, ring(Cipher::ChaCha, "k", &[])).read(&path()).unwrap(), second);
    assert!(given_away(&before[8192..], &raw(&disk)[8192..], &first, &second) < 60);
}

#[test]
fn a_crash_while_a_part_is_written_again_costs_nothing_outside_of_it() {
    for seed in 0..300 {
        let disk = new_disk();
        let content = bytes(seed, 6000);
        write(&disk, ring(Cipher::Aes, "k", &[]), &content);
        disk.power_off_after(1 + seed % 8);
        let again = bytes(seed + 1, 1024);
        if let Ok(file) = sealed(&disk, ring(Cipher::Aes, "k", &[])).open(&path(), OpenMode::ReadWrite) {
            let done = file.write_all_at(&again, 2048).and_then(|()| file.sync_data());
            disk.crash(seed);
            let back = sealed(&disk, ring(Cipher::Aes, "k", &[])).read(&path()).unwrap();
            assert_eq!(back[..2048], content[..2048], "seed {seed}");
            assert_eq!(back[3072..], content[3072..], "seed {seed}");
            assert!(done.is_err() || back[2048..3072] == again, "seed {seed}");
        }
    }
}

/// A small store in plain text: by path, its content.
fn plain_store(disk: &FaultyDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let mut log = bytes(20, 10_000);
    log.resize(3 << 20, 0);
    let mut ragged = vec![0; 3000];
    ragged[700] = 1;
    let files = [
        ("/s/wal/1.wal", log),
        ("/s/wal/2.wal", vec![0; 1 << 20]),
        ("/s/groups/a/1.blk", bytes(21, 2_500_000)),
        ("/s/groups/a/ragged", ragged),
        ("/s/groups/a/floor.9", Vec::new()),
        ("/s/marker", b"not a secret".to_vec()),
    ];
    for (path, content) in &files {
        let path = Path::new(path);
        disk.create_dir_all(path.parent().unwrap()).unwrap();
        disk.replace(path, content).unwrap();
    }
    files.map(|(path, content)| (PathBuf::from(path), content)).into()
}

fn run(disk: &FaultyDisk, ring: &Arc<KeyRing>, from_plain: bool) -> std::io::Result<crate::Converted> {
    let raw: Arc<dyn Disk> = Arc::new(disk.clone());
    let rng: Arc<dyn linnet_env::Rng> = Arc::new(SeededRng::new(fastrand::u64(..)));
    convert(&raw, ring, &rng, Path::new("/s"), &["marker"], from_plain)
}

fn assert_holds(disk: &FaultyDisk, ring: &Arc<KeyRing>, files: &[(PathBuf, Vec<u8>)]) {
    for (path, content) in files {
        let is_marker = path.ends_with("marker");
        let back = if is_marker { disk.read(path) } else { sealed(disk, ring.clone()).read(path) };
        assert!(back.unwrap() == *content, "{}", path.display());
    }
}

#[test]
fn a_conversion_can_stop_anywhere_and_go_on() {
    let keys = [
        ring(Cipher::ChaCha, "first", &[]),
        ring(Cipher::Aes, "first", &[]),
        ring(Cipher::Aes, "second", &["first"]),
    ];
    let mut interrupted = 0;
    for seed in 0..60 {
        let disk = FaultyDisk::new(seed);
        let files = plain_store(&disk);
        for (round, ring) in keys.iter().enumerate() {
            disk.power_off_after(1 + (seed * 7) % 45);
            let first = run(&disk, ring, round == 0);
            disk.crash(seed);
            let done = run(&disk, ring, round == 0).unwrap();
            interrupted += usize::from(first.is_err() && done.files > 0);
            disk.crash(seed + 1);
            assert_holds(&disk, ring, &files);
            assert_eq!(run(&disk, ring, false).unwrap().files, 0, "nothing is left to do");
        }
        let last = ring(Cipher::Aes, "second", &[]);
        assert_holds(&disk, &last, &files);
    }
    assert!(interrupted > 30, "{interrupted}");
}

#[test]
fn a_conversion_leaves_space_that_waits_as_it_is() {
    let disk = FaultyDisk::new(1);
    plain_store(&disk);
    let ring = ring(Cipher::ChaCha, "k", &[]);
    run(&disk, &ring, true).unwrap();
    assert!(disk.read(Path::new("/s/wal/2.wal")).unwrap()[8192..].iter().all(|b| *b == 0));
    let file = sealed(&disk, ring).open(Path::new("/s/wal/1.wal"), OpenMode::ReadWrite).unwrap();
    for n in 0..20_u64 {
        file.write_all_at(&bytes(n, 4096), 20_480 + n * 8192).unwrap();
    }
}

#[test]
fn a_conversion_with_the_wrong_key_touches_nothing() {
    let disk = FaultyDisk::new(1);
    let files = plain_store(&disk);
    let right = ring(Cipher::ChaCha, "k", &[]);
    run(&disk, &right, true).unwrap();
    assert_eq!(
        run(&disk, &ring(Cipher::ChaCha, "l", &[]), true).unwrap_err().kind(),
        std::io::ErrorKind::PermissionDenied
    );
    assert_holds(&disk, &right, &files);
}

#[test]
fn what_cannot_be_read_is_converted_to_something_that_does_not_verify() {
    let disk = FaultyDisk::new(1);
    let files = plain_store(&disk);
    let block = Path::new("/s/groups/a/1.blk");
    damage(&disk, block, 5000, DamageKind::Unreadable);
    let ring = ring(Cipher::ChaCha, "k", &[]);
    let done = run(&disk, &ring, true).unwrap();
    assert_eq!(done.unreadable_sectors, 1);
    let back = sealed(&disk, ring).read(block).unwrap();
    let differing: BTreeSet<usize> =
        (0..back.len()).filter(|at| back[*at] != files[2].1[*at]).map(|at| at / 512).collect();
    assert_eq!(differing, BTreeSet::from([9]));
    assert!(back[9 * 512..10 * 512].iter().all(|b| *b != 0));
}

#[test]
fn keys_are_told_apart_by_their_checks_and_stay_out_of_logs() {
    let (key, other) = (MasterKey::new("k"), MasterKey::new("l"));
    let check = key.new_check(&SeededRng::new(1));
    assert!(key.fits(&check) && !other.fits(&check));
    assert_ne!(check, key.new_check(&SeededRng::new(2)));
    assert_eq!(format!("{key:?}"), "MasterKey");
}
