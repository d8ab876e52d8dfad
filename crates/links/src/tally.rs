use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// What somebody here is interested in, as other servers are told of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Cluster of the leaf it is for; `None` for clients of this server.
    pub origin: Option<Box<[u8]>>,
    /// Subject, may have wildcards.
    pub subject: Box<[u8]>,
    /// Queue group.
    pub queue: Option<Box<[u8]>>,
}

/// Something other servers must be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// Of what.
    pub key: &'a Key,
    /// Members now; 1 stands for any number without a queue group, 0 for none.
    pub weight: u32,
}

/// Counts subscriptions that say the same, so that other servers hear of each once and of queue groups' sizes.
#[derive(Debug, Default)]
pub struct Tally {
    counts: HashMap<Key, u32>,
}

impl Tally {
    /// A subscription came; `tell` is called if others must know.
    pub fn add(&mut self, key: Key, tell: impl FnOnce(Change<'_>)) {
        match self.counts.entry(key) {
            Entry::Occupied(mut entry) => {
                *entry.get_mut() = entry.get().saturating_add(1);
                if entry.key().queue.is_some() {
                    tell(Change { key: entry.key(), weight: *entry.get() });
                }
            }
            Entry::Vacant(entry) => {
                tell(Change { key: entry.key(), weight: 1 });
                entry.insert(1);
            }
        }
    }

    /// A subscription that was added is gone; `tell` is called if others must know.
    pub fn remove(&mut self, key: Key, tell: impl FnOnce(Change<'_>)) {
        let Entry::Occupied(mut entry) = self.counts.entry(key) else { return };
        let left = entry.get().saturating_sub(1);
        if left == 0 {
            let (key, _) = entry.remove_entry();
            tell(Change { key: &key, weight: 0 });
            return;
        }
        *entry.get_mut() = left;
        if entry.key().queue.is_some() {
            tell(Change { key: entry.key(), weight: left });
        }
    }

    /// Everything that a server that has just come must be told, in no order.
    pub fn all(&self) -> impl Iterator<Item = Change<'_>> {
        self.counts.iter().map(|(key, count)| {
            let weight = if key.queue.is_some() { *count } else { 1 };
            Change { key, weight }
        })
    }

    /// Different interests.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// True if nobody is interested in anything.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn key(subject: &str, queue: Option<&str>) -> Key {
        Key { origin: None, subject: subject.as_bytes().into(), queue: queue.map(|q| q.as_bytes().into()) }
    }

    fn told(act: impl FnOnce(&mut Vec<u32>)) -> Vec<u32> {
        let mut told = Vec::new();
        act(&mut told);
        told
    }

    #[test]
    fn plain_interest_is_told_once_and_sizes_of_groups_each_time() {
        let mut tally = Tally::default();
        for (queue, expected) in [(None, vec![1, 0]), (Some("q"), vec![1, 2, 1, 0])] {
            let told = told(|told| {
                for _ in 0..2 {
                    tally.add(key("a", queue), |change| told.push(change.weight));
                }
                for _ in 0..2 {
                    tally.remove(key("a", queue), |change| told.push(change.weight));
                }
            });
            assert_eq!(told, expected);
        }
        assert!(tally.is_empty());
        tally.remove(key("a", None), |_| panic!("there is nothing to tell"));
    }

    proptest! {
        /// Whoever follows the changes knows what whoever asks for everything is told.
        #[test]
        fn changes_add_up_to_everything(steps in proptest::collection::vec((any::<bool>(), 0..3_u8, 0..3_u8), 0..60)) {
            let mut tally = Tally::default();
            let mut follower = BTreeMap::new();
            for (is_add, subject, queue) in steps {
                let key = key(&format!("s{subject}"), (queue > 0).then_some(["", "q", "r"][usize::from(queue)]));
                let follow = |change: Change<'_>| {
                    if change.weight == 0 {
                        follower.remove(change.key);
                    } else {
                        follower.insert(change.key.clone(), change.weight);
                    }
                };
                if is_add { tally.add(key, follow) } else { tally.remove(key, follow) }
            }
            let all: BTreeMap<Key, u32> = tally.all().map(|change| (change.key.clone(), change.weight)).collect();
            prop_assert_eq!(all, follower);
        }
    }
}
