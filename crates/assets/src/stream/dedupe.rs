use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use linnet_ids::{StreamSeq, Wall};

/// Message ids seen within the duplicate window.
#[derive(Default)]
pub(super) struct Dedupe {
    known: HashMap<Arc<[u8]>, StreamSeq>,
    by_age: VecDeque<(Wall, StreamSeq, Arc<[u8]>)>,
}

impl Dedupe {
    /// The sequence of the message with this id, if the window still covers it.
    pub(super) fn find(&self, id: &[u8]) -> Option<StreamSeq> {
        self.known.get(id).copied()
    }

    /// Remembers the id of a message stored at `at`.
    pub(super) fn insert(&mut self, id: &[u8], seq: StreamSeq, at: Wall) {
        let id: Arc<[u8]> = id.into();
        self.known.insert(id.clone(), seq);
        self.by_age.push_back((at, seq, id));
    }

    /// Forgets ids of messages stored before `cutoff`.
    pub(super) fn forget_before(&mut self, cutoff: Wall) {
        while let Some((_, seq, id)) = self.by_age.pop_front_if(|(at, _, _)| *at < cutoff) {
            // A newer message may have the same id: a replayed log holds both.
            if self.known.get(&id) == Some(&seq) {
                self.known.remove(&id);
            }
        }
        if self.by_age.is_empty() && self.known.capacity() > 1024 {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_known_while_the_window_covers_them() {
        let mut dedupe = Dedupe::default();
        dedupe.insert(b"a", 1, Wall(10));
        dedupe.insert(b"b", 2, Wall(20));
        assert_eq!(dedupe.find(b"a"), Some(1));
        dedupe.forget_before(Wall(20));
        assert_eq!(dedupe.find(b"a"), None);
        assert_eq!(dedupe.find(b"b"), Some(2));
    }
    #[test]
    fn an_id_used_again_stays_known_when_its_first_use_is_forgotten() {
        let mut dedupe = Dedupe::default();
        dedupe.insert(b"a", 1, Wall(10));
        dedupe.insert(b"a", 2, Wall(30));
        dedupe.forget_before(Wall(20));
        assert_eq!(dedupe.find(b"a"), Some(2));
    }
}
