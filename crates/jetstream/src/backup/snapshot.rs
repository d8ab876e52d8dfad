use std::sync::Arc;
use std::time::Duration;

use linnet_archive::Writer as ArchiveWriter;
use linnet_assets::{Command, Snapshot};
use linnet_broker::{Account, ClientDescription, Message, Publisher};
use linnet_env::Clock;
use linnet_store::{PinReadError, PinReader};

use super::consumer::archived;
use super::slots::Slot;
use super::window::{AckSink, Stalled, Window};
use crate::advisories::{BackupEvent, Writer};
use crate::catalogue::StreamHandle;

/// How long somebody may take to listen.
const INTEREST_WAIT: Duration = Duration::from_secs(2);
const INTEREST_STEP: Duration = Duration::from_millis(20);

/// What a client asked for.
pub(crate) struct SnapshotOrder {
    pub(crate) deliver: String,
    pub(crate) chunk: usize,
    pub(crate) window: usize,
    /// Unique.
    pub(crate) id: String,
}

/// A snapshot being sent.
pub(crate) struct SnapshotJob {
    pub(crate) order: SnapshotOrder,
    pub(crate) account: Arc<Account>,
    pub(crate) handle: Arc<StreamHandle>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) publisher: Publisher,
    pub(crate) advisories: Writer,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) client: ClientDescription,
    pub(crate) _slot: Slot,
}

/// Why a snapshot ends early.
enum Failure {
    Stalled(Stalled),
    Read(PinReadError),
    /// A thread ended without a result.
    Internal,
}

impl Failure {
    fn status(&self) -> String {
        match self {
            Self::Stalled(Stalled::NoFlow) => "408 No Flow Response".to_owned(),
            Self::Stalled(Stalled::NoInterest) => "408 No Interest".to_owned(),
            Self::Read(error) => format!("500 {}", error.to_string().replace(['\r', '\n'], " ")),
            Self::Internal => "500 internal error".to_owned(),
        }
    }
}

impl SnapshotJob {
    pub(crate) async fn run(mut self: Box<Self>) {
        let start = self.clock.wall();
        let stream = self.snapshot.config.name.clone();
        let event = BackupEvent::SnapshotCreate { state: &self.snapshot.state };
        self.advisories.backup(&mut self.publisher, &self.account, &stream, &self.client, &event);
        self.publisher.flush();
        let outcome = self.send().await;
        let error = outcome.err().map(|failure| failure.status());
        if let Some(status) = &error {
            self.publish(b"", Some(status), b"");
        }
        let event = BackupEvent::SnapshotComplete { start, error: error.as_deref() };
        self.advisories.backup(&mut self.publisher, &self.account, &stream, &self.client, &event);
        self.publisher.flush();
        // Files that were kept for this may go.
        self.handle.inbox.nudge();
    }

    async fn send(&mut self) -> Result<(), Failure> {
        let pinned = self.snapshot.messages.lock().take().ok_or(Failure::Internal)?;
        let mut source = Source {
            archive: ArchiveWriter::new(&self.snapshot.state, self.clock.wall().0),
            snapshot: self.snapshot.clone(),
            now: self.clock.wall().0,
            reader: Some(pinned.read()),
            consumers: 0,
        };
        self.wait_for_interest().await?;
        let window = Arc::new(Window::default());
        let ack = format!("$JS.SNAPSHOT.ACK.{}.{}", self.snapshot.config.name, self.order.id);
        let sink = Arc::new(AckSink(window.clone()));
        let _acks = self.account.subscribe(format!("{ack}.*.*").as_bytes(), None, sink);
        let chunk = self.order.chunk;
        let mut number = 0;
        loop {
            let filled = tokio::task::spawn_blocking(move || {
                let filled = source.fill(chunk);
                (source, filled)
            });
            let (returned, filled) = filled.await.map_err(|_| Failure::Internal)?;
            source = returned;
            if let Err(error) = filled {
                if let PinReadError::Damaged(seq) = error {
                    let _ = self.handle.ask(Command::NoteDamage(vec![seq])).await;
                }
                return Err(Failure::Read(error));
            }
            if source.archive.len() < chunk {
                break;
            }
            while source.archive.len() >= chunk {
                window
                    .room(chunk, self.order.window, &self.account, &self.order.deliver)
                    .await
                    .map_err(Failure::Stalled)?;
                number += 1;
                window.note_sent(number, chunk);
                let reply = format!("{ack}.{chunk}.{number}");
                let data = source.archive.take(chunk);
                if self.publish(reply.as_bytes(), Some("204"), &data) == 0 {
                    return Err(Failure::Stalled(Stalled::NoInterest));
                }
            }
        }
        if !source.archive.is_empty() {
            let data = source.archive.take(chunk);
            self.publish(b"", None, &data);
        }
        self.publish(b"", (number > 0).then_some("204"), b"");
        Ok(())
    }

    /// Waits for a subscription to the very subject: one to a pattern may be a client's for all its answers, while
    /// the one for this data is still to come.
    async fn wait_for_interest(&self) -> Result<(), Failure> {
        let deliver = self.order.deliver.as_bytes();
        let mut waited = Duration::ZERO;
        while !self.account.has_subscription_to(deliver) {
            if waited >= INTEREST_WAIT {
                let is_heard = self.account.has_interest(deliver);
                return if is_heard { Ok(()) } else { Err(Failure::Stalled(Stalled::NoInterest)) };
            }
            tokio::time::sleep(INTEREST_STEP).await;
            waited += INTEREST_STEP;
        }
        Ok(())
    }

    fn publish(&mut self, reply: &[u8], status: Option<&str>, data: &[u8]) -> usize {
        let mut body = status.map_or_else(Vec::new, |s| format!("NATS/1.0 {s}\r\n\r\n").into_bytes());
        let header_len = body.len();
        body.extend_from_slice(data);
        let subject = self.order.deliver.as_bytes();
        let message = Message { subject, shown_subject: b"", reply, header_len, body: &body };
        let reached = self.publisher.publish(&self.account, &message);
        self.publisher.flush();
        reached
    }
}

/// Turns a stream into an archive, as much at a time as is asked for.
struct Source {
    archive: ArchiveWriter,
    snapshot: Arc<Snapshot>,
    now: i64,
    /// `None` once everything is in the archive.
    reader: Option<PinReader>,
    /// Consumers in the archive.
    consumers: usize,
}

impl Source {
    /// Adds to the archive until it has a chunk, or everything.
    fn fill(&mut self, chunk: usize) -> Result<(), PinReadError> {
        while self.archive.len() < chunk {
            if let Some(consumer) = self.snapshot.consumers.get(self.consumers) {
                self.consumers += 1;
                self.archive.consumer(&consumer.name, self.now, &archived(consumer));
                continue;
            }
            let Some(reader) = &mut self.reader else { return Ok(()) };
            match reader.next_record()? {
                Some(r) => {
                    self.archive.message(r.subject, r.timestamp.0, r.seq, r.headers.len(), r.body);
                }
                None => {
                    self.archive.end();
                    self.reader = None;
                }
            }
        }
        Ok(())
    }
}
