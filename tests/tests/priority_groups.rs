//! Priority groups of pull consumers, each rule against both servers.

use async_nats::{Client, Message, Subscriber};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::harness::{Fixture, JETSTREAM, err_code, within};

/// Somebody who asks for messages.
struct Worker {
    client: Client,
    inbox: String,
    answers: Subscriber,
}

/// What a worker got.
#[derive(Debug, PartialEq, Eq)]
enum Got {
    Message(u64, Option<String>),
    Status(String),
}

impl Worker {
    async fn new(s: &Fixture) -> Self {
        let client = s.connect().await;
        let inbox = client.new_inbox();
        let answers = within("subscribing", client.subscribe(inbox.clone())).await.unwrap();
        Self { client, inbox, answers }
    }

    async fn ask(&self, request: Value) {
        let (subject, body) = ("$JS.API.CONSUMER.MSG.NEXT.S.C", request.to_string());
        self.client.publish_with_reply(subject, self.inbox.clone(), body.into()).await.unwrap();
        within("a round trip", self.client.flush()).await.unwrap();
    }

    async fn next(&mut self) -> Got {
        got(within("an answer", self.answers.next()).await.unwrap())
    }

    async fn pull(&mut self, request: Value) -> Got {
        self.ask(request).await;
        self.next().await
    }
}

fn got(message: Message) -> Got {
    if let Some(status) = message.status {
        return Got::Status(format!("{} {}", status.as_u16(), message.description.unwrap_or_default()));
    }
    let pin = message.headers.and_then(|headers| headers.get("Nats-Pin-Id").map(ToString::to_string));
    let seq = message.reply.unwrap().split('.').nth(5).unwrap().parse().unwrap();
    Got::Message(seq, pin)
}

fn status(text: &str) -> Got {
    Got::Status(text.to_owned())
}

impl Fixture {
    async fn grouped(&mut self, messages: usize, config: Value) {
        self.stream(json!({"name": "S", "subjects": ["s"]})).await;
        let mut all = json!({"durable_name": "C", "ack_policy": "explicit", "priority_groups": ["g"]});
        all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        self.consumer("S", all).await;
        for _ in 0..messages {
            self.publish("s", "x").await;
        }
    }

    /// Waits until so many requests are in line.
    async fn waiting(&mut self, count: u64) {
        self.consumer_shows("S", "C", &[("/num_waiting", count)]).await;
    }
}

const EXPIRES: u64 = 5_000_000_000;

