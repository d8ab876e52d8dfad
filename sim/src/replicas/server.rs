//! A running server: the loop around its replica.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use linnet_assets::{Command, Moment, Publish, StreamLimits};
use linnet_env::{Disk, FaultyDisk};
use linnet_ids::{LogIndex, Mono, PeerId};
use linnet_jsapi::subjects::AckSubject;
use linnet_raft::{Entry, LogPoint, Standing};
use linnet_replication::raft::{Frame, Liveness, PeerChange};
use linnet_replication::{GroupDone, LogKeeper, ReplicaRequest, StreamGroup, Ticket, Written};
use linnet_store::CheckpointJob;
use linnet_wal::{Batch, PrepareSegment};

use super::ReplicaMutation;
use super::opening::{GROUP, Start, dir, layout, open, wall};
use crate::field::{self, Parcel, Sent, Spoiled, Transfers, WalQueue};

/// Bytes of entries after which a checkpoint is made.
const CHECKPOINT_BYTES: u64 = 6 << 10;

/// What servers send each other.
#[derive(Clone)]
pub(super) enum Letter {
    Frame(Bytes),
    Parcel(Parcel),
}

/// A message on its way into the stream.
pub(super) struct Publication {
    pub(super) subject: String,
    pub(super) reply: String,
    pub(super) header_len: usize,
    pub(super) body: Vec<u8>,
}

/// What a client asks of a server, in the order in which it came.
pub(super) enum Call {
    Publish(Publication),
    Command(Command),
    Pull(&'static str),
    /// The subject of an acknowledgement that asks for a confirmation.
    Acknowledge(Vec<u8>),
}

/// What a pass brought about.
#[derive(Default)]
pub(super) struct Passed {
    pub(super) letters: Vec<(PeerId, Letter)>,
    pub(super) standings: Vec<Standing>,
    pub(super) checkpoints: u64,
    pub(super) failure: Option<String>,
    pub(super) log_failed: bool,
}

pub(super) struct Life {
    boot: u64,
    pub(super) group: StreamGroup,
    pub(super) sent: Sent,
    pub(super) mail: VecDeque<(PeerId, Letter)>,
    publications: VecDeque<Publication>,
    /// What clients asked since the last pass.
    calls: Vec<Call>,
    pub(super) transfers: Transfers,
    disk: FaultyDisk,
    liveness: Liveness,
    queue: WalQueue,
    keeper: LogKeeper,
    preparing: Option<PrepareSegment>,
    /// A batch that is written; its being durable is told later.
    written: Option<(Ticket, Mono)>,
    refused: Option<(Ticket, Batch)>,
    asked_for_checkpoint: bool,
    /// A checkpoint that is done after some more passes.
    checkpoint: Option<(u32, CheckpointJob)>,
    random: fastrand::Rng,
    mutation: Option<ReplicaMutation>,
    /// It may lose power while it installs a state.
    pub(super) is_shaky: bool,
    /// What a broken server removes too early.
    old_files: Vec<PathBuf>,
}

impl field::Life for Life {
    type Letter = Letter;
    type Founding = linnet_raft::Opening;

    fn next_due(&self, now: Mono) -> Mono {
        self.wants_pass(now)
    }

    fn receive(&mut self, from: PeerId, letter: Letter) {
        self.mail.push_back((from, letter));
    }

    fn on_disconnected(&mut self, now: Mono, peer: PeerId) {
        let change = self.liveness.on_disconnected(now, peer);
        self.tell_changes(now, change);
    }

