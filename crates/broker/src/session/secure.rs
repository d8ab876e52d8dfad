//! The beginning of a connection: INFO and, where the listener has it, TLS before or after that.

use std::sync::Arc;
use std::time::Duration;

use super::{End, Session};
use crate::close::CloseReason;
use crate::tls::{HandshakeError, HandshakeFirst, TlsPolicy, is_pinned, shake_hands};

/// First byte of a TLS handshake; no command of the protocol begins so.
const HANDSHAKE_RECORD: u8 = 22;

impl Session {
    /// Greets the client and makes the connection as secure as the listener wants it.
    pub(super) async fn begin(&mut self) -> Result<(), End> {
        if let Some(policy) = self.shared.tls.load_full() {
            self.secure(&policy).await?;
        } else {
            self.greet();
        }
        self.await_login();
        Ok(())
    }

    async fn secure(&mut self, policy: &Arc<TlsPolicy>) -> Result<(), End> {
        let is_first = match policy.handshake_first {
            HandshakeFirst::No => false,
            HandshakeFirst::Yes => !policy.allow_plain,
            HandshakeFirst::Within(time) => self.begins_handshake(time).await,
        };
        if !is_first {
            self.greet();
            if policy.allow_plain && !self.begins_handshake(policy.timeout).await {
                return Ok(());
            }
        }
        if let Err(error) = self.handshake(policy, is_first).await {
            tracing::error!("{} - TLS handshake error: {error}", self.conn.log_prefix());
            return Err(End::Said(CloseReason::TlsHandshakeFailure));
        }
        if is_first {
            self.greet();
        }
        Ok(())
    }

    /// Whether the first thing the client sends, within this time, is a handshake. It stays to be read.
    async fn begins_handshake(&self, within: Duration) -> bool {
        let mut first = [0];
        let peeked = tokio::time::timeout(within, self.link.tcp().peek(&mut first)).await;
        matches!(peeked, Ok(Ok(1))) && first[0] == HANDSHAKE_RECORD
    }

    async fn handshake(&self, policy: &TlsPolicy, is_first: bool) -> Result<(), HandshakeError> {
        let prefix = self.conn.log_prefix();
        tracing::debug!("{prefix} - Starting TLS client connection handshake");
        let begun = rustls::ServerConnection::new(policy.config.clone())?.into();
        let shaking = shake_hands(self.link.tcp(), begun, &self.shared.handshake_turns);
        let outcome = tokio::time::timeout(policy.timeout, Box::pin(shaking)).await;
        let (tls, mut facts) = outcome.unwrap_or(Err(HandshakeError::TimedOut))?;
        facts.is_first = is_first;
        if !is_pinned(policy.pinned.as_ref(), &facts) {
            return Err(HandshakeError::NotPinned);
        }
        tracing::debug!("{prefix} - TLS handshake complete");
        tracing::debug!("{prefix} - TLS version {}, cipher suite {}", facts.version, facts.cipher_suite);
        self.link.secure(tls);
        // A connection shakes hands once.
        let _ = self.conn.tls.set(Arc::new(facts));
        Ok(())
    }
}
