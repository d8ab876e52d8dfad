//! What publishing can do beyond storing, each rule against both servers.

mod batches;
mod counters;
mod fast_batches;
mod headers;
mod markers;
mod persistence;
mod schedules;
mod transforms;
