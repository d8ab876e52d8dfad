//! What a node wants done.

use linnet_ids::{LogIndex, PeerId, Term};

use crate::durable::HardState;
use crate::log::{Entry, LogPoint};
use crate::membership::Membership;
use crate::message::{Message, Snapshot};

/// Numbers what a node writes. The driver tells up to which one everything is durable.
pub type WriteNo = u64;

/// What a node wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write an entry. One at or below the end of the log replaces it and drops all behind it.
    Append {
        /// Where.
        index: LogIndex,
        /// What.
        entry: Entry,
        /// The hard state, if members come or go with the entry: both are written at once or not at all.
        state: Option<Box<HardState>>,
        /// Its number.
        write: WriteNo,
    },
    /// Write the hard state.
    HardState {
        /// What.
        state: HardState,
        /// Its number.
        write: WriteNo,
    },
    /// Give up the whole log: it goes on behind the state that was installed.
    Install {
        /// Where that state ends.
        last: LogPoint,
        /// The hard state with its members: both are written at once or not at all.
        state: Box<HardState>,
        /// Its number.
        write: WriteNo,
    },
    /// Send a message. Nothing it promises waits for the disk any more.
    Send(Message),
    /// Entries up to here are committed: apply them.
    Committed(LogIndex),
    /// The standing of this replica changed.
    Standing(Standing),
    /// Other members, from an entry that may still be taken back.
    Members(Membership),
    /// Read entries that are not in memory and give them to [`crate::Node::on_read`].
    Read {
        /// For whom.
        peer: PeerId,
        /// First index.
        from: LogIndex,
        /// Bytes that are enough.
        bytes_max: usize,
    },
    /// A peer needs a state: give one to [`crate::Node::send_snapshot`].
    SnapshotWanted {
        /// For whom.
        peer: PeerId,
    },
    /// A leader offers a state. Once it is in place, call [`crate::Node::install`].
    SnapshotOffered(Snapshot),
    /// Reads up to this number may be served from a state that has applied `index`.
    ReadsConfirmed {
        /// Number of the last one.
        number: u64,
        /// What must be applied first.
        index: LogIndex,
    },
    /// Reads that were not confirmed will not be.
    ReadsDropped,
    /// This replica may have forgotten something and counts for nothing until it is re-admitted.
    Amnesiac,
    /// It was re-admitted.
    Remembers,
    /// Something happened that must not: the replica keeps what it has and takes no part any more.
    Halted(Fault),
}

/// What a replica is to its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It knows no leader.
    Leaderless,
    /// It follows one.
    Following(PeerId),
    /// It was elected. It may not answer for the group before [`Standing::Leading`].
    Elected(Term),
    /// Everything before its time is applied: it answers for the group.
    Leading(Term),
}

/// A history that contradicts what this replica knows for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    /// A leader would replace an entry that is committed.
    #[error("a leader replaces committed entry {0}")]
    ReplacesCommitted(LogIndex),
    /// Same index, same term, other content.
    #[error("the history up to entry {0} is not the leader's")]
    Diverged(LogIndex),
    /// An entry of consensus that this version cannot read.
    #[error("entry {0} cannot be read")]
    Unreadable(LogIndex),
    /// The group was rescued by others, who may lack what this replica has.
    #[error("the group was rescued without this replica, whose history up to entry {0} may be another one")]
    OtherHistory(LogIndex),
}
