//! Messages that go because of what consumers did, beside the rules in `semantics/retention.rs`.

use serde_json::{Value, json};

use crate::harness::{JETSTREAM, Kind, err_code, sequences};

on_both_servers! { JETSTREAM;
    async fn the_id_of_a_message_that_nobody_wanted_is_known(s) {
        s.queue("interest").await;
        let id = [("Nats-Msg-Id", "i")];
        assert_eq!(s.publish_with("s.a", &id, "x").await["seq"], 1);
        assert_eq!(s.publish_with("s.a", &id, "x").await, json!({"stream": "S", "seq": 1, "duplicate": true}));
    }

    async fn acknowledging_all_up_to_one_releases_all_of_them(s) {
        s.queue("interest").await;
        s.consumer("S", json!({"durable_name": "L", "ack_policy": "all"})).await;
        s.publish_all(&["s.a", "s.b", "s.c"]).await;
        let pulled = s.pull("S", "L", json!({"batch": 3})).await;
        s.ack(&pulled.messages[1], "+ACK").await;
        s.holds(1, 3, 3).await;
    }

    async fn a_message_given_up_counts_as_acknowledged(s) {
        s.queue("interest").await;
        s.reader("A", "s.*").await;
        s.publish_all(&["s.a"]).await;
        let pulled = s.pull("S", "A", json!({"batch": 1})).await;
        s.ack(&pulled.messages[0], "-NAK").await;
        s.holds(1, 1, 1).await;
        let pulled = s.pull("S", "A", json!({"batch": 1})).await;
        s.ack(&pulled.messages[0], "+TERM no use").await;
        s.holds(0, 2, 1).await;
    }

    async fn without_one_of_its_consumers_a_message_may_go(s) {
        s.queue("interest").await;
        s.reader("A", "s.*").await;
        s.reader("B", "s.b").await;
        s.publish_all(&["s.a", "s.b", "s.b"]).await;
        assert_eq!(s.work("B", 1).await, [2]);
        s.api("CONSUMER.DELETE.S.A", Value::Null).await;
        s.holds(1, 3, 3).await;
        assert_eq!(s.work("B", 1).await, [3]);
        s.holds(0, 4, 3).await;
    }

    async fn what_was_delivered_as_often_as_allowed_goes_with_its_consumer(s) {
        s.queue("interest").await;
        let config = json!({"durable_name": "A", "ack_policy": "explicit", "max_deliver": 1, "ack_wait": 50_000_000});
        s.consumer("S", config).await;
        s.reader("B", "s.*").await;
        s.publish_all(&["s.a", "s.b"]).await;
        assert_eq!(sequences(&s.pull("S", "A", json!({"batch": 2})).await), [1, 2]);
        s.consumer_shows("S", "A", &[("/num_ack_pending", 0)]).await;
        assert_eq!(s.work("B", 2).await, [1, 2]);
        s.holds(2, 1, 2).await;
        s.api("CONSUMER.DELETE.S.A", Value::Null).await;
        if s.kind == Kind::Peer {
            // Only the newest goes.
            s.holds(1, 1, 2).await;
            s.api("CONSUMER.DELETE.S.B", Value::Null).await;
        }
        s.holds(0, 3, 2).await;
    }

    async fn it_cannot_become_or_stop_being_one(s) {
        s.queue("workqueue").await;
        let config = json!({"name": "S", "subjects": ["s.*"], "retention": "limits"});
        let refused = s.api("STREAM.UPDATE.S", config).await;
        assert_eq!(err_code(&refused), 10052, "{refused}");
    }
}
