use std::sync::Arc;

use linnet_ids::Wall;
use linnet_jsapi::consumer_rules::{self, ConsumerCreate, Consumers, ExistingConsumer};
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::info::{ConsumerInfo, StoredMessage, StreamSourceInfo, StreamState};
use linnet_jsapi::limits::{FIRST_SEQ_MAX, Limits};
use linnet_jsapi::policies::RetentionPolicy;
use linnet_jsapi::requests::{CreateConsumerRequest, MsgGetRequest};
use linnet_jsapi::{ConsumerConfig, StreamConfig, metadata};
use linnet_store::{BlockToVerify, Filter};

use super::restore::RestorePart;
use super::snapshot::Snapshot;
use super::{Moment, Stream};
use crate::consumer::{ConsumerState, first_sequence};
use crate::entry::{Attach, Entry, Purge};
use crate::output::{Output, Token};

/// A request to the stream that is answered through [`Output::answer`].
#[derive(Clone, Debug)]
pub enum Command {
    /// State of the stream.
    State {
        /// List the subjects covered by this with their counts.
        subjects: Option<String>,
        /// List the sequences that are missing.
        deleted: bool,
    },
    /// Replace the configuration, which has been judged.
    Update(Box<StreamConfig>),
    /// Remove many messages.
    Purge(Purge),
    /// Remove one message.
    DeleteMessage {
        /// Sequence.
        seq: u64,
        /// Overwrite the bytes on disk.
        erase: bool,
    },
    /// End the stream.
    Delete,
    /// Read a message.
    Get(MsgGetRequest),
    /// Something about consumers.
    Consumer(ConsumerCommand),
    /// Keep the stream as it is now for whoever reads it, consumers included if asked.
    Snapshot {
        /// With consumers.
        consumers: bool,
    },
    /// Keep one block of messages as it is now for whoever verifies it: the first one with messages at or behind a
    /// sequence.
    PinBlock(u64),
    /// Remember that these messages turned out to be damaged.
    NoteDamage(Vec<u64>),
    /// Take a part of the backup that the stream is restored from.
    Restore(RestorePart),
    /// Store a message of the server itself and answer when it is applied. Only for streams of the server's own:
    /// the configuration's limits on what may be stored are not looked at.
    Append {
        /// Subject.
        subject: Vec<u8>,
        /// Payload.
        payload: Vec<u8>,
    },
}

/// A request about consumers.
#[derive(Clone, Debug)]
pub enum ConsumerCommand {
    /// Create or update; the request has been held against its subject.
    Create {
        /// The request.
        request: Box<CreateConsumerRequest>,
        /// Name for a consumer that brings none.
        suggested_name: String,
        /// What the server and the account allow.
        limits: Box<Limits>,
    },
    /// Delete.
    Delete(String),
    /// Deliver nothing until then; `None` delivers again.
    Pause {
        /// Name.
        consumer: String,
        /// Until when.
        until: Option<Wall>,
    },
    /// Begin anew.
    Reset {
        /// Name.
        consumer: String,
        /// Next message; 0 for the one behind the acknowledgement floor.
        seq: u64,
    },
    /// Give up the pinned client of a priority group.
    Unpin {
        /// Name.
        consumer: String,
        /// Group.
        group: String,
    },
    /// Describe one.
    Info(String),
    /// Describe all, by name.
    List,
    /// Name all, in order.
    Names,
    /// Configurations of all.
    Configs,
    /// Name, configuration and creation of one.
    Definition(String),
}

