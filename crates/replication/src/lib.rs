//! From admitted to durable to applied: the loops around the streams of a store, without threads.
//!
//! [`StreamGroup`] drives a stream with one voter. It is pure: it appends to a [`Log`], which somebody else makes
//! durable, and is told how far that got. File streams go through the log; memory streams apply at once. Start
//! reading at [`StreamGroup::flush`] and [`StreamGroup::durable`]. [`Turns`] is the loop around many groups.
//!
//! A stream hands out no sequence above its `floor`, which is durable outside the log. One in memory comes back empty
//! and goes on behind it.
//!
//! [`Restoring`] opens everything in a store directory, one group of it is opened in `open`; [`Change`] creates,
//! changes and deletes streams; [`LogKeeper`] writes the log and keeps it within its bound. The server and the simulator carry out the same steps.

mod bequest;
mod catalogue;
mod change;
pub mod cluster;
mod clustered;
mod dissolved;
mod floor;
mod group;
mod identify;
mod job;
mod keeper;
mod kept;
mod log;
mod open;
mod quarantine;
pub mod raft;
mod repair;
mod replica;
mod replicating;
mod rescued;
mod reshaping;
mod restore;
mod solo;
mod succession;
pub mod transfer;
mod turns;

pub use catalogue::{Assignment, CatalogueEntry, Earlier, Placed, catalogue_config, catalogue_entry};
pub use change::{Change, Site, Step};
pub use clustered::{
    Beginning, ClusterStore, Myself, begin_catalogue, forget_assignment, note_removal, remember_assignment,
};
pub use dissolved::Dissolved;
pub use floor::{FLOOR_STEP, FloorDone, FloorJob};
pub use group::{LogPosition, StreamGroup};
pub use job::{GroupDone, GroupJob};
pub use keeper::{AskGroup, LogKeeper, Upkeep, Written};
pub use kept::KeptConsumer;
pub use log::{BatchQueue, Log, Records, Ticket, may_use_reserve};
pub use open::{OpenFailure, Opening, Restored, open_at_checkpoint};
pub use quarantine::put_aside;
pub use repair::{Held, Lacking};
pub use replica::ReplicaRequest;
pub use rescued::Rescued;
pub use reshaping::Reshaping;
pub use restore::{RestoreOutcome, RestoredStore, RestoredStream, Restoring, UnnamedGroup, group_dir};
pub use succession::Hold;
pub use turns::{GroupKey, Host, Incoming, PassMail, StopReason, Touched, Turns};
