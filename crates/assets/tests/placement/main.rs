//! Where the placement planner puts assets, and what it says when it cannot. Texts and outcomes are what three to
//! five servers of nats-server 2.15.1 answered, but for the differences that `linnet_assets::placement` lists.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod consumers;
mod create;
mod harness;
mod moves;
mod properties;
mod repair;
mod scale;
mod spread;
mod step_down;
