//! Advisories: what happened to streams and consumers, for whoever listens (jetstream, "Advisories and metrics").

use std::sync::Arc;

use linnet_assets::{Abandoned, Advisory};
use linnet_broker::{Account, Broker, ClientDescription, Message, Publisher};
use linnet_env::Clock;
use linnet_ids::Wall;
use linnet_jsapi::info::StreamState;
use linnet_jsapi::to_json;
use serde::Serialize;
use serde_json::{Map, Value};

use linnet_env::NameSource;

/// Writes advisories into the account of the asset, if anybody listens.
pub(crate) struct Writer {
    clock: Arc<dyn Clock>,
    ids: NameSource,
    /// Empty for none.
    domain: String,
}

#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: String,
    id: String,
    timestamp: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    domain: &'a str,
    #[serde(flatten)]
    fields: &'a Map<String, Value>,
}

impl Writer {
    pub(crate) fn new(broker: &Broker, domain: &str) -> Self {
        Self { clock: broker.clock().clone(), ids: NameSource::new(), domain: domain.to_owned() }
    }

    pub(crate) fn send(
        &mut self,
        publisher: &mut Publisher,
        account: &Arc<Account>,
        stream: &str,
        advisory: &Advisory,
    ) {
        let (topic, kind, mut fields) = match advisory {
            Advisory::ConsumerCreated { consumer } => (
                format!("CONSUMER.CREATED.{stream}.{consumer}"),
                "consumer_action",
                fields([("consumer", consumer.as_str().into()), ("action", "create".into())]),
            ),
            Advisory::ConsumerDeleted { consumer } => (
                format!("CONSUMER.DELETED.{stream}.{consumer}"),
                "consumer_action",
                fields([("consumer", consumer.as_str().into()), ("action", "delete".into())]),
            ),
            Advisory::MaxDeliveries { consumer, stream_seq, deliveries } => (
                format!("CONSUMER.MAX_DELIVERIES.{stream}.{consumer}"),
                "max_deliver",
                fields([
                    ("consumer", consumer.as_str().into()),
                    ("stream_seq", (*stream_seq).into()),
                    ("deliveries", (*deliveries).into()),
                ]),
            ),
            Advisory::Naked { consumer, consumer_seq, stream_seq, deliveries } => (
                format!("CONSUMER.MSG_NAKED.{stream}.{consumer}"),
                "nak",
                fields([
                    ("consumer", consumer.as_str().into()),
                    ("consumer_seq", (*consumer_seq).into()),
                    ("stream_seq", (*stream_seq).into()),
                    ("deliveries", (*deliveries).into()),
                ]),
            ),
            Advisory::Terminated { consumer, consumer_seq, stream_seq, deliveries, reason } => {
                let mut all = fields([
                    ("consumer", consumer.as_str().into()),
                    ("consumer_seq", (*consumer_seq).into()),
                    ("stream_seq", (*stream_seq).into()),
                    ("deliveries", (*deliveries).into()),
                ]);
                if !reason.is_empty() {
                    all.insert("reason".to_owned(), reason.as_str().into());
                }
                (format!("CONSUMER.MSG_TERMINATED.{stream}.{consumer}"), "terminated", all)
            }
            Advisory::AckSampled { consumer, consumer_seq, stream_seq, ack_time, deliveries } => {
                let nanos = u64::try_from(ack_time.as_nanos()).unwrap_or(u64::MAX);
                let all = fields([
                    ("stream", stream.into()),
                    ("consumer", consumer.as_str().into()),
                    ("consumer_seq", (*consumer_seq).into()),
                    ("stream_seq", (*stream_seq).into()),
                    ("ack_time", nanos.into()),
                    ("deliveries", (*deliveries).into()),
                ]);
                let subject = format!("$JS.EVENT.METRIC.CONSUMER.ACK.{stream}.{consumer}");
                return self.emit(publisher, account, &subject, "metric.v1.consumer_ack", &all);
            }
            Advisory::Pinned { consumer, group, pinned_id } => (
                format!("CONSUMER.PINNED.{stream}.{consumer}"),
                "consumer_group_pinned",
                fields([
                    ("account", account.name().into()),
                    ("consumer", consumer.as_str().into()),
                    ("group", group.as_str().into()),
                    ("pinned_id", pinned_id.as_str().into()),
                ]),
            ),
            Advisory::Unpinned { consumer, group, reason } => (
                format!("CONSUMER.UNPINNED.{stream}.{consumer}"),
                "consumer_group_unpinned",
                fields([
                    ("account", account.name().into()),
                    ("consumer", consumer.as_str().into()),
                    ("group", group.as_str().into()),
                    ("reason", (*reason).into()),
                ]),
            ),
            Advisory::Paused { consumer, until, paused } => {
                let until = until.map_or_else(|| Wall::ZERO_TEXT.to_owned(), Wall::rfc3339);
                let all = fields([
                    ("consumer", consumer.as_str().into()),
                    ("paused", (*paused).into()),
                    ("pause_until", until.into()),
                ]);
                (format!("CONSUMER.PAUSE.{stream}.{consumer}"), "consumer_pause", all)
            }
            Advisory::Damaged { stream_seq } => (
                format!("STREAM.DAMAGED.{stream}"),
                "stream_damaged",
                fields([("stream_seq", (*stream_seq).into())]),
            ),
            Advisory::BatchAbandoned { batch, reason } => (
                format!("STREAM.BATCH_ABANDONED.{stream}"),
                "stream_batch_abandoned",
                fields([("batch", batch.as_str().into()), ("reason", reason_text(*reason).into())]),
            ),
            Advisory::Reconfigured | Advisory::CaughtUp => return,
        };
        fields.insert("stream".to_owned(), stream.into());
        self.publish(publisher, account, &topic, kind, &fields);
    }

