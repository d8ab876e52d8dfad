//! Replicated groups: what drives a [`linnet_raft::Node`] over the log of this server, and what servers say to each
//! other.
//!
//! [`RaftDriver`] carries out what one node wants: it writes to a [`Log`](crate::Log), queues messages in an [`Outbox`] and
//! hands out what is committed. [`Liveness`] tells which servers can be heard. One frame per server and pass carries
//! the messages of all groups.

mod ballot;
mod ballot_bytes;
mod driver;
mod frame;
mod liveness;
mod opening;
mod outbox;

pub use ballot::{Ballot, BallotEffect, BallotMessage, BallotRecord, ClusterId, Founding};
pub use driver::{Committed, RaftDriver, RaftEvent};
pub use frame::{Beat, Frame, FrameError, History, HistoryContent};
pub use liveness::{BEAT_EVERY, Liveness, PeerChange, SUSPECT_AFTER};
pub use opening::{open_replica, open_stream_replica};
pub use outbox::Outbox;
