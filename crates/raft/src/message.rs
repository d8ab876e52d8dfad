//! What replicas of a group say to each other.

use bytes::Bytes;
use linnet_ids::{LogIndex, PeerId, Term};

use crate::bytes::{Input, Malformed};
use crate::log::{Entry, LogPoint};
use crate::membership::{Incarnation, Membership, Replica};

/// Most payload bytes of the entries of one message, unless a single entry is larger.
pub(crate) const APPEND_BYTES_MAX: usize = 1 << 20;
/// Most entries of one message.
pub(crate) const APPEND_ENTRIES_MAX: usize = 4096;

/// A message of a group. Whoever is not in the life that it is addressed to drops it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// Who says it.
    pub from: Replica,
    /// Who is meant.
    pub to: Replica,
    /// The sender's term. In [`Body::AskPreVote`] and its answer the term that would be begun.
    pub term: Term,
    /// What is said.
    pub body: Body,
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// Would you vote for me?
    AskPreVote(Candidacy),
    /// The answer.
    PreVote(Ballot),
    /// Vote for me.
    AskVote(Candidacy),
    /// The answer.
    Vote(Ballot),
    /// Entries of a leader, or none to find out where the receiver's log ends.
    Append(Append),
    /// What the receiver has now.
    Appended(Appended),
    /// The receiver is too far behind for entries: here is a state instead.
    Snapshot(Snapshot),
    /// Do you still lead in my term?
    AskLeader,
    /// I do not lead, and not in your term again.
    NotLeading,
    /// Stand for election at once: the leader gives way.
    GiveWay,
    /// I am not the life you speak to.
    Stranger(Stranger),
    /// The life you are in is over.
    Retired {
        /// My log says so. Otherwise the leader of the message's term does, whose members are others.
        is_recorded: bool,
    },
}

/// What a candidate tells of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Candidacy {
    /// Where its log ends.
    pub last: LogPoint,
    /// The leader asked it to stand.
    pub is_transfer: bool,
}

/// A voter's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ballot {
    /// Yes or no.
    pub is_granted: bool,
    /// Whom the voter follows.
    pub leader: Option<PeerId>,
}

/// Entries of a leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Append {
    /// Where the first entry belongs.
    pub previous: LogPoint,
    /// What is committed.
    pub commit: LogIndex,
    /// Number of the leader's round, for reads.
    pub round: u64,
    /// Consecutive entries behind `previous`.
    pub entries: Vec<Entry>,
}

/// What a follower has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Appended {
    /// How far its log is durable and the leader's.
    pub outcome: Outcome,
    /// What it knows to be committed.
    pub commit: LogIndex,
    /// The round that is answered.
    pub round: u64,
    /// False while it may have forgotten something: it counts for nothing.
    pub remembers: bool,
}

/// How appending went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The log is the leader's.
    Matched {
        /// Up to this index, durably.
        durable: LogIndex,
        /// Up to this index, of which the end may still be on its way to the disk.
        held: LogIndex,
    },
    /// The log has nothing that entries could follow; the place to try next is at most here.
    Mismatch {
        /// An index.
        index: LogIndex,
        /// Its term in the follower's log.
        term: Term,
    },
    /// No judgement: only the round is answered.
    Heard,
}

/// A state to begin with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// The state holds the effects of everything up to here.
    pub last: LogPoint,
    /// The members, as the entry at `since` made them.
    pub membership: Membership,
    /// May be behind `last`, where the sender does not know any more who belonged to the group before; committed then.
    pub since: LogIndex,
    /// The state, or where it can be had: the state machine's business.
    pub body: Bytes,
}

/// A life that was not meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stranger {
    /// The life that the answered message was for.
    pub addressed: Incarnation,
    /// The sender may have forgotten something.
    pub is_amnesiac: bool,
}

const ASK_PRE_VOTE: u8 = 1;
const PRE_VOTE: u8 = 2;
const ASK_VOTE: u8 = 3;
const VOTE: u8 = 4;
const APPEND: u8 = 5;
const APPENDED: u8 = 6;
const SNAPSHOT: u8 = 7;
const GIVE_WAY: u8 = 8;
const STRANGER: u8 = 9;
const RETIRED: u8 = 10;
const ASK_LEADER: u8 = 11;
const NOT_LEADING: u8 = 12;

const MATCHED: u8 = 0;
const MISMATCH: u8 = 1;
const HEARD: u8 = 2;

/// Bytes of an entry beside its payload.
const ENTRY_HEAD: usize = 16;

/// Terms and indexes beyond this are damage: counting never gets there, and from below it nothing overflows.
const NUMBER_MAX: u64 = 1 << 62;

