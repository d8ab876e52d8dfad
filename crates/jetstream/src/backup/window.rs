use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use linnet_broker::{Account, Delivery, Sink};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// How long a client may take for its next acknowledgement.
const ACK_WAIT: Duration = Duration::from_secs(5);
/// How often interest is looked at while nothing comes.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Chunks of a snapshot that were sent and are not acknowledged. Bounded by the window of the request.
#[derive(Default)]
pub(super) struct Window {
    sent: Mutex<Sent>,
    changed: Notify,
}

#[derive(Default)]
struct Sent {
    /// Size of each by its number.
    chunks: HashMap<u64, usize>,
    bytes: usize,
    acknowledged: u64,
}

/// Why nothing more is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stalled {
    NoFlow,
    NoInterest,
}

impl Window {
    pub(super) fn note_sent(&self, number: u64, size: usize) {
        let mut sent = self.sent.lock();
        sent.chunks.insert(number, size);
        sent.bytes += size;
    }

    /// Acknowledgements so far, and whether `size` more bytes fit into `max`.
    fn look(&self, size: usize, max: usize) -> (u64, bool) {
        let sent = self.sent.lock();
        (sent.acknowledged, sent.chunks.is_empty() || sent.bytes + size <= max)
    }

    /// Waits until `size` more bytes fit into `max`.
    pub(super) async fn room(
        &self,
        size: usize,
        max: usize,
        account: &Account,
        deliver: &str,
    ) -> Result<(), Stalled> {
        let mut left = ACK_WAIT;
        let mut before = None;
        loop {
            let (acknowledged, fits) = self.look(size, max);
            if fits {
                return Ok(());
            }
            if before.replace(acknowledged) != Some(acknowledged) {
                left = ACK_WAIT;
            }
            if !account.has_interest(deliver.as_bytes()) {
                return Err(Stalled::NoInterest);
            }
            if left.is_zero() {
                return Err(Stalled::NoFlow);
            }
            if tokio::time::timeout(LOOK_AGAIN, self.changed.notified()).await.is_err() {
                left = left.saturating_sub(LOOK_AGAIN);
            }
        }
    }
}

/// Takes acknowledgements: their subject ends in size and number of the chunk. What was not sent, or is acknowledged
/// already, counts for nothing.
pub(super) struct AckSink(pub(super) Arc<Window>);

impl Sink for AckSink {
    fn deliver(&self, delivery: &Delivery<'_>) {
        let number = delivery.subject.rsplit(|b| *b == b'.').next().unwrap_or_default();
        let Some(number) = std::str::from_utf8(number).ok().and_then(|n| n.parse::<u64>().ok()) else {
            return;
        };
        let mut sent = self.0.sent.lock();
        if let Some(size) = sent.chunks.remove(&number) {
            sent.bytes -= size;
            sent.acknowledged += 1;
            drop(sent);
            self.0.changed.notify_one();
        }
    }
}
