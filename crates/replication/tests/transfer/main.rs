//! States of streams that go from one replica to another.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod bench;
mod chunks;
mod crash;
mod replicas;
mod sources;
