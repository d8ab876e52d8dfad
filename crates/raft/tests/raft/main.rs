//! The production node over fake disks and a fake network.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod differential;
mod disk;
mod effects;
mod explore;
mod faults;
mod ghost;
mod groups;
mod hostile;
mod mutants;
mod mutation;
mod paper;
mod rescue;
mod schedule;
mod script;
mod settle;
mod tell;
mod walk;
mod world;
