//! Direct gets: `DIRECT.GET`.

use serde_json::{Value, json};

use crate::harness::{Fixture, JETSTREAM, Kind, err_code, within};

impl Fixture {
    /// The first answer to a direct get.
    async fn direct(&mut self, subject: &str, body: Value) -> async_nats::Message {
        let client = self.client().await;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        within(subject, client.request(format!("$JS.API.DIRECT.GET.{subject}"), body.into())).await.unwrap()
    }

    /// A direct get that is answered with one status: its code, `Nats-Num-Pending` and `Nats-Last-Sequence`.
    async fn direct_status(&mut self, stream: &str, request: Value) -> (u16, String, String) {
        let client = self.client().await;
        let subject = format!("$JS.API.DIRECT.GET.{stream}");
        let answer = client.request(subject, request.to_string().into());
        let answer = within("an answer to a direct get", answer).await.unwrap();
        let headers = answer.headers.unwrap_or_default();
        let header = |name: &str| headers.get(name).map(ToString::to_string).unwrap_or_default();
        let code = answer.status.map_or(200, |status| status.as_u16());
        (code, header("Nats-Num-Pending"), header("Nats-Last-Sequence"))
    }

    /// All answers to a direct get: `<sequence>:<pending>:<previous>` of each message, then the status.
    async fn direct_all(&mut self, subject: &str, body: &Value) -> Vec<String> {
        use futures_util::StreamExt as _;
        let client = self.client().await;
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.unwrap();
        client
            .publish_with_reply(format!("$JS.API.DIRECT.GET.{subject}"), inbox, body.to_string().into())
            .await
            .unwrap();
        let mut told = Vec::new();
        loop {
            let answer = within("an answer to a direct get", answers.next()).await.unwrap();
            let headers = answer.headers.unwrap_or_default();
            let header = |name: &str| headers.get(name).map(ToString::to_string).unwrap_or_default();
            let place = format!("{}:{}", header("Nats-Num-Pending"), header("Nats-Last-Sequence"));
            if let Some(status) = answer.status {
                told.push(format!("{} {} {place}", status.as_u16(), answer.description.unwrap_or_default()));
                return told;
            }
            told.push(format!("{}:{place}", header("Nats-Sequence")));
        }
    }
}

/// Times that many take and Go does not.
const NO_TIMES: [&str; 5] =
    ["2020-01-01 00:00:00Z", "2020-01-01t00:00:00Z", "2020-01-01T00:00:00z", "2020-01-01T00:00:00+25:00", ""];

