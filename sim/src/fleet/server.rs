//! A running server: its groups, its log, and the loops around them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use linnet_assets::{Command, Moment, Token};
use linnet_env::{Disk, SeededRng};
use linnet_ids::{GroupId, LogIndex, Mono, PeerId};
use linnet_raft::{Entry, LogPoint, Standing};
use linnet_replication::cluster::Known;
use linnet_replication::raft::{Frame, Liveness, Outbox, PeerChange};
use linnet_replication::{
    FloorJob, GroupDone, GroupJob, GroupKey, Incoming, LogKeeper, Myself, PassMail, Site, StreamGroup,
    Ticket, Touched, Turns, Written, group_dir,
};
use linnet_store::{CheckpointJob, Layout};
use linnet_wal::{Batch, PrepareSegment, Wal};

use super::FleetMutation;
use super::clerk::Clerk;
use super::facts::Told;
use super::letters::{Letter, Question};
use crate::field::{self, Parcel, STORE, Sent, Transfers, WalQueue};

/// Key of the catalogue's group.
pub(super) const META_KEY: GroupKey = 0;
/// Bytes of entries after which a checkpoint is made.
const CHECKPOINT_BYTES: u64 = 4 << 10;
/// Time between two, also if they fail.
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(20);
/// Time between writes of blocks.
const WRITE_PAUSE: Duration = Duration::from_micros(500);
/// Account of all streams.
pub(super) const ACCOUNT: &str = "A";

/// What a client asks of a stream.
pub(super) enum Call {
    Publish(Publication),
    Command(Command, Token),
    Pull(&'static str),
    /// The subject of an acknowledgement that asks for a confirmation.
    Acknowledge(Vec<u8>),
}

/// A message on its way into a stream.
pub(super) struct Publication {
    pub(super) subject: String,
    pub(super) reply: String,
    pub(super) header_len: usize,
    pub(super) body: Vec<u8>,
}

/// A group and what belongs to it.
pub(super) struct Slot {
    pub(super) group: StreamGroup,
    pub(super) stream: String,
    pub(super) sent: Sent,
    pub(super) calls: Vec<Call>,
    /// It wants a turn.
    pub(super) is_awake: bool,
    pub(super) publications: VecDeque<Publication>,
    pub(super) transfers: Transfers,
    /// It stands in for a stream that is lost.
    pub(super) is_lost: bool,
    /// Sequences that are to be reserved.
    pub(super) floor: Option<FloorJob>,
    checkpoint: Option<(u32, CheckpointJob)>,
    /// What the newest checkpoint has applied, and when it began.
    saved: LogIndex,
    checkpointed: Mono,
    /// When blocks were written last.
    wrote: Mono,
}

/// What a pass brought about.
#[derive(Default)]
pub(super) struct Passed {
    pub(super) letters: Vec<(PeerId, Letter)>,
    pub(super) standings: Vec<(GroupId, Standing)>,
    pub(super) told: Vec<Told>,
    pub(super) checkpoints: u64,
    pub(super) failure: Option<String>,
    pub(super) log_failed: bool,
    /// Blocks could not be written.
    pub(super) store_failed: bool,
}

pub(super) struct Life {
    pub(super) me: Myself,
    boot: u64,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) liveness: Liveness,
    pub(super) reachable: BTreeSet<PeerId>,
    pub(super) queue: WalQueue,
    keeper: LogKeeper,
    pub(super) turns: Turns,
    pub(super) slots: BTreeMap<GroupKey, Slot>,
    pub(super) next_key: GroupKey,
    /// What the catalogue says, as it was applied here.
    pub(super) known: Known,
    pub(super) clerk: Clerk,
    pub(super) passed: Passed,
    pub(super) rng: SeededRng,
    pub(super) random: fastrand::Rng,
    pub(super) mutation: Option<FleetMutation>,
    mail: VecDeque<(PeerId, Letter)>,
    incoming: Vec<Incoming>,
    outbox: Outbox,
    preparing: Option<PrepareSegment>,
    written: Option<(Ticket, Mono)>,
    durable: Ticket,
    refused: Option<(Ticket, Batch)>,
    done: Vec<(GroupKey, GroupDone)>,
    asked: Vec<GroupId>,
    /// Groups that end in the log, with the batch in which.
    pub(super) ending: Vec<(Ticket, GroupId)>,
    next_token: Token,
}

