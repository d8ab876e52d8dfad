//! Streams in memory over restarts of the server, which nats-server forgets: they come back empty, and whoever reads
//! them goes on.

use serde_json::{Value, json};

use crate::harness::{ENDS, End, Fixture, JETSTREAM, Kind, run_with, sequences};

impl Fixture {
    /// Stores a message; its sequence.
    async fn stored_as(&mut self, subject: &str, body: &str) -> u64 {
        self.publish(subject, body).await["seq"].as_u64().unwrap()
    }

    /// Waits until the stream has so many messages, and reads the newest `count` of them.
    async fn newest(&mut self, stream: &str, messages: u64, count: u64) -> Vec<String> {
        self.stream_shows(stream, &[("/messages", messages)]).await;
        let last = self.state(stream).await["last_seq"].as_u64().unwrap();
        let mut bodies = Vec::new();
        for seq in last + 1 - count..=last {
            bodies.push(self.stored(stream, seq).await.unwrap().body);
        }
        bodies
    }
}

fn on_linnet(test: impl AsyncFn(&mut Fixture)) {
    run_with(Kind::Linnet, JETSTREAM, async |s| test(s).await);
}

#[test]
fn no_sequence_is_used_twice() {
    on_linnet(async |s| {
        s.stream(json!({"name": "M", "subjects": ["m"], "storage": "memory"})).await;
        let mut last = s.stored_as("m", "x").await;
        for end in [ENDS, ENDS].concat() {
            s.restart_after(end);
            let state = s.state("M").await;
            assert_eq!((&state["messages"], &state["num_subjects"]), (&json!(0), &Value::Null), "{state}");
            for _ in 0..2 {
                let seq = s.stored_as("m", "x").await;
                assert!(seq > last, "{seq} after {last}");
                last = seq;
            }
        }
    });
}

#[test]
fn mirrors_and_sources_take_what_comes_after_a_restart() {
    on_linnet(async |s| {
        s.stream(json!({"name": "O", "subjects": ["o"], "storage": "memory"})).await;
        s.stream(json!({"name": "M", "mirror": {"name": "O"}})).await;
        s.stream(json!({"name": "S", "sources": [{"name": "O"}]})).await;
        for n in 0..5 {
            s.publish("o", &format!("old {n}")).await;
        }
        let mut expected = 5;
        for follower in ["M", "S"] {
            s.newest(follower, expected, 1).await;
        }
        // As many as before, fewer and more: the position of those that read is no excuse.
        for (end, count) in [(End::Orderly, 3), (End::Killed, 5), (End::Killed, 12)] {
            s.restart_after(end);
            let new: Vec<String> = (0..count).map(|n| format!("{expected} and {n}")).collect();
            for body in &new {
                s.publish("o", body).await;
            }
            expected += count;
            for follower in ["M", "S"] {
                assert_eq!(s.newest(follower, expected, count).await, new, "{follower}");
            }
        }
    });
}

#[test]
fn a_mirror_in_memory_copies_its_origin_anew() {
    on_linnet(async |s| {
        s.stream(json!({"name": "O", "subjects": ["o"]})).await;
        s.stream(json!({"name": "M", "mirror": {"name": "O"}, "storage": "memory"})).await;
        for body in ["a", "b"] {
            s.publish("o", body).await;
        }
        for end in ENDS {
            s.restart_after(end);
            s.stream_shows("M", &[("/messages", 2), ("/first_seq", 1), ("/last_seq", 2)]).await;
        }
    });
}

#[test]
fn a_stream_that_begins_far_away_goes_on_behind_what_it_has_used() {
    on_linnet(async |s| {
        let far = 3_000_000;
        s.stream(json!({"name": "M", "subjects": ["m"], "storage": "memory", "first_seq": far})).await;
        assert_eq!(s.stored_as("m", "x").await, far);
        s.restart_after(End::Killed);
        assert!(s.stored_as("m", "x").await > far);
    });
}

#[test]
fn durable_consumers_of_streams_in_memory_come_back() {
    on_linnet(async |s| {
        let name = |n: u64| json!({"durable_name": format!("C{n}"), "ack_policy": "explicit"});
        let stream = json!({"name": "M", "subjects": ["m"], "storage": "memory", "retention": "interest"});
        s.stream(stream).await;
        for n in 0..3 {
            s.consumer("M", name(n)).await;
        }
        let with = |extra: Value, n: u64| {
            let mut config = name(n);
            config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            config
        };
        s.consumer("M", with(json!({"description": "changed"}), 1)).await;
        s.api("CONSUMER.DELETE.M.C2", Value::Null).await;
        for end in ENDS {
            s.publish("m", "lost").await;
            s.pull("M", "C0", json!({"batch": 1})).await;
            s.restart_after(end);
            let names = s.api("CONSUMER.NAMES.M", Value::Null).await;
            assert_eq!(names["consumers"], json!(["C0", "C1"]), "{names}");
            let info = s.consumer_info("M", "C1").await;
            assert_eq!(info["config"]["description"], "changed", "{info}");
            let info = s.consumer_info("M", "C0").await;
            let counts = ["num_pending", "num_ack_pending"].map(|key| info[key].as_u64());
            assert_eq!(counts, [Some(0), Some(0)], "{info}");
            // Interest counts again: what is acknowledged is kept until everybody has it.
            let seq = s.stored_as("m", "kept").await;
            for consumer in ["C0", "C1"] {
                assert_eq!(s.state("M").await["messages"], 1);
                let pulled = s.pull("M", consumer, json!({"batch": 1})).await;
                assert_eq!(sequences(&pulled), [seq], "{consumer}");
                s.ack(&pulled.messages[0], "").await;
            }
            s.stream_shows("M", &[("/messages", 0)]).await;
        }
    });
}

#[test]
fn consumers_of_a_deleted_stream_in_memory_do_not_come_back() {
    on_linnet(async |s| {
        let config = json!({"name": "M", "subjects": ["m"], "storage": "memory"});
        s.stream(config.clone()).await;
        s.consumer("M", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
        s.api("STREAM.DELETE.M", Value::Null).await;
        s.stream(config).await;
        s.restart_after(End::Killed);
        let names = s.api("CONSUMER.NAMES.M", Value::Null).await;
        assert_eq!(names["consumers"], json!([]), "{names}");
    });
}

#[test]
fn a_paused_consumer_of_a_stream_in_memory_stays_paused() {
    on_linnet(async |s| {
        s.stream(json!({"name": "M", "subjects": ["m"], "storage": "memory"})).await;
        s.consumer("M", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
        let until = json!({"pause_until": "2100-01-01T00:00:00Z"});
        s.api("CONSUMER.PAUSE.M.C", until).await;
        s.restart_after(End::Killed);
        let info = s.consumer_info("M", "C").await;
        assert_eq!(
            (&info["paused"], &info["config"]["pause_until"]),
            (&json!(true), &json!("2100-01-01T00:00:00Z"))
        );
    });
}
