use std::sync::Arc;
use std::time::Duration;

use linnet_ids::{GroupId, Mono, PeerId};

use super::source::Source;

/// The sources of a server: so many at most, none longer than somebody asks.
#[derive(Debug)]
pub struct Sources {
    held: Vec<Held>,
    max: usize,
    patience: Duration,
}

#[derive(Debug)]
struct Held {
    group: GroupId,
    peer: PeerId,
    source: Arc<Source>,
    asked: Mono,
}

/// As many states are on their way as may be at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many states are being sent")]
pub struct TooManySources;

impl Sources {
    /// At most `max`; one that nobody asked for `patience` long goes.
    pub fn new(max: usize, patience: Duration) -> Self {
        Self { held: Vec::new(), max, patience }
    }

    /// True if another one may be made for a peer.
    pub fn has_room(&self, group: GroupId, peer: PeerId) -> bool {
        self.held.len() < self.max || self.of(group, peer).is_some()
    }

    /// The source that a peer has been told of.
    pub fn of(&self, group: GroupId, peer: PeerId) -> Option<&Arc<Source>> {
        self.held.iter().find(|held| held.group == group && held.peer == peer).map(|held| &held.source)
    }

    /// Holds a source for a peer, in the place of the one that it had.
    pub fn hold(
        &mut self,
        group: GroupId,
        peer: PeerId,
        source: Arc<Source>,
        now: Mono,
    ) -> Result<(), TooManySources> {
        if !self.has_room(group, peer) {
            return Err(TooManySources);
        }
        self.release(group, peer);
        self.held.push(Held { group, peer, source, asked: now });
        Ok(())
    }

    /// The source of a transfer that a peer asks for.
    pub fn find(&mut self, peer: PeerId, transfer: u64, now: Mono) -> Option<Arc<Source>> {
        let held = self.held.iter_mut().find(|h| h.peer == peer && h.source.transfer() == transfer)?;
        held.asked = now;
        Some(held.source.clone())
    }

    /// True if this transfer's source is held.
    pub fn holds(&self, transfer: u64) -> bool {
        self.held.iter().any(|held| held.source.transfer() == transfer)
    }

    /// A peer needs its source no more.
    pub fn release(&mut self, group: GroupId, peer: PeerId) {
        self.held.retain(|held| held.group != group || held.peer != peer);
    }

    /// This server sends no states of a group any more.
    pub fn release_group(&mut self, group: GroupId) {
        self.held.retain(|held| held.group != group);
    }

    /// When [`Sources::expire`] is due.
    pub fn next_due(&self) -> Option<Mono> {
        self.held.iter().map(|held| held.asked + self.patience).min()
    }

    /// Lets go of those that nobody asks any more.
    pub fn expire(&mut self, now: Mono) {
        self.held.retain(|held| held.asked + self.patience > now);
    }
}