    fn digest(letter: &Letter) -> u64 {
        match letter {
            Letter::Frame(bytes) | Letter::Parcel(Parcel::Chunk(bytes)) => u64::from(crc32fast::hash(bytes)),
            Letter::Parcel(_) => 0,
        }
    }
}

impl Life {
    /// Opens the store; why it cannot be opened.
    pub(super) fn open(start: Start<'_>, now: Mono) -> Result<Self, String> {
        let mut queue = WalQueue::new(None);
        let (group, wal) = open(&start, now, &mut queue)?;
        let Start { disk, boot, mutation, .. } = start;
        let spoiled = match mutation {
            Some(ReplicaMutation::StateWithoutEnd) => Some(Spoiled::End),
            Some(ReplicaMutation::StateOfLaterPlace) => Some(Spoiled::Place),
            _ => None,
        };
        Ok(Self {
            boot,
            group,
            sent: Sent::default(),
            mail: VecDeque::new(),
            publications: VecDeque::new(),
            calls: Vec::new(),
            transfers: Transfers::new(GROUP, boot, spoiled),
            disk: disk.clone(),
            liveness: Liveness::new(boot, now),
            queue,
            keeper: LogKeeper::new(wal),
            preparing: None,
            written: None,
            refused: None,
            asked_for_checkpoint: false,
            checkpoint: None,
            random: fastrand::Rng::with_seed(boot),
            mutation,
            is_shaky: false,
            old_files: Vec::new(),
        })
    }

    fn at(now: Mono) -> Moment {
        Moment { now, wall: wall(now), live: true }
    }

    /// One pass of the loop.
    pub(super) fn pass(&mut self, now: Mono, me: PeerId, others: &[PeerId], write_time: Duration) -> Passed {
        let mut passed = Passed::default();
        let at = Self::at(now);
        self.group.stream_mut().store_mut().set_layout(layout());
        // Clients and other servers are heard by different tasks: either may come first.
        let are_clients_first = self.random.bool();
        if are_clients_first {
            self.take_calls(at);
        }
        let together = [1, 4, 30, 300][self.random.usize(..4)];
        for (from, letter) in self.mail.drain(..together.min(self.mail.len())).collect::<Vec<_>>() {
            self.take_letter(at, from, letter, &mut passed);
        }
        self.take_calls(at);
        // Who is silent is noticed by a task of its own, which may come later.
        let mut is_beat_due = false;
        if self.random.bool() {
            let (changes, is_due) = self.liveness.on_timeout(now);
            is_beat_due = is_due;
            self.tell_changes(now, changes);
        }
        if let Some((ticket, _)) = self.written.take_if(|(_, due)| *due <= now) {
            match self.group.durable(ticket, at, &mut self.queue, &mut self.sent) {
                Ok(files) => self.remove(&files),
                Err(error) => passed.failure = Some(error.to_string()),
            }
        }
        if self.group.next_due().is_some_and(|due| due <= now) {
            self.group.on_timer(at, &mut self.queue, &mut self.sent);
        }
        self.offer(at);
        for _ in 0..4 {
            if let Err(error) = self.group.flush(at, &mut self.queue, &mut self.sent) {
                passed.failure = Some(error.to_string());
            }
            if !self.serve_requests(at, &mut passed) {
                break;
            }
        }
        self.work_on_disk(at, &mut passed);
        let parcels = self.transfers.on_time(now).into_iter();
        passed.letters.extend(parcels.map(|(peer, parcel)| (peer, Letter::Parcel(parcel))));
        self.write(now, write_time, &mut passed);
        self.collect_frames(now, me, others, is_beat_due, &mut passed);
        passed
    }

    fn take_letter(&mut self, at: Moment, from: PeerId, letter: Letter, passed: &mut Passed) {
        match letter {
            Letter::Frame(bytes) => self.take_frame(at.now, &bytes),
            Letter::Parcel(Parcel::Ask(request)) => {
                let answer = self.transfers.answer(from, request, at.now);
                passed.letters.push((from, Letter::Parcel(answer)));
            }
            Letter::Parcel(Parcel::Chunk(bytes)) => {
                let before = self.transfers.counts.done;
                self.transfers.chunk(&mut self.group, &bytes, at, &mut self.queue);
                if self.transfers.counts.done > before {
                    if self.is_shaky && self.random.u8(..4) == 0 {
                        self.disk.power_off_after(self.random.u64(..8));
                    }
                    let old_files = std::mem::take(&mut self.old_files);
                    self.remove(&old_files);
                }
            }
            Letter::Parcel(Parcel::Gone(transfer)) => self.transfers.gone(transfer),
        }
    }

