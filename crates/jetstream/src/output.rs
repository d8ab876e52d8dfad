use std::sync::Arc;

use linnet_assets::{Advisory, Answer, Link, Output, Token};
use linnet_broker::{Account, Broker, InternalSubscription, Message, Publisher};
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::write_pub_error;
use linnet_replication::GroupJob;
use linnet_store::LoadJob;
use linnet_wire::headers;
use slab::Slab;
use tokio::sync::oneshot;

use crate::advisories;
use crate::disk_work::{DiskWork, DiskWorkers};
use crate::inbox::{InboxSink, LetterKind, StreamInbox};
use crate::pump::{GroupKey, PumpHandle};
use linnet_env::NameSource;

/// The sending side of a pump, shared by its groups.
pub(crate) struct Hub {
    publisher: Publisher,
    waiting: Slab<oneshot::Sender<Answer>>,
    /// Given, but not sent yet: whoever gets them may use at once what they speak of.
    answers: Vec<(oneshot::Sender<Answer>, Answer)>,
    changes: Vec<Change>,
    max_direct_bytes: u64,
    advisories: advisories::Writer,
    names: NameSource,
}

/// Something that subscriptions must follow.
pub(crate) enum Change {
    ConsumerCreated(GroupKey, String),
    ConsumerDeleted(GroupKey, String),
    Reconfigured(GroupKey),
    /// The stream listens to an origin.
    Listening(GroupKey, Link, [InternalSubscription; 2]),
    StoppedListening(GroupKey, Link),
}

/// The [`Output`] of one group.
pub(crate) struct Outbox<'a> {
    hub: &'a mut Hub,
    key: GroupKey,
    account: &'a Arc<Account>,
    stream: &'a str,
    workers: &'a DiskWorkers,
    pump: &'a PumpHandle,
    inbox: &'a Arc<StreamInbox>,
}

impl Hub {
    pub(crate) fn new(broker: &Broker, domain: &str) -> Self {
        Self {
            publisher: broker.publisher(),
            waiting: Slab::new(),
            answers: Vec::new(),
            changes: Vec::new(),
            max_direct_bytes: broker.config().max_pending as u64,
            advisories: advisories::Writer::new(broker, domain),
            names: NameSource::new(),
        }
    }

    pub(crate) fn outbox<'a>(
        &'a mut self,
        key: GroupKey,
        account: &'a Arc<Account>,
        stream: &'a str,
        workers: &'a DiskWorkers,
        pump: &'a PumpHandle,
        inbox: &'a Arc<StreamInbox>,
    ) -> Outbox<'a> {
        Outbox { hub: self, key, account, stream, workers, pump, inbox }
    }

    /// Sends answers and writes what groups sent. Subscriptions have followed what the answers speak of.
    pub(crate) fn flush(&mut self) {
        for (sender, answer) in self.answers.drain(..) {
            // Whoever asked may have stopped waiting.
            let _ = sender.send(answer);
        }
        self.publisher.flush();
    }

    /// What changed about consumers and configurations since the last call.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }
}

