//! One life of the server process: the loops of pump, log writer and disk threads, turned one step at a time.
//!
//! What a turn does is production code: [`Turns`] for the pump, [`LogKeeper`] for the log writer, [`GroupJob`] for the
//! disk threads. Which loop turns next is up to the caller.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use linnet_assets::{
    Command, ConsumerCommand, EntryError, Link, Moment, Output, Publish, RestorePart, StreamLimits, Token,
};
use linnet_env::{Clock, Disk, ManualClock};
use linnet_ids::{GroupId, Mono};
use linnet_jsapi::errors;
use linnet_jsapi::subjects::AckSubject;
pub(crate) use linnet_replication::GroupKey;
use linnet_replication::{
    GroupDone, GroupJob, Host, Log, LogKeeper, PassMail, SoloGroup, StopReason, Ticket, Touched, Turns,
    Written, group_dir,
};
use linnet_store::Layout;
use linnet_wal::{Batch, Error, PrepareSegment, PreparedSegment, Wal};

use crate::flows::{Flow, Waiter};
use crate::log::SimLog;
use crate::mutation::Mutation;
use crate::outbox::{Event, Events, Outbox};
use crate::wire::Wire;
use crate::workload::GROUP;

/// Key of the catalogue's own group.
pub(crate) const META_KEY: GroupKey = 0;
/// Publishes one group may process before others get their turn.
const TURN_MAX: usize = 8;
/// Unwritten bytes of a stream that are worth handing to a disk thread.
const WRITE_AT: usize = 2 << 10;
/// Bytes of dead files after which a stream is checkpointed to free them.
const RECLAIM_AT: u64 = 16 << 10;
/// Bytes after which a direct get ends.
const READ_MAX: u64 = 1 << 20;
/// Sizes at which a few messages exercise what otherwise takes gigabytes.
pub(crate) fn layout() -> Layout {
    Layout {
        block_max: 4 << 10,
        rows_max: 64,
        extent: 1 << 10,
        squeeze_min: 512,
        read_ahead: 1 << 10,
        read_one: 256,
        cache_extents: 2,
        frame: 512,
    }
}

/// Work for a disk thread.
pub(crate) enum Job {
    Group(GroupJob, GroupKey),
    Remove(Vec<PathBuf>),
    RemoveDir(PathBuf, GroupKey),
    Prepare(Box<PrepareSegment>),
}

/// A message for a stream.
pub(crate) struct PublishIn {
    pub(crate) subject: Vec<u8>,
    pub(crate) reply: Vec<u8>,
    pub(crate) header_len: usize,
    pub(crate) body: Vec<u8>,
    /// It comes from an origin.
    pub(crate) origin: Option<Link>,
}

/// A request to a consumer.
pub(crate) enum Letter {
    Ack {
        subject: Vec<u8>,
        payload: Vec<u8>,
        reply: Vec<u8>,
    },
    Next {
        consumer: String,
        payload: Vec<u8>,
        reply: Vec<u8>,
    },
    Read {
        subject: Option<String>,
        payload: Vec<u8>,
        reply: Vec<u8>,
    },
    /// Somebody listens to the consumer's deliver subject now.
    Interest {
        consumer: String,
    },
    /// The answer to a request for a consumer of an origin.
    OriginAnswer {
        link: Link,
        headers: Vec<u8>,
        payload: Vec<u8>,
    },
    /// The answer to a flow control request of a consumer.
    Flow {
        consumer: String,
        subject: Vec<u8>,
        headers: Vec<u8>,
    },
}

pub(crate) struct Slot {
    pub(crate) group: SoloGroup,
    pub(crate) dir: PathBuf,
    pub(crate) publishes: VecDeque<PublishIn>,
    commands: VecDeque<(Command, Token)>,
    letters: VecDeque<Letter>,
    pub(crate) failed: bool,
    /// The last turn left something that can go on now.
    more: bool,
    /// Told when everything proposed so far is applied.
    installed: Option<u64>,
}

/// How busy the loops were, for the summary.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Work {
    pub(crate) commits: u64,
    pub(crate) refused_space: u64,
    pub(crate) loads: u64,
    pub(crate) floors: u64,
    pub(crate) log_failures: u64,
}

