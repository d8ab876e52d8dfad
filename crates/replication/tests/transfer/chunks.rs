//! Chunks that arrive damaged, late, twice, in another order, or from a leader that is wrong.

use bytes::Bytes;
use linnet_ids::{GroupId, Wall};
use linnet_jsapi::policies::StorageType;
use linnet_replication::transfer::{
    ChunkRequest, Description, Part, Sink, Source, SourceError, TransferError, WINDOW,
};
use linnet_store::{Kind, Seed, State, StreamStore, encode_record};
use proptest::prelude::*;

use crate::bench::{Bench, GROUP, START, config, dump};
use crate::replicas::{busy, chunk_of, pull};

/// Bytes of a chunk before its content.
const HEAD: usize = 24;

fn present() -> StreamStore {
    StreamStore::new(Kind::Memory, Seed::of(GROUP), 0, -1)
}

fn begin(source: &Source) -> Sink {
    Sink::begin(&mut present(), &source.description()).unwrap()
}

fn refused(sink: &mut Sink, chunk: &[u8]) -> TransferError {
    sink.take(&Bytes::copy_from_slice(chunk)).unwrap_err()
}

#[test]
fn what_did_not_arrive_as_it_was_sent_is_refused_and_asked_for_again() {
    let mut leader = busy(Kind::Memory, |_| {});
    let source = Source::with_chunks_of(&mut leader.stream, 99, 900);
    let mut sink = begin(&source);
    let mut chunks = 0;
    while let [request, ..] = sink.next_requests(1)[..] {
        let chunk = source.chunk(request).unwrap().bytes;
        for at in (0..chunk.len()).filter(|at| *at < HEAD || at % 31 == 0) {
            let mut bad = chunk.to_vec();
            bad[at] ^= 1 << (at % 8);
            assert!(matches!(refused(&mut sink, &bad), TransferError::Damaged), "byte {at}");
        }
        for len in (0..chunk.len()).filter(|len| *len < 2 * HEAD || len % 37 == 0) {
            assert!(matches!(refused(&mut sink, &chunk[..len]), TransferError::Damaged), "{len} bytes");
        }
        let mut longer = chunk.to_vec();
        longer.push(0);
        assert!(!refused(&mut sink, &longer).is_final());
        assert!(sink.next_requests(1).is_empty());
        sink.ask_again();
        assert_eq!(sink.next_requests(1), [request]);
        sink.take(&chunk).unwrap();
        chunks += 1;
    }
    assert!(chunks > 10);
    let received = sink.finish(START).unwrap();
    let (mut stream, _) = received.into_stream(&mut present(), START, Default::default(), Default::default());
    assert_eq!(dump(&mut stream), leader.dump());
}

#[test]
fn any_order_will_do_and_twice_is_once() {
    let mut leader = busy(Kind::Memory, |_| {});
    let source = Source::with_chunks_of(&mut leader.stream, 99, 500);
    for seed in 0..50 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut sink = begin(&source);
        let mut on_the_way: Vec<ChunkRequest> = Vec::new();
        let mut taken = Vec::new();
        loop {
            on_the_way.extend(sink.next_requests(WINDOW));
            if rng.u8(..10) == 0 {
                sink.ask_again();
                // What comes late is not asked for twice.
                on_the_way.retain(|_| rng.bool());
            }
            if sink.is_complete() {
                break;
            }
            if on_the_way.is_empty() {
                continue;
            }
            let request = on_the_way.swap_remove(rng.usize(..on_the_way.len()));
            sink.take(&source.chunk(request).unwrap().bytes).unwrap();
            taken.push(request);
            if rng.u8(..3) == 0 {
                let again = taken[rng.usize(..taken.len())];
                let before = sink.progress();
                assert_eq!(sink.take(&source.chunk(again).unwrap().bytes).unwrap(), before);
            }
        }
        let received = sink.finish(START).unwrap();
        let (mut stream, _) =
            received.into_stream(&mut present(), START, Default::default(), Default::default());
        assert_eq!(dump(&mut stream), leader.dump());
    }
}

