//! Rows 26 to 32: how pulls end, redelivery, filters.

use serde_json::{Value, json};

use crate::harness::{JETSTREAM, err_code, eventually, round_trip, sequences, within};

on_both_servers! { JETSTREAM;
    async fn r26_no_wait_ends_with_404_and_a_batch_without_an_end(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
        let none = s.pull("S", "C", json!({"batch": 1, "no_wait": true})).await;
        assert_eq!(none.status.as_deref(), Some("404 No Messages"));
        let none = s.pull("S", "C", json!({"batch": 1, "no_wait": true, "expires": 100_000_000})).await;
        assert_eq!(none.status.as_deref(), Some("408 Request Timeout"));
        s.publish("a", "x").await;
        s.publish("a", "x").await;
        s.consumer_shows("S", "C", &[("/num_pending", 2)]).await;
        let some = s.pull("S", "C", json!({"batch": 5, "no_wait": true})).await;
        assert_eq!((sequences(&some), some.status.as_deref()), (vec![1, 2], Some("404 No Messages")));
        s.publish("a", "x").await;
        let some = s.pull("S", "C", json!({"batch": 5, "no_wait": true, "expires": 5_000_000_000_u64})).await;
        assert_eq!((sequences(&some), some.status.as_deref()), (vec![3], Some("404 No Messages")));
    }

    async fn r27_a_paused_consumer_delivers_nothing(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
        s.publish("a", "x").await;
        s.api("CONSUMER.PAUSE.S.C", json!({"pause_until": "2100-01-01T00:00:00Z"})).await;
        assert_eq!(s.consumer_info("S", "C").await["num_pending"], 1);
        for (request, status) in [
            (json!({"no_wait": true}), "404 No Messages"),
            (json!({"expires": 100_000_000}), "408 Request Timeout"),
        ] {
            let none = s.pull("S", "C", request).await;
            assert_eq!((none.messages.len(), none.status.as_deref()), (0, Some(status)));
        }
        s.api("CONSUMER.PAUSE.S.C", Value::Null).await;
        assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 1})).await), [1]);
    }

    async fn r28_too_many_pulls_are_told_so_unless_they_ask_for_heartbeats(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit", "max_waiting": 1})).await;
        let client = s.client().await;
        let inbox = client.new_inbox();
        let _waiting = client.subscribe(inbox.clone()).await.unwrap();
        let subject = "$JS.API.CONSUMER.MSG.NEXT.S.C";
        client.publish_with_reply(subject, inbox, "1".into()).await.unwrap();
        eventually("the first pull waits", async || {
            (s.consumer_info("S", "C").await["num_waiting"] == 1).then_some(())
        }).await;
        let refused = s.pull("S", "C", json!({"batch": 1, "expires": 400_000_000})).await;
        assert_eq!(refused.status.as_deref(), Some("409 Exceeded MaxWaiting"));
    }

    async fn r28_one_that_asks_for_heartbeats_is_not_told(s) {
        use futures_util::StreamExt as _;
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit", "max_waiting": 1})).await;
        let client = s.client().await;
        let mut answers = client.subscribe("i.*").await.unwrap();
        let subject = "$JS.API.CONSUMER.MSG.NEXT.S.C";
        let beating = json!({"expires": 2_000_000_000, "idle_heartbeat": 500_000_000}).to_string();
        for (reply, body) in [("i.first", "1"), ("i.beating", beating.as_str()), ("i.plain", "1")] {
            client.publish_with_reply(subject, reply, body.to_owned().into()).await.unwrap();
            eventually("a pull waits", async || {
                (s.consumer_info("S", "C").await["num_waiting"] == 1).then_some(())
            }).await;
        }
        let status = within("the refusal", answers.next()).await.unwrap();
        assert_eq!((status.subject.as_str(), status.status.unwrap().as_u16()), ("i.plain", 409));
    }

    async fn r29_the_last_backoff_repeats(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        let backoff = json!([100_000_000, 300_000_000]);
        let created = s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit", "max_deliver": 4,
            "backoff": backoff})).await;
        assert_eq!(created["config"]["ack_wait"], 100_000_000);
        s.publish("a", "x").await;
        for delivery in 1..=4 {
            let pulled = s.pull("S", "C", json!({"batch": 1})).await;
            assert_eq!((pulled.messages[0].stream_seq, pulled.messages[0].delivered), (1, delivery));
        }
        let none = s.pull("S", "C", json!({"batch": 1, "expires": 600_000_000})).await;
        assert_eq!(none.status.as_deref(), Some("408 Request Timeout"));
    }

    async fn r30_term_tells_and_a_plain_ack_does_not(s) {
        use futures_util::StreamExt as _;
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
        let client = s.client().await;
        let mut told = client.subscribe("$JS.EVENT.ADVISORY.CONSUMER.*.S.C").await.unwrap();
        round_trip(&client).await;
        s.publish("a", "1").await;
        s.publish("a", "2").await;
        let pulled = s.pull("S", "C", json!({"batch": 2})).await;
        s.ack(&pulled.messages[0], "+ACK").await;
        s.ack(&pulled.messages[1], "+TERM no use").await;
        let advisory = within("the advisory", told.next()).await.unwrap();
        assert_eq!(advisory.subject.as_str(), "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.S.C");
        let advisory: Value = serde_json::from_slice(&advisory.payload).unwrap();
        assert_eq!(advisory["type"], "io.nats.jetstream.advisory.v1.terminated");
        assert_eq!((&advisory["stream_seq"], &advisory["reason"]), (&json!(2), &json!("no use")));
        s.consumer_shows("S", "C", &[("/num_ack_pending", 0), ("/ack_floor/stream_seq", 2)]).await;
    }

    async fn r31_a_filter_beside_the_stream_is_accepted(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        let created = s.consumer("S", json!({"durable_name": "C", "filter_subject": "zzz"})).await;
        assert_eq!(created["num_pending"], 0);
    }

    async fn r32_overlapping_filters_deliver_once_and_subsets_are_refused(s) {
        s.stream(json!({"name": "S", "subjects": ["a.*", "c.*"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit",
            "filter_subjects": ["a.*", "*.b"]})).await;
        for subject in ["a.b", "a.c", "c.c", "c.b"] {
            s.publish(subject, "x").await;
        }
        let pulled = s.pull("S", "C", json!({"batch": 9, "expires": 200_000_000})).await;
        assert_eq!(sequences(&pulled), [1, 2, 4]);
        let refused = s.try_consumer("S", json!({"durable_name": "D", "filter_subjects": ["a.*", "a.b"]})).await;
        assert_eq!(err_code(&refused), 10138);
        let refused = s.try_consumer("S", json!({"durable_name": "D", "filter_subject": "a",
            "filter_subjects": ["b"]})).await;
        assert_eq!(err_code(&refused), 10136);
    }
}
