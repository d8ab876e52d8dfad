//! A stream: what it stores, who may store, who reads.

mod ack_queue;
mod admit;
mod apply;
mod batch;
mod cleaning;
mod commands;
mod counter;
mod dedupe;
mod direct;
mod draft;
mod expiry;
mod fast_batch;
mod feed;
mod firing;
mod in_flight;
mod markers;
mod origins;
mod reads;
mod renaming;
mod repair;
mod restore;
mod retention;
mod role;
mod schedule_rules;
mod schedules;
mod snapshot;
mod ttl;
mod unsent;
mod wishes;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use linnet_ids::{Mono, StreamSeq, Wall};
use linnet_interest::{Interest, Matches};
use linnet_jsapi::errors::ApiError;
use linnet_jsapi::info::{LostStreamData, StreamState};
use linnet_jsapi::policies::Compression;
use linnet_jsapi::{PubAck, StreamConfig, write_pub_error};
use linnet_store::StreamStore;
use serde::{Deserialize, Serialize};
use slab::Slab;

use crate::consumer::Consumer;
use crate::entry::{Attach, Entry, Owner};
use crate::origin::{Link, Taken};
use crate::output::{Output, Token};
use ack_queue::{Ack, AckQueue};
use batch::Batches;
use counter::Totals;
use dedupe::Dedupe;
use fast_batch::FastBatches;
use in_flight::InFlight;
use origins::Origins;
use renaming::Renaming;
use retention::Sweep;
use schedules::Schedules;
use ttl::Ttls;

pub use admit::Admitted;
pub(crate) use admit::Judged;
pub use apply::Moment;
pub use batch::{BatchBounds, BatchLimits};
pub use commands::{Command, CommandOutcome, ConsumerCommand, StreamReport};
pub use restore::{RestorePart, is_expired};
pub use snapshot::Snapshot;

/// How long changes of consumers may wait for company before they are written to the log.
const DELTA_DELAY: Duration = Duration::from_millis(10);

/// A message on its way into the stream.
#[derive(Clone, Copy, Debug)]
pub struct Publish<'a> {
    /// Subject.
    pub subject: &'a [u8],
    /// Where the acknowledgement goes; empty for nowhere.
    pub reply: &'a [u8],
    /// Length of the header block at the start of `body`.
    pub header_len: usize,
    /// Header block and payload.
    pub body: &'a [u8],
    /// It comes from a consumer of one of the stream's origins.
    pub origin: Option<Link>,
}

/// What may still be stored, beyond the stream's own limits; `None` for no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamLimits {
    /// Bytes left to the account.
    pub account_left: Option<u64>,
    /// Bytes left to the server.
    pub server_left: Option<u64>,
}

/// An entry to be written to the log.
#[derive(Debug)]
pub struct Proposal {
    /// Encoded entry.
    pub bytes: Vec<u8>,
    /// Who waits for it.
    pub waiter: Waiter,
}

/// Who waits for an entry to be applied, besides publishers.
#[derive(Debug, Default)]
pub struct Waiter {
    /// The command that is answered then.
    pub token: Option<Token>,
    /// Where to confirm acknowledgements.
    pub confirmations: Vec<Vec<u8>>,
}

impl Proposal {
    /// An entry for which a command may wait.
    pub fn new(bytes: Vec<u8>, token: Option<Token>) -> Self {
        Self { bytes, waiter: Waiter { token, confirmations: Vec::new() } }
    }
}

/// Names of this server and of the domain, for answers, and what its streams share.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Server name.
    pub server: String,
    /// JetStream domain, empty for none.
    pub domain: String,
    /// Bounds of atomic batches.
    pub batches: Arc<BatchLimits>,
}

