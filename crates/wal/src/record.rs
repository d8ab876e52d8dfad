//! Records of a batch directory.
//!
//! All numbers are little-endian. Payloads of entries and checkpoint bodies stand in the data sectors, in the order
//! of their records and without gaps; everything else, hard states included, stands in the directory itself.

use linnet_ids::GroupId;

use crate::format::SegmentNo;

const START: u8 = 1;
const END: u8 = 2;
const RUN: u8 = 3;
const REWRITTEN_RUN: u8 = 4;
const HARD_STATE: u8 = 5;
const CHECKPOINT: u8 = 6;
const POSITION: u8 = 7;
const END_GROUP: u8 = 8;
const LOSS: u8 = 9;

/// Bytes of one entry inside a run.
const RUN_ENTRY_LEN: usize = 8;

/// First record of a segment's first batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) version: u16,
    /// The segment before this one; 0 for the first of a store.
    pub(crate) previous: SegmentNo,
    /// Sector of the previous segment from which on its content is void.
    pub(crate) cut: u32,
    /// Length of this segment.
    pub(crate) sectors: u32,
}

/// Only record of a segment's last batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) next: SegmentNo,
    pub(crate) next_sectors: u32,
    /// The next segment's start was durable before this record was written.
    pub(crate) next_begun: bool,
}

/// Where a group's log ends, and what could not be known about it when this was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) last: u64,
    pub(crate) last_chain: u64,
    /// The newest checkpoint: its applied index and the checksum of its body.
    pub(crate) checkpoint: (u64, u32),
    pub(crate) hard_state_doubtful: bool,
    pub(crate) log_doubtful: bool,
}

/// Consecutive entries of one group and term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunHead {
    pub(crate) group: GroupId,
    pub(crate) first: u64,
    pub(crate) term: u64,
    /// Chain hash of the entry before the first.
    pub(crate) previous_chain: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HardStateRecord<'a> {
    pub(crate) group: GroupId,
    pub(crate) term: u64,
    pub(crate) vote: Option<[u8; 16]>,
    pub(crate) incarnation: u64,
    pub(crate) membership: &'a [u8],
    pub(crate) position: Position,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CheckpointRecord {
    pub(crate) group: GroupId,
    pub(crate) applied: u64,
    pub(crate) term: u64,
    pub(crate) chain: u64,
    pub(crate) len: u32,
    pub(crate) crc: u32,
    /// The log before and after is given up; it goes on behind `applied`.
    pub(crate) installed: bool,
    pub(crate) position: Position,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    Start(Start),
    End(End),
    Run {
        head: RunHead,
        rewritten: bool,
        entries: RunEntries<'a>,
    },
    HardState(HardStateRecord<'a>),
    Checkpoint(CheckpointRecord),
    Position {
        group: GroupId,
        position: Position,
    },
    EndGroup(GroupId),
    /// Something unknown was lost between what stands before this record and what stands behind it.
    Loss,
}

/// Lengths and checksums of a run's payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunEntries<'a>(&'a [u8]);

impl RunEntries<'_> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        self.0.as_chunks::<RUN_ENTRY_LEN>().0.iter().map(|entry| {
            let [a, b, c, d, e, f, g, h] = *entry;
            (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
        })
    }
}

fn put_position(out: &mut Vec<u8>, position: &Position) {
    out.push(u8::from(position.hard_state_doubtful) | u8::from(position.log_doubtful) << 1);
    out.extend_from_slice(&position.last.to_le_bytes());
    out.extend_from_slice(&position.last_chain.to_le_bytes());
    out.extend_from_slice(&position.checkpoint.0.to_le_bytes());
    out.extend_from_slice(&position.checkpoint.1.to_le_bytes());
}

pub(crate) fn put_start(out: &mut Vec<u8>, start: &Start) {
    out.push(START);
    out.extend_from_slice(&start.version.to_le_bytes());
    out.extend_from_slice(&start.previous.to_le_bytes());
    out.extend_from_slice(&start.cut.to_le_bytes());
    out.extend_from_slice(&start.sectors.to_le_bytes());
}

pub(crate) fn put_end(out: &mut Vec<u8>, end: &End) {
    out.push(END);
    out.extend_from_slice(&end.next.to_le_bytes());
    out.extend_from_slice(&end.next_sectors.to_le_bytes());
    out.push(u8::from(end.next_begun));
}

