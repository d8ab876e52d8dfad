//! Where consumers start, and what a create request makes of one that is there; configurations are in
//! `recorded_rules.rs`.

use serde_json::{Value, json};

use crate::harness::{JETSTREAM, Kind, err_code, sequences};

on_both_servers! { JETSTREAM;
    async fn the_deliver_policy_says_where_to_start(s) {
        s.stream(json!({"name": "S", "subjects": ["q.*"]})).await;
        for n in 0..8 {
            s.publish(if n % 2 == 0 { "q.a" } else { "q.b" }, "x").await;
        }
        s.api("STREAM.MSG.DELETE.S", json!({"seq": 3})).await;
        s.api("STREAM.PURGE.S", json!({"seq": 2})).await;
        // What is left: 2 (b), 4 (b), 5 (a), 6 (b), 7 (a), 8 (b).
        let (past, future) = ("2000-01-01T00:00:00Z", "2100-01-01T00:00:00Z");
        for (n, (config, before, pending)) in [
            (json!({}), 1, 6),
            (json!({"filter_subject": "q.a"}), 1, 2),
            (json!({"filter_subjects": ["q.a", "q.b"]}), 1, 6),
            (json!({"deliver_policy": "last"}), 7, 1),
            (json!({"deliver_policy": "last", "filter_subject": "q.a"}), 6, 1),
            (json!({"deliver_policy": "last", "filter_subjects": ["q.a", "q.b"]}), 7, 1),
            (json!({"deliver_policy": "last", "filter_subject": "zz"}), 1, 0),
            (json!({"deliver_policy": "new"}), 8, 0),
            (json!({"deliver_policy": "by_start_sequence", "opt_start_seq": 1}), 1, 6),
            (json!({"deliver_policy": "by_start_sequence", "opt_start_seq": 3}), 2, 5),
            (json!({"deliver_policy": "by_start_sequence", "opt_start_seq": 5, "filter_subject": "q.b"}), 4, 2),
            (json!({"deliver_policy": "by_start_sequence", "opt_start_seq": 50}), 49, 0),
            (json!({"deliver_policy": "by_start_time", "opt_start_time": past}), 1, 6),
            (json!({"deliver_policy": "by_start_time", "opt_start_time": future}), 8, 0),
            (json!({"deliver_policy": "last_per_subject", "filter_subject": "q.*"}), 6, 2),
            (json!({"deliver_policy": "last_per_subject", "filter_subject": "q.b"}), 7, 1),
        ].into_iter().enumerate() {
            let mut whole = json!({"durable_name": format!("C{n}"), "ack_policy": "explicit"});
            whole.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
            let created = s.consumer("S", whole).await;
            let shown = [&created["delivered"]["stream_seq"], &created["ack_floor"]["stream_seq"], &created["num_pending"]];
            assert_eq!(shown, [&json!(before), &json!(before), &json!(pending)], "{config}");
        }
    }

    async fn a_consumer_that_starts_at_a_time_begins_with_the_first_message_from_then(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        for _ in 0..3 {
            s.publish("a", "x").await;
        }
        let time = s.stored("S", 2).await.unwrap().time;
        s.consumer("S", json!({"durable_name": "C", "deliver_policy": "by_start_time", "opt_start_time": time})).await;
        assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 2})).await), [2, 3]);
    }

    async fn the_stream_may_say_that_consumers_have_no_limits(s) {
        let limits = json!({"max_ack_pending": -1, "inactive_threshold": -2});
        s.stream(json!({"name": "S", "subjects": ["a"], "consumer_limits": limits})).await;
        for (config, pending, unused) in [
            (json!({"name": "C", "durable_name": "C", "ack_policy": "explicit"}), -1, -2),
            (json!({"name": "N", "durable_name": "N"}), -1, -2),
            (json!({"name": "E", "ack_policy": "explicit"}), -1, 5_000_000_000_i64),
            (json!({"name": "O", "durable_name": "O", "ack_policy": "all", "max_ack_pending": 5}), 5, -2),
        ] {
            let create = format!("CONSUMER.CREATE.S.{}", config["name"].as_str().unwrap());
            let made = s.api(&create, json!({"stream_name": "S", "config": config})).await;
            assert_eq!(made["config"]["max_ack_pending"], pending, "{made}");
            assert_eq!(made["config"]["inactive_threshold"], unused, "{made}");
        }
        let request = json!({"stream_name": "S", "pedantic": true, "config": {"durable_name": "P", "ack_policy": "explicit"}});
        let made = s.api("CONSUMER.CREATE.S.P", request).await;
        assert_eq!(made["config"]["max_ack_pending"], -1, "{made}");
        let flow = json!({"durable_name": "F", "ack_policy": "flow_control", "deliver_subject": "d"});
        assert_eq!(err_code(&s.try_consumer("S", flow).await), 10220);
        // More than a consumer awaits where nothing is said.
        let client = s.client().await;
        for _ in 0..1100 {
            client.publish("a", "".into()).await.unwrap();
        }
        s.stream_shows("S", &[("/messages", 1100)]).await;
        let pulled = s.pull("S", "C", json!({"batch": 1100, "no_wait": true})).await;
        assert_eq!(pulled.messages.len(), 1100);
    }

    async fn a_named_consumer_that_does_not_last_is_not_created_twice_alike(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        let mut create = async |config: Value, action: &str| {
            let body = json!({"stream_name": "S", "config": config, "action": action});
            err_code(&s.api("CONSUMER.CREATE.S.E", body).await)
        };
        let (bare, stamped) = (json!({"name": "E"}), json!({"name": "E", "inactive_threshold": 5_000_000_000_u64}));
        assert_eq!(create(bare.clone(), "create").await, 0);
        assert_eq!(create(bare.clone(), "create").await, 10148);
        assert_eq!(create(stamped, "create").await, 0);
        assert_eq!(create(bare, "").await, 0);
    }

    async fn a_filter_that_changes_keeps_the_place(s) {
        s.stream(json!({"name": "S", "subjects": ["s.*"]})).await;
        for subject in ["s.a", "s.b", "s.a", "s.b"] {
            s.publish(subject, "x").await;
        }
        let config = |filter: &str| json!({"durable_name": "C", "ack_policy": "explicit", "filter_subject": filter});
        s.consumer("S", config("s.a")).await;
        assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 1})).await), [1]);
        assert_eq!(s.consumer("S", config("s.b")).await["num_pending"], 2);
        assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 2})).await), [2, 4]);
    }

    async fn the_level_is_that_of_what_was_asked_for(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        const LATER: &str = "2100-01-01T00:00:00Z";
        for (name, asked, level) in [
            ("C", json!({}), "0"),
            // Without a policy it is not kept, but it takes a server that knows of it.
            ("C", json!({"priority_timeout": -1}), "1"),
            ("C", json!({}), "0"),
            ("D", json!({"priority_timeout": -1}), "1"),
            ("E", json!({"pause_until": LATER}), "1"),
            ("E", json!({"description": "still paused"}), "1"),
            ("C", json!({"pause_until": LATER}), "0"),
        ] {
            let mut config = json!({"durable_name": name, "ack_policy": "explicit"});
            config.as_object_mut().unwrap().extend(asked.as_object().unwrap().clone());
            let answer = s.consumer("S", config).await;
            let info = s.consumer_info("S", name).await;
            for info in [answer, info] {
                assert_eq!(info["config"]["metadata"]["_nats.req.level"], level, "{asked}: {info}");
                assert_eq!(info["config"]["priority_timeout"], Value::Null, "{info}");
            }
        }
    }

    /// Of two mistakes the one is named that nats-server finds first.
    async fn mistakes_are_found_in_order(s) {
        s.stream(json!({"name": "S", "subjects": ["a.>"]})).await;
        let mistakes = [
            (10139, json!({"filter_subjects": [""]})),
            (10094, json!({"opt_start_seq": 1})),
            (10095, json!({"sample_freq": "x"})),
            (10108, json!({"deliver_subject": "d", "flow_control": true})),
            (10135, json!({"metadata": {"k": "x".repeat(140_000)}})),
            (10197, json!({"priority_timeout": 1_000_000_000})),
        ];
        for (at, (code, first)) in mistakes.iter().enumerate() {
            for (_, second) in &mistakes[at..] {
                let mut config = json!({"durable_name": "C", "ack_policy": "explicit"});
                for (key, value) in [first, second].into_iter().flat_map(|m| m.as_object().unwrap()) {
                    config[key] = value.clone();
                }
                let answer = s.try_consumer("S", config).await;
                assert_eq!(err_code(&answer), *code, "{first} {answer}");
            }
        }
    }

    async fn an_empty_list_changes_nothing(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
        for list in ["backoff", "filter_subjects", "priority_groups"] {
            let config = json!({"durable_name": "C", "ack_policy": "explicit", list: []});
            let again = json!({"stream_name": "S", "action": "create", "config": config});
            let answer = s.api("CONSUMER.CREATE.S.C", again).await;
            let expected = if s.kind == Kind::Peer { json!(10148) } else { Value::Null };
            assert_eq!(answer["error"]["err_code"], expected, "{list}: {answer}");
        }
    }

    async fn the_zero_time_is_no_time(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        let zero = "0001-01-01T00:00:00Z";
        let started = s.try_consumer("S", json!({"durable_name": "C", "opt_start_time": zero})).await;
        let paused = s.consumer("S", json!({"durable_name": "D", "pause_until": zero})).await;
        // The peer takes it as one that was chosen.
        let (code, shown) = match s.kind {
            Kind::Linnet => (0, Value::Null),
            Kind::Peer => (10094, json!(zero)),
        };
        assert_eq!((err_code(&started), &paused["config"]["pause_until"]), (code, &shown));
        assert_eq!(paused["paused"], Value::Null);
    }
}
