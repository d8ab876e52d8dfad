//! What was decided, and what clients were told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use linnet_ids::{GroupId, LogIndex, StreamSeq, Term};
use linnet_replication::Assignment;

/// Something that a server brought about.
#[derive(Clone, Debug)]
pub(super) enum Told {
    /// It proposed a step of a group's members.
    Step,
    /// As the leader of the catalogue's group it put a stream on servers.
    Assigned(Box<Assignment>),
    /// A stream is about to end: nothing of it is promised any more.
    Ending(GroupId),
    /// A stream in memory begins again.
    Reseeded,
    /// A replica gave up what it promised.
    GaveUp,
    /// A group goes on as another one with what a replica held.
    Inherited {
        from: GroupId,
        group: GroupId,
    },
    /// A replica began.
    Begun(GroupId),
    /// A server finds nothing of a stream of which it should have the only replica.
    LostAlone(GroupId),
    /// A group is kept and not served: another one has its name.
    SetAside(GroupId),
    /// A replica was removed.
    Removed(GroupId),
    /// A client is told that its stream was created, or was not,
    Created,
    NotCreated,
    /// has another configuration,
    Updated,
    /// more or fewer replicas,
    ScaledUp,
    ScaledDown,
    /// has become one of several replicas,
    OpenedUp,
    /// another server in place of one,
    PeerReplaced,
    /// was moved, or was not after all,
    Moved,
    MoveCancelled,
    /// and the catalogue hears that this is done;
    Shaped,
    /// or was deleted.
    Deleted,
}

/// A part of a batch, or a message alone.
pub(super) type Number = (u64, u64);

/// What is known of one stream, from its creation to its end.
#[derive(Default)]
pub(super) struct StreamFacts {
    pub(super) name: String,
    pub(super) is_memory: bool,
    pub(super) is_queue: bool,
    /// Servers that ever had a replica.
    pub(super) servers: BTreeSet<usize>,
    /// Nothing is promised any more.
    pub(super) is_ending: bool,
    /// The disk with its only replica was lost.
    pub(super) is_lost: bool,
    /// The lowest limit on messages that it ever had.
    pub(super) limit: Option<u64>,
    /// Where publishers were told that a message is.
    pub(super) stored: BTreeMap<Number, StreamSeq>,
    /// The highest sequence that any replica was seen with.
    pub(super) newest: StreamSeq,
    pub(super) delivered: BTreeSet<StreamSeq>,
    /// Reply subjects of messages that clients got and may acknowledge.
    pub(super) deliveries: VecDeque<Vec<u8>>,
    /// Sequences whose acknowledgement was confirmed.
    pub(super) confirmed: BTreeSet<StreamSeq>,
    /// Hash of the state at places of the log, with whose it was.
    pub(super) states: BTreeMap<LogIndex, (u64, usize, Option<String>)>,
    /// Acknowledgement floor at places of the log.
    pub(super) floors: BTreeMap<LogIndex, StreamSeq>,
}

impl StreamFacts {
    pub(super) fn of(assignment: &Assignment) -> Self {
        use linnet_jsapi::policies::{RetentionPolicy, StorageType};
        Self {
            name: assignment.config.name.clone(),
            is_memory: assignment.config.storage == StorageType::Memory,
            is_queue: assignment.config.retention == RetentionPolicy::WorkQueue,
            limit: u64::try_from(assignment.config.max_msgs).ok(),
            ..Self::default()
        }
    }

    /// Its limits, or its consumer, may have removed the message.
    pub(super) fn may_be_removed(&self, seq: StreamSeq) -> bool {
        self.limit.is_some_and(|limit| seq + limit <= self.newest)
            || (self.is_queue && self.delivered.contains(&seq))
    }
}

/// Everything that was seen.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) streams: BTreeMap<GroupId, StreamFacts>,
    pub(super) leaders: BTreeMap<(GroupId, Term), usize>,
}
