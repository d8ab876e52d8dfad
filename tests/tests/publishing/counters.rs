//! Messages that count.

use serde_json::{Value, json};

use crate::harness::{Fixture, JETSTREAM, err_code};

impl Fixture {
    async fn counting(&mut self, more: Value) {
        let mut config = json!({"name": "S", "subjects": ["c.*"], "allow_msg_counter": true});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.stream(config).await;
    }

    /// Adds to a counter; the answer.
    pub(crate) async fn add(&mut self, subject: &str, increment: &str) -> Value {
        self.publish_with(subject, &[("Nats-Incr", increment)], "").await
    }
}

on_both_servers! { JETSTREAM;
    async fn a_counter_is_the_sum_of_its_increments(s) {
        s.counting(json!({})).await;
        assert_eq!(s.add("c.a", "1").await, json!({"stream": "S", "seq": 1, "val": "1"}));
        for (increment, total) in [("+5", "6"), ("-10", "-4"), ("0", "-4"), ("-0", "-4"), ("007", "3")] {
            assert_eq!(s.add("c.a", increment).await["val"], total, "{increment}");
        }
        assert_eq!(s.add("c.b", "2").await["val"], "2");
        let nines = "9".repeat(400);
        assert_eq!(s.add("c.b", &nines).await["val"], format!("1{}1", "0".repeat(399)));
        assert_eq!(s.add("c.b", &format!("-{nines}")).await["val"], "2");
        let stored = s.stored("S", 2).await.unwrap();
        assert_eq!((stored.header("Nats-Incr"), stored.body.as_str()), ("+5", r#"{"val":"6"}"#));
    }

    async fn it_begins_anew_when_its_last_message_is_gone(s) {
        s.counting(json!({"max_msgs_per_subject": 1})).await;
        s.add("c.a", "5").await;
        assert_eq!(s.add("c.a", "5").await["val"], "10");
        s.api("STREAM.MSG.DELETE.S", json!({"seq": 2})).await;
        assert_eq!(s.add("c.a", "1").await["val"], "1");
        s.api("STREAM.PURGE.S", Value::Null).await;
        assert_eq!(s.add("c.a", "2").await["val"], "2");
    }

    async fn a_known_id_adds_nothing(s) {
        s.counting(json!({})).await;
        let headers = [("Nats-Incr", "1"), ("Nats-Msg-Id", "i")];
        assert_eq!(s.publish_with("c.a", &headers, "").await["val"], "1");
        let again = s.publish_with("c.a", &headers, "").await;
        assert_eq!(again, json!({"stream": "S", "seq": 1, "duplicate": true}));
        assert_eq!(s.add("c.a", "1").await["val"], "2");
    }

    async fn what_does_not_count_is_refused(s) {
        s.counting(json!({})).await;
        for (headers, body, code) in [
            (vec![], "x", 10169),
            (vec![("X", "y")], "", 10169),
            (vec![("Nats-Incr", "")], "", 10169),
            (vec![("Nats-Incr", "1")], "x", 10170),
            (vec![("Nats-Incr", "--1")], "", 10171),
            (vec![("Nats-Incr", "+")], "", 10171),
            (vec![("Nats-Incr", "1_000")], "", 10171),
            (vec![("Nats-Incr", "0x10")], "", 10171),
            (vec![("Nats-Incr", "1.5")], "", 10171),
            (vec![("Nats-Incr", "1"), ("Nats-Rollup", "sub")], "", 10171),
            (vec![("Nats-Incr", "1"), ("Nats-Expected-Last-Sequence", "0")], "", 10171),
            (vec![("Nats-Incr", "1"), ("Nats-Expected-Last-Subject-Sequence", "0")], "", 10171),
            (vec![("Nats-Incr", "1"), ("Nats-Expected-Last-Msg-Id", "x")], "", 10171),
            (vec![("Nats-Incr", "1"), ("Nats-Expected-Stream", "S")], "", 10171),
            (vec![("Nats-Incr", "1"), ("Nats-TTL", "5")], "", 10166),
        ] {
            assert_eq!(err_code(&s.publish_with("c.a", &headers, body).await), code, "{headers:?} {body}");
        }
        assert_eq!(s.state("S").await["last_seq"], 0);
    }

    async fn the_message_with_its_total_has_to_fit(s) {
        s.counting(json!({"max_msg_size": 60})).await;
        assert_eq!(s.add("c.a", "1").await["val"], "1");
        assert_eq!(err_code(&s.add("c.a", &"9".repeat(30)).await), 10054);
    }

    async fn a_stream_that_does_not_count_refuses_increments(s) {
        s.stream(json!({"name": "S", "subjects": ["c.*"]})).await;
        assert_eq!(err_code(&s.add("c.a", "1").await), 10168);
        assert_eq!(err_code(&s.add("c.a", "x").await), 10171);
        assert_eq!(err_code(&s.publish_with("c.a", &[("Nats-Incr", "1")], "x").await), 10168);
    }

    async fn what_does_not_go_with_counting_is_refused(s) {
        for (more, text) in [
            (json!({"discard": "new"}), "counter stream cannot use discard new"),
            (json!({"allow_msg_ttl": true}), "counter stream cannot use message TTLs"),
            (json!({"allow_msg_schedules": true}), "counter stream cannot use message schedules"),
            (json!({"retention": "interest"}), "counter stream can only use limits retention"),
        ] {
            let mut config = json!({"name": "S", "subjects": ["c.*"], "allow_msg_counter": true});
            config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            assert_eq!(s.refused_stream(config).await, (10052, text.to_owned()));
        }
        s.stream(json!({"name": "S", "subjects": ["c.*"]})).await;
        let config = json!({"name": "S", "subjects": ["c.*"], "allow_msg_counter": true});
        let refused = s.api("STREAM.UPDATE.S", config).await;
        assert_eq!(refused["error"]["description"], "stream configuration update can not change message counter setting");
    }
}