/// What a checkpoint keeps of a stream besides its messages.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StreamSaved {
    /// Configuration.
    pub config: StreamConfig,
    /// Consumers with their state.
    pub consumers: Vec<Attach>,
    /// Messages with a time to live of their own: when each expires, nanoseconds since the Unix epoch, or never.
    #[serde(default)]
    pub ttls: Vec<(StreamSeq, Option<i64>)>,
    /// How far its sources are, by origin, filter and destination.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub taken: BTreeMap<String, Taken>,
    /// Messages that are schedules: when each is due next, nanoseconds since the Unix epoch.
    #[serde(default)]
    pub schedules: Vec<(StreamSeq, i64)>,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// It has ended; only its files are left to remove.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// It is being restored from a backup.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restoring: bool,
}

/// A stream: the replica that decides, or one that follows it.
pub struct Stream {
    pub(crate) config: StreamConfig,
    created: Wall,
    /// Whose it is, as its log says.
    owner: Option<Owner>,
    place: Place,
    pub(crate) store: StreamStore,
    renaming: Renaming,
    consumers: Slab<Consumer>,
    by_name: BTreeMap<String, usize>,
    /// How many of them are direct.
    direct: usize,
    /// Which consumers want which subjects.
    wants: Interest<usize>,
    matches: Matches<usize>,
    /// Consumers that may have something to deliver.
    ready: Vec<usize>,
    /// When consumers want to be looked at.
    timers: std::collections::BTreeSet<(Mono, usize)>,
    dedupe: Dedupe,
    in_flight: InFlight,
    totals: Totals,
    batches: Batches,
    origins: Origins,
    fast: FastBatches,
    acks: AckQueue,
    /// Sequence and timestamp of the newest message, those in flight included.
    head_seq: StreamSeq,
    head_ts: Wall,
    /// How many sequences may be taken at once.
    room: u64,
    /// Message id of the newest stored message, empty if it has none.
    last_id: Vec<u8>,
    /// The entry of messages being collected.
    messages: Vec<u8>,
    proposals: Vec<Proposal>,
    /// Entries in flight that publishes must wait for.
    barriers: usize,
    /// A delta entry is in flight.
    delta_in_flight: bool,
    dirty_since: Option<Mono>,
    unsent: unsent::Unsent,
    ttls: Ttls,
    schedules: Schedules,
    sweep: Sweep,
    /// A configuration with another retention is in flight.
    is_retention_in_flight: bool,
    /// Every message before this one never expires by age.
    ages_from: StreamSeq,
    next_expiry: Option<Mono>,
    expiry_in_flight: bool,
    /// Reads that wait for the disk, each for one message.
    gets: Vec<(StreamSeq, reads::ParkedGet)>,
    /// Messages that were repaired, or that nobody has: who waits for them is to look again.
    woken: Vec<StreamSeq>,
    /// Consumers whose creation, change or removal is in flight, with the number of such entries.
    attaching: HashMap<String, usize>,
    /// What is answered to resets once they are durable.
    resets: HashMap<Token, CommandOutcome>,
    /// Commands that wait for an entry in flight: about consumers that it creates, changes or ends, or removals of
    /// messages that it may forbid.
    deferred: Vec<(Command, Token)>,
    /// Changes of the configuration in flight.
    reconfiguring: usize,
    deleted: bool,
    /// It is being restored from a backup.
    restoring: bool,
    /// Changes of the configuration that were applied.
    revision: u64,
    /// It is one of several replicas: consumers follow what is durable.
    is_replica: bool,
    /// Another replica decides.
    follows: bool,
    scratch: Vec<u8>,
}

