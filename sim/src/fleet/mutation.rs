use crate::field::Spoiled;

/// A server that is broken on purpose, which the checks must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FleetMutation {
    /// Syncs of the disk do nothing.
    IgnoreSyncs,
    /// What is queued for the log counts as durable.
    DurableTooEarly,
    /// Terms are written down as they were first, and votes never.
    ForgetTerms,
    /// Acknowledgements are confirmed when they come.
    ConfirmAtOnce,
    /// Ids of messages are not looked at.
    IgnoreIds,
    /// A state that arrived is installed without its newest messages.
    StateWithoutEnd,
    /// A state is described as one of a later place of the log.
    StateOfLaterPlace,
    /// Groups get ids that others had.
    ReuseGroups,
    /// Members that come later begin as if the group did.
    EverybodyFounds,
    /// A server does not remember what it takes part in.
    ForgetAssignments,
    /// What an operator or the catalogue took off a server goes at once.
    LeaveAtOnce,
    /// Replicas begin although the catalogue here may be old.
    BeginUninformed,
    /// What a leader said before this server started counts as what it says now.
    BelieveOldWords,
    /// What the catalogue does not know is removed.
    RemoveUnknown,
    /// The leader of a stream that has ended in its log does not tell the catalogue.
    NeverSayEnded,
    /// Files of groups that ended stay.
    KeepFiles,
    /// A removal is not noted before it begins.
    RemoveUnnoted,
    /// So does what a server remembers to take part in.
    KeepAssignments,
    /// Streams that lack members get none.
    NoHealing,
    /// Members that are not wanted stay.
    NobodyGoes,
    /// Streams in memory that all have forgotten stay so.
    NoReseeding,
    /// Of a stream that too few remember, those do not give up.
    NobodyGivesUp,
    /// Such a stream begins again with what any replica has.
    SeedAnybody,
    /// A stream does not follow its configuration.
    NoUpdates,
    /// What was removed from the catalogue is not noticed.
    MissRemovals,
}

impl FleetMutation {
    /// Every one.
    pub const ALL: [Self; 25] = [
        Self::NeverSayEnded,
        Self::KeepFiles,
        Self::KeepAssignments,
        Self::RemoveUnnoted,
        Self::NoHealing,
        Self::NobodyGoes,
        Self::NoReseeding,
        Self::NobodyGivesUp,
        Self::SeedAnybody,
        Self::NoUpdates,
        Self::MissRemovals,
        Self::IgnoreSyncs,
        Self::DurableTooEarly,
        Self::ForgetTerms,
        Self::ConfirmAtOnce,
        Self::IgnoreIds,
        Self::StateWithoutEnd,
        Self::StateOfLaterPlace,
        Self::ReuseGroups,
        Self::EverybodyFounds,
        Self::ForgetAssignments,
        Self::LeaveAtOnce,
        Self::BeginUninformed,
        Self::BelieveOldWords,
        Self::RemoveUnknown,
    ];

    /// What it does to states on their way.
    pub(super) fn spoils_states(self) -> Option<Spoiled> {
        match self {
            Self::StateWithoutEnd => Some(Spoiled::End),
            Self::StateOfLaterPlace => Some(Spoiled::Place),
            _ => None,
        }
    }
}