/// Sizes at which a handful of messages fills several blocks.
pub(super) fn layout() -> Layout {
    Layout { block_max: 4 << 10, rows_max: 40, extent: 1 << 10, squeeze_min: 600, ..Layout::default() }
}

impl field::Life for Life {
    type Letter = Letter;
    type Founding = super::opening::Founding;

    fn next_due(&self, now: Mono) -> Mono {
        let has_work = !self.mail.is_empty()
            || !self.incoming.is_empty()
            || !self.done.is_empty()
            || self.clerk.has_news
            || self.slots.values().any(Slot::has_work)
            || (self.written.is_none() && self.refused.is_none() && !self.queue.batches.is_empty());
        if has_work {
            return now;
        }
        let write = self.written.map(|(_, due)| due);
        let transfers = self.slots.values().filter_map(|slot| slot.transfers.next_due());
        let others = [self.turns.next_due(), write].into_iter().flatten().chain(transfers).min();
        let looks = self.liveness.next_timeout().min(self.clerk.next_look());
        others.map_or(looks, |due| due.min(looks))
    }

    fn receive(&mut self, from: PeerId, letter: Letter) {
        self.mail.push_back((from, letter));
    }

    fn on_disconnected(&mut self, now: Mono, peer: PeerId) {
        let change = self.liveness.on_disconnected(now, peer);
        self.note_peers(change);
    }

    fn digest(letter: &Letter) -> u64 {
        match letter {
            Letter::Frame(bytes) | Letter::Parcel(_, Parcel::Chunk(bytes)) => {
                u64::from(crc32fast::hash(bytes))
            }
            Letter::Ask(id, _) | Letter::Answer(id, _) => *id,
            Letter::Parcel(..) => 0,
        }
    }
}

impl Slot {
    /// It leads its stream, which is here.
    pub(super) fn leads(&self) -> bool {
        !self.is_lost && self.group.stream().is_leading()
    }

    fn has_work(&self) -> bool {
        self.is_awake
            || self.floor.is_some()
            || !self.calls.is_empty()
            || !self.sent.loads.is_empty()
            || self.checkpoint.is_some()
    }
}

impl Life {
    pub(super) fn before_opening(
        me: Myself,
        boot: u64,
        disk: Arc<dyn Disk>,
        now: Mono,
        mutation: Option<FleetMutation>,
    ) -> Opened {
        let spoil = (mutation == Some(FleetMutation::ForgetTerms)).then_some(field::Spoil::Terms);
        Opened { me, boot, disk, now, mutation, queue: WalQueue::new(spoil) }
    }

    pub(super) fn at(now: Mono) -> Moment {
        Moment { now, wall: super::opening::wall(now), live: true }
    }

    pub(super) fn site(&self) -> Site {
        super::opening::site(&self.disk)
    }

    /// What it has to do, in words.
    pub(super) fn occupation(&self, now: Mono) -> String {
        let is_due = |due: Option<Mono>| due.is_some_and(|due| due <= now);
        let slots = self.slots.values().filter(|slot| slot.has_work() || is_due(slot.transfers.next_due()));
        let slots: Vec<_> =
            slots.map(|s| (s.group.group(), s.is_awake, s.calls.len(), s.floor.is_some())).collect();
        format!(
            "mail {}, incoming {}, done {}, news {}, batches {}, refused {}, turns {}, liveness {}, slots {slots:?}",
            self.mail.len(),
            self.incoming.len(),
            self.done.len(),
            self.clerk.has_news,
            !self.queue.batches.is_empty(),
            self.refused.is_some(),
            is_due(self.turns.next_due()),
            is_due(Some(self.liveness.next_timeout())),
        )
    }

    pub(super) fn wal(&self) -> &Wal {
        self.keeper.wal()
    }

    pub(super) fn me(&self) -> PeerId {
        self.me.peer
    }

