//! What a server tells of itself: the HTTP monitoring pages, and the same over NATS in the system account with the
//! events of connections, from views of the broker and of JetStream.
//!
//! Pages and reports only read, and none waits for a stream that does not move. The
//! server assembles a [`MonitorState`] and calls [`Monitor::bind`] before JetStream is recovered, and polls the future
//! it gets for as long as the pages are to be there. Start reading at `pages`, which names every path, then take one
//! file per page; the services of the system account begin at `system`. What `/healthz` decides is a pure function, [`health::evaluate`].

mod accountz;
mod accstatz;
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
mod meta;
mod monitor;
mod pages;
mod params;
mod process;
mod raftz;
mod requests;
mod root;
mod routez;
mod server;
mod sort;
mod statsz;
mod subsz;
mod system;
mod varz;

pub use listeners::{ListenerKind, Listeners};
pub use monitor::{ConfigVersion, Monitor, MonitorState};
pub use system::{Leaving, ReloadRequest, SystemHandle};
