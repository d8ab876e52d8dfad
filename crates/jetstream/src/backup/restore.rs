use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use linnet_archive::{ArchivedConsumer, Entry as ArchiveEntry, Error as ArchiveError, Part, Reader};
use linnet_assets::{Answer, Attach, Command, Entry, RestoreMark, RestorePart, is_expired};
use linnet_broker::{Account, InternalSubscription, Publisher};
use linnet_env::Clock;
use linnet_ids::Wall;
use linnet_jsapi::consumer_rules::{self, ConsumerCreate, Consumers};
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::info::{StreamInfo, StreamState};
use linnet_jsapi::limits::{FIRST_SEQ_MAX, Limits};
use linnet_jsapi::requests::CreateConsumerRequest;
use linnet_jsapi::responses::{self, StreamCreateResponse};
use linnet_jsapi::{ConsumerConfig, StreamConfig, metadata};
use linnet_store::{RECORD_MAX, Seed, encode_record};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::consumer::restored;
use super::incoming::{ChunkReader, ChunkSink, Incoming};
use crate::advisories::{BackupEvent, Writer};
use crate::catalogue::{JsAccount, StreamHandle, limits_for};
use crate::engine::Engine;

/// Bytes of messages that go into one entry of the log, unless one message is larger.
const PART_BYTES: usize = 1 << 20;
/// Entries that may be on their way to the log.
const PARTS_MAX: usize = 4;
/// Consumers wait in memory until the messages are stored: their number, and bytes of what they await.
const CONSUMERS_MAX: usize = 100_000;
const AWAITED_MAX: usize = 4_000_000;
/// Bytes of a record besides subject, headers and payload.
const RECORD_FIXED: usize = 32;
/// How often the log is asked whether it can take more.
const PRESSED_STEP: Duration = Duration::from_millis(10);

/// What a client asked for, judged.
pub(crate) struct RestoreOrder {
    pub(crate) config: StreamConfig,
    /// What the client sends its chunks to.
    pub(crate) subject: String,
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
    _permit: OwnedSemaphorePermit,
}

/// Why a restore fails.
enum Failure {
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

fn refused(text: impl std::fmt::Display) -> Failure {
    Failure::Refused(errors::stream_restore(text))
}

impl RestoreJob {
    /// Listens for chunks.
    pub(crate) fn new(
        engine: &Arc<Engine>,
        account: &Arc<JsAccount>,
        order: RestoreOrder,
        permit: OwnedSemaphorePermit,
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
            advisories: Writer::new(broker),
            publisher: broker.publisher(),
            source: ChunkReader::new(incoming, inner.clone(), broker.publisher()),
            _chunks: chunks,
            _permit: permit,
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
        self.advisories.backup(&mut self.publisher, &self.account.account, stream, event);
        self.publisher.flush();
    }

    fn engine(&self) -> Result<Arc<Engine>, Failure> {
        self.engine.upgrade().ok_or(Failure::Stalled)
    }