#[test]
fn no_more_is_asked_for_than_the_window_lets() {
    let mut leader = busy(Kind::Memory, |_| {});
    let source = Source::with_chunks_of(&mut leader.stream, 99, 500);
    let mut sink = begin(&source);
    // How many there are says the first.
    let first = ChunkRequest { transfer: 99, part: Part::State(0) };
    assert_eq!(sink.next_requests(WINDOW), [first]);
    sink.take(&source.chunk(first).unwrap().bytes).unwrap();
    let requests = sink.next_requests(3);
    assert_eq!(requests.len(), 3);
    assert!(sink.next_requests(3).is_empty());
    // The second and third wait for the first.
    for request in requests.iter().skip(1) {
        sink.take(&source.chunk(*request).unwrap().bytes).unwrap();
        assert!(sink.next_requests(3).is_empty());
    }
    sink.take(&source.chunk(requests[0]).unwrap().bytes).unwrap();
    assert_eq!(sink.next_requests(3).len(), 3);
}

#[test]
fn what_nobody_asked_for_is_refused() {
    let mut leader = busy(Kind::Memory, |_| {});
    let source = Source::with_chunks_of(&mut leader.stream, 99, 500);
    let other = Source::with_chunks_of(&mut leader.stream, 98, 500);
    let mut sink = begin(&source);
    let error = sink.take(&chunk_of(&source, Part::State(0))).unwrap_err();
    assert_eq!(error.to_string(), "nobody asked for part 0 of the state");
    sink.next_requests(1);
    let error = sink.take(&chunk_of(&source, Part::Messages(0))).unwrap_err();
    assert_eq!(error.to_string(), "nobody asked for part 0 of the messages");
    let error = sink.take(&chunk_of(&other, Part::State(0))).unwrap_err();
    assert!(matches!(error, TransferError::OtherTransfer));
    assert!(!error.is_final());
    assert!(!sink.is_complete());
    assert!(matches!(sink.finish(START), Err(TransferError::Incomplete)));
    let request = |transfer, part| source.chunk(ChunkRequest { transfer, part });
    assert!(matches!(request(98, Part::State(0)), Err(SourceError::OtherTransfer)));
    assert!(matches!(request(99, Part::State(999)), Err(SourceError::NoSuchPart(_))));
    assert!(matches!(request(99, Part::Messages(1 << 40)), Err(SourceError::NoSuchPart(_))));
}

#[test]
fn requests_and_descriptions_survive_their_bytes_and_nothing_else_passes() {
    for part in [Part::State(0), Part::State(u32::MAX), Part::Messages(0), Part::Messages(u64::MAX >> 1)] {
        let request = ChunkRequest { transfer: 7, part };
        assert_eq!(ChunkRequest::from_bytes(&request.to_bytes()), Some(request));
        assert_eq!(ChunkRequest::from_bytes(&request.to_bytes()[1..]), None);
    }
    let mut leader = busy(Kind::Memory, |_| {});
    let bytes = Source::new(&mut leader.stream, 5).description();
    let read = Description::from_bytes(&bytes).unwrap();
    assert_eq!(read.to_bytes(), bytes);
    assert_eq!(read.state, *leader.stream.store().state());
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(Description::from_bytes(&bad).is_err(), "bit {bit}");
    }
    (0..bytes.len()).for_each(|len| assert!(Description::from_bytes(&bytes[..len]).is_err()));
    let state = State { msgs: u64::MAX, ..State::default() };
    for impossible in [
        Description { chunk_bytes: 0, ..read },
        Description { places: u64::MAX, ..read },
        Description { state, ..read },
        Description { state: State { last_seq: u64::MAX, ..read.state }, ..read },
        Description { state: State { lost: (u64::MAX, 0), ..read.state }, ..read },
        Description { state: State { lost: (0, u64::MAX), ..read.state }, ..read },
    ] {
        assert!(Description::from_bytes(&impossible.to_bytes()).is_err(), "{impossible:?}");
    }
}

/// A chunk as a leader would send it that is wrong.
fn forge(part: Part, extent: u32, content: &[u8]) -> Bytes {
    let mut out = vec![0; 4];
    out.extend_from_slice(&ChunkRequest { transfer: 99, part }.to_bytes());
    out.extend_from_slice(&extent.to_le_bytes());
    out.extend_from_slice(content);
    let crc = crc32fast::hash(&out[4..]);
    out[..4].copy_from_slice(&crc.to_le_bytes());
    out.into()
}

fn record_of(group: GroupId, seq: u64) -> Vec<u8> {
    let mut out = Vec::new();
    encode_record(&mut out, Seed::of(group), seq, Wall(1), b"s.a", 0, b"x");
    out
}