    /// One pass of the loops.
    pub(super) fn pass(&mut self, now: Mono, others: &[PeerId], write_time: Duration) -> Passed {
        let at = Self::at(now);
        self.clerk.now = now;
        let together = [1, 4, 30, 300][self.random.usize(..4)];
        for (from, letter) in self.mail.drain(..together.min(self.mail.len())).collect::<Vec<_>>() {
            self.take_letter(at, from, letter);
        }
        // Who is silent is noticed by a task of its own, which may come later.
        let mut is_beat_due = false;
        if self.random.bool() {
            let (changes, is_due) = self.liveness.on_timeout(now);
            is_beat_due = is_due;
            self.note_peers(changes);
        }
        if let Some((ticket, _)) = self.written.take_if(|(_, due)| *due <= now) {
            self.durable = ticket;
        }
        if self.mutation == Some(FleetMutation::DurableTooEarly) {
            self.durable = self.durable.max(self.queue.batches.last_ticket());
        }
        self.forget_removed(self.durable);
        self.turn(at);
        self.take_answers(at);
        self.follow_catalogue();
        self.look_around(at);
        self.work_on_disk();
        for (key, slot) in &mut self.slots {
            let group = slot.group.group();
            debug_assert!(*key == META_KEY || group != GroupId::META);
            let parcels = slot.transfers.on_time(now).into_iter();
            self.passed.letters.extend(parcels.map(|(peer, parcel)| (peer, Letter::Parcel(group, parcel))));
        }
        self.write(now, write_time);
        self.collect_frames(now, others, is_beat_due);
        std::mem::take(&mut self.passed)
    }

    fn turn(&mut self, at: Moment) {
        let ready = self.slots.iter().filter(|(_, slot)| slot.has_work()).map(|(key, _)| *key).collect();
        let mail = PassMail {
            failure: None,
            done: std::mem::take(&mut self.done),
            durable: self.durable,
            checkpoints: std::mem::take(&mut self.asked),
            ready,
            incoming: std::mem::take(&mut self.incoming),
        };
        let mut turns = std::mem::take(&mut self.turns);
        turns.pass(self, mail, at, Touched::default());
        self.turns = turns;
    }

    fn take_letter(&mut self, at: Moment, from: PeerId, letter: Letter) {
        match letter {
            Letter::Frame(bytes) => self.take_frame(at.now, &bytes),
            Letter::Ask(id, question) => self.on_question(at, from, id, question),
            Letter::Answer(id, answer) => self.on_answer(at, from, id, answer),
            Letter::Parcel(group, parcel) => self.take_parcel(at, from, group, parcel),
        }
    }

    fn take_parcel(&mut self, at: Moment, from: PeerId, group: GroupId, parcel: Parcel) {
        let Self { slots, queue, passed, .. } = self;
        let Some(slot) = slots.values_mut().find(|slot| slot.group.group() == group) else {
            if let Parcel::Ask(request) = parcel {
                passed.letters.push((from, Letter::Parcel(group, Parcel::Gone(request.transfer))));
            }
            return;
        };
        match parcel {
            Parcel::Ask(request) => {
                let answer = slot.transfers.answer(from, request, at.now);
                passed.letters.push((from, Letter::Parcel(group, answer)));
            }
            Parcel::Chunk(bytes) => {
                slot.transfers.chunk(&mut slot.group, &bytes, at, queue);
                slot.is_awake = true;
            }
            Parcel::Gone(transfer) => slot.transfers.gone(transfer),
        }
    }

    fn take_frame(&mut self, now: Mono, bytes: &Bytes) {
        let Ok(frame) = Frame::decode(bytes) else { return };
        let Some(changes) = self.liveness.on_frame(now, frame.from, frame.boot) else { return };
        self.note_peers(changes);
        if let Some(beat) = &frame.beat {
            let change = self.liveness.on_beat(now, frame.from, beat);
            self.note_peers(change);
        }
        let messages = frame.messages.into_iter();
        self.incoming.extend(messages.map(|(group, message)| Incoming::Message(group, message)));
    }

    fn note_peers(&mut self, changes: impl IntoIterator<Item = PeerChange>) {
        for change in changes {
            match change {
                PeerChange::Reachable(peer) => drop(self.reachable.insert(peer)),
                PeerChange::Unreachable(peer) => drop(self.reachable.remove(&peer)),
                PeerChange::Restarted(_) | PeerChange::Lossy(_) => {}
            }
            if let PeerChange::Unreachable(peer) | PeerChange::Restarted(peer) = change {
                self.lose_questions(peer);
            }
            self.incoming.push(Incoming::Peer(change));
        }
    }