    fn restore(&mut self) -> Result<StreamInfo, Failure> {
        let now = self.clock.wall();
        let limits = limits_for(&self.account, &self.engine()?.accounts, &self.engine()?.config);
        let mut reader = Reader::new(&mut self.source)?;
        let state = reader.state().clone();
        if state.last_seq > FIRST_SEQ_MAX {
            return Err(refused("sequence too large"));
        }
        let engine = self.engine.upgrade().ok_or(Failure::Stalled)?;
        let (account, config) = (self.account.clone(), self.order.config.clone());
        let handle = Handle::current().block_on(engine.begin_restore(&account, config, state.last_seq))?;
        drop(engine);
        let mut feed = Feed {
            engine: self.engine.clone(),
            handle: handle.clone(),
            seed: Seed::of(handle.group),
            records: Entry::Messages(&[]).encode(),
            in_flight: VecDeque::new(),
        };
        let mut consumers = Waiting { stream: &self.order.config, limits, all: Vec::new(), awaited: 0 };
        let fed = feed.take(&mut reader, &state, now, &mut consumers);
        drop(reader);
        let complete = fed.and_then(|()| {
            self.source.drain().map_err(|e| Failure::from(ArchiveError::Io(e)))?;
            feed.finish(&state, consumers.all, now)
        });
        let engine = self.engine.upgrade().ok_or(Failure::Stalled)?;
        let complete = complete.and_then(|()| {
            Handle::current().block_on(engine.finish_restore(&account, &handle)).map_err(Failure::Refused)
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

/// Consumers that wait until the messages are stored.
struct Waiting<'a> {
    stream: &'a StreamConfig,
    limits: Limits,
    all: Vec<(String, ConsumerConfig, ArchivedConsumer)>,
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
    fn add(&mut self, name: String, consumer: ArchivedConsumer) -> Result<(), Failure> {
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

/// The way of a backup into the log of its stream.
struct Feed {
    engine: Weak<Engine>,
    handle: Arc<StreamHandle>,
    seed: Seed,
    /// The entry being collected.
    records: Vec<u8>,
    in_flight: VecDeque<oneshot::Receiver<Answer>>,
}

impl Feed {
    fn take(
        &mut self,
        reader: &mut Reader<&mut ChunkReader>,
        state: &StreamState,
        now: Wall,
        consumers: &mut Waiting<'_>,
    ) -> Result<(), Failure> {
        loop {
            match reader.next_part()? {
                Part::End => return self.send_records(),
                Part::Consumer(name, consumer) => consumers.add(name, *consumer)?,
                Part::Message(message) => self.message(message, state.last_seq, now)?,
            }
        }
    }

    fn message(&mut self, message: &ArchiveEntry, last_seq: u64, now: Wall) -> Result<(), Failure> {
        let ArchiveEntry { name, timestamp, seq, header_len, body } = message;
        let size = RECORD_FIXED + name.len() + body.len();
        let headers = body.get(..*header_len).unwrap_or_default();
        let is_block =
            headers.is_empty() || (headers.starts_with(b"NATS/1.0") && headers.ends_with(b"\r\n\r\n"));
        if *seq > last_seq {
            return Err(refused(format_args!("message {seq} is behind the last one, {last_seq}")));
        }
        if size > RECORD_MAX || !is_block || !linnet_subject::is_valid_literal(name) {
            return Err(refused(format_args!("message {seq} is invalid")));
        }
        if is_expired(headers, Wall(*timestamp), now) {
            return Ok(());
        }
        if self.records.len() > 1 && self.records.len() + size > PART_BYTES {
            self.send_records()?;
        }
        encode_record(&mut self.records, self.seed, *seq, Wall(*timestamp), name, *header_len, body);
        Ok(())
    }

    fn send_records(&mut self) -> Result<(), Failure> {
        if self.records.len() <= 1 {
            return Ok(());
        }
        let records = std::mem::replace(&mut self.records, Entry::Messages(&[]).encode());
        self.wait_for_room(records.len() as u64)?;
        self.send(RestorePart::Messages(records))
    }

    /// Waits while the log or the disk is behind.
    fn wait_for_room(&self, bytes: u64) -> Result<(), Failure> {
        let is_memory = self.handle.cell.is_memory();
        loop {
            let engine = self.engine.upgrade().ok_or(Failure::Stalled)?;
            let left = engine.usage.limits(&self.handle.cell);
            let fits = |left: Option<u64>| left.is_none_or(|left| left >= bytes);
            if !fits(left.account_left) || !fits(left.server_left) {
                return Err(Failure::Refused(match is_memory {
                    true => errors::MEMORY_RESOURCES_EXCEEDED,
                    false => errors::STORAGE_RESOURCES_EXCEEDED,
                }));
            }
            if is_memory || !engine.is_pressed() {
                return Ok(());
            }
            if engine.is_disk_full() {
                return Err(Failure::Refused(errors::STORAGE_RESOURCES_EXCEEDED));
            }
            drop(engine);
            Handle::current().block_on(tokio::time::sleep(PRESSED_STEP));
        }
    }

    fn send(&mut self, part: RestorePart) -> Result<(), Failure> {
        self.in_flight.push_back(self.handle.inbox.command(Command::Restore(part)));
        while self.in_flight.len() > PARTS_MAX {
            self.wait_for_one()?;
        }
        Ok(())
    }

    fn wait_for_one(&mut self) -> Result<(), Failure> {
        let Some(answer) = self.in_flight.pop_front() else { return Ok(()) };
        match answer.blocking_recv() {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            // The server stops.
            Err(_) => Err(Failure::Stalled),
        }
    }

    /// Everything behind the messages.
    fn finish(
        &mut self,
        state: &StreamState,
        consumers: Vec<(String, ConsumerConfig, ArchivedConsumer)>,
        now: Wall,
    ) -> Result<(), Failure> {
        let mark = RestoreMark::Position { last_seq: state.last_seq, last_ts: state.last_ts.map(|t| t.0) };
        self.send(RestorePart::Mark(mark))?;
        // A consumer's state is held against the messages that are there.
        while !self.in_flight.is_empty() {
            self.wait_for_one()?;
        }
        for (name, config, consumer) in consumers {
            let state = Some(restored(consumer.state, &config));
            self.send(RestorePart::Consumer(Box::new(Attach { name, config, created: now.0, state })))?;
        }
        while !self.in_flight.is_empty() {
            self.wait_for_one()?;
        }
        Ok(())
    }
}
