//! What would be wrong: one thing at a time that consensus relies on is taken away, between the node and its disk or
//! its network. The tests must notice every one of them.

use linnet_ids::LogIndex;
use linnet_raft::{Body, Effect, Message, Outcome, Snapshot};

use crate::disk::Image;
use crate::world::World;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mutation {
    /// Writes are reported as durable before they are.
    AcknowledgedBeforeSync,
    /// A sync of the oldest writes reports the newest.
    SyncReportsNewest,
    /// Votes are not written.
    VoteNotPersisted,
    /// Terms are not written.
    TermNotPersisted,
    /// Hard state that belongs to an entry is not written.
    StateOfEntryLost,
    /// That a replica is amnesiac is not written.
    AmnesiaNotPersisted,
    /// A wiped store opens in its old life as if it were new in the group.
    WipedStoreRemembers,
    /// A wiped store goes on in a life that it had before.
    LifeUsedTwice,
    /// Messages to another life are taken.
    AddresseeIgnored,
    /// Messages of another life are taken.
    SenderIgnored,
    /// Who says that it has forgotten is counted.
    AmnesiacCounted,
    /// What is on its way to a follower's disk counts as durable.
    HeldCountsAsDurable,
    /// Entries are appended whatever comes before them.
    PreviousIgnored,
    /// A follower takes for committed what it is sent.
    SentCountsAsCommitted,
    /// A vote for an earlier term counts.
    StaleVoteCounts,
    /// An answer to an earlier term counts.
    StaleAnswerCounts,
    /// A voter does not ask what the candidate has.
    CandidatesLogIgnored,
    /// Refused votes count.
    RefusalCounts,
    /// Entries of earlier terms are committed by counting.
    EarlierTermCounted,
    /// A snapshot takes away what the log has beyond it.
    SnapshotDiscardsTail,
    /// An installed snapshot is not written.
    InstallNotPersisted,
    /// Reads are served without asking anybody.
    ReadUnconfirmed,
    /// A checkpoint is made of entries that are not applied.
    CheckpointAhead,
    /// Members that are younger than a state are taken for those at its end.
    MembersOfLater,
}

impl Mutation {
    pub(crate) const ALL: [Self; 24] = [
        Self::AcknowledgedBeforeSync,
        Self::SyncReportsNewest,
        Self::VoteNotPersisted,
        Self::TermNotPersisted,
        Self::StateOfEntryLost,
        Self::AmnesiaNotPersisted,
        Self::WipedStoreRemembers,
        Self::LifeUsedTwice,
        Self::AddresseeIgnored,
        Self::SenderIgnored,
        Self::AmnesiacCounted,
        Self::HeldCountsAsDurable,
        Self::PreviousIgnored,
        Self::SentCountsAsCommitted,
        Self::StaleVoteCounts,
        Self::StaleAnswerCounts,
        Self::CandidatesLogIgnored,
        Self::RefusalCounts,
        Self::EarlierTermCounted,
        Self::SnapshotDiscardsTail,
        Self::InstallNotPersisted,
        Self::ReadUnconfirmed,
        Self::CheckpointAhead,
        Self::MembersOfLater,
    ];
}

impl World {
    pub(crate) fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// What reaches the disk instead of what the node wrote; nothing if it is lost.
    pub(crate) fn mutate_write(&self, at: usize, mut effect: Effect) -> Effect {
        let written = self.servers[at].disk.visible.hard.clone();
        match (self.mutation, &mut effect) {
            (Some(Mutation::StateOfEntryLost), Effect::Append { state, .. }) => *state = None,
            (Some(Mutation::VoteNotPersisted), Effect::HardState { state, .. }) => state.vote = None,
            (Some(Mutation::TermNotPersisted), Effect::HardState { state, .. }) => {
                (state.term, state.vote) = written.map_or((0, None), |hard| (hard.term, hard.vote));
            }
            (Some(Mutation::AmnesiaNotPersisted), Effect::HardState { state, .. }) => {
                state.is_amnesiac = false;
            }
            _ => {}
        }
        effect
    }

    /// What the receiver takes a message for.
    pub(crate) fn mutate_delivery(&self, to: usize, message: &mut Message) {
        let Some(mutation) = self.mutation else { return };
        let Some(node) = &self.servers[to].node else { return };
        let status = node.status();
        match (mutation, &mut message.body) {
            (Mutation::AddresseeIgnored, _) => message.to.incarnation = node.incarnation(),
            (Mutation::SenderIgnored, _) => {
                if let Some(member) = status.membership.get(message.from.peer) {
                    message.from.incarnation = member.incarnation;
                }
            }
            (Mutation::AmnesiacCounted, Body::Appended(appended)) => appended.remembers = true,
            (Mutation::HeldCountsAsDurable, Body::Appended(appended)) => {
                if let Outcome::Matched { durable, held } = &mut appended.outcome {
                    *durable = *held;
                }
            }
            (Mutation::PreviousIgnored, Body::Append(append)) => {
                let image = &self.servers[to].disk.visible;
                let index = append.previous.index.clamp(image.base.index, image.last().index);
                append.previous = image.point(index);
            }
            (Mutation::SentCountsAsCommitted, Body::Append(append)) => {
                append.commit = append.previous.index + append.entries.len() as u64;
            }
            (Mutation::StaleVoteCounts, Body::Vote(_)) | (Mutation::StaleAnswerCounts, Body::Appended(_)) => {
                message.term = status.term;
            }
            (Mutation::CandidatesLogIgnored, Body::AskVote(candidacy) | Body::AskPreVote(candidacy)) => {
                candidacy.last.term = u64::MAX;
            }
            (Mutation::RefusalCounts, Body::Vote(ballot)) => ballot.is_granted = true,
            (Mutation::EarlierTermCounted, Body::Append(append)) => {
                append.commit = append.commit.max(self.counted(message.from.peer));
            }
            _ => {}
        }
    }

    /// How far a majority of disks has the same as a server's.
    fn counted(&self, peer: linnet_ids::PeerId) -> LogIndex {
        let Some(own) = self.servers.iter().find(|s| s.peer == peer) else { return 0 };
        let own = &own.disk.durable;
        let shared = |other: &Image| {
            let base = own.base.index.max(other.base.index);
            let last = own.last().index.min(other.last().index);
            (base..=last).rev().find(|index| own.point(*index) == other.point(*index)).unwrap_or(0)
        };
        let mut ends: Vec<LogIndex> = self.servers.iter().map(|s| shared(&s.disk.durable)).collect();
        ends.sort_unstable();
        ends.get(ends.len().div_ceil(2) - 1).copied().unwrap_or(0)
    }

    /// A snapshot that is not wanted takes away what is behind it.
    pub(crate) fn mutate_tail(&mut self, to: usize, message: &Message) {
        if let (true, Body::Snapshot(Snapshot { last, .. })) =
            (self.has(Mutation::SnapshotDiscardsTail), &message.body)
        {
            self.servers[to].disk.cut_behind(last.index);
        }
    }
}
