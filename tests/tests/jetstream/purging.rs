//! Purges: what goes, and where consumers go on.

use serde_json::{Value, json};

use crate::harness::{JETSTREAM, Kind, err_code, sequences};

on_both_servers! { JETSTREAM;
    async fn purges_remove_what_they_say(s) {
        s.eight().await;
        assert_eq!(s.api("STREAM.PURGE.S", json!({"filter": "p.0", "keep": 2})).await["purged"], 2);
        assert_eq!(s.api("STREAM.PURGE.S", json!({"filter": "p.1", "seq": 5})).await["purged"], 2);
        assert_eq!(s.api("STREAM.PURGE.S", json!({"filter": "none"})).await["purged"], 0);
        assert_eq!(err_code(&s.api("STREAM.PURGE.S", json!({"seq": 2, "keep": 2})).await), 10003);
        assert_eq!(s.state("S").await["messages"], 4);
        assert_eq!(s.api("STREAM.PURGE.S", json!({"seq": 7})).await["purged"], 2);
        assert_eq!(s.state("S").await["first_seq"], 7);
        assert_eq!(s.api("STREAM.PURGE.S", json!({"keep": 1})).await["purged"], 1);
        let state = s.state("S").await;
        assert_eq!((&state["first_seq"], &state["last_seq"]), (&json!(8), &json!(8)));
    }

    async fn a_purge_up_to_a_sequence_behind_the_end_moves_the_stream_there(s) {
        for (n, (storage, messages, request, moves)) in [
            ("file", 0, json!({"seq": 100}), true),
            ("file", 3, json!({"seq": 100}), true),
            ("file", 3, json!({"seq": 4}), false),
            ("file", 0, json!({"seq": 100, "filter": ">"}), true),
            ("file", 0, json!({"seq": 100, "filter": "a.x"}), false),
            ("memory", 0, json!({"seq": 100}), true),
            ("memory", 3, json!({"seq": 100}), true),
            ("memory", 3, json!({"seq": 100, "filter": ">"}), true),
            ("memory", 3, json!({"seq": 100, "filter": "n7.*"}), false),
        ].into_iter().enumerate() {
            let (name, subject) = (format!("S{n}"), format!("n{n}.x"));
            s.stream(json!({"name": name, "subjects": [format!("n{n}.*")], "storage": storage})).await;
            for _ in 0..messages {
                s.publish(&subject, "x").await;
            }
            let answer = s.api(&format!("STREAM.PURGE.{name}"), request.clone()).await;
            assert_eq!(answer["purged"], if request["filter"] == "n7.*" { 0 } else { messages }, "{n} {request}");
            if moves {
                let state = s.state(&name).await;
                assert_eq!((&state["messages"], &state["first_seq"], &state["last_seq"]), (&json!(0), &json!(100), &json!(99)), "{n} {request}");
            }
            let next = if moves { 100 } else { messages + 1 };
            assert_eq!(s.publish(&subject, "x").await["seq"], next, "{n} {request}");
        }
    }

    async fn consumers_go_on_behind_what_was_purged(s) {
        // Eight messages on p.0 and p.1 in turn; where a consumer with each filter has come then.
        for (n, (request, [all, wide, zero, one])) in [
            (Value::Null, [8, 8, 8, 8]),
            (json!({"filter": "p.0"}), [1, 1, 8, 0]),
            (json!({"filter": "p.0", "keep": 2}), [1, 1, 4, 0]),
            (json!({"filter": "p.1", "seq": 5}), [0, 0, 0, 5]),
            (json!({"filter": "p.*", "keep": 3}), [5, 5, 5, 5]),
            (json!({"seq": 7}), [6, 6, 6, 6]),
            (json!({"keep": 1}), [7, 7, 7, 7]),
            (json!({"filter": "none"}), [0, 0, 0, 0]),
        ].into_iter().enumerate() {
            let (stream, token) = (format!("S{n}"), format!("n{n}"));
            s.stream(json!({"name": stream, "subjects": [format!("{token}.p.*")]})).await;
            let filters = ["", "p.*", "p.0", "p.1"].map(|f| if f.is_empty() { String::new() } else { format!("{token}.{f}") });
            for (name, filter) in ["A", "W", "Z", "O"].iter().zip(&filters) {
                s.consumer(&stream, json!({"durable_name": name, "ack_policy": "explicit", "filter_subject": filter})).await;
            }
            for m in 0..8 {
                s.publish(&format!("{token}.p.{}", m % 2), "x").await;
            }
            let mut asked = request.clone();
            if let Some(filter) = request["filter"].as_str() {
                asked["filter"] = json!(format!("{token}.{filter}"));
            }
            assert_eq!(s.api(&format!("STREAM.PURGE.{stream}"), asked).await["error"], Value::Null);
            for (name, at) in ["A", "W", "Z", "O"].iter().zip([all, wide, zero, one]) {
                s.consumer_shows(&stream, name, &[("/delivered/stream_seq", at), ("/ack_floor/stream_seq", at)]).await;
            }
        }
    }

    async fn a_floor_waits_for_what_is_pending_below_a_purge_of_a_subject(s) {
        s.eight().await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
        assert_eq!(s.pull("S", "C", json!({"batch": 8})).await.messages.len(), 8);
        assert_eq!(s.api("STREAM.PURGE.S", json!({"filter": "p.1", "seq": 5})).await["purged"], 2);
        // nats-server moves the floor of deliveries past what is pending.
        let deliveries = if s.kind == Kind::Peer { 4 } else { 0 };
        let pointers = [("/ack_floor/stream_seq", 0), ("/ack_floor/consumer_seq", deliveries)];
        s.consumer_shows("S", "C", &pointers).await;
    }

    async fn what_is_pending_and_purged_is_over(s) {
        s.stream(json!({"name": "S", "subjects": ["p.*"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
        for n in 0..8 {
            s.publish(&format!("p.{}", n % 2), "x").await;
        }
        assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 3})).await), [1, 2, 3]);
        s.api("STREAM.PURGE.S", json!({"filter": "p.0"})).await;
        s.consumer_shows("S", "C", &[("/num_ack_pending", 1), ("/num_pending", 3), ("/ack_floor/stream_seq", 1)]).await;
        assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 3})).await), [4, 6, 8]);
    }
}
