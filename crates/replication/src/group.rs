use std::collections::VecDeque;
use std::path::PathBuf;

use linnet_assets::{Admitted, EntryError, Moment, Output, Owner, Publish, Stream, StreamLimits, Waiter};
use linnet_ids::{GroupId, Mono, StreamSeq};
use linnet_jsapi::ApiError;
use linnet_raft::{Opening, Standing};
use linnet_store::{CheckpointJob, CheckpointTaken};
use linnet_wal::HardState;

use crate::floor::{Floor, FloorDone, FloorJob, Raised, Whose};
use crate::job::GroupDone;
use crate::log::{Log, Ticket};
use crate::replica::Replica;
use crate::solo::Solo;
use crate::succession::Succession;

/// Bytes of a group's log that may wait to become durable; beyond it publishes wait.
const IN_FLIGHT_MAX: usize = 16 << 20;

/// Tells those who wait that what they wait for will not be confirmed.
pub(crate) fn answer_all(waiters: Vec<Waiter>, error: &ApiError, out: &mut dyn Output) {
    for token in waiters.into_iter().filter_map(|waiter| waiter.token) {
        out.answer(token, Err(error.clone()));
    }
}

/// A position in a group's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogPosition {
    /// Index of an entry.
    pub index: u64,
    /// Its term.
    pub term: u64,
}

/// A stream and the log that decides what becomes of it: one voter's, or that of several replicas.
pub struct StreamGroup {
    group: GroupId,
    pub(crate) stream: Stream,
    /// Memory streams have no log of their own.
    is_volatile: bool,
    pub(crate) seat: Seat,
    pub(crate) applied: LogPosition,
    /// The term in which the stream leads, among several replicas.
    pub(crate) leads_in: Option<u64>,
    /// What a checkpoint under way will cover.
    covering: Option<LogPosition>,
    /// Files that may be deleted once the ticket is durable.
    obsolete: VecDeque<(Ticket, Vec<PathBuf>)>,
    /// Bytes that came into the log since the last checkpoint began.
    pub(crate) since_checkpoint: u64,
    pub(crate) floor: Floor,
    /// Nothing is applied until then: something is being repaired.
    pub(crate) still_until: Option<Mono>,
    /// Others have what is lost here: it leads when it has that, too.
    pub(crate) leads_once_whole: Option<Standing>,
    /// It takes nothing in and delivers nothing: see [`StreamGroup::hold`].
    pub(crate) is_held: bool,
    /// Sequences up to it are used up: the only voter of the group may have lost messages that had them.
    skip_to: Option<StreamSeq>,
    /// The seat that it takes at its next turn.
    pub(crate) successor: Option<Box<Succession>>,
}

/// How entries become certain.
pub(crate) enum Seat {
    Solo(Solo),
    Replica(Box<Replica>),
}

impl StreamGroup {
    /// A group whose log ends at `last`. Its first entries are written in `term`.
    pub(crate) fn new(group: GroupId, stream: Stream, last: LogPosition, term: u64, floor: Floor) -> Self {
        Self::seated(group, stream, last, Seat::Solo(Solo::new(last.index, term)), floor)
    }

    fn seated(group: GroupId, stream: Stream, applied: LogPosition, seat: Seat, floor: Floor) -> Self {
        Self {
            group,
            is_volatile: stream.store().is_memory(),
            stream,
            seat,
            applied,
            leads_in: None,
            covering: None,
            obsolete: VecDeque::new(),
            since_checkpoint: 0,
            floor,
            still_until: None,
            leads_once_whole: None,
            is_held: false,
            skip_to: None,
            successor: None,
        }
    }

    /// What is applied so far cannot be the end of a checkpoint; the next entry can.
    pub(crate) fn forget_position(&mut self) {
        self.applied = LogPosition::default();
    }

    /// Writes a hard state behind the next entries.
    pub(crate) fn defer_hard_state(&mut self, state: HardState) {
        if let Seat::Solo(solo) = &mut self.seat {
            solo.defer_hard_state(state);
        }
    }

