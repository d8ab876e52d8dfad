//! The message broker: listeners, connections, accounts and the road of a message from a socket to its targets.
//!
//! A connection's reader task parses everything in its buffer, matches, and appends to the targets' [`Outbound`]
//! queues synchronously; at the end of the buffer it writes each touched queue to its socket. No channel, no task
//! switch and no await lies between a ready socket and a ready socket. A queue whose socket is full gets a task of
//! its own until it is drained.
//!
//! The broker knows nothing of streams: services inside the server subscribe with a [`Sink`] and publish through a
//! [`Publisher`]. Start reading at [`router`](Publisher) and `session`.

mod accepting;
mod account;
mod broker;
mod cache;
mod chunk;
mod close;
mod cluster;
mod config;
mod conn;
mod delivery;
mod description;
mod interest_watch;
mod lame_duck;
mod lanes;
mod link;
mod listen;
mod listener;
mod message_trace;
mod observer;
mod outbound;
mod packing;
mod registry;
mod reload;
mod reply_permissions;
mod router;
mod session;
mod sink;
mod staging;
mod stats;
mod subscription;
mod sweeper;
mod tls;
mod trace;
mod traffic;

pub use accepting::{AcceptPause, raise_descriptor_limit};
pub use account::{Account, AccountLimits, InternalSubscription};
pub use broker::{Broker, ServerIdentity};
pub use close::CloseReason;
pub use cluster::{
    ClusterConfig, Leads, RouteInterest, RoutePermissions, RouteSnapshot, RouteUrl, RoutedServer,
};
pub use config::Config;
pub use conn::{ClientInfo, Conn, ConnSnapshot};
pub use description::ClientDescription;
pub use interest_watch::{InterestSink, InterestWatch};
pub use listen::listen;
pub use observer::Observer;
pub use outbound::WritePolicy;
pub use registry::ClosedConn;
pub use reload::Reloaded;
pub use router::{Message, Publisher};
pub use sink::{Delivery, Sink};
pub use stats::StatsSnapshot;
pub use subscription::{SubRef, Subscription};
pub use tls::{ConnTls, HandshakeFirst, RouteTls, TlsPolicy};
pub use traffic::{Amount, TrafficSnapshot};