/// What a command led to.
#[derive(Clone, Debug)]
pub enum CommandOutcome {
    /// Done.
    Done,
    /// State of the stream.
    State(Box<StreamReport>),
    /// Messages removed.
    Purged(u64),
    /// Whether the message was there.
    Deleted(bool),
    /// The message.
    Message(Box<StoredMessage>),
    /// The consumer of this name was created or updated.
    Attached(String),
    /// A consumer.
    Consumer(Box<ConsumerInfo>),
    /// How a consumer was created, without its state; `None` if there is no such.
    Definition(Option<Box<Attach>>),
    /// A consumer that began anew at this sequence.
    Reset(Box<ConsumerInfo>, u64),
    /// Consumers, by name.
    Consumers(Vec<ConsumerInfo>),
    /// Names of consumers.
    Names(Vec<String>),
    /// The stream as it is.
    Snapshot(Arc<Snapshot>),
    /// A block to be verified; `None` if there is none.
    Block(Option<BlockToVerify>),
    /// Configurations of consumers, by name.
    Configs(Vec<(String, ConsumerConfig)>),
}

impl ConsumerCommand {
    /// Name of the consumer that it changes. One to be created may not have a name yet and is not meant here.
    fn changes(&self) -> Option<&str> {
        match self {
            Self::Delete(consumer) | Self::Pause { consumer, .. } | Self::Reset { consumer, .. } => {
                Some(consumer)
            }
            _ => None,
        }
    }
}

/// Where a stream stands.
#[derive(Clone, Debug)]
pub struct StreamReport {
    /// Its messages.
    pub state: StreamState,
    /// How far it follows the stream that it mirrors.
    pub mirror: Option<StreamSourceInfo>,
    /// How far it follows its sources.
    pub sources: Vec<StreamSourceInfo>,
}

/// The stream's consumers as the rules want to see them.
struct Known<'a>(&'a Stream);

impl Consumers for Known<'_> {
    fn count(&self) -> usize {
        self.0.consumer_count() + self.0.attaching.len()
    }

    fn each(&self) -> impl Iterator<Item = (&str, &ConsumerConfig)> {
        let lasting = self.0.consumers.iter().filter(|(_, c)| !c.config.direct);
        lasting.map(|(_, c)| (c.name.as_str(), &c.config))
    }
}

impl Stream {
    /// Takes a command. It is answered at once, or when its log entry is applied.
    pub fn command(&mut self, command: Command, token: Token, at: Moment, out: &mut dyn Output) {
        if self.deleted {
            out.answer(token, Err(errors::STREAM_NOT_FOUND));
            return;
        }
        if self.follows && !Self::may_follower_answer(&command) {
            out.answer(token, Err(errors::CLUSTER_NOT_LEADER));
            return;
        }
        match command {
            Command::State { subjects, deleted } => {
                let state = self.detailed_state(subjects.as_deref(), deleted);
                let (mirror, sources) = self.origin_infos(at.wall);
                let report = StreamReport { state, mirror, sources };
                out.answer(token, Ok(CommandOutcome::State(Box::new(report))));
            }
            Command::Update(config) => {
                if config.retention != self.config.retention {
                    self.prepare_retention();
                }
                self.propose(&Entry::Config(config), Some(token));
            }
            Command::Purge(_) | Command::DeleteMessage { .. } if self.reconfiguring > 0 => {
                self.deferred.push((command, token));
            }
            Command::Purge(purge) => match self.may_purge(&purge) {
                Ok(()) => self.propose(&Entry::Purge(purge), Some(token)),
                Err(error) => out.answer(token, Err(error)),
            },
            Command::DeleteMessage { seq, erase } => match self.may_delete(seq) {
                Ok(()) => self.propose(&Entry::Delete { seq, erase }, Some(token)),
                Err(error) => out.answer(token, Err(error)),
            },
            Command::Delete => self.propose(&Entry::Deleted, Some(token)),
            Command::Get(request) => self.get(request, token, out),
            Command::Append { subject, payload } => self.append_own(&subject, &payload, token, at.wall),
            Command::Consumer(command) => self.consumer_command(command, token, at, out),
            Command::Snapshot { consumers } => {
                let snapshot = Arc::new(self.snapshot(consumers));
                out.answer(token, Ok(CommandOutcome::Snapshot(snapshot)));
            }
            Command::PinBlock(from) => {
                let block = self.store.pin_block(from);
                out.answer(token, Ok(CommandOutcome::Block(block)));
            }
            Command::NoteDamage(sequences) => self.note_damage(&sequences, token, out),
            Command::Restore(part) => self.restore_part(part, token, out),
        }
    }

