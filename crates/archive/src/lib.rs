//! Backups of streams as bytes (jetstream, "Snapshot and restore").
//!
//! Since nats-server 2.15 an archive is a list of [`Entry`] values in compression frames: the state of the stream, its consumers, its
//! messages in the order of their sequences, and an end. [`Writer`] makes one piece by piece, [`Reader`] reads one
//! from anything that can be read, and holds no more of it than one frame and one entry. It reads the backups of older
//! servers as well, which are a tar of the stream's files.
//!
//! Nothing an archive says of itself is believed: sizes are bounded, and memory is taken as bytes come.

mod consumer;
mod entry;
mod files;
mod reader;
mod writer;

pub use consumer::{ArchivedConsumer, ArchivedPending, ArchivedState, Position};
pub use entry::{ENTRY_MAX, Entry, NAME_MAX};
pub use reader::{End, Error, Part, Reader};
pub use writer::Writer;
