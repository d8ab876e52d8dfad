//! How the server speaks over NATS: who it is, and the number of what it says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use linnet_broker::{Account, Message, Publisher};

use super::description::ServerDescription;
use crate::monitor::Monitor;

/// Shared by all tasks that answer.
#[derive(Clone)]
pub(super) struct Voice {
    monitor: Arc<Monitor>,
    said: Arc<AtomicU64>,
}

impl Voice {
    pub(super) fn new(monitor: Arc<Monitor>) -> Self {
        Self { monitor, said: Arc::default() }
    }

    pub(super) fn monitor(&self) -> &Arc<Monitor> {
        &self.monitor
    }

    /// This server, for the next thing it says.
    pub(super) fn describe(&self) -> ServerDescription {
        ServerDescription::new(&self.monitor, self.said.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// Publishes for a service. Nothing is written before the publisher is flushed.
pub(super) fn publish(
    publisher: &mut Publisher,
    account: &Arc<Account>,
    subject: &[u8],
    reply: &[u8],
    header_len: usize,
    body: &[u8],
) {
    publisher.publish(account, &Message { subject, shown_subject: b"", reply, header_len, body });
}
