use super::*;

/// An `index.db` without its checksum: two subjects, a block with 4 and 6 removed, a gap, an empty last block.
fn state(version: u8) -> Vec<u8> {
    let mut bytes = vec![STATE_MAGIC, version, 6, 100, 3, 0, 20, 18, 2];
    bytes.extend([1, b'a', 1, 1]);
    if version >= 4 {
        bytes.push(1);
    }
    bytes.extend([2, b'b', b'c', 5, 1, 2]);
    // Blocks: number, bytes, first, time, last, time, removed, those with a time to live, schedules.
    let behind: &[u8] = match version {
        1 => &[],
        2 => &[0],
        _ => &[0, 0],
    };
    bytes.push(2);
    bytes.extend([1, 50, 3, 0, 10, 0, 2]);
    bytes.extend(behind);
    bytes.extend([MAGIC, 2, 1, 0, 0, 0, 2, 0, 0, 0]);
    bytes.extend([0; 8]);
    bytes.extend((1_u64 << 4 | 1 << 6).to_le_bytes());
    bytes.extend([0; 31 * 8 + 2]);
    bytes.extend([2, 50, 15, 0, 18, 0, 0]);
    bytes.extend(behind);
    bytes.extend([2, 1, 2, 3, 4, 5, 6, 7, 8]);
    bytes
}

fn read(bytes: &[u8]) -> Result<Vec<Range>, IndexError> {
    let mut input = bytes;
    let mut reader = StateReader::begin(&mut input, bytes.len() as u64, Checksum::keyed("S"))?;
    let mut all = Vec::new();
    loop {
        let left = input.len() as u64;
        match reader.next_removed(&mut input, left)? {
            Some(range) => all.push(range),
            None => break,
        }
    }
    let left = input.len() as u64;
    reader.finish(&mut input, left)?;
    Ok(all)
}

fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = Checksum::keyed("S").of(&[&bytes]);
    bytes.extend(sum);
    bytes
}

#[test]
fn what_the_index_leaves_out_is_removed() {
    for version in STATE_VERSIONS {
        let all = read(&summed(state(version))).unwrap();
        assert_eq!(all, [(1, 2), (4, 4), (6, 6), (11, 14), (19, 20)], "version {version}");
    }
}

#[test]
fn every_cut_and_every_flip_is_noticed() {
    let whole = summed(state(4));
    for len in 0..whole.len() {
        assert!(read(&whole[..len]).is_err(), "cut at {len}");
    }
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            assert!(read(&flipped).is_err(), "flipped at {at}");
        }
    }
}

#[test]
fn runs_of_removed_messages_are_one_range() {
    let mut node = 100_u64.to_le_bytes().to_vec();
    node.extend([0xff; 16]);
    node.extend([0; 8 * 30]);
    node.extend([1, 0]);
    let mut out = VecDeque::new();
    Removals { nodes_left: 1, words: 32 }.node(&mut node.as_slice(), &mut out).unwrap();
    assert_eq!(out, [(100, 227)]);
    // To the very last bit.
    node[8..].fill(0xff);
    out.clear();
    Removals { nodes_left: 1, words: 32 }.node(&mut node.as_slice(), &mut out).unwrap();
    assert_eq!(out, [(100, 2147)]);
}

proptest::proptest! {
    #[test]
    fn garbage_is_read_or_refused(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300), version in 1..=4_u8) {
        let _ = read(&bytes);
        let _ = read(&[&[STATE_MAGIC, version][..], &bytes].concat());
        let _ = BlockIndex::parse(&[&[MAGIC, 1][..], &bytes].concat());
    }
}
