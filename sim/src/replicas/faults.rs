//! What breaks.

use super::ReplicaEvent;
use super::world::World;
use crate::field::Wish;

impl World {
    /// One fault, or the end of some.
    pub(super) fn fault(&mut self) {
        match self.field.break_something() {
            Wish::Restart(at) => self.restart(at),
            Wish::HandOver(at, to) => {
                let (now, to) = (self.field.now, self.field.machines[to].peer);
                if self.field.life(at).is_some_and(|life| life.hand_over(to, now)) {
                    self.count(ReplicaEvent::HandOver);
                }
            }
            Wish::Own | Wish::Nothing => {}
        }
    }

    fn restart(&mut self, at: usize) {
        if self.field.machines[at].life.is_some() {
            return;
        }
        if self.field.random.u8(..3) == 0 && self.is_dispensable(at) {
            self.field.wipe(at);
        }
        self.start(at);
    }

    /// All others run, remember, and agree on who leads: they are a majority without this one.
    fn is_dispensable(&self, at: usize) -> bool {
        let others = self.field.machines.iter().enumerate().filter(|(other, _)| *other != at);
        let statuses: Vec<_> = others.map(|(_, s)| s.life.as_ref().and_then(|l| l.group.status())).collect();
        statuses
            .iter()
            .all(|status| status.as_ref().is_some_and(|status| !status.is_amnesiac && status.is_current))
    }

    /// Everything runs and is connected.
    pub(super) fn heal(&mut self) {
        self.field.heal();
        (0..self.field.machines.len()).for_each(|at| self.start(at));
    }
}
