use std::io;
use std::sync::{Arc, Weak};

use linnet_archive::{ArchivedConsumer, Error as ArchiveError, Reader};
use linnet_broker::{Account, ClientDescription, InternalSubscription, Publisher};
use linnet_env::Clock;
use linnet_jsapi::consumer_rules::{self, ConsumerCreate, Consumers};
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::info::StreamInfo;
use linnet_jsapi::limits::{FIRST_SEQ_MAX, Limits};
use linnet_jsapi::requests::CreateConsumerRequest;
use linnet_jsapi::responses::{self, StreamCreateResponse};
use linnet_jsapi::{ConsumerConfig, StreamConfig, metadata};
use linnet_replication::{FLOOR_STEP, Placed};
use tokio::runtime::Handle;

use super::feed::Feed;
use super::incoming::{ChunkReader, ChunkSink, Incoming};
use super::slots::Slot;
use crate::advisories::{BackupEvent, Writer};
use crate::catalogue::{JsAccount, StreamHandle};
use crate::engine::Engine;

/// Consumers wait in memory until the messages are stored: their number, and bytes of what they await.
const CONSUMERS_MAX: usize = 100_000;
const AWAITED_MAX: usize = 4_000_000;

/// What a client asked for, judged.
pub(crate) struct RestoreOrder {
    pub(crate) config: StreamConfig,
    /// What the client sends its chunks to.
    pub(crate) subject: String,
    /// The last sequence that the client says the backup has.
    pub(crate) last_seq: u64,
    /// Where the stream shall be; nobody for a server alone.
    pub(crate) members: Vec<Placed>,
    /// Who asked.
    pub(crate) client: ClientDescription,
}

/// A restore being taken.
pub(crate) struct RestoreJob {
    order: RestoreOrder,
    engine: Weak<Engine>,
    account: Arc<JsAccount>,
    clock: Arc<dyn Clock>,
    advisories: Writer,
    publisher: Publisher,
    source: ChunkReader,
    _chunks: InternalSubscription,
    _slot: Slot,
}

/// Why a restore fails.
pub(super) enum Failure {
    /// The client is gone: nobody is told.
    Stalled,
    Refused(ApiError),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Io(e) if e.kind() == io::ErrorKind::TimedOut => Self::Stalled,
            other => Self::Refused(errors::stream_restore(other)),
        }
    }
}

pub(super) fn refused(text: impl std::fmt::Display) -> Failure {
    Failure::Refused(errors::stream_restore(text))
}

impl RestoreJob {
    /// Listens for chunks.
    pub(crate) fn new(
        engine: &Arc<Engine>,
        account: &Arc<JsAccount>,
        order: RestoreOrder,
        slot: Slot,
    ) -> Self {
        let incoming = Arc::new(Incoming::default());
        let sink = Arc::new(ChunkSink(incoming.clone()));
        let inner: &Arc<Account> = &account.account;
        let chunks = inner.subscribe(order.subject.as_bytes(), None, sink);
        let broker = &engine.broker;
        Self {
            order,
            engine: Arc::downgrade(engine),
            account: account.clone(),
            clock: broker.clock().clone(),
            advisories: Writer::new(broker, &engine.config.domain),
            publisher: broker.publisher(),
            source: ChunkReader::new(incoming, inner.clone(), broker.publisher()),
            _chunks: chunks,
            _slot: slot,
        }
    }

    /// Takes the backup. It blocks.
    pub(crate) fn run(mut self: Box<Self>) {
        let start = self.clock.wall();
        let stream = self.order.config.name.clone();
        self.tell(&stream, &BackupEvent::RestoreCreate);
        let mut outcome = self.restore();
        // The answer is that to the end, also if the beginning was wrong.
        if self.source.end.is_none() && self.source.drain().is_err() {
            outcome = Err(Failure::Stalled);
        }
        let result = match outcome {
            Err(Failure::Stalled) => {
                tracing::warn!(
                    "Restoring stream '{} > {stream}' was given up by its client",
                    self.account.name()
                );
                return;
            }
            Err(Failure::Refused(error)) => Err(error),
            Ok(info) => Ok(StreamCreateResponse { info, did_create: false }),
        };
        if let Err(error) = &result {
            tracing::warn!("Restoring stream '{} > {stream}' failed: {error}", self.account.name());
        }
        let reply = self.source.end.take().unwrap_or_default();
        let bytes = self.source.received;
        self.tell(&stream, &BackupEvent::RestoreComplete { start, bytes });
        self.source.answer(&reply, &responses::encode(&result));
    }

    fn tell(&mut self, stream: &str, event: &BackupEvent<'_>) {
        let client = &self.order.client;
        self.advisories.backup(&mut self.publisher, &self.account.account, stream, client, event);
        self.publisher.flush();
    }