impl Stream {
    /// A stream over an open store. Consumers of a saved state are taken over.
    pub fn new(
        config: StreamConfig,
        created: Wall,
        place: Place,
        mut store: StreamStore,
        consumers: Vec<Attach>,
        now: Mono,
    ) -> Self {
        store.set_max_per_subject(config.max_msgs_per_subject);
        store.fit_to(config.max_bytes);
        store.set_compression(config.compression == Compression::S2);
        let head_seq = store.state().last_seq;
        let head_ts = store.state().last_ts.unwrap_or_default();
        let mut stream = Self {
            renaming: Renaming::of(&config),
            config,
            created,
            owner: None,
            place,
            store,
            consumers: Slab::new(),
            by_name: BTreeMap::new(),
            direct: 0,
            wants: Interest::default(),
            matches: Matches::default(),
            ready: Vec::new(),
            timers: std::collections::BTreeSet::new(),
            dedupe: Dedupe::default(),
            in_flight: InFlight::default(),
            totals: Totals::default(),
            batches: Batches::default(),
            origins: Origins::default(),
            fast: FastBatches::default(),
            acks: AckQueue::default(),
            head_seq,
            head_ts,
            room: u64::MAX,
            last_id: Vec::new(),
            messages: Vec::new(),
            proposals: Vec::new(),
            barriers: 0,
            delta_in_flight: false,
            dirty_since: None,
            unsent: unsent::Unsent::default(),
            ttls: Ttls::default(),
            schedules: Schedules::default(),
            sweep: Sweep::default(),
            is_retention_in_flight: false,
            ages_from: 0,
            next_expiry: Some(now),
            expiry_in_flight: false,
            gets: Vec::new(),
            woken: Vec::new(),
            attaching: HashMap::new(),
            resets: HashMap::new(),
            deferred: Vec::new(),
            reconfiguring: 0,
            deleted: false,
            restoring: false,
            revision: 0,
            is_replica: false,
            follows: false,
            scratch: Vec::new(),
        };
        stream.origins.configured(&stream.config);
        for attach in consumers {
            stream.install_consumer(attach, now);
        }
        stream
    }

    /// Configuration.
    pub fn config(&self) -> &StreamConfig {
        &self.config
    }

    /// Names for its answers.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// How often its configuration was changed since it was opened.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// When it was created.
    pub fn created(&self) -> Wall {
        self.created
    }

    /// Whose it is, as far as its log says.
    pub fn owner(&self) -> Option<&Owner> {
        self.owner.as_ref()
    }

    /// Messages.
    pub fn store(&self) -> &StreamStore {
        &self.store
    }

    /// Messages, for the driver's disk work.
    pub fn store_mut(&mut self) -> &mut StreamStore {
        &mut self.store
    }

    /// Sequence of the newest message, those in flight included.
    pub fn head_seq(&self) -> StreamSeq {
        self.head_seq
    }

    /// Number of consumers, without those of other streams that leave no trace.
    pub fn consumer_count(&self) -> usize {
        self.by_name.len() - self.direct
    }

    /// Names of the consumers.
    pub fn consumer_names(&self) -> std::collections::BTreeSet<String> {
        self.by_name.keys().cloned().collect()
    }

    /// Where a push consumer delivers; `None` for others.
    pub fn deliver_subject(&self, consumer: &str) -> Option<&str> {
        let id = self.by_name.get(consumer)?;
        self.consumers.get(*id).filter(|c| c.is_push()).map(|c| c.config.deliver_subject.as_str())
    }

    /// True once its end is applied.
    pub fn is_deleted(&self) -> bool {
        self.deleted
    }

    /// How many sequences may be taken from now on; 0 while publishes wait. Without a call there is no bound.
    pub fn set_room(&mut self, sequences: u64) {
        self.room = sequences;
    }

    /// True if publishes may be judged now; otherwise they wait for an entry in flight.
    pub fn is_open(&self) -> bool {
        self.barriers == 0
    }

    /// True if nothing waits for the log.
    pub fn is_idle(&self) -> bool {
        self.messages.is_empty()
            && self.proposals.is_empty()
            && self.in_flight.is_empty()
            && !self.delta_in_flight
    }

