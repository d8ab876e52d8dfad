//! Streams and consumers in a few words, through the API as it is.

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use serde_json::{Value, json};

use super::{Fixture, Kind, LONG, within};

/// Answers to a pull: the messages, then the status that ended it.
pub(crate) struct Pulled {
    /// Stream sequence, number of the delivery, consumer sequence, pending after it, body, ack subject.
    pub(crate) messages: Vec<Delivered>,
    /// Code and text of the status line, if one came.
    pub(crate) status: Option<String>,
    /// `Nats-Pending-Messages` of that status.
    pub(crate) unserved: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) stream_seq: u64,
    pub(crate) delivered: u64,
    pub(crate) consumer_seq: u64,
    pub(crate) pending: u64,
    pub(crate) ack: String,
}

impl Fixture {
    /// Creates a stream. On a busy machine nats-server now and then cannot create the store of one, and is asked again.
    pub(crate) async fn stream(&mut self, config: Value) -> Value {
        let name = config["name"].as_str().unwrap().to_owned();
        let mut answer = self.api(&format!("STREAM.CREATE.{name}"), config.clone()).await;
        for _ in 0..10 {
            if self.kind != Kind::Peer || answer["error"]["err_code"] != 10049 {
                break;
            }
            answer = self.api(&format!("STREAM.CREATE.{name}"), config.clone()).await;
        }
        assert_eq!(answer["error"], Value::Null, "{answer}");
        answer
    }

    /// Creates a durable consumer.
    pub(crate) async fn consumer(&mut self, stream: &str, config: Value) -> Value {
        let answer = self.try_consumer(stream, config).await;
        assert_eq!(answer["error"], Value::Null, "{answer}");
        answer
    }

    /// Asks for a durable consumer; the answer.
    pub(crate) async fn try_consumer(&mut self, stream: &str, config: Value) -> Value {
        let name = config["durable_name"].as_str().unwrap().to_owned();
        let body = json!({"stream_name": stream, "config": config});
        self.api(&format!("CONSUMER.CREATE.{stream}.{name}"), body).await
    }

    /// The answer to a publish.
    pub(crate) async fn publish(&mut self, subject: &str, body: &str) -> Value {
        self.request(subject, body.to_owned()).await
    }

