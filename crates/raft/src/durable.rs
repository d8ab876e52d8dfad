//! What a replica must not forget besides its log.

use linnet_ids::{LogIndex, Term};

use crate::bytes::{Input, Malformed};
use crate::membership::{Incarnation, Membership, Replica};

const VERSION: u8 = 1;

/// Term, vote, incarnation and memberships of a replica, always written whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct HardState {
    /// Highest term the replica has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<Replica>,
    /// Its life.
    pub incarnation: Incarnation,
    /// It may have forgotten entries or votes and counts for nothing until a majority has re-admitted it.
    pub is_amnesiac: bool,
    /// The memberships in force.
    pub configs: Configs,
}

/// The newest committed membership and those behind it in the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Configs {
    /// Ascending by index, never empty; all but the first are uncommitted as far as is known.
    stack: Vec<(LogIndex, Membership)>,
}

impl Default for Configs {
    fn default() -> Self {
        Self::new(0, Membership::default())
    }
}

impl Configs {
    /// Most memberships a replica may know to be uncommitted, with the committed one. A leader begins a change only
    /// once the one before is committed, and says so with the entry.
    pub(crate) const MAX: usize = 4;

    /// A committed membership, made by the entry at `index`.
    pub(crate) fn new(index: LogIndex, membership: Membership) -> Self {
        Self { stack: vec![(index, membership)] }
    }

    /// The newest, and the index of its entry: it counts from being appended on.
    pub(crate) fn latest(&self) -> (LogIndex, &Membership) {
        // The stack is never empty.
        let (index, membership) = &self.stack[self.stack.len() - 1];
        (*index, membership)
    }

    /// Index of the entry that made the oldest, which was known to be committed when this was written.
    pub(crate) fn committed(&self) -> LogIndex {
        self.stack.first().map_or(0, |(index, _)| *index)
    }

    pub(crate) fn push(&mut self, index: LogIndex, membership: Membership) {
        self.stack.push((index, membership));
    }

    pub(crate) fn is_full(&self) -> bool {
        self.stack.len() >= Self::MAX
    }

    /// Entries from `index` on are gone. True if a membership went with them.
    pub(crate) fn truncate_from(&mut self, index: LogIndex) -> bool {
        let before = self.stack.len();
        while self.stack.len() > 1 && self.latest().0 >= index {
            self.stack.pop();
        }
        self.stack.len() != before
    }

    /// Entries up to `index` are committed. The memberships that are over by that.
    pub(crate) fn commit(&mut self, index: LogIndex) -> Vec<(LogIndex, Membership)> {
        let known = self.stack.iter().rposition(|(at, _)| *at <= index).unwrap_or(0);
        self.stack.drain(..known).collect()
    }

    /// Index of the entry that made the membership in force at `index`, if that names this life.
    pub(crate) fn admitted_by(&self, index: LogIndex, life: Replica) -> Option<LogIndex> {
        let (at, membership) = self.stack.iter().rfind(|(at, _)| *at <= index)?;
        (membership.get(life.peer)?.incarnation == life.incarnation).then_some(*at)
    }

    /// The membership in force at `index`; the oldest that is known if that is younger.
    pub(crate) fn at(&self, index: LogIndex) -> &Membership {
        self.in_force_at(index).1
    }

    /// The same, with the index of its entry.
    pub(crate) fn in_force_at(&self, index: LogIndex) -> (LogIndex, &Membership) {
        let at = self.stack.iter().rposition(|(at, _)| *at <= index).unwrap_or(0);
        let (since, membership) = &self.stack[at];
        (*since, membership)
    }
}

impl HardState {
    /// The newest membership.
    pub fn membership(&self) -> &Membership {
        self.configs.latest().1
    }

    /// What the log keeps beside term, vote and incarnation.
    pub fn record(&self) -> Vec<u8> {
        let mut out = vec![VERSION, u8::from(self.is_amnesiac)];
        out.push(u8::try_from(self.configs.stack.len()).unwrap_or(u8::MAX));
        for (index, membership) in &self.configs.stack {
            out.extend_from_slice(&index.to_le_bytes());
            membership.put(&mut out);
        }
        out
    }

    /// Puts together what the log kept.
    pub fn from_record(
        term: Term,
        vote: Option<[u8; Replica::LEN]>,
        incarnation: Incarnation,
        record: &[u8],
    ) -> Result<Self, Malformed> {
        let vote = match vote {
            Some(bytes) => Some(Replica::from_bytes(bytes).ok_or(Malformed)?),
            None => None,
        };
        let mut input = Input::new(record);
        if input.u8()? != VERSION {
            return Err(Malformed);
        }
        let is_amnesiac = input.flag()?;
        let count = usize::from(input.u8()?);
        if count == 0 || count > Configs::MAX {
            return Err(Malformed);
        }
        let mut stack: Vec<(LogIndex, Membership)> = Vec::with_capacity(count);
        for _ in 0..count {
            let index = input.u64()?;
            if stack.last().is_some_and(|(last, _)| *last >= index) {
                return Err(Malformed);
            }
            stack.push((index, Membership::get_from(&mut input)?));
        }
        input.end()?;
        Ok(Self { term, vote, incarnation, is_amnesiac, configs: Configs { stack } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use linnet_ids::PeerId;

    fn membership(n: u8) -> Membership {
        Membership::of_voters(
            (0..n).map(|n| Replica { peer: PeerId::of_name(&n.to_string()), incarnation: n.into() }),
        )
    }

    #[test]
    fn a_record_round_trips_and_no_part_of_it_can_be_missing() {
        let mut configs = Configs::new(3, membership(1));
        configs.push(7, membership(2));
        let vote = Some(Replica { peer: PeerId::of_name("a"), incarnation: 2 });
        let state = HardState { term: 4, vote, incarnation: 9, is_amnesiac: true, configs };
        let record = state.record();
        let read = |record: &[u8]| HardState::from_record(4, vote.map(Replica::to_bytes), 9, record);
        assert_eq!(read(&record), Ok(state));
        for len in 0..record.len() {
            assert_eq!(read(&record[..len]), Err(Malformed), "{len}");
        }
    }

    #[test]
    fn memberships_come_with_entries_and_go_with_them() {
        let mut configs = Configs::new(0, membership(1));
        configs.push(5, membership(2));
        configs.push(8, membership(3));
        assert_eq!(configs.commit(4), []);
        assert_eq!((configs.latest().0, configs.at(7).voter_count(), configs.stack.len()), (8, 2, 3));
        assert_eq!(configs.commit(6), [(0, membership(1))]);
        assert_eq!((configs.stack.len(), configs.at(6).voter_count()), (2, 2));
        assert!(configs.truncate_from(8) && !configs.truncate_from(8));
        assert_eq!(configs.latest(), (5, &membership(2)));
        assert!(!configs.truncate_from(1), "what is committed stays");
    }
}