    /// What a checkpoint must keep besides the messages.
    pub fn saved(&self) -> StreamSaved {
        let lasting = self.consumers.iter().filter(|(_, c)| !c.config.direct);
        let consumers = lasting.map(|(_, c)| Attach {
            name: c.name.clone(),
            config: c.config.clone(),
            created: c.created.0,
            state: Some(c.saved_state().clone()),
        });
        StreamSaved {
            config: self.config.clone(),
            consumers: consumers.collect(),
            ttls: self.ttls.save(),
            taken: self.origins.save(),
            schedules: self.schedules.save(),
            owner: self.owner.clone(),
            deleted: self.deleted,
            restoring: self.restoring,
        }
    }

    /// Takes the entries to be written, in order.
    pub fn take_proposals(&mut self, now: Mono) -> Vec<Proposal> {
        if self.follows {
            return Vec::new();
        }
        self.close_messages();
        if !self.batches.is_empty() || !self.fast.is_empty() {
            let timeout = self.place.batches.bounds().timeout;
            self.batches.note_time(now, timeout);
            self.fast.note_time(now, timeout);
        }
        self.propose_delta(now);
        self.propose_sweep();
        std::mem::take(&mut self.proposals)
    }

    /// Ends the entry of messages being collected, so that what follows comes after it.
    fn close_messages(&mut self) {
        if !self.messages.is_empty() {
            let bytes = std::mem::take(&mut self.messages);
            self.proposals.push(Proposal::new(bytes, None));
        }
    }

    fn propose(&mut self, entry: &Entry<'_>, token: Option<Token>) {
        self.close_messages();
        let bytes = entry.encode();
        if Entry::is_barrier(&bytes) {
            self.barriers += 1;
        }
        self.reconfiguring += usize::from(matches!(entry, Entry::Config(_)));
        self.proposals.push(Proposal::new(bytes, token));
    }

    /// Begins a term of leadership. With `skip_to` the sequences up to it are used up, because the end of the log is
    /// lost and messages in it may have had them.
    /// A mirror's sequences are its origin's, which tells it again what was lost.
    pub fn start_term(&mut self, skip_to: Option<StreamSeq>) {
        self.propose(&Entry::Leader, None);
        if let Some(last) = skip_to {
            self.skip_lost(last);
        }
    }

    /// Uses up the sequences up to `last`: messages that are lost may have had them.
    pub fn skip_lost(&mut self, last: StreamSeq) {
        if !self.is_mirror() {
            self.head_seq = self.head_seq.max(last);
            self.propose(&Entry::Skip(last), None);
        }
    }

    /// Takes over what a checkpoint kept besides configuration, consumers and times to live.
    pub fn restore_life(&mut self, owner: Option<Owner>, deleted: bool, restoring: bool) {
        self.owner = owner;
        self.deleted = deleted;
        self.restoring = restoring;
    }

    /// Writes to the log whose stream this is, unless it says so.
    pub fn record_owner(&mut self, owner: Owner) {
        if self.owner.as_ref() != Some(&owner) {
            self.propose(&Entry::Owner(owner), None);
        }
    }

    /// Writes the configuration of a new stream to its log, and where its sequences begin: `first_seq` in later
    /// configurations moves nothing.
    pub fn record_config(&mut self) {
        let config = Box::new(self.config.clone());
        let first_seq = config.first_seq;
        self.propose(&Entry::Config(config), None);
        if let Some(before) = first_seq.checked_sub(1) {
            self.propose(&Entry::Skip(before), None);
        }
    }

    /// Writes what consumers did since the last time, unless that is still in flight. What nobody waits for is
    /// collected for a moment.
    fn propose_delta(&mut self, now: Mono) {
        let Some(since) = self.dirty_since else { return };
        if self.delta_in_flight {
            return;
        }
        let is_awaited =
            self.unsent.is_gathering() || self.consumers.iter().any(|(_, c)| c.has_confirmations());
        if is_awaited || now >= since + DELTA_DELAY {
            self.write_delta();
        }
    }