pub(crate) struct Process {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) keeper: LogKeeper,
    pub(crate) log: SimLog,
    pub(crate) jobs: Vec<Job>,
    pub(crate) slots: BTreeMap<GroupKey, Slot>,
    pub(crate) events: Events,
    pub(crate) flows: BTreeMap<u64, Flow>,
    pub(crate) waiters: BTreeMap<Token, Waiter>,
    pub(crate) work: Work,
    pub(crate) deaf: bool,
    /// Deliver subjects to which somebody listens.
    pub(crate) heard: BTreeSet<String>,
    pub(crate) wire: Wire,
    pub(crate) next_meta_index: u64,
    /// The failure that ended the log, in words.
    pub(crate) log_failure: Option<String>,
    /// It was not the disk.
    pub(crate) log_refused: bool,
    /// The last durable batch is not marked durable by a later one. Unlike what the log says of itself, this holds
    /// after the log has stopped, too.
    pub(crate) is_unsealed: bool,
    pub(crate) mutation: Option<Mutation>,
    /// Unique ids given out, which go on where the last life ended.
    pub(crate) ids: u64,
    next_key: GroupKey,
    next_flow: u64,
    next_token: Token,
    turns: Turns,
    stuck: Option<(Ticket, Batch)>,
    prepared: Option<Result<Option<PreparedSegment>, Error>>,
    // Mail of the pump.
    done: Vec<(GroupKey, GroupDone)>,
    durable: Ticket,
    checkpoints: Vec<GroupId>,
    failure_mail: Option<Error>,
    ready: BTreeSet<GroupKey>,
}