    /// A stream was created, changed or deleted.
    pub(crate) fn stream_action(
        &mut self,
        publisher: &mut Publisher,
        account: &Arc<Account>,
        stream: &str,
        action: StreamAction,
    ) {
        let (topic, text) = match action {
            StreamAction::Created => ("CREATED", "create"),
            StreamAction::Updated => ("UPDATED", "modify"),
            StreamAction::Deleted => ("DELETED", "delete"),
        };
        let all = fields([("stream", stream.into()), ("action", text.into())]);
        self.publish(publisher, account, &format!("STREAM.{topic}.{stream}"), "stream_action", &all);
    }

    /// The API was called.
    pub(crate) fn audit(
        &mut self,
        publisher: &mut Publisher,
        account: &Arc<Account>,
        fields: &Map<String, Value>,
    ) {
        self.publish(publisher, account, "API", "api_audit", fields);
    }

    /// Requests to the API found no room.
    pub(crate) fn queue_limit(
        &mut self,
        publisher: &mut Publisher,
        account: &Arc<Account>,
        server: &str,
        dropped: u64,
    ) {
        let fields = fields([("server", server.into()), ("dropped", dropped.into())]);
        self.publish(publisher, account, "API.LIMIT_REACHED", "api_limit_reached", &fields);
    }

    /// A snapshot or a restore began or ended.
    pub(crate) fn backup(
        &mut self,
        publisher: &mut Publisher,
        account: &Arc<Account>,
        stream: &str,
        client: &ClientDescription,
        event: &BackupEvent<'_>,
    ) {
        let (topic, kind) = match event {
            BackupEvent::SnapshotCreate { .. } => ("SNAPSHOT_CREATE", "snapshot_create"),
            BackupEvent::SnapshotComplete { .. } => ("SNAPSHOT_COMPLETE", "snapshot_complete"),
            BackupEvent::RestoreCreate => ("RESTORE_CREATE", "restore_create"),
            BackupEvent::RestoreComplete { .. } => ("RESTORE_COMPLETE", "restore_complete"),
        };
        let mut all = fields([("stream", stream.into())]);
        if let BackupEvent::SnapshotComplete { start, .. } | BackupEvent::RestoreComplete { start, .. } =
            event
        {
            all.insert("start".to_owned(), start.rfc3339().into());
            all.insert("end".to_owned(), self.clock.wall().rfc3339().into());
        }
        match event {
            BackupEvent::SnapshotCreate { state } => {
                let state = serde_json::to_value(state).unwrap_or_default();
                all.insert("state".to_owned(), state);
            }
            BackupEvent::RestoreComplete { bytes, .. } => {
                all.insert("bytes".to_owned(), (*bytes).into());
            }
            BackupEvent::SnapshotComplete { error: Some(error), .. } => {
                all.insert("error".to_owned(), (*error).into());
            }
            BackupEvent::SnapshotComplete { .. } | BackupEvent::RestoreCreate => {}
        }
        all.insert("client".to_owned(), serde_json::to_value(client).unwrap_or_default());
        self.publish(publisher, account, &format!("STREAM.{topic}.{stream}"), kind, &all);
    }

    /// Something else, in the words of `fields`.
    pub(crate) fn publish(
        &mut self,
        publisher: &mut Publisher,
        account: &Arc<Account>,
        topic: &str,
        kind: &str,
        fields: &Map<String, Value>,
    ) {
        let subject = format!("$JS.EVENT.ADVISORY.{topic}");
        self.emit(publisher, account, &subject, &format!("advisory.v1.{kind}"), fields);
    }

    fn emit(
        &mut self,
        publisher: &mut Publisher,
        account: &Arc<Account>,
        subject: &str,
        kind: &str,
        fields: &Map<String, Value>,
    ) {
        if !account.has_interest(subject.as_bytes()) {
            return;
        }
        let body = to_json(&Envelope {
            kind: format!("io.nats.jetstream.{kind}"),
            id: self.ids.unique(),
            timestamp: self.clock.wall().rfc3339(),
            domain: &self.domain,
            fields,
        });
        let message = Message {
            subject: subject.as_bytes(),
            shown_subject: b"",
            reply: b"",
            header_len: 0,
            body: &body,
        };
        publisher.publish(account, &message);
    }
}

fn reason_text(reason: Abandoned) -> &'static str {
    match reason {
        Abandoned::Timeout => "timeout",
        Abandoned::Large => "large",
        Abandoned::Incomplete => "incomplete",
        Abandoned::Unsupported => "unsupported",
    }
}

/// What happened to a snapshot or a restore.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BackupEvent<'a> {
    SnapshotCreate { state: &'a StreamState },
    SnapshotComplete { start: Wall, error: Option<&'a str> },
    RestoreCreate,
    RestoreComplete { start: Wall, bytes: u64 },
}

/// What happened to a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StreamAction {
    Created,
    Updated,
    Deleted,
}

fn fields<const N: usize>(pairs: [(&str, Value); N]) -> Map<String, Value> {
    pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}
