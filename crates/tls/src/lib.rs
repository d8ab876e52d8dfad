//! TLS, without sockets: from certificates and rules to the configurations rustls serves with, and from the
//! certificates of a peer to what logins and monitoring want to know of them.
//!
//! Names of cipher suites and curves are those of nats-server's configuration and pages ([`names`]).

mod acceptor;
mod certificates;
mod mutual;
pub mod names;
mod peer;
mod subject;

pub use acceptor::{Acceptor, Authorities, Settings, TlsError, Version};
pub use certificates::KeyPair;
pub use mutual::Mutual;
pub use peer::{Peer, PeerCertificate};
