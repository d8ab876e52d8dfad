use std::collections::VecDeque;
use std::path::PathBuf;

use linnet_assets::{Admitted, EntryError, Moment, Output, Proposal, Publish, Stream, StreamLimits};
use linnet_ids::{GroupId, Mono, StreamSeq};
use linnet_jsapi::ApiError;
use linnet_store::{CheckpointJob, CheckpointTaken};
use linnet_wal::HardState;

use crate::floor::{Floor, FloorDone, FloorJob, Raised, Whose};
use crate::job::GroupDone;
use crate::log::{Log, Ticket};

/// Bytes of a group's log that may wait to become durable; beyond it publishes wait.
const IN_FLIGHT_MAX: usize = 16 << 20;

/// A position in a group's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogPosition {
    /// Index of an entry.
    pub index: u64,
    /// Its term.
    pub term: u64,
}

/// A stream with one voter and its log.
pub struct SoloGroup {
    group: GroupId,
    stream: Stream,
    /// Memory streams have no log.
    is_volatile: bool,
    term: u64,
    /// The last entry given to the log.
    last: u64,
    applied: LogPosition,
    unapplied: VecDeque<Unapplied>,
    in_flight: usize,
    /// What a checkpoint under way will cover.
    covering: Option<LogPosition>,
    /// Files that may be deleted once the ticket is durable.
    obsolete: VecDeque<(Ticket, Vec<PathBuf>)>,
    /// Bytes given to the log since the last checkpoint began.
    since_checkpoint: u64,
    /// To be written behind the next entries.
    deferred_state: Option<HardState>,
    floor: Floor,
}

struct Unapplied {
    ticket: Ticket,
    index: u64,
    proposal: Proposal,
}

impl SoloGroup {
    /// A group whose log ends at `last`. Its first entries are written in `term`.
    pub(crate) fn new(group: GroupId, stream: Stream, last: LogPosition, term: u64, floor: Floor) -> Self {
        Self {
            group,
            is_volatile: stream.store().is_memory(),
            stream,
            term,
            last: last.index,
            applied: last,
            unapplied: VecDeque::new(),
            in_flight: 0,
            covering: None,
            obsolete: VecDeque::new(),
            since_checkpoint: 0,
            deferred_state: None,
            floor,
        }
    }

    /// What is applied so far cannot be the end of a checkpoint; the next entry can.
    pub(crate) fn forget_position(&mut self) {
        self.applied = LogPosition::default();
    }

    /// Writes a hard state behind the next entries.
    pub(crate) fn defer_hard_state(&mut self, state: HardState) {
        self.deferred_state = Some(state);
    }

    /// A group that starts with an empty log. Sequences are reserved `floor_step` at a time, and are up to `floor`; 0 if
    /// that is recorded nowhere.
    pub(crate) fn fresh(group: GroupId, stream: Stream, floor_step: StreamSeq, floor: StreamSeq) -> Self {
        let whose = if stream.store().is_memory() { Whose::Volatile } else { Whose::Logged };
        let floor = Floor::new(whose, floor_step, floor);
        Self::new(group, stream, LogPosition::default(), 1, floor)
    }

    /// Identity.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// The stream.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The stream, to be given input. [`SoloGroup::flush`] afterwards.
    pub fn stream_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// True if publishes may be offered now; otherwise they wait for [`SoloGroup::durable`] or a higher floor.
    fn may_admit(&mut self) -> bool {
        let head = self.stream.head_seq();
        let may = self.stream.is_open() && self.in_flight < IN_FLIGHT_MAX && self.floor.allows_after(head);
        self.stream.set_room(if may { self.floor.left_after(head) } else { 0 });
        may
    }

    /// Does what is due.
    pub fn on_timer(&mut self, at: Moment, out: &mut dyn Output) {
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
        !self.unapplied.is_empty() || !self.obsolete.is_empty()
    }