    fn may_purge(&self, purge: &Purge) -> Result<(), ApiError> {
        if purge.below > FIRST_SEQ_MAX {
            Err(errors::stream_purge_failed("sequence too large"))
        } else if self.config.sealed {
            Err(errors::STREAM_SEALED)
        } else if self.config.deny_purge {
            Err(errors::stream_purge_failed("stream purge not permitted"))
        } else {
            Ok(())
        }
    }

    /// File and memory streams refuse a missing message in different words, as the reference server does.
    fn may_delete(&self, seq: u64) -> Result<(), ApiError> {
        if self.config.sealed {
            return Err(errors::STREAM_SEALED);
        }
        if self.config.deny_delete {
            return Err(errors::stream_msg_delete_failed(errors::DELETE_DENIED));
        }
        if self.store.contains(seq) {
            return Ok(());
        }
        let state = self.store.state();
        if self.store.is_memory() || (state.first_seq..=state.last_seq).contains(&seq) {
            return Err(errors::sequence_not_found(seq));
        }
        let text = if seq > state.last_seq { "stream store EOF" } else { "no message found" };
        Err(errors::stream_msg_delete_failed(text))
    }

    fn detailed_state(&mut self, subjects: Option<&str>, deleted: bool) -> StreamState {
        let mut state = self.state();
        if let Some(pattern) = subjects {
            self.store.for_each_subject(&Filter::new([pattern.as_bytes()]), |subject, of| {
                state.subjects.insert(String::from_utf8_lossy(subject).into_owned(), of.msgs);
            });
        }
        if deleted && state.num_deleted > 0 {
            let mut expected = state.first_seq;
            while let Some(seq) = self.store.next(expected, &Filter::all()) {
                state.deleted.extend(expected..seq);
                expected = seq + 1;
            }
            state.deleted.extend(expected..=state.last_seq);
        }
        state
    }

    fn consumer_command(&mut self, command: ConsumerCommand, token: Token, at: Moment, out: &mut dyn Output) {
        let wall = at.wall;
        // What is on its way to the log about the same consumer comes first: it may end it or change it.
        if command.changes().is_some_and(|name| self.attaching.contains_key(name)) {
            self.deferred.push((Command::Consumer(command), token));
            return;
        }
        let answer = match command {
            ConsumerCommand::Create { request, suggested_name, limits } => {
                self.create_consumer(*request, suggested_name, &limits, token, at, out);
                return;
            }
            ConsumerCommand::Delete(name) => {
                if self.is_direct(&name) {
                    self.apply_detach(&name, at, out);
                    Ok(CommandOutcome::Done)
                } else if self.by_name.contains_key(&name) {
                    self.propose_detach(&name, Some(token));
                    return;
                } else {
                    Err(errors::CONSUMER_NOT_FOUND)
                }
            }
            ConsumerCommand::Pause { consumer, until } => match self.propose_pause(&consumer, until, token) {
                Ok(()) => return,
                Err(error) => Err(error),
            },
            ConsumerCommand::Reset { consumer, seq } => {
                match self.propose_reset(&consumer, seq, token, wall, out) {
                    Ok(()) => return,
                    Err(error) => Err(error),
                }
            }
            ConsumerCommand::Unpin { consumer, group } => self.unpin(&consumer, &group, out),
            ConsumerCommand::Info(name) => match self.consumer_info(&name, wall, out) {
                Some(info) => Ok(CommandOutcome::Consumer(Box::new(info))),
                None => Err(errors::CONSUMER_NOT_FOUND),
            },
            ConsumerCommand::List => {
                let names = self.lasting_names();
                let infos = names.iter().filter_map(|name| self.consumer_info(name, wall, out));
                Ok(CommandOutcome::Consumers(infos.collect()))
            }
            ConsumerCommand::Names => Ok(CommandOutcome::Names(self.lasting_names())),
            ConsumerCommand::Configs => {
                let known = Known(self);
                let configs = known.each().map(|(name, config)| (name.to_owned(), config.clone()));
                Ok(CommandOutcome::Configs(configs.collect()))
            }
            ConsumerCommand::Definition(name) => Ok(CommandOutcome::Definition(self.definition(&name))),
        };
        out.answer(token, answer);
    }

