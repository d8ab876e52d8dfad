//! Checks a batch against the log and encodes its records, without changing anything.

use hashbrown::HashMap;
use linnet_ids::{GroupId, chain_next, chain_start};

use crate::batch::{Batch, Op};
use crate::error::{Error, Refusal};
use crate::format::SegmentNo;
use crate::group_log::GroupLog;
use crate::record::{
    CheckpointRecord, HardStateRecord, OpenRun, Position, RunHead, put_checkpoint, put_end_group,
    put_hard_state,
};
use crate::state::State;
use crate::wal::Scratch;

const MEMBERSHIP_BYTES_MAX: usize = 64 << 10;

/// A group as the records of the batch so far leave it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    last: u64,
    last_chain: u64,
    applied: u64,
    /// Newest checkpoint, as in [`Position`].
    checkpoint: (u64, u32),
    /// The log known before the batch no longer counts.
    reset: bool,
}

impl Pending {
    fn of(group: GroupId, log: Option<&GroupLog>) -> Self {
        match log {
            Some(log) => {
                let (end, last_chain) = log.end();
                let (applied, checkpoint) = (log.applied(), log.checkpoint_stated);
                Self { last: end - 1, last_chain, applied, checkpoint, reset: false }
            }
            None => {
                let last_chain = chain_start(group);
                Self { last: 0, last_chain, applied: 0, checkpoint: (0, 0), reset: false }
            }
        }
    }

    fn position(&self) -> Position {
        Position {
            last: self.last,
            last_chain: self.last_chain,
            checkpoint: self.checkpoint,
            hard_state_doubtful: false,
            log_doubtful: false,
        }
    }
}

struct Planner<'a> {
    state: &'a State,
    ops: &'a [Op],
    out: &'a mut Vec<u8>,
    chains: &'a mut Vec<u64>,
    pending: &'a mut HashMap<GroupId, Pending>,
    /// The run being written, and the group, term and index that would continue it.
    run: Option<(OpenRun, GroupId, u64, u64)>,
    /// Segment the batch will most likely stand in.
    segment: SegmentNo,
}

/// Encodes the records of a batch into `scratch.records`, or says why they contradict the log.
pub(crate) fn plan(
    state: &State,
    segment: SegmentNo,
    batch: &Batch,
    scratch: &mut Scratch,
) -> Result<(), Error> {
    scratch.records.clear();
    scratch.chains.clear();
    scratch.pending.clear();
    let mut planner = Planner {
        state,
        ops: &batch.ops,
        out: &mut scratch.records,
        chains: &mut scratch.chains,
        pending: &mut scratch.pending,
        run: None,
        segment,
    };
    for op in &batch.ops {
        planner.add(op, &batch.memberships)?;
    }
    Ok(())
}

