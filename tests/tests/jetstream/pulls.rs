//! Pull requests: what ends them, and who is served.

use async_nats::HeaderMap;
use serde_json::{Value, json};

use crate::harness::{Fixture, JETSTREAM, Kind, eventually, sequences, within};

impl Fixture {
    /// Sends pull requests whose answers go to `i.<n>`, one after the other as they wait.
    async fn pulls_waiting(&mut self, requests: &[&str]) -> async_nats::Subscriber {
        let client = self.client().await;
        let answers = client.subscribe("i.*").await.unwrap();
        for (n, request) in requests.iter().enumerate() {
            let subject = "$JS.API.CONSUMER.MSG.NEXT.S.C";
            client.publish_with_reply(subject, format!("i.{n}"), (*request).to_owned().into()).await.unwrap();
            self.consumer_shows("S", "C", &[("/num_waiting", n as u64 + 1)]).await;
        }
        answers
    }
}

on_both_servers! { JETSTREAM;
    async fn max_expires_bounds_only_requests_that_say_how_long_they_wait(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "max_expires": 10_000_000_000_i64})).await;
        let bodies = ["", "1", "{}", r#"{"batch":1}"#, r#"{"batch":1,"no_wait":true}"#, r#"{"expires":10000000000}"#];
        for (n, body) in bodies.into_iter().enumerate() {
            s.publish("a", "x").await;
            s.consumer_shows("S", "C", &[("/num_pending", 1)]).await;
            let pulled = s.pull_with("S", "C", body, 1).await;
            assert_eq!((sequences(&pulled), &pulled.status), (vec![n as u64 + 1], &None), "{body}");
        }
        let pulled = s.pull("S", "C", json!({"batch": 1, "expires": 10_100_000_000_i64})).await;
        assert_eq!(pulled.status.as_deref(), Some("409 Exceeded MaxRequestExpires of 10s"));
        let pulled = s.pull("S", "C", json!({"batch": 1, "no_wait": true})).await;
        assert_eq!(pulled.status.as_deref(), Some("404 No Messages"));
    }

    async fn pulls_that_ask_for_what_a_plain_consumer_has_not_are_refused(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C"})).await;
        s.publish("a", "x").await;
        for (body, status) in [
            (json!({"min_pending": 1}), "400 Bad Request - Not a Overflow Priority consumer"),
            (json!({"min_pending": -1}), "400 Bad Request - Not a Overflow Priority consumer"),
            (json!({"min_ack_pending": 1}), "400 Bad Request - Not a Overflow Priority consumer"),
            (json!({"id": "x"}), "400 Bad Request - Not a Pinned Client Priority consumer"),
            (json!({"priority": 10}), "400 Bad Request - Priority must be between 0 and 9"),
            (json!({"idle_heartbeat": 2, "expires": 3}), "400 Bad Request - heartbeat value too large"),
            (
                json!({"batch": "x"}),
                "400 Bad Request - json: cannot unmarshal string into Go struct field .batch of type int",
            ),
            (
                json!({"min_pending": "x"}),
                "400 Bad Request - json: cannot unmarshal string into Go struct field .min_pending of type int64",
            ),
        ] {
            let pulled = s.pull("S", "C", body.clone()).await;
            assert_eq!((sequences(&pulled), pulled.status.as_deref()), (vec![], Some(status)), "{body}");
        }
        let pulled = s.pull("S", "C", json!({"group": "x", "priority": 9})).await;
        assert_eq!(sequences(&pulled), [1]);
    }

    async fn a_request_that_ends_unserved_is_told_what_it_named(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C"})).await;
        let short = 1_000_000;
        for (body, unserved) in [
            (json!({"expires": short}), "0"),
            (json!({"expires": short, "batch": 0}), "0"),
            (json!({"expires": short, "batch": 1}), "1"),
            (json!({"expires": short, "batch": 3}), "3"),
        ] {
            let pulled = s.pull("S", "C", body.clone()).await;
            assert_eq!(pulled.status.as_deref(), Some("408 Request Timeout"), "{body}");
            assert_eq!(pulled.unserved.as_deref(), Some(unserved), "{body}");
        }
        s.publish("a", "x").await;
        for (body, unserved) in [
            (json!({"expires": -1}), "0"),
            (json!({"expires": -1, "batch": 3}), "3"),
            (json!({"expires": -1, "no_wait": true}), "0"),
        ] {
            let pulled = s.pull("S", "C", body.clone()).await;
            assert_eq!((sequences(&pulled), pulled.status.as_deref()), (vec![], Some("408 Request Timeout")), "{body}");
            assert_eq!(pulled.unserved.as_deref(), Some(unserved), "{body}");
        }
        for body in ["-3", "0", r#"{"batch":-1,"expires":1000000000}"#] {
            assert_eq!(sequences(&s.pull_with("S", "C", body, 1).await).len(), 1, "{body}");
            s.publish("a", "x").await;
        }
    }

    async fn a_pull_over_max_bytes_is_told_so(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
        s.publish("a", &"x".repeat(1000)).await;
        let pulled = s.pull("S", "C", json!({"batch": 1, "max_bytes": 100, "expires": 5_000_000_000_u64})).await;
        assert_eq!(pulled.status.as_deref(), Some("409 Message Size Exceeds MaxBytes"));
        let pulled = s.pull("S", "C", json!({"batch": 1, "idle_heartbeat": 900, "expires": 1000})).await;
        assert_eq!(pulled.status.as_deref(), Some("400 Bad Request - heartbeat value too large"));
    }

    async fn a_deleted_consumer_tells_those_who_wait(s) {
        use futures_util::StreamExt as _;
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
        let client = s.client().await;
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.unwrap();
        client.publish_with_reply("$JS.API.CONSUMER.MSG.NEXT.S.C", inbox, "1".into()).await.unwrap();
        eventually("the pull waits", async || {
            (s.consumer_info("S", "C").await["num_waiting"] == 1).then_some(())
        }).await;
        assert_eq!(s.api("CONSUMER.DELETE.S.C", Value::Null).await["success"], true);
        let status = within("the end", answers.next()).await.unwrap();
        assert_eq!(status.status.unwrap().as_u16(), 409);
        assert_eq!(status.description.as_deref(), Some("Consumer Deleted"));
    }

    async fn a_request_may_ask_for_no_more_than_the_consumer_allows(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "max_batch": 2, "max_bytes": 100})).await;
        s.publish("a", "x").await;
        for (request, status) in [
            (json!({"batch": 3}), "409 Exceeded MaxRequestBatch of 2"),
            (json!({"batch": 1, "max_bytes": 101}), "409 Exceeded MaxRequestMaxBytes of 100"),
        ] {
            let pulled = s.pull("S", "C", request).await;
            assert_eq!((pulled.messages.len(), pulled.status.as_deref()), (0, Some(status)));
        }
        s.consumer_shows("S", "C", &[("/num_pending", 1)]).await;
        assert_eq!(sequences(&s.pull("S", "C", json!({"batch": 2, "no_wait": true})).await), [1]);
    }

    async fn bodies_that_are_no_json_are_a_number_or_one(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C"})).await;
        for _ in 0..8 {
            s.publish("a", "x").await;
        }
        let mut next = 1;
        for (body, count) in [("", 1), ("2", 2), ("many", 1), ("{}", 1), (r#"{"batch":3,"bogus":1}"#, 3)] {
            let came = sequences(&s.pull_with("S", "C", body, count).await);
            assert_eq!(came, (next..next + count).collect::<Vec<_>>(), "{body}");
            next += count;
        }
    }

    async fn requests_are_served_in_turn(s) {
        use futures_util::StreamExt as _;
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C"})).await;
        let client = s.client().await;
        let mut answers = Vec::new();
        for (n, request) in ["2", "2", "1"].into_iter().enumerate() {
            let inbox = format!("i.{n}");
            answers.push(client.subscribe(inbox.clone()).await.unwrap().map(move |_| n).boxed());
            client.publish_with_reply("$JS.API.CONSUMER.MSG.NEXT.S.C", inbox, request.into()).await.unwrap();
            s.consumer_shows("S", "C", &[("/num_waiting", n as u64 + 1)]).await;
        }
        let mut answers = futures_util::stream::select_all(answers);
        let mut served = Vec::new();
        for _ in 0..5 {
            s.publish("a", "x").await;
            served.push(within("a message", answers.next()).await.unwrap());
        }
        assert_eq!(served, [0, 1, 2, 0, 1]);
        s.consumer_shows("S", "C", &[("/num_waiting", 0)]).await;
    }

    async fn heartbeats_tell_where_the_consumer_is(s) {
        use futures_util::StreamExt as _;
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C"})).await;
        s.publish("a", "x").await;
        s.publish("a", "x").await;
        s.pull("S", "C", json!({"batch": 2})).await;
        let beating = json!({"batch": 1, "expires": 5_000_000_000_u64, "idle_heartbeat": 100_000_000}).to_string();
        let mut answers = s.pulls_waiting(&[&beating]).await;
        for _ in 0..2 {
            let beat = within("a heartbeat", answers.next()).await.unwrap();
            assert_eq!((beat.status.unwrap().as_u16(), beat.description.as_deref()), (100, Some("Idle Heartbeat")));
            let headers = beat.headers.unwrap();
            let header = |name: &str| headers.get(name).unwrap().to_string();
            assert_eq!((header("Nats-Last-Consumer"), header("Nats-Last-Stream")), ("2".to_owned(), "2".to_owned()));
        }
    }

    async fn a_batch_that_had_bytes_left_is_told_to_be_complete(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C"})).await;
        s.publish("a", "x").await;
        let pulled = s.pull_with("S", "C", r#"{"batch":1,"max_bytes":500,"expires":5000000000}"#, 2).await;
        assert_eq!((sequences(&pulled), pulled.status.as_deref()), (vec![1], Some("409 Batch Completed")));
        assert_eq!(pulled.unserved.as_deref(), Some("0"));
        s.publish("a", "x").await;
        let pulled = s.pull_with("S", "C", r#"{"max_bytes":500,"expires":5000000000}"#, 2).await;
        assert_eq!((sequences(&pulled), pulled.status.as_deref()), (vec![2], Some("409 Batch Completed")));
        // The peer counts the message that nobody named.
        let left = if s.kind == Kind::Peer { "-1" } else { "0" };
        assert_eq!(pulled.unserved.as_deref(), Some(left));
    }

    async fn those_who_do_not_wait_stand_behind_those_who_do(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit", "max_ack_pending": 1})).await;
        s.publish("a", "x").await;
        s.publish("a", "x").await;
        s.pull("S", "C", json!({"batch": 1})).await;
        let _first = s.pulls_waiting(&["2"]).await;
        s.consumer_shows("S", "C", &[("/num_pending", 1)]).await;
        let refused = s.pull("S", "C", json!({"batch": 1, "no_wait": true})).await;
        assert_eq!(refused.status.as_deref(), Some("408 Requests Pending"));
    }

    async fn requests_of_those_who_left_do_not_count(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C"})).await;
        let mut answers = s.pulls_waiting(&["5", "5"]).await;
        answers.unsubscribe().await.unwrap();
        s.consumer_shows("S", "C", &[("/num_waiting", 0)]).await;
    }

    async fn a_push_consumer_serves_no_requests(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "deliver_subject": "d"})).await;
        let refused = s.pull("S", "C", json!({"batch": 1})).await;
        assert_eq!(refused.status.as_deref(), Some("409 Consumer is push based"));
    }

    async fn a_request_may_need_no_level_that_is_not_there(s) {
        use futures_util::StreamExt as _;
        s.stream(json!({"name": "S", "subjects": ["a"], "allow_direct": true})).await;
        s.consumer("S", json!({"durable_name": "C"})).await;
        s.publish("a", "x").await;
        let client = s.client().await;
        let mut answers = client.subscribe("i").await.unwrap();
        for (subject, body) in [("CONSUMER.MSG.NEXT.S.C", "1"), ("DIRECT.GET.S", r#"{"seq":1}"#)] {
            for (level, status) in [("5", None), ("6", Some("Required Api Level")), ("x", Some("Required Api Level"))] {
                let mut headers = HeaderMap::new();
                headers.append("Nats-Required-Api-Level", level);
                let subject = format!("$JS.API.{subject}");
                client.publish_with_reply_and_headers(subject.clone(), "i", headers, body.into()).await.unwrap();
                let answer = within(&subject, answers.next()).await.unwrap();
                assert_eq!(answer.status.map(|status| status.as_u16()), status.map(|_| 412), "{subject} {level}");
                assert_eq!(answer.description.as_deref(), status, "{subject} {level}");
            }
        }
    }
}