on_both_servers! { JETSTREAM;
    async fn times_are_those_that_go_reads(s) {
        s.stream(json!({"name": "S", "subjects": ["s.>"], "allow_direct": true})).await;
        s.publish("s.a", "x").await;
        s.consumer("S", json!({"durable_name": "P"})).await;
        let times = NO_TIMES.iter().map(|time| (*time, false)).chain([
            ("2020-01-01T1:00:00Z", true),
            ("2020-01-01T00:00:00,5Z", true),
            ("2020-01-01T00:00:00+01:00", true),
        ]);
        for (n, (time, is_one)) in times.enumerate() {
            let from = json!({"durable_name": format!("C{n}"), "deliver_policy": "by_start_time", "opt_start_time": time});
            let mirror = json!({"name": format!("M{n}"), "mirror": {"name": "S", "opt_start_time": time}});
            let get = json!({"start_time": time, "next_by_subj": "s.>"});
            let direct = s.direct_status("S", get.clone()).await.0;
            for answer in [
                s.try_consumer("S", from).await,
                s.try_consumer("S", json!({"durable_name": format!("D{n}"), "pause_until": time})).await,
                s.api(&format!("STREAM.CREATE.M{n}"), mirror).await,
                s.api("CONSUMER.PAUSE.S.P", json!({"pause_until": time})).await,
                s.api("STREAM.MSG.GET.S", get).await,
            ] {
                assert_eq!(err_code(&answer), if is_one { 0 } else { 10025 }, "{time}: {answer}");
            }
            assert_eq!(direct, if is_one { 200 } else { 408 }, "{time}");
        }
    }

    async fn direct_gets_answer_with_headers(s) {
        s.eight().await;
        let message = s.direct("S", json!({"seq": 2})).await;
        assert_eq!(message.payload, "1");
        let headers = message.headers.unwrap();
        assert_eq!(headers.get("Nats-Stream").unwrap().as_str(), "S");
        assert_eq!(headers.get("Nats-Subject").unwrap().as_str(), "p.1");
        assert_eq!(headers.get("Nats-Sequence").unwrap().as_str(), "2");
        assert!(headers.get("Nats-Time-Stamp").is_some());
        let message = s.direct("S.p.0", Value::Null).await;
        assert_eq!(message.headers.unwrap().get("Nats-Sequence").unwrap().as_str(), "7");
        let message = s.direct("S", json!({"seq": 2, "no_hdr": true})).await;
        assert!(message.headers.is_none());
    }

    async fn direct_gets_say_what_is_wrong(s) {
        s.eight().await;
        for (body, expected) in [
            (json!({"seq": 99}), "404 Message Not Found"),
            (Value::Null, "408 Empty Request"),
            (json!({"seq": 1, "last_by_subj": "p.0"}), "408 Bad Request"),
        ] {
            let message = s.direct("S", body.clone()).await;
            let status = format!("{} {}", message.status.unwrap().as_u16(), message.description.unwrap());
            assert_eq!(status, expected, "{body}");
        }
    }

    async fn a_direct_get_of_less_than_nothing_tells_how_much_there_is(s) {
        s.stream(json!({"name": "S", "subjects": ["s.*"], "allow_direct": true})).await;
        for subject in ["s.0", "s.1", "s.0"] {
            s.publish(subject, "x").await;
        }
        for (request, pending) in [
            (json!({"seq": 1, "batch": -1}), "3"),
            (json!({"seq": 3, "batch": -1}), "1"),
            (json!({"seq": 9, "batch": -1}), "0"),
            (json!({"next_by_subj": "s.0", "batch": -5}), "2"),
            (json!({"start_time": "2020-01-01T00:00:00Z", "batch": -1}), "3"),
            (json!({"start_time": "2100-01-01T00:00:00Z", "batch": -1}), "0"),
            (json!({"last_by_subj": "s.0", "batch": -1}), "3"),
        ] {
            let answer = s.direct_status("S", request.clone()).await;
            assert_eq!(answer, (204, pending.to_owned(), "0".to_owned()), "{request}");
        }
        let first = s.direct_status("S", json!({"seq": 1, "max_bytes": -1})).await;
        assert_eq!(first.0, 200);
        let empty = s.direct_status("S", json!({"batch": -1})).await;
        assert_eq!(empty.0, 408);
    }

    async fn several_messages_come_with_how_many_are_left(s) {
        s.eight().await;
        for (request, told) in [
            (json!({"seq": 6, "batch": 2}), vec!["6:2:0", "7:1:6", "204 EOB 1:7"]),
            (json!({"seq": 7, "batch": 9}), vec!["7:1:0", "8:0:7", "204 EOB 0:8"]),
            (json!({"next_by_subj": "p.0", "batch": 2}), vec!["1:3:0", "3:2:1", "204 EOB 2:3"]),
            (json!({"next_by_subj": "p.1", "seq": 5, "batch": 1}), vec!["6:1:0", "204 EOB 1:6"]),
            (json!({"seq": 99, "batch": 2}), vec!["404 Message Not Found :"]),
            (json!({"multi_last": ["p.*"]}), vec!["7:1:0", "8:0:7", "204 EOB 0:8"]),
            (json!({"multi_last": ["p.0", "p.1"], "batch": 1}), vec!["7:1:0", "204 EOB 1:7"]),
            (json!({"multi_last": ["p.*"], "up_to_seq": 5}), vec!["4:1:0", "5:0:4", "204 EOB 0:5"]),
            (json!({"multi_last": ["p.*"], "seq": 8}), vec!["8:0:0", "204 EOB 0:8"]),
            (json!({"multi_last": ["p.*"], "no_hdr": true}), vec!["7:1:0", "8:0:7", "204 EOB 0:8"]),
            (json!({"multi_last": ["x"]}), vec!["404 No Results :"]),
            (json!({"batch": 2}), vec!["408 Empty Request :"]),
            (json!({"multi_last": ["p.0"], "last_by_subj": "p.0"}), vec!["408 Bad Request :"]),
            (json!({"multi_last": ["p.0"], "next_by_subj": "p.0"}), vec!["408 Bad Request :"]),
            (json!({"last_by_subj": "p.0", "batch": 1}), vec!["408 Bad Request :"]),
            (json!({"multi_last": ["p.0"], "up_to_seq": 1, "up_to_time": "2100-01-01T00:00:00Z"}), vec!["408 Bad Request :"]),
        ] {
            assert_eq!(s.direct_all("S", &request).await, told, "{request}");
        }
    }

    async fn how_much_fits_counts_subject_headers_and_body(s) {
        s.stream(json!({"name": "S", "subjects": ["p.*"], "allow_direct": true})).await;
        for _ in 0..3 {
            s.publish("p.a", "0123456789").await;
        }
        // Ten bytes and the subject's three; the message that reaches the bound still comes.
        for (max_bytes, count) in [(1, 1), (13, 1), (14, 2), (26, 2), (27, 3)] {
            let told = s.direct_all("S", &json!({"seq": 1, "batch": 9, "max_bytes": max_bytes})).await;
            assert_eq!(told.len(), count + 1, "{max_bytes} {told:?}");
        }
    }

    async fn without_headers_the_end_of_a_batch_still_comes(s) {
        s.eight().await;
        let told = s.direct_all("S", &json!({"seq": 5, "batch": 3, "no_hdr": true})).await;
        // The peer counts down only where it tells.
        let left = match s.kind {
            Kind::Linnet => "204 EOB 1:7",
            Kind::Peer => "204 EOB 4:7",
        };
        assert_eq!(told, ["::", "::", "::", left]);
    }

    async fn a_subject_in_the_request_is_the_only_choice(s) {
        s.eight().await;
        let later = "2100-01-01T00:00:00Z";
        for body in [
            json!({"seq": 1}),
            json!({"last_by_subj": "p.1"}),
            json!({"next_by_subj": "p.1"}),
            json!({"start_time": later}),
            json!({"batch": 2}),
            json!({"multi_last": ["p.0"]}),
            json!({"up_to_seq": 1}),
            json!({"up_to_time": later}),
        ] {
            assert_eq!(s.direct_all("S.p.0", &body).await, ["408 Bad Request :"], "{body}");
        }
        for body in [json!({"no_hdr": false}), json!({"max_bytes": 1}), json!({})] {
            let found = s.direct("S.p.0", body.clone()).await;
            assert_eq!(found.payload, "6", "{body}");
        }
        assert_eq!(s.direct("S.p.*", Value::Null).await.payload, "7");
        assert_eq!(s.direct_all("S.x", &json!({})).await, ["404 Message Not Found :"]);
    }

    async fn more_than_1024_subjects_are_too_many(s) {
        s.stream(json!({"name": "S", "subjects": ["p.*"], "storage": "memory", "allow_direct": true})).await;
        let client = s.client().await;
        for n in 1..=1024 {
            client.publish(format!("p.{n}"), "".into()).await.unwrap();
        }
        s.stream_shows("S", &[("/messages", 1024)]).await;
        let everything = json!({"multi_last": ["p.*"]});
        assert_eq!(s.direct_all("S", &everything).await.len(), 1025);
        s.publish("p.0", "").await;
        assert_eq!(s.direct_all("S", &everything).await, ["413 Too Many Results :"]);
    }
}
