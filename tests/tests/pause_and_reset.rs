//! Consumers that are paused and that begin anew, each rule against both servers.

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::harness::{Fixture, JETSTREAM, err_code, sequences, within};

/// Far enough.
const LATER: &str = "2100-01-01T00:00:00Z";

impl Fixture {
    /// A stream with three messages and a consumer.
    async fn three_messages(&mut self, config: Value) {
        self.stream(json!({"name": "S", "subjects": ["s"]})).await;
        for _ in 0..3 {
            self.publish("s", "x").await;
        }
        self.consumer("S", config).await;
    }

    async fn pause(&mut self, until: Value) -> Value {
        self.api("CONSUMER.PAUSE.S.C", until).await
    }

    async fn reset(&mut self, seq: Value) -> Value {
        self.api("CONSUMER.RESET.S.C", seq).await
    }
}

fn explicit() -> Value {
    json!({"durable_name": "C", "ack_policy": "explicit"})
}

mod pause {
    use super::*;

    on_both_servers! { JETSTREAM;
        async fn a_paused_consumer_delivers_nothing_and_then_goes_on(s) {
            s.three_messages(explicit()).await;
            let answer = s.pause(json!({"pause_until": LATER})).await;
            assert_eq!((&answer["paused"], &answer["pause_until"]), (&json!(true), &json!(LATER)));
            assert!(answer["pause_remaining"].as_u64().unwrap() > 0, "{answer}");
            let info = s.consumer_info("S", "C").await;
            assert_eq!((&info["paused"], &info["num_pending"]), (&json!(true), &json!(3)));
            assert_eq!(info["config"]["pause_until"], LATER);
            let pulled = s.pull("S", "C", json!({"batch": 1, "no_wait": true})).await;
            assert_eq!((pulled.messages.len(), pulled.status.as_deref()), (0, Some("404 No Messages")));
            let pulled = s.pull("S", "C", json!({"batch": 1, "expires": 100_000_000})).await;
            assert_eq!((pulled.messages.len(), pulled.status.as_deref()), (0, Some("408 Request Timeout")));
            let answer = s.pause(Value::Null).await;
            assert_eq!((&answer["paused"], &answer["pause_until"]), (&json!(false), &json!("0001-01-01T00:00:00Z")));
            assert_eq!(answer["pause_remaining"], Value::Null);
            assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 3})).await), [1, 2, 3]);
            assert_eq!(s.consumer_info("S", "C").await["paused"], Value::Null);
        }

        async fn a_pause_that_is_over_ends_by_itself(s) {
            s.three_messages(explicit()).await;
            let mut told = s.client().await.subscribe("$JS.EVENT.ADVISORY.CONSUMER.PAUSE.S.C").await.unwrap();
            let until = linnet_env::Clock::wall(&linnet_env::RealClock::new());
            let until = linnet_ids::Wall(until.0 + 300_000_000).rfc3339();
            assert_eq!(s.pause(json!({"pause_until": until})).await["paused"], true);
            assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 3, "expires": 5_000_000_000_u64})).await), [1, 2, 3]);
            for paused in [true, false] {
                let advisory = within("an advisory", told.next()).await.unwrap();
                let advisory: Value = serde_json::from_slice(&advisory.payload).unwrap();
                assert_eq!(advisory["type"], "io.nats.jetstream.advisory.v1.consumer_pause");
                assert_eq!((&advisory["stream"], &advisory["consumer"]), (&json!("S"), &json!("C")));
                assert_eq!((&advisory["paused"], &advisory["pause_until"]), (&json!(paused), &json!(until)), "{advisory}");
            }
        }

        async fn a_consumer_may_be_created_paused_and_updates_leave_its_pause(s) {
            let mut config = explicit();
            config["pause_until"] = json!(LATER);
            s.three_messages(config).await;
            assert_eq!(s.consumer_info("S", "C").await["paused"], true);
            let mut config = explicit();
            config["description"] = json!("changed");
            s.consumer("S", config).await;
            let info = s.consumer_info("S", "C").await;
            assert_eq!((&info["paused"], &info["config"]["description"]), (&json!(true), &json!("changed")));
            assert_eq!(s.pause(json!({"pause_until": "2001-01-01T00:00:00Z"})).await["paused"], false);
        }

        async fn a_pause_that_is_over_is_shown_as_it_was_given(s) {
            s.three_messages(explicit()).await;
            let mut told = s.client().await.subscribe("$JS.EVENT.ADVISORY.CONSUMER.PAUSE.S.C").await.unwrap();
            const OVER: &str = "2001-01-01T00:00:00Z";
            for (body, until, shown) in [
                (json!({"pause_until": OVER}), OVER, json!(OVER)),
                (Value::Null, "0001-01-01T00:00:00Z", Value::Null),
            ] {
                let answer = s.pause(body).await;
                assert_eq!((&answer["paused"], &answer["pause_until"]), (&json!(false), &json!(until)));
                let info = s.consumer_info("S", "C").await;
                assert_eq!((&info["paused"], &info["config"]["pause_until"]), (&Value::Null, &shown));
                let advisory = within("an advisory", told.next()).await.unwrap();
                let advisory: Value = serde_json::from_slice(&advisory.payload).unwrap();
                assert_eq!((&advisory["paused"], &advisory["pause_until"]), (&json!(false), &json!(until)), "{advisory}");
            }
            assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 3})).await), [1, 2, 3]);
        }

        async fn only_what_exists_can_be_paused(s) {
            s.stream(json!({"name": "S", "subjects": ["s"]})).await;
            assert_eq!(err_code(&s.pause(json!({"pause_until": LATER})).await), 10014);
            assert_eq!(err_code(&s.api("CONSUMER.PAUSE.T.C", json!({"pause_until": LATER})).await), 10059);
        }
    }
}

