use std::collections::BTreeMap;

use linnet_ids::{GroupId, PeerId};
use linnet_raft::Message;

/// Messages of all groups of a server that wait to be sent, by server.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: BTreeMap<PeerId, Vec<(GroupId, Message)>>,
}

impl Outbox {
    /// Adds a message of a group.
    pub fn send(&mut self, group: GroupId, message: Message) {
        self.waiting.entry(message.to.peer).or_default().push((group, message));
    }

    /// Takes over what waits in another one.
    pub fn append(&mut self, other: &mut Self) {
        for (peer, mut messages) in std::mem::take(&mut other.waiting) {
            self.waiting.entry(peer).or_default().append(&mut messages);
        }
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Everything that waits, by server.
    pub fn take(&mut self) -> BTreeMap<PeerId, Vec<(GroupId, Message)>> {
        std::mem::take(&mut self.waiting)
    }
}
