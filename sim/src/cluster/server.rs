//! A server: its disk, and while it runs the loops around its replica.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use linnet_env::{Disk, FaultyDisk};
use linnet_ids::{GroupId, LogIndex, Mono, PeerId, Term};
use linnet_raft::{Entry, Opening, Standing};
use linnet_replication::raft::{Frame, Liveness, Outbox, PeerChange, RaftDriver, RaftEvent, open_replica};
use linnet_replication::{LogKeeper, Ticket, Written};
use linnet_wal::{Batch, Config, Opened, PrepareSegment, StoreIdentity, Wal};

use super::ClusterMutation;
use super::counter::{Checkpoint, Counter};
use crate::field::{Spoil, WalQueue};

pub(super) const GROUP: GroupId = GroupId { epoch: 0, meta_index: 3, random: 41 };
pub(super) const STORE: &str = "/store";

/// Committed entries after which a checkpoint is made.
const CHECKPOINT_EVERY: u64 = 40;

/// A running process.
pub(super) struct Life {
    pub(super) boot: u64,
    pub(super) driver: RaftDriver,
    pub(super) counter: Counter,
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) standing: Standing,
    /// Additions that wait for their place to be committed.
    pub(super) pending: BTreeMap<LogIndex, (Term, u64)>,
    /// Reads that wait for a confirmation, with what had been acknowledged when they were asked.
    pub(super) reads: BTreeMap<u64, LogIndex>,
    /// Reads that may be answered once something is applied.
    pub(super) confirmed: Vec<(LogIndex, LogIndex)>,
    pub(super) mail: VecDeque<Bytes>,
    liveness: Liveness,
    queue: WalQueue,
    outbox: Outbox,
    keeper: LogKeeper,
    preparing: Option<PrepareSegment>,
    /// A batch that is written; its being durable is told later.
    written: Option<(Ticket, Mono)>,
    refused: Option<(Ticket, Batch)>,
    asked_for_checkpoint: bool,
    last_checkpoint: LogIndex,
    before_newest: Counter,
    mutation: Option<ClusterMutation>,
}

/// What a pass brought about.
#[derive(Default)]
pub(super) struct Passed {
    pub(super) frames: Vec<(PeerId, Vec<u8>)>,
    pub(super) applied: Vec<(LogIndex, Term, Option<Bytes>)>,
    pub(super) events: Vec<RaftEvent>,
    pub(super) reads_from_log: u64,
    pub(super) checkpoints: u64,
    pub(super) snapshots: u64,
    /// The log is at its end: the process can do nothing more.
    pub(super) log_failed: bool,
}

fn config() -> Config {
    Config {
        segment_bytes: 256 << 10,
        first_segment_bytes: 64 << 10,
        max_bytes: 1 << 20,
        reserve_segments: 1,
        ahead_after: 16 << 10,
    }
}

