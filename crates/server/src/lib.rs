//! Builds the server from its options, starts it, drains it, stops it.
//!
//! The only crate that sees every other one. Everything it makes is handed the settings it needs, never the options
//! as a whole. Start reading at [`run`].

mod address;
mod banner;
mod build;
mod cluster;
mod files;
mod jetstream;
mod keys;
mod logging;
mod refusals;
mod reload;
mod run;
mod running;
mod send_signal;
mod signals;
pub mod store;
mod tls;

pub use run::run;
pub use send_signal::send_signal;
pub use tls::check_tls;

/// Version of nats-server whose behaviour clients find, as INFO, `/varz` and `-v` present it.
pub const NATS_VERSION: &str = "2.15.1";
/// Version of this program.
pub const LINNET_VERSION: &str = env!("CARGO_PKG_VERSION");