    fn definition(&self, name: &str) -> Option<Box<Attach>> {
        let consumer = self.consumers.get(*self.by_name.get(name)?)?;
        let (config, created) = (consumer.config.clone(), consumer.created.0);
        Some(Box::new(Attach { name: name.to_owned(), config, created, state: None }))
    }

    /// What the API tells about a consumer.
    pub(super) fn consumer_info(&self, name: &str, wall: Wall, out: &mut dyn Output) -> Option<ConsumerInfo> {
        let consumer = self.consumers.get(*self.by_name.get(name)?)?;
        let bound = consumer.is_heard(out);
        let mut info = consumer.info(&self.config.name, bound, wall);
        info.num_waiting = consumer.requests_heard(out);
        if let Some(config) = &mut info.config {
            metadata::add_server_keys(&mut config.metadata);
        }
        Some(info)
    }

    fn create_consumer(
        &mut self,
        mut request: CreateConsumerRequest,
        suggested_name: String,
        limits: &Limits,
        token: Token,
        at: Moment,
        out: &mut dyn Output,
    ) {
        let wall = at.wall;
        let is_for_stream = request.config.direct && request.config.sourcing;
        consumer_rules::adapt_to_origin(&mut request.config, &self.config, &suggested_name);
        let requested = match (&request.config.name, &request.config.durable_name) {
            (name, durable) if name.is_empty() => durable.clone(),
            (name, _) => name.clone(),
        };
        // An earlier request on its way to the log is judged first: one for the same name, and in a work queue, whose
        // consumers must not overlap, any.
        let is_queue = self.config.retention == RetentionPolicy::WorkQueue;
        if self.attaching.contains_key(&requested) || (is_queue && !self.attaching.is_empty()) {
            let command = ConsumerCommand::Create {
                request: Box::new(request),
                suggested_name,
                limits: Box::new(*limits),
            };
            self.deferred.push((Command::Consumer(command), token));
            return;
        }
        let existing = self.by_name.get(&requested).and_then(|id| self.consumers.get(*id));
        // The other stream goes on behind what it is known to have stored.
        let restart = existing.filter(|_| is_for_stream).map(|c| c.state.ack_floor.stream + 1);
        let existing = existing
            .filter(|_| restart.is_none())
            .map(|c| ExistingConsumer { config: &c.config, has_interest: c.is_heard(out) });
        let judged = consumer_rules::check_create(&request, existing, &self.config, &Known(self), limits);
        let attach = match judged {
            Err(error) => {
                out.answer(token, Err(error));
                return;
            }
            Ok(ConsumerCreate::Same) => {
                let info = self.consumer_info(&requested, wall, out);
                out.answer(
                    token,
                    info.map(|i| CommandOutcome::Consumer(Box::new(i))).ok_or(errors::CONSUMER_NOT_FOUND),
                );
                return;
            }
            Ok(ConsumerCreate::Update(config)) => {
                let created =
                    self.by_name.get(&requested).and_then(|id| self.consumers.get(*id)).map(|c| c.created.0);
                Attach { name: requested, config: *config, created: created.unwrap_or(wall.0), state: None }
            }
            Ok(ConsumerCreate::New(config)) => {
                let name = if requested.is_empty() { suggested_name } else { requested };
                let first = restart.unwrap_or_else(|| first_sequence(&config, &self.store));
                // What is in flight is applied before the consumer exists.
                let state = ConsumerState::of_new(&config, first, self.head_seq);
                Attach { name, config: *config, created: wall.0, state: Some(state) }
            }
        };
        if attach.config.direct {
            let info = self.attach_direct(attach, at, out);
            let info = info.map(|info| CommandOutcome::Consumer(Box::new(info)));
            out.answer(token, info.ok_or(errors::CONSUMER_NOT_FOUND));
            return;
        }
        if restart.is_some() {
            self.prepare_replacement(&attach.name);
        }
        *self.attaching.entry(attach.name.clone()).or_default() += 1;
        self.propose(&Entry::ConsumerAttach(Box::new(attach)), Some(token));
    }

