//! Which streams are looked at: all of them from time to time, and at once those of which something is known to have
//! changed or to be unfinished.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use linnet_ids::{GroupId, Mono};
use linnet_replication::Assignment;

use super::Cluster;
use super::news::Fresh;

/// How often everything is looked at.
const ALL_EVERY: Duration = Duration::from_secs(1);

/// What a look is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Everything.
    All,
    /// These groups.
    Groups(BTreeSet<GroupId>),
}

/// What is to be looked at next.
#[derive(Debug, Default)]
pub(super) struct Attention {
    unfinished: HashSet<GroupId>,
    everything_at: Option<Mono>,
}

impl Attention {
    /// A group is to be looked at again.
    pub(super) fn keep(&mut self, group: GroupId) {
        self.unfinished.insert(group);
    }

    /// What to look at now. `changed` is what is new in the catalogue: these groups, or `None` for anything.
    fn scope(&mut self, now: Mono, changed: Option<Vec<GroupId>>, fresh: &Fresh) -> Scope {
        let unfinished = std::mem::take(&mut self.unfinished);
        let is_due = self.everything_at.is_none_or(|at| now.since(at) >= ALL_EVERY);
        match changed {
            Some(changed) if !is_due => {
                let groups = changed.into_iter().chain(fresh.changed.keys().copied()).chain(unfinished);
                Scope::Groups(groups.collect())
            }
            _ => {
                self.everything_at = Some(now);
                Scope::All
            }
        }
    }
}

impl Cluster {
    /// What to look at now.
    pub(super) fn scope(&self, fresh: &Fresh) -> Scope {
        let now = self.link.clock().mono();
        self.attention.lock().scope(now, self.view.take_changes(), fresh)
    }

    /// What the catalogue says of what is looked at.
    pub(super) fn assignments(&self, scope: &Scope) -> Vec<Arc<Assignment>> {
        match scope {
            Scope::All => self.view.all(),
            Scope::Groups(groups) => groups.iter().filter_map(|group| self.view.of_group(*group)).collect(),
        }
    }

    /// The groups that are looked at and led here.
    pub(super) fn led(&self, scope: &Scope) -> Vec<GroupId> {
        match scope {
            Scope::All => self.news.leading(),
            Scope::Groups(groups) => groups.iter().copied().filter(|group| self.news.leads(*group)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(meta_index: u64) -> GroupId {
        GroupId { epoch: 0, meta_index, random: 1 }
    }

    #[test]
    fn everything_is_looked_at_from_time_to_time_and_what_is_new_or_unfinished_at_once() {
        let mut attention = Attention::default();
        let at = |millis| Mono(1) + Duration::from_millis(millis);
        assert_eq!(attention.scope(at(0), Some(Vec::new()), &Fresh::default()), Scope::All);
        attention.keep(group(1));
        let mut fresh = Fresh::default();
        fresh.changed.insert(group(2), true);
        let expected = [group(1), group(2), group(3)].into();
        assert_eq!(attention.scope(at(10), Some(vec![group(3)]), &fresh), Scope::Groups(expected));
        let nothing = Scope::Groups(BTreeSet::new());
        assert_eq!(attention.scope(at(20), Some(Vec::new()), &Fresh::default()), nothing);
        assert_eq!(attention.scope(at(30), None, &Fresh::default()), Scope::All);
        assert_eq!(attention.scope(at(1029), Some(Vec::new()), &Fresh::default()), nothing);
        assert_eq!(attention.scope(at(1030), Some(Vec::new()), &Fresh::default()), Scope::All);
    }
}