on_both_servers! { JETSTREAM;
    async fn configurations_are_judged(s) {
        s.stream(json!({"name": "S", "subjects": ["s"]})).await;
        for (config, code) in [
            (json!({"priority_policy": "overflow"}), 10159),
            (json!({"priority_groups": ["g"]}), 10196),
            (json!({"priority_timeout": 1_000_000_000}), 10197),
            (json!({"priority_policy": "overflow", "priority_groups": [""]}), 10161),
            (json!({"priority_policy": "overflow", "priority_groups": ["a b"]}), 10162),
            (json!({"priority_policy": "overflow", "priority_groups": ["x".repeat(17)]}), 10162),
            (json!({"priority_policy": "overflow", "priority_groups": ["g"], "deliver_subject": "x"}), 10178),
            (json!({"priority_policy": "overflow", "priority_groups": ["g", "h"]}), 0),
            (json!({"priority_policy": "overflow", "priority_groups": ["x".repeat(16)]}), 0),
        ] {
            let mut all = json!({"durable_name": "C", "ack_policy": "explicit"});
            all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
            let answer = s.try_consumer("S", all).await;
            assert_eq!(err_code(&answer), code, "{config}: {answer}");
        }
        let info = s.consumer_info("S", "C").await;
        assert_eq!(info["priority_groups"], json!([{"group": "x".repeat(16), "pinned_ts": "0001-01-01T00:00:00Z"}]));
    }

    async fn requests_name_their_group(s) {
        s.grouped(2, json!({"priority_policy": "prioritized"})).await;
        let mut worker = Worker::new(s).await;
        for (request, refusal) in [
            (json!({"batch": 1, "expires": EXPIRES}), "Priority Group missing"),
            (json!({"batch": 1, "expires": EXPIRES, "group": "h"}), "Invalid Priority Group"),
            (json!({"batch": 1, "group": "g", "id": "x"}), "Not a Pinned Client Priority consumer"),
            (json!({"batch": 1, "group": "g", "min_pending": 1}), "Not a Overflow Priority consumer"),
            (json!({"batch": 1, "group": "g", "priority": 10}), "Priority must be between 0 and 9"),
        ] {
            assert_eq!(worker.pull(request).await, Got::Status(format!("400 Bad Request - {refusal}")));
        }
        assert_eq!(worker.pull(json!({"batch": 1, "group": "g"})).await, Got::Message(1, None));
        assert_eq!(worker.pull(json!(1)).await, Got::Message(2, None), "a number names no group");
    }

    async fn the_lowest_priority_number_is_served_first(s) {
        s.grouped(0, json!({"priority_policy": "prioritized"})).await;
        let mut workers = Vec::new();
        for (at, priority) in [5, 1, 5, 0].into_iter().enumerate() {
            let worker = Worker::new(s).await;
            worker.ask(json!({"batch": 1, "expires": EXPIRES, "group": "g", "priority": priority})).await;
            s.waiting(at as u64 + 1).await;
            workers.push(worker);
        }
        for seq in 1..=4 {
            assert_eq!(s.publish("s", "x").await["seq"], seq);
        }
        let mut order = Vec::new();
        for worker in &mut workers {
            order.push(worker.next().await);
        }
        assert_eq!(order, [3, 2, 4, 1].map(|seq| Got::Message(seq, None)));
    }

    async fn overflow_is_served_when_enough_waits(s) {
        s.grouped(0, json!({"priority_policy": "overflow"})).await;
        let (mut by_pending, mut by_open) = (Worker::new(s).await, Worker::new(s).await);
        by_pending.ask(json!({"batch": 1, "expires": EXPIRES, "group": "g", "min_pending": 3})).await;
        by_open.ask(json!({"batch": 1, "expires": EXPIRES, "group": "g", "min_ack_pending": 2})).await;
        s.waiting(2).await;
        s.publish("s", "x").await;
        s.publish("s", "x").await;
        s.consumer_shows("S", "C", &[("/num_waiting", 2), ("/num_pending", 2), ("/num_ack_pending", 0)]).await;
        s.publish("s", "x").await;
        assert_eq!(by_pending.next().await, Got::Message(1, None));
        let mut anybody = Worker::new(s).await;
        assert_eq!(anybody.pull(json!({"batch": 1, "expires": EXPIRES, "group": "g"})).await, Got::Message(2, None));
        assert_eq!(by_open.next().await, Got::Message(3, None));
    }

    async fn one_client_is_pinned_until_it_is_silent(s) {
        s.grouped(4, json!({"priority_policy": "pinned_client", "priority_timeout": 1_000_000_000})).await;
        let (mut first, mut second) = (Worker::new(s).await, Worker::new(s).await);
        let request = json!({"batch": 1, "expires": EXPIRES, "group": "g"});
        let Got::Message(1, Some(pin)) = first.pull(request.clone()).await else { panic!("it is pinned") };
        let info = s.consumer_info("S", "C").await;
        assert_eq!(info["priority_groups"][0]["pinned_client_id"], pin.as_str(), "{info}");
        second.ask(request.clone()).await;
        s.waiting(1).await;
        let of = |pin: &str| json!({"batch": 1, "expires": EXPIRES, "group": "g", "id": pin});
        assert_eq!(first.pull(of("another")).await, status("423 Nats-Pin-Id mismatch"));
        assert_eq!(first.pull(of(&pin)).await, Got::Message(2, Some(pin.clone())));
        let Got::Message(3, Some(next)) = second.next().await else { panic!("it is pinned now") };
        assert_ne!(next, pin);
        assert_eq!(first.pull(of(&pin)).await, status("423 Nats-Pin-Id mismatch"));
    }

    async fn an_operator_unpins(s) {
        s.grouped(2, json!({"priority_policy": "pinned_client"})).await;
        let client = s.client().await;
        let mut told = within("subscribing", client.subscribe("$JS.EVENT.ADVISORY.CONSUMER.*.S.C")).await.unwrap();
        let (mut first, mut second) = (Worker::new(s).await, Worker::new(s).await);
        let request = json!({"batch": 1, "expires": EXPIRES, "group": "g"});
        let Got::Message(1, Some(pin)) = first.pull(request.clone()).await else { panic!("it is pinned") };
        second.ask(request).await;
        s.waiting(1).await;
        for (body, code) in [
            (json!({}), 10025),
            (json!({"group": "a b"}), 10162),
            (json!({"group": "other"}), 10160),
            (json!({"group": "g"}), 0),
        ] {
            assert_eq!(err_code(&s.api("CONSUMER.UNPIN.S.C", body).await), code);
        }
        let Got::Message(2, Some(next)) = second.next().await else { panic!("it is pinned now") };
        // The second time nobody is pinned.
        for _ in 0..2 {
            s.api("CONSUMER.UNPIN.S.C", json!({"group": "g"})).await;
        }
        let mut advisories = Vec::new();
        for _ in 0..5 {
            let advisory = within("an advisory", told.next()).await.unwrap();
            let advisory: Value = serde_json::from_slice(&advisory.payload).unwrap();
            assert_eq!((&advisory["stream"], &advisory["consumer"], &advisory["group"]), (&json!("S"), &json!("C"), &json!("g")));
            assert_eq!(advisory["account"], "$G", "{advisory}");
            let kind = advisory["type"].as_str().unwrap().rsplit('.').next().unwrap().to_owned();
            advisories.push((kind, advisory["pinned_id"].clone(), advisory["reason"].clone()));
        }
        let (pinned, unpinned) = ("consumer_group_pinned".to_owned(), "consumer_group_unpinned".to_owned());
        assert_eq!(advisories, [
            (pinned.clone(), json!(pin), Value::Null),
            (unpinned.clone(), Value::Null, json!("admin")),
            (pinned, json!(next), Value::Null),
            (unpinned.clone(), Value::Null, json!("admin")),
            (unpinned, Value::Null, json!("admin")),
        ]);
    }
}