    /// A group that starts with an empty log. Sequences are reserved `floor_step` at a time, and are up to `floor`; 0 if
    /// that is recorded nowhere.
    pub(crate) fn fresh(group: GroupId, stream: Stream, floor_step: StreamSeq, floor: StreamSeq) -> Self {
        let whose = if stream.store().is_memory() { Whose::Volatile } else { Whose::Logged };
        let floor = Floor::new(whose, floor_step, floor);
        Self::new(group, stream, LogPosition::default(), 1, floor)
    }

    /// One replica of several, over a stream that has applied what the opening's base covers.
    /// `owner` is whose it is, if its log does not say so yet.
    pub fn replica(
        opening: Opening,
        mut stream: Stream,
        owner: Option<Owner>,
        now: Mono,
        log: &mut dyn Log,
    ) -> Self {
        stream.become_replica();
        let (group, base) = (opening.group, opening.base);
        let replica = Replica::open(opening, owner, stream.store().is_memory(), now, log);
        let applied = LogPosition { index: base.index, term: base.term };
        Self::seated(group, stream, applied, Seat::Replica(Box::new(replica)), Floor::none())
    }

    /// While it is the only voter it reserves sequences, so many at a time; `found` are reserved on disk. `skip_to` may
    /// have been handed out and lost.
    pub(crate) fn reserving(mut self, step: StreamSeq, found: StreamSeq, skip_to: Option<StreamSeq>) -> Self {
        self.floor = Floor::of_replica(step, found);
        self.skip_to = skip_to;
        self
    }

    /// Who alone counts is the only one that has what it hands out.
    fn follow_voters(&mut self) {
        if let Seat::Replica(replica) = &self.seat {
            self.floor.suspend(self.is_volatile || !replica.is_only_voter());
        }
    }

    /// Leaves out what may have been handed out and lost.
    pub(crate) fn skip_lost(&mut self) {
        if let Some(last) = self.skip_to.take().filter(|last| self.stream.head_seq() < *last) {
            self.stream.skip_lost(last);
        }
    }

    /// Identity.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// The stream.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The stream, to be given input. [`StreamGroup::flush`] afterwards.
    pub fn stream_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// True if publishes may be offered now; otherwise they wait for [`StreamGroup::durable`] or a higher floor.
    fn may_admit(&mut self) -> bool {
        self.follow_voters();
        let head = self.stream.head_seq();
        let has_room = match &self.seat {
            Seat::Solo(solo) => solo.in_flight() < IN_FLIGHT_MAX,
            Seat::Replica(replica) => {
                self.stream.is_leading() && replica.has_room() && replica.in_flight() < IN_FLIGHT_MAX
            }
        };
        let may = !self.is_held && self.stream.is_open() && has_room && self.floor.allows_after(head);
        self.stream.set_room(if may { self.floor.left_after(head) } else { 0 });
        may
    }

    /// Does what is due.
    pub fn on_timer(&mut self, at: Moment, log: &mut dyn Log, out: &mut dyn Output) {
        if let Seat::Replica(replica) = &mut self.seat {
            replica.on_timeout(at.now, log);
        }
        if self.is_held {
            return;
        }
        self.may_admit();
        self.stream.on_timer(at.now, at.wall, out);
    }

