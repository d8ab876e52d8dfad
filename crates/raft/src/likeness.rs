//! When two replicas are in the same state, for tools that explore schedules.

use std::hash::{Hash, Hasher};

use crate::leader::Leader;
use crate::node::{Node, Role};
use crate::progress::Progress;

impl Node {
    /// Feeds what decides how the replica goes on. Left out is what only delays: points in time (not whether one is
    /// set), the source of randomness, and how many writes there were before those that are not durable.
    pub fn hash_state<H: Hasher>(&self, state: &mut H) {
        let Self {
            group: _, me, hard, log, role, leader, commit, released, applied, durable, verified, ..
        } = self;
        (me, hard, log, leader, commit, released, applied, durable, verified).hash(state);
        (self.round, self.owes_answer, self.leader_incarnation, &self.reachable).hash(state);
        (&self.declared_amnesia, self.fault()).hash(state);
        self.hash_writes(state);
        self.timing.hash_state(state);
        match role {
            Role::Follower => 0_u8.hash(state),
            Role::PreCandidate { granted } => (1_u8, granted).hash(state),
            Role::Candidate { granted, self_write, is_transfer, is_alone } => {
                (2_u8, granted, self.behind(*self_write), is_transfer, is_alone).hash(state);
            }
            Role::Leader(leader) => leader.hash_state(state),
        }
    }
}

impl Leader {
    fn hash_state<H: Hasher>(&self, state: &mut H) {
        self.hash_own(state);
        for (peer, progress) in self.members() {
            peer.hash(state);
            progress.hash_state(state);
        }
    }
}

impl Progress {
    fn hash_state<H: Hasher>(&self, state: &mut H) {
        (self.incarnation, self.matched, self.next, self.mode, self.remembers, self.is_amnesiac).hash(state);
        (self.commit_sent, self.round_sent, self.waiting_since.is_some()).hash(state);
        self.hash_window(state);
    }
}
