use linnet_assets::Stream;
use linnet_ids::{GroupId, PeerId, chain_start};
use linnet_raft::{Entry, HELD_BYTES_MAX, HardState, LogPoint, Opening};
use linnet_wal::{Integrity, RecoveredGroup, Wal};

use crate::open::{OpenFailure, Restored, open_at_checkpoint};

/// What a node of this server begins with, as far as the log can vouch for it. A log that may lack something ends,
/// for the node, before the first entry that it cannot read: the rest comes from others.
pub fn open_replica(
    group: GroupId,
    me: PeerId,
    recovered: Option<&RecoveredGroup>,
    wal: &Wal,
    seed: u64,
) -> Opening {
    let state = recovered.and_then(|r| r.hard_state.as_ref()).and_then(|state| {
        HardState::from_record(state.term, state.vote, state.incarnation, &state.membership).ok()
    });
    let Some(hard) = state else { return Opening::forgotten(group, me, seed) };
    let is_intact = recovered.is_some_and(|r| r.integrity == Integrity::Intact);
    let checkpoint = recovered.and_then(|r| r.checkpoint);
    let base = match checkpoint {
        Some(c) => LogPoint { index: c.applied, term: c.term, chain: c.chain },
        None => LogPoint { chain: chain_start(group), ..LogPoint::default() },
    };
    let mut last = base;
    let mut terms = Vec::new();
    let mut held = Vec::new();
    let mut is_whole = true;
    for entry in wal.entries(group) {
        let Some(entry) = entry.ok().filter(|entry| entry.index == last.index + 1) else {
            is_whole = false;
            break;
        };
        if last.term != entry.term || terms.is_empty() {
            terms.push((entry.index, entry.term));
        }
        last = LogPoint { index: entry.index, term: entry.term, chain: entry.chain };
        held.push(Entry::new(entry.term, entry.payload.into()));
    }
    let may_have_forgotten = !is_intact || !is_whole;
    Opening {
        group,
        me,
        hard,
        base,
        terms,
        last,
        held_bytes_max: HELD_BYTES_MAX,
        held,
        may_have_forgotten,
        seed,
    }
}

/// A replica of a stream as this server has it: the stream as its checkpoint describes it, and the node that goes on
/// there. Where the log cannot vouch for the checkpoint, the replica begins at the beginning, with nothing: entries must
/// not be applied to a state that has them.
pub fn open_stream_replica(
    opening: &crate::Opening<'_>,
    me: PeerId,
    seed: u64,
) -> Result<(Stream, Opening, Restored), OpenFailure> {
    let node = open_replica(opening.group, me, opening.recovered, opening.wal, seed);
    let checkpoint = opening.recovered.and_then(|r| r.checkpoint).map_or(0, |c| c.applied);
    if node.base.index == checkpoint {
        let (stream, restored) = open_at_checkpoint(opening)?;
        return Ok((stream, node, restored));
    }
    let nothing = crate::Opening {
        without_checkpoint: true,
        config: opening.config.clone(),
        dir: opening.dir.clone(),
        place: opening.place.clone(),
        ..*opening
    };
    let (stream, restored) = open_at_checkpoint(&nothing)?;
    Ok((stream, node, restored))
}
