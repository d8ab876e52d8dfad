//! Rows 12 to 17: what is pending.

use serde_json::{Value, json};

use crate::harness::{JETSTREAM, eventually, sequences};

on_both_servers! { JETSTREAM;
    async fn r12_it_excludes_delivered_messages_and_ignores_max_ack_pending(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit", "max_ack_pending": 2})).await;
        for _ in 0..7 {
            s.publish("a", "x").await;
        }
        assert_eq!(s.pull("S", "C", json!({"batch": 2})).await.messages.len(), 2);
        s.consumer_shows("S", "C", &[("/num_pending", 5), ("/num_ack_pending", 2)]).await;
    }

    async fn r13_the_ack_subject_tells_what_is_left_after_this_message(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
        for _ in 0..3 {
            s.publish("a", "x").await;
        }
        s.consumer_shows("S", "C", &[("/num_pending", 3)]).await;
        let pulled = s.pull("S", "C", json!({"batch": 3})).await;
        assert_eq!(pulled.messages.iter().map(|m| m.pending).collect::<Vec<_>>(), [2, 1, 0]);
        s.ack(&pulled.messages[0], "-NAK").await;
        let again = s.pull("S", "C", json!({"batch": 1})).await;
        assert_eq!((again.messages[0].stream_seq, again.messages[0].pending), (1, 0));
    }

    async fn r14_deleting_a_message_lowers_what_it_is_counted_in(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
        for _ in 0..4 {
            s.publish("a", "x").await;
        }
        s.pull("S", "C", json!({"batch": 1})).await;
        s.api("STREAM.MSG.DELETE.S", json!({"seq": 3})).await;
        s.consumer_shows("S", "C", &[("/num_pending", 2)]).await;
        s.api("STREAM.MSG.DELETE.S", json!({"seq": 1})).await;
        let info = eventually("the floor moves", async || {
            let info = s.consumer_info("S", "C").await;
            (info["num_ack_pending"] == 0).then_some(info)
        }).await;
        assert_eq!(info["ack_floor"]["stream_seq"], 1);
        assert_eq!(info["num_pending"], 2);
    }

    async fn r15_last_per_subject_counts_subjects_and_delivers_in_order(s) {
        s.stream(json!({"name": "S", "subjects": ["s.*"]})).await;
        for subject in ["s.d", "s.a", "s.b", "s.c", "s.a", "s.d"] {
            s.publish(subject, "x").await;
        }
        let created = s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit",
            "deliver_policy": "last_per_subject", "filter_subject": "s.*"})).await;
        assert_eq!(created["num_pending"], 4);
        let pulled = s.pull("S", "C", json!({"batch": 4})).await;
        assert_eq!(sequences(&pulled), [3, 4, 5, 6]);
        s.publish("s.a", "x").await;
        assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 1})).await), [7]);
    }

    async fn r16_a_start_beyond_the_end_is_kept_and_new_is_not(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        for _ in 0..3 {
            s.publish("a", "x").await;
        }
        let far = s.consumer("S", json!({"durable_name": "FAR", "ack_policy": "explicit",
            "deliver_policy": "by_start_sequence", "opt_start_seq": 50})).await;
        assert_eq!(far["delivered"]["stream_seq"], 49);
        assert_eq!(far["num_pending"], 0);
        let new = s.consumer("S", json!({"durable_name": "NEW", "ack_policy": "explicit",
            "deliver_policy": "new"})).await;
        assert_eq!(new["delivered"]["stream_seq"], 3);
        let last = s.consumer("S", json!({"durable_name": "LAST", "ack_policy": "explicit",
            "deliver_policy": "last"})).await;
        assert_eq!((&last["delivered"]["stream_seq"], &last["num_pending"]), (&json!(2), &json!(1)));
    }

    async fn r17_a_purge_leaves_nothing_pending(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
        for _ in 0..5 {
            s.publish("a", "x").await;
        }
        s.pull("S", "C", json!({"batch": 2})).await;
        s.api("STREAM.PURGE.S", Value::Null).await;
        s.consumer_shows("S", "C", &[("/num_pending", 0), ("/num_ack_pending", 0)]).await;
        s.consumer_shows("S", "C", &[("/ack_floor/stream_seq", 5)]).await;
        s.publish("a", "x").await;
        s.consumer_shows("S", "C", &[("/num_pending", 1)]).await;
        assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 1})).await), [6]);
    }
}
