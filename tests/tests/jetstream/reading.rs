//! Reading and deleting single messages: `STREAM.MSG.GET` and `STREAM.MSG.DELETE`.

use serde_json::{Value, json};

use crate::harness::{Fixture, JETSTREAM, err_code};

impl Fixture {
    /// Eight messages on `p.0` and `p.1` in turn.
    pub(crate) async fn eight(&mut self) {
        self.stream(json!({"name": "S", "subjects": ["p.*"], "allow_direct": true})).await;
        for n in 0..8 {
            self.publish(&format!("p.{}", n % 2), &n.to_string()).await;
        }
    }
}

on_both_servers! { JETSTREAM;
    async fn messages_are_found_by_each_selector(s) {
        s.eight().await;
        let get = s.api("STREAM.MSG.GET.S", json!({"seq": 3})).await;
        assert_eq!((&get["message"]["subject"], &get["message"]["data"]), (&json!("p.0"), &json!("Mg==")));
        let get = s.api("STREAM.MSG.GET.S", json!({"last_by_subj": "p.1"})).await;
        assert_eq!(get["message"]["seq"], 8);
        let get = s.api("STREAM.MSG.GET.S", json!({"next_by_subj": "p.1", "seq": 3})).await;
        assert_eq!(get["message"]["seq"], 4);
        assert_eq!(err_code(&s.api("STREAM.MSG.GET.S", json!({"seq": 99})).await), 10037);
        assert_eq!(err_code(&s.api("STREAM.MSG.GET.S", json!({"seq": 1, "last_by_subj": "p.0"})).await), 10003);
        assert_eq!(err_code(&s.api("STREAM.MSG.GET.S", Value::Null).await), 10003);
    }

    async fn selectors_are_judged_before_the_stream_is_looked_up(s) {
        for request in [json!({"seq": 1, "last_by_subj": "p.0"}), json!({"batch": 1}), json!({"seq": 0})] {
            assert_eq!(err_code(&s.api("STREAM.MSG.GET.NO", request.clone()).await), 10003, "{request}");
        }
        assert_eq!(err_code(&s.api("STREAM.MSG.GET.NO", json!({"seq": 1})).await), 10059);
    }

    async fn each_selector_finds_its_message(s) {
        s.eight().await;
        s.api("STREAM.MSG.DELETE.S", json!({"seq": 3})).await;
        let (past, future) = ("2000-01-01T00:00:00Z", "2100-01-01T00:00:00Z");
        for (request, seq, code) in [
            (json!({"seq": 3}), None, 10037),
            (json!({"last_by_subj": "p.*"}), Some(8), 0),
            (json!({"last_by_subj": "x"}), None, 10037),
            (json!({"next_by_subj": "p.0"}), Some(1), 0),
            (json!({"next_by_subj": "p.0", "seq": 2}), Some(5), 0),
            (json!({"next_by_subj": "p.*", "seq": 3}), Some(4), 0),
            (json!({"next_by_subj": "p.0", "seq": 99}), None, 10037),
            (json!({"start_time": past}), Some(1), 0),
            (json!({"start_time": future}), None, 10037),
            (json!({"next_by_subj": "p.1", "start_time": past}), Some(2), 0),
            (json!({"seq": 1, "start_time": past}), None, 10003),
            (json!({"start_time": past, "last_by_subj": "p.0"}), None, 10003),
            (json!({"last_by_subj": "p.0", "next_by_subj": "p.0"}), None, 10003),
            (json!({"seq": 1, "batch": 1}), None, 10003),
            (json!({"seq": 1, "max_bytes": 1}), None, 10003),
        ] {
            let answer = s.api("STREAM.MSG.GET.S", request.clone()).await;
            assert_eq!((answer["message"]["seq"].as_u64(), err_code(&answer)), (seq, code), "{request}");
        }
    }

    async fn headers_come_as_they_are_unless_they_are_not_wanted(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.publish_with("a", &[("K", "v")], "x").await;
        assert_eq!(s.stored("S", 1).await.unwrap().headers, ["K: v"]);
        let without = s.api("STREAM.MSG.GET.S", json!({"seq": 1, "no_hdr": true})).await;
        assert_eq!((&without["message"]["hdrs"], &without["message"]["data"]), (&Value::Null, &json!("eA==")));
    }

    async fn a_message_that_is_not_there_cannot_be_deleted(s) {
        for (name, storage) in [("F", "file"), ("M", "memory")] {
            s.stream(json!({"name": name, "subjects": [format!("{name}.*")], "storage": storage})).await;
            for n in 0..6 {
                s.publish(&format!("{name}.{n}"), "x").await;
            }
            s.api(&format!("STREAM.PURGE.{name}"), json!({"seq": 3})).await;
            let mut delete = async |seq: u64, no_erase: bool| {
                let request = json!({"seq": seq, "no_erase": no_erase});
                let answer = s.api(&format!("STREAM.MSG.DELETE.{name}"), request).await;
                let text = answer["error"]["description"].as_str().unwrap_or_default().to_owned();
                (err_code(&answer), text)
            };
            for (seq, no_erase) in [(4, false), (6, true)] {
                assert_eq!(delete(seq, no_erase).await, (0, String::new()), "{storage} {seq}");
            }
            for (seq, file_code, file_text) in [
                (0, 10057, "no message found".to_owned()),
                (2, 10057, "no message found".to_owned()),
                (4, 10043, "sequence 4 not found".to_owned()),
                (6, 10043, "sequence 6 not found".to_owned()),
                (7, 10057, "stream store EOF".to_owned()),
            ] {
                let expected = match storage {
                    "file" => (file_code, file_text),
                    _ => (10043, format!("sequence {seq} not found")),
                };
                assert_eq!(delete(seq, false).await, expected, "{storage} {seq}");
            }
        }
    }
}