impl Process {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        clock: Arc<ManualClock>,
        wal: Wal,
        log: SimLog,
        mutation: Option<Mutation>,
    ) -> Self {
        Self {
            disk,
            dir,
            clock,
            keeper: LogKeeper::new(wal),
            events: log.events.clone(),
            log,
            jobs: Vec::new(),
            slots: BTreeMap::new(),
            flows: BTreeMap::new(),
            waiters: BTreeMap::new(),
            work: Work::default(),
            deaf: false,
            heard: BTreeSet::new(),
            wire: Wire::default(),
            next_meta_index: 1,
            log_failure: None,
            log_refused: false,
            is_unsealed: true,
            mutation,
            ids: 0,
            next_key: META_KEY + 1,
            next_flow: 1,
            next_token: 1,
            turns: Turns::default(),
            stuck: None,
            prepared: None,
            done: Vec::new(),
            durable: 0,
            checkpoints: Vec::new(),
            failure_mail: None,
            ready: BTreeSet::new(),
        }
    }

    pub(crate) fn at(&self) -> Moment {
        Moment { now: self.clock.mono(), wall: self.clock.wall(), live: true }
    }

    pub(crate) fn next_flow(&mut self) -> u64 {
        self.next_flow += 1;
        self.next_flow - 1
    }

    /// A new token whose answer goes to `waiter`.
    pub(crate) fn expect(&mut self, waiter: Waiter) -> Token {
        let token = self.next_token;
        self.next_token += 1;
        self.waiters.insert(token, waiter);
        token
    }

    pub(crate) fn install(
        &mut self,
        key: Option<GroupKey>,
        mut group: SoloGroup,
        flow: Option<u64>,
    ) -> GroupKey {
        let key = key.unwrap_or_else(|| {
            self.next_key += 1;
            self.next_key - 1
        });
        // The configuration shapes blocks, so every turn makes them small again.
        group.stream_mut().store_mut().set_layout(layout());
        let slot = Slot {
            dir: group_dir(&self.dir, group.group()),
            group,
            publishes: VecDeque::new(),
            commands: VecDeque::new(),
            letters: VecDeque::new(),
            failed: false,
            more: false,
            installed: flow,
        };
        self.slots.insert(key, slot);
        self.ready.insert(key);
        key
    }

    pub(crate) fn remove(&mut self, key: GroupKey) {
        if let Some(slot) = self.slots.remove(&key) {
            self.jobs.push(Job::RemoveDir(slot.dir, key));
        }
    }

    // What clients and the catalogue send.

    pub(crate) fn publish(&mut self, key: GroupKey, publish: PublishIn) {
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.publishes.push_back(publish);
            self.ready.insert(key);
        }
    }

    pub(crate) fn command(&mut self, key: GroupKey, mut command: Command, token: Token) {
        if self.mutation == Some(Mutation::LoseRestored)
            && let Command::Restore(RestorePart::Messages(bytes)) = &mut command
        {
            bytes.truncate(1);
        }
        if self.mutation == Some(Mutation::IgnorePauses)
            && let Command::Consumer(ConsumerCommand::Pause { until, .. }) = &mut command
        {
            *until = None;
        }
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.commands.push_back((command, token));
            self.ready.insert(key);
        }
    }

    pub(crate) fn letter(&mut self, key: GroupKey, mut letter: Letter) {
        if let Some(mutation) = self.mutation {
            mutation.spoil_letter(&mut letter);
        }
        if self.mutation == Some(Mutation::LosePins)
            && let Letter::Next { consumer, .. } = &letter
        {
            let command = ConsumerCommand::Unpin { consumer: consumer.clone(), group: GROUP.to_owned() };
            let token = self.expect(Waiter::Client);
            self.command(key, Command::Consumer(command), token);
        }
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.letters.push_back(letter);
            self.ready.insert(key);
        }
    }

    // The pump.

    /// True if a pass of the pump would do something now.
    pub(crate) fn pump_has_work(&self) -> bool {
        let now = self.clock.mono();
        !self.ready.is_empty()
            || !self.done.is_empty()
            || self.durable > self.turns.applied()
            || self.failure_mail.is_some()
            || !self.checkpoints.is_empty()
            || self.turns.next_due().is_some_and(|due| due <= now)
    }

    /// One pass of the pump's loop.
    pub(crate) fn pump(&mut self) {
        let at = self.at();
        let mail = PassMail {
            failure: self.failure_mail.take().map(errors::stream_store_failed),
            done: std::mem::take(&mut self.done),
            durable: self.durable,
            checkpoints: std::mem::take(&mut self.checkpoints),
            ready: std::mem::take(&mut self.ready).into_iter().collect(),
        };
        let mut turns = std::mem::take(&mut self.turns);
        turns.pass(self, mail, at, Touched::default());
        self.turns = turns;
    }

    fn with_slot<R>(
        &mut self,
        key: GroupKey,
        act: impl FnOnce(&mut Slot, &mut Outbox<'_>, &mut SimLog) -> R,
    ) -> Option<R> {
        let (deaf, mutation, ids) = (self.deaf, self.mutation, &mut self.ids);
        let slot = self.slots.get_mut(&key).filter(|s| !s.failed)?;
        let group = slot.group.group();
        let mut outbox = Outbox {
            events: &self.events,
            jobs: &mut self.jobs,
            group,
            key,
            deaf,
            heard: &self.heard,
            wire: &mut self.wire,
            mutation,
            ids,
        };
        Some(act(slot, &mut outbox, &mut self.log))
    }

    fn disk_chores(&mut self, key: GroupKey) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        let store = slot.group.stream_mut().store_mut();
        if store.unwritten() >= WRITE_AT {
            for job in store.take_writes(false) {
                self.jobs.push(Job::Group(GroupJob::Write(job, slot.dir.clone()), key));
            }
        }
        if store.obsolete_bytes() > RECLAIM_AT.max(store.state().bytes / 2) {
            self.checkpoint(key);
        }
    }

    fn refuse_mail(&mut self, key: GroupKey) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        let group = slot.group.group();
        for (_, token) in slot.commands.drain(..) {
            let answer = Box::new(Err(errors::STREAM_OFFLINE));
            self.events.borrow_mut().push(Event::Answered { token, answer });
        }
        for publish in slot.publishes.drain(..).filter(|p| !p.reply.is_empty()) {
            let mut body = Vec::new();
            let name = &slot.group.stream().config().name;
            linnet_jsapi::write_pub_error(&errors::STREAM_OFFLINE, name, &mut body);
            let (to, shown, reply) = (publish.reply, Vec::new(), Vec::new());
            self.events.borrow_mut().push(Event::Sent { group, to, shown, reply, header_len: 0, body });
        }
        slot.letters.clear();
    }

    // The log writer.

    /// True if the writer has something to write.
    pub(crate) fn writer_has_work(&self) -> bool {
        self.log_failure.is_none()
            && (self.prepared.is_some() || self.stuck.is_some() || !self.log.is_empty())
    }

    /// True if the newest batch waits for its seal.
    pub(crate) fn wants_seal(&self) -> bool {
        self.log_failure.is_none() && !self.writer_has_work() && self.keeper.wal().needs_seal()
    }

    /// One round of the writer's loop.
    pub(crate) fn write_log(&mut self) {
        if self.log_failure.is_some() {
            return;
        }
        self.take_prepared();
        let Some((ticket, mut batch)) = self.stuck.take().or_else(|| self.log.take()) else { return };
        let now = self.clock.mono();
        let urgent_waits = self.log.has_urgent();
        let Self { keeper, slots, checkpoints, .. } = self;
        match keeper.write(&mut batch, urgent_waits, now, &mut |group| ask(slots, checkpoints, group)) {
            Written::Durable => {
                self.work.commits += 1;
                self.is_unsealed = keeper.wal().needs_seal();
                self.durable = self.durable.max(ticket);
            }
            Written::NoSpace(_) => {
                self.work.refused_space += 1;
                self.stuck = Some((ticket, batch));
            }
            Written::Failed(error) => {
                self.fail_log(error);
                return;
            }
        }
        self.maintain();
    }

    pub(crate) fn seal(&mut self) {
        self.take_prepared();
        let now = self.clock.mono();
        let Self { keeper, slots, checkpoints, .. } = self;
        match keeper.seal(now, &mut |group| ask(slots, checkpoints, group)) {
            Written::Durable => self.is_unsealed = keeper.wal().needs_seal(),
            Written::NoSpace(_) => {}
            Written::Failed(error) => self.fail_log(error),
        }
    }

    fn fail_log(&mut self, error: Error) {
        self.work.log_failures += 1;
        self.log_failure = Some(error.to_string());
        self.log_refused = matches!(error, Error::Refused { .. } | Error::TooLarge { .. } | Error::Config);
        self.failure_mail = Some(error);
    }

    fn take_prepared(&mut self) {
        if let Some(outcome) = self.prepared.take() {
            self.keeper.prepared(outcome, self.clock.mono());
        }
    }

    pub(crate) fn maintain(&mut self) {
        let now = self.clock.mono();
        let Self { keeper, slots, checkpoints, .. } = self;
        let upkeep = keeper.maintain(now, &mut |group| ask(slots, checkpoints, group));
        self.is_unsealed |= keeper.wal().needs_seal();
        if let Some(job) = upkeep.prepare {
            self.jobs.push(Job::Prepare(Box::new(job)));
        }
    }

    // The disk threads.

    /// The job itself, or one that goes before it: a directory is not removed before the jobs that write to it.
    fn before_removal(&self, at: usize) -> usize {
        let Some(Job::RemoveDir(_, removed)) = self.jobs.get(at) else { return at };
        let writes = |job: &Job| matches!(job, Job::Group(job, key) if key == removed && !matches!(job, GroupJob::Load(_)));
        self.jobs.iter().take(at).position(writes).unwrap_or(at)
    }

    /// Runs the job at a place of the queue, if there is one.
    pub(crate) fn run_job(&mut self, at: usize) {
        if at >= self.jobs.len() {
            return;
        }
        match self.jobs.remove(self.before_removal(at)) {
            Job::Group(job, key) => {
                self.work.loads += u64::from(matches!(job, GroupJob::Load(_)));
                self.work.floors += u64::from(matches!(job, GroupJob::Floor(..)));
                self.done.push((key, job.run(&*self.disk)));
            }
            Job::Remove(paths) => {
                for path in paths {
                    let _ = self.disk.remove_file(&path);
                }
            }
            Job::RemoveDir(dir, _) => {
                let _ = self.disk.remove_dir_all(&dir);
            }
            Job::Prepare(job) => self.prepared = Some(job.run()),
        }
    }

    /// True if the writer waits for space: only time and checkpoints help.
    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck.is_some()
    }

    /// True if nothing is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.jobs.is_empty()
            && self.wire.parcels.is_empty()
            && !self.pump_has_work()
            && !self.writer_has_work()
            && (self.log_failure.is_some() || self.turns.is_quiet())
    }
}

