//! What breaks, beside what breaks in every simulator of several servers.

use std::time::Duration;

use linnet_env::DamageKind;
use linnet_ids::{GroupId, PeerId};

use super::FleetEvent;
use super::api::Api;
use super::opening::peer;
use super::server::Life;
use super::world::World;
use crate::field::{Fault, Machine, STORE, Wish};

/// A server that was silent for so long is known to be.
const SILENT_FOR: Duration = Duration::from_secs(2);
/// Most servers that there ever are.
const SERVERS_MAX: usize = 6;

impl World {
    /// One fault, or the end of some.
    pub(super) fn fault(&mut self) {
        match self.field.break_something() {
            Wish::Restart(at) => self.restart(at),
            Wish::HandOver(at, to) => self.hand_over(at, to),
            Wish::Own => self.something_of_its_own(),
            Wish::Nothing => {}
        }
    }

    fn something_of_its_own(&mut self) {
        let at = self.field.random.usize(..self.field.machines.len());
        match self.field.random.u8(..15) {
            0..5 => self.add_server(),
            5..8 => (0..self.field.machines.len()).for_each(|at| self.retire(at)),
            8..12 => self.swap_disk(),
            _ => self.fill_disk(at),
        }
    }

    /// Somebody puts an old disk back into a server that nobody needs.
    fn swap_disk(&mut self) {
        let with_old: Vec<usize> = self.old_disks.keys().copied().collect();
        let at = with_old.into_iter().find(|at| !self.gone.contains(at) && self.is_dispensable(*at));
        if let Some(at) = at {
            self.field.stop(at, Fault::PowerLoss);
            self.lose_what_is_only_there(at);
            self.bring_back_old_disk(at);
            self.start(at);
        }
    }

    /// A disk has hardly any space left, or has space again.
    fn fill_disk(&mut self, at: usize) {
        if self.full.remove(&at) {
            return self.field.machines[at].disk.set_capacity(None);
        }
        let free = self.field.random.u64(..40_000);
        let disk = &self.field.machines[at].disk;
        disk.set_capacity(Some(disk.used() + free));
        self.full.insert(at);
        self.note(|| format!("s{at} has a full disk"));
        self.count(FleetEvent::DiskFull);
    }

    /// A server that does not run loses a store that nobody needs.
    fn lose_store(&mut self, at: usize) {
        self.lose_what_is_only_there(at);
        match self.field.random.u8(..6) {
            0..4 if self.old_disks.contains_key(&at) => self.bring_back_old_disk(at),
            4 => self.damage_log(at),
            _ => self.wipe(at),
        }
    }

    fn wipe(&mut self, at: usize) {
        let Machine { disk, store_id, founding, .. } = &self.field.machines[at];
        self.old_disks.insert(at, (disk.clone(), *store_id, founding.clone()));
        self.field.wipe(at);
    }

    /// The disk that a server had before it was wiped is there again.
    fn bring_back_old_disk(&mut self, at: usize) {
        let Some(old) = self.old_disks.remove(&at) else { return };
        self.note(|| format!("s{at} has its old disk again"));
        self.count(FleetEvent::OldDisk);
        self.marred.insert(at);
        let machine = &mut self.field.machines[at];
        (machine.disk, machine.store_id, machine.founding) = old;
        machine.disk.crash(self.seed);
    }

    /// Something in a log is rotten.
    fn damage_log(&mut self, at: usize) {
        let kinds = DamageKind::ALL;
        let kind = kinds[self.field.random.usize(..kinds.len())];
        let seed = self.field.random.u64(..);
        let wal = std::path::Path::new(STORE).join("wal");
        if let Some((path, sector)) = self.field.machines[at].disk.damage_at_random(&wal, kind, seed) {
            self.note(|| format!("s{at}: {kind:?} in sector {sector} of {}", path.display()));
            self.count(FleetEvent::LogDamaged);
            self.marred.insert(at);
        }
    }

    fn restart(&mut self, at: usize) {
        if self.field.machines[at].life.is_some() || self.gone.contains(&at) {
            return;
        }
        if self.field.random.u8(..3) > 0 && self.is_dispensable(at) {
            self.lose_store(at);
        }
        if self.field.random.u8(..8) == 0 {
            let successes = self.field.random.u64(..3);
            self.field.machines[at].disk.fail_sync_after(successes);
        }
        self.start(at);
    }

    fn hand_over(&mut self, at: usize, to: usize) {
        let (now, to) = (self.field.now, self.field.machines[to].peer);
        let pick = self.field.random.usize(..4);
        let Some(life) = self.field.life(at) else { return };
        let Life { slots, queue, .. } = life;
        let mut led = slots.values_mut().filter(|slot| slot.group.stream().is_leading());
        if let Some(slot) = led.nth(pick)
            && slot.group.transfer(now, to, Duration::from_secs(1), queue).is_ok()
        {
            slot.is_awake = true;
            self.count(FleetEvent::HandOver);
        }
    }

