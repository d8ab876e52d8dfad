//! Lives that replicas here named to the leaders of their groups, who may take them in: such a replica is not removed
//! meanwhile, and one that is being removed names none.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use linnet_ids::{GroupId, Mono};

/// How long after it heard of a life a leader may still take it in: the time that it waits for the name of one, and again
/// as much.
const VALID_FOR: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lives {
    named: HashMap<GroupId, Mono>,
    leaving: HashSet<GroupId>,
}

impl Lives {
    /// A replica's life is about to be named. False if it is being removed.
    pub(super) fn name(&mut self, now: Mono, group: GroupId) -> bool {
        let may_be_named = !self.leaving.contains(&group);
        if may_be_named {
            self.named.retain(|_, since| now.since(*since) < VALID_FOR);
            self.named.insert(group, now);
        }
        may_be_named
    }

    /// A replica is about to be removed, as its group does without it. False if the group may be taking it in.
    pub(super) fn leave(&mut self, now: Mono, group: GroupId) -> bool {
        let is_promised = self.named.get(&group).is_some_and(|since| now.since(*since) < VALID_FOR);
        if !is_promised {
            self.leaving.insert(group);
        }
        !is_promised
    }

    /// The replica is removed, or stays after all.
    pub(super) fn has_left(&mut self, group: GroupId) {
        self.leaving.remove(&group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId { epoch: 0, meta_index: 3, random: 1 };
    const OTHER: GroupId = GroupId { epoch: 0, meta_index: 4, random: 1 };

    #[test]
    fn who_may_be_taken_in_does_not_leave() {
        let mut lives = Lives::default();
        assert!(lives.name(Mono(0), GROUP));
        assert!(!lives.leave(Mono(0) + VALID_FOR / 2, GROUP));
        assert!(lives.leave(Mono(0) + VALID_FOR / 2, OTHER));
        assert!(lives.leave(Mono(0) + VALID_FOR, GROUP), "nobody has taken it in");
    }

    #[test]
    fn who_leaves_names_no_life_before_it_has_left() {
        let mut lives = Lives::default();
        assert!(lives.leave(Mono(0), GROUP));
        assert!(!lives.name(Mono(0), GROUP));
        assert!(lives.name(Mono(0), OTHER));
        lives.has_left(GROUP);
        assert!(lives.name(Mono(0), GROUP));
    }

    #[test]
    fn no_more_is_kept_than_may_still_count() {
        let mut lives = Lives::default();
        for n in 0..100 {
            lives.name(Mono(0) + VALID_FOR * n, GroupId { meta_index: n.into(), ..GROUP });
        }
        assert_eq!(lives.named.len(), 1);
    }
}
