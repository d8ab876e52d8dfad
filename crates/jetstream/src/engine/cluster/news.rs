//! What pumps tell of replicas, for the task that acts on it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use linnet_ids::{GroupId, PeerId};
use linnet_raft::Snapshot;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::pump::ReplicaObserver;

/// The newest of each kind: a group adds one entry, however often something happens.
#[derive(Default)]
pub(crate) struct News {
    state: Mutex<Fresh>,
    arrived: Notify,
    /// Groups that this server leads, and since when.
    leading: RwLock<HashMap<GroupId, Instant>>,
}

/// What happened since it was taken last.
#[derive(Default)]
pub(crate) struct Fresh {
    /// Groups that lead or follow differently, or have other members, and whether this replica leads.
    pub(crate) changed: BTreeMap<GroupId, bool>,
    /// Groups that this server led and leads no more.
    pub(crate) resigned: BTreeSet<GroupId>,
    /// Members that need a state.
    pub(crate) wanted: BTreeMap<(GroupId, PeerId), ()>,
    /// Groups whose replica here met damage.
    pub(crate) damaged: BTreeSet<GroupId>,
    /// States that leaders offer.
    pub(crate) offered: HashMap<GroupId, Snapshot>,
}

impl News {
    fn with(&self, add: impl FnOnce(&mut Fresh)) {
        add(&mut self.state.lock());
        self.arrived.notify_one();
    }

    /// What happened; nothing if nothing did.
    pub(crate) fn take(&self) -> Fresh {
        std::mem::take(&mut *self.state.lock())
    }

    /// True if this server leads the group.
    pub(crate) fn leads(&self, group: GroupId) -> bool {
        self.leading.read().contains_key(&group)
    }

    /// How long this server has led the group; `None` if it does not.
    pub(crate) fn led_for(&self, group: GroupId) -> Option<Duration> {
        self.leading.read().get(&group).map(Instant::elapsed)
    }

    /// The groups that this server leads.
    pub(crate) fn leading(&self) -> Vec<GroupId> {
        self.leading.read().keys().copied().collect()
    }

    /// The group is not here any more.
    pub(crate) fn forget(&self, group: GroupId) {
        self.leading.write().remove(&group);
    }

    /// Nothing is led any more: the log takes nothing.
    pub(crate) fn leads_nothing(&self) {
        self.leading.write().clear();
    }

    /// Returns once something happened.
    pub(crate) async fn wait(&self) {
        self.arrived.notified().await;
    }

    /// Has whoever waits look around.
    pub(crate) fn nudge(&self) {
        self.arrived.notify_one();
    }
}

impl ReplicaObserver for News {
    fn changed(&self, group: GroupId, leads: bool) {
        let has_resigned = if leads {
            self.leading.write().entry(group).or_insert_with(Instant::now);
            false
        } else {
            self.leading.write().remove(&group).is_some()
        };
        self.with(|fresh| {
            fresh.changed.insert(group, leads);
            if has_resigned {
                fresh.resigned.insert(group);
            } else if leads {
                fresh.resigned.remove(&group);
            }
        });
    }

    fn state_wanted(&self, group: GroupId, peer: PeerId) {
        self.with(|fresh| {
            fresh.wanted.insert((group, peer), ());
        });
    }

    fn damaged(&self, group: GroupId) {
        self.with(|fresh| {
            fresh.damaged.insert(group);
        });
    }

    fn state_offered(&self, group: GroupId, snapshot: Snapshot) {
        self.with(|fresh| {
            fresh.offered.insert(group, snapshot);
        });
    }
}