impl Life {
    /// Opens the store. `founding` is what a replica begins as that has nothing of the group and never had.
    pub(super) fn open(
        me: PeerId,
        disk: &FaultyDisk,
        store_id: [u8; 16],
        founding: Option<Opening>,
        boot: u64,
        now: Mono,
        mutation: Option<ClusterMutation>,
    ) -> Option<Self> {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let opened = Wal::open(shared, Path::new(STORE), config(), StoreIdentity { store_id });
        let Opened { wal, groups, report } = opened.ok()?;
        let recovered = groups.iter().find(|g| g.group == GROUP);
        let is_new = recovered.is_none() && !report.any_group_may_be_affected();
        let opening = match founding {
            Some(founding) if is_new => Opening { seed: boot, ..founding },
            _ => open_replica(GROUP, me, recovered, &wal, boot),
        };
        let body = wal.checkpoint_body(GROUP).ok().flatten();
        let counter = body.and_then(|body| Counter::from_bytes(&body)).unwrap_or_default();
        // A replica whose checkpoint is lost begins at the beginning, whatever the log has behind it.
        let opening =
            if counter.applied == opening.base.index { opening } else { Opening::forgotten(GROUP, me, boot) };
        let held_bytes_max = if boot.is_multiple_of(2) { 4 << 10 } else { opening.held_bytes_max };
        let opening = Opening { held_bytes_max, ..opening };
        let last = opening.base;
        let (mut queue, mut outbox) = (
            WalQueue::new((mutation == Some(ClusterMutation::ForgetTerms)).then_some(Spoil::Terms)),
            Outbox::default(),
        );
        let driver = RaftDriver::open(opening, now, &mut queue, &mut outbox);
        let checkpoint = (last.index > 0).then_some(Checkpoint { counter, last });
        Some(Self {
            boot,
            driver,
            counter,
            checkpoint,
            standing: Standing::Leaderless,
            pending: BTreeMap::new(),
            reads: BTreeMap::new(),
            confirmed: Vec::new(),
            mail: VecDeque::new(),
            liveness: Liveness::new(boot, now),
            queue,
            outbox,
            keeper: LogKeeper::new(wal),
            preparing: None,
            written: None,
            refused: None,
            asked_for_checkpoint: false,
            last_checkpoint: last.index,
            before_newest: counter,
            mutation,
        })
    }

    /// One pass of the loop: mail, clock, log, what is committed, what is to be sent.
    pub(super) fn pass(&mut self, now: Mono, others: &[PeerId], write_time: Duration) -> Passed {
        let mut passed = Passed::default();
        while let Some(bytes) = self.mail.pop_front() {
            self.take_frame(now, &bytes);
        }
        let (changes, is_beat_due) = self.liveness.on_timeout(now);
        self.tell_changes(now, changes);
        if self.driver.next_timeout().is_some_and(|at| at <= now) {
            self.driver.on_timeout(now, &mut self.queue, &mut self.outbox);
        }
        if self.mutation == Some(ClusterMutation::DurableTooEarly) {
            let queued = self.queue.batches.last_ticket();
            self.driver.on_durable(now, queued, &mut self.queue, &mut self.outbox);
        }
        if let Some((ticket, _)) = self.written.take_if(|(_, at)| *at <= now) {
            self.driver.on_durable(now, ticket, &mut self.queue, &mut self.outbox);
        }
        self.apply(&mut passed);
        self.react(now, &mut passed);
        self.make_checkpoint(&mut passed);
        self.driver.flush(now, &mut self.queue, &mut self.outbox);
        self.react(now, &mut passed);
        self.write(now, write_time, &mut passed);
        self.collect_frames(now, others, is_beat_due, &mut passed);
        passed
    }

    fn take_frame(&mut self, now: Mono, bytes: &Bytes) {
        let Ok(frame) = Frame::decode(bytes) else { return };
        let Some(changes) = self.liveness.on_frame(now, frame.from, frame.boot) else { return };
        self.tell_changes(now, changes);
        if let Some(beat) = &frame.beat {
            let change = self.liveness.on_beat(now, frame.from, beat);
            self.tell_changes(now, change);
        }
        for (group, message) in frame.messages {
            if group == GROUP {
                self.driver.on_message(now, message, &mut self.queue, &mut self.outbox);
            }
        }
    }

    fn tell_changes(&mut self, now: Mono, changes: impl IntoIterator<Item = PeerChange>) {
        let Self { driver, queue, outbox, .. } = self;
        for change in changes {
            match change {
                PeerChange::Reachable(peer) => driver.set_reachable(now, peer, true, queue, outbox),
                PeerChange::Unreachable(peer) => driver.set_reachable(now, peer, false, queue, outbox),
                PeerChange::Restarted(peer) => driver.on_restarted(now, peer, queue, outbox),
                PeerChange::Lossy(peer) => driver.on_loss(peer),
            }
        }
    }