    /// Offers publishes until none is left or the log or the floor must catch up first. How many are dealt with, and
    /// whether the next one may follow at once.
    pub fn offer<'a>(
        &mut self,
        publishes: impl Iterator<Item = Publish<'a>>,
        limits: &StreamLimits,
        at: Moment,
        out: &mut dyn Output,
    ) -> (usize, bool) {
        let mut dealt_with = 0;
        if self.stream.has_due_schedules() && self.may_admit() {
            self.stream.fire_schedules(limits, at);
        }
        for publish in publishes {
            if !self.may_admit() {
                return (dealt_with, false);
            }
            let stream = &mut self.stream;
            let admitted = match publish.origin {
                None => stream.admit(&publish, limits, at.wall, out),
                Some(link) => stream.take_over(link, &publish, limits, at.now, at.wall, out),
            };
            if admitted == Admitted::Wait {
                return (dealt_with, false);
            }
            dealt_with += 1;
        }
        (dealt_with, true)
    }

    /// Takes the outcome of a job. The ticket of what it wrote to the log.
    pub fn job_done(
        &mut self,
        done: GroupDone,
        at: Moment,
        log: &mut dyn Log,
        out: &mut dyn Output,
    ) -> Option<Ticket> {
        match done {
            GroupDone::Loaded(done) => self.stream.on_loaded(done, at.now, at.wall, out),
            GroupDone::Written(done) => self.stream.store_mut().written(done),
            GroupDone::Checkpointed(taken) => return self.finish_checkpoint(taken, log),
            GroupDone::FloorRecorded(done) => self.finish_floor(done, at.now),
        }
        None
    }

    /// True if something waits for the log.
    pub fn is_waiting(&self) -> bool {
        let waits = match &self.seat {
            Seat::Solo(solo) => solo.is_waiting(),
            Seat::Replica(replica) => replica.is_waiting(),
        };
        waits || !self.obsolete.is_empty()
    }

    /// Gives to the log what the stream proposes, then lets consumers deliver. The last ticket handed out, if any.
    pub fn flush(
        &mut self,
        at: Moment,
        log: &mut dyn Log,
        out: &mut dyn Output,
    ) -> Result<Option<Ticket>, EntryError> {
        self.succeed(at, log, out);
        let ticket = match &self.seat {
            Seat::Solo(_) if self.is_volatile => {
                self.apply_proposals(at, log, out)?;
                None
            }
            Seat::Solo(_) => self.append_proposals(at, log),
            Seat::Replica(_) => self.replicate(at, log, out)?,
        };
        self.stream.resume_repaired(at, out);
        if !self.is_held {
            self.stream.run_ready(at.now, at.wall, out);
        }
        Ok(ticket)
    }

    /// Applies at once what is proposed in a stream without a log.
    fn apply_proposals(
        &mut self,
        at: Moment,
        log: &mut dyn Log,
        out: &mut dyn Output,
    ) -> Result<(), EntryError> {
        loop {
            let proposals = self.stream.take_proposals(at.now);
            if proposals.is_empty() {
                return Ok(());
            }
            for proposal in proposals {
                log.unlogged(self.group, &proposal.bytes);
                self.stream.apply(&proposal, at, out)?;
            }
            self.stream.run_deferred(at, out);
        }
    }

    fn append_proposals(&mut self, at: Moment, log: &mut dyn Log) -> Option<Ticket> {
        let Seat::Solo(solo) = &mut self.seat else { return None };
        let mut last_ticket = None;
        for proposal in self.stream.take_proposals(at.now) {
            self.since_checkpoint += proposal.bytes.len() as u64;
            last_ticket = Some(solo.append(self.group, proposal, log));
        }
        if last_ticket.is_some() {
            solo.appended(self.group, log);
        }
        last_ticket
    }

    /// Applies what became durable. Files that may be deleted now are returned.
    pub fn durable(
        &mut self,
        ticket: Ticket,
        at: Moment,
        log: &mut dyn Log,
        out: &mut dyn Output,
    ) -> Result<Vec<PathBuf>, EntryError> {
        match &mut self.seat {
            Seat::Solo(solo) => {
                while let Some((applied, proposal)) = solo.next_durable(ticket) {
                    self.stream.apply(&proposal, at, out)?;
                    self.applied = applied;
                }
                self.stream.run_deferred(at, out);
            }
            Seat::Replica(replica) => {
                replica.on_durable(at.now, ticket, log);
                self.advance(at, log, out)?;
            }
        }
        let mut files = Vec::new();
        while let Some((_, paths)) = self.obsolete.pop_front_if(|(t, _)| *t <= ticket) {
            files.extend(paths);
        }
        Ok(self.stream.store_mut().release_files(files))
    }

    /// Files that were kept for readers who are done.
    pub fn take_released(&mut self) -> Vec<PathBuf> {
        let store = self.stream.store_mut();
        if store.holds_files() { store.release_files(Vec::new()) } else { Vec::new() }
    }

    /// The log failed for good: everybody who waits is told, nothing is applied any more.
    pub fn fail(&mut self, error: &ApiError, out: &mut dyn Output) {
        let waiters: Vec<Waiter> = match &mut self.seat {
            Seat::Solo(solo) => solo.give_up().map(|proposal| proposal.waiter).collect(),
            Seat::Replica(replica) => replica.give_up().collect(),
        };
        answer_all(waiters, error, out);
        self.stream.fail_waiting(error, out);
    }

    /// When it wants to be looked at next.
    pub fn next_due(&self) -> Option<Mono> {
        let seat = match &self.seat {
            Seat::Solo(_) => None,
            Seat::Replica(replica) => replica.next_timeout().into_iter().chain(self.still_until).min(),
        };
        if self.is_held {
            return seat;
        }
        let floor = self.floor.next_due().filter(|_| !self.stream.is_deleted());
        self.stream.next_due().into_iter().chain(floor).chain(seat).min()
    }

    /// Bytes given to the log since the last checkpoint began.
    pub fn since_checkpoint(&self) -> u64 {
        self.since_checkpoint
    }

    /// Starts a checkpoint of everything applied, unless one is under way or there is nothing new.
    pub fn begin_checkpoint(&mut self) -> Option<CheckpointJob> {
        if self.covering.is_some() || self.is_volatile || self.applied.index == 0 || !self.may_checkpoint() {
            return None;
        }
        if self.is_held {
            return None;
        }
        let saved = self.stream.saved();
        // Megabytes, where many acknowledgements are awaited: the disk thread has the time for them. Plain data: writing
        // it to memory cannot fail.
        let extra = move || serde_json::to_vec(&saved).expect("stream state serialises");
        let job = self.stream.store_mut().begin_checkpoint_with(extra)?;
        self.covering = Some(self.applied);
        self.since_checkpoint = match &self.seat {
            Seat::Solo(solo) => solo.in_flight() as u64,
            Seat::Replica(replica) => replica.in_flight() as u64,
        };
        Some(job)
    }

    /// Forgets what was under way for a state that another one has replaced, whose files go with `durable_with`.
    pub(crate) fn begin_anew(&mut self, durable_with: Ticket, left: Vec<PathBuf>) {
        self.covering = None;
        self.since_checkpoint = 0;
        self.obsolete.push_back((durable_with, left));
    }

    /// Records a finished checkpoint in the log. The ticket, or `None` if the checkpoint failed.
    fn finish_checkpoint(&mut self, taken: CheckpointTaken, log: &mut dyn Log) -> Option<Ticket> {
        if !self.stream.store().awaits(&taken) {
            return None;
        }
        let covered = self.covering.take()?;
        let (body, files) = self.stream.store_mut().finish_checkpoint(taken)?;
        let body = body.to_bytes();
        let ticket = match &mut self.seat {
            Seat::Solo(_) => log.checkpoint(self.group, covered.index, covered.term, &body),
            Seat::Replica(replica) => replica.checkpoint(replica.saved_at(covered.index)?.last, &body, log),
        };
        self.obsolete.push_back((ticket, files));
        Some(ticket)
    }

    /// Starts recording a higher floor, if messages will need one and none is under way.
    pub fn begin_floor(&mut self, now: Mono) -> Option<FloorJob> {
        if self.stream.is_deleted() || self.is_held {
            None
        } else {
            self.floor.begin(self.stream.head_seq(), now)
        }
    }

    fn finish_floor(&mut self, done: FloorDone, now: Mono) {
        let stream = &self.stream.config().name;
        match self.floor.done(done, now) {
            Raised::Quietly => {}
            Raised::Failing(error) => tracing::warn!(
                "Stream '{stream}' cannot reserve more sequences, for which its messages will wait: {error}"
            ),
            Raised::Again => tracing::info!("Stream '{stream}' can reserve sequences again"),
        }
    }

    /// True if a checkpoint is under way.
    pub(crate) fn is_checkpointing(&self) -> bool {
        self.covering.is_some()
    }

    /// True if nothing is in flight and everything is in the last checkpoint or there never was anything.
    pub fn is_quiet(&self) -> bool {
        let is_idle = match &self.seat {
            Seat::Solo(solo) => !solo.is_waiting() && self.stream.is_idle(),
            // What waits for others may wait for ever.
            Seat::Replica(_) => true,
        };
        is_idle && self.covering.is_none()
    }
}
