//! The state of a stream on its way to a replica that the log alone does not bring up to date.
//!
//! What consensus carries of it is a [`Description`]; the content is asked for by the replica that needs it, in chunks
//! that can be asked for in any order and again. On the leader a [`Source`] holds the stream as it was at one place of
//! its log, without stopping it. On the other side a [`Sink`] writes the messages to files beside those of the present
//! replica, which stays whole until the log has recorded the new one.
//!
//! | Step | Where | Thread |
//! |---|---|---|
//! | [`Source::new`], [`Source::description`] | leader, at the applied place that the snapshot names | loop |
//! | [`Sink::begin`] with the description, [`Sink::next_requests`] | follower | loop |
//! | [`Source::chunk`] | leader | disk |
//! | [`Sink::take`] | follower; then [`Sink::next_requests`] again | disk |
//! | [`Sink::finish`] once nothing is missing | follower | disk |
//! | [`StreamGroup::take_over`](crate::StreamGroup::take_over) | follower | loop |
//!
//! A transfer always carries everything; one that carries only what changed since an earlier one does not exist.

mod chunk;
mod description;
mod error;
mod install;
mod order;
mod sink;
mod source;
mod sources;
mod state;

pub use chunk::{ChunkRequest, Part};
pub use description::Description;
pub use error::{SourceError, TransferError};
pub use sink::{Progress, Received, Sink};
pub use source::{Chunk, Source};
pub use sources::{Sources, TooManySources};

/// Bytes of records in a chunk, unless one record is longer: a chunk has at most this and one record more.
pub const CHUNK_BYTES: u32 = 1 << 20;

/// Chunks to have on their way at once.
pub const WINDOW: usize = 4;
