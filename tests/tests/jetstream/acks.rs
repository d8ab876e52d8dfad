//! Acknowledgements and what they bring about.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Fixture, JETSTREAM, eventually, within};

impl Fixture {
    async fn ack_sync(
        &mut self,
        subject: String,
        payload: &str,
    ) -> Result<(), async_nats::client::RequestErrorKind> {
        let client = self.client().await;
        let answer = within("an answer to an ack", client.request(subject, payload.to_owned().into())).await;
        answer.map(|_| ()).map_err(|error| error.kind())
    }

    /// A consumer with two messages delivered.
    async fn two_delivered(&mut self, more: Value) -> [String; 2] {
        self.stream(json!({"name": "S", "subjects": ["a"]})).await;
        let mut config = json!({"durable_name": "C", "ack_policy": "explicit"});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.consumer("S", config).await;
        self.publish("a", "1").await;
        self.publish("a", "2").await;
        let pulled = self.pull("S", "C", json!({"batch": 2})).await;
        [pulled.messages[0].ack.clone(), pulled.messages[1].ack.clone()]
    }
}

on_both_servers! { JETSTREAM;
    async fn an_acknowledgement_to_nobody_is_answered_at_once(s) {
        use async_nats::client::RequestErrorKind::NoResponders;
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
        s.publish("a", "1").await;
        s.publish("a", "2").await;
        let pulled = s.pull("S", "C", json!({"batch": 2})).await;
        let [first, second] = [&pulled.messages[0].ack, &pulled.messages[1].ack];
        assert_eq!(s.ack_sync(first.clone(), "").await, Ok(()));
        for malformed in ["$JS.ACK.S.C.x", "$JS.ACK.S.C", "$JS.ACK.S.C.x.y.z.v.w.u"] {
            assert_eq!(s.ack_sync(malformed.to_owned(), "").await, Err(NoResponders), "{malformed}");
        }
        s.api("CONSUMER.DELETE.S.C", Value::Null).await;
        for payload in ["", "+ACK", "-NAK", "+WPI", "+TERM", "+NXT"] {
            assert_eq!(s.ack_sync(second.clone(), payload).await, Err(NoResponders), "{payload}");
        }
        s.api("STREAM.DELETE.S", Value::Null).await;
        assert_eq!(s.ack_sync(second.clone(), "").await, Err(NoResponders));
    }

    async fn payloads_mean_what_they_say(s) {
        for (n, (payload, pending, again)) in [
            ("", 1, 0), ("+ACK", 1, 0), ("+OK", 1, 0), ("+TERM", 1, 0), ("+TERM no use", 1, 0),
            ("-NAK", 2, 1), ("-NAK nonsense", 2, 1), ("-NAK {\"delay\": 1000000}", 2, 1), ("-NAK 1ms", 2, 1),
            ("-NAK {\"delay\": 600000000000}", 2, 0), ("-NAK 10m", 2, 0), ("+WPI", 2, 0), ("nonsense", 2, 0),
        ].into_iter().enumerate() {
            let stream = format!("S{n}");
            let subject = format!("s.{n}");
            s.stream(json!({"name": stream, "subjects": [subject]})).await;
            s.consumer(&stream, json!({"durable_name": "C", "ack_policy": "explicit"})).await;
            s.publish(&subject, "1").await;
            s.publish(&subject, "2").await;
            let pulled = s.pull(&stream, "C", json!({"batch": 2})).await;
            assert_eq!(s.ack_sync(pulled.messages[0].ack.clone(), payload).await, Ok(()), "{payload}");
            s.consumer_shows(&stream, "C", &[("/num_ack_pending", pending)]).await;
            // What comes again does so within a moment.
            let request = if again > 0 { json!({"batch": 1}) } else { json!({"batch": 1, "no_wait": true}) };
            assert_eq!(s.pull(&stream, "C", request).await.messages.len(), again, "{payload}");
        }
    }

    async fn an_acknowledgement_may_ask_for_more(s) {
        use futures_util::StreamExt as _;
        let [first, second] = s.two_delivered(json!({})).await;
        for body in ["3", "4", "5"] {
            s.publish("a", body).await;
        }
        let client = s.client().await;
        let mut more = client.subscribe("more").await.unwrap();
        client.publish_with_reply(first, "more", "+NXT 2".into()).await.unwrap();
        for body in ["3", "4"] {
            assert_eq!(within("the next message", more.next()).await.unwrap().payload, body);
        }
        client.publish_with_reply(second, "more", "+NXT".into()).await.unwrap();
        assert_eq!(within("the next message", more.next()).await.unwrap().payload, "5");
        s.consumer_shows("S", "C", &[("/ack_floor/stream_seq", 2), ("/num_ack_pending", 3)]).await;
    }

    async fn work_in_progress_puts_the_redelivery_off(s) {
        let wait = Duration::from_millis(400);
        let [first, second] = s.two_delivered(json!({"ack_wait": 400_000_000})).await;
        s.ack_sync(second, "").await.unwrap();
        let mut working = tokio::time::interval(wait / 4);
        for _ in 0..8 {
            working.tick().await;
            s.ack_sync(first.clone(), "+WPI").await.unwrap();
        }
        let began = tokio::time::Instant::now();
        let again = s.pull("S", "C", json!({"batch": 1})).await;
        assert_eq!((again.messages[0].stream_seq, again.messages[0].delivered), (1, 2));
        assert!(began.elapsed() > wait / 2, "{:?}", began.elapsed());
    }

    async fn an_acknowledgement_twice_is_confirmed_and_of_what_was_not_delivered_is_not(s) {
        let [first, _] = s.two_delivered(json!({})).await;
        s.publish("a", "3").await;
        assert_eq!(s.ack_sync(first.clone(), "").await, Ok(()));
        assert_eq!(s.ack_sync(first.clone(), "").await, Ok(()));
        s.consumer_shows("S", "C", &[("/num_ack_pending", 1), ("/ack_floor/stream_seq", 1)]).await;
        let early: Vec<&str> = first.split('.').collect();
        let early = [&early[..5], &["3", "3"], &early[7..]].concat().join(".");
        let client = s.client().await;
        let unconfirmed = tokio::time::timeout(Duration::from_millis(200), client.request(early, "".into())).await;
        assert!(unconfirmed.is_err(), "{unconfirmed:?}");
        s.consumer_shows("S", "C", &[("/num_ack_pending", 1), ("/num_pending", 1)]).await;
    }

    async fn giving_one_up_gives_up_all_before_it_where_one_stands_for_all(s) {
        let [_, second] = s.two_delivered(json!({"ack_policy": "all"})).await;
        assert_eq!(s.ack_sync(second, "+TERM").await, Ok(()));
        s.consumer_shows("S", "C", &[("/num_ack_pending", 0), ("/ack_floor/stream_seq", 2)]).await;
    }

    async fn the_floor_says_when_a_message_was_given_up(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        for (seq, name) in (1_u64..).zip(["TERM", "DELETE", "PURGE"]) {
            s.publish("a", "x").await;
            s.consumer("S", json!({"durable_name": name, "ack_policy": "explicit"})).await;
            let pulled = s.pull("S", name, json!({"batch": 1})).await;
            assert_eq!(s.consumer_info("S", name).await["ack_floor"]["last_active"], Value::Null, "{name}");
            match name {
                "TERM" => s.ack_sync(pulled.messages[0].ack.clone(), "+TERM").await.unwrap(),
                "DELETE" => _ = s.api("STREAM.MSG.DELETE.S", json!({"seq": seq})).await,
                _ => _ = s.api("STREAM.PURGE.S", Value::Null).await,
            }
            eventually("the floor moves", async || {
                let floor = &s.consumer_info("S", name).await["ack_floor"];
                (floor["stream_seq"] == seq).then(|| assert!(floor["last_active"].is_string(), "{name}: {floor}"))
            })
            .await;
            s.api("STREAM.PURGE.S", Value::Null).await;
        }
    }

    async fn nobody_listens_to_acknowledgements_that_are_not_wanted(s) {
        let [first, _] = s.two_delivered(json!({"ack_policy": "none"})).await;
        for payload in ["", "-NAK", "+TERM", "+NXT"] {
            let nobody = s.ack_sync(first.clone(), payload).await;
            assert_eq!(nobody, Err(async_nats::client::RequestErrorKind::NoResponders), "{payload}");
        }
    }

    async fn a_message_removed_while_it_is_pending_is_over(s) {
        let _acks = s.two_delivered(json!({})).await;
        s.api("STREAM.MSG.DELETE.S", json!({"seq": 1})).await;
        s.consumer_shows("S", "C", &[("/num_ack_pending", 1), ("/ack_floor/stream_seq", 1)]).await;
        s.api("STREAM.PURGE.S", Value::Null).await;
        s.consumer_shows("S", "C", &[("/num_ack_pending", 0), ("/ack_floor/stream_seq", 2)]).await;
    }
}
