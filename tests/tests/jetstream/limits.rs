//! Limits of streams: what is refused, and what goes.

use serde_json::json;

use crate::harness::{JETSTREAM, err_code, eventually};

on_both_servers! { JETSTREAM;
    async fn max_age_removes_messages(s) {
        s.stream(json!({"name": "S", "subjects": ["a"], "max_age": 300_000_000, "duplicate_window": 300_000_000})).await;
        s.publish("a", "x").await;
        let state = eventually("it is gone", async || {
            let state = s.state("S").await;
            (state["messages"] == 0).then_some(state)
        }).await;
        assert_eq!((&state["first_seq"], &state["last_seq"]), (&json!(2), &json!(1)));
    }

    async fn a_full_stream_that_discards_what_is_new_says_why(s) {
        for (n, (fields, stored, text)) in [
            (json!({"max_msgs": 2}), 2, "maximum messages exceeded"),
            // Each is 22 bytes, the subject's four, the body's one, and 8.
            (json!({"max_bytes": 2 * 35}), 2, "maximum bytes exceeded"),
            (json!({"max_msgs_per_subject": 1, "discard_new_per_subject": true}), 1, "maximum messages per subject exceeded"),
        ].into_iter().enumerate() {
            let (name, subject) = (format!("S{n}"), format!("n{n}.a"));
            let mut config = json!({"name": name, "subjects": [format!("n{n}.*")], "discard": "new"});
            config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            s.stream(config).await;
            for seq in 1..=stored {
                assert_eq!(s.publish(&subject, "x").await["seq"], seq, "{fields}");
            }
            let refused = s.publish(&subject, "x").await;
            assert_eq!((err_code(&refused), refused["error"]["description"].as_str()), (10077, Some(text)), "{fields}");
        }
    }

    async fn a_message_of_its_subject_gives_way_where_the_stream_is_full(s) {
        s.stream(json!({"name": "S", "subjects": ["s.*"], "discard": "new", "max_msgs": 1, "max_msgs_per_subject": 1})).await;
        s.publish("s.a", "1").await;
        assert_eq!(s.publish("s.a", "2").await["seq"], 2);
        assert_eq!(err_code(&s.publish("s.b", "3").await), 10077);
        assert_eq!(s.state("S").await["messages"], 1);
    }

    async fn a_rollup_finds_room_on_its_subject(s) {
        s.stream(json!({"name": "S", "subjects": ["s.*"], "discard": "new", "max_msgs_per_subject": 1,
            "discard_new_per_subject": true, "allow_rollup_hdrs": true})).await;
        s.publish("s.a", "1").await;
        assert_eq!(err_code(&s.publish("s.a", "2").await), 10077);
        assert_eq!(s.publish_with("s.a", &[("Nats-Rollup", "sub")], "3").await["seq"], 2);
    }

    async fn messages_and_their_headers_are_only_so_large(s) {
        s.stream(json!({"name": "S", "subjects": ["a"], "max_msg_size": 40})).await;
        // Headers count: `NATS/1.0`, the line and the empty line are 22 bytes.
        assert_eq!(s.publish("a", &"x".repeat(40)).await["seq"], 1);
        assert_eq!(err_code(&s.publish("a", &"x".repeat(41)).await), 10054);
        assert_eq!(s.publish_with("a", &[("KKKK", "vv")], &"x".repeat(18)).await["seq"], 2);
        assert_eq!(err_code(&s.publish_with("a", &[("KKKK", "vv")], &"x".repeat(19)).await), 10054);
        s.stream(json!({"name": "T", "subjects": ["t"]})).await;
        let fits = "x".repeat(65_535 - 17);
        assert_eq!(s.publish_with("t", &[("K", &fits)], "").await["seq"], 1);
        assert_eq!(err_code(&s.publish_with("t", &[("K", &format!("{fits}x"))], "").await), 10097);
    }

    async fn what_messages_count_depends_on_the_storage(s) {
        for (name, storage, plain, with_headers) in [("F", "file", 22 + 3 + 5 + 8, 22 + 3 + 5 + 8 + 4 + 18), ("M", "memory", 3 + 5 + 16, 3 + 5 + 16 + 18)] {
            let subject = format!("{}.a", name.to_lowercase());
            s.stream(json!({"name": name, "subjects": [subject], "storage": storage})).await;
            s.publish(&subject, "12345").await;
            assert_eq!(s.state(name).await["bytes"], plain, "{storage}");
            // `NATS/1.0`, `K: v` and the empty line.
            s.publish_with(&subject, &[("K", "v")], "12345").await;
            assert_eq!(s.state(name).await["bytes"], plain + with_headers, "{storage}");
        }
    }
}
