//! One life of the server process: the loops of pump, log writer and disk threads, turned one step at a time.
//!
//! What a turn does is production code: [`Turns`] for the pump, [`LogKeeper`] for the log writer, [`GroupJob`] for the
//! disk threads. Which loop turns next is up to the caller.

mod pump;
mod threads;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use linnet_assets::{Command, ConsumerCommand, Link, Moment, RestorePart, Token};
use linnet_env::{Clock, Disk, ManualClock};
use linnet_ids::GroupId;
pub(crate) use linnet_replication::GroupKey;
use linnet_replication::{GroupDone, GroupJob, LogKeeper, StreamGroup, Ticket, Turns, group_dir};
use linnet_store::Layout;
use linnet_wal::{Batch, Error, PrepareSegment, PreparedSegment, Wal};

use crate::flows::{Flow, Waiter};
use crate::log::SimLog;
use crate::mutation::Mutation;
use crate::outbox::Events;
use crate::wire::Wire;
use crate::workload::GROUP;

/// Key of the catalogue's own group.
pub(crate) const META_KEY: GroupKey = 0;
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
    pub(crate) group: StreamGroup,
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
        mut group: StreamGroup,
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
