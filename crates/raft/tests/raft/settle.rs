//! How a group comes to rest, and what is so then.

use std::time::Duration;

use linnet_raft::Member;

use crate::world::{World, peer};

impl World {
    /// Without faults, lets the group come to rest.
    pub(crate) fn settle(&mut self, within: Duration) {
        self.heal_network();
        for at in 0..self.servers.len() {
            if self.servers[at].disk.durable.hard.is_some() || self.membership().get(peer(at)).is_some() {
                self.start(at);
            }
        }
        let until = self.now + within;
        let mut turns = 0;
        while self.now < until || self.has_mail() {
            turns += 1;
            if turns > 100_000 {
                self.fail("the group does not come to rest");
            }
            for at in 0..self.servers.len() {
                self.sync(at, usize::MAX);
            }
            if self.has_mail() {
                self.deliver_one(false);
            } else {
                self.pass_time(Duration::from_millis(500));
                // Servers compare what they think of their groups.
                for at in 0..self.servers.len() {
                    self.with(at, |node, _, out| node.verify(out));
                }
            }
        }
    }

    /// One of three voters is being removed, the step reached only the one that it removes, and one of the two that
    /// would be left has forgotten what it knew: two voters bear no loss, whoever counts them.
    fn is_dead_end(&self) -> bool {
        let newest = self.membership();
        let has_forgotten = |m: &Member| self.servers.iter().all(|s| s.peer != m.peer || !s.remembers(*m));
        newest.voter_count() == 2
            && newest.voters().any(has_forgotten)
            && self.memberships().iter().any(|other| other.voter_count() == 3)
    }

    /// After [`World::settle`]: one leader, and all members have what was acknowledged.
    pub(crate) fn check_settled(&self) {
        let Some(leader) = self.leader() else {
            if self.is_dead_end() {
                return;
            }
            self.fail("no leader after everything was healed")
        };
        let members = self.servers[leader].node.as_ref().map(|n| n.status().membership).unwrap_or_default();
        let applied = self.servers[leader].applied;
        for (at, server) in self.servers.iter().enumerate() {
            let Some(node) = &server.node else { continue };
            let Some(member) = members.get(server.peer) else { continue };
            let status = node.status();
            if status.is_amnesiac || member.incarnation != node.incarnation() {
                self.fail(&format!("n{at} was not re-admitted: {status:?}"));
            }
            if server.applied != applied || server.state != self.servers[leader].state {
                self.fail(&format!("n{at} has applied {} and the leader {applied}", server.applied));
            }
        }
        if let Some((newest, _)) = self.ghost.acknowledged.last_key_value()
            && applied < *newest
        {
            self.fail(&format!("{newest} was acknowledged, {applied} is what is left"));
        }
        for (index, payload) in &self.ghost.acknowledged {
            if self.ghost.committed.get(index).map(|e| &e.payload) != Some(payload) {
                self.fail(&format!("{index} was acknowledged and is something else"));
            }
        }
    }
}