/// The error that forged messages lead to, at once or in the end.
fn ends_with(content: &[u8], extent: u32) -> String {
    let mut leader = Bench::new(Kind::Memory, config(StorageType::Memory));
    (0..3).for_each(|_| drop(leader.publish("s.a", &[], b"x")));
    let source = Source::new(&mut leader.stream, 99);
    let mut sink = begin(&source);
    sink.next_requests(1);
    sink.take(&chunk_of(&source, Part::State(0))).unwrap();
    sink.next_requests(1);
    let error = match sink.take(&forge(Part::Messages(0), extent, content)) {
        Err(error) => error,
        Ok(_) => sink.finish(START).unwrap_err(),
    };
    assert!(error.is_final());
    error.to_string()
}

#[test]
fn a_leader_that_contradicts_itself_is_not_followed() {
    let record = |seq| record_of(GROUP, seq);
    let all = [record(1), record(2), record(3)].concat();
    let ends = |content: &[u8]| ends_with(content, u32::try_from(content.len()).unwrap());
    let order = [record(1), record(3), record(2)].concat();
    assert_eq!(ends(&order), "message 2 follows message 3");
    let twice = [record(1), record(1)].concat();
    assert_eq!(ends(&twice), "message 1 follows message 1");
    assert_eq!(
        ends(&[record(1), record(3)].concat()),
        "the state contradicts itself: 2 messages instead of 3"
    );
    let behind = [record(1), record(2), record(4)].concat();
    assert_eq!(ends(&behind), "the state contradicts itself: a message behind the last one");
    let mut longer = Vec::new();
    encode_record(&mut longer, Seed::of(GROUP), 3, Wall(1), b"s.a", 0, b"longer");
    let bytes = [record(1), record(2), longer].concat();
    assert!(ends(&bytes).contains("bytes instead of"));
    let foreign = [record(1), record_of(GroupId::META, 2)].concat();
    assert_eq!(ends(&foreign), "not a record of this stream: record checksum mismatch");
    assert_eq!(ends(&all[..all.len() - 1]), "not a record of this stream: record is cut short");
    let lengths = "the state contradicts itself: lengths of records and damage";
    assert_eq!(ends_with(&all, u32::MAX), lengths);
    assert_eq!(ends_with(&all, u32::try_from(all.len()).unwrap() - 5), lengths);
}

#[test]
fn a_state_that_cannot_be_is_not_taken() {
    let mut leader = busy(Kind::Memory, |_| {});
    let source = Source::with_chunks_of(&mut leader.stream, 99, 700);
    let good = chunk_of(&source, Part::State(0));
    let content = &good[HEAD..];
    for (parts, content, expected) in [
        (0, content, "lengths of the state"),
        (1, content, "the state cannot be read"),
        (1, &[0xff; 8][..], "the state cannot be read"),
        (1, &[][..], "the state cannot be read"),
        (u32::MAX, content, "lengths of the state"),
        (2, &[0; 701][..], "lengths of the state"),
    ] {
        let mut sink = begin(&source);
        sink.next_requests(1);
        let error = sink.take(&forge(Part::State(0), parts, content)).unwrap_err();
        assert_eq!(error.to_string(), format!("the state contradicts itself: {expected}"));
        assert!(error.is_final());
        sink.discard();
    }
    // Two numbers of parts.
    let mut sink = begin(&source);
    sink.next_requests(1);
    sink.take(&good).unwrap();
    sink.next_requests(1);
    let error = sink.take(&forge(Part::State(1), 2, content)).unwrap_err();
    assert_eq!(error.to_string(), "the state contradicts itself: lengths of the state");
    let mut sink = begin(&source);
    pull(&source, &mut sink);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..120),
        extent in any::<u32>(),
        state in any::<bool>(),
    ) {
        let _ = Description::from_bytes(&bytes);
        let _ = ChunkRequest::from_bytes(&bytes);
        let mut leader = Bench::new(Kind::Memory, config(StorageType::Memory));
        leader.publish("s.a", &[], b"x");
        let source = Source::new(&mut leader.stream, 99);
        let mut sink = begin(&source);
        let _ = sink.take(&Bytes::from(bytes.clone()));
        sink.next_requests(1);
        if !state {
            sink.take(&chunk_of(&source, Part::State(0))).unwrap();
            sink.next_requests(1);
        }
        let part = if state { Part::State(0) } else { Part::Messages(0) };
        let _ = sink.take(&forge(part, extent % 200, &bytes));
    }
}
