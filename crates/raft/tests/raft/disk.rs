//! What a replica wrote, and how much of it would survive.

use std::hash::{Hash, Hasher};

use linnet_ids::{GroupId, LogIndex, PeerId, Term, chain_next, chain_start};
use linnet_raft::{Effect, Entry, HardState, LogPoint, Opening, WriteNo};

/// A log with its hard state: what a crash leaves.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Image {
    pub(crate) hard: Option<HardState>,
    pub(crate) base: LogPoint,
    /// Entries behind the base.
    pub(crate) entries: Vec<Entry>,
    /// State at the base.
    pub(crate) state: u64,
}

impl Image {
    pub(crate) fn new(group: GroupId) -> Self {
        let base = LogPoint { chain: chain_start(group), ..LogPoint::default() };
        Self { hard: None, base, entries: Vec::new(), state: 0 }
    }

    pub(crate) fn last(&self) -> LogPoint {
        self.point(self.base.index + self.entries.len() as u64)
    }

    pub(crate) fn entry(&self, index: LogIndex) -> Option<&Entry> {
        self.entries.get(usize::try_from(index.checked_sub(self.base.index + 1)?).ok()?)
    }

    pub(crate) fn point(&self, index: LogIndex) -> LogPoint {
        let mut at = self.base;
        for entry in self.entries.iter().take(usize::try_from(index - self.base.index).unwrap()) {
            let len = u32::try_from(entry.payload.len()).unwrap();
            let chain = chain_next(at.chain, at.index + 1, entry.term, len, entry.crc);
            at = LogPoint { index: at.index + 1, term: entry.term, chain };
        }
        at
    }

    fn terms(&self) -> Vec<(LogIndex, Term)> {
        let mut terms: Vec<(LogIndex, Term)> = Vec::new();
        for (index, entry) in (self.base.index + 1..).zip(&self.entries) {
            if terms.last().is_none_or(|(_, term)| *term != entry.term) {
                terms.push((index, entry.term));
            }
        }
        terms
    }

    fn carry_out(&mut self, write: &Write) {
        match write {
            Write::Effect(Effect::Append { index, entry, state, .. }) => {
                assert!(
                    *index > self.base.index && *index <= self.last().index + 1,
                    "entry {index} leaves a hole"
                );
                self.entries.truncate(usize::try_from(index - self.base.index - 1).unwrap());
                self.entries.push(entry.clone());
                if let Some(state) = state {
                    self.hard = Some((**state).clone());
                }
            }
            Write::Effect(Effect::HardState { state, .. }) => self.hard = Some(state.clone()),
            Write::Effect(_) => {}
            Write::Install { last, hard, state } => {
                *self =
                    Self { base: *last, entries: Vec::new(), state: *state, hard: Some((**hard).clone()) };
            }
            Write::Checkpoint { to, state } => {
                if to.index > self.base.index {
                    self.entries.drain(
                        ..usize::try_from(to.index - self.base.index).unwrap().min(self.entries.len()),
                    );
                    (self.base, self.state) = (*to, *state);
                }
            }
        }
    }

    pub(crate) fn opening(&self, group: GroupId, me: PeerId, seed: u64) -> Opening {
        let Some(hard) = self.hard.clone() else { return Opening::forgotten(group, me, seed) };
        Opening {
            group,
            me,
            hard,
            base: self.base,
            terms: self.terms(),
            last: self.last(),
            held_bytes_max: if seed.is_multiple_of(3) { 100 } else { linnet_raft::HELD_BYTES_MAX },
            held: if seed.is_multiple_of(2) { self.entries.clone() } else { Vec::new() },
            may_have_forgotten: false,
            seed,
        }
    }
}

/// Something on its way to the disk.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Effect(Effect),
    Install { last: LogPoint, hard: Box<HardState>, state: u64 },
    Checkpoint { to: LogPoint, state: u64 },
}

/// A disk: what is durable, and what waits.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) durable: Image,
    /// What a reader of the running process sees.
    pub(crate) visible: Image,
    waiting: Vec<(Option<WriteNo>, Write)>,
}

impl Disk {
    pub(crate) fn new(group: GroupId) -> Self {
        Self { durable: Image::new(group), visible: Image::new(group), waiting: Vec::new() }
    }

    pub(crate) fn write(&mut self, no: Option<WriteNo>, write: Write) {
        self.visible.carry_out(&write);
        self.waiting.push((no, write));
    }

    pub(crate) fn waits(&self) -> usize {
        self.waiting.len()
    }

    /// Makes the oldest `count` writes durable. The last number among them.
    pub(crate) fn sync(&mut self, count: usize) -> Option<WriteNo> {
        let mut last = None;
        for (no, write) in self.waiting.drain(..count) {
            self.durable.carry_out(&write);
            last = no.or(last);
        }
        last
    }

    /// What is behind an index is lost.
    pub(crate) fn cut_behind(&mut self, index: LogIndex) {
        for image in [&mut self.durable, &mut self.visible] {
            if let Some(keep) = index.checked_sub(image.base.index) {
                image.entries.truncate(usize::try_from(keep).unwrap());
            }
        }
        self.waiting.clear();
    }

    /// Feeds what waits, without its numbers.
    pub(crate) fn hash_waiting<H: Hasher>(&self, state: &mut H) {
        for (_, write) in &self.waiting {
            match write {
                Write::Effect(Effect::Append { index, entry, state: hard, .. }) => {
                    (0_u8, index, entry, hard).hash(state);
                }
                Write::Effect(Effect::HardState { state: hard, .. }) => (1_u8, hard).hash(state),
                Write::Effect(_) => {}
                Write::Install { last, hard, state: contents } => {
                    (2_u8, last, hard, contents).hash(state);
                }
                Write::Checkpoint { to, state: contents } => {
                    (3_u8, to, contents).hash(state);
                }
            }
        }
    }

    /// Number of the newest write.
    pub(crate) fn newest(&self) -> Option<WriteNo> {
        self.waiting.iter().rev().find_map(|(no, _)| *no)
    }

    /// The process dies: of what waits, a part from its beginning may be there all the same.
    pub(crate) fn crash(&mut self, survivors: usize) {
        self.sync(survivors.min(self.waiting.len()));
        self.waiting.clear();
        self.visible = self.durable.clone();
    }
}
