//! One consumer of a stream: what it delivered, to whom it owes what, when something is due.
//!
//! [`ConsumerState`] is what survives; every change of it is an operation that goes into the stream's log.
//! [`Consumer`] adds what the leader keeps in memory: waiting requests, timers, the redelivery queue.

mod ack;
mod committed;
mod delivery;
mod newest;
mod ops;
mod pacing;
mod priority;
mod pull;
mod push;
mod rate;
mod removal;
mod replay;
mod reset;
mod sampling;
mod state;
mod timers;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use linnet_ids::{Mono, StreamSeq, Wall};
use linnet_jsapi::info::{ConsumerInfo, SequenceInfo};
use linnet_jsapi::policies::{AckPolicy, DeliverPolicy, PriorityPolicy, ReplayPolicy};
use linnet_jsapi::{ConsumerConfig, Nanos};
use linnet_store::{Filter, StreamStore};

use crate::output::Output;

use priority::Pin;
use rate::Rate;
use replay::Replay;

pub use newest::NewestFirst;
pub(crate) use newest::newest_per_subject;
pub use ops::ConsumerOp;
pub(crate) use ops::push_op;
pub use pull::PullRequest;
pub(crate) use push::Push;
pub use state::{ConsumerState, Floor, Pending};

/// What a consumer works with during one step.
pub(crate) struct Context<'a> {
    pub(crate) stream: &'a str,
    pub(crate) store: &'a mut StreamStore,
    pub(crate) out: &'a mut dyn Output,
    pub(crate) now: Mono,
    pub(crate) wall: Wall,
}

/// A consumer on the server that leads its stream.
pub struct Consumer {
    pub(crate) name: String,
    pub(crate) config: ConsumerConfig,
    pub(crate) created: Wall,
    pub(crate) state: ConsumerState,
    /// What of `state` is durable, if the stream's retention goes by it.
    committed: Option<Box<ConsumerState>>,
    pub(crate) filter: Filter,
    /// The next sequence to look at for a new message.
    next: StreamSeq,
    /// Messages to deliver before `next`: the newest of each subject when the consumer was created.
    backlog: VecDeque<StreamSeq>,
    /// Wanted messages not delivered yet: those in the backlog and those at or after `next`.
    num_pending: u64,
    /// The last message counted in, so that a message that matches two filters counts once.
    counted: StreamSeq,
    /// Pending messages to deliver again, in this order.
    redeliver: VecDeque<StreamSeq>,
    /// When pending messages are due for redelivery. Entries may be outdated: `deadline_of` decides.
    deadlines: BinaryHeap<Reverse<(Mono, StreamSeq)>>,
    deadline_of: std::collections::HashMap<StreamSeq, Mono, foldhash::fast::RandomState>,
    /// The latest deadline ever set.
    latest_deadline: Mono,
    waiting: VecDeque<PullRequest>,
    /// The client that gets everything, if the consumer pins one.
    pin: Option<Pin>,
    push: Option<Push>,
    rate: Option<Rate>,
    replay: Option<Replay>,
    /// Operations that are not in the log yet.
    ops: Vec<ConsumerOp>,
    /// Reply subjects of acknowledgements that ask for confirmation, not in the log yet.
    confirmations: Vec<Vec<u8>>,
    last_activity: Mono,
    /// When its pause ends.
    resume_at: Option<Mono>,
    /// When its timer last ran.
    polled: Mono,
    /// The message that is being read from disk for this consumer.
    loading: Option<StreamSeq>,
    /// One that replaces it is on its way to the log: nothing that it did from here on would be told from what that
    /// one did.
    pub(crate) is_replaced: bool,
    /// It has more to deliver than fit into its turn.
    pub(crate) wants_turn: bool,
    /// It is on the stream's list of consumers to run.
    pub(crate) is_ready: bool,
    /// When the stream has it on its timer list.
    pub(crate) timer: Option<Mono>,
    scratch: Vec<u8>,
    body: Vec<u8>,
}

