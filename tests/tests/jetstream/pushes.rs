//! Push consumers: who gets what, and when.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{JETSTREAM, LONG, err_code, eventually, within};

on_both_servers! { JETSTREAM;
    async fn a_push_consumer_delivers_as_soon_as_somebody_listens(s) {
        use futures_util::StreamExt as _;
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.publish("a", "x").await;
        let client = s.client().await;
        let mut shortest = LONG;
        for n in 0..5 {
            let (name, subject) = (format!("C{n}"), format!("push.{n}"));
            s.consumer("S", json!({"durable_name": name, "deliver_subject": subject})).await;
            let began = tokio::time::Instant::now();
            let mut messages = client.subscribe(subject).await.unwrap();
            within("the message", messages.next()).await.unwrap();
            shortest = shortest.min(began.elapsed());
            messages.unsubscribe().await.unwrap();
            s.api(&format!("CONSUMER.DELETE.S.{name}"), Value::Null).await;
        }
        assert!(shortest < Duration::from_millis(500), "{shortest:?}");
    }

    async fn a_push_consumer_follows_its_deliver_subject(s) {
        use futures_util::StreamExt as _;
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.publish("a", "x").await;
        s.consumer("S", json!({"durable_name": "C", "deliver_subject": "push.old"})).await;
        let answer = s.try_consumer("S", json!({"durable_name": "C", "deliver_subject": "push.new"})).await;
        assert_eq!(answer["error"], Value::Null, "{answer}");
        let client = s.client().await;
        let began = tokio::time::Instant::now();
        let mut messages = client.subscribe("push.new").await.unwrap();
        within("the message", messages.next()).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }

    async fn deliveries_carry_the_streams_subject_and_an_ack_subject(s) {
        use futures_util::StreamExt as _;
        s.stream(json!({"name": "S", "subjects": ["s.*"]})).await;
        s.publish_with("s.a", &[("K", "v")], "12345").await;
        s.publish("s.b", "x").await;
        let client = s.client().await;
        for (name, headers_only) in [("WHOLE", false), ("HEADERS", true)] {
            let subject = format!("push.{name}");
            let mut messages = client.subscribe(subject.clone()).await.unwrap();
            s.consumer("S", json!({"durable_name": name, "deliver_subject": subject, "headers_only": headers_only})).await;
            let message = within("the message", messages.next()).await.unwrap();
            assert_eq!(message.subject.as_str(), "s.a");
            assert_eq!(message.payload, if headers_only { "" } else { "12345" });
            let headers = message.headers.unwrap();
            assert_eq!(headers.get("K").unwrap().as_str(), "v");
            assert_eq!(headers.get("Nats-Msg-Size").map(|size| size.as_str()), headers_only.then_some("5"));
            let reply = message.reply.unwrap();
            let tokens: Vec<&str> = reply.split('.').collect();
            assert_eq!(tokens[..7], ["$JS", "ACK", "S", name, "1", "1", "1"]);
            assert_eq!((tokens.len(), tokens[8]), (9, "1"));
        }
    }

    async fn without_acknowledgements_the_floor_follows_the_deliveries(s) {
        use futures_util::StreamExt as _;
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        let client = s.client().await;
        let mut messages = client.subscribe("d").await.unwrap();
        s.consumer("S", json!({"durable_name": "C", "deliver_subject": "d"})).await;
        for _ in 0..3 {
            s.publish("a", "x").await;
            within("the message", messages.next()).await.unwrap();
        }
        s.consumer_shows("S", "C", &[("/ack_floor/stream_seq", 3), ("/num_ack_pending", 0), ("/num_pending", 0)]).await;
        assert_eq!(s.consumer_info("S", "C").await["push_bound"], true);
    }

    async fn heartbeats_tell_what_was_delivered_last(s) {
        use futures_util::StreamExt as _;
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.publish("a", "x").await;
        let client = s.client().await;
        let mut messages = client.subscribe("d").await.unwrap();
        s.consumer("S", json!({"durable_name": "C", "deliver_subject": "d", "idle_heartbeat": 100_000_000})).await;
        assert_eq!(within("the message", messages.next()).await.unwrap().payload, "x");
        for _ in 0..2 {
            let beat = within("a heartbeat", messages.next()).await.unwrap();
            assert_eq!((beat.status.unwrap().as_u16(), beat.description.as_deref()), (100, Some("Idle Heartbeat")));
            let headers = beat.headers.unwrap();
            let header = |name: &str| headers.get(name).unwrap().to_string();
            assert_eq!((header("Nats-Last-Consumer"), header("Nats-Last-Stream")), ("1".to_owned(), "1".to_owned()));
        }
    }

    async fn much_that_is_on_its_way_waits_for_an_answer(s) {
        use futures_util::StreamExt as _;
        s.stream(json!({"name": "S", "subjects": ["a"], "storage": "memory"})).await;
        let body = "x".repeat(200_000);
        for _ in 0..20 {
            s.publish("a", &body).await;
        }
        let client = s.client().await;
        let mut messages = client.subscribe("d").await.unwrap();
        let config = json!({"durable_name": "C", "deliver_subject": "d", "idle_heartbeat": 200_000_000, "flow_control": true});
        s.consumer("S", config).await;
        // Four megabytes are more than the two that may be on their way.
        let (mut came, mut asked, mut stalled) = (0, None, false);
        while came < 20 {
            let message = within("a message", messages.next()).await.unwrap();
            match (message.status.map(|status| status.as_u16()), message.description.as_deref()) {
                (None, _) => came += 1,
                (Some(100), Some("FlowControl Request")) => asked = message.reply,
                (Some(100), Some("Idle Heartbeat")) => {
                    // Everything stands still until the last request is answered; the heartbeat repeats it.
                    let headers = message.headers.unwrap();
                    if let Some(subject) = headers.get("Nats-Consumer-Stalled") {
                        assert!(came < 20, "{came}");
                        assert_eq!(Some(subject.as_str()), asked.as_deref());
                        stalled = true;
                        client.publish(asked.take().unwrap(), "".into()).await.unwrap();
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(stalled, "twenty messages came without a pause");
    }

    async fn the_deliver_subject_moves_only_away_from_nobody(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "deliver_subject": "d"})).await;
        let client = s.client().await;
        let _listening = client.subscribe("d").await.unwrap();
        eventually("the consumer is bound", async || {
            (s.consumer_info("S", "C").await["push_bound"] == true).then_some(())
        }).await;
        let refused = s.try_consumer("S", json!({"durable_name": "C", "deliver_subject": "e"})).await;
        assert_eq!(err_code(&refused), 10013);
    }
}