impl Planner<'_> {
    fn add(&mut self, op: &Op, memberships: &[u8]) -> Result<(), Error> {
        let mut chain = 0;
        match *op {
            Op::Entry { group, index, term, len, crc } => {
                chain = self.entry(group, index, term, (len, crc)).map_err(|r| refused(group, r))?;
            }
            Op::Restore { group, index, len, crc } => {
                self.run = None;
                self.restore(group, index, (len, crc)).map_err(|r| refused(group, r))?;
            }
            Op::HardState { group, term, vote, incarnation, at, len } => {
                self.run = None;
                if len > MEMBERSHIP_BYTES_MAX {
                    return Err(refused(group, Refusal::LongMembership { bytes: len }));
                }
                let position = self.pending(group).position();
                let membership = memberships.get(at..at + len).unwrap_or_default();
                let record = HardStateRecord { group, term, vote, incarnation, membership, position };
                put_hard_state(self.out, &record);
            }
            Op::Checkpoint { group, applied, term, len, crc } => {
                self.run = None;
                self.checkpoint(group, applied, term, (len, crc)).map_err(|r| refused(group, r))?;
            }
            Op::Install { group, applied, term, chain, len, crc } => {
                self.run = None;
                let checkpoint = (applied, crc);
                let pending = Pending { last: applied, last_chain: chain, applied, checkpoint, reset: true };
                self.pending.insert(group, pending);
                let position = pending.position();
                let record =
                    CheckpointRecord { group, applied, term, chain, len, crc, installed: true, position };
                put_checkpoint(self.out, &record);
            }
            Op::EndGroup { group } => {
                self.run = None;
                let empty = Pending { reset: true, ..Pending::of(group, None) };
                self.pending.insert(group, empty);
                put_end_group(self.out, group);
            }
        }
        self.chains.push(chain);
        Ok(())
    }

    fn pending(&mut self, group: GroupId) -> &mut Pending {
        let state = self.state;
        self.pending.entry(group).or_insert_with(|| Pending::of(group, state.groups.get(&group)))
    }

    fn entry(&mut self, group: GroupId, index: u64, term: u64, payload: (u32, u32)) -> Result<u64, Refusal> {
        let pending = *self.pending(group);
        if index <= pending.applied {
            return Err(Refusal::BelowApplied { index, applied: pending.applied });
        }
        if index > pending.last + 1 {
            return Err(Refusal::Gap { index, last: pending.last });
        }
        let previous_chain = if index == pending.last + 1 {
            pending.last_chain
        } else {
            let unknown = Refusal::Gap { index, last: pending.last };
            self.known(group, index - 1).ok_or(unknown)?.0
        };
        let chain = chain_next(previous_chain, index, term, payload.0, payload.1);
        match &mut self.run {
            Some((run, of, in_term, next)) if (*of, *in_term, *next) == (group, term, index) => {
                run.push(self.out, payload.0, payload.1);
                *next += 1;
            }
            _ => {
                let head = RunHead { group, first: index, term, previous_chain };
                let mut run = OpenRun::begin(self.out, &head, false);
                run.push(self.out, payload.0, payload.1);
                self.run = Some((run, group, term, index + 1));
            }
        }
        let pending = self.pending(group);
        pending.last = index;
        pending.last_chain = chain;
        Ok(chain)
    }

    fn restore(&mut self, group: GroupId, index: u64, payload: (u32, u32)) -> Result<(), Refusal> {
        let other = Refusal::OtherEntry { index };
        // Only what stood there before this batch can be damaged; a batch that also changes the log's end there
        // would make it another entry.
        if self.pending.contains_key(&group) {
            return Err(other);
        }
        let log = self.state.groups.get(&group).ok_or(other)?;
        let entry = log.entry(index).ok_or(other)?;
        let previous_chain = log.chain_at(index.saturating_sub(1)).ok_or(other)?;
        if chain_next(previous_chain, index, entry.term, payload.0, payload.1) != entry.chain {
            return Err(other);
        }
        let head = RunHead { group, first: index, term: entry.term, previous_chain };
        OpenRun::begin(self.out, &head, true).push(self.out, payload.0, payload.1);
        Ok(())
    }

    /// Chain hash and, if known, term of an entry that is at or before the end of the group's log.
    fn known(&self, group: GroupId, index: u64) -> Option<(u64, Option<u64>)> {
        let earlier = self.ops.iter().zip(self.chains.iter()).rev();
        for (op, chain) in earlier {
            match *op {
                Op::Entry { group: of, index: at, term, .. } if of == group && at == index => {
                    return Some((*chain, Some(term)));
                }
                Op::Install { group: of, applied, term, chain, .. } if of == group => {
                    return (applied == index).then_some((chain, Some(term)));
                }
                Op::EndGroup { group: of } if of == group => {
                    return (index == 0).then(|| (chain_start(group), None));
                }
                _ => {}
            }
        }
        match self.state.groups.get(&group) {
            Some(log) => Some((log.chain_at(index)?, log.term_at(index))),
            None => (index == 0).then(|| (chain_start(group), None)),
        }
    }

    fn checkpoint(
        &mut self,
        group: GroupId,
        applied: u64,
        term: u64,
        body: (u32, u32),
    ) -> Result<(), Refusal> {
        let pending = *self.pending(group);
        if applied < pending.applied {
            return Err(Refusal::OlderCheckpoint { applied, newest: pending.applied });
        }
        let unknown = Refusal::UnknownPosition { applied };
        if applied > pending.last {
            return Err(unknown);
        }
        let (chain, known_term) = self.known(group, applied).ok_or(unknown)?;
        if known_term.is_some_and(|known| known != term) {
            return Err(unknown);
        }
        self.pending(group).applied = applied;
        self.pending(group).checkpoint = (applied, body.1);
        let log = self.state.groups.get(&group);
        // A hard state that stays behind would keep its segment alive after everything else has moved on.
        if let Some(hard) = log.filter(|_| !pending.reset).and_then(|l| l.hard_state.as_ref())
            && hard.segment != self.segment
            && !self.ops.iter().any(|op| matches!(op, Op::HardState { group: of, .. } if *of == group))
            && log.is_some_and(|l| !l.hard_state_doubtful && !l.log_doubtful)
        {
            let record = HardStateRecord {
                group,
                term: hard.state.term,
                vote: hard.state.vote,
                incarnation: hard.state.incarnation,
                membership: &hard.state.membership,
                position: self.pending(group).position(),
            };
            put_hard_state(self.out, &record);
        }
        // A checkpoint does not acknowledge doubts.
        let log_doubtful = log.is_some_and(|l| l.log_doubtful) && !pending.reset;
        let position = Position { log_doubtful, ..self.pending(group).position() };
        let (len, crc) = body;
        put_checkpoint(
            self.out,
            &CheckpointRecord { group, applied, term, chain, len, crc, installed: false, position },
        );
        Ok(())
    }
}

fn refused(group: GroupId, refusal: Refusal) -> Error {
    Error::Refused { group, refusal }
}
