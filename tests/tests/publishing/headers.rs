//! Headers that a publish may have.

use serde_json::{Value, json};

use crate::harness::{JETSTREAM, Kind, err_code};

on_both_servers! { JETSTREAM;
    async fn publish_headers_without_a_value_ask_for_nothing(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        for (n, header) in [
            "Nats-Stream-Source",
            "Nats-Rollup",
            "Nats-Expected-Stream",
            "Nats-Expected-Last-Sequence",
            "Nats-Expected-Last-Subject-Sequence",
            "Nats-Expected-Last-Subject-Sequence-Subject",
            "Nats-Expected-Last-Msg-Id",
            "Nats-Msg-Id",
            "Nats-TTL",
            "Nats-Incr",
            "Nats-Batch-Id",
            "Nats-Schedule",
        ].into_iter().enumerate() {
            let ack = s.publish_with("a", &[(header, "")], "x").await;
            assert_eq!(ack, json!({"stream": "S", "seq": n + 1}), "{header}");
        }
        let expects = [("Nats-Expected-Last-Subject-Sequence", ""), ("Nats-Expected-Last-Subject-Sequence-Subject", "b")];
        assert_eq!(err_code(&s.publish_with("a", &expects, "x").await), 10193);
    }

    async fn clients_may_not_say_where_a_message_was_sourced_from(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        let refused = s.publish_with("a", &[("Nats-Stream-Source", "O 4 > > o")], "x").await;
        assert_eq!(err_code(&refused), 10227);
        assert_eq!(refused["error"]["description"], "message stream source header is not allowed");
        let refused = s.publish_with("a", &[("Nats-Rollup", "x")], "x").await;
        assert_eq!(refused["error"]["description"], "rollup not permitted");
        assert_eq!(s.state("S").await["messages"], 0);
    }

    async fn who_asks_and_where_traces_go_is_not_stored_as_it_came(s) {
        s.stream(json!({"name": "S", "subjects": ["a"], "max_msg_size": 60})).await;
        let long = "x".repeat(100);
        for (seq, headers, key, stored) in [
            (1, vec![("Nats-Request-Info", "{\"acc\":\"ADMIN\"}"), ("K", "v")], "Nats-Request-Info", ""),
            (2, vec![("Nats-Request-Info", &long), ("K", "v")], "K", "v"),
            (3, vec![("Nats-Trace-Dest", &long)], "Nats-Trace-Dest", "trace disabled"),
            (4, vec![("Nats-Trace-Dest", "")], "Nats-Trace-Dest", ""),
        ] {
            assert_eq!(s.publish_with("a", &headers, "x").await["seq"], seq, "{headers:?}");
            let found = s.stored("S", seq).await.unwrap();
            assert_eq!(found.header(key), stored, "{headers:?}");
            assert_eq!(found.header("Nats-Request-Info"), "", "{headers:?}");
        }
        let grown = [("Nats-Trace-Dest", "t"), ("K", "exactly as long as it was")];
        assert_eq!(err_code(&s.publish_with("a", &grown, "x").await), 10054);
    }

    async fn spaces_behind_a_value_belong_to_it(s) {
        s.stream(json!({"name": "S", "subjects": ["a"], "allow_rollup_hdrs": true})).await;
        assert_eq!(err_code(&s.publish_with("a", &[("Nats-Expected-Stream", "S ")], "x").await), 10060);
        assert_eq!(s.publish_with("a", &[("Nats-Expected-Stream", " S")], "x").await["seq"], 1);
        let refused = s.publish_with("a", &[("Nats-Rollup", "sub ")], "x").await;
        assert_eq!(refused["error"]["description"], "rollup value invalid: \"sub \"");
        assert_eq!(s.publish_with("a", &[("Nats-Msg-Id", "i ")], "x").await["seq"], 2);
        assert_eq!(s.publish_with("a", &[("Nats-Msg-Id", "i")], "x").await["seq"], 3);
    }

    async fn expectations_are_kept_or_named(s) {
        s.stream(json!({"name": "S", "subjects": ["s.*"]})).await;
        s.publish_with("s.a", &[("Nats-Msg-Id", "one")], "x").await;
        let expect = "Nats-Expected-Last-Subject-Sequence";
        let whose = "Nats-Expected-Last-Subject-Sequence-Subject";
        for (headers, code, text) in [
            (vec![("Nats-Expected-Stream", "T")], 10060, "expected stream does not match"),
            (vec![("Nats-Expected-Last-Sequence", "7")], 10071, "wrong last sequence: 1"),
            (vec![("Nats-Expected-Last-Sequence", "x")], 10071, "wrong last sequence: 1"),
            (vec![("Nats-Expected-Last-Msg-Id", "two")], 10070, "wrong last msg ID: one"),
            (vec![(expect, "0")], 10071, "wrong last sequence: 1"),
            (vec![(expect, "0"), (whose, "s.*")], 10071, "wrong last sequence: 1"),
            (vec![(whose, "s.a")], 10193, "missing sequence for expected last sequence per subject"),
            (vec![("Nats-Rollup", "sub")], 10111, "rollup not permitted"),
            (vec![("Nats-TTL", "5s")], 10166, "per-message TTL is disabled"),
            (vec![("Nats-Incr", "1")], 10168, "message counters is disabled"),
            (vec![("Nats-Schedule", "@every 1s"), ("Nats-Schedule-Target", "s.t")], 10188, "message schedules is disabled"),
        ] {
            let refused = s.publish_with("s.a", &headers, "").await;
            assert_eq!((err_code(&refused), refused["error"]["description"].as_str()), (code, Some(text)), "{headers:?}");
            assert_eq!(refused["seq"], 0, "{headers:?}");
        }
        for (seq, headers) in [
            (2, vec![("Nats-Expected-Stream", "S"), ("Nats-Expected-Last-Sequence", "1"), ("Nats-Expected-Last-Msg-Id", "one")]),
            (3, vec![(expect, "2")]),
            (4, vec![(expect, "0"), (whose, "s.zz")]),
        ] {
            assert_eq!(s.publish_with("s.a", &headers, "x").await["seq"], seq, "{headers:?}");
        }
        // After a message without an id there is no last one.
        let refused = s.publish_with("s.a", &[("Nats-Expected-Last-Msg-Id", "one")], "x").await;
        assert_eq!(refused["error"]["description"], "wrong last msg ID: ");
        assert_eq!(s.stored("S", 3).await.unwrap().headers, [format!("{expect}: 2")]);
    }

    async fn an_inline_status_is_not_stored(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        let mut raw = s.raw();
        raw.line();
        raw.send(b"CONNECT {\"verbose\":false,\"headers\":true}\r\nHPUB a 27 28\r\nNATS/1.0 200 Fine\r\nK: v\r\n\r\nx\r\n");
        raw.ping();
        s.stream_shows("S", &[("/messages", 1)]).await;
        let answer = s.api("STREAM.MSG.GET.S", json!({"seq": 1})).await;
        let headers = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, answer["message"]["hdrs"].as_str().unwrap());
        assert_eq!(String::from_utf8(headers.unwrap()).unwrap(), "NATS/1.0\r\nK: v\r\n\r\n");
    }

    async fn times_to_live_are_read_as_durations_or_seconds(s) {
        s.stream(json!({"name": "S", "subjects": ["a"], "allow_msg_ttl": true})).await;
        for text in ["never", "NEVER", "5s", "1h30m", "10", "1500ms"] {
            assert_eq!(s.publish_with("a", &[("Nats-TTL", text)], "x").await["error"], Value::Null, "{text}");
        }
        assert_eq!(s.publish_with("a", &[("Nats-TTL", "1111111111111111111")], "x").await["error"], Value::Null);
        for text in ["500ms", "0", "x", "-1", "+5", "5 s", "9999999999999999999", "11111111111111111111"] {
            assert_eq!(err_code(&s.publish_with("a", &[("Nats-TTL", text)], "x").await), 10165, "{text}");
        }
        // Another server counts modulo 2^64.
        let expected = if s.kind == Kind::Linnet { 10165 } else { 0 };
        let answer = s.publish_with("a", &[("Nats-TTL", "99999999999999999999")], "x").await;
        assert_eq!(err_code(&answer), expected, "{answer}");
    }
}
