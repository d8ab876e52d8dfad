//! JetStream's contract, a file per subject. Configurations are in `recorded_rules.rs`, the rules that people get wrong in
//! `semantics/`, publishing in `publishing/`, mirrors and sources in `origins.rs`, priority groups, pauses, push speed and
//! backups in files of their own.

mod accounts;
mod acks;
mod advisories;
mod buckets;
mod consumers;
mod creation;
mod direct_get;
mod domains;
mod limits;
mod plumbing;
mod pulls;
mod purging;
mod pushes;
mod reading;
mod updates;
