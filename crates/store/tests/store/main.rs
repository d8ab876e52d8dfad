//! Tests of the store from outside: one battery over both kinds, a model, crashes, damage.

mod battery;
mod crash;
mod damage;
mod model;
mod properties;
mod support;
mod trouble;
mod world;
