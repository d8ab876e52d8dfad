//! Connections between servers as state machines: bytes and time in, bytes and decisions out.
//!
//! No sockets, no threads, no clock. [`Handshake`] brings a route from its first byte to the point where it carries
//! messages, [`Peers`] knows which servers there are and by which connections, [`Tally`] what they have to be told
//! about who is interested here. What is passed on from where to whom is a table, [`propagation`].

mod cluster_name;
mod compression;
mod handshake;
mod peers;
mod pool;
pub mod propagation;
mod tally;

pub use cluster_name::{ClusterName, Verdict};
pub use compression::{Level, Mode, Thresholds, UnknownMode};
pub use handshake::{Closing, Effect, Established, Handshake, Role};
pub use peers::{Admission, ConnId, Local, Origin, Peers, Slot};
pub use pool::{POOL_SIZE_MAX, pool_index};
pub use tally::{Change, Key, Tally};
