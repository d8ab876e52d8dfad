//! Rows 2, 22, 25 and 33 to 37: messages that go because of what consumers did.

use serde_json::{Value, json};

use crate::harness::{JETSTREAM, err_code, sequences};

on_both_servers! { JETSTREAM;
    async fn r02_without_a_matching_consumer_nothing_is_stored(s) {
        s.queue("interest").await;
        assert_eq!(s.publish("s.a", "x").await, json!({"stream": "S", "seq": 1}));
        s.holds(0, 2, 1).await;
        s.reader("A", "s.a").await;
        assert_eq!(s.publish("s.b", "x").await["seq"], 2);
        s.holds(0, 3, 2).await;
        assert_eq!(s.publish("s.a", "x").await["seq"], 3);
        assert_eq!(s.publish("s.b", "x").await["seq"], 4);
        s.holds(1, 3, 4).await;
    }

    async fn r22_an_exhausted_message_stays_until_it_is_acknowledged(s) {
        s.queue("interest").await;
        let config = json!({"durable_name": "A", "ack_policy": "explicit", "max_deliver": 1,
            "ack_wait": 100_000_000});
        s.consumer("S", config).await;
        s.publish_all(&["s.a"]).await;
        let pulled = s.pull("S", "A", json!({"batch": 1})).await;
        s.consumer_shows("S", "A", &[("/num_ack_pending", 0), ("/ack_floor/stream_seq", 0)]).await;
        s.holds(1, 1, 1).await;
        s.ack(&pulled.messages[0], "+ACK").await;
        s.holds(0, 2, 1).await;
    }

    async fn r22_a_late_acknowledgement_removes_an_exhausted_message(s) {
        s.queue("workqueue").await;
        let config = json!({"durable_name": "A", "ack_policy": "explicit", "max_deliver": 1,
            "ack_wait": 100_000_000});
        s.consumer("S", config).await;
        s.publish_all(&["s.a"]).await;
        let pulled = s.pull("S", "A", json!({"batch": 1})).await;
        s.consumer_shows("S", "A", &[("/num_ack_pending", 0)]).await;
        s.holds(1, 1, 1).await;
        s.ack(&pulled.messages[0], "+ACK").await;
        s.holds(0, 2, 1).await;
    }

    async fn r25_without_acknowledgements_delivery_counts(s) {
        s.queue("interest").await;
        s.consumer("S", json!({"durable_name": "N", "ack_policy": "none"})).await;
        s.publish_all(&["s.a", "s.b"]).await;
        assert_eq!(sequences(&s.pull("S", "N", json!({"batch": 1})).await), [1]);
        s.holds(1, 2, 2).await;
    }

    async fn r25_a_work_queue_wants_acknowledgements(s) {
        s.queue("workqueue").await;
        let none = json!({"durable_name": "N", "ack_policy": "none"});
        assert_eq!(err_code(&s.try_consumer("S", none).await), 10084);
        let none = json!({"durable_name": "N", "ack_policy": "none", "deliver_subject": "d"});
        assert_eq!(err_code(&s.try_consumer("S", none).await), 10098);
    }

    async fn r33_a_message_goes_when_all_matching_consumers_are_done(s) {
        s.queue("interest").await;
        s.reader("A", "s.a").await;
        s.reader("ALL", "s.*").await;
        s.publish_all(&["s.a", "s.b", "s.a"]).await;
        assert_eq!(s.work("A", 2).await, [1, 3]);
        s.holds(3, 1, 3).await;
        assert_eq!(s.work("ALL", 2).await, [1, 2]);
        s.holds(1, 3, 3).await;
        assert_eq!(s.work("ALL", 1).await, [3]);
        s.holds(0, 4, 3).await;
    }

    async fn r33_a_later_consumer_starts_at_what_is_still_there(s) {
        s.queue("interest").await;
        s.reader("A", "s.*").await;
        s.publish_all(&["s.a", "s.b", "s.c"]).await;
        assert_eq!(s.work("A", 1).await, [1]);
        s.holds(2, 2, 3).await;
        s.reader("B", "s.*").await;
        assert_eq!(s.work("A", 2).await, [2, 3]);
        s.holds(2, 2, 3).await;
        assert_eq!(s.work("B", 2).await, [2, 3]);
        s.holds(0, 4, 3).await;
    }

    async fn r34_consumers_of_a_queue_do_not_overlap(s) {
        s.queue("workqueue").await;
        s.reader("A", "s.a").await;
        s.reader("B", "s.b").await;
        let mut refusal = async |config: Value| err_code(&s.try_consumer("S", config).await);
        let explicit = "explicit";
        assert_eq!(refusal(json!({"durable_name": "C", "ack_policy": explicit, "filter_subject": "s.*"})).await, 10100);
        assert_eq!(refusal(json!({"durable_name": "C", "ack_policy": explicit})).await, 10099);
        assert_eq!(refusal(json!({"durable_name": "C", "ack_policy": "none", "filter_subject": "s.c"})).await, 10084);
        assert_eq!(refusal(json!({"durable_name": "C", "ack_policy": "all", "filter_subject": "s.c"})).await, 10098);
        let late = json!({"durable_name": "C", "ack_policy": explicit, "filter_subject": "s.c", "deliver_policy": "new"});
        assert_eq!(refusal(late).await, 10101);
        assert_eq!(refusal(json!({"durable_name": "A", "ack_policy": explicit, "filter_subject": "s.b"})).await, 10100);
    }

    async fn r35_from_limits_to_interest_what_all_acknowledged_goes(s) {
        s.queue("limits").await;
        s.reader("A", "s.*").await;
        s.reader("B", "s.b").await;
        s.publish_all(&["s.a", "s.b", "s.a", "s.b"]).await;
        assert_eq!(s.work("A", 3).await, [1, 2, 3]);
        assert_eq!(s.work("B", 1).await, [2]);
        s.holds(4, 1, 4).await;
        let config = json!({"name": "S", "subjects": ["s.*"], "retention": "interest"});
        assert_eq!(s.api("STREAM.UPDATE.S", config).await["error"], Value::Null);
        s.holds(1, 4, 4).await;
        let config = json!({"name": "S", "subjects": ["s.*"], "retention": "limits"});
        assert_eq!(s.api("STREAM.UPDATE.S", config).await["error"], Value::Null);
        assert_eq!(s.work("A", 1).await, [4]);
        assert_eq!(s.work("B", 1).await, [4]);
        s.holds(1, 4, 4).await;
    }

    async fn r36_out_of_order_acknowledgements_leave_holes(s) {
        s.queue("workqueue").await;
        s.publish_all(&["s.a", "s.b", "s.c"]).await;
        s.holds(3, 1, 3).await;
        s.reader("A", "").await;
        let pulled = s.pull("S", "A", json!({"batch": 3})).await;
        s.ack(&pulled.messages[1], "+ACK").await;
        s.holds(2, 1, 3).await;
        s.ack(&pulled.messages[0], "+ACK").await;
        s.holds(1, 3, 3).await;
        s.ack(&pulled.messages[2], "+ACK").await;
        s.holds(0, 4, 3).await;
    }

    async fn r37_without_its_last_consumer_a_stream_is_empty(s) {
        s.queue("interest").await;
        s.reader("A", "s.*").await;
        s.publish_all(&["s.a", "s.b"]).await;
        s.api("CONSUMER.DELETE.S.A", Value::Null).await;
        s.holds(0, 3, 2).await;
    }

    async fn r37_without_its_consumer_a_queue_keeps_its_messages(s) {
        s.queue("workqueue").await;
        s.reader("A", "").await;
        s.publish_all(&["s.a", "s.b"]).await;
        s.pull("S", "A", json!({"batch": 1})).await;
        s.api("CONSUMER.DELETE.S.A", Value::Null).await;
        s.holds(2, 1, 2).await;
        s.reader("B", "").await;
        assert_eq!(s.work("B", 2).await, [1, 2]);
        s.holds(0, 3, 2).await;
    }
}