/// A run that grows while it is encoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenRun {
    count_at: usize,
    count: u32,
}

impl OpenRun {
    pub(crate) fn begin(out: &mut Vec<u8>, head: &RunHead, rewritten: bool) -> Self {
        out.push(if rewritten { REWRITTEN_RUN } else { RUN });
        out.extend_from_slice(&head.group.to_bytes());
        out.extend_from_slice(&head.first.to_le_bytes());
        out.extend_from_slice(&head.term.to_le_bytes());
        out.extend_from_slice(&head.previous_chain.to_le_bytes());
        let count_at = out.len();
        out.extend_from_slice(&[0; 4]);
        Self { count_at, count: 0 }
    }

    pub(crate) fn push(&mut self, out: &mut Vec<u8>, len: u32, crc: u32) {
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&crc.to_le_bytes());
        self.count += 1;
        if let Some(count) = out.get_mut(self.count_at..self.count_at + 4) {
            count.copy_from_slice(&self.count.to_le_bytes());
        }
    }
}

pub(crate) fn put_hard_state(out: &mut Vec<u8>, record: &HardStateRecord<'_>) {
    out.push(HARD_STATE);
    out.extend_from_slice(&record.group.to_bytes());
    out.push(u8::from(record.vote.is_some()));
    out.extend_from_slice(&record.term.to_le_bytes());
    out.extend_from_slice(&record.vote.unwrap_or_default());
    out.extend_from_slice(&record.incarnation.to_le_bytes());
    put_position(out, &record.position);
    // Membership is bounded when the batch is built.
    out.extend_from_slice(&u32::try_from(record.membership.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(record.membership);
}

pub(crate) fn put_checkpoint(out: &mut Vec<u8>, record: &CheckpointRecord) {
    out.push(CHECKPOINT);
    out.extend_from_slice(&record.group.to_bytes());
    out.push(u8::from(record.installed));
    out.extend_from_slice(&record.applied.to_le_bytes());
    out.extend_from_slice(&record.term.to_le_bytes());
    out.extend_from_slice(&record.chain.to_le_bytes());
    out.extend_from_slice(&record.len.to_le_bytes());
    out.extend_from_slice(&record.crc.to_le_bytes());
    put_position(out, &record.position);
}

pub(crate) fn put_position_record(out: &mut Vec<u8>, group: GroupId, position: &Position) {
    out.push(POSITION);
    out.extend_from_slice(&group.to_bytes());
    put_position(out, position);
}

pub(crate) fn put_end_group(out: &mut Vec<u8>, group: GroupId) {
    out.push(END_GROUP);
    out.extend_from_slice(&group.to_bytes());
}

pub(crate) fn put_loss(out: &mut Vec<u8>) {
    out.push(LOSS);
}

/// Reads records one after the other; `None` in the middle means that the bytes are not what this crate writes.
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn remaining(&self) -> &'a [u8] {
        self.rest
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn group(&mut self) -> Option<GroupId> {
        self.array().map(GroupId::from_bytes)
    }

    fn position(&mut self) -> Option<Position> {
        let flags = self.u8()?;
        Some(Position {
            hard_state_doubtful: flags & 1 != 0,
            log_doubtful: flags & 2 != 0,
            last: self.u64()?,
            last_chain: self.u64()?,
            checkpoint: (self.u64()?, self.u32()?),
        })
    }

    pub(crate) fn next_record(&mut self) -> Option<Record<'a>> {
        Some(match self.u8()? {
            START => Record::Start(Start {
                version: self.array().map(u16::from_le_bytes)?,
                previous: self.u32()?,
                cut: self.u32()?,
                sectors: self.u32()?,
            }),
            END => {
                Record::End(End { next: self.u32()?, next_sectors: self.u32()?, next_begun: self.u8()? != 0 })
            }
            tag @ (RUN | REWRITTEN_RUN) => {
                let head = RunHead {
                    group: self.group()?,
                    first: self.u64()?,
                    term: self.u64()?,
                    previous_chain: self.u64()?,
                };
                let count = self.u32()?;
                let bytes = usize::try_from(count).ok()?.checked_mul(RUN_ENTRY_LEN)?;
                // Index 0 does not exist, and an index past the end of the numbers would wrap later.
                head.first.checked_sub(1)?;
                head.first.checked_add(u64::from(count))?.checked_add(1)?;
                Record::Run { head, rewritten: tag == REWRITTEN_RUN, entries: RunEntries(self.take(bytes)?) }
            }
            HARD_STATE => {
                let group = self.group()?;
                let has_vote = self.u8()? != 0;
                let term = self.u64()?;
                let vote = self.array()?;
                let incarnation = self.u64()?;
                let position = self.position()?;
                let len = usize::try_from(self.u32()?).ok()?;
                let membership = self.take(len)?;
                let vote = has_vote.then_some(vote);
                Record::HardState(HardStateRecord { group, term, vote, incarnation, membership, position })
            }
            CHECKPOINT => {
                let group = self.group()?;
                let installed = self.u8()? != 0;
                Record::Checkpoint(CheckpointRecord {
                    group,
                    installed,
                    applied: self.u64()?,
                    term: self.u64()?,
                    chain: self.u64()?,
                    len: self.u32()?,
                    crc: self.u32()?,
                    position: self.position()?,
                })
            }
            POSITION => Record::Position { group: self.group()?, position: self.position()? },
            END_GROUP => Record::EndGroup(self.group()?),
            LOSS => Record::Loss,
            _ => return None,
        })
    }
}

