use linnet_jsapi::requests::StreamRestoreRequest;
use proptest::prelude::*;

use super::block::tests::{BURIES, GONE, record};
use super::tar::tests::file;
use super::*;
use crate::{Position, Reader};

/// The parts of a tar, in words.
fn parts(tar: &[u8]) -> Result<Vec<String>, Error> {
    let mut reader = FilesReader::new(tar)?;
    let mut parts = Vec::new();
    loop {
        parts.push(match reader.next_part()? {
            Part::Consumer(name, consumer) => format!("{name} {:?}", consumer.state.map(|s| s.delivered)),
            Part::Message(m) => format!("{} {}", m.seq, String::from_utf8_lossy(&m.name)),
            Part::Removed { first, last } => format!("{first}-{last} removed"),
            Part::End(end) => {
                parts.push(format!("up to {} at {:?}", end.last_seq, end.last_ts));
                return Ok(parts);
            }
        });
    }
}

fn meta() -> Vec<u8> {
    let json = br#"{"Created":"2025-01-02T03:04:05Z","name":"S"}"#;
    let sum: String = Checksum::keyed("S").of(&[json]).iter().map(|b| format!("{b:02x}")).collect();
    [file("meta.inf", json), file("meta.sum", sum.as_bytes())].concat()
}

fn whole(files: &[Vec<u8>]) -> Vec<u8> {
    [meta(), files.concat(), vec![0; 1024]].concat()
}

fn block(number: u32, records: &[(u64, &str)]) -> Vec<u8> {
    let sum = Checksum::keyed(&format!("S-{number}"));
    let bytes: Vec<u8> =
        records.iter().flat_map(|(seq, subject)| record(&sum, *seq, subject, None, "x")).collect();
    file(&format!("msgs/{number}.blk"), &bytes)
}

#[test]
fn messages_are_told_with_what_is_removed_of_them() {
    let first = block(1, &[(1, "a"), (2, "b"), (GONE | 3, ""), (4, "c")]);
    let second = block(2, &[(BURIES | 2, ""), (5, "d"), (5, "again"), (BURIES | 9, "")]);
    let told = parts(&whole(&[first, second])).unwrap();
    let expected = ["1 a", "2 b", "4 c", "2-2 removed", "5 d", "9-9 removed", "up to 9 at Some(7)"];
    assert_eq!(told, expected);
}

#[test]
fn an_index_before_a_block_says_what_is_there_of_it() {
    // First 2, last 9 at 7 ns; 4 is removed.
    let index = [&[22, 1, 0, 0, 2, 0, 9, 14, 1][..], &[0; 8], &[2]].concat();
    let files = [file("msgs/1.idx", &index), block(1, &[(1, "a"), (2, "b"), (3, "c"), (4, "d")])];
    assert_eq!(parts(&whole(&files)).unwrap(), ["2 b", "3 c", "up to 9 at Some(7)"]);
    let unknown = file("msgs/1.idx", &[22, 2, 0]);
    assert!(parts(&whole(&[unknown])).unwrap_err().to_string().ends_with("msgs/1.idx: unknown version"));
}

#[test]
fn consumers_come_with_or_without_a_state() {
    let config = br#"{"Name":"C","durable_name":"C","Created":"2025-01-02T03:04:05Z"}"#;
    let state = [22, 2, 0, 0, 3, 5, 0, 0];
    let files = [file("obs/A/meta.inf", config), file("obs/B/meta.inf", config), file("obs/B/o.dat", &state)];
    let delivered = Position { consumer_seq: 3, stream_seq: 5 };
    let told = parts(&whole(&files)).unwrap();
    assert_eq!(told, ["A None".to_owned(), format!("B {:?}", Some(delivered)), "up to 0 at None".to_owned()]);
    let stray = parts(&whole(&[file("obs/B/o.dat", &state)])).unwrap_err().to_string();
    assert_eq!(stray, "backup has an invalid file obs/B/o.dat: not behind the configuration of its consumer");
}

