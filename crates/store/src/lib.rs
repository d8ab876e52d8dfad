//! The messages of one stream: encoded records in blocks, an index from sequence to record, the state of every
//! subject.
//!
//! A [`StreamStore`] belongs to the loop of its stream; nothing here spawns or reads a clock. It is derived state:
//! the log (crate `wal`) is what makes an append durable, blocks only become so through a checkpoint. Whatever
//! touches a disk is handed out as a job ([`WriteJob`], [`LoadJob`], [`CheckpointJob`]) that another thread runs and
//! whose outcome is given back at any later time, in any order. Only opening and timestamps of messages that are
//! not in memory are read at once.
//!
//! File and memory streams are the same code: a memory stream simply never hands out jobs. Start reading in `store`
//! and `block`; formats and what is durable when are in `docs/internals/store.md`.

mod block;
mod block_index;
mod bytes_reader;
mod checkpoint;
mod checkpoint_job;
mod data_reader;
mod filter;
mod jobs;
mod layout;
mod open;
mod packed;
mod pin;
mod pin_copy;
mod read;
mod record;
mod repair;
mod replacement;
mod rows;
mod scan;
mod scrub;
mod search;
mod state_file;
mod store;
mod subjects;
mod walk;

pub use checkpoint_job::{CheckpointJob, CheckpointTaken};
pub use filter::Filter;
pub use jobs::{LoadDone, LoadJob, WriteDone, WriteJob};
pub use layout::Layout;
pub use open::{OpenError, OpenReport};
pub use pin::{PinReadError, PinReader, Pinned};
pub use pin_copy::{DamagedMessage, PinnedData};
pub use record::{RECORD_MAX, Record, RecordError, Seed, encode as encode_record};
pub use repair::{Damage, RepairDone, RepairJob};
pub use replacement::{DATA_MAX, Replacement, ReplacementError};
pub use scrub::{BlockToVerify, DamagedRecord, Verified};
pub use state_file::{CheckpointBody, read_owner_state};
pub use store::{Kind, Lookup, Removed, State, StreamStore};
pub use subjects::SubjectState;
