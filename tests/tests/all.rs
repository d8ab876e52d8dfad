//! Tests of the built server from outside. Those that say what nats-server does run against it too, so that they are
//! honest. `LINNET_BIN` and `NATS_SERVER` name the programs; without them they are taken from the target directory.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[macro_use]
mod harness;

mod audits;
mod backups;
mod bad_input;
mod clients;
mod close_reasons;
mod cluster;
mod cluster_faults;
mod clustered_start;
mod compression;
mod config_keys;
mod crash;
mod disk_use;
mod encryption;
mod fan_out;
mod fuzz_replay;
mod inactive_consumers;
mod info;
mod jetstream;
mod listeners;
mod memory_streams;
mod object_stores;
mod origin_requests;
mod origins;
mod other_clients;
mod pause_and_reset;
mod priority_groups;
mod processes;
mod publishing;
mod push_speed;
mod recorded_rules;
mod redelivery;
mod reload;
mod replicated;
mod retention;
mod route_scripts;
mod routes;
mod scrub;
mod semantics;
mod store_command;
mod stores;
mod system;
mod tls;
mod up;
mod wire_scripts;
