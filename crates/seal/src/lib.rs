//! Encryption at rest: a disk whose files are encrypted, each with a key of its own.
//!
//! [`SealedDisk`] stands between the engines and the disk below. What they write at a place of a file is encrypted at
//! that place behind a header of [`HEADER_BYTES`], byte for byte, so that what a damaged sector costs is the same with
//! and without it. It never decides what damage means and never deletes anything; checksums are the engines' affair.
//! [`convert`] brings the files of a store to the present key before anything else opens them.
//!
//! A place that was written is not written again under the same key: see [`SealedFile`](file::SealedFile). Start
//! reading in `disk.rs`; the format is in `docs/internals/encryption.md`, the reasons are in ADR 8.

mod convert;
mod disk;
mod file;
mod header;
mod key;
mod keystream;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;

pub use convert::{Converted, convert};
pub use disk::SealedDisk;
pub use header::HEADER_BYTES;
pub use key::{CHECK_BYTES, Cipher, KeyRing, MasterKey};
