use std::path::PathBuf;
use std::sync::Arc;

use linnet_env::{Disk, FaultyDisk, Rng, SeededRng};
use linnet_store::{
    CheckpointBody, CheckpointJob, CheckpointTaken, Kind, Layout, StreamStore, WriteDone, WriteJob,
};

use crate::model::{Entry, Model, Outcome, SUBJECTS, apply, same};
use crate::sealed::shared;
use crate::support::{dir, file_kind, new_disk, record, seed};

/// One thing that happens to a store.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Append {
        subject: usize,
        headers: bool,
        len: usize,
        jump: u64,
        pause: i64,
    },
    Remove {
        pick: u64,
        erase: bool,
    },
    RemoveFirst {
        count: usize,
    },
    Skip {
        by: u64,
    },
    Clear,
    MaxPerSubject(i64),
    Compression(bool),
    TakeWrites {
        all: bool,
    },
    RunWrite(usize),
    GiveWrite(usize),
    BeginCheckpoint,
    RunCheckpoint,
    GiveCheckpoint,
    /// The log has recorded the checkpoint; obsolete files go.
    Record {
        delete: bool,
    },
    /// Everything there is, handed out, written and given back.
    WriteEverything,
    /// What is left of a checkpoint, from beginning to end.
    Checkpoint,
    Reopen {
        delete_strays: bool,
    },
    Check,
}

impl Step {
    pub(crate) fn random(rng: &SeededRng) -> Self {
        let below = |n: u64| rng.below(n);
        let small = |n: u64| usize::try_from(rng.below(n)).unwrap();
        match below(100) {
            0..38 => Self::Append {
                subject: small(SUBJECTS.len() as u64),
                headers: below(3) == 0,
                len: small(if below(8) == 0 { 900 } else { 60 }),
                jump: match below(12) {
                    0 => 1,
                    1 => 1 + below(5),
                    2 => below(100_000),
                    _ => 0,
                },
                pause: i64::try_from(below(3)).unwrap(),
            },
            38 => Self::WriteEverything,
            39 => Self::Checkpoint,
            40..56 => Self::Remove { pick: rng.next_u64(), erase: below(4) == 0 },
            56..62 => Self::RemoveFirst { count: small(20) },
            62 => Self::Skip { by: below(9) },
            63 => match below(3) {
                0 => Self::Clear,
                1 => Self::Compression(below(3) > 0),
                _ => Self::Check,
            },
            64 => Self::MaxPerSubject([-1, 1, 3, 100][small(4)]),
            65..72 => Self::TakeWrites { all: below(3) == 0 },
            72..80 => Self::RunWrite(small(8)),
            80..87 => Self::GiveWrite(small(8)),
            87..90 => Self::BeginCheckpoint,
            90..93 => Self::RunCheckpoint,
            93..96 => Self::GiveCheckpoint,
            96..98 => Self::Record { delete: below(4) > 0 },
            98 => Self::Reopen { delete_strays: below(2) == 0 },
            _ => Self::Check,
        }
    }
}

/// A checkpoint that the store has finished and the log has not recorded yet.
struct Finished {
    entries: usize,
    body: CheckpointBody,
    removable: Vec<PathBuf>,
}

/// A store with everything around it: the log, the disk, jobs under way, and the model.
pub(crate) struct World {
    pub(crate) disk: Option<FaultyDisk>,
    layout: Layout,
    pub(crate) store: StreamStore,
    pub(crate) model: Model,
    log: Vec<Entry>,
    max: i64,
    compress: bool,
    writes: Vec<WriteJob>,
    written: Vec<WriteDone>,
    job: Option<(usize, CheckpointJob)>,
    taken: Option<(usize, CheckpointTaken)>,
    finished: Option<Finished>,
    /// The last recorded checkpoint and how many entries it covers.
    recorded: Option<(usize, CheckpointBody)>,
}

impl World {
    pub(crate) fn new(kind: Kind, disk: Option<FaultyDisk>, layout: Layout) -> Self {
        Self {
            disk,
            layout,
            store: StreamStore::new(kind, seed(), 0, -1).with_layout(layout),
            model: Model::default(),
            log: Vec::new(),
            max: -1,
            compress: false,
            writes: Vec::new(),
            written: Vec::new(),
            job: None,
            taken: None,
            finished: None,
            recorded: None,
        }
    }

    pub(crate) fn in_memory(layout: Layout) -> Self {
        Self::new(Kind::Memory, None, layout)
    }

    pub(crate) fn on_disk(number: u64, layout: Layout) -> Self {
        let disk = new_disk(number);
        Self::new(file_kind(&disk), Some(disk), layout)
    }

    fn enter(&mut self, entry: Entry) {
        apply(&mut self.store, &entry);
        self.model.apply(&entry);
        self.log.push(entry);
    }