/// True if the bytes are records throughout and their payloads fit `data_bytes`.
pub(crate) fn are_well_formed(bytes: &[u8], data_bytes: u64) -> bool {
    let mut cursor = Cursor::new(bytes);
    let mut payload = 0_u64;
    while !cursor.is_empty() {
        let Some(record) = cursor.next_record() else { return false };
        let added = match record {
            Record::Run { entries, .. } => entries.iter().map(|(len, _)| u64::from(len)).sum(),
            Record::Checkpoint(checkpoint) => u64::from(checkpoint.len),
            _ => 0,
        };
        payload = payload.saturating_add(added);
    }
    payload <= data_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let group = GroupId { epoch: 1, meta_index: 2, random: 3 };
        let position = Position {
            last: 9,
            last_chain: 8,
            checkpoint: (7, 6),
            hard_state_doubtful: true,
            log_doubtful: false,
        };
        let mut out = Vec::new();
        put_start(&mut out, &Start { version: 1, previous: 4, cut: 16, sectors: 128 });
        put_end(&mut out, &End { next: 5, next_sectors: 128, next_begun: true });
        let mut run =
            OpenRun::begin(&mut out, &RunHead { group, first: 3, term: 2, previous_chain: 1 }, false);
        run.push(&mut out, 10, 11);
        run.push(&mut out, 12, 13);
        put_hard_state(
            &mut out,
            &HardStateRecord {
                group,
                term: 3,
                vote: Some([7; 16]),
                incarnation: 5,
                membership: b"abc",
                position,
            },
        );
        put_checkpoint(
            &mut out,
            &CheckpointRecord {
                group,
                applied: 3,
                term: 2,
                chain: 1,
                len: 4,
                crc: 5,
                installed: true,
                position,
            },
        );
        put_position_record(&mut out, group, &position);
        put_end_group(&mut out, group);
        put_loss(&mut out);
        out
    }

    #[test]
    fn records_round_trip() {
        let bytes = sample();
        let mut cursor = Cursor::new(&bytes);
        let mut records = Vec::new();
        while !cursor.is_empty() {
            records.push(cursor.next_record().unwrap());
        }
        assert_eq!(records.len(), 8);
        let Record::Run { head, entries, rewritten: false } = records[2] else { panic!("{:?}", records[2]) };
        assert_eq!((head.first, head.term), (3, 2));
        assert_eq!(entries.iter().collect::<Vec<_>>(), [(10, 11), (12, 13)]);
        let Record::HardState(hard) = records[3] else { panic!("{:?}", records[3]) };
        assert_eq!((hard.vote, hard.membership), (Some([7; 16]), &b"abc"[..]));
        assert!(hard.position.hard_state_doubtful && !hard.position.log_doubtful);
        assert!(are_well_formed(&bytes, 26));
        assert!(!are_well_formed(&bytes, 25), "payloads must fit the data");
    }

    #[test]
    fn a_cut_or_altered_record_never_panics() {
        let bytes = sample();
        for len in 0..bytes.len() {
            are_well_formed(&bytes[..len], u64::MAX);
            for value in [0, 1, 3, 5, 6, 127, 255] {
                let mut altered = bytes.clone();
                altered[len] = value;
                are_well_formed(&altered, u64::MAX);
            }
        }
    }
}