    fn apply(&mut self, passed: &mut Passed) {
        while let Some(committed) = self.driver.next_committed() {
            self.before_newest = self.counter;
            self.counter.apply(committed.index, committed.payload.as_deref());
            passed.applied.push((committed.index, committed.term, committed.payload));
        }
        if !passed.applied.is_empty() {
            self.driver.applied(self.counter.applied, &mut self.queue, &mut self.outbox);
        }
    }

    /// Does what the driver asks for.
    fn react(&mut self, now: Mono, passed: &mut Passed) {
        loop {
            let events = self.driver.take_events();
            if events.is_empty() {
                return;
            }
            for event in events {
                self.react_to(now, &event, passed);
                passed.events.push(event);
            }
        }
    }

    fn react_to(&mut self, now: Mono, event: &RaftEvent, passed: &mut Passed) {
        match event {
            RaftEvent::Standing(standing) => self.standing = *standing,
            RaftEvent::ReadEntries { peer, from, bytes_max } => {
                passed.reads_from_log += 1;
                self.read_entries(now, *peer, *from, *bytes_max);
            }
            RaftEvent::SnapshotWanted(peer) => {
                let node = self.driver.node();
                let snapshot = self.checkpoint.as_ref().map(|checkpoint| checkpoint.snapshot(node));
                self.driver.send_snapshot(now, *peer, snapshot, &mut self.queue, &mut self.outbox);
            }
            RaftEvent::SnapshotOffered(snapshot) => {
                let Some(counter) = Counter::from_bytes(&snapshot.body) else { return };
                let body = snapshot.body.to_vec();
                if self.driver.install(now, snapshot, body, &mut self.queue, &mut self.outbox) {
                    passed.snapshots += 1;
                    if self.mutation == Some(ClusterMutation::InstallNothing) {
                        self.counter.applied = counter.applied;
                    } else {
                        self.counter = counter;
                    }
                    self.last_checkpoint = counter.applied;
                    self.checkpoint = Some(Checkpoint { counter, last: snapshot.last });
                }
            }
            RaftEvent::ReadsConfirmed { number, index } => {
                let later = self.reads.split_off(&(number + 1));
                for (_, newest) in std::mem::replace(&mut self.reads, later) {
                    self.confirmed.push((*index, newest));
                }
            }
            RaftEvent::ReadsDropped => self.reads.clear(),
            RaftEvent::Members(_) | RaftEvent::Amnesiac | RaftEvent::Remembers | RaftEvent::Halted(_) => {}
        }
    }

    /// Entries that are in the log only. Those that wait to be written are in memory all the same.
    fn read_entries(&mut self, now: Mono, peer: PeerId, from: LogIndex, bytes_max: usize) {
        let wal = self.keeper.wal();
        let mut bytes = 0;
        let mut entries = Vec::new();
        let mut previous = self.driver.node().point(from - 1);
        for entry in (from..=wal.last_index(GROUP)).map_while(|index| wal.read(GROUP, index).ok().flatten()) {
            bytes += entry.payload.len();
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(Entry::new(entry.term, entry.payload.into()));
        }
        if previous.is_none()
            && let (Some(term), Some(chain)) = (wal.term(GROUP, from - 1), wal.chain(GROUP, from - 1))
        {
            previous = Some(linnet_raft::LogPoint { index: from - 1, term, chain });
        }
        let previous = previous.unwrap_or_default();
        self.driver.on_read(now, peer, previous, entries, &mut self.queue, &mut self.outbox);
    }

    fn make_checkpoint(&mut self, passed: &mut Passed) {
        let applied = self.counter.applied;
        let is_due = applied >= self.last_checkpoint + CHECKPOINT_EVERY || self.asked_for_checkpoint;
        if !is_due || applied <= self.last_checkpoint {
            return;
        }
        let Some(last) = self.driver.node().point(applied) else { return };
        // The log must have what the checkpoint ends with before it.
        if self.keeper.wal().last_index(GROUP) < applied {
            return;
        }
        let mut counter = self.counter;
        if self.mutation == Some(ClusterMutation::StaleCheckpoint) {
            counter = Counter { applied, ..self.before_newest };
        }
        self.driver.checkpoint(last, &counter.to_bytes(), &mut self.queue);
        self.checkpoint = Some(Checkpoint { counter, last });
        self.last_checkpoint = applied;
        self.asked_for_checkpoint = false;
        passed.checkpoints += 1;
    }