impl Consumer {
    /// A consumer with the given state. `now` starts its inactivity timer; [`Consumer::await_pending`] those of what is
    /// pending.
    pub(crate) fn new(
        name: String,
        config: ConsumerConfig,
        created: Wall,
        state: ConsumerState,
        store: &StreamStore,
        now: Mono,
    ) -> Self {
        let filter = Filter::new(config.filters());
        let push = Push::of(&config);
        let is_original = config.replay_policy == ReplayPolicy::Original;
        let mut consumer = Self {
            name,
            config,
            created,
            next: state.delivered.stream + 1,
            state,
            committed: None,
            filter,
            backlog: VecDeque::new(),
            num_pending: 0,
            counted: store.state().last_seq,
            redeliver: VecDeque::new(),
            deadlines: BinaryHeap::new(),
            deadline_of: std::collections::HashMap::default(),
            latest_deadline: Mono::default(),
            waiting: VecDeque::new(),
            pin: None,
            push,
            rate: None,
            replay: is_original.then(|| Replay::until(store.state().last_seq)),
            ops: Vec::new(),
            confirmations: Vec::new(),
            last_activity: now,
            resume_at: None,
            polled: now,
            loading: None,
            is_replaced: false,
            wants_turn: false,
            is_ready: false,
            timer: None,
            scratch: Vec::new(),
            body: Vec::new(),
        };
        consumer.restore_backlog(store);
        consumer.recount(store);
        consumer
    }

    /// Finds again what a consumer that delivers the newest of each subject first still owes.
    fn restore_backlog(&mut self, store: &StreamStore) {
        if self.config.deliver_policy != DeliverPolicy::LastPerSubject {
            return;
        }
        let has_delivered = self.state.delivered.consumer > 0;
        if self.state.newest.is_none() && has_delivered {
            return;
        }
        let newest = self.state.newest.get_or_insert_with(|| NewestFirst::up_to(store.state().last_seq));
        let after = if has_delivered { self.state.delivered.stream } else { 0 };
        self.backlog = newest.owed(store, &self.filter, after);
        self.next = self.next.max(newest.until + 1);
        if let Some(first) = self.backlog.front()
            && !has_delivered
        {
            self.state.start_at(*first);
        }
    }

    /// The configuration changes; position and pending messages stay. True if it wants other subjects now.
    pub(crate) fn reconfigure(
        &mut self,
        config: ConsumerConfig,
        store: &StreamStore,
        now: Mono,
        wall: Wall,
    ) -> bool {
        let filter = Filter::new(config.filters());
        let receiver =
            |config: &ConsumerConfig| (config.deliver_subject.clone(), config.deliver_group.clone());
        if receiver(&config) != receiver(&self.config) {
            self.push = Push::of(&config);
        }
        let waits = |config: &ConsumerConfig| (config.ack_wait, config.backoff.clone());
        let waits_otherwise = waits(&config) != waits(&self.config);
        let receiver_moved = config.deliver_subject != self.config.deliver_subject;
        self.config = config;
        if waits_otherwise {
            self.reschedule(now, wall);
        }
        if receiver_moved {
            // Who listened before may be gone with what it had (jetstream, "Consumer create and update").
            self.redeliver_all();
        }
        if self.config.priority_policy != PriorityPolicy::PinnedClient {
            self.pin = None;
        }
        let wants_others = filter != self.filter;
        if wants_others {
            self.filter = filter;
            self.restore_backlog(store);
            self.recount(store);
        }
        wants_others
    }

    /// Limits how fast it delivers, as its configuration says; messages have at most this many bytes.
    pub(crate) fn limit_rate(&mut self, max_msg_size: i32) {
        self.rate = Rate::new(self.config.rate_limit_bps, max_msg_size);
    }

    /// Counts what is left to deliver from scratch.
    pub(crate) fn recount(&mut self, store: &StreamStore) {
        self.backlog.retain(|seq| store.contains(*seq));
        self.num_pending = self.backlog.len() as u64 + store.count(self.next, &self.filter);
        self.counted = store.state().last_seq;
    }

    /// Name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Configuration.
    pub fn config(&self) -> &ConsumerConfig {
        &self.config
    }

    /// True if it delivers to a fixed subject.
    pub fn is_push(&self) -> bool {
        self.push.is_some()
    }

    /// A wanted message was stored.
    pub(crate) fn on_stored(&mut self, seq: StreamSeq) {
        if seq >= self.next && seq > self.counted {
            self.counted = seq;
            self.num_pending += 1;
        }
    }