impl Outbox<'_> {
    /// Registers somebody who waits for an answer.
    pub(crate) fn expect(&mut self, sender: oneshot::Sender<Answer>) -> Token {
        self.hub.waiting.insert(sender) as Token
    }

    /// Refuses a publish because the inbox was full.
    pub(crate) fn refuse_busy(&mut self, reply: &[u8], stream: &str) {
        let mut body = Vec::with_capacity(192);
        headers::begin(&mut body, "429 Too Many Requests");
        headers::end(&mut body);
        let header_len = body.len();
        write_pub_error(&errors::STREAM_TOO_MANY_REQUESTS, stream, &mut body);
        self.publish(reply, b"", b"", header_len, &body);
    }

    /// Tells whoever waits for an answer that nobody is there to give one, as the broker does where nobody
    /// subscribes.
    pub(crate) fn say_no_responders(&mut self, subject: &[u8], reply: &[u8]) {
        if reply.is_empty() {
            return;
        }
        let mut block = Vec::with_capacity(subject.len() + 40);
        headers::begin(&mut block, "503");
        headers::push(&mut block, "Nats-Subject", subject);
        headers::end(&mut block);
        self.publish(reply, b"", b"", block.len(), &block);
    }

    /// Tells a client that asks for messages that it needs more than this server can do.
    pub(crate) fn say_level_required(&mut self, reply: &[u8]) {
        if reply.is_empty() {
            return;
        }
        let mut block = Vec::with_capacity(48);
        headers::begin(&mut block, "412 Required Api Level");
        headers::end(&mut block);
        self.publish(reply, b"", b"", block.len(), &block);
    }

    /// Refuses a publish because the stream is stopped.
    pub(crate) fn refuse(&mut self, reply: &[u8], error: &ApiError, stream: &str) {
        let mut body = Vec::with_capacity(192);
        write_pub_error(error, stream, &mut body);
        self.publish(reply, b"", b"", 0, &body);
    }

    /// Most bytes a direct get of many answers with.
    pub(crate) fn max_direct_bytes(&self) -> u64 {
        self.hub.max_direct_bytes
    }
}

impl Output for Outbox<'_> {
    fn unique_id(&mut self) -> Vec<u8> {
        self.hub.names.unique().into_bytes()
    }

    fn publish(&mut self, to: &[u8], shown: &[u8], reply: &[u8], header_len: usize, body: &[u8]) -> usize {
        let message = Message { subject: to, shown_subject: shown, reply, header_len, body };
        self.hub.publisher.publish(self.account, &message)
    }

    fn account(&self) -> &str {
        self.account.name()
    }

    fn may_be_clogged(&mut self) -> bool {
        self.hub.publisher.met_slow()
    }

    fn is_clogged(&mut self, subject: &[u8]) -> bool {
        self.hub.publisher.is_slow(self.account, subject)
    }

    fn has_interest(&mut self, subject: &[u8]) -> bool {
        self.account.has_interest(subject)
    }

    fn has_queue_interest(&mut self, subject: &[u8], group: &[u8]) -> bool {
        self.account.has_queue_interest(subject, group)
    }

    fn answer(&mut self, token: Token, answer: Answer) {
        let at = usize::try_from(token).unwrap_or(usize::MAX);
        if let Some(sender) = self.hub.waiting.try_remove(at) {
            self.hub.answers.push((sender, answer));
        }
    }

    fn listen(&mut self, link: Link, deliver_to: &[u8], answer_to: &[u8]) {
        let kinds = [(deliver_to, LetterKind::Origin(link)), (answer_to, LetterKind::OriginAnswer(link))];
        let subscriptions = kinds.map(|(subject, kind)| {
            self.account.subscribe(
                subject,
                None,
                Arc::new(InboxSink { inbox: self.inbox.clone(), kind, cut: 0 }),
            )
        });
        self.hub.changes.push(Change::Listening(self.key, link, subscriptions));
    }

    fn stop_listening(&mut self, link: Link) {
        self.hub.changes.push(Change::StoppedListening(self.key, link));
    }

    fn load(&mut self, job: LoadJob) {
        self.workers.submit(DiskWork::Group(GroupJob::Load(job), self.key, self.pump.clone()));
    }

    fn advise(&mut self, advisory: Advisory) {
        match &advisory {
            Advisory::ConsumerCreated { consumer } => {
                self.hub.changes.push(Change::ConsumerCreated(self.key, consumer.clone()));
            }
            Advisory::ConsumerDeleted { consumer } => {
                self.hub.changes.push(Change::ConsumerDeleted(self.key, consumer.clone()));
            }
            Advisory::Reconfigured | Advisory::CaughtUp => {
                self.hub.changes.push(Change::Reconfigured(self.key))
            }
            Advisory::Damaged { stream_seq } => {
                tracing::error!(
                    "Stream '{} > {}': message {stream_seq} is damaged",
                    self.account.name(),
                    self.stream
                );
            }
            _ => {}
        }
        self.hub.advisories.send(&mut self.hub.publisher, self.account, self.stream, &advisory);
    }
}
