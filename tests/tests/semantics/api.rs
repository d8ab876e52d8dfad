//! Rows 38 to 50: the API.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{JETSTREAM, err_code, eventually, round_trip, within};

on_both_servers! { JETSTREAM;
    async fn r38_no_names_are_null_and_no_lists_are_empty(s) {
        assert_eq!(s.api("STREAM.NAMES", Value::Null).await["streams"], Value::Null);
        assert_eq!(s.api("STREAM.LIST", Value::Null).await["streams"], json!([]));
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        assert_eq!(s.api("CONSUMER.NAMES.S", Value::Null).await["consumers"], json!([]));
        assert_eq!(s.api("CONSUMER.LIST.S", Value::Null).await["consumers"], json!([]));
        assert_eq!(s.api("STREAM.NAMES", Value::Null).await["streams"], json!(["S"]));
    }

    async fn r39_errors_of_paged_calls_have_the_page(s) {
        let answer = s.api("CONSUMER.NAMES.S", Value::Null).await;
        assert_eq!(err_code(&answer), 10059);
        assert_eq!((&answer["total"], &answer["offset"], &answer["limit"]), (&json!(0), &json!(0), &json!(0)));
    }

    async fn r40_a_list_leaves_out_version_and_level(s) {
        let created = s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        assert_eq!(created["did_create"], true);
        assert_eq!(created["config"]["metadata"],
            json!({"_nats.level": "5", "_nats.req.level": "0", "_nats.ver": "2.15.1"}));
        let listed = s.api("STREAM.LIST", Value::Null).await;
        assert_eq!(listed["streams"][0]["config"]["metadata"], json!({"_nats.req.level": "0"}));
    }

    async fn r41_a_config_error_is_a_500(s) {
        let answer = s.api("STREAM.CREATE.S", json!({"name": "S", "subjects": ["a"], "max_msgs_per_subject": 1,
            "discard_new_per_subject": true})).await;
        assert_eq!((&answer["error"]["code"], err_code(&answer)), (&json!(500), 10052));
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
        let answer = s.try_consumer("S", json!({"durable_name": "C", "ack_policy": "all"})).await;
        assert_eq!((&answer["error"]["code"], err_code(&answer)), (&json!(500), 10012));
        assert_eq!(answer["error"]["description"], "ack policy can not be updated");
    }

    async fn r42_an_update_is_judged_before_the_stream_is_looked_up(s) {
        let answer = s.api("STREAM.UPDATE.S", json!({"name": "S", "max_age": -5})).await;
        assert_eq!(err_code(&answer), 10052);
        let answer = s.api("STREAM.UPDATE.S", json!({"name": "S", "subjects": ["a"]})).await;
        assert_eq!(err_code(&answer), 10059);
    }

    async fn r43_an_identical_create_says_it_created(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        assert_eq!(s.stream(json!({"name": "S", "subjects": ["a"]})).await["did_create"], true);
        let other = s.api("STREAM.CREATE.S", json!({"name": "S", "subjects": ["b"]})).await;
        assert_eq!(err_code(&other), 10058);
    }

    async fn r44_deleting_what_is_not_there_depends_on_the_storage(s) {
        s.stream(json!({"name": "F", "subjects": ["f"]})).await;
        s.stream(json!({"name": "M", "subjects": ["m"], "storage": "memory"})).await;
        s.publish("f", "x").await;
        s.publish("m", "x").await;
        let answer = s.api("STREAM.MSG.DELETE.F", json!({"seq": 9})).await;
        assert_eq!(err_code(&answer), 10057, "{answer}");
        let answer = s.api("STREAM.MSG.DELETE.M", json!({"seq": 9})).await;
        assert_eq!(err_code(&answer), 10043, "{answer}");
    }

    async fn r45_deletes_and_purges_have_no_advisory_of_the_stream(s) {
        use futures_util::StreamExt as _;
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.publish("a", "1").await;
        s.publish("a", "2").await;
        let client = s.client().await;
        let mut told = client.subscribe("$JS.EVENT.ADVISORY.>").await.unwrap();
        round_trip(&client).await;
        assert_eq!(s.api("STREAM.MSG.DELETE.S", json!({"seq": 1})).await["success"], true);
        assert_eq!(s.api("STREAM.PURGE.S", Value::Null).await["success"], true);
        s.api("STREAM.UPDATE.S", json!({"name": "S", "subjects": ["a"], "description": "d"})).await;
        // Besides the audits of the calls, what the server tells about streams comes in order.
        let told_first = loop {
            let advisory = within("the advisory of the update", told.next()).await.unwrap();
            if advisory.subject.as_str() != "$JS.EVENT.ADVISORY.API" {
                break advisory.subject;
            }
        };
        assert_eq!(told_first.as_str(), "$JS.EVENT.ADVISORY.STREAM.UPDATED.S");
    }

    async fn r46_calls_are_in_order_for_those_who_wait_for_the_answer(s) {
        use futures_util::StreamExt as _;
        let client = s.client().await;
        let mut answers = client.subscribe("i.*").await.unwrap();
        let create = json!({"name": "P", "subjects": ["p"]}).to_string();
        client.publish_with_reply("$JS.API.STREAM.CREATE.P", "i.create", create.into()).await.unwrap();
        client.publish_with_reply("$JS.API.STREAM.INFO.P", "i.info", "".into()).await.unwrap();
        for _ in 0..2 {
            let message = within("an answer", answers.next()).await.unwrap();
            let answer: Value = serde_json::from_slice(&message.payload).unwrap();
            // Which of the two is looked at first is nobody's promise.
            let may_be_early = message.subject.as_str() == "i.info" && err_code(&answer) == 10059;
            assert!(may_be_early || answer["config"]["name"] == "P", "{answer}");
        }
        for n in 0..20 {
            let name = format!("S{n}");
            s.stream(json!({"name": name, "subjects": [name]})).await;
            assert_eq!(s.api(&format!("STREAM.INFO.{name}"), Value::Null).await["config"]["name"], json!(name));
            assert_eq!(s.api(&format!("STREAM.DELETE.{name}"), Value::Null).await["success"], true);
            assert_eq!(err_code(&s.api(&format!("STREAM.INFO.{name}"), Value::Null).await), 10059);
        }
    }

    async fn r47_an_unknown_call_times_out_and_a_pull_from_nobody_fails(s) {
        let client = s.client().await;
        let unknown = client.request("$JS.API.STREAM.FOO.S", "".into());
        let waited = tokio::time::timeout(Duration::from_millis(300), unknown).await;
        assert!(waited.is_err(), "{waited:?}");
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        let error = within("no responders", client.request("$JS.API.CONSUMER.MSG.NEXT.S.NO", "".into())).await;
        assert_eq!(error.unwrap_err().kind(), async_nats::RequestErrorKind::NoResponders);
        let error = within("no responders", client.request("$JS.API.DIRECT.GET.S", "{\"seq\":1}".into())).await;
        assert_eq!(error.unwrap_err().kind(), async_nats::RequestErrorKind::NoResponders);
    }

    async fn r48_sequences_are_64_bits(s) {
        s.stream(json!({"name": "S", "subjects": ["a"], "first_seq": 9_007_199_254_740_993_u64})).await;
        assert_eq!(s.publish("a", "x").await["seq"], 9_007_199_254_740_993_u64);
        assert_eq!(s.state("S").await["last_seq"], 9_007_199_254_740_993_u64);
    }

    async fn r49_reserved_subjects_are_refused(s) {
        s.stream(json!({"name": "KV_x", "subjects": ["$KV.x.>"]})).await;
        for subjects in [json!(["$JS.API.>"]), json!(["$JS.>"]), json!([">"])] {
            let answer = s.api("STREAM.CREATE.S", json!({"name": "S", "subjects": subjects})).await;
            assert_ne!(answer["error"], Value::Null, "{subjects}: {answer}");
        }
        s.stream(json!({"name": "E", "subjects": ["$JS.EVENT.ADVISORY.>"]})).await;
    }

    async fn r50_a_mirror_of_nothing_says_so_and_waits(s) {
        s.stream(json!({"name": "M", "mirror": {"name": "O"}})).await;
        s.stream(json!({"name": "T", "subjects": ["t"], "sources": [{"name": "O"}]})).await;
        for (name, place) in [("M", "/mirror/error"), ("T", "/sources/0/error")] {
            let error = eventually("the failure shows", async || {
                s.api(&format!("STREAM.INFO.{name}"), Value::Null).await.pointer(place).cloned()
            }).await;
            assert_eq!(error, json!({"code": 404, "err_code": 10059, "description": "stream not found"}));
        }
    }
}