    /// True if running it now may deliver something.
    pub(crate) fn is_hungry(&self) -> bool {
        self.loading.is_none() && (!self.waiting.is_empty() || self.push.is_some())
    }

    /// A part of a block that was asked for is in memory, or will not come.
    /// True if it waited for this one: what was read for others leaves its own job under way.
    pub(crate) fn on_loaded(&mut self, seq: StreamSeq) -> bool {
        self.loading.take_if(|awaited| *awaited == seq).is_some()
    }

    /// True if a message that is not acknowledged is delivered again in time. Answers to flow control come in order:
    /// whoever misses something begins anew.
    fn redelivers(&self) -> bool {
        !matches!(self.config.ack_policy, AckPolicy::None | AckPolicy::FlowControl)
    }

    fn max_deliver(&self) -> Option<u64> {
        u64::try_from(self.config.max_deliver).ok().filter(|n| *n > 0)
    }

    fn max_ack_pending(&self) -> Option<usize> {
        if self.config.ack_policy == AckPolicy::None {
            return None;
        }
        usize::try_from(self.config.max_ack_pending).ok().filter(|n| *n > 0)
    }

    fn record(&mut self, op: ConsumerOp) {
        // The log does not know a direct consumer.
        if self.config.direct || self.is_replaced {
            return;
        }
        push_op(&mut self.ops, op);
    }

    /// Applies operations from the log to the state alone; [`Consumer::new`] starts from it afterwards.
    pub(crate) fn replay(&mut self, ops: &[ConsumerOp]) {
        for op in ops {
            self.state.apply(op, self.config.ack_policy);
        }
    }

    /// True if changes wait to be written to the log.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.ops.is_empty() || !self.confirmations.is_empty()
    }

    /// True if a client waits for changes to be written.
    pub(crate) fn has_confirmations(&self) -> bool {
        !self.confirmations.is_empty()
    }

    /// Takes the changes since the last call and whom to tell once they are durable.
    pub(crate) fn take_delta(&mut self) -> (Vec<ConsumerOp>, Vec<Vec<u8>>) {
        (std::mem::take(&mut self.ops), std::mem::take(&mut self.confirmations))
    }

    /// What the API tells.
    pub fn info(&self, stream: &str, bound: bool, wall: Wall) -> ConsumerInfo {
        let redelivered = if self.config.max_deliver == 1 { 0 } else { self.state.redelivered() };
        let sequence = |floor: Floor, last: Option<i64>| SequenceInfo {
            consumer_seq: floor.consumer,
            stream_seq: floor.stream,
            last_active: last.map(Wall),
        };
        let pause_remaining =
            self.config.pause_until.map_or(Nanos::ZERO, |until| Nanos((until.0 - wall.0).max(0)));
        ConsumerInfo {
            stream: stream.to_owned(),
            name: self.name.clone(),
            created: self.created,
            config: Some(self.config.clone()),
            delivered: sequence(self.state.delivered, self.state.last_delivered),
            ack_floor: sequence(self.state.ack_floor, self.state.last_acked),
            num_ack_pending: self.state.pending.len() as u64,
            num_redelivered: redelivered,
            num_waiting: self.waiting.len() as u64,
            num_pending: self.num_pending,
            cluster: None,
            push_bound: bound,
            paused: pause_remaining > Nanos::ZERO,
            pause_remaining,
            timestamp: wall,
            priority_groups: self.group_states(),
        }
    }
}

/// Where a new consumer starts (jetstream, "Consumer create and update"): the sequence of its first message.
pub(crate) fn first_sequence(config: &ConsumerConfig, store: &StreamStore) -> StreamSeq {
    let state = store.state();
    let (first, end) = (state.first_seq.max(1), state.last_seq + 1);
    match config.deliver_policy {
        DeliverPolicy::All => first,
        DeliverPolicy::New => end,
        DeliverPolicy::Last => store.last_of(&Filter::new(config.filters())).unwrap_or(first),
        DeliverPolicy::ByStartSequence => config.opt_start_seq.max(first),
        DeliverPolicy::ByStartTime => {
            config.opt_start_time.map_or(first, |t| store.first_at_or_after(t).unwrap_or(end))
        }
        DeliverPolicy::LastPerSubject => {
            newest_per_subject(store, &Filter::new(config.filters())).front().copied().unwrap_or(end)
        }
    }
}
