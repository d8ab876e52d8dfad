use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use linnet_ids::Mono;
use parking_lot::Mutex;
use rustls::{ClientConfig, ServerConfig};

use super::ConnTls;

/// TLS of the client listener. Replaced as a whole on reload; connections keep what they began with.
#[derive(Clone, Debug)]
pub struct TlsPolicy {
    /// Certificates, versions, whom to trust.
    pub config: Arc<ServerConfig>,
    /// Time for a handshake.
    pub timeout: Duration,
    /// When the handshake comes.
    pub handshake_first: HandshakeFirst,
    /// Clients must show a certificate.
    pub verify: bool,
    /// Clients may go without TLS.
    pub allow_plain: bool,
    /// SHA-256 of the public keys clients may have; `None` for any.
    pub pinned: Option<HashSet<[u8; 32]>>,
    /// New connections per second; `None` for no limit.
    pub rate_limit: Option<u32>,
}

/// TLS of the connections to other servers. Both sides show certificates.
#[derive(Clone, Debug)]
pub struct RouteTls {
    /// For those that others open.
    pub accept: Arc<ServerConfig>,
    /// For those opened here.
    pub dial: Arc<ClientConfig>,
    /// When this server's certificate expires, in seconds since 1970.
    pub not_after: i64,
    /// Time for a handshake.
    pub timeout: Duration,
    /// SHA-256 of the public keys that other servers may have; `None` for any.
    pub pinned: Option<HashSet<[u8; 32]>>,
}

/// Whether the handshake comes before INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFirst {
    /// After INFO.
    No,
    /// Before INFO.
    Yes,
    /// Before INFO if it begins within this time.
    Within(Duration),
}

/// Counts new connections per second.
#[derive(Default)]
pub(crate) struct RateLimit(Mutex<Second>);

#[derive(Default)]
struct Second {
    since: Mono,
    count: u32,
}

/// Whether the key of the certificate that the other side has shown is one of those pinned.
pub(crate) fn is_pinned(pins: Option<&HashSet<[u8; 32]>>, facts: &ConnTls) -> bool {
    let key = facts.peer.as_ref().and_then(|peer| peer.certificates.first()).map(|c| c.spki_sha256);
    pins.is_none_or(|pins| key.is_some_and(|key| pins.contains(&key)))
}

impl RateLimit {
    /// Whether one more fits into the present second. How many did not fit into one is logged when the next begins.
    pub(crate) fn admits(&self, limit: u32, now: Mono) -> bool {
        let mut second = self.0.lock();
        if second.count == 0 || now.since(second.since) >= Duration::from_secs(1) {
            let rejected = second.count.saturating_sub(limit);
            if rejected > 0 {
                tracing::warn!("Rejected {rejected} connections due to TLS rate limiting");
            }
            *second = Second { since: now, count: 0 };
        }
        second.count = second.count.saturating_add(1);
        second.count <= limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_admits_as_many_as_configured() {
        let limit = RateLimit::default();
        let at = |millis: u64| Mono(millis * 1_000_000);
        assert!(limit.admits(2, at(0)) && limit.admits(2, at(999)));
        assert!(!limit.admits(2, at(999)));
        assert!(limit.admits(2, at(1000)) && limit.admits(2, at(1500)));
        assert!(!limit.admits(2, at(1999)));
    }
}