    fn engine(&self) -> Result<Arc<Engine>, Failure> {
        self.engine.upgrade().ok_or(Failure::Stalled)
    }

    fn restore(&mut self) -> Result<StreamInfo, Failure> {
        let now = self.clock.wall();
        let limits = self.engine()?.limits_for(&self.account);
        let mut reader = Reader::new(&mut self.source)?;
        if reader.name().is_some_and(|name| name != self.order.config.name) {
            return Err(refused("stream names do not match"));
        }
        // Older servers went on storing messages while they made a backup, and it does not begin with how many it has.
        let last_seq = match reader.end() {
            Some(end) => end.last_seq,
            None => self.order.last_seq.saturating_add(FLOOR_STEP),
        };
        if last_seq > FIRST_SEQ_MAX {
            return Err(refused("sequence too large"));
        }
        let created = reader.created().unwrap_or(now);
        let engine = self.engine.upgrade().ok_or(Failure::Stalled)?;
        let (account, config) = (self.account.clone(), self.order.config.clone());
        let handle = Handle::current().block_on(engine.begin_restore(&account, config, created, last_seq))?;
        drop(engine);
        let mut feed = Feed::new(self.engine.clone(), handle.clone(), last_seq, now);
        let mut consumers = Waiting { stream: &self.order.config, limits, all: Vec::new(), awaited: 0 };
        let fed = feed.take(&mut reader, &mut consumers);
        drop(reader);
        let complete = fed.and_then(|end| {
            self.source.drain().map_err(|e| Failure::from(ArchiveError::Io(e)))?;
            feed.finish(end, consumers.all)
        });
        let engine = self.engine.upgrade().ok_or(Failure::Stalled)?;
        let complete = complete.and_then(|()| {
            let members = self.order.members.clone();
            let finished = engine.finish_restore(&account, &handle, members);
            Handle::current().block_on(finished).map_err(Failure::Refused)
        });
        if let Err(failure) = complete {
            Handle::current().block_on(engine.abandon_restore(&account, &handle));
            return Err(failure);
        }
        drop(engine);
        self.describe(&handle)
    }

    fn describe(&self, handle: &StreamHandle) -> Result<StreamInfo, Failure> {
        let engine = self.engine()?;
        if engine.cluster.is_some() {
            return Ok(Handle::current().block_on(engine.describe_restored(handle))?);
        }
        let report = Handle::current().block_on(engine.stream_report(handle));
        let report = report.ok_or(errors::STREAM_NOT_FOUND)?;
        let mut config = (*handle.config()).clone();
        metadata::add_server_keys(&mut config.metadata);
        Ok(StreamInfo {
            config,
            created: handle.created(),
            state: report.state,
            mirror: report.mirror,
            sources: report.sources,
            timestamp: self.clock.wall(),
            ..StreamInfo::default()
        })
    }
}

/// A consumer of a backup: name, configuration for this stream, as it was.
pub(super) type Judged = (String, ConsumerConfig, ArchivedConsumer);

/// Consumers that wait until the messages are stored.
pub(super) struct Waiting<'a> {
    stream: &'a StreamConfig,
    limits: Limits,
    all: Vec<Judged>,
    awaited: usize,
}

impl Consumers for Waiting<'_> {
    fn count(&self) -> usize {
        self.all.len()
    }

    fn each(&self) -> impl Iterator<Item = (&str, &ConsumerConfig)> {
        self.all.iter().map(|(name, config, _)| (name.as_str(), config))
    }
}

impl Waiting<'_> {
    pub(super) fn add(&mut self, name: String, consumer: ArchivedConsumer) -> Result<(), Failure> {
        let request = CreateConsumerRequest {
            stream: self.stream.name.clone(),
            config: ConsumerConfig { name: name.clone(), ..consumer.config.clone() },
            ..CreateConsumerRequest::default()
        };
        if self.all.iter().any(|(other, ..)| *other == name) {
            return Err(refused(format_args!("consumer '{name}' is there twice")));
        }
        let judged = consumer_rules::check_create(&request, None, self.stream, self, &self.limits);
        let config = match judged {
            Ok(ConsumerCreate::New(config) | ConsumerCreate::Update(config)) => *config,
            Ok(ConsumerCreate::Same) => consumer.config.clone(),
            Err(error) => return Err(refused(format_args!("consumer '{name}': {error}"))),
        };
        let state = consumer.state.as_ref();
        self.awaited += state.and_then(|s| s.pending.as_ref()).map_or(0, std::collections::BTreeMap::len);
        self.awaited += state.and_then(|s| s.redelivered.as_ref()).map_or(0, std::collections::BTreeMap::len);
        if self.all.len() >= CONSUMERS_MAX || self.awaited > AWAITED_MAX {
            return Err(refused("too many consumers"));
        }
        self.all.push((name, config, consumer));
        Ok(())
    }
}
