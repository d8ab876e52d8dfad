//! How calls of the API are read and answered.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{JETSTREAM, Kind, err_code, eventually, within};

on_both_servers! { JETSTREAM;
    async fn strict_requests_refuse_unknown_fields(s) {
        let answer = s.api("STREAM.CREATE.S", json!({"name": "S", "bogus": 1})).await;
        assert_eq!(err_code(&answer), 10025);
        assert_eq!(answer["error"]["description"], "invalid JSON: json: unknown field \"bogus\"");
    }

    async fn values_of_the_wrong_type_are_named_as_go_names_them(s) {
        s.stream(json!({"name": "S", "subjects": ["s"]})).await;
        let consumer = |field: &str| json!({"stream_name": "S", "config": {"name": "C", field: "x"}});
        for (api, body, place) in [
            ("STREAM.INFO.S", json!({"offset": "x"}), "JSApiStreamInfoRequest.offset of type int"),
            ("STREAM.CREATE.Q", json!({"max_msgs": "x"}), "StreamConfigRequest.max_msgs of type int64"),
            ("STREAM.CREATE.Q", json!({"max_consumers": "x"}), "StreamConfigRequest.max_consumers of type int"),
            ("STREAM.CREATE.Q", json!({"num_replicas": "x"}), "StreamConfigRequest.num_replicas of type int"),
            ("STREAM.MSG.GET.S", json!({"batch": "x"}), "JSApiMsgGetRequest.batch of type int"),
            ("CONSUMER.NAMES.S", json!({"offset": "x"}), "JSApiConsumersRequest.offset of type int"),
            ("CONSUMER.CREATE.S.C", consumer("max_deliver"), "CreateConsumerRequest.config.max_deliver of type int"),
            ("CONSUMER.CREATE.S.C", consumer("max_waiting"), "CreateConsumerRequest.config.max_waiting of type int"),
            (
                "CONSUMER.CREATE.S.C",
                consumer("backoff"),
                "CreateConsumerRequest.config.backoff of type []time.Duration",
            ),
            ("CONSUMER.CREATE.S.C", consumer("ack_wait"), "CreateConsumerRequest.config.ack_wait of type time.Duration"),
            ("CONSUMER.CREATE.S.C", consumer("opt_start_seq"), "CreateConsumerRequest.config.opt_start_seq of type uint64"),
        ] {
            let answer = s.api(api, body).await;
            let text = format!("invalid JSON: json: cannot unmarshal string into Go struct field {place}");
            assert_eq!(answer["error"]["description"], text, "{api}");
        }
    }

    async fn what_is_no_json_is_told_in_the_words_of_the_call(s) {
        s.stream(json!({"name": "S", "subjects": ["s"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
        let key = "invalid character 'b' looking for beginning of object key string";
        let with_offset = format!("{key} at offset 2");
        for (api, body, words) in [
            ("CONSUMER.UNPIN.S.C", "{bad", key),
            ("CONSUMER.UNPIN.N.C", "", "unexpected end of JSON input"),
            ("CONSUMER.UNPIN.S.C", "{}", "consumer group not specified"),
            ("CONSUMER.UNPIN.S.C", "{\"group\":\"A\"} x", "invalid character 'x' after top-level value"),
            ("CONSUMER.RESET.S.C", "{bad", key),
            ("CONSUMER.PAUSE.S.C", "{bad", with_offset.as_str()),
            ("STREAM.SNAPSHOT.S", "{bad", with_offset.as_str()),
        ] {
            let answer = s.request(&format!("$JS.API.{api}"), body).await;
            assert_eq!(answer["error"]["description"], format!("invalid JSON: {words}"), "{api} {body}");
        }
        assert_eq!(err_code(&s.request("$JS.API.STREAM.SNAPSHOT.N", "{bad").await), 10059);
    }

    async fn paging_of_subjects_tells_the_offset_asked_for(s) {
        s.stream(json!({"name": "S", "subjects": ["s.*"]})).await;
        for subject in ["s.0", "s.1", "s.2"] {
            s.publish(subject, "x").await;
        }
        for (filter, offset, expected) in [
            (">", 0, (3, 0, 100_000, 3)),
            (">", 2, (3, 2, 100_000, 1)),
            (">", 9, (3, 9, 100_000, 0)),
            (">", -3, (3, 0, 100_000, 3)),
            ("s.1", 0, (1, 0, 100_000, 1)),
            ("s.1", 3, (1, 3, 100_000, 0)),
            ("zz", 0, (0, 0, 0, 0)),
            ("zz", 1, (0, 0, 0, 0)),
        ] {
            let answer = s.api("STREAM.INFO.S", json!({"subjects_filter": filter, "offset": offset})).await;
            let number = |key: &str| answer[key].as_i64().unwrap();
            let shown = answer["state"]["subjects"].as_object().map_or(0, serde_json::Map::len);
            assert_eq!((number("total"), number("offset"), number("limit"), shown), expected, "{filter} {offset}");
        }
    }

    async fn requests_that_are_answered_by_streams_and_consumers_are_read_leniently(s) {
        s.stream(json!({"name": "S", "subjects": ["a"], "allow_direct": true})).await;
        s.publish("a", "x").await;
        let pinned = json!({"priority_policy": "pinned_client", "priority_groups": ["g"]});
        let mut config = json!({"durable_name": "C", "ack_policy": "explicit"});
        config.as_object_mut().unwrap().extend(pinned.as_object().unwrap().clone());
        s.consumer("S", config).await;
        for (call, body) in
            [("RESET", json!({"seq": 1, "bogus": 1})), ("UNPIN", json!({"group": "g", "bogus": 1}))]
        {
            let answer = s.api(&format!("CONSUMER.{call}.S.C"), body).await;
            assert_eq!(answer["error"], Value::Null, "{call}: {answer}");
        }
        let client = s.client().await;
        let direct = client.request("$JS.API.DIRECT.GET.S", r#"{"seq":1,"bogus":1}"#.into());
        assert_eq!(within("a direct get", direct).await.unwrap().payload, "x");
        let strict = s.api("CONSUMER.PAUSE.S.C", json!({"bogus": 1})).await;
        assert_eq!(err_code(&strict), 10025);
    }

    async fn calls_that_do_not_exist_are_not_answered(s) {
        let client = s.client().await;
        let unknown = [
            ("STREAM.FOO.S", true), ("STREAM.INFO.S.T", true), ("META.LEADER.STEPDOWN", true), ("SERVER.REMOVE", true),
            ("FOO", false), ("CONSUMER.FOO.S", false),
        ];
        let asked = unknown.map(|(call, is_silent)| {
            let request = client.request(format!("$JS.API.{call}"), "{\"peer\":\"x\"}".into());
            async move { (call, is_silent, tokio::time::timeout(Duration::from_millis(300), request).await) }
        });
        for (call, is_silent, answer) in futures_util::future::join_all(asked).await {
            // Linnet listens to nothing else.
            if is_silent || s.kind == Kind::Peer {
                assert!(answer.is_err(), "{call}: {answer:?}");
            } else {
                let refused = answer.unwrap().unwrap_err().kind();
                assert_eq!(refused, async_nats::RequestErrorKind::NoResponders, "{call}");
            }
        }
    }

    async fn bodies_that_may_be_left_out_are_read_if_they_look_like_json(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C"})).await;
        for call in [
            "STREAM.NAMES", "STREAM.LIST", "STREAM.INFO.S", "CONSUMER.NAMES.S", "CONSUMER.LIST.S", "STREAM.PURGE.S", "CONSUMER.PAUSE.S.C",
        ] {
            for body in ["", "x", "  x", "5", "\"x\"", "{}", " { } "] {
                let answer = s.request(&format!("$JS.API.{call}"), body).await;
                assert_eq!(answer["error"], Value::Null, "{call} {body}");
            }
            let answer = s.request(&format!("$JS.API.{call}"), " {").await;
            assert_eq!(err_code(&answer), 10025, "{call}: {answer}");
        }
    }

    async fn some_calls_want_a_body_and_some_want_none(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C"})).await;
        for call in ["STREAM.DELETE.S", "CONSUMER.DELETE.S.C", "CONSUMER.INFO.S.C"] {
            for body in ["x", "{\"a\":1}", "5"] {
                let answer = s.request(&format!("$JS.API.{call}"), body).await;
                assert_eq!(err_code(&answer), 10038, "{call} {body}: {answer}");
            }
        }
        for body in ["", "{}", " { } "] {
            assert_eq!(s.request("$JS.API.CONSUMER.INFO.S.C", body).await["error"], Value::Null, "{body}");
        }
        for call in ["STREAM.MSG.GET.S", "STREAM.MSG.DELETE.S", "STREAM.SNAPSHOT.S", "STREAM.RESTORE.T"] {
            for body in ["", "{}"] {
                let answer = s.request(&format!("$JS.API.{call}"), body).await;
                assert_eq!(err_code(&answer), 10003, "{call} {body}: {answer}");
            }
        }
    }

    async fn a_call_may_name_the_level_it_needs(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        for call in ["STREAM.INFO.S", "STREAM.NAMES", "INFO"] {
            for (level, code) in [("0", 0), ("5", 0), ("-1", 0), ("6", 10185), ("x", 10185), ("5.0", 10185)] {
                let answer = s.publish_with(&format!("$JS.API.{call}"), &[("Nats-Required-Api-Level", level)], "").await;
                assert_eq!(err_code(&answer), code, "{call} {level}: {answer}");
                if code > 0 {
                    assert_eq!(answer["error"]["code"], 412);
                }
            }
        }
    }

    async fn a_call_without_a_reply_is_carried_out(s) {
        let client = s.client().await;
        let config = json!({"name": "S", "subjects": ["a"]}).to_string();
        client.publish("$JS.API.STREAM.CREATE.S", config.into()).await.unwrap();
        eventually("the stream is there", async || {
            s.api("STREAM.INFO.S", Value::Null).await["error"].is_null().then_some(())
        }).await;
    }

    async fn one_server_has_no_peers(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C"})).await;
        let peer = json!({"peer": "x"});
        for (call, body) in [
            ("STREAM.LEADER.STEPDOWN.S", Value::Null), ("CONSUMER.LEADER.STEPDOWN.S.C", Value::Null),
            ("STREAM.PEER.REMOVE.S", peer.clone()), ("STREAM.PEER.EVACUATE.S", peer.clone()), ("STREAM.CANCEL_MOVE.S", Value::Null),
            ("CONSUMER.PEER.REMOVE.S.C", peer.clone()), ("CONSUMER.PEER.EVACUATE.S.C", peer),
        ] {
            let answer = s.api(call, body).await;
            assert_eq!((err_code(&answer), &answer["error"]["code"]), (10010, &json!(503)), "{call}: {answer}");
        }
    }

    async fn names_and_lists_come_in_pages(s) {
        for name in ["C", "A", "B"] {
            s.stream(json!({"name": name, "subjects": [format!("{name}.*")]})).await;
        }
        for name in ["Z", "X", "Y"] {
            s.consumer("A", json!({"durable_name": name})).await;
        }
        for (request, streams, total, offset) in [
            (Value::Null, vec!["A", "B", "C"], 3, 0),
            (json!({"offset": 1}), vec!["B", "C"], 3, 1),
            (json!({"offset": 9}), vec![], 3, 3),
            (json!({"offset": -2}), vec!["A", "B", "C"], 3, 0),
            (json!({"subject": "B.x"}), vec!["B"], 1, 0),
            (json!({"subject": "*.x"}), vec!["A", "B", "C"], 3, 0),
            (json!({"subject": "x"}), vec![], 0, 0),
        ] {
            for (call, limit) in [("STREAM.NAMES", 1024), ("STREAM.LIST", 256)] {
                let answer = s.api(call, request.clone()).await;
                let named = |entry: &Value| entry.as_str().or_else(|| entry["config"]["name"].as_str()).unwrap().to_owned();
                let shown: Vec<String> = answer["streams"].as_array().map(|all| all.iter().map(named).collect()).unwrap_or_default();
                assert_eq!(shown, streams, "{call} {request}");
                let page = [&answer["total"], &answer["offset"], &answer["limit"]];
                assert_eq!(page, [&json!(total), &json!(offset), &json!(limit)], "{call} {request}");
            }
        }
        for (offset, consumers) in [(0, vec!["X", "Y", "Z"]), (2, vec!["Z"]), (9, vec![])] {
            let names = s.api("CONSUMER.NAMES.A", json!({"offset": offset})).await;
            assert_eq!(names["consumers"], json!(consumers));
            let list = s.api("CONSUMER.LIST.A", json!({"offset": offset})).await;
            let listed: Vec<&str> = list["consumers"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
            assert_eq!(listed, consumers);
        }
    }

    async fn a_stream_is_told_of_with_its_state(s) {
        let empty = s.stream(json!({"name": "S", "subjects": ["s.*"]})).await["state"].clone();
        assert_eq!(empty, json!({"messages": 0, "bytes": 0, "first_seq": 0, "first_ts": "0001-01-01T00:00:00Z",
            "last_seq": 0, "last_ts": "0001-01-01T00:00:00Z", "consumer_count": 0}));
        for subject in ["s.a", "s.b", "s.a"] {
            s.publish(subject, "x").await;
        }
        s.api("STREAM.MSG.DELETE.S", json!({"seq": 2})).await;
        let plain = s.state("S").await;
        assert_eq!((&plain["num_subjects"], &plain["num_deleted"]), (&json!(1), &json!(1)));
        assert_eq!((&plain["subjects"], &plain["deleted"]), (&Value::Null, &Value::Null));
        let request = json!({"deleted_details": true, "subjects_filter": "s.a"});
        let details = s.api("STREAM.INFO.S", request).await["state"].clone();
        assert_eq!((&details["subjects"], &details["deleted"]), (&json!({"s.a": 2}), &json!([2])));
        let server = s.raw().line().unwrap();
        let server: Value = serde_json::from_str(server.strip_prefix("INFO ").unwrap()).unwrap();
        let info = s.api("STREAM.INFO.S", Value::Null).await;
        assert_eq!(info["cluster"], json!({"leader": server["server_name"]}));
        assert!(info["created"].is_string() && info["ts"].is_string());
    }
}
