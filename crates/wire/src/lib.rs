//! Sans-IO codecs of the NATS protocols: bytes in, operations out, and the other way round.
//!
//! No sockets, no clock, no state of connections. [`client`] parses what clients send, [`encode`] writes what the
//! server sends, [`Info`] and [`Connect`] are the JSON of the handshake, [`headers`] reads and edits header blocks.
//! [`route`] is what servers of a cluster say to each other, [`ServerInfo`] and [`ServerConnect`] their handshake.

pub mod client;
mod connect;
pub mod encode;
pub mod fast_path;
pub mod headers;
mod info;
mod line;
pub mod route;
mod server_info;

pub use connect::{Connect, ConnectError};
pub use info::Info;
pub use line::{Error, Parsed};
pub use server_info::{GossipMode, ServerConnect, ServerInfo, SubjectPermission};
