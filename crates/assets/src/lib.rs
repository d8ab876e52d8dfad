//! Streams and their consumers as state machines.
//!
//! A [`Stream`] takes publishes, commands, acknowledgements and time, and produces log entries, deliveries and
//! answers. Decisions are taken once, by *admit*; what was decided is written to the stream's log as an entry; when
//! the entry is committed, *apply* changes the state and cannot refuse. Replaying the log gives the same state.
//!
//! Nothing here knows threads, sockets or the log itself: the driver (crate `replication`) turns a stream, and
//! everything that leaves it goes through an [`Output`]. Start reading at `stream`, then `consumer`.
//!
//! Where assets go in a cluster is planned in [`placement`].

mod consumer;
mod entry;
mod origin;
mod output;
pub mod placement;
mod schedule;
mod stream;

pub use consumer::{Consumer, ConsumerOp, ConsumerState, Floor, NewestFirst, Pending, PullRequest};
pub use entry::{Attach, Entry, EntryError, Owner, Purge, RestoreMark};
pub use origin::{Link, Taken};
pub use output::{Abandoned, Advisory, Answer, Nobody, Output, Token};
pub use stream::{
    Admitted, BatchBounds, BatchLimits, Command, CommandOutcome, ConsumerCommand, Moment, Place, Proposal,
    Publish, RestorePart, Snapshot, Stream, StreamLimits, StreamReport, StreamSaved, Waiter, is_expired,
};