    /// Gives to the log what the stream proposes, then lets consumers deliver. The last ticket handed out, if any.
    pub fn flush(
        &mut self,
        at: Moment,
        log: &mut dyn Log,
        out: &mut dyn Output,
    ) -> Result<Option<Ticket>, EntryError> {
        let mut last_ticket = None;
        loop {
            let proposals = self.stream.take_proposals(at.now);
            if proposals.is_empty() {
                break;
            }
            for proposal in proposals {
                if self.is_volatile {
                    log.unlogged(self.group, &proposal.bytes);
                    self.stream.apply(&proposal, at, out)?;
                    continue;
                }
                self.last += 1;
                let ticket = log.append(self.group, self.last, self.term, &proposal.bytes);
                self.in_flight += proposal.bytes.len();
                self.since_checkpoint += proposal.bytes.len() as u64;
                self.unapplied.push_back(Unapplied { ticket, index: self.last, proposal });
                last_ticket = Some(ticket);
            }
            if !self.is_volatile {
                break;
            }
            self.stream.run_deferred(at, out);
        }
        if last_ticket.is_some()
            && let Some(state) = self.deferred_state.take()
        {
            log.hard_state(self.group, &state);
        }
        self.stream.run_ready(at.now, at.wall, out);
        Ok(last_ticket)
    }

    /// Applies what became durable. Files that may be deleted now are returned.
    pub fn durable(
        &mut self,
        ticket: Ticket,
        at: Moment,
        out: &mut dyn Output,
    ) -> Result<Vec<PathBuf>, EntryError> {
        while let Some(first) = self.unapplied.front().filter(|u| u.ticket <= ticket) {
            self.in_flight -= first.proposal.bytes.len();
            let applied = LogPosition { index: first.index, term: self.term };
            self.stream.apply(&first.proposal, at, out)?;
            self.applied = applied;
            self.unapplied.pop_front();
        }
        self.stream.run_deferred(at, out);
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
        for unapplied in self.unapplied.drain(..) {
            if let Some(token) = unapplied.proposal.token {
                out.answer(token, Err(error.clone()));
            }
        }
        self.stream.fail_waiting(error, out);
    }

    /// When it wants to be looked at next.
    pub fn next_due(&self) -> Option<Mono> {
        let floor = self.floor.next_due().filter(|_| !self.stream.is_deleted());
        self.stream.next_due().into_iter().chain(floor).min()
    }

    /// Bytes given to the log since the last checkpoint began.
    pub fn since_checkpoint(&self) -> u64 {
        self.since_checkpoint
    }

    /// Starts a checkpoint of everything applied, unless one is under way or there is nothing new.
    pub fn begin_checkpoint(&mut self) -> Option<CheckpointJob> {
        if self.covering.is_some() || self.is_volatile || self.applied.index == 0 {
            return None;
        }
        let saved = self.stream.saved();
        // Megabytes, where many acknowledgements are awaited: the disk thread has the time for them. Plain data: writing
        // it to memory cannot fail.
        let extra = move || serde_json::to_vec(&saved).expect("stream state serialises");
        let job = self.stream.store_mut().begin_checkpoint_with(extra)?;
        self.covering = Some(self.applied);
        self.since_checkpoint = self.in_flight as u64;
        Some(job)
    }

    /// Records a finished checkpoint in the log. The ticket, or `None` if the checkpoint failed.
    fn finish_checkpoint(&mut self, taken: CheckpointTaken, log: &mut dyn Log) -> Option<Ticket> {
        let covered = self.covering.take()?;
        let (body, files) = self.stream.store_mut().finish_checkpoint(taken)?;
        let ticket = log.checkpoint(self.group, covered.index, covered.term, &body.to_bytes());
        self.obsolete.push_back((ticket, files));
        Some(ticket)
    }

    /// Starts recording a higher floor, if messages will need one and none is under way.
    pub fn begin_floor(&mut self, now: Mono) -> Option<FloorJob> {
        if self.stream.is_deleted() { None } else { self.floor.begin(self.stream.head_seq(), now) }
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

    /// True if nothing is in flight and everything is in the last checkpoint or there never was anything.
    pub fn is_quiet(&self) -> bool {
        self.unapplied.is_empty() && self.covering.is_none() && self.stream.is_idle()
    }
}