    /// Changes until when the consumer is paused; with a time that is over it delivers.
    fn propose_pause(&mut self, name: &str, until: Option<Wall>, token: Token) -> Result<(), ApiError> {
        let consumer = self.by_name.get(name).and_then(|id| self.consumers.get(*id));
        let consumer = consumer.ok_or(errors::CONSUMER_NOT_FOUND)?;
        let mut config = consumer.config.clone();
        config.pause_until = until;
        let level = metadata::required_consumer_level(&config);
        metadata::set_required_level(&mut config.metadata, level);
        let attach = Attach { name: name.to_owned(), config, created: consumer.created.0, state: None };
        *self.attaching.entry(attach.name.clone()).or_default() += 1;
        self.propose(&Entry::ConsumerAttach(Box::new(attach)), Some(token));
        Ok(())
    }

    /// Has the consumer begin anew, with everything it did until now in the log before that.
    fn propose_reset(
        &mut self,
        name: &str,
        seq: u64,
        token: Token,
        wall: Wall,
        out: &mut dyn Output,
    ) -> Result<(), ApiError> {
        let id = *self.by_name.get(name).ok_or(errors::CONSUMER_NOT_FOUND)?;
        let consumer = self.consumers.get_mut(id).ok_or(errors::CONSUMER_NOT_FOUND)?;
        let next = consumer.reset_target(seq, &self.store)?;
        consumer.reset(next, &self.store);
        let (ops, confirmations) = consumer.take_delta();
        let info = self.consumer_info(name, wall, out).ok_or(errors::CONSUMER_NOT_FOUND)?;
        self.resets.insert(token, CommandOutcome::Reset(Box::new(info), next));
        let bytes = Entry::ConsumerDelta(vec![(name.to_owned(), ops)]).encode();
        self.close_messages();
        let waiter = super::Waiter { token: Some(token), confirmations };
        self.proposals.push(super::Proposal { bytes, waiter });
        self.mark_ready(id);
        self.touch_timer(id);
        Ok(())
    }

    /// Who is pinned is known to the leader alone, so that the log has nothing to say.
    fn unpin(&mut self, name: &str, group: &str, out: &mut dyn Output) -> Result<CommandOutcome, ApiError> {
        let id = *self.by_name.get(name).ok_or(errors::CONSUMER_NOT_FOUND)?;
        self.consumers.get_mut(id).ok_or(errors::CONSUMER_NOT_FOUND)?.unpin_group(group, out)?;
        self.mark_ready(id);
        self.touch_timer(id);
        Ok(CommandOutcome::Done)
    }

    pub(super) fn propose_detach(&mut self, name: &str, token: Option<Token>) {
        *self.attaching.entry(name.to_owned()).or_default() += 1;
        self.propose(&Entry::ConsumerDetach(name.to_owned()), token);
    }

    /// Takes up commands that waited for others, after entries were applied.
    pub fn run_deferred(&mut self, at: Moment, out: &mut dyn Output) {
        for (command, token) in std::mem::take(&mut self.deferred) {
            self.command(command, token, at, out);
        }
    }
}
