//! Clients at work while servers suffer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::{Client, HeaderMap, Request};
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::super::trio::Trio;
use super::is_long;
use super::ledger::Ledger;
use crate::harness::within;

/// How long an answer may take before it is asked for again.
const ANSWER: Duration = Duration::from_millis(500);
/// A consumer's floor is looked at again after this.
const LOOK: Duration = Duration::from_millis(50);
/// The longest time that something may not be answered: a pause, and a healing.
const PATIENCE: Duration = Duration::from_secs(45);
/// An expected sequence is not the last one.
const WRONG_LAST: u64 = 10_071;

/// A publisher has one message under way, and begins the next not before this. In the ordinary tests many servers share a few
/// processors.
fn pace() -> Duration {
    Duration::from_millis(if is_long() { 10 } else { 40 })
}

/// Everything that runs beside the faults.
pub(super) struct Load {
    has_ended: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

/// One client at work on one stream.
struct Worker {
    client: Client,
    stream: String,
    ledger: Arc<Ledger>,
    has_ended: Arc<AtomicBool>,
}

impl Load {
    /// Publishers and consumers of each stream, each with a connection of its own.
    pub(super) async fn begin(trio: &Trio, streams: &[String], ledger: &Arc<Ledger>) -> Self {
        let has_ended = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for stream in streams {
            for n in 0..2 {
                let worker = Worker::new(trio, stream, ledger, &has_ended).await;
                match &stream[..1] {
                    "K" => tasks.spawn(worker.compare_and_set(n)),
                    _ => tasks.spawn(worker.publish(n)),
                };
            }
            if &stream[..1] != "K" {
                tasks.spawn(Worker::new(trio, stream, ledger, &has_ended).await.consume());
                tasks.spawn(Worker::new(trio, stream, ledger, &has_ended).await.watch());
            }
        }
        tasks.spawn(Worker::new(trio, "", ledger, &has_ended).await.manage());
        Self { has_ended, tasks }
    }

    pub(super) async fn end(mut self) {
        self.has_ended.store(true, Ordering::Relaxed);
        while let Some(ended) = within("the end of the clients", self.tasks.join_next()).await {
            ended.unwrap();
        }
    }
}

impl Worker {
    async fn new(trio: &Trio, stream: &str, ledger: &Arc<Ledger>, has_ended: &Arc<AtomicBool>) -> Self {
        Self {
            client: trio.restless().await,
            stream: stream.to_owned(),
            ledger: ledger.clone(),
            has_ended: has_ended.clone(),
        }
    }

    fn goes_on(&self) -> bool {
        !self.has_ended.load(Ordering::Relaxed)
    }

    async fn ask(&self, subject: String, headers: HeaderMap, body: String) -> Option<Value> {
        let request = Request::new().headers(headers).payload(body.into()).timeout(Some(ANSWER));
        let answer = self.client.send_request(subject, request).await.ok()?;
        serde_json::from_slice(&answer.payload).ok()
    }

    /// Makes streams, changes and empties them, and removes every second one. At least one of them is there for certain.
    async fn manage(self) {
        let mut pace = tokio::time::interval(Duration::from_millis(200));
        let mut has_made = false;
        for number in 0_u64.. {
            pace.tick().await;
            if !self.goes_on() && has_made {
                return;
            }
            let (name, subject) = (format!("T{number}"), format!("t{number}"));
            let mut config = serde_json::json!({"name": name, "subjects": [subject],
                "num_replicas": 1 + 2 * (number % 2)});
            if self.calls(&format!("STREAM.CREATE.{name}"), &config).await {
                self.ledger.settle(&name, true);
                has_made |= number % 4 >= 2;
            }
            let _ = self.ask(subject, HeaderMap::new(), "x".to_owned()).await;
            config["max_msgs"] = 5.into();
            self.calls(&format!("STREAM.UPDATE.{name}"), &config).await;
            self.calls(&format!("STREAM.PURGE.{name}"), &serde_json::json!({})).await;
            if number % 4 < 2 {
                self.ledger.doubt(&name);
                if self.calls(&format!("STREAM.DELETE.{name}"), &Value::Null).await {
                    self.ledger.settle(&name, false);
                }
            }
        }
    }

    /// True if a call was answered, and not with an error.
    async fn calls(&self, call: &str, body: &Value) -> bool {
        let answer = self.ask(format!("$JS.API.{call}"), HeaderMap::new(), body.to_string()).await;
        answer.is_some_and(|answer| answer["error"].is_null())
    }