    /// The answer to a publish with headers.
    pub(crate) async fn publish_with(
        &mut self,
        subject: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Value {
        let client = self.client().await;
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, *value);
        }
        let sent = client.request_with_headers(subject.to_owned(), map, Bytes::from(body.to_owned()));
        let answer = within(subject, sent).await.unwrap();
        serde_json::from_slice(&answer.payload).unwrap()
    }

    /// State of a stream.
    pub(crate) async fn state(&mut self, stream: &str) -> Value {
        self.api(&format!("STREAM.INFO.{stream}"), Value::Null).await["state"].clone()
    }

    /// What the API tells of a consumer.
    pub(crate) async fn consumer_info(&mut self, stream: &str, consumer: &str) -> Value {
        self.api(&format!("CONSUMER.INFO.{stream}.{consumer}"), Value::Null).await
    }

    /// Waits until the consumer's information is as expected, by JSON pointer: the peer counts after it has answered.
    pub(crate) async fn consumer_shows(&mut self, stream: &str, consumer: &str, expected: &[(&str, u64)]) {
        let subject = format!("CONSUMER.INFO.{stream}.{consumer}");
        self.shows(&subject, "", expected).await;
    }

    /// Waits until the stream's state is as expected, by JSON pointer.
    pub(crate) async fn stream_shows(&mut self, stream: &str, expected: &[(&str, u64)]) {
        self.shows(&format!("STREAM.INFO.{stream}"), "/state", expected).await;
    }

    async fn shows(&mut self, subject: &str, part: &str, expected: &[(&str, u64)]) {
        let mut last = Value::Null;
        let deadline = linnet_launch::Deadline::after(LONG);
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while !deadline.has_passed() {
            ticks.tick().await;
            let answer = self.api(subject, Value::Null).await;
            last = answer.pointer(part).cloned().unwrap_or(answer);
            let shown = |pointer| last.pointer(pointer).and_then(Value::as_u64);
            if expected.iter().all(|(pointer, value)| shown(pointer) == Some(*value)) {
                return;
            }
        }
        panic!("not {expected:?} within {LONG:?}: {last}");
    }

    /// Pulls and reads until a status comes or `batch` messages have.
    pub(crate) async fn pull(&mut self, stream: &str, consumer: &str, request: Value) -> Pulled {
        let batch = request["batch"].as_u64().unwrap_or(1).max(1);
        self.pull_with(stream, consumer, &request.to_string(), batch).await
    }

    /// Pulls with a body of any form and reads until a status comes or `batch` messages have.
    pub(crate) async fn pull_with(&mut self, stream: &str, consumer: &str, body: &str, batch: u64) -> Pulled {
        use futures_util::StreamExt as _;
        let client = self.client().await;
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.unwrap();
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}");
        client.publish_with_reply(subject, inbox, body.to_owned().into()).await.unwrap();
        let mut pulled = Pulled { messages: Vec::new(), status: None, unserved: None };
        while pulled.status.is_none() && (pulled.messages.len() as u64) < batch {
            let message = within("an answer to a pull", answers.next()).await.unwrap();
            if let Some(status) = message.status {
                let text = message.description.unwrap_or_default();
                pulled.status = Some(format!("{} {text}", status.as_u16()));
                let headers = message.headers.unwrap_or_default();
                pulled.unserved = headers.get("Nats-Pending-Messages").map(ToString::to_string);
                continue;
            }
            let ack = message.reply.unwrap().to_string();
            let tokens: Vec<&str> = ack.split('.').collect();
            let number = |at: usize| tokens[at].parse().unwrap();
            pulled.messages.push(Delivered {
                stream_seq: number(5),
                delivered: number(4),
                consumer_seq: number(6),
                pending: number(8),
                ack: ack.clone(),
            });
        }
        pulled
    }

    /// An acknowledgement of some kind, confirmed.
    pub(crate) async fn ack(&mut self, delivered: &Delivered, payload: &str) {
        let client = self.client().await;
        within("a confirmation", client.request(delivered.ack.clone(), payload.to_owned().into()))
            .await
            .unwrap();
    }
}

/// Which messages came.
pub(crate) fn sequences(pulled: &Pulled) -> Vec<u64> {
    pulled.messages.iter().map(|m| m.stream_seq).collect()
}

/// The error of an answer, 0 for none.
pub(crate) fn err_code(answer: &Value) -> u64 {
    answer["error"]["err_code"].as_u64().unwrap_or_default()
}

/// A stored message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) subject: String,
    /// Its headers as `Key: value`, in order.
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
    /// When it was stored.
    pub(crate) time: String,
}

impl Stored {
    /// The value of a header, empty if there is none.
    pub(crate) fn header(&self, key: &str) -> &str {
        let value = self.headers.iter().find_map(|h| h.strip_prefix(key)?.strip_prefix(": "));
        value.unwrap_or_default()
    }
}

impl Fixture {
    /// The stored message, if it is there.
    pub(crate) async fn stored(&mut self, stream: &str, seq: u64) -> Option<Stored> {
        let answer = self.api(&format!("STREAM.MSG.GET.{stream}"), json!({"seq": seq})).await;
        let message = answer.get("message")?;
        let text = |key: &str| {
            let encoded = message[key].as_str().unwrap_or_default();
            String::from_utf8(base64::Engine::decode(&base64::prelude::BASE64_STANDARD, encoded).unwrap())
                .unwrap()
        };
        let headers = text("hdrs").lines().skip(1).filter(|l| !l.is_empty()).map(str::to_owned).collect();
        let subject = message["subject"].as_str().unwrap().to_owned();
        let time = message["time"].as_str().unwrap().to_owned();
        Some(Stored { subject, headers, body: text("data"), time })
    }

    /// Creates a stream that is expected to be refused; the error's code and text.
    pub(crate) async fn refused_stream(&mut self, config: Value) -> (u64, String) {
        let name = config["name"].as_str().unwrap().to_owned();
        let answer = self.api(&format!("STREAM.CREATE.{name}"), config).await;
        (err_code(&answer), answer["error"]["description"].as_str().unwrap_or_default().to_owned())
    }
}
