//! The client protocol: any bytes, cut anywhere, never panic, and cutting changes nothing. The parser for the usual
//! publications never contradicts the general one.

use linnet_wire::client::{Limits, Op, Parsed, parse};
use linnet_wire::{Connect, fast_path, headers};

const LIMITS: Limits = Limits { max_control_line: 256, max_payload: Some(1024), headers: true };

/// Parses everything, then the same bytes arriving in two pieces.
pub fn run(bytes: &[u8]) {
    let whole = operations(bytes);
    let middle = bytes.len() / 2;
    let mut pieces = operations(&bytes[..middle]);
    // What the first piece could not finish is looked at again with the rest behind it.
    let rest = operations(&bytes[pieces.1..]);
    pieces.0.extend(rest.0);
    if pieces.0.len() <= whole.0.len() {
        assert_eq!(whole.0[..pieces.0.len()], pieces.0[..], "cutting the stream changed what it means");
    }
}

/// Text of every operation at the front, and how many bytes they took.
fn operations(bytes: &[u8]) -> (Vec<String>, usize) {
    let mut found = Vec::new();
    let mut at = 0;
    while let Parsed::Op(op, used) = parse(&bytes[at..], &LIMITS) {
        assert!(used > 0 && at + used <= bytes.len());
        if let Some((publication, length)) = fast_path::publication(&bytes[at..], &LIMITS) {
            assert_eq!((Op::Pub(publication), length), (op, used));
        }
        match op {
            Op::Connect(json) => drop(Connect::parse(json)),
            Op::Pub(publication) => {
                let block = &publication.body[..publication.header_len];
                let _ = (headers::status(block).len(), headers::iter(block).count());
                let mut kept = Vec::new();
                headers::retain(&mut kept, block, |key| key.first() == Some(&b'N'));
            }
            _ => {}
        }
        found.push(format!("{op:?}"));
        at += used;
    }
    assert_eq!(fast_path::publication(&bytes[at..], &LIMITS), None, "only one parser takes it");
    (found, at)
}
