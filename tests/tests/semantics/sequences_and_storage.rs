//! Rows 1 to 11: sequences, and what is stored.

use async_nats::HeaderMap;
use serde_json::{Value, json};

use crate::harness::{JETSTREAM, Kind, err_code, within};

on_both_servers! { JETSTREAM;
    async fn r01_sequences_are_never_reused(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        assert_eq!(s.state("S").await["first_seq"], 0);
        for seq in 1..=3 {
            assert_eq!(s.publish("a", "x").await["seq"], seq);
        }
        assert_eq!(s.api("STREAM.PURGE.S", Value::Null).await["purged"], 3);
        let state = s.state("S").await;
        assert_eq!((&state["messages"], &state["first_seq"], &state["last_seq"]), (&json!(0), &json!(4), &json!(3)));
        assert_eq!(s.publish("a", "x").await["seq"], 4);
        s.api("STREAM.MSG.DELETE.S", json!({"seq": 4})).await;
        let state = s.state("S").await;
        assert_eq!((&state["first_seq"], &state["last_seq"]), (&json!(5), &json!(4)));
        assert_eq!(s.publish("a", "x").await["seq"], 5);
    }

    async fn r03_a_message_over_max_bytes_is_acked_and_gone(s) {
        s.stream(json!({"name": "S", "subjects": ["a"], "max_bytes": 200})).await;
        let ack = s.publish("a", &"x".repeat(400)).await;
        assert_eq!(ack, json!({"stream": "S", "seq": 1}));
        let state = s.state("S").await;
        assert_eq!((&state["messages"], &state["first_seq"], &state["last_seq"]), (&json!(0), &json!(2), &json!(1)));
    }

    async fn r04_replacing_a_subject_does_not_push_out_others(s) {
        s.stream(json!({"name": "S", "subjects": ["s.*"], "max_msgs": 2, "max_msgs_per_subject": 1})).await;
        s.publish("s.a", "1").await;
        s.publish("s.b", "2").await;
        s.publish("s.b", "3").await;
        let subjects = s.api("STREAM.INFO.S", json!({"subjects_filter": ">"})).await["state"]["subjects"].clone();
        assert_eq!(subjects, json!({"s.a": 1, "s.b": 1}));
    }

    async fn r05_a_refused_publish_does_not_use_up_its_id(s) {
        s.stream(json!({"name": "S", "subjects": ["a"], "max_msgs": 1, "discard": "new"})).await;
        s.publish("a", "1").await;
        let id = [("Nats-Msg-Id", "i")];
        let refused = s.publish_with("a", &id, "2").await;
        assert_eq!(refused["error"]["description"], "maximum messages exceeded");
        assert_eq!(err_code(&refused), 10077);
        s.api("STREAM.MSG.DELETE.S", json!({"seq": 1})).await;
        assert_eq!(s.publish_with("a", &id, "2").await, json!({"stream": "S", "seq": 2}));
        assert_eq!(s.publish_with("a", &id, "2").await, json!({"stream": "S", "seq": 2, "duplicate": true}));
    }

    async fn r05_the_id_of_a_deleted_message_stays_known(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.publish_with("a", &[("Nats-Msg-Id", "i")], "1").await;
        s.api("STREAM.MSG.DELETE.S", json!({"seq": 1})).await;
        let again = s.publish_with("a", &[("Nats-Msg-Id", "i")], "1").await;
        assert_eq!(again, json!({"stream": "S", "seq": 1, "duplicate": true}));
    }

    async fn r06_expected_subject_sequence_zero_means_no_message(s) {
        s.stream(json!({"name": "S", "subjects": ["a", "b"]})).await;
        let zero = [("Nats-Expected-Last-Subject-Sequence", "0")];
        assert_eq!(s.publish_with("a", &zero, "1").await["seq"], 1);
        let refused = s.publish_with("a", &zero, "2").await;
        assert_eq!(err_code(&refused), 10071);
        assert_eq!(refused["error"]["description"], "wrong last sequence: 1");
        assert_eq!(s.publish_with("b", &zero, "3").await["seq"], 2);
        s.api("STREAM.PURGE.S", json!({"filter": "a"})).await;
        assert_eq!(s.publish_with("a", &zero, "4").await["seq"], 3);
    }

    async fn r07_a_stale_expected_sequence_wins_over_a_duplicate(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        let id = ("Nats-Msg-Id", "i");
        s.publish_with("a", &[id], "1").await;
        s.publish("a", "2").await;
        let stale = s.publish_with("a", &[id, ("Nats-Expected-Last-Sequence", "1")], "1").await;
        // Linnet judges every publish as the peer judges one of a replicated stream.
        match s.kind {
            Kind::Linnet => assert_eq!(stale["duplicate"], true),
            Kind::Peer => assert_eq!(err_code(&stale), 10071),
        }
        let again = s.publish_with("a", &[id, ("Nats-Expected-Last-Sequence", "2")], "1").await;
        assert_eq!(again["duplicate"], true);
    }

    async fn r08_a_duplicate_names_the_first_sequence_and_an_error_zero(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.publish_with("a", &[("Nats-Msg-Id", "i")], "1").await;
        s.publish("a", "2").await;
        let client = s.client().await;
        let mut headers = HeaderMap::new();
        headers.append("Nats-Msg-Id", "i");
        let raw = within("ack", client.request_with_headers("a", headers, "1".into())).await.unwrap();
        assert_eq!(raw.payload, r#"{"stream":"S","seq":1,"duplicate": true}"#);
        let mut headers = HeaderMap::new();
        headers.append("Nats-Expected-Last-Sequence", "9");
        let raw = within("ack", client.request_with_headers("a", headers, "1".into())).await.unwrap();
        let text = r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 2"},"stream":"S","seq":0}"#;
        assert_eq!(raw.payload, text);
        let raw = within("ack", client.request("a", "3".into())).await.unwrap();
        assert_eq!(raw.payload, r#"{"stream":"S","seq":3}"#);
    }

    async fn r09_a_rollup_keeps_the_new_message_only(s) {
        s.stream(json!({"name": "S", "subjects": ["s.*"], "allow_rollup_hdrs": true})).await;
        for subject in ["s.a", "s.a", "s.b"] {
            s.publish(subject, "x").await;
        }
        assert_eq!(s.publish_with("s.a", &[("Nats-Rollup", "sub")], "x").await["seq"], 4);
        let subjects = s.api("STREAM.INFO.S", json!({"subjects_filter": ">"})).await["state"]["subjects"].clone();
        assert_eq!(subjects, json!({"s.a": 1, "s.b": 1}));
        assert_eq!(s.publish_with("s.b", &[("Nats-Rollup", "all")], "x").await["seq"], 5);
        let state = s.state("S").await;
        assert_eq!((&state["messages"], &state["first_seq"]), (&json!(1), &json!(5)));
    }

    async fn r10_num_deleted_counts_the_holes(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        for _ in 0..6 {
            s.publish("a", "x").await;
        }
        for seq in [2, 4, 1] {
            s.api("STREAM.MSG.DELETE.S", json!({"seq": seq})).await;
        }
        let state = s.api("STREAM.INFO.S", json!({"deleted_details": true})).await["state"].clone();
        assert_eq!(state["first_seq"], 3);
        assert_eq!(state["num_deleted"], 1);
        assert_eq!(state["deleted"], json!([4]));
    }

    async fn r11_names_that_differ_in_case_are_two_streams(s) {
        s.stream(json!({"name": "orders", "subjects": ["a"]})).await;
        s.stream(json!({"name": "ORDERS", "subjects": ["b"]})).await;
        s.publish("a", "x").await;
        assert_eq!((&s.state("orders").await["messages"], &s.state("ORDERS").await["messages"]),
            (&json!(1), &json!(0)));
        assert_eq!(err_code(&s.api("STREAM.INFO.Orders", Value::Null).await), 10059);
        assert_eq!(s.api("STREAM.DELETE.ORDERS", Value::Null).await["success"], true);
        assert_eq!(s.state("orders").await["messages"], 1);
    }
}
