//! Tests of the store from outside: one battery over both kinds, a model, crashes, damage.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod battery;
mod crash;
mod damage;
mod model;
mod packed;
mod pins;
mod properties;
mod reads;
mod repair;
mod replacement;
mod scrub;
mod sealed;
mod state;
mod support;
mod trouble;
mod world;