mod reset {
    use super::*;

    on_both_servers! { JETSTREAM;
        async fn everything_behind_the_floor_comes_again(s) {
            s.three_messages(explicit()).await;
            let pulled = s.pull("S", "C", json!({"batch": 3})).await;
            s.ack(&pulled.messages[0], "+ACK").await;
            s.consumer_shows("S", "C", &[("/ack_floor/stream_seq", 1), ("/num_ack_pending", 2)]).await;
            let answer = s.reset(Value::Null).await;
            assert_eq!((&answer["reset_seq"], &answer["name"]), (&json!(2), &json!("C")), "{answer}");
            s.consumer_shows("S", "C", &[
                ("/num_ack_pending", 0), ("/num_pending", 2), ("/delivered/consumer_seq", 0), ("/delivered/stream_seq", 1),
                ("/ack_floor/consumer_seq", 0), ("/ack_floor/stream_seq", 1)]).await;
            let pulled = s.pull("S", "C", json!({"batch": 2})).await;
            let again: Vec<_> = pulled.messages.iter().map(|m| (m.stream_seq, m.consumer_seq, m.delivered)).collect();
            assert_eq!(again, [(2, 1, 1), (3, 2, 1)]);
        }

        async fn it_may_go_to_a_sequence(s) {
            s.three_messages(explicit()).await;
            assert_eq!(s.reset(json!({"seq": 3})).await["reset_seq"], 3);
            assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 1})).await), [3]);
            assert_eq!(s.reset(json!({"seq": 1})).await["reset_seq"], 1);
            assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 3})).await), [1, 2, 3]);
        }

        async fn it_goes_nowhere_before_the_start(s) {
            let mut config = explicit();
            config["deliver_policy"] = json!("by_start_sequence");
            config["opt_start_seq"] = json!(2);
            s.three_messages(config).await;
            let refused = s.reset(json!({"seq": 1})).await;
            assert_eq!((err_code(&refused), refused["error"]["description"].as_str()),
                (10204, Some("invalid reset: below start seq")));
            assert_eq!(refused["reset_seq"], 0);
            assert_eq!(s.reset(json!({"seq": 3})).await["reset_seq"], 3);
        }

        async fn it_goes_to_no_sequence_for_other_policies(s) {
            let mut config = explicit();
            config["deliver_policy"] = json!("last");
            s.three_messages(config).await;
            let refused = s.reset(json!({"seq": 1})).await;
            assert_eq!((err_code(&refused), refused["error"]["description"].as_str()),
                (10204, Some("invalid reset: not allowed")));
            assert_eq!(s.reset(Value::Null).await["error"], Value::Null);
        }

        async fn an_interest_stream_gives_up_what_is_skipped(s) {
            s.stream(json!({"name": "S", "subjects": ["s"], "retention": "interest"})).await;
            s.consumer("S", explicit()).await;
            for _ in 0..3 {
                s.publish("s", "x").await;
            }
            assert_eq!(s.reset(json!({"seq": 3})).await["reset_seq"], 3);
            s.stream_shows("S", &[("/messages", 1), ("/first_seq", 3)]).await;
        }
    }
}
