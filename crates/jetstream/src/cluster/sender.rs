use std::sync::Arc;
use std::sync::atomic::Ordering;

use linnet_broker::Publisher;
use linnet_replication::raft::{Frame, Outbox};

use super::link::Link;
use super::subjects::Kind;

/// Bytes of a frame, unless one message alone is larger.
const FRAME_MAX: usize = 4 << 20;
/// Bytes of a frame that routes carry (`linnet_wire::route::BODY_MAX`).
const CARRIED_MAX: usize = linnet_wire::route::BODY_MAX;

/// Sends what the groups of one pump have to say to other servers.
pub(crate) struct FrameSender {
    link: Arc<Link>,
    publisher: Publisher,
}

impl FrameSender {
    pub(crate) fn new(link: &Arc<Link>) -> Self {
        Self { link: link.clone(), publisher: link.broker().publisher() }
    }

    /// Sends everything, one frame per server if that is not too large, and empties the outbox.
    pub(crate) fn send(&mut self, outbox: &mut Outbox) {
        if outbox.is_empty() {
            return;
        }
        let waiting = outbox.take();
        let link = &self.link;
        if link.has_stopped() {
            return;
        }
        let history = link.history();
        for (peer, messages) in waiting {
            for frame in Frame::encode_all(link.me(), link.boot, history, &messages, FRAME_MAX) {
                if frame.len() > CARRIED_MAX {
                    tracing::error!("A message of {} bytes to another server is too large", frame.len());
                    continue;
                }
                link.counts.sent.fetch_add(1, Ordering::Relaxed);
                link.publish(&mut self.publisher, peer, Kind::Frame, &frame);
            }
        }
        self.publisher.flush();
    }
}
