//! What breaks.

use std::path::Path;
use std::time::Duration;

use linnet_env::{DamageKind, FaultyDisk};
use linnet_raft::Member;

use super::server::STORE;
use super::world::{Server, World};
use super::{ClusterEvent, ClusterMutation};

impl World {
    /// One fault, or the end of some.
    pub(super) fn fault(&mut self) {
        let at = self.random.usize(..self.servers.len());
        let other = self.random.usize(..self.servers.len());
        match self.random.u8(..100) {
            0..12 => self.stop(at, ClusterEvent::PowerLoss),
            12..17 => self.power_off_soon(at),
            17..27 => self.stop(at, ClusterEvent::Kill),
            27..50 => self.restart(at),
            50..58 => self.pause(at),
            58..66 if at != other => self.cut_both(at, other),
            66..70 if at != other => {
                self.count(ClusterEvent::OneWayCut);
                self.note(|| format!("s{other} does not hear s{at}"));
                self.cut.insert((at, other));
            }
            70..84 => {
                self.note(|| "the network heals".to_owned());
                self.cut.clear();
            }
            84..88 => self.slow_disk(at),
            88..91 => self.fail_sync_soon(at),
            91..97 => self.transfer(at, other),
            _ => self.verify_all(),
        }
    }

    fn verify_all(&mut self) {
        for server in &mut self.servers {
            if let Some(life) = &mut server.life {
                life.verify();
            }
        }
    }

    fn stop(&mut self, at: usize, how: ClusterEvent) {
        if self.servers[at].life.take().is_none() {
            return;
        }
        self.count(how);
        self.note(|| format!("s{at} {how:?}"));
        match how {
            ClusterEvent::Kill => self.servers[at].disk.kill(),
            _ => {
                let seed = self.random.u64(..);
                self.servers[at].disk.crash(seed);
            }
        }
        self.servers[at].paused_until = self.now;
    }

    /// The power goes within the next few operations of the disk, perhaps in the middle of a write.
    fn power_off_soon(&mut self, at: usize) {
        if self.servers[at].life.is_some() {
            let operations = self.random.u64(..12);
            self.servers[at].disk.power_off_after(operations);
        }
    }

    fn fail_sync_soon(&mut self, at: usize) {
        if self.servers[at].life.is_some() {
            let successes = self.random.u64(..6);
            self.servers[at].disk.fail_sync_after(successes);
        }
    }

    /// A write or sync of the log failed: what runs on it ends.
    pub(super) fn log_failed(&mut self, at: usize) {
        if self.servers[at].disk.is_off() {
            return self.stop(at, ClusterEvent::PowerLossInWrite);
        }
        self.servers[at].life = None;
        self.count(ClusterEvent::FailedSync);
        self.note(|| format!("s{at} has a failing disk"));
        self.servers[at].disk.kill();
        if !self.is_faulty {
            // It failed while the server did not run to see it.
            self.start(at);
        }
    }

    fn pause(&mut self, at: usize) {
        let time = Duration::from_millis(self.random.u64(50..5000));
        self.count(ClusterEvent::Pause);
        self.note(|| format!("s{at} is paused for {time:?}"));
        self.servers[at].paused_until = self.now + time;
    }

    fn cut_both(&mut self, at: usize, other: usize) {
        self.count(ClusterEvent::Cut);
        self.note(|| format!("s{at} and s{other} are cut"));
        self.cut.insert((at, other));
        self.cut.insert((other, at));
    }

    fn slow_disk(&mut self, at: usize) {
        let is_slow = self.random.bool();
        let micros = if is_slow { self.random.u64(20_000..5_000_000) } else { self.random.u64(100..3000) };
        if is_slow {
            self.count(ClusterEvent::SlowDisk);
        }
        self.servers[at].write_time = Duration::from_micros(micros);
    }

    fn transfer(&mut self, at: usize, other: usize) {
        let (now, to) = (self.now, self.servers[other].peer);
        let done = self.servers[at].life.as_mut().is_some_and(|life| life.transfer(now, to));
        if done {
            self.count(ClusterEvent::Transfer);
        }
    }

    /// Starts a stopped server, perhaps with another or a damaged disk. A majority keeps what it has.
    fn restart(&mut self, at: usize) {
        if self.servers[at].life.is_some() {
            return;
        }
        if self.random.u8(..100) < 40 && self.is_dispensable(at) {
            match self.random.u8(..3) {
                0 => self.wipe(at),
                1 => self.remount(at),
                _ => self.damage(at),
            }
        }
        self.start(at);
    }

    pub(super) fn wipe(&mut self, at: usize) {
        self.count(ClusterEvent::Wipe);
        self.note(|| format!("s{at} is wiped"));
        let disk = FaultyDisk::new(self.random.u64(..));
        let store_id = self.random.u128(..).to_le_bytes();
        let server = &mut self.servers[at];
        let old =
            (std::mem::replace(&mut server.disk, disk), std::mem::replace(&mut server.store_id, store_id));
        server.old.get_or_insert(old);
        if self.mutation != Some(ClusterMutation::WipedRemembers) {
            server.founding = None;
        }
    }

    fn remount(&mut self, at: usize) {
        let Some((disk, store_id)) = self.servers[at].old.take() else { return };
        self.count(ClusterEvent::Remount);
        self.note(|| format!("s{at} gets its old disk back"));
        let server = &mut self.servers[at];
        (server.disk, server.store_id) = (disk, store_id);
        server.founding = None;
    }

    fn damage(&mut self, at: usize) {
        let kind = DamageKind::ALL[self.random.usize(..DamageKind::ALL.len())];
        let seed = self.random.u64(..);
        let disk = &self.servers[at].disk;
        if let Some((path, _)) = disk.damage_at_random(&Path::new(STORE).join("wal"), kind, seed) {
            self.count(ClusterEvent::DamagedLog);
            self.note(|| format!("s{at} {kind:?} in {}", path.display()));
            self.servers[at].founding = None;
            self.servers[at].is_damaged = true;
        }
    }

    /// Without this server a majority that remembers is left, and it runs, so that it can be asked.
    fn is_dispensable(&self, at: usize) -> bool {
        let memberships: Vec<_> = self
            .servers
            .iter()
            .filter_map(|s| s.life.as_ref())
            .map(|life| life.driver.status().membership)
            .filter(|m| !m.members().is_empty())
            .collect();
        let of = |m: &Member| self.servers.iter().position(|s| s.peer == m.peer);
        let remembers = |m: &&Member| of(m).is_some_and(|of| of != at && self.servers[of].remembers(m));
        !memberships.is_empty()
            && memberships
                .iter()
                .all(|members| members.voters().filter(remembers).count() >= members.quorum())
    }

    /// Everything runs and is connected.
    pub(super) fn heal(&mut self) {
        self.cut.clear();
        self.note(|| "everything is healed".to_owned());
        for at in 0..self.servers.len() {
            let server = &mut self.servers[at];
            server.paused_until = self.now;
            server.write_time = Duration::from_micros(500);
            server.disk.power_off_after(u64::MAX);
            server.disk.fail_sync_after(u64::MAX);
            if server.disk.is_off() {
                self.stop(at, ClusterEvent::PowerLoss);
            }
            self.start(at);
        }
    }
}

impl Server {
    /// It runs as the member it is and has forgotten nothing.
    fn remembers(&self, member: &Member) -> bool {
        self.life.as_ref().is_some_and(|life| {
            let node = life.driver.node();
            !node.status().is_amnesiac && node.incarnation() == member.incarnation
        })
    }
}
