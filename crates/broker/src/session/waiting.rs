//! Waiting for others: for a slow subscriber, and for a client that is being closed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Session;
use crate::conn::Conn;

/// Producer pauses (cluster protocols, "Pending limits, slow consumers"): per look at a nearly full subscriber, at
/// a full one, and in all per read.
const STALL: Duration = Duration::from_millis(2);
const STALL_FULL: Duration = Duration::from_millis(5);
const STALL_MAX: Duration = Duration::from_millis(10);
/// How long and how much is read and thrown away after an error, so that the client sees the text before the
/// connection is reset.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 4 << 20;

impl Session {
    /// Waits until a nearly full subscriber has drained a little; its own writer does the work meanwhile.
    pub(super) async fn stall(&self, slow: &Arc<Conn>) {
        let max = self.shared.config.load().max_pending;
        self.conn.stalls.fetch_add(1, Ordering::Relaxed);
        self.shared.stats.stalled_clients.fetch_add(1, Ordering::Relaxed);
        let_drain(slow, max).await;
    }

    /// Reads and drops what the client still sends, so that closing does not reset the connection before the
    /// client has read our last words.
    pub(super) async fn linger(&self) {
        let mut left = LINGER_BYTES;
        let mut sink = vec![0; 16 * 1024];
        let drain = async {
            while left > 0 {
                if self.link.tcp().readable().await.is_err() {
                    return;
                }
                match self.link.tcp().try_read(&mut sink) {
                    Ok(0) => return,
                    Ok(n) => left = left.saturating_sub(n),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
            }
        };
        let _ = tokio::time::timeout(LINGER, drain).await;
    }
}

/// Waits, for a bounded time, until less than three quarters of what may wait for a connection do.
async fn let_drain(slow: &Conn, max_pending: usize) {
    let mut waited = Duration::ZERO;
    while waited < STALL_MAX {
        let pending = slow.outbound.pending();
        if pending <= max_pending / 4 * 3 || slow.close_reason().is_some() {
            return;
        }
        let pause = if pending >= max_pending { STALL_FULL } else { STALL }.min(STALL_MAX - waited);
        tokio::time::sleep(pause).await;
        waited += pause;
    }
}
