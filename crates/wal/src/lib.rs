//! The write-ahead log that all groups of a store share.
//!
//! It owns segment files, batches, and the index of what every group still needs of them. A batch is durable when
//! [`Wal::commit`] returns; opening replays the segments and tells, group by group, whether everything that was ever
//! acknowledged is there. It never cures damage, starts a thread, reads a clock or draws randomness; one writer
//! thread (or the simulator) owns a [`Wal`] and calls it.
//!
//! Start reading at [`Wal::open`] and [`Wal::commit`]; the format is in `directory.rs` and `record.rs`, torn or
//! damaged is decided in `scan.rs`, and `docs/internals/wal.md` has the tables.

mod batch;
mod chain;
mod directory;
mod error;
mod first_segment;
mod format;
mod group_log;
mod plan;
mod quarantine;
mod read;
mod reader;
mod record;
mod recover;
mod report;
mod rewrite;
mod scan;
mod segment;
mod space;
mod state;
mod wal;

pub use batch::{Batch, HardState};
pub use error::{Error, Failure, Refusal};
pub use format::{Lsn, SegmentNo};
pub use read::{Entries, Entry, EntryLocation};
pub use report::{
    AffectedGroups, CheckpointPosition, Damage, FoundDamage, FoundDamageKind, Integrity, RecoveredGroup,
    Report, TornTail,
};
pub use rewrite::{Rewritten, Unverifiable};
pub use segment::{PrepareSegment, PreparedSegment, Step};
pub use space::Usage;
pub use wal::{Config, Opened, StoreIdentity, Wal};