    /// Messages with an id, each of which expects to follow the one before on its subject.
    async fn publish(self, n: usize) {
        let subject = format!("{}.{n}", self.stream.to_lowercase());
        let mut last = 0;
        let mut pace = tokio::time::interval(pace());
        for number in 0_u64.. {
            pace.tick().await;
            let body = format!("{subject}:{number}");
            let Some(seq) = self.publish_one(&subject, &body, last).await else { return };
            self.ledger.acknowledge(&self.stream, seq, &body);
            // What a consumer takes is gone, and with it the last sequence of the subject.
            if &self.stream[..1] == "L" {
                last = seq;
            }
            if !self.goes_on() {
                return;
            }
        }
    }

    /// Publishes until it is acknowledged; the sequence.
    async fn publish_one(&self, subject: &str, body: &str, last: u64) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", body);
        if last > 0 {
            headers.insert("Nats-Expected-Last-Subject-Sequence", last.to_string());
        }
        let begun = Instant::now();
        loop {
            let answer = self.ask(subject.to_owned(), headers.clone(), body.to_owned()).await;
            let answer = answer.unwrap_or_default();
            if let Some(seq) = answer["seq"].as_u64().filter(|_| answer["error"].is_null()) {
                return Some(seq);
            }
            if answer["error"]["err_code"] == WRONG_LAST {
                self.ledger.violate(format!("{}: {body} should follow {last}: {answer}", self.stream));
                return None;
            }
            if begun.elapsed() > PATIENCE {
                self.ledger.violate(format!("{}: {body} is not acknowledged: {answer}", self.stream));
                return None;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Writes a key that others write too.
    async fn compare_and_set(self, n: usize) {
        let subject = format!("{}.key", self.stream.to_lowercase());
        let mut last = 0;
        let mut pace = tokio::time::interval(pace());
        for number in 0_u64.. {
            pace.tick().await;
            if !self.goes_on() {
                return;
            }
            let body = format!("{n}:{number}");
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Expected-Last-Subject-Sequence", last.to_string());
            let answer = self.ask(subject.clone(), headers, body.clone()).await.unwrap_or_default();
            match answer["seq"].as_u64().filter(|_| answer["error"].is_null()) {
                Some(seq) => {
                    self.ledger.follow(&self.stream, &subject, last);
                    self.ledger.acknowledge(&self.stream, seq, &body);
                    last = seq;
                }
                None => last = self.last_of(&subject).await.unwrap_or(last),
            }
        }
    }

    /// The last sequence of a subject. What was written without an answer may be there.
    async fn last_of(&self, subject: &str) -> Option<u64> {
        let call = format!("$JS.API.STREAM.MSG.GET.{}", self.stream);
        let body = serde_json::json!({"last_by_subj": subject}).to_string();
        self.ask(call, HeaderMap::new(), body).await?["message"]["seq"].as_u64()
    }

    /// Takes messages and has each acknowledgement confirmed.
    async fn consume(self) {
        let context = async_nats::jetstream::new(self.client.clone());
        let consumer: PullConsumer = loop {
            match context.get_consumer_from_stream("D", &self.stream).await {
                Ok(consumer) => break consumer,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        while self.goes_on() {
            self.consume_batch(&consumer).await;
        }
    }

    async fn consume_batch(&self, consumer: &PullConsumer) {
        let confirmed = self.ledger.confirmed(&self.stream);
        let batch = consumer.fetch().max_messages(10).expires(Duration::from_millis(300)).messages();
        let Ok(Ok(mut batch)) = tokio::time::timeout(ANSWER, batch).await else { return };
        // A server that was killed does not say that a request has expired.
        while let Ok(Some(Ok(message))) = tokio::time::timeout(ANSWER, batch.next()).await {
            let seq = message.info().unwrap().stream_sequence;
            let body = String::from_utf8_lossy(&message.payload).into_owned();
            self.ledger.deliver(&self.stream, seq, &body, &confirmed);
            if confirms(&self.client, &message).await {
                self.ledger.confirm(&self.stream, seq);
            }
        }
    }

    /// Looks at the consumer's floor again and again.
    async fn watch(self) {
        let call = format!("$JS.API.CONSUMER.INFO.{}.D", self.stream);
        let mut pace = tokio::time::interval(LOOK);
        while self.goes_on() {
            pace.tick().await;
            let confirmed = self.ledger.confirmed_floor(&self.stream);
            let answer = self.ask(call.clone(), HeaderMap::new(), String::new()).await.unwrap_or_default();
            if let Some(floor) = answer["ack_floor"]["stream_seq"].as_u64() {
                self.ledger.floor(&self.stream, floor, confirmed);
            }
        }
    }
}

/// Acknowledges a message; true if that is confirmed. The client library takes the answer that nobody is there for a
/// confirmation.
pub(super) async fn confirms(client: &Client, message: &async_nats::jetstream::Message) -> bool {
    let Some(reply) = message.reply.clone() else { return false };
    matches!(tokio::time::timeout(ANSWER, client.request(reply, "+ACK".into())).await, Ok(Ok(_)))
}