    fn take_frame(&mut self, now: Mono, bytes: &Bytes) {
        let Ok(frame) = Frame::decode(bytes) else { return };
        let Some(changes) = self.liveness.on_frame(now, frame.from, frame.boot) else { return };
        self.tell_changes(now, changes);
        if let Some(beat) = &frame.beat {
            let change = self.liveness.on_beat(now, frame.from, beat);
            self.tell_changes(now, change);
        }
        for (_, message) in frame.messages.into_iter().filter(|(group, _)| *group == GROUP) {
            self.group.on_message(now, message, &mut self.queue);
        }
    }

    fn tell_changes(&mut self, now: Mono, changes: impl IntoIterator<Item = PeerChange>) {
        changes.into_iter().for_each(|change| self.group.on_peer(now, change, &mut self.queue));
    }

    fn remove(&self, files: &[PathBuf]) {
        files.iter().for_each(|path| drop(self.disk.remove_file(path)));
    }

    fn take_calls(&mut self, at: Moment) {
        for call in std::mem::take(&mut self.calls) {
            let stream = self.group.stream_mut();
            match call {
                Call::Publish(publication) => self.publications.push_back(publication),
                _ if !stream.is_leading() => {}
                Call::Command(command) => stream.command(command, 1, at, &mut self.sent),
                Call::Pull(consumer) => {
                    let body = br#"{"batch":5,"no_wait":true}"#;
                    stream.on_next_request(consumer, b"inbox", body, at.now, at.wall, &mut self.sent);
                }
                Call::Acknowledge(subject) => {
                    let Some(ack) = AckSubject::parse(&subject) else { continue };
                    let reply = format!("sure.{}", ack.stream_seq);
                    stream.on_ack(&ack, b"+ACK", reply.as_bytes(), at.now, at.wall, &mut self.sent);
                }
            }
        }
    }

    /// Messages go into the stream if this replica leads.
    fn offer(&mut self, at: Moment) {
        if !self.group.stream().is_leading() {
            return self.publications.clear();
        }
        let publishes = self.publications.iter().map(|p| Publish {
            subject: p.subject.as_bytes(),
            reply: p.reply.as_bytes(),
            header_len: p.header_len,
            body: &p.body,
            origin: None,
        });
        let (dealt_with, _) = self.group.offer(publishes, &StreamLimits::default(), at, &mut self.sent);
        self.publications.drain(..dealt_with);
    }

    /// Does what the replica asks for; false if that was nothing.
    fn serve_requests(&mut self, at: Moment, passed: &mut Passed) -> bool {
        let requests = self.group.take_requests();
        let is_asked = !requests.is_empty();
        for request in requests {
            match request {
                ReplicaRequest::ReadEntries { peer, from, bytes_max } => {
                    self.read_entries(at.now, peer, from, bytes_max);
                }
                ReplicaRequest::SendState(peer) => {
                    let snapshot = self.transfers.offer(&mut self.group, peer, at.now);
                    self.group.send_snapshot(at.now, peer, snapshot, &mut self.queue);
                }
                ReplicaRequest::TakeState(snapshot) => {
                    if self.mutation == Some(ReplicaMutation::OldStateGoesFirst) {
                        let files = self.disk.files_below(&dir());
                        self.old_files = files.into_iter().map(|(path, _)| path).collect();
                    }
                    self.transfers.take(&mut self.group, snapshot, at.now);
                }
                ReplicaRequest::Standing(standing) => passed.standings.push(standing),
                ReplicaRequest::Members(_) | ReplicaRequest::Peers => {}
                ReplicaRequest::Halted(fault) => passed.failure = Some(format!("halted: {fault}")),
            }
        }
        is_asked
    }

