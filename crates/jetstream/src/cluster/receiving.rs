//! What comes from other servers.

use std::sync::Weak;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use linnet_broker::{Delivery, Sink};
use linnet_replication::raft::{BallotMessage, Frame};

use super::datagram::Head;
use super::link::Link;
use super::subjects::Kind;

/// Takes what is said to this server, on the task that read it.
pub(super) struct Ear(pub(super) Weak<Link>);

impl Sink for Ear {
    fn deliver(&self, delivery: &Delivery<'_>) {
        let Some(link) = self.0.upgrade() else { return };
        // Servers publish as services do. Of what a client says on another server's connection nothing tells: whoever
        // may use the system account runs the system.
        if delivery.origin.is_some() || !link.take(Kind::of(delivery.subject), delivery.payload()) {
            link.complain_of_message();
        }
    }
}

impl Link {
    /// False if it cannot be read.
    fn take(&self, kind: Option<Kind>, payload: &[u8]) -> bool {
        let Some(kind) = kind else { return false };
        let bytes = Bytes::copy_from_slice(payload);
        if kind == Kind::Frame {
            let Ok(frame) = Frame::decode(&bytes) else { return false };
            if frame.from != self.me {
                self.on_frame(frame);
            }
            return true;
        }
        let Some((head, body)) = Head::decode(&bytes) else { return false };
        match kind {
            Kind::Question => self.on_question(head, body),
            Kind::Answer => self.on_answer(head, &body),
            Kind::Ballot => self.on_ballot(head, &body),
            Kind::Stopping => {
                self.on_stopping(head);
                true
            }
            Kind::Frame => false,
        }
    }

    /// False if it cannot be read.
    fn on_ballot(&self, head: Head, body: &[u8]) -> bool {
        let Some(message) = BallotMessage::decode(body) else { return false };
        if let Some(ballots) = &*self.ballots.lock() {
            // What finds no room is said again.
            let _ = ballots.try_send((head.from, message));
        }
        true
    }

    fn complain_of_message(&self) {
        self.counts.malformed.fetch_add(1, Ordering::Relaxed);
        if let Some(times) = self.complaints.occurs(self.clock.mono()) {
            tracing::warn!(
                "Dropped {times} messages to this server's JetStream that no server sends, or none of this version"
            );
        }
    }
}
