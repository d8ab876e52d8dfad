//! The timers that clients notice: nothing happens before its time, nor long after. When schedules are due is shown by
//! `publishing/schedules.rs`, pauses that end by `pause_and_reset.rs`.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::harness::{JETSTREAM, eventually, sequences};

/// Far more than any of the times below, and less than what a forgotten timer would take.
const SOON: Duration = Duration::from_secs(5);

fn assert_in_time(began: Instant, due: Duration) {
    let took = began.elapsed();
    assert!((due..due + SOON).contains(&took), "{due:?} became {took:?}");
}

const TIME: Duration = Duration::from_millis(300);
const TIME_NANOS: u64 = 300_000_000;

on_both_servers! { JETSTREAM;
    async fn timers_a_pull_request_ends_when_it_says(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C"})).await;
        let began = Instant::now();
        let none = s.pull("S", "C", json!({"expires": TIME_NANOS})).await;
        assert_eq!(none.status.as_deref(), Some("408 Request Timeout"));
        assert_in_time(began, TIME);
    }

    async fn timers_what_is_not_acknowledged_comes_again_after_the_wait(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit", "ack_wait": TIME_NANOS})).await;
        s.publish("a", "x").await;
        let began = Instant::now();
        assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 1})).await), [1]);
        assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 1})).await), [1]);
        assert_in_time(began, TIME);
    }

    async fn timers_messages_go_at_their_age(s) {
        s.stream(json!({"name": "S", "subjects": ["a"], "max_age": TIME_NANOS})).await;
        let began = Instant::now();
        s.publish("a", "x").await;
        s.stream_shows("S", &[("/messages", 0), ("/last_seq", 1)]).await;
        assert_in_time(began, TIME);
    }

    async fn timers_an_id_is_known_as_long_as_the_window(s) {
        s.stream(json!({"name": "S", "subjects": ["a"], "duplicate_window": TIME_NANOS})).await;
        let began = Instant::now();
        let id = [("Nats-Msg-Id", "i")];
        s.publish_with("a", &id, "x").await;
        assert_eq!(s.publish_with("a", &id, "x").await["duplicate"], true);
        eventually("the id is forgotten", async || {
            (s.publish_with("a", &id, "x").await["duplicate"] != true).then_some(())
        }).await;
        assert_in_time(began, TIME);
    }

    async fn timers_an_unused_consumer_goes_after_its_threshold(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        let began = Instant::now();
        s.consumer("S", json!({"durable_name": "C", "inactive_threshold": TIME_NANOS})).await;
        s.stream_shows("S", &[("/consumer_count", 0)]).await;
        assert_in_time(began, TIME);
    }
}