    fn add_server(&mut self) {
        let number = self.field.machines.len();
        if number < SERVERS_MAX && self.events.get(&FleetEvent::ServerAdded).is_none_or(|n| *n < 2) {
            let machine = Machine::new(peer(number), None, &mut self.field.random);
            self.field.machines.push(machine);
            self.count(FleetEvent::ServerAdded);
            self.start(number);
        }
    }

    /// A server that has been silent for so long that everybody has noticed goes for good, if nobody needs it.
    fn retire(&mut self, at: usize) {
        let machine = &self.field.machines[at];
        let is_silent = machine.life.is_none() && self.field.now.since(machine.paused_until) >= SILENT_FOR;
        if is_silent && self.gone.is_empty() && self.staying().len() > 3 && self.is_dispensable(at) {
            self.note(|| format!("s{at} is gone for good"));
            self.lose_what_is_only_there(at);
            self.gone.insert(at);
            self.count(FleetEvent::ServerRemoved);
            self.remove_the_gone();
        }
    }

    /// An operator takes servers out that are gone.
    pub(super) fn remove_the_gone(&mut self) {
        for gone in self.gone.clone() {
            let peer = self.field.machines[gone].peer;
            for at in self.staying() {
                self.with(at, |life| life.api(Api::RemoveServer(peer)));
            }
        }
    }

    /// Every group that this server ever took part in has a leader elsewhere that is certain of its members, and a majority
    /// of those without this one runs and remembers.
    fn is_dispensable(&self, at: usize) -> bool {
        let had =
            self.facts.streams.iter().filter(|(group, f)| f.servers.contains(&at) && self.is_there(**group));
        let groups: Vec<GroupId> = had.map(|(group, _)| *group).chain([GroupId::META]).collect();
        groups.into_iter().all(|group| self.can_do_without(at, group))
    }

    /// A group that somebody has, or that the catalogue may still have.
    fn is_there(&self, group: GroupId) -> bool {
        let mut lives = self.field.machines.iter().filter_map(|machine| machine.life.as_ref());
        lives.any(|life| {
            let is_listed = life.known.of_group(group).is_some_and(|assignment| !assignment.ended);
            is_listed || life.slots.values().any(|slot| slot.group.group() == group)
        })
    }

    /// The only replica of this group is there, and nobody has asked for others.
    fn is_only_there(&self, at: usize, group: GroupId) -> bool {
        let lives = self.field.machines.iter().filter_map(|machine| machine.life.as_ref());
        let newest = lives.max_by_key(|life| life.known.last_seq());
        let peer = self.field.machines[at].peer;
        let is_quiet = newest.is_some_and(|life| life.clerk.flow.is_none());
        let assignment = newest.and_then(|life| life.known.of_group(group));
        assignment.is_some_and(|a| is_quiet && a.live && a.is_alone() && a.replica(peer).is_some())
    }

    fn lose_what_is_only_there(&mut self, at: usize) {
        let groups: Vec<GroupId> = self.facts.streams.keys().copied().collect();
        for group in groups {
            if self.is_only_there(at, group)
                && let Some(facts) = self.facts.streams.get_mut(&group)
            {
                facts.is_lost = true;
                self.count(FleetEvent::AloneLost);
            }
        }
    }

    fn can_do_without(&self, at: usize, group: GroupId) -> bool {
        if group != GroupId::META && self.is_only_there(at, group) {
            return true;
        }
        let status = |of: usize| {
            let life = self.field.machines[of].life.as_ref()?;
            life.slots.values().find(|slot| slot.group.group() == group)?.group.status()
        };
        let others = || (0..self.field.machines.len()).filter(|of| *of != at);
        let leader = others().filter_map(status).filter(|s| s.is_leader).max_by_key(|s| s.term);
        let Some(leader) = leader.filter(|s| s.is_membership_committed && s.commit > 0) else { return false };
        // No step is about to be taken that leaves fewer.
        let lives = self.field.machines.iter().filter_map(|machine| machine.life.as_ref());
        let assigned =
            lives.max_by_key(|life| life.known.last_seq()).and_then(|life| life.known.of_group(group));
        let peers = |a: std::sync::Arc<linnet_replication::Assignment>| a.holding_peers().len();
        if assigned.is_some_and(|a| peers(a) != leader.membership.members().len()) {
            return false;
        }
        let remembers = |peer: PeerId| {
            let of = self.server(peer).filter(|of| *of != at);
            of.and_then(status).is_some_and(|s| !s.is_amnesiac && s.term == leader.term && s.is_current)
        };
        let voters = leader.membership.voters();
        voters.filter(|voter| remembers(voter.peer)).count() >= leader.membership.quorum()
    }

    /// Everything runs and is connected.
    pub(super) fn heal(&mut self) {
        self.field.heal();
        self.field.machines.iter().for_each(|machine| machine.disk.set_capacity(None));
        self.staying().into_iter().for_each(|at| self.start(at));
        self.remove_the_gone();
    }
}