impl Message {
    /// False if a number in it could not have come about.
    pub(crate) fn is_plausible(&self) -> bool {
        let is_point = |point: LogPoint| point.index <= NUMBER_MAX && point.term <= self.term;
        self.term <= NUMBER_MAX
            && match &self.body {
                Body::Append(append) => {
                    is_point(append.previous) && append.entries.iter().all(|entry| entry.term <= self.term)
                }
                Body::Snapshot(snapshot) => is_point(snapshot.last) && snapshot.since <= NUMBER_MAX,
                _ => true,
            }
    }

    /// Appends the encoded form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.body.kind());
        out.extend_from_slice(&self.from.to_bytes());
        out.extend_from_slice(&self.to.to_bytes());
        out.extend_from_slice(&self.term.to_le_bytes());
        match &self.body {
            Body::AskPreVote(candidacy) | Body::AskVote(candidacy) => {
                put_point(out, candidacy.last);
                out.push(u8::from(candidacy.is_transfer));
            }
            Body::PreVote(ballot) | Body::Vote(ballot) => {
                out.push(u8::from(ballot.is_granted));
                out.push(u8::from(ballot.leader.is_some()));
                if let Some(leader) = ballot.leader {
                    out.extend_from_slice(&leader.to_bytes());
                }
            }
            Body::Append(append) => put_append(out, append),
            Body::Appended(appended) => put_appended(out, appended),
            Body::Snapshot(snapshot) => {
                put_point(out, snapshot.last);
                snapshot.membership.put(out);
                out.extend_from_slice(&snapshot.since.to_le_bytes());
                put_bytes(out, &snapshot.body);
            }
            Body::Stranger(stranger) => {
                out.extend_from_slice(&stranger.addressed.to_le_bytes());
                out.push(u8::from(stranger.is_amnesiac));
            }
            Body::Retired { is_recorded } => out.push(u8::from(*is_recorded)),
            Body::GiveWay | Body::AskLeader | Body::NotLeading => {}
        }
    }

    /// Inverse of [`Message::encode`]; payloads share `bytes`.
    pub fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut input = Input::new(bytes);
        let kind = input.u8()?;
        let (from, to, term) = (input.replica()?, input.replica()?, input.u64()?);
        let body = match kind {
            ASK_PRE_VOTE => Body::AskPreVote(get_candidacy(&mut input)?),
            ASK_VOTE => Body::AskVote(get_candidacy(&mut input)?),
            PRE_VOTE => Body::PreVote(get_ballot(&mut input)?),
            VOTE => Body::Vote(get_ballot(&mut input)?),
            APPEND => Body::Append(get_append(&mut input, bytes)?),
            APPENDED => Body::Appended(get_appended(&mut input)?),
            SNAPSHOT => Body::Snapshot(Snapshot {
                last: get_point(&mut input)?,
                membership: Membership::get_from(&mut input)?,
                since: input.u64()?,
                body: input.shared(bytes)?,
            }),
            GIVE_WAY => Body::GiveWay,
            ASK_LEADER => Body::AskLeader,
            NOT_LEADING => Body::NotLeading,
            STRANGER => Body::Stranger(Stranger { addressed: input.u64()?, is_amnesiac: input.flag()? }),
            RETIRED => Body::Retired { is_recorded: input.flag()? },
            _ => return Err(Malformed),
        };
        input.end()?;
        Ok(Self { from, to, term, body })
    }
}

impl Body {
    fn kind(&self) -> u8 {
        match self {
            Self::AskPreVote(_) => ASK_PRE_VOTE,
            Self::PreVote(_) => PRE_VOTE,
            Self::AskVote(_) => ASK_VOTE,
            Self::Vote(_) => VOTE,
            Self::Append(_) => APPEND,
            Self::Appended(_) => APPENDED,
            Self::Snapshot(_) => SNAPSHOT,
            Self::GiveWay => GIVE_WAY,
            Self::AskLeader => ASK_LEADER,
            Self::NotLeading => NOT_LEADING,
            Self::Stranger(_) => STRANGER,
            Self::Retired { .. } => RETIRED,
        }
    }
}

fn put_point(out: &mut Vec<u8>, point: LogPoint) {
    for word in [point.index, point.term, point.chain] {
        out.extend_from_slice(&word.to_le_bytes());
    }
}