    pub(crate) fn step(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Append { subject, headers, len, jump, pause } => {
                let headers: &[u8] = if *headers { b"NATS/1.0\r\nA: b\r\n\r\n" } else { b"" };
                let payload = vec![u8::try_from(self.model.last % 251).unwrap(); *len];
                let (seq, time) = (self.model.last + 1 + jump, self.model.last_time + pause);
                self.enter(Entry::Append(record(seq, time, SUBJECTS[*subject], headers, &payload)));
            }
            Step::Remove { pick, erase } => {
                if let Some(seq) = self.model.pick(*pick) {
                    self.enter(Entry::Remove(seq, *erase));
                }
                self.enter(Entry::Remove(pick % 50, false));
            }
            Step::RemoveFirst { count } => {
                for _ in 0..*count {
                    let Some(seq) = self.model.pick(0) else { break };
                    self.enter(Entry::Remove(seq, false));
                }
            }
            Step::Skip { by } => self.enter(Entry::Skip(self.model.last + by)),
            Step::Clear => self.enter(Entry::Clear),
            Step::MaxPerSubject(max) => {
                self.max = *max;
                self.enter(Entry::MaxPerSubject(*max));
            }
            Step::Compression(on) => {
                self.compress = *on;
                self.store.set_compression(*on);
            }
            Step::TakeWrites { all } => self.writes.extend(self.store.take_writes(*all)),
            Step::RunWrite(pick) => {
                if !self.writes.is_empty() {
                    let job = self.writes.swap_remove(pick % self.writes.len());
                    self.written.push(job.run());
                }
            }
            Step::GiveWrite(pick) => {
                if !self.written.is_empty() {
                    let done = self.written.swap_remove(pick % self.written.len());
                    self.store.written(done);
                }
            }
            Step::BeginCheckpoint => {
                if let Some(job) = self.store.begin_checkpoint(&self.max.to_le_bytes()) {
                    self.job = Some((self.log.len(), job));
                }
            }
            Step::RunCheckpoint => {
                if let Some((entries, job)) = self.job.take() {
                    self.taken = Some((entries, job.run()));
                }
            }
            Step::GiveCheckpoint => self.give_checkpoint(),
            Step::Record { delete } => self.record(*delete),
            Step::WriteEverything => {
                self.writes.extend(self.store.take_writes(true));
                for job in self.writes.drain(..) {
                    self.written.push(job.run());
                }
                for done in self.written.drain(..) {
                    self.store.written(done);
                }
            }
            Step::Checkpoint => {
                let rest = [Step::BeginCheckpoint, Step::RunCheckpoint, Step::GiveCheckpoint];
                rest.iter().try_for_each(|step| self.step(step))?;
                self.record(true);
            }
            Step::Reopen { delete_strays } => {
                if let Some(disk) = &self.disk {
                    disk.kill();
                    self.reopen(*delete_strays)?;
                }
            }
            Step::Check => self.model.check(&mut self.store)?,
        }
        self.model.check_state(&self.store)
    }

    /// The store was replaced by what another world has. The log has recorded it if there is a body.
    pub(crate) fn replaced(&mut self, by: &Self, body: Option<CheckpointBody>) {
        self.model = by.model.clone();
        self.log = by.log.clone();
        self.max = -1;
        self.finished = None;
        self.recorded = body.map(|body| (self.log.len(), body));
    }

    fn give_checkpoint(&mut self) {
        // A checkpoint that the log never recorded is followed by the next only after that.
        if self.finished.is_some() {
            self.record(true);
        }
        if let Some((entries, taken)) = self.taken.take()
            && let Some((body, removable)) = self.store.finish_checkpoint(taken)
        {
            self.finished = Some(Finished { entries, body, removable });
        }
    }

    fn record(&mut self, delete: bool) {
        let Some(finished) = self.finished.take() else { return };
        self.recorded = Some((finished.entries, finished.body));
        if let Some(disk) = self.disk.as_ref().filter(|_| delete) {
            for path in finished.removable {
                // May be gone already, or the power is off.
                let _ = disk.remove_file(&path);
            }
        }
    }

    /// A new life: everything in flight is forgotten, the store comes back from the recorded checkpoint and the
    /// log.
    pub(crate) fn reopen(&mut self, delete_strays: bool) -> Outcome {
        let disk = self.disk.clone().ok_or("a memory store cannot be opened again")?;
        self.writes.clear();
        self.written.clear();
        (self.job, self.taken, self.finished) = (None, None, None);
        let shared: Arc<dyn Disk> = shared(&disk);
        let body = self.recorded.map(|(_, body)| body);
        let max = |extra: &[u8]| extra.try_into().map_or(-1, i64::from_le_bytes);
        let (mut store, report) =
            StreamStore::open_with_layout(&shared, dir(), seed(), body, self.layout, max)
                .map_err(|e| format!("opening failed: {e}"))?;
        store.set_compression(self.compress);
        same!(report.lost, Vec::<u64>::new(), "lost at opening");
        same!(report.ruined, Vec::<PathBuf>::new(), "ruined at opening");
        if delete_strays {
            for path in &report.strays {
                disk.remove_file(path).map_err(|e| e.to_string())?;
            }
        }
        let entries = self.recorded.map_or(0, |(entries, _)| entries);
        let mut at_checkpoint = Model::default();
        self.log[..entries].iter().for_each(|entry| at_checkpoint.apply(entry));
        at_checkpoint.check(&mut store).map_err(|e| format!("at the checkpoint, {e}"))?;
        self.log[entries..].iter().for_each(|entry| apply(&mut store, entry));
        self.store = store;
        self.model.check(&mut self.store).map_err(|e| format!("after replay, {e}"))
    }
}
