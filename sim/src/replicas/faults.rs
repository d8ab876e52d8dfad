//! What breaks.

use std::time::Duration;

use linnet_env::FaultyDisk;

use super::ReplicaEvent;
use super::world::World;

impl World {
    /// One fault, or the end of some.
    pub(super) fn fault(&mut self) {
        let at = self.random.usize(..self.servers.len());
        let other = self.random.usize(..self.servers.len());
        match self.random.u8(..100) {
            0..12 => self.stop(at, ReplicaEvent::PowerLoss),
            12..22 if self.servers[at].life.is_some() => {
                let operations = self.random.u64(..40);
                self.servers[at].disk.power_off_after(operations);
            }
            22..32 => self.stop(at, ReplicaEvent::Kill),
            32..56 => self.restart(at),
            56..64 => {
                let time = Duration::from_millis(self.random.u64(50..4000));
                self.count(ReplicaEvent::Pause);
                self.note(|| format!("s{at} is paused for {time:?}"));
                self.servers[at].paused_until = self.now + time;
            }
            64..74 if at != other => {
                self.count(ReplicaEvent::Cut);
                self.note(|| format!("s{at} and s{other} are cut"));
                self.cut.insert((at, other));
                self.cut.insert((other, at));
            }
            74..90 => {
                self.note(|| "the network heals".to_owned());
                self.cut.clear();
            }
            _ if at != other => {
                let (now, to) = (self.now, self.servers[other].peer);
                if self.servers[at].life.as_mut().is_some_and(|life| life.hand_over(to, now)) {
                    self.count(ReplicaEvent::HandOver);
                }
            }
            _ => {}
        }
    }

    /// A server ends.
    pub(super) fn stop(&mut self, at: usize, how: ReplicaEvent) {
        if self.servers[at].life.take().is_none() {
            return;
        }
        self.count(how);
        self.note(|| format!("s{at} {how:?}"));
        match how {
            ReplicaEvent::Kill => self.servers[at].disk.kill(),
            _ => {
                let seed = self.random.u64(..);
                self.servers[at].disk.crash(seed);
            }
        }
        self.servers[at].paused_until = self.now;
    }

    fn restart(&mut self, at: usize) {
        if self.servers[at].life.is_some() {
            return;
        }
        if self.random.u8(..3) == 0 && self.is_dispensable(at) {
            self.count(ReplicaEvent::Wipe);
            self.note(|| format!("s{at} is wiped"));
            let server = &mut self.servers[at];
            server.disk = FaultyDisk::new(self.random.u64(..));
            server.store_id = self.random.u128(..).to_le_bytes();
            server.founding = None;
        }
        self.start(at);
    }

    /// All others run, remember, and agree on who leads: they are a majority without this one.
    fn is_dispensable(&self, at: usize) -> bool {
        let others = self.servers.iter().enumerate().filter(|(other, _)| *other != at);
        let statuses: Vec<_> = others.map(|(_, s)| s.life.as_ref().and_then(|l| l.group.status())).collect();
        statuses
            .iter()
            .all(|status| status.as_ref().is_some_and(|status| !status.is_amnesiac && status.is_current))
    }

    /// Everything runs and is connected.
    pub(super) fn heal(&mut self) {
        self.cut.clear();
        self.note(|| "everything is healed".to_owned());
        for at in 0..self.servers.len() {
            self.servers[at].paused_until = self.now;
            self.servers[at].disk.power_off_after(u64::MAX);
            if self.servers[at].disk.is_off() {
                self.stop(at, ReplicaEvent::PowerLoss);
            }
            self.start(at);
        }
    }
}
