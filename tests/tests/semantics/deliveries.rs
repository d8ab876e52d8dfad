//! Rows 18 to 24: deliveries and acknowledgements.

use serde_json::{Value, json};

use crate::harness::{JETSTREAM, eventually, round_trip, sequences, within};

on_both_servers! { JETSTREAM;
    async fn r18_the_default_ack_policy_is_none_and_replicas_are_zero(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        let created = s.consumer("S", json!({"durable_name": "C"})).await;
        assert_eq!(created["config"]["ack_policy"], "none");
        assert_eq!(created["config"]["num_replicas"], 0);
        assert_eq!(created["config"]["max_waiting"], 512);
    }

    async fn r19_max_ack_pending_stops_new_messages_only(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit", "max_ack_pending": 1})).await;
        s.publish("a", "1").await;
        s.publish("a", "2").await;
        let first = s.pull("S", "C", json!({"batch": 1})).await;
        let none = s.pull("S", "C", json!({"batch": 1, "expires": 100_000_000})).await;
        assert_eq!((none.messages.len(), none.status.as_deref()), (0, Some("408 Request Timeout")));
        s.ack(&first.messages[0], "-NAK").await;
        assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 1})).await), [1]);
    }

    async fn r20_naks_come_back_in_their_order_before_new_messages(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
        for _ in 0..4 {
            s.publish("a", "x").await;
        }
        let pulled = s.pull("S", "C", json!({"batch": 3})).await;
        s.ack(&pulled.messages[1], "-NAK").await;
        s.ack(&pulled.messages[0], "-NAK").await;
        assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 3})).await), [2, 1, 4]);
    }

    async fn r20_expired_messages_come_back_by_sequence(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit", "ack_wait": 150_000_000})).await;
        for _ in 0..3 {
            s.publish("a", "x").await;
        }
        assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 3})).await), [1, 2, 3]);
        let again = s.pull("S", "C", json!({"batch": 3})).await;
        assert_eq!(sequences(&again), [1, 2, 3]);
        assert!(again.messages.iter().all(|m| m.delivered == 2), "{:?}", again.messages);
    }

    async fn r21_the_consumer_sequence_grows_with_redeliveries(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
        s.publish("a", "1").await;
        s.publish("a", "2").await;
        let pulled = s.pull("S", "C", json!({"batch": 2})).await;
        s.ack(&pulled.messages[0], "-NAK").await;
        let again = s.pull("S", "C", json!({"batch": 1})).await;
        assert_eq!((again.messages[0].consumer_seq, again.messages[0].delivered), (3, 2));
        s.ack(&again.messages[0], "+ACK").await;
        let info = s.consumer_info("S", "C").await;
        assert_eq!(info["ack_floor"]["stream_seq"], 1);
        assert_eq!(info["ack_floor"]["consumer_seq"], 1);
        assert_eq!((&info["delivered"]["consumer_seq"], &info["delivered"]["stream_seq"]), (&json!(3), &json!(2)));
    }

    async fn r22_after_max_deliver_a_message_is_not_pending_and_below_the_floor(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit", "max_deliver": 2,
            "ack_wait": 150_000_000})).await;
        s.publish("a", "x").await;
        s.pull("S", "C", json!({"batch": 1})).await;
        let second = s.pull("S", "C", json!({"batch": 1})).await;
        assert_eq!(second.messages[0].delivered, 2);
        let info = eventually("it is given up", async || {
            let none = s.pull("S", "C", json!({"batch": 1, "no_wait": true})).await;
            assert_eq!(none.status.as_deref(), Some("404 No Messages"));
            let info = s.consumer_info("S", "C").await;
            (info["num_ack_pending"] == 0).then_some(info)
        }).await;
        assert_eq!(info["ack_floor"]["stream_seq"], 0);
        assert_eq!(s.state("S").await["messages"], 1);
    }

    async fn r23_max_deliveries_is_told_after_the_wait(s) {
        use futures_util::StreamExt as _;
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit", "max_deliver": 1,
            "ack_wait": 200_000_000})).await;
        let client = s.client().await;
        let mut told = client.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.S.C").await.unwrap();
        round_trip(&client).await;
        s.publish("a", "x").await;
        s.pull("S", "C", json!({"batch": 1})).await;
        let advisory = within("the advisory", told.next()).await.unwrap();
        let advisory: Value = serde_json::from_slice(&advisory.payload).unwrap();
        assert_eq!(advisory["type"], "io.nats.jetstream.advisory.v1.max_deliver");
        assert_eq!((&advisory["deliveries"], &advisory["stream_seq"]), (&json!(1), &json!(1)));
    }

    async fn r24_ack_all_acks_by_stream_sequence(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "all"})).await;
        for _ in 0..5 {
            s.publish("a", "x").await;
        }
        let pulled = s.pull("S", "C", json!({"batch": 4})).await;
        s.ack(&pulled.messages[2], "+ACK").await;
        s.consumer_shows("S", "C", &[("/num_ack_pending", 1), ("/ack_floor/stream_seq", 3)]).await;
        s.ack(&pulled.messages[0], "+ACK").await;
        s.consumer_shows("S", "C", &[("/num_ack_pending", 1)]).await;
    }
}
