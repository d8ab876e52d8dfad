//! Consensus of a group of replicas, without I/O: elections, replication, membership, amnesia.
//!
//! A [`Node`] is one replica. It owns what the replica knows (term, vote, members, the newest entries, what others
//! have) and produces [`Effect`]s; it never reads a clock, a disk or a socket. The driver (crate `replication`)
//! writes, sends and applies, in the order of the effects, and tells what became durable. Whether another server can
//! be heard is not its business either: it is told ([`Node::set_reachable`]), so an idle group sends nothing.
//!
//! The rules are those of Raft (Ongaro, 2014) with pre-votes, check-quorum and single steps of membership, and those
//! for replicas that may have forgotten something (`amnesia.rs`). Start reading at [`Node::on_message`], then
//! `election.rs`, `leader.rs`, `follower.rs`.

mod amnesia;
mod bytes;
mod durable;
mod effect;
mod election;
mod entry;
mod follower;
mod leader;
mod likeness;
mod log;
mod membership;
mod message;
mod node;
mod progress;
mod rescue;
mod status;

pub use bytes::Malformed;
pub use durable::{Configs, HardState};
pub use effect::{Effect, Fault, Standing, WriteNo};
pub use entry::{MembershipEntry, RESERVED_FROM, is_reserved};
pub use leader::{MemberProgress, Refused, UNCOMMITTED_BYTES_MAX};
pub use log::{Entry, LogPoint};
pub use membership::{Change, ImpossibleChange, Incarnation, MEMBERS_MAX, Member, Membership, Replica, Role};
pub use message::{Append, Appended, Ballot, Body, Candidacy, Message, Outcome, Snapshot, Stranger};
pub use node::{HELD_BYTES_MAX, Node, Opening};
pub use rescue::NotRescued;
pub use status::{Bearing, Status};
