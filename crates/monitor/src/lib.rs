//! The HTTP monitoring pages: what nats-server answers on its monitoring port, from views of the broker and of
//! JetStream.
//!
//! Everything here reads; nothing waits for a stream that does not move, and nothing is changed by asking. The
//! server assembles a [`MonitorState`], calls [`Monitor::bind`] before JetStream is recovered, and polls the future
//! it gets for as long as the pages are to be there. Start reading at `pages`, which names every path, then take one
//! file per page. What `/healthz` decides is a pure function, [`health::evaluate`].

mod accountz;
mod answer;
mod ask;
mod connz;
mod debug;
mod format;
pub mod health;
mod healthz;
mod ipqueuesz;
mod jetstream;
mod json;
mod jsz;
mod links;
mod listeners;
mod monitor;
mod pages;
mod params;
mod process;
mod requests;
mod root;
mod routez;
mod server;
mod sort;
mod subsz;
mod varz;

pub use listeners::{ListenerKind, Listeners};
pub use monitor::{ConfigVersion, Monitor, MonitorState};
