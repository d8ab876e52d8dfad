//! What the simulators of several servers have in common: machines with disks, the network between them, and what breaks.

mod events;
mod faults;
mod held;
mod machine;
mod queue;
mod sent;
mod transfers;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use linnet_ids::{Mono, PeerId, fold};

pub use events::Fault;
pub(crate) use events::{Counts, count_all};
pub(crate) use faults::Wish;
pub(crate) use held::Held;
pub(crate) use machine::{Life, Machine, STORE};
pub(crate) use queue::{Spoil, WalQueue};
pub(crate) use sent::{Sent, ToClient};
pub(crate) use transfers::{Parcel, Spoiled, Transfers};

/// Something that will happen.
enum Due<L: Life> {
    Letter { from: usize, to: usize, letter: L::Letter },
    Client,
    Fault,
}

/// What happens next.
pub(crate) enum Happening {
    /// A server's loop does a pass.
    Pass(usize),
    /// A client does something.
    Client,
    /// Something breaks.
    Fault,
    /// It concerned the network only.
    Nothing,
}

/// Machines, and the network between them.
pub(crate) struct Field<L: Life> {
    pub(crate) random: fastrand::Rng,
    pub(crate) now: Mono,
    pub(crate) machines: Vec<Machine<L>>,
    heap: BinaryHeap<Reverse<(Mono, u64)>>,
    due: BTreeMap<u64, Due<L>>,
    next_due: u64,
    /// Letters from the first to the second are lost.
    pub(crate) cut: BTreeSet<(usize, usize)>,
    /// Things break.
    pub(crate) is_faulty: bool,
    pub(crate) faults: Counts<Fault>,
    pub(crate) trace: Option<Vec<String>>,
    pub(crate) failure: Option<String>,
    /// Of everything that was sent.
    pub(crate) hash: u64,
    pub(crate) steps: u64,
}

impl<L: Life> Field<L> {
    pub(crate) fn new(seed: u64, traced: bool) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            now: Mono(1_000_000),
            machines: Vec::new(),
            heap: BinaryHeap::new(),
            due: BTreeMap::new(),
            next_due: 0,
            cut: BTreeSet::new(),
            is_faulty: true,
            faults: BTreeMap::new(),
            trace: traced.then(Vec::new),
            failure: None,
            hash: seed,
            steps: 0,
        }
    }

    pub(crate) fn count(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    pub(crate) fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>10} {}", self.now.0 / 1000, text()));
        }
    }

    pub(crate) fn fail(&mut self, text: String) {
        self.note(|| format!("FAILED {text}"));
        self.failure.get_or_insert(text);
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    pub(crate) fn life(&mut self, at: usize) -> Option<&mut L> {
        self.machines.get_mut(at)?.life.as_mut()
    }

    pub(crate) fn position(&self, peer: PeerId) -> Option<usize> {
        self.machines.iter().position(|machine| machine.peer == peer)
    }

    pub(crate) fn others(&self, at: usize) -> Vec<PeerId> {
        let others = self.machines.iter().enumerate().filter(|(other, _)| *other != at);
        others.map(|(_, machine)| machine.peer).collect()
    }

    fn plan(&mut self, after: Duration, due: Due<L>) {
        self.next_due += 1;
        self.heap.push(Reverse((self.now + after, self.next_due)));
        self.due.insert(self.next_due, due);
    }

    /// A client does something after this time.
    pub(crate) fn plan_client(&mut self, after: Duration) {
        self.plan(after, Due::Client);
    }

    /// Something breaks after this time.
    pub(crate) fn plan_fault(&mut self, after: Duration) {
        self.plan(after, Due::Fault);
    }

    /// What happens next; `None` if that would be later than `until`.
    pub(crate) fn next(&mut self, until: Mono) -> Option<Happening> {
        let planned = self.heap.peek().map(|Reverse((at, _))| *at);
        let pass = self.next_pass();
        let next = [planned, pass.map(|(at, _)| at)].into_iter().flatten().min();
        let next = next.filter(|at| *at <= until)?;
        self.now = self.now.max(next);
        match pass {
            Some((at, machine)) if planned.is_none_or(|planned| at <= planned) => {
                self.steps += 1;
                Some(Happening::Pass(machine))
            }
            _ => Some(self.happen()),
        }
    }

    fn next_pass(&self) -> Option<(Mono, usize)> {
        let wants = |(at, machine): (usize, &Machine<L>)| {
            let life = machine.life.as_ref()?;
            Some((life.next_due(self.now).max(machine.paused_until).max(self.now), at))
        };
        self.machines.iter().enumerate().filter_map(wants).min()
    }

    fn happen(&mut self) -> Happening {
        let Some(Reverse((_, id))) = self.heap.pop() else { return Happening::Nothing };
        match self.due.remove(&id) {
            Some(Due::Letter { from, to, letter }) if !self.cut.contains(&(from, to)) => {
                let peer = self.machines[from].peer;
                if let Some(life) = self.life(to) {
                    life.receive(peer, letter);
                }
                Happening::Nothing
            }
            Some(Due::Client) => Happening::Client,
            Some(Due::Fault) if self.is_faulty => Happening::Fault,
            _ => Happening::Nothing,
        }
    }

    /// Sends a letter, which takes `extra` time and may be lost, late or doubled.
    pub(crate) fn transmit(&mut self, from: usize, to: PeerId, letter: L::Letter, extra: Duration) {
        let Some(to) = self.position(to) else { return };
        self.hash = fold(self.hash, L::digest(&letter));
        if self.cut.contains(&(from, to)) {
            return;
        }
        let mut delay = Duration::from_micros(self.random.u64(20..400)) + extra;
        if self.is_faulty {
            match self.random.u16(..1000) {
                0..5 => return self.lose(from, to),
                5..10 => {
                    self.count(Fault::Late);
                    delay = Duration::from_millis(self.random.u64(1..4000));
                }
                10..15 => {
                    self.count(Fault::Twice);
                    let again = Duration::from_millis(self.random.u64(0..500));
                    self.plan(again, Due::Letter { from, to, letter: letter.clone() });
                }
                _ => {}
            }
        }
        self.plan(delay, Due::Letter { from, to, letter });
    }

    /// A letter is lost, and with it the connection.
    fn lose(&mut self, from: usize, to: usize) {
        self.count(Fault::Lost);
        let now = self.now;
        for (at, other) in [(from, to), (to, from)] {
            let peer = self.machines[other].peer;
            if let Some(life) = self.life(at) {
                life.on_disconnected(now, peer);
            }
        }
    }
}