    fn write_delta(&mut self) {
        let mut delta = Vec::new();
        let mut confirmations = Vec::new();
        for (_, consumer) in self.consumers.iter_mut().filter(|(_, c)| c.is_dirty()) {
            let (ops, mut replies) = consumer.take_delta();
            confirmations.append(&mut replies);
            delta.push((consumer.name.clone(), ops));
        }
        self.dirty_since = None;
        if delta.is_empty() {
            return;
        }
        self.delta_in_flight = true;
        self.unsent.written();
        self.close_messages();
        let bytes = Entry::ConsumerDelta(delta).encode();
        let waiter = Waiter { token: None, confirmations };
        self.proposals.push(Proposal { bytes, waiter });
    }

    /// When it wants to be looked at next.
    pub fn next_due(&self) -> Option<Mono> {
        if self.restoring || self.follows {
            return None;
        }
        let consumers = self.timers.first().map(|(due, _)| *due);
        let delta = self
            .dirty_since
            .filter(|_| !self.delta_in_flight)
            .map(|since| if self.unsent.is_gathering() { since } else { since + DELTA_DELAY });
        let expiry = self.next_expiry.filter(|_| !self.expiry_in_flight);
        let unfinished = (!self.ready.is_empty() || self.sweep.is_due()).then(Mono::default);
        let batches = self.batches.next_due().into_iter().chain(self.fast.next_due());
        let firing = self.schedules.next_look();
        let origins = self.origins.next_due().filter(|_| !self.deleted);
        let others = unfinished.into_iter().chain(delta).chain(expiry).chain(batches).chain(firing);
        consumers.into_iter().chain(others).chain(origins).min()
    }

    /// Does what is due.
    pub fn on_timer(&mut self, now: Mono, wall: Wall, out: &mut dyn Output) {
        if self.restoring || self.follows {
            return;
        }
        self.expire(now, wall);
        self.schedules.note_time(now);
        self.batches.drop_old(now, out);
        self.fast.drop_old(now);
        self.run_consumer_timers(now, wall, out);
        self.run_origin_timers(now, out);
    }

    fn send_ack(&self, reply: &[u8], ack: Ack<'_>, out: &mut dyn Output) {
        if let Some((seq, msgs)) = ack.flow {
            out.publish(reply, b"", b"", 0, &fast_batch::flow_ack(seq, msgs));
            return;
        }
        let mut json = Vec::with_capacity(64);
        let ack = PubAck {
            stream: &self.config.name,
            domain: &self.place.domain,
            seq: ack.seq,
            duplicate: ack.duplicate,
            batch: ack.batch,
            val: ack.val,
        };
        ack.write(&mut json);
        out.publish(reply, b"", b"", 0, &json);
    }

    fn send_refusal(&self, reply: &[u8], error: &ApiError, out: &mut dyn Output) {
        let mut json = Vec::with_capacity(128);
        write_pub_error(error, &self.config.name, &mut json);
        out.publish(reply, b"", b"", 0, &json);
    }

    /// Refuses every publish that waits for its acknowledgement, because the log failed.
    pub fn fail_waiting(&mut self, error: &ApiError, out: &mut dyn Output) {
        let mut json = Vec::with_capacity(128);
        write_pub_error(error, &self.config.name, &mut json);
        self.acks.drain(|reply| {
            out.publish(reply, b"", b"", 0, &json);
        });
        for (_, token) in self.deferred.drain(..) {
            out.answer(token, Err(error.clone()));
        }
    }