    /// One batch at a time.
    fn write(&mut self, now: Mono, write_time: Duration, passed: &mut Passed) {
        if let Some(job) = self.preparing.take() {
            self.keeper.prepared(job.run(), now);
        }
        if self.written.is_some() {
            return;
        }
        let Some((ticket, mut batch)) = self.refused.take().or_else(|| self.queue.batches.take()) else {
            return;
        };
        let asked = &mut self.asked_for_checkpoint;
        let mut ask = |_| {
            *asked = true;
            true
        };
        match self.keeper.write(&mut batch, true, now, &mut ask) {
            Written::Durable => {
                let bytes = batch.bytes();
                batch.clear();
                self.queue.batches.written(bytes, batch);
                self.written = Some((ticket, now + write_time));
            }
            Written::NoSpace(_) => self.refused = Some((ticket, batch)),
            Written::Failed(_) => passed.log_failed = true,
        }
        self.preparing = self.keeper.maintain(now, &mut ask).prepare;
    }

    fn collect_frames(&mut self, now: Mono, others: &[PeerId], is_beat_due: bool, passed: &mut Passed) {
        let me = self.driver.node().me();
        let mut messages = self.outbox.take();
        for peer in others {
            let messages = messages.remove(peer).unwrap_or_default();
            let beat = is_beat_due.then(|| self.liveness.beat_for(now, *peer, self.oldest_write(now)));
            if beat.is_some() || !messages.is_empty() {
                let frame = Frame { from: me, boot: self.boot, history: None, beat, messages };
                passed.frames.push((*peer, frame.encode()));
            }
        }
    }

    fn oldest_write(&self, now: Mono) -> Duration {
        match self.written {
            Some((_, done)) if done > now => done.since(now),
            _ => Duration::ZERO,
        }
    }

    /// When it wants the next pass.
    pub(super) fn next_due(&self) -> Mono {
        let write = self.written.map(|(_, at)| at);
        let refused = self.refused.as_ref().map(|_| self.liveness.next_timeout());
        [self.driver.next_timeout(), write, refused]
            .into_iter()
            .flatten()
            .min()
            .map_or_else(|| self.liveness.next_timeout(), |at| at.min(self.liveness.next_timeout()))
    }

    /// True if something waits for the log that nobody is writing.
    pub(super) fn has_work(&self) -> bool {
        self.written.is_none() && !self.queue.batches.is_empty()
    }

    /// A client adds a number.
    pub(super) fn add(&mut self, number: u64) -> Option<LogIndex> {
        if !self.driver.node().is_leading() {
            return None;
        }
        let term = self.driver.status().term;
        let payload = super::counter::addition(number);
        let index = self.driver.propose([payload], &mut self.queue, &mut self.outbox).ok()?;
        self.pending.insert(index, (term, number));
        Some(index)
    }

    /// A client asks for the sum. `newest` is what had been acknowledged to anybody before.
    pub(super) fn ask(&mut self, number: u64, newest: LogIndex) {
        self.reads.insert(number, newest);
        if self.driver.read(number, &mut self.queue, &mut self.outbox).is_err() {
            self.reads.remove(&number);
        }
    }

    /// The connection to another server broke.
    pub(super) fn on_disconnected(&mut self, now: Mono, peer: PeerId) {
        let change = self.liveness.on_disconnected(now, peer);
        self.tell_changes(now, change);
    }

    pub(super) fn verify(&mut self) {
        self.driver.verify(&mut self.queue, &mut self.outbox);
    }

    pub(super) fn transfer(&mut self, now: Mono, to: PeerId) -> bool {
        self.driver.transfer(now, to, Duration::from_secs(1)).is_ok()
    }
}
