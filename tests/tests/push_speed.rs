//! How fast consumers deliver where their configuration says so, and what they tell of acknowledgements.

use std::time::Duration;

use async_nats::{Message, Subscriber};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{Fixture, JETSTREAM, err_code, within};

impl Fixture {
    /// A stream with messages of 1000 bytes.
    async fn thousands(&mut self, messages: u64, more: Value) {
        let mut config = json!({"name": "S", "subjects": ["a"], "storage": "memory"});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.stream(config).await;
        for _ in 0..messages {
            self.publish("a", &"x".repeat(1000)).await;
        }
    }

    /// A durable push consumer that delivers to `d`, and its listener.
    async fn pushing(&mut self, more: Value) -> Subscriber {
        let listener = self.client().await.subscribe("d").await.unwrap();
        let mut config = json!({"durable_name": "c", "deliver_subject": "d"});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.consumer("S", config).await;
        listener
    }
}

async fn next(messages: &mut Subscriber) -> Message {
    within("a message", messages.next()).await.unwrap()
}

on_both_servers! { JETSTREAM;
    async fn a_rate_limit_holds_behind_what_the_largest_message_may_be(s) {
        s.thousands(5, json!({"max_msg_size": 2000})).await;
        let began = Instant::now();
        // 2000 bytes a second.
        let mut messages = s.pushing(json!({"rate_limit_bps": 16_000})).await;
        next(&mut messages).await;
        assert!(began.elapsed() < Duration::from_millis(900));
        for _ in 0..4 {
            next(&mut messages).await;
        }
        assert!(began.elapsed() > Duration::from_millis(1500), "{:?}", began.elapsed());
        let pull = json!({"durable_name": "p", "rate_limit_bps": 1});
        assert_eq!(err_code(&s.try_consumer("S", pull).await), 10086);
    }

    async fn without_a_largest_message_much_is_sent_at_once(s) {
        s.thousands(10, json!({})).await;
        let began = Instant::now();
        let mut messages = s.pushing(json!({"rate_limit_bps": 800})).await;
        for _ in 0..10 {
            next(&mut messages).await;
        }
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    async fn messages_are_replayed_at_the_speed_at_which_they_came(s) {
        s.thousands(2, json!({})).await;
        let pause = s.client().await.subscribe("nothing").await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(800), pause.into_future()).await.is_err());
        s.publish("a", "later").await;
        let mut messages = s.pushing(json!({"replay_policy": "original"})).await;
        next(&mut messages).await;
        next(&mut messages).await;
        let began = Instant::now();
        assert_eq!(next(&mut messages).await.payload, "later");
        assert!(began.elapsed() > Duration::from_millis(600), "{:?}", began.elapsed());
        s.publish("a", "new").await;
        assert_eq!(next(&mut messages).await.payload, "new");
    }

    async fn requests_are_served_at_that_speed_too(s) {
        s.thousands(1, json!({})).await;
        let pause = s.client().await.subscribe("nothing").await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(800), pause.into_future()).await.is_err());
        s.publish("a", "later").await;
        s.consumer("S", json!({"durable_name": "p", "replay_policy": "original"})).await;
        let began = Instant::now();
        let pulled = s.pull("S", "p", json!({"batch": 2})).await;
        assert_eq!(pulled.messages.len(), 2);
        assert!(began.elapsed() > Duration::from_millis(600), "{:?}", began.elapsed());
    }

    async fn sampled_acknowledgements_are_told_of(s) {
        s.thousands(5, json!({})).await;
        let client = s.client().await;
        let mut metrics = client.subscribe("$JS.EVENT.METRIC.>").await.unwrap();
        let mut messages = s.pushing(json!({"ack_policy": "explicit", "sample_freq": "100%"})).await;
        for payload in ["-NAK", "+TERM", "+WPI", "+ACK"] {
            let reply = next(&mut messages).await.reply.unwrap();
            within("a confirmation", client.request(reply, payload.into())).await.unwrap();
        }
        let metric: Value = serde_json::from_slice(&next(&mut metrics).await.payload).unwrap();
        assert_eq!(metric["type"], "io.nats.jetstream.metric.v1.consumer_ack");
        assert_eq!((&metric["stream"], &metric["consumer"]), (&"S".into(), &"c".into()));
        assert_eq!((&metric["stream_seq"], &metric["consumer_seq"]), (&4.into(), &4.into()));
        assert_eq!(metric["deliveries"], 1);
        let ack_time = metric["ack_time"].as_u64().unwrap();
        assert!((1..20_000_000_000).contains(&ack_time), "{ack_time}");
    }

    async fn samples_are_a_share(s) {
        s.thousands(1, json!({})).await;
        for (sample, code) in
            [("30", 0), ("30%", 0), ("200", 0), ("0", 0), ("x", 10095), ("-1", 10095), ("%", 10095), ("30%%", 10095)]
        {
            let config = json!({"durable_name": "c", "ack_policy": "explicit", "sample_freq": sample});
            assert_eq!(err_code(&s.try_consumer("S", config).await), code, "{sample}");
        }
        // None of a share of none.
        let client = s.client().await;
        let mut metrics = client.subscribe("$JS.EVENT.METRIC.>").await.unwrap();
        for (name, sample) in [("none", "0"), ("all", "100")] {
            s.consumer("S", json!({"durable_name": name, "ack_policy": "explicit", "sample_freq": sample})).await;
            let pulled = s.pull("S", name, json!({})).await;
            s.ack(&pulled.messages[0], "+ACK").await;
        }
        let metric: Value = serde_json::from_slice(&next(&mut metrics).await.payload).unwrap();
        assert_eq!(metric["consumer"], "all");
    }

    async fn a_deliver_group_is_served_when_it_listens(s) {
        s.thousands(1, json!({})).await;
        let mut other = s.pushing(json!({"deliver_group": "g"})).await;
        let info = s.consumer_info("S", "c").await;
        assert_eq!(info["push_bound"], Value::Null);
        let client = s.client().await;
        let _wrong = client.queue_subscribe("d", "h".to_owned()).await.unwrap();
        s.consumer_shows("S", "c", &[("/num_pending", 1), ("/delivered/consumer_seq", 0)]).await;
        let mut group = client.queue_subscribe("d", "g".to_owned()).await.unwrap();
        assert_eq!(next(&mut group).await.payload.len(), 1000);
        assert_eq!(next(&mut other).await.payload.len(), 1000);
        assert_eq!(s.consumer_info("S", "c").await["push_bound"], true);
    }
}
