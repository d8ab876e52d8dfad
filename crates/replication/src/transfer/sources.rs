use std::sync::Arc;
use std::time::Duration;

use linnet_ids::{GroupId, Mono, PeerId};

use super::source::Source;

/// A source is in use for this part of the patience after it was asked for.
const IN_USE_PART: u32 = 3;

/// The sources of a server: so many at most, none longer than somebody asks.
#[derive(Debug)]
pub struct Sources {
    held: Vec<Held>,
    max: usize,
    patience: Duration,
    /// The newest moment that was told.
    now: Mono,
}

#[derive(Debug)]
struct Held {
    group: GroupId,
    peer: PeerId,
    source: Arc<Source>,
    asked: Mono,
    /// It was asked for a chunk.
    is_used: bool,
}

/// As many states are on their way as may be at once, or the peer is taking one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many states are being sent")]
pub struct TooManySources;

impl Sources {
    /// At most `max`; one that nobody asked for `patience` long goes.
    pub fn new(max: usize, patience: Duration) -> Self {
        Self { held: Vec::new(), max, patience, now: Mono::default() }
    }

    /// True if another one may be made for a peer: there is room, and the peer is not in the middle of taking the one
    /// that it has. Consensus asks for a state again and again while one is on its way.
    pub fn has_room(&self, group: GroupId, peer: PeerId) -> bool {
        match self.held.iter().find(|held| held.group == group && held.peer == peer) {
            Some(held) => !self.is_in_use(held),
            None => self.held.len() < self.max || self.held.iter().any(|held| self.is_idle(held)),
        }
    }

    /// It was taken, and is not asked for any more: it stays only until another one needs its place.
    fn is_idle(&self, held: &Held) -> bool {
        held.is_used && !self.is_in_use(held)
    }

    /// True while a peer takes the state of a group. A checkpoint that the log does not ask for should wait: it would end
    /// the log behind that state, so that the peer would need another one.
    pub fn is_sending(&self, group: GroupId) -> bool {
        self.held.iter().any(|held| held.group == group && self.is_in_use(held))
    }

    fn is_in_use(&self, held: &Held) -> bool {
        held.is_used && held.asked + self.patience / IN_USE_PART > self.now
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
        self.now = self.now.max(now);
        if !self.has_room(group, peer) {
            return Err(TooManySources);
        }
        self.release(group, peer);
        if self.held.len() >= self.max
            && let Some(idle) = self.held.iter().position(|held| self.is_idle(held))
        {
            self.held.remove(idle);
        }
        self.held.push(Held { group, peer, source, asked: now, is_used: false });
        Ok(())
    }

    /// The source of a transfer that a peer asks for.
    pub fn find(&mut self, peer: PeerId, transfer: u64, now: Mono) -> Option<Arc<Source>> {
        self.now = self.now.max(now);
        let held = self.held.iter_mut().find(|h| h.peer == peer && h.source.transfer() == transfer)?;
        (held.asked, held.is_used) = (now, true);
        Some(held.source.clone())
    }

    /// A peer needs its source no more.
    pub fn release(&mut self, group: GroupId, peer: PeerId) {
        self.held.retain(|held| held.group != group || held.peer != peer);
    }

    /// A peer takes nothing any more of what it was told of: it began anew.
    pub fn release_peer(&mut self, peer: PeerId) {
        self.held.retain(|held| held.peer != peer);
    }

    /// The group whose state a peer takes in this transfer.
    pub fn group_of(&self, peer: PeerId, transfer: u64) -> Option<GroupId> {
        let held = self.held.iter().find(|h| h.peer == peer && h.source.transfer() == transfer);
        held.map(|held| held.group)
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
        self.now = self.now.max(now);
        self.held.retain(|held| held.asked + self.patience > now);
    }
}