    /// Lets a group run here.
    pub(super) fn install(&mut self, key: Option<GroupKey>, mut group: StreamGroup, now: Mono) {
        let key = key.unwrap_or_else(|| {
            self.next_key += 1;
            self.next_key
        });
        for peer in &self.reachable {
            group.on_peer(now, PeerChange::Reachable(*peer), &mut self.queue);
        }
        group.stream_mut().store_mut().set_layout(layout());
        let id = group.group();
        let spoiled = self.mutation.and_then(FleetMutation::spoils_states);
        let slot = Slot {
            stream: group.stream().config().name.clone(),
            transfers: Transfers::new(id, self.boot ^ id.random, spoiled),
            group,
            sent: Sent::default(),
            calls: Vec::new(),
            is_awake: true,
            publications: VecDeque::new(),
            is_lost: false,
            floor: None,
            checkpoint: None,
            saved: 0,
            checkpointed: now,
            wrote: Mono(0),
        };
        self.slots.insert(key, slot);
    }

    pub(super) fn slot_of(&mut self, group: GroupId) -> Option<&mut Slot> {
        self.slots.values_mut().find(|slot| slot.group.group() == group)
    }

    pub(super) fn stream(&mut self, name: &str) -> Option<(GroupKey, &mut Slot)> {
        let mut streams = self.slots.iter_mut().filter(|(key, _)| **key != META_KEY);
        streams.find(|(_, slot)| slot.stream == name).map(|(key, slot)| (*key, slot))
    }

    pub(super) fn new_token(&mut self) -> Token {
        self.next_token += 1;
        self.next_token
    }

    /// A client asks something of a stream on this server.
    pub(super) fn call(&mut self, stream: &str, call: Call) {
        if let Some((_, slot)) = self.stream(stream).filter(|(_, slot)| !slot.is_lost) {
            slot.calls.push(call);
        }
    }

    /// Entries that are in the log only.
    pub(super) fn read_entries(
        &mut self,
        now: Mono,
        group: GroupId,
        peer: PeerId,
        from: u64,
        bytes_max: usize,
    ) {
        let Self { slots, queue, keeper, .. } = self;
        let wal = keeper.wal();
        let mut bytes = 0;
        let mut entries = Vec::new();
        for entry in (from..=wal.last_index(group)).map_while(|index| wal.read(group, index).ok().flatten()) {
            bytes += entry.payload.len();
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(Entry::new(entry.term, entry.payload.into()));
        }
        let index = from - 1;
        let point = wal.term(group, index).zip(wal.chain(group, index));
        let previous = point.map_or_else(LogPoint::default, |(term, chain)| LogPoint { index, term, chain });
        if let Some(slot) = slots.values_mut().find(|slot| slot.group.group() == group) {
            slot.group.entries_read(now, peer, previous, entries, queue);
            slot.is_awake = true;
        }
    }

    /// Reads and writes of blocks, and checkpoints.
    fn work_on_disk(&mut self) {
        let Self { slots, done, asked, passed, disk, clerk, .. } = self;
        for (key, slot) in slots {
            let group = slot.group.group();
            let dir = group_dir(Path::new(STORE), group);
            let loads = std::mem::take(&mut slot.sent.loads).into_iter().map(GroupJob::Load);
            let store = slot.group.stream_mut().store_mut();
            // What a full disk refuses is tried again, but not at once.
            let may_write = slot.wrote + WRITE_PAUSE <= clerk.now;
            let writes = if may_write { store.take_writes(false) } else { Vec::new() };
            if !writes.is_empty() {
                slot.wrote = clerk.now;
            }
            let writes = writes.into_iter().map(|job| GroupJob::Write(job, dir.clone()));
            let mut jobs: Vec<GroupJob> = loads.chain(writes).collect();
            passed.store_failed |= store.failure().is_some();
            jobs.extend(slot.floor.take().map(|job| GroupJob::Floor(job, dir.clone())));
            let applied = slot.group.status().map_or(u64::MAX, |status| status.applied);
            let is_worth_it = slot.group.since_checkpoint() > CHECKPOINT_BYTES
                && applied > slot.saved
                && slot.checkpointed + CHECKPOINT_PAUSE <= clerk.now;
            if is_worth_it && !slot.transfers.is_sending() {
                asked.push(group);
            }
            match slot.checkpoint.take() {
                Some((0, job)) => {
                    passed.checkpoints += 1;
                    jobs.push(GroupJob::Checkpoint(Box::new(job), dir));
                }
                Some((passes, job)) => slot.checkpoint = Some((passes - 1, job)),
                None => {}
            }
            done.extend(jobs.into_iter().map(|job| (*key, job.run(&**disk))));
        }
    }

