//! What the last message of a subject leaves when it expires.

use serde_json::{Value, json};

use crate::harness::{Fixture, JETSTREAM, sequences};

const SECOND: u64 = 1_000_000_000;

impl Fixture {
    async fn marking(&mut self, marker_ttl: u64, more: Value) {
        let mut config = json!({"name": "S", "subjects": ["a.*"], "storage": "memory", "subject_delete_marker_ttl": marker_ttl});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.stream(config).await;
    }

    /// Waits until the stream holds so many messages and has reached a sequence.
    pub(super) async fn counts(&mut self, messages: u64, last_seq: u64) {
        self.stream_shows("S", &[("/messages", messages), ("/last_seq", last_seq)]).await;
    }
}

const MARKER: [&str; 3] = ["Nats-Marker-Reason: MaxAge", "Nats-TTL: 2s", "Nats-Rollup: sub"];

on_both_servers! { JETSTREAM;
    async fn the_last_message_of_a_subject_leaves_a_marker_that_leaves_nothing(s) {
        s.marking(2 * SECOND, json!({"max_age": SECOND})).await;
        s.publish("a.two", "1").await;
        s.publish("a.two", "2").await;
        s.publish_with("a.purged", &[("KV-Operation", "PURGE")], "").await;
        s.publish_with("a.marked", &[("Nats-Marker-Reason", "Remove")], "").await;
        s.publish_with("a.deleted", &[("KV-Operation", "DEL")], "").await;
        s.publish_with("a.stays", &[("Nats-TTL", "never")], "x").await;
        s.counts(3, 8).await;
        for (seq, subject) in [(7, "a.two"), (8, "a.deleted")] {
            let marker = s.stored("S", seq).await.unwrap();
            assert_eq!((marker.subject.as_str(), marker.body.as_str()), (subject, ""));
            assert_eq!(marker.headers, MARKER);
        }
        s.counts(1, 8).await;
        assert_eq!(s.stored("S", 6).await.unwrap().subject, "a.stays");
    }

    async fn a_time_to_live_of_its_own_leaves_one_too(s) {
        s.marking(SECOND, json!({})).await;
        s.publish_with("a.b", &[("Nats-TTL", "1")], "1").await;
        s.counts(1, 2).await;
        assert_eq!(s.stored("S", 2).await.unwrap().header("Nats-Marker-Reason"), "MaxAge");
        s.counts(0, 2).await;
    }

    async fn a_subject_with_messages_left_gets_none(s) {
        s.marking(SECOND, json!({})).await;
        s.publish("a.b", "stays").await;
        s.publish_with("a.b", &[("Nats-TTL", "1")], "goes").await;
        s.publish_with("a.c", &[("Nats-TTL", "1")], "goes").await;
        s.publish("a.c", "stays").await;
        s.counts(2, 4).await;
        assert_eq!(s.stored("S", 1).await.unwrap().body, "stays");
        assert_eq!(s.stored("S", 4).await.unwrap().body, "stays");
    }

    async fn what_clients_remove_leaves_none(s) {
        s.marking(SECOND, json!({})).await;
        s.publish("a.b", "1").await;
        s.publish("a.c", "2").await;
        s.api("STREAM.MSG.DELETE.S", json!({"seq": 1})).await;
        s.api("STREAM.PURGE.S", Value::Null).await;
        s.counts(0, 2).await;
    }

    async fn consumers_get_markers(s) {
        s.marking(5 * SECOND, json!({"max_age": SECOND})).await;
        s.publish("a.b", "1").await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
        s.counts(1, 2).await;
        assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 1, "expires": 5 * SECOND})).await), [2]);
    }

    async fn a_message_lives_as_long_as_its_marker(s) {
        for (per_subject, ttl, expected) in [
            (-1, "1s", "3"), (2, "2", "3"), (-1, "3500ms", "3500ms"), (-1, "5s", "5s"), (-1, "never", "never"),
            (1, "1s", "1s"),
        ] {
            s.marking(3 * SECOND, json!({"max_msgs_per_subject": per_subject})).await;
            let headers = [("X", "1"), ("Nats-TTL", ttl), ("Y", "2")];
            assert_eq!(s.publish_with("a.b", &headers, "x").await["seq"], 1);
            let stored = s.stored("S", 1).await.unwrap();
            assert_eq!((stored.header("Nats-TTL"), stored.body.as_str()), (expected, "x"));
            assert_eq!((stored.header("X"), stored.header("Y"), stored.headers.len()), ("1", "2", 3));
            s.api("STREAM.DELETE.S", Value::Null).await;
        }
    }

    async fn the_configuration_allows_what_markers_need(s) {
        let wanted = json!({"name": "S", "subjects": ["a"], "subject_delete_marker_ttl": SECOND, "deny_purge": true});
        let config = s.stream(wanted).await["config"].clone();
        assert_eq!(config["allow_msg_ttl"], true);
        assert_eq!(config["allow_rollup_hdrs"], true);
        assert_eq!(config["deny_purge"], false);
        for (ttl, pedantic, text) in [
            (json!(-1), false, "subject delete marker TTL must not be negative"),
            (json!(5), false, "subject delete marker TTL must be at least 1 second"),
            (json!(SECOND), true, "subject delete marker cannot be set if message TTLs are disabled"),
        ] {
            let config = json!({"name": "T", "subjects": ["b"], "subject_delete_marker_ttl": ttl, "pedantic": pedantic});
            assert_eq!(s.refused_stream(config).await, (10052, text.to_owned()));
        }
    }
}
