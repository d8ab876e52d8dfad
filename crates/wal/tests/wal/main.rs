//! The log over a simulated disk: what is promised, under crashes and under damage.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod basics;
mod crash;
mod damage;
mod model;
mod sealed;
mod space;