    fn read_entries(&mut self, now: Mono, peer: PeerId, from: LogIndex, bytes_max: usize) {
        let wal = self.keeper.wal();
        let mut bytes = 0;
        let mut entries = Vec::new();
        for entry in (from..=wal.last_index(GROUP)).map_while(|index| wal.read(GROUP, index).ok().flatten()) {
            bytes += entry.payload.len();
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(Entry::new(entry.term, entry.payload.into()));
        }
        let index = from - 1;
        let point = wal.term(GROUP, index).zip(wal.chain(GROUP, index));
        let previous = point.map_or_else(LogPoint::default, |(term, chain)| LogPoint { index, term, chain });
        self.group.entries_read(now, peer, previous, entries, &mut self.queue);
    }

    /// Reads and writes of blocks, and checkpoints.
    fn work_on_disk(&mut self, at: Moment, passed: &mut Passed) {
        let mut done: Vec<GroupDone> = Vec::new();
        done.extend(std::mem::take(&mut self.sent.loads).into_iter().map(|job| GroupDone::Loaded(job.run())));
        let writes = self.group.stream_mut().store_mut().take_writes(false);
        done.extend(writes.into_iter().map(|job| GroupDone::Written(job.run())));
        let may_go_on =
            self.mutation == Some(ReplicaMutation::CheckpointsGoOn) || !self.transfers.is_sending();
        let is_worth_it = self.group.since_checkpoint() > CHECKPOINT_BYTES && may_go_on;
        let is_due = is_worth_it || self.asked_for_checkpoint;
        if self.checkpoint.is_none()
            && is_due
            && let Some(job) = self.group.begin_checkpoint()
        {
            self.asked_for_checkpoint = false;
            self.checkpoint = Some((self.random.u32(..4), job));
        }
        match self.checkpoint.take() {
            Some((0, job)) => done.push(GroupDone::Checkpointed(job.run())),
            Some((passes, job)) => self.checkpoint = Some((passes - 1, job)),
            None => {}
        }
        for done in done {
            let is_checkpoint = matches!(done, GroupDone::Checkpointed(_));
            let ticket = self.group.job_done(done, at, &mut self.queue, &mut self.sent);
            passed.checkpoints += u64::from(is_checkpoint && ticket.is_some());
        }
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

    fn collect_frames(
        &mut self,
        now: Mono,
        me: PeerId,
        others: &[PeerId],
        is_beat_due: bool,
        passed: &mut Passed,
    ) {
        let oldest = match self.written {
            Some((_, due)) if due > now => due.since(now),
            _ => Duration::ZERO,
        };
        let mut messages = self.group.outbox().map(|outbox| outbox.take()).unwrap_or_default();
        for peer in others {
            let messages = messages.remove(peer).unwrap_or_default();
            let beat = is_beat_due.then(|| self.liveness.beat_for(now, *peer, oldest));
            if beat.is_some() || !messages.is_empty() {
                let frame = Frame { from: me, boot: self.boot, history: None, beat, messages };
                passed.letters.push((*peer, Letter::Frame(frame.encode().into())));
            }
        }
    }

    /// When it wants the next pass.
    fn wants_pass(&self, now: Mono) -> Mono {
        let has_work = !self.mail.is_empty()
            || !self.calls.is_empty()
            || !self.sent.loads.is_empty()
            || self.checkpoint.is_some()
            || (self.written.is_none() && self.refused.is_none() && !self.queue.batches.is_empty());
        if has_work {
            return now;
        }
        let write = self.written.map(|(_, due)| due);
        let due = [self.group.next_due(), write, self.transfers.next_due()].into_iter().flatten().min();
        due.map_or_else(|| self.liveness.next_timeout(), |due| due.min(self.liveness.next_timeout()))
    }

    /// A client asks something of this server.
    pub(super) fn call(&mut self, call: Call) {
        self.calls.push(call);
    }

    pub(super) fn hand_over(&mut self, to: PeerId, now: Mono) -> bool {
        self.group.transfer(now, to, Duration::from_secs(1), &mut self.queue).is_ok()
    }
}
