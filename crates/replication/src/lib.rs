//! The loop of one group: what a stream proposes is written to the log, and applied once it is durable.
//!
//! [`SoloGroup`] drives a stream with one voter. It is pure: it appends to a [`Log`], which somebody else makes
//! durable, and is told how far that got. File streams go through the log; memory streams apply at once. Start
//! reading at [`SoloGroup::flush`] and [`SoloGroup::durable`]; opening after a restart is in `open`.

mod floor;
mod log;
mod open;
mod solo;

pub use log::{Log, Ticket, may_use_reserve};
pub use open::{OpenFailure, Opening, Restored, fresh, recover};
pub use solo::{LogPosition, SoloGroup};
