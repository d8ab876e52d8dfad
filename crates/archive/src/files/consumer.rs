//! State of a consumer: `o.dat` of older servers.
//!
//! | Field | Form |
//! |---|---|
//! | 22, version 1 or 2 | bytes |
//! | acknowledged up to: delivery, message; delivered up to: delivery, message | uvarint each |
//! | number of pending messages; if there are some, a time in seconds | uvarint, varint |
//! | each: message and (version 2) delivery behind those acknowledged, seconds before (version 1: after) the time | uvarint, uvarint, varint |
//! | number of messages delivered again; each: message behind the one acknowledged, how often | uvarint |
//!
//! Version 1 names the next delivery behind those acknowledged instead of the last one. The layout is that of
//! `encodeConsumerState` and `decodeConsumerState` in nats-server's `server/store.go` and `server/filestore.go`.

use std::collections::BTreeMap;

use crate::entry::{EntryError, read_uvarint, zigzag};
use crate::{ArchivedPending, ArchivedState, Position};

const MAGIC: u8 = 22;
/// Pending messages of a consumer; the same for those delivered again.
const AWAITED_MAX: u64 = 4_000_000;
const NANOS: i64 = 1_000_000_000;

/// Reads a state. The error is the reason.
pub(super) fn decode(mut bytes: &[u8]) -> Result<ArchivedState, &'static str> {
    let (magic, version) = match bytes {
        [magic, version, rest @ ..] => {
            let start = (*magic, *version);
            bytes = rest;
            start
        }
        _ => return Err("cut short"),
    };
    if magic != MAGIC || !(1..=2).contains(&version) {
        return Err("unknown version");
    }
    let mut state = ArchivedState {
        ack_floor: position(&mut bytes)?,
        delivered: position(&mut bytes)?,
        ..ArchivedState::default()
    };
    if version == 1 {
        let behind = |next: u64, floor: u64| if floor > 1 { next.saturating_add(floor - 1) } else { next };
        state.delivered.consumer_seq = behind(state.delivered.consumer_seq, state.ack_floor.consumer_seq);
        state.delivered.stream_seq = behind(state.delivered.stream_seq, state.ack_floor.stream_seq);
    }
    let pending = pending(&mut bytes, version, state.ack_floor)?;
    let redelivered = redelivered(&mut bytes, state.ack_floor.stream_seq)?;
    state.pending = (!pending.is_empty()).then_some(pending);
    state.redelivered = (!redelivered.is_empty()).then_some(redelivered);
    Ok(state)
}

fn position(bytes: &mut &[u8]) -> Result<Position, &'static str> {
    Ok(Position { consumer_seq: uvarint(bytes)?, stream_seq: uvarint(bytes)? })
}

fn pending(
    bytes: &mut &[u8],
    version: u8,
    floor: Position,
) -> Result<BTreeMap<u64, ArchivedPending>, &'static str> {
    let mut all = BTreeMap::new();
    let count = count(bytes)?;
    if count == 0 {
        return Ok(all);
    }
    let base = varint(bytes)?;
    for _ in 0..count {
        let seq = above(uvarint(bytes)?, floor.stream_seq)?;
        let sequence = match version {
            1 => 0,
            _ => above(uvarint(bytes)?, floor.consumer_seq)?,
        };
        let offset = varint(bytes)?;
        let seconds = if version == 1 { base.saturating_add(offset) } else { base.saturating_sub(offset) };
        all.insert(seq, ArchivedPending { sequence, timestamp: seconds.saturating_mul(NANOS) });
    }
    Ok(all)
}

fn redelivered(bytes: &mut &[u8], floor: u64) -> Result<BTreeMap<u64, u64>, &'static str> {
    let mut all = BTreeMap::new();
    for _ in 0..count(bytes)? {
        let (seq, times) = (above(uvarint(bytes)?, floor)?, uvarint(bytes)?);
        if times > 0 {
            all.insert(seq, times);
        }
    }
    Ok(all)
}

fn above(offset: u64, floor: u64) -> Result<u64, &'static str> {
    floor.checked_add(offset).filter(|seq| *seq < 1 << 63).ok_or("impossible sequence")
}

fn count(bytes: &mut &[u8]) -> Result<u64, &'static str> {
    Some(uvarint(bytes)?).filter(|count| *count <= AWAITED_MAX).ok_or("too much is pending")
}

fn uvarint(bytes: &mut &[u8]) -> Result<u64, &'static str> {
    read_uvarint(bytes).map_err(|error| match error {
        EntryError::Cut => "cut short",
        EntryError::Length | EntryError::Io(_) => "impossible number",
    })
}

fn varint(bytes: &mut &[u8]) -> Result<i64, &'static str> {
    uvarint(bytes).map(zigzag)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Deliveries 1 to 12 of messages up to 14; 2 acknowledged up to message 3; pending with redeliveries.
    const REAL: &[u8] =
        &[22, 2, 2, 3, 12, 14, 2, 0xcc, 0xda, 0xe5, 0xb0, 0x0d, 7, 5, 6, 1, 1, 8, 2, 7, 1, 6, 3];

    #[test]
    fn what_is_pending_and_delivered_again_is_read() {
        let state = decode(REAL).unwrap();
        assert_eq!(state.ack_floor, Position { consumer_seq: 2, stream_seq: 3 });
        assert_eq!(state.delivered, Position { consumer_seq: 12, stream_seq: 14 });
        let base = 1_795_995_302;
        let pending = |sequence, ago: i64| ArchivedPending { sequence, timestamp: (base - ago) * NANOS };
        assert_eq!(state.pending.unwrap(), [(4, pending(3, 4)), (10, pending(7, 3))].into());
        assert_eq!(state.redelivered.unwrap(), [(9, 3), (10, 1)].into());
        for len in 0..REAL.len() {
            decode(&REAL[..len]).unwrap_err();
        }
    }

    #[test]
    fn version_1_counts_from_the_next_delivery() {
        // Floor 3/4, next delivery 5 behind: message 5 at base + 2 s.
        let state = decode(&[22, 1, 3, 4, 5, 6, 1, 20, 1, 4, 0]).unwrap();
        assert_eq!(state.delivered, Position { consumer_seq: 7, stream_seq: 9 });
        let pending = ArchivedPending { sequence: 0, timestamp: 12 * NANOS };
        assert_eq!(state.pending.unwrap(), [(5, pending)].into());
        let fresh = decode(&[22, 1, 0, 0, 1, 1, 0, 0]).unwrap();
        assert_eq!(fresh.delivered, Position { consumer_seq: 1, stream_seq: 1 });
    }

    #[test]
    fn impossible_states_are_refused() {
        assert_eq!(decode(&[22, 3, 0, 0, 0, 0, 0, 0]), Err("unknown version"));
        assert_eq!(decode(&[22, 2, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]), Err("too much is pending"));
        let huge = [&[22, 2, 1, 1, 1, 1, 1, 0][..], &[0xff; 9], &[1]].concat();
        assert_eq!(decode(&huge), Err("impossible sequence"));
    }

    proptest! {
        #[test]
        fn garbage_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
            let _ = decode(&[&[22, 2][..], &bytes].concat());
        }
    }
}