impl Host for Process {
    fn with<R>(
        &mut self,
        key: GroupKey,
        act: impl FnOnce(&mut SoloGroup, &mut dyn Output, &mut dyn Log) -> R,
    ) -> Option<R> {
        self.with_slot(key, |slot, out, log| act(&mut slot.group, out, log))
    }

    fn keys(&self) -> Vec<GroupKey> {
        self.slots.keys().copied().collect()
    }

    fn key_of(&self, group: GroupId) -> Option<GroupKey> {
        self.slots.iter().find(|(_, s)| s.group.group() == group).map(|(key, _)| *key)
    }

    fn turn(&mut self, key: GroupKey, at: Moment) -> Option<Result<Option<Ticket>, EntryError>> {
        let flushed = self.with_slot(key, |slot, out, log| {
            slot.more = read_mail(slot, at, out);
            slot.group.flush(at, log, out)
        });
        if flushed.is_none() {
            self.refuse_mail(key);
        }
        flushed
    }

    fn turned(&mut self, key: GroupKey) -> Option<Mono> {
        if self.mutation == Some(Mutation::AckBeforeCommit) {
            self.durable = self.log.last_ticket();
        }
        let slot = self.slots.get_mut(&key)?;
        if !slot.group.is_waiting()
            && let Some(flow) = slot.installed.take()
        {
            self.flow_installed(flow);
        }
        let slot = self.slots.get_mut(&key)?;
        let due = slot.group.next_due();
        slot.group.stream_mut().store_mut().set_layout(layout());
        if std::mem::take(&mut slot.more) {
            self.ready.insert(key);
        }
        self.disk_chores(key);
        due
    }