    pub(super) fn begin_checkpoint(&mut self, key: GroupKey) {
        let passes = self.random.u32(..4);
        let Some(slot) = self.slots.get_mut(&key).filter(|slot| slot.checkpoint.is_none()) else { return };
        slot.checkpointed = self.clerk.now;
        slot.checkpoint = slot.group.begin_checkpoint().map(|job| (passes, job));
        if slot.checkpoint.is_some() {
            slot.saved = slot.group.status().map_or(0, |status| status.applied);
        }
    }

    /// One batch at a time.
    fn write(&mut self, now: Mono, write_time: Duration) {
        if let Some(job) = self.preparing.take() {
            self.keeper.prepared(job.run(), now);
        }
        if self.written.is_some() {
            return;
        }
        let Some((ticket, mut batch)) = self.refused.take().or_else(|| self.queue.batches.take()) else {
            return;
        };
        let Self { slots, asked, keeper, .. } = self;
        let mut ask = |group| {
            asked.push(group);
            slots.values().any(|slot| slot.group.group() == group)
        };
        match keeper.write(&mut batch, true, now, &mut ask) {
            Written::Durable => {
                let bytes = batch.bytes();
                batch.clear();
                self.queue.batches.written(bytes, batch);
                self.written = Some((ticket, now + write_time));
            }
            Written::NoSpace(_) => self.refused = Some((ticket, batch)),
            Written::Failed(_) => self.passed.log_failed = true,
        }
        self.preparing = keeper.maintain(now, &mut ask).prepare;
    }

    pub(super) fn collect(&mut self, key: GroupKey) {
        if let Some(outbox) = self.slots.get_mut(&key).and_then(|slot| slot.group.outbox()) {
            self.outbox.append(outbox);
        }
    }

    fn collect_frames(&mut self, now: Mono, others: &[PeerId], is_beat_due: bool) {
        let oldest = match self.written {
            Some((_, due)) if due > now => due.since(now),
            _ => Duration::ZERO,
        };
        for key in self.slots.keys().copied().collect::<Vec<_>>() {
            self.collect(key);
        }
        let mut messages = self.outbox.take();
        for peer in others {
            let messages = messages.remove(peer).unwrap_or_default();
            let beat = is_beat_due.then(|| self.liveness.beat_for(now, *peer, oldest));
            if beat.is_some() || !messages.is_empty() {
                let frame = Frame { from: self.me.peer, boot: self.boot, history: None, beat, messages };
                self.passed.letters.push((*peer, Letter::Frame(frame.encode().into())));
            }
        }
    }

    pub(super) fn ask(&mut self, peer: PeerId, id: u64, question: Question) {
        self.passed.letters.push((peer, Letter::Ask(id, question)));
    }
}

/// What a process has before it has read its log.
pub(super) struct Opened {
    pub(super) me: Myself,
    boot: u64,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) now: Mono,
    pub(super) mutation: Option<FleetMutation>,
    pub(super) queue: WalQueue,
}

impl Opened {
    pub(super) fn with(self, wal: Wal) -> Life {
        let Self { me, boot, disk, now, mutation, queue } = self;
        Life {
            me,
            boot,
            disk,
            liveness: Liveness::new(boot, now),
            reachable: BTreeSet::new(),
            queue,
            keeper: LogKeeper::new(wal),
            turns: Turns::default(),
            slots: BTreeMap::new(),
            next_key: META_KEY,
            known: Known::default(),
            clerk: Clerk::new(now),
            passed: Passed::default(),
            rng: SeededRng::new(boot),
            random: fastrand::Rng::with_seed(boot),
            mutation,
            mail: VecDeque::new(),
            incoming: Vec::new(),
            outbox: Outbox::default(),
            preparing: None,
            written: None,
            durable: 0,
            refused: None,
            done: Vec::new(),
            asked: Vec::new(),
            ending: Vec::new(),
            next_token: 0,
        }
    }
}
