//! The vocabulary every other crate shares: identifiers, points in time and the text forms NATS gives them.
//!
//! Nothing here does I/O, reads a clock or draws randomness: bytes of entropy come in as arguments.

mod chain;
mod group;
mod hash;
mod nkey;
mod nuid;
mod peer;
mod size;
mod time;

pub use chain::{chain_next, chain_start, fold};
pub use group::GroupId;
pub use hash::{hash_base62, node_hash};
pub use nkey::{PublicKeyKind, encode_public_key};
pub use nuid::{NUID_LEN, NuidSequence};
pub use peer::{PeerId, PeerIdError};
pub use size::format_bytes;
pub use time::{Mono, Wall};

/// Sequence of a message in a stream. The first message of a stream is 1; 0 means "none".
pub type StreamSeq = u64;
/// Sequence of a delivery by a consumer. The first delivery is 1.
pub type ConsumerSeq = u64;
/// Index of an entry in a replicated log. The first entry is 1; 0 means "none".
pub type LogIndex = u64;
/// Term of a leader in a replicated log.
pub type Term = u64;