    fn checkpoint(&mut self, key: GroupKey) {
        if let Some(slot) = self.slots.get_mut(&key).filter(|s| !s.failed)
            && let Some(job) = slot.group.begin_checkpoint()
        {
            let job = GroupJob::Checkpoint(Box::new(job), slot.dir.clone());
            self.jobs.push(Job::Group(job, key));
        }
    }

    fn applying(&mut self, key: GroupKey, ticket: Ticket) {
        if let Some(slot) = self.slots.get(&key).filter(|s| !s.failed) {
            self.events.borrow_mut().push(Event::Applying { group: slot.group.group(), ticket });
        }
    }

    fn raise_floor(&mut self, key: GroupKey, now: Mono) {
        if let Some(slot) = self.slots.get_mut(&key).filter(|s| !s.failed)
            && let Some(job) = slot.group.begin_floor(now)
        {
            self.jobs.push(Job::Group(GroupJob::Floor(job, slot.dir.clone()), key));
        }
    }

    fn remove_files(&mut self, files: Vec<PathBuf>) {
        self.jobs.push(Job::Remove(files));
    }

    fn stop(&mut self, key: GroupKey, why: StopReason<'_>) {
        if let StopReason::Entry(error) = why {
            panic!("an entry of the server's own cannot be applied: {error}");
        }
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.failed = true;
        }
    }
}

/// Asks a group for a checkpoint, if it runs.
fn ask(slots: &BTreeMap<GroupKey, Slot>, checkpoints: &mut Vec<GroupId>, group: GroupId) -> bool {
    let runs = slots.values().any(|slot| slot.group.group() == group);
    if runs {
        checkpoints.push(group);
    }
    runs
}

/// Gives the stream what is in its inbox. True if something is left that can go on now.
fn read_mail(slot: &mut Slot, at: Moment, out: &mut Outbox<'_>) -> bool {
    for (command, token) in slot.commands.drain(..) {
        slot.group.stream_mut().command(command, token, at, out);
    }
    for letter in slot.letters.drain(..) {
        let stream = slot.group.stream_mut();
        match letter {
            Letter::Ack { subject, payload, reply } => {
                if let Some(ack) = AckSubject::parse(&subject) {
                    stream.on_ack(&ack, &payload, &reply, at.now, at.wall, out);
                }
            }
            Letter::Next { consumer, payload, reply } => {
                stream.on_next_request(&consumer, &reply, &payload, at.now, at.wall, out);
            }
            Letter::Interest { consumer } => stream.on_interest(&consumer, at.now, at.wall, out),
            Letter::OriginAnswer { link, headers, payload } => {
                stream.on_origin_answer(link, &headers, &payload, at.now, at.wall, out);
            }
            Letter::Flow { consumer, subject, headers } => {
                stream.on_flow_answer(&consumer, &subject, &headers, at.now, at.wall, out);
            }
            Letter::Read { subject, payload, reply } => {
                stream.direct_get(subject.as_deref(), &payload, &reply, READ_MAX, out);
            }
        }
    }
    let publishes = slot.publishes.iter().take(TURN_MAX).map(|letter| Publish {
        subject: &letter.subject,
        reply: &letter.reply,
        header_len: letter.header_len,
        body: &letter.body,
        origin: letter.origin,
    });
    let (dealt_with, may_go_on) = slot.group.offer(publishes, &StreamLimits::default(), at, out);
    slot.publishes.drain(..dealt_with);
    may_go_on && !slot.publishes.is_empty()
}
