//! Backups of streams as bytes (jetstream, "Snapshot and restore").
//!
//! An archive is a list of [`Entry`] values in compression frames: the state of the stream, its consumers, its
//! messages in the order of their sequences, and an end. [`Writer`] makes one piece by piece, [`Reader`] reads one
//! from anything that can be read, and holds no more of it than one frame and one entry.
//!
//! Nothing an archive says of itself is believed: sizes are bounded, and memory is taken as bytes come.

mod consumer;
mod entry;
mod reader;
mod s2;
mod writer;

pub use consumer::{ArchivedConsumer, ArchivedPending, ArchivedState, Position};
pub use entry::{ENTRY_MAX, Entry, NAME_MAX};
pub use reader::{Error, Part, Reader};
pub use s2::{BLOCK_MAX, FrameReader};
pub use writer::Writer;