    /// State as the API shows it.
    pub fn state(&mut self) -> StreamState {
        let first_ts = self.store.first_timestamp();
        let state = *self.store.state();
        let span = (state.last_seq + 1).saturating_sub(state.first_seq.max(1));
        let lost: Vec<StreamSeq> = self.store.damaged().iter().copied().collect();
        StreamState {
            msgs: state.msgs,
            bytes: state.bytes,
            first_seq: state.first_seq,
            first_ts,
            last_seq: state.last_seq,
            last_ts: state.last_ts,
            num_subjects: self.store.subject_count() as u64,
            subjects: BTreeMap::new(),
            num_deleted: if state.msgs == 0 { 0 } else { span.saturating_sub(state.msgs) },
            deleted: Vec::new(),
            lost: (!lost.is_empty()).then_some(LostStreamData { msgs: lost, bytes: state.lost.1 }),
            consumer_count: self.consumer_count() as u64,
        }
    }

    /// Gives up memory that only speeds up an active stream.
    pub fn release(&mut self) {
        self.store.release_cache();
        self.messages = Vec::new();
        self.scratch = Vec::new();
    }

    /// Everything in the log has been replayed: consumers start from the state it led to.
    pub fn finish_replay(&mut self, now: Mono, wall: Wall) {
        self.next_expiry = Some(now);
        self.schedules.look_at(now);
        let saved = self.saved().consumers;
        self.consumers.clear();
        self.by_name.clear();
        self.direct = 0;
        self.wants = Interest::default();
        self.timers.clear();
        self.ready.clear();
        for mut attach in saved {
            // A removal may stand in the log before the delivery of what it removed, and what the consumer made of it
            // may be lost: nobody can acknowledge these any more. Among replicas, the log says so before it is.
            if let Some(state) = attach.state.as_mut().filter(|_| !self.is_replica) {
                state.drop_missing(|seq| self.store.contains(seq));
            }
            let id = self.install_consumer(attach, now);
            self.await_pending(id, now, wall);
            if self.is_replica
                && !self.follows
                && let Some(consumer) = self.consumers.get_mut(id)
            {
                consumer.give_up_missing(&self.store);
                if consumer.is_dirty() {
                    self.dirty_since.get_or_insert(now);
                }
            }
        }
        // A sweep may have been under way.
        self.sweep_all();
    }

    /// Takes over what a checkpoint said of the stream's sources.
    pub fn restore_taken(&mut self, taken: BTreeMap<String, Taken>) {
        self.origins.load(taken);
    }

    /// Takes over what a checkpoint said of messages with a time to live of their own.
    pub fn restore_ttls(&mut self, saved: &[(StreamSeq, Option<i64>)]) {
        self.ttls = Ttls::load(saved);
    }

    /// Takes over what a checkpoint said of schedules.
    pub fn restore_schedules(&mut self, saved: &[(StreamSeq, i64)]) {
        self.schedules = Schedules::load(saved);
    }

    /// Remembers the id (empty for none) of a stored message that the duplicate window still covers. To be called in
    /// stream order before the stream takes part in anything.
    pub fn remember_id(&mut self, id: &[u8], seq: StreamSeq, at: Wall) {
        if !id.is_empty() {
            self.dedupe.insert(id, seq, at);
        }
        if seq == self.store.state().last_seq {
            self.last_id.clear();
            self.last_id.extend_from_slice(id);
        }
    }

    fn install_consumer(&mut self, attach: Attach, now: Mono) -> usize {
        let state = attach.state.unwrap_or_default();
        let mut consumer =
            Consumer::new(attach.name.clone(), attach.config, Wall(attach.created), state, &self.store, now);
        consumer.follow_committed(self.follows_committed());
        self.direct += usize::from(consumer.config.direct);
        consumer.limit_rate(self.config.max_msg_size);
        let id = self.consumers.insert(consumer);
        self.by_name.insert(attach.name, id);
        self.add_wants(id);
        self.touch_timer(id);
        id
    }

    /// Sets when what is pending of a new consumer is due.
    fn await_pending(&mut self, id: usize, now: Mono, wall: Wall) {
        if let Some(consumer) = self.consumers.get_mut(id) {
            consumer.await_pending(now, wall);
        }
        self.touch_timer(id);
    }
}
