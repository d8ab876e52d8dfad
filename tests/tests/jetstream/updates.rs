//! Updates of streams; which fields may change how is recorded in `crates/jsapi/testdata`.

use serde_json::{Value, json};

use crate::harness::{JETSTREAM, Kind, err_code, sequences};

on_both_servers! { JETSTREAM;
    async fn updates_that_cannot_be_are_refused(s) {
        s.stream(json!({"name": "S", "subjects": ["a"], "max_msgs": 5})).await;
        for _ in 0..5 {
            s.publish("a", "x").await;
        }
        let answer = s.api("STREAM.UPDATE.S", json!({"name": "S", "subjects": ["a"], "storage": "memory"})).await;
        assert_eq!(err_code(&answer), 10052);
        assert_eq!(answer["error"]["description"], "stream configuration update can not change storage type");
        let answer = s.api("STREAM.UPDATE.S", json!({"name": "S", "subjects": ["a"], "max_msgs": 2})).await;
        assert_eq!(answer["error"], Value::Null);
        assert_eq!((&answer["config"]["max_msgs"], &answer["state"]["messages"]), (&json!(2), &json!(2)));
        let answer = s.api("STREAM.UPDATE.S", json!({"name": "S", "subjects": ["a"], "sealed": true})).await;
        assert_eq!(answer["config"]["discard"], "new");
        assert_eq!(err_code(&s.publish("a", "x").await), 10109);
    }

    async fn first_seq_counts_when_a_stream_is_created_only(s) {
        s.stream(json!({"name": "S", "subjects": ["s"]})).await;
        s.stream(json!({"name": "T", "subjects": ["t"], "first_seq": 9})).await;
        for (name, subject, seq) in [("S", "s", 1), ("T", "t", 9)] {
            let update = json!({"name": name, "subjects": [subject], "first_seq": 20});
            let answer = s.api(&format!("STREAM.UPDATE.{name}"), update).await;
            assert_eq!(answer["config"]["first_seq"], 20, "{answer}");
            assert_eq!(answer["state"]["last_seq"], seq - 1, "{answer}");
            assert_eq!(s.publish(subject, "x").await["seq"], seq);
        }
    }

    async fn a_first_sequence_that_was_chosen_shows_at_once(s) {
        for storage in ["file", "memory"] {
            for (chosen, purge, shown, after) in
                [(0, json!({"seq": 1}), 0, 0), (0, Value::Null, 0, 1), (1, json!({"seq": 1}), 1, 1), (7, Value::Null, 7, 7)]
            {
                let config = json!({"name": "S", "subjects": ["s"], "first_seq": chosen, "storage": storage});
                let created = s.stream(config).await;
                assert_eq!(created["state"]["first_seq"], shown, "{storage} {created}");
                assert_eq!(s.state("S").await["first_seq"], shown, "{storage} {chosen}");
                s.api("STREAM.PURGE.S", purge).await;
                assert_eq!(s.state("S").await["first_seq"], after, "{storage} {chosen}");
                s.api("STREAM.DELETE.S", Value::Null).await;
            }
        }
    }

    async fn a_sealed_stream_only_gives(s) {
        let config = json!({"name": "S", "subjects": ["a"], "max_age": 60_000_000_000_u64, "allow_rollup_hdrs": true});
        s.stream(config.clone()).await;
        s.publish("a", "x").await;
        let mut sealed = config.clone();
        sealed["sealed"] = json!(true);
        let answer = s.api("STREAM.UPDATE.S", sealed.clone()).await;
        let config_now = &answer["config"];
        for (field, value) in [
            ("sealed", json!(true)), ("deny_delete", json!(true)), ("deny_purge", json!(true)), ("max_age", json!(0)),
            ("discard", json!("new")), ("allow_rollup_hdrs", json!(false)),
        ] {
            assert_eq!(config_now[field], value, "{field}");
        }
        assert_eq!(err_code(&s.publish("a", "x").await), 10109);
        assert_eq!(err_code(&s.api("STREAM.PURGE.S", Value::Null).await), 10109);
        assert_eq!(err_code(&s.api("STREAM.MSG.DELETE.S", json!({"seq": 1})).await), 10109);
        let unsealed = s.api("STREAM.UPDATE.S", config).await;
        assert_eq!(unsealed["error"]["description"], "stream configuration update can not unseal a sealed stream");
        assert_eq!(s.stored("S", 1).await.unwrap().body, "x");
        s.consumer("S", json!({"durable_name": "C"})).await;
        assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 1})).await), [1]);
    }

    async fn sealing_takes_back_no_permission_that_was_denied(s) {
        for (name, denied, text) in [
            ("D", "deny_delete", "stream configuration update can not cancel deny message deletes"),
            ("P", "deny_purge", "stream configuration update can not cancel deny purge"),
        ] {
            let mut config = json!({"name": name, "subjects": [name], denied: true});
            s.stream(config.clone()).await;
            let update = format!("STREAM.UPDATE.{name}");
            let answer = s.api(&update, json!({"name": name, "subjects": [name], "sealed": true})).await;
            assert_eq!(answer["error"]["description"], text);
            config["sealed"] = json!(true);
            let answer = s.api(&update, config).await;
            assert_eq!(answer["config"]["sealed"], json!(true), "{answer}");
        }
    }

    async fn a_counter_stream_with_markers_is_updated(s) {
        let config = json!({
            "name": "S", "subjects": ["a"], "allow_msg_counter": true, "subject_delete_marker_ttl": 1_000_000_000,
        });
        s.stream(config.clone()).await;
        let answer = s.api("STREAM.UPDATE.S", config).await;
        let expected = if s.kind == Kind::Peer { json!(10052) } else { Value::Null };
        assert_eq!(answer["error"]["err_code"], expected, "{answer}");
    }

    async fn what_is_not_there_is_missed_before_or_after_replicas_are(s) {
        let update = s.api("STREAM.UPDATE.NO", json!({"name": "NO", "num_replicas": 3})).await;
        assert_eq!(err_code(&update), 10059);
        let consumer = json!({"stream_name": "NO", "config": {"durable_name": "C", "num_replicas": 3}});
        assert_eq!(err_code(&s.api("CONSUMER.DURABLE.CREATE.NO.C", consumer).await), 10074);
    }

    async fn what_clients_may_not_remove_limits_still_do(s) {
        s.stream(json!({"name": "S", "subjects": ["a"], "deny_delete": true, "deny_purge": true, "max_msgs": 2})).await;
        for _ in 0..3 {
            s.publish("a", "x").await;
        }
        for (call, request, code, text) in [
            ("PURGE", Value::Null, 10110, "stream purge not permitted"),
            ("MSG.DELETE", json!({"seq": 2}), 10057, "message delete not permitted"),
        ] {
            let answer = s.api(&format!("STREAM.{call}.S"), request).await;
            assert_eq!((err_code(&answer), answer["error"]["description"].as_str()), (code, Some(text)));
        }
        s.stream_shows("S", &[("/messages", 2), ("/first_seq", 2)]).await;
    }

    async fn lower_limits_remove_at_once(s) {
        let base = json!({"name": "S", "subjects": ["s.*"]});
        for (n, (field, limit, left)) in [
            ("max_msgs", 2, json!({"s.a": 1, "s.b": 1})),
            ("max_msgs_per_subject", 1, json!({"s.a": 1, "s.b": 1})),
            // Each is 22 bytes, the subject's three, the body's one, and 8.
            ("max_bytes", 3 * 34, json!({"s.a": 1, "s.b": 2})),
        ].into_iter().enumerate() {
            let mut config = base.clone();
            config["name"] = json!(format!("S{n}"));
            let subjects = ["s.a", "s.b", "s.b", "s.a"];
            config["subjects"] = json!([format!("n{n}.s.*")]);
            let name = config["name"].as_str().unwrap().to_owned();
            s.stream(config.clone()).await;
            let short = |subject: &str| format!("n{n}.{subject}");
            for subject in subjects {
                s.publish(&short(subject), "x").await;
            }
            // The prefix of the subject counts, too.
            config[field] = json!(if field == "max_bytes" { limit + 3 * 3 } else { limit });
            assert_eq!(s.api(&format!("STREAM.UPDATE.{name}"), config).await["error"], Value::Null, "{field}");
            let mut shown = serde_json::Map::new();
            for (subject, count) in left.as_object().unwrap() {
                shown.insert(short(subject), count.clone());
            }
            let info = s.api(&format!("STREAM.INFO.{name}"), json!({"subjects_filter": ">"})).await;
            assert_eq!(info["state"]["subjects"], Value::Object(shown), "{field}");
        }
    }

    async fn consumers_above_new_limits_are_named(s) {
        let mut config = json!({"name": "S", "subjects": ["a"]});
        s.stream(config.clone()).await;
        for name in ["B", "A"] {
            s.consumer("S", json!({"durable_name": name, "ack_policy": "explicit", "max_ack_pending": 10})).await;
        }
        config["consumer_limits"] = json!({"max_ack_pending": 5});
        let refused = s.api("STREAM.UPDATE.S", config.clone()).await;
        assert_eq!(err_code(&refused), 10069);
        let mut text: Vec<&str> = refused["error"]["description"].as_str().unwrap().split([':', ',']).map(str::trim).collect();
        text.sort_unstable();
        assert_eq!(text, ["A", "B", "change to limits violates consumers"]);
        config["consumer_limits"] = json!({"max_ack_pending": 10});
        assert_eq!(s.api("STREAM.UPDATE.S", config).await["error"], Value::Null);
        let refused = s.try_consumer("S", json!({"durable_name": "C", "ack_policy": "explicit", "max_ack_pending": 11})).await;
        assert_eq!(err_code(&refused), 10121);
        let created = s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
        assert_eq!(created["config"]["max_ack_pending"], 10);
    }
}