fn get_point(input: &mut Input<'_>) -> Result<LogPoint, Malformed> {
    Ok(LogPoint { index: input.u64()?, term: input.u64()?, chain: input.u64()? })
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // Payloads are bounded far below 4 GiB by whoever proposes them.
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_append(out: &mut Vec<u8>, append: &Append) {
    put_point(out, append.previous);
    out.extend_from_slice(&append.commit.to_le_bytes());
    out.extend_from_slice(&append.round.to_le_bytes());
    let count = u32::try_from(append.entries.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_le_bytes());
    for entry in &append.entries {
        out.extend_from_slice(&entry.term.to_le_bytes());
        out.extend_from_slice(&entry.crc.to_le_bytes());
        put_bytes(out, &entry.payload);
    }
}

fn put_appended(out: &mut Vec<u8>, appended: &Appended) {
    match appended.outcome {
        Outcome::Matched { durable, held } => {
            out.push(MATCHED);
            out.extend_from_slice(&durable.to_le_bytes());
            out.extend_from_slice(&held.to_le_bytes());
        }
        Outcome::Mismatch { index, term } => {
            out.push(MISMATCH);
            out.extend_from_slice(&index.to_le_bytes());
            out.extend_from_slice(&term.to_le_bytes());
        }
        Outcome::Heard => out.push(HEARD),
    }
    out.extend_from_slice(&appended.commit.to_le_bytes());
    out.extend_from_slice(&appended.round.to_le_bytes());
    out.push(u8::from(appended.remembers));
}

fn get_candidacy(input: &mut Input<'_>) -> Result<Candidacy, Malformed> {
    Ok(Candidacy { last: get_point(input)?, is_transfer: input.flag()? })
}

fn get_ballot(input: &mut Input<'_>) -> Result<Ballot, Malformed> {
    let is_granted = input.flag()?;
    let leader = if input.flag()? {
        let bytes = input.take(PeerId::LEN)?.try_into().map_err(|_| Malformed)?;
        Some(PeerId::from_bytes(bytes).map_err(|_| Malformed)?)
    } else {
        None
    };
    Ok(Ballot { is_granted, leader })
}

fn get_append(input: &mut Input<'_>, whole: &Bytes) -> Result<Append, Malformed> {
    let previous = get_point(input)?;
    let (commit, round) = (input.u64()?, input.u64()?);
    let count = input.u32()? as usize;
    if count > APPEND_ENTRIES_MAX || count > input.left() / ENTRY_HEAD {
        return Err(Malformed);
    }
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        entries.push(Entry { term: input.u64()?, crc: input.u32()?, payload: input.shared(whole)? });
    }
    Ok(Append { previous, commit, round, entries })
}

fn get_appended(input: &mut Input<'_>) -> Result<Appended, Malformed> {
    let outcome = match input.u8()? {
        MATCHED => Outcome::Matched { durable: input.u64()?, held: input.u64()? },
        MISMATCH => Outcome::Mismatch { index: input.u64()?, term: input.u64()? },
        HEARD => Outcome::Heard,
        _ => return Err(Malformed),
    };
    Ok(Appended { outcome, commit: input.u64()?, round: input.u64()?, remembers: input.flag()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(n: u64) -> Replica {
        Replica { peer: PeerId::of_name(&n.to_string()), incarnation: n }
    }

    fn bodies() -> Vec<Body> {
        let last = LogPoint { index: 3, term: 2, chain: 77 };
        let candidacy = Candidacy { last, is_transfer: true };
        let entries = vec![Entry::new(2, Bytes::from_static(b"one")), Entry::new(3, Bytes::new())];
        let appended = |outcome| Body::Appended(Appended { outcome, commit: 3, round: 9, remembers: true });
        vec![
            Body::AskPreVote(candidacy),
            Body::PreVote(Ballot { is_granted: false, leader: Some(PeerId::of_name("x")) }),
            Body::AskVote(candidacy),
            Body::Vote(Ballot { is_granted: true, leader: None }),
            Body::Append(Append { previous: last, commit: 2, round: 8, entries }),
            appended(Outcome::Matched { durable: 4, held: 7 }),
            appended(Outcome::Mismatch { index: 4, term: 1 }),
            appended(Outcome::Heard),
            Body::Snapshot(Snapshot {
                last,
                membership: Membership::of_voters([replica(1), replica(2)]),
                since: 5,
                body: Bytes::from_static(b"state"),
            }),
            Body::GiveWay,
            Body::AskLeader,
            Body::NotLeading,
            Body::Stranger(Stranger { addressed: 5, is_amnesiac: true }),
            Body::Retired { is_recorded: true },
        ]
    }

    #[test]
    fn every_message_round_trips_and_none_can_be_cut_or_continued() {
        for body in bodies() {
            let message = Message { from: replica(1), to: replica(2), term: 6, body };
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            let read = |bytes: &[u8]| Message::decode(&Bytes::copy_from_slice(bytes));
            assert_eq!(read(&bytes), Ok(message.clone()));
            for len in 0..bytes.len() {
                assert_eq!(read(&bytes[..len]), Err(Malformed), "{message:?} cut at {len}");
            }
            bytes.push(0);
            assert_eq!(read(&bytes), Err(Malformed), "{message:?}");
        }
    }

    #[test]
    fn a_count_of_entries_allocates_nothing_that_is_not_there() {
        let append = Append { previous: LogPoint::default(), commit: 0, round: 0, entries: Vec::new() };
        let message = Message { from: replica(1), to: replica(2), term: 6, body: Body::Append(append) };
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        let at = bytes.len() - 4;
        bytes[at..].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Message::decode(&bytes.into()), Err(Malformed));
    }
}
