//! A cluster that is healed comes to rest: all members are there and have everything, every stream has its replicas.

use std::collections::BTreeSet;

use linnet_ids::{GroupId, PeerId};
use linnet_raft::{Role, Status};

use crate::fleet::FleetEvent;
use crate::fleet::world::World;

impl World {
    pub(super) fn check_convergence(&mut self) {
        let Some(leader) = self.meta_leader() else {
            return self.fail("nobody leads the catalogue's group".to_owned());
        };
        let staying: BTreeSet<PeerId> =
            self.staying().iter().map(|at| self.field.machines[*at].peer).collect();
        self.check_members(leader, GroupId::META, &staying);
        let Some(life) = self.field.machines[leader].life.as_ref() else { return };
        let assignments = life.known.all();
        for assignment in assignments.into_iter().filter(|a| !a.ended) {
            let Some(group) = assignment.group_id() else { continue };
            // Its only disk is gone: what stands in for it says so, or nobody can lead it any more.
            if self.facts.streams.get(&group).is_some_and(|facts| facts.is_lost) {
                continue;
            }
            let name = &assignment.config.name;
            if !assignment.live {
                return self.fail(format!("{name} ({group}) never lived"));
            }
            let wanted: BTreeSet<PeerId> = assignment.replicas().into_iter().map(|r| r.peer).collect();
            let count = usize::try_from(assignment.config.num_replicas).unwrap_or(0).min(staying.len());
            if assignment.reshaping.is_some() {
                return self.fail(format!("{name} ({group}) still changes: {:?}", assignment.reshaping));
            }
            if wanted.len() != count {
                return self.fail(format!("{name} ({group}) has {} replicas of {count}", wanted.len()));
            }
            let leads =
                |at: &usize| self.field.machines[*at].life.as_ref().is_some_and(|life| life.leads(group));
            let Some(leader) = self.staying().into_iter().find(leads) else {
                let found = self.staying().into_iter().map(|at| (at, self.status(at, group)));
                let found: Vec<_> = found.filter_map(|(at, status)| Some((at, status?))).collect();
                return self.fail(format!("nobody leads {name} ({group}): {found:?}"));
            };
            self.check_members(leader, group, &wanted);
            self.check_config(group, &assignment.config);
            self.count(FleetEvent::Settled);
        }
    }

    fn status(&self, at: usize, group: GroupId) -> Option<Status> {
        let life = self.field.machines[at].life.as_ref()?;
        life.slots.values().find(|slot| slot.group.group() == group)?.group.status()
    }

    /// The members are those, all vote, and all have what the leader has.
    fn check_members(&mut self, leader: usize, group: GroupId, wanted: &BTreeSet<PeerId>) {
        let Some(led) = self.status(leader, group) else {
            if *wanted != BTreeSet::from([self.field.machines[leader].peer]) {
                self.fail(format!("s{leader} has {group} alone, wanted are {wanted:?}"));
            }
            return self.count(FleetEvent::Alone);
        };
        let members: BTreeSet<PeerId> = led.membership.members().iter().map(|m| m.peer).collect();
        if members != *wanted || led.membership.members().iter().any(|m| m.role == Role::Learner) {
            let slots = self.field.machines[leader].life.as_ref().map(|life| life.slots.values());
            let slot = slots.into_iter().flatten().find(|slot| slot.group.group() == group);
            let progress = led.membership.members().iter();
            let progress: Vec<_> =
                progress.filter_map(|m| slot.and_then(|slot| slot.group.progress(m.peer))).collect();
            let text = format!(
                "{group} has other members than {wanted:?}: {led:?}; their progress: {progress:?}; {:?}",
                slot.map(|slot| (slot.group.stream().is_leading(), slot.group.stream().is_deleted()))
            );
            return self.fail(text);
        }
        for peer in wanted {
            let found = self.server(*peer).and_then(|at| self.status(at, group));
            let found = found.map(|s| (s.applied, s.is_amnesiac, s.is_current));
            if found != Some((led.applied, false, true)) {
                let at = self.server(*peer);
                return self
                    .fail(format!("s{at:?} has {found:?} of {group} at rest, its leader {}", led.applied));
            }
        }
    }

    fn check_config(&mut self, group: GroupId, config: &linnet_jsapi::StreamConfig) {
        for at in self.staying() {
            let Some(slot) = self.field.life(at).and_then(|life| life.slot_of(group)) else { continue };
            if slot.group.stream().config() != config {
                self.fail(format!("s{at} has another configuration of {group} than the catalogue"));
            }
        }
    }
}
