//! TLS of a route: the first thing on its connection, before INFO.

use std::sync::Arc;

use linnet_links::Origin;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection, ServerConnection};

use super::RouteSession;
use crate::tls::{HandshakeError, RouteTls, is_pinned, shake_hands};

impl RouteSession {
    pub(super) async fn secure(&self, tls: &RouteTls) -> Result<(), HandshakeError> {
        let prefix = self.prefix();
        let side = if self.url.is_some() { "client" } else { "server" };
        tracing::debug!("{prefix} - Starting TLS route {side} handshake");
        let begun = match self.dialled_name()? {
            Some(name) => Connection::from(ClientConnection::new(tls.dial.clone(), name)?),
            None => ServerConnection::new(tls.accept.clone())?.into(),
        };
        let shaking = shake_hands(self.link.tcp(), begun, &self.shared.handshake_turns);
        let outcome = tokio::time::timeout(tls.timeout, Box::pin(shaking)).await;
        let (session, facts) = outcome.unwrap_or(Err(HandshakeError::TimedOut))?;
        if !is_pinned(tls.pinned.as_ref(), &facts) {
            return Err(HandshakeError::NotPinned);
        }
        tracing::debug!("{prefix} - TLS handshake complete");
        tracing::debug!("{prefix} - TLS version {}, cipher suite {}", facts.version, facts.cipher_suite);
        self.link.secure(session);
        // A connection shakes hands once.
        let _ = self.route.conn.tls.set(Arc::new(facts));
        Ok(())
    }

    /// The name that the other side's certificate is for; `None` if it dialled. Servers tell each other's addresses, and
    /// certificates have names: whoever was told of is expected to have the name that the configuration knows.
    fn dialled_name(&self) -> Result<Option<ServerName<'static>>, HandshakeError> {
        let Some(url) = &self.url else { return Ok(None) };
        let is_address = |host: &str| host.parse::<std::net::IpAddr>().is_ok();
        let mut host = url.host.clone();
        if matches!(self.origin, Origin::Told(_)) && is_address(&host) {
            let config = self.cluster.config();
            let named = config.routes.iter().find(|route| !is_address(&route.host));
            host = named.map_or(host, |route| route.host.clone());
        }
        match ServerName::try_from(host) {
            Ok(name) => Ok(Some(name)),
            Err(_) => Err(HandshakeError::Tls(rustls::Error::General(format!("{} is no name", url.host)))),
        }
    }
}