#[test]
fn damage_is_refused_with_its_place() {
    let error = |files: &[Vec<u8>]| parts(&whole(files)).unwrap_err().to_string();
    let mut damaged = block(1, &[(1, "a")]);
    damaged[512 + 23] ^= 1;
    assert_eq!(error(&[damaged]), "backup has an invalid file msgs/1.blk: a record has a wrong checksum");
    assert_eq!(error(&[file("meta.sum", b"0")]), "backup has an invalid file meta.sum: wrong checksum");
    assert_eq!(error(&[file("errors.txt", b"disk gone")]), "backup is incomplete: disk gone");
    assert_eq!(
        parts(&file("msgs/1.blk", b"")).unwrap_err().to_string(),
        "backup has an invalid entry: the configuration is missing"
    );
    let cut = meta();
    assert!(matches!(parts(&cut), Err(Error::Truncated)));
}

/// A backup that a server of this version made (testdata/README.md).
fn real(server: &str, stream: &str) -> Vec<u8> {
    let path = format!("{}/testdata/{server}-{stream}.tar.s2", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).unwrap()
}

fn read_real(bytes: &[u8]) -> Result<(Vec<u64>, Vec<String>, End), Error> {
    let mut reader = Reader::new(bytes)?;
    let (mut there, mut consumers) = (std::collections::BTreeSet::new(), Vec::new());
    loop {
        match reader.next_part()? {
            Part::Message(m) => drop(there.insert(m.seq)),
            Part::Removed { first, last } => there.retain(|seq| !(first..=last).contains(seq)),
            Part::Consumer(name, consumer) => consumers.push(format!("{name} {:?}", consumer.state.unwrap())),
            Part::End(end) => return Ok((there.into_iter().collect(), consumers, end)),
        }
    }
}

#[test]
fn backups_of_older_servers_are_read() {
    for server in ["2.9.25", "2.10.26", "2.12.8", "2.14.6"] {
        for stream in ["PLAIN", "SQUEEZED", "SHRUNK"] {
            let path = format!("{}/testdata/{server}-{stream}.json", env!("CARGO_MANIFEST_DIR"));
            let request: StreamRestoreRequest =
                serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            let state = request.state;
            let (there, consumers, end) = read_real(&real(server, stream)).unwrap();
            assert_eq!(there.len() as u64, state.msgs, "{server} {stream} {there:?}");
            assert_eq!(there.first(), Some(&state.first_seq), "{server} {stream}");
            let last = End { last_seq: state.last_seq, last_ts: state.last_ts.map(|at| at.0) };
            assert_eq!(end, last, "{server} {stream}");
            assert_eq!(consumers.len() as u64, state.consumer_count, "{server} {stream}");
        }
    }
}

#[test]
fn every_cut_of_a_real_backup_is_noticed() {
    let whole = real("2.12.8", "PLAIN");
    let mut reader = FilesReader::new(std::io::BufReader::new(linnet_s2::FrameReader::new(whole.as_slice())));
    assert!(reader.as_mut().is_ok_and(|r| r.next_part().is_ok()));
    for len in 0..whole.len() {
        assert!(read_real(&whole[..len]).is_err(), "cut at {len} of {}", whole.len());
    }
}

proptest! {
    #[test]
    fn damaged_files_are_read_or_refused(at in 0..8000_usize, byte: u8) {
        let index = [&[22, 1, 0, 0, 2, 0, 9, 14, 1][..], &[0; 8], &[2]].concat();
        let consumer = file("obs/B/o.dat", &[22, 2, 0, 0, 3, 5, 0, 0]);
        let files = [file("msgs/1.idx", &index), block(1, &[(1, "a"), (2, "b")]), file("obs/B/meta.inf", b"{}"), consumer];
        let mut bytes = whole(&files);
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = parts(&bytes);
    }
}
