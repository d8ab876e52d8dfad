//! Mirrors and sources, each rule against both servers.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{Fixture, JETSTREAM, Kind, err_code, eventually, run_with};

/// Messages of the test of a long origin.
const MANY: u64 = 20_000;

impl Fixture {
    /// An origin `O` on `o.*` with one message on each of these subjects.
    async fn origin(&mut self, subjects: &[&str]) {
        self.stream(json!({"name": "O", "subjects": ["o.*"]})).await;
        for subject in subjects {
            self.publish(subject, subject).await;
        }
    }

    /// Waits until the stream has this many messages, of which the newest has this sequence.
    async fn has(&mut self, stream: &str, messages: u64, last_seq: u64) {
        self.stream_shows(stream, &[("/messages", messages), ("/last_seq", last_seq)]).await;
    }

    /// Subject and body of a stored message, and its source header without the origin's identity.
    async fn at(&mut self, stream: &str, seq: u64) -> (String, String, String) {
        let stored = self.stored(stream, seq).await.unwrap();
        let source: Vec<&str> = stored.header("Nats-Stream-Source").split(' ').take(5).collect();
        (stored.subject.clone(), stored.body.clone(), source.join(" "))
    }

    async fn update(&mut self, config: Value) -> Value {
        let name = config["name"].as_str().unwrap().to_owned();
        self.api(&format!("STREAM.UPDATE.{name}"), config).await
    }

    async fn kill_and_restart(&mut self) {
        self.server.kill().unwrap();
        self.server.restart().unwrap();
        self.forget_client();
    }
}

fn triple(subject: &str, body: &str, source: &str) -> (String, String, String) {
    (subject.to_owned(), body.to_owned(), source.to_owned())
}

mod configuration {
    use super::*;

    /// What is refused: the configuration, and the code and text of the error.
    fn refusals() -> Vec<(Value, u64, &'static str)> {
        let mirror = |extra: Value| {
            let mut config = json!({"mirror": {"name": "O"}});
            config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            config
        };
        let with = |extra: Value| {
            let mut origin = json!({"name": "O"});
            origin.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            origin
        };
        let two = json!([{"src": "o.*", "dest": "p.$1"}, {"src": "o.1", "dest": "p.2"}]);
        let both =
            with(json!({"filter_subject": "o.1", "subject_transforms": [{"src": "o.*", "dest": "p.$1"}]}));
        let bad_source = with(json!({"subject_transforms": [{"src": "o..", "dest": "p"}]}));
        let bad_destination = with(json!({"subject_transforms": [{"src": "o.1", "dest": "p.$1"}]}));
        let overlapping = with(json!({"subject_transforms": two}));
        let fixed =
            |name: &str, subject: &str| with(json!({"consumer": {"name": name, "deliver_subject": subject}}));
        let external = |api: &str, deliver: &str| with(json!({"external": {"api": api, "deliver": deliver}}));
        vec![
            (mirror(json!({"subjects": ["a"]})), 10034, "stream mirrors can not contain subjects"),
            (
                mirror(json!({"sources": [{"name": "O"}]})),
                10031,
                "stream mirrors can not also contain other sources",
            ),
            (mirror(json!({"first_seq": 4})), 10143, "stream mirrors can not have first sequence configured"),
            (
                mirror(json!({"allow_msg_counter": true})),
                10173,
                "stream mirrors can not also calculate counters",
            ),
            (
                mirror(json!({"allow_atomic": true})),
                10198,
                "stream mirrors can not also use atomic publishing",
            ),
            (
                mirror(json!({"allow_batched": true})),
                10209,
                "stream mirrors can not also use batch publishing",
            ),
            (
                mirror(json!({"allow_msg_schedules": true})),
                10186,
                "stream mirrors can not also schedule messages",
            ),
            (json!({"mirror": {"name": ""}}), 10142, "mirrored stream name is invalid"),
            (json!({"mirror": {"name": "a.b"}}), 10142, "mirrored stream name is invalid"),
            (json!({"sources": [{"name": "x y"}]}), 10141, "sourced stream name is invalid"),
            (
                json!({"mirror": both}),
                10150,
                "mirror with multiple subject transforms cannot also have a single subject filter",
            ),
            (
                json!({"sources": [both]}),
                10144,
                "source with multiple subject transforms cannot also have a single subject filter",
            ),
            (json!({"mirror": bad_source}), 10151, "mirror transform source: invalid subject o.."),
            (json!({"sources": [bad_source]}), 10145, "source transform source: invalid subject o.."),
            (
                json!({"mirror": bad_destination}),
                10154,
                "mirror transform: invalid mapping destination: wildcard index out of range in $1",
            ),
            (
                json!({"sources": [bad_destination]}),
                10146,
                "source transform: invalid mapping destination: wildcard index out of range in $1",
            ),
            (json!({"mirror": overlapping}), 10152, "mirror subject filters can not overlap"),
            (json!({"sources": [overlapping]}), 10147, "source filters can not overlap"),
            (
                json!({"mirror": with(json!({"filter_subject": "o..1"}))}),
                10049,
                "subject filter 'o..1' for the mirror invalid subject",
            ),
            (
                json!({"mirror": {"name": "B"}, "max_msg_size": 10}),
                10030,
                "stream mirror must have max message size >= source",
            ),
            (
                json!({"sources": [{"name": "B"}], "max_msg_size": 10}),
                10046,
                "stream source must have max message size >= target",
            ),
            (
                json!({"sources": [{"name": "O"}, {"name": "O"}]}),
                10140,
                "duplicate source configuration detected",
            ),
            (
                json!({"sources": [fixed("c", "x"), fixed("c", "y")]}),
                10140,
                "duplicate source configuration detected",
            ),
            (json!({"mirror": fixed("c", "")}), 10213, "stream mirror consumer config is invalid"),
            (json!({"mirror": fixed("c", "x.*")}), 10213, "stream mirror consumer config is invalid"),
            (json!({"sources": [fixed("", "x")]}), 10215, "stream source consumer config is invalid"),
            (json!({"sources": [{"name": "T"}]}), 10052, "detected cycle"),
            (json!({"mirror": {"name": "T"}}), 10052, "detected cycle"),
            (json!({"sources": [{"name": "C"}]}), 10052, "detected cycle"),
            (
                json!({"mirror": external("$JS.API", "d")}),
                10021,
                "stream external api prefix $JS.API must not overlap with $JS.API",
            ),
            (
                json!({"mirror": external("$JS.x.API", "d.*")}),
                10024,
                "stream external delivery prefix d.* must not contain wildcards",
            ),
            (
                json!({"mirror": external("$JS.*.API", "d")}),
                10052,
                "stream external api prefix \"$JS.*.API\" must be a valid subject without wildcards",
            ),
        ]
    }

    on_both_servers! { JETSTREAM;
        async fn what_contradicts_itself_is_refused(s) {
            s.origin(&[]).await;
            s.stream(json!({"name": "B", "subjects": ["b"], "max_msg_size": 100})).await;
            s.stream(json!({"name": "C", "subjects": ["c"], "sources": [{"name": "T"}]})).await;
            for (mut config, code, text) in refusals() {
                config["name"] = json!("T");
                let refused = s.refused_stream(config.clone()).await;
                assert_eq!(refused, (code, text.to_owned()), "{config}");
            }
        }

        async fn without_a_prefix_an_external_stream_is_one_of_the_account(s) {
            s.origin(&["o.1"]).await;
            for external in [json!({}), json!({"api": "", "deliver": ""}), json!({"deliver": "d"})] {
                let source = json!({"name": "O", "external": external});
                let created = s.stream(json!({"name": "S", "sources": [source.clone()]})).await;
                assert_eq!(created["config"]["sources"][0]["external"]["api"], "");
                if s.kind == Kind::Linnet {
                    s.has("S", 1, 1).await;
                }
                s.api("STREAM.DELETE.S", Value::Null).await;
            }
            let filter = json!({"name": "O", "filter_subject": "a..b"});
            s.stream(json!({"name": "S", "subjects": ["s"]})).await;
            let updated = s.update(json!({"name": "S", "subjects": ["s"], "sources": [filter]})).await;
            let expected = if s.kind == Kind::Linnet { 10049 } else { 0 };
            assert_eq!(err_code(&updated), expected, "{updated}");
        }

        async fn what_is_reached_twice_is_refused_on_some_ways(s) {
            let source = |name: &str, filter: &str| json!({"name": name, "filter_subject": filter});
            let sources = |names: &[&str]| names.iter().map(|name| source(name, "")).collect::<Vec<_>>();
            s.stream(json!({"name": "A", "subjects": ["a.>"]})).await;
            for (name, from) in [("R", "A"), ("Q", "A"), ("R2", "R"), ("R3", "R2")] {
                s.stream(json!({"name": name, "sources": sources(&[from])})).await;
            }
            s.stream(json!({"name": "M", "mirror": {"name": "A"}})).await;
            s.stream(json!({"name": "F", "sources": [source("A", "a.x")]})).await;
            s.stream(json!({"name": "OWN", "subjects": ["own.>"], "sources": [source("A", "own.x")]})).await;
            s.stream(json!({"name": "X", "subjects": ["x"], "sources": [source("T", "y")]})).await;
            s.stream(json!({"name": "Y", "subjects": ["y"], "sources": [source("T", "y")]})).await;
            for (names, is_cycle) in [
                (vec!["A", "R"], true),
                (vec!["R", "A"], false),
                (vec!["R", "Q"], false),
                (vec!["A", "M"], true),
                (vec!["M", "A"], false),
                (vec!["R3", "A"], true),
                (vec!["R", "R3"], true),
                (vec!["R", "Q", "M"], false),
                (vec!["R", "R2", "Q"], true),
                (vec!["A", "F"], false),
                (vec!["A", "OWN"], true),
                (vec!["X"], false),
                (vec!["Y"], true),
                (vec!["A", "nobody", "nobody2"], false),
            ] {
                let created = s.api("STREAM.CREATE.T", json!({"name": "T", "sources": sources(&names)})).await;
                let expected = if is_cycle { (10052, "detected cycle") } else { (0, "") };
                let text = created["error"]["description"].as_str().unwrap_or_default();
                assert_eq!((err_code(&created), text), expected, "{names:?}");
                s.api("STREAM.DELETE.T", Value::Null).await;
            }
            s.stream(json!({"name": "T", "sources": sources(&["R", "A"])})).await;
            let turned = s.update(json!({"name": "T", "sources": sources(&["A", "R"])})).await;
            assert_eq!(err_code(&turned), 10052, "{turned}");
            let own = json!({"name": "A", "subjects": ["a.>"], "sources": sources(&["R"])});
            assert_eq!(err_code(&s.update(own).await), 10052);
        }

        async fn the_mirrored_stream_cannot_be_changed_but_left(s) {
            s.origin(&["o.1", "o.2"]).await;
            s.stream(json!({"name": "P", "subjects": ["p"]})).await;
            s.stream(json!({"name": "M", "mirror": {"name": "O"}})).await;
            s.has("M", 2, 2).await;
            assert_eq!(err_code(&s.update(json!({"name": "M", "mirror": {"name": "P"}})).await), 10055);
            let answer = s.update(json!({"name": "M", "subjects": ["m"]})).await;
            assert_eq!(answer["error"], Value::Null, "{answer}");
            assert_eq!(s.publish("m", "own").await["seq"], 3);
            s.publish("o.3", "not ours any more").await;
            s.has("M", 3, 3).await;
        }

        async fn a_mirror_answers_direct_gets_if_its_origin_does(s) {
            s.stream(json!({"name": "O", "subjects": ["o.*"], "allow_direct": true})).await;
            let answer = s.stream(json!({"name": "M", "mirror": {"name": "O"}})).await;
            assert_eq!(answer["config"]["mirror_direct"], true);
        }
    }
}

mod mirror {
    use super::*;

    on_both_servers! { JETSTREAM;
        async fn with_a_filter_follows_its_origin_past_what_it_does_not_take(s) {
            s.origin(&["o.1", "o.2", "o.2"]).await;
            s.stream(json!({"name": "M", "mirror": {"name": "O", "filter_subject": "o.1"}})).await;
            // nats-server stays at the last message that it has taken.
            s.has("M", 1, if s.kind == Kind::Peer { 1 } else { 3 }).await;
        }

        async fn has_the_sequences_and_times_of_its_origin(s) {
            s.origin(&["o.1", "o.2", "o.3"]).await;
            s.api("STREAM.MSG.DELETE.O", json!({"seq": 2})).await;
            s.stream(json!({"name": "M", "mirror": {"name": "O"}})).await;
            s.has("M", 2, 3).await;
            for seq in [1, 3] {
                let get = |stream: &str| format!("STREAM.MSG.GET.{stream}");
                let (ours, theirs) = (
                    s.api(&get("M"), json!({"seq": seq})).await,
                    s.api(&get("O"), json!({"seq": seq})).await,
                );
                assert_eq!(ours["message"], theirs["message"]);
            }
            assert!(s.stored("M", 2).await.is_none());
            s.publish("o.4", "new").await;
            s.has("M", 3, 4).await;
        }

        async fn begins_with_the_origins_first_sequence(s) {
            s.origin(&["o.1", "o.2", "o.3"]).await;
            s.api("STREAM.PURGE.O", json!({"seq": 3})).await;
            s.stream(json!({"name": "M", "mirror": {"name": "O"}})).await;
            s.stream_shows("M", &[("/messages", 1), ("/first_seq", 3), ("/last_seq", 3)]).await;
        }

        async fn passes_over_what_its_filter_does_not_want(s) {
            s.origin(&["o.1", "o.2", "o.1", "o.2", "o.2"]).await;
            s.stream(json!({"name": "M", "mirror": {"name": "O", "filter_subject": "o.1"}})).await;
            s.stream_shows("M", &[("/messages", 2)]).await;
            assert_eq!(s.at("M", 3).await, triple("o.1", "o.1", ""));
            s.publish("o.1", "again").await;
            s.has("M", 3, 6).await;
        }

        async fn renames(s) {
            s.origin(&["o.1", "o.2"]).await;
            let mirror = json!({"name": "O", "subject_transforms": [{"src": "o.*", "dest": "m.$1.x"}]});
            s.stream(json!({"name": "M", "mirror": mirror})).await;
            s.has("M", 2, 2).await;
            assert_eq!(s.at("M", 2).await, triple("m.2.x", "o.2", ""));
        }

        async fn keeps_headers_but_those_meant_for_the_origin(s) {
            s.origin(&[]).await;
            let headers = [("Nats-Expected-Last-Sequence", "0"), ("Nats-Msg-Id", "i"), ("A", "b")];
            s.publish_with("o.1", &headers, "x").await;
            s.publish_with("o.1", &[("Nats-Expected-Last-Sequence", "1")], "y").await;
            s.stream(json!({"name": "M", "mirror": {"name": "O"}})).await;
            s.has("M", 2, 2).await;
            let mut kept = s.stored("M", 1).await.unwrap().headers;
            kept.sort();
            assert_eq!(kept, ["A: b", "Nats-Msg-Id: i"]);
            assert_eq!(s.stored("M", 2).await.unwrap().body, "y");
        }

        async fn starts_where_it_is_told(s) {
            s.origin(&["o.1", "o.2", "o.3"]).await;
            s.stream(json!({"name": "M", "mirror": {"name": "O", "opt_start_seq": 2}})).await;
            s.stream_shows("M", &[("/messages", 2), ("/first_seq", 2), ("/last_seq", 3)]).await;
            let time = s.api("STREAM.MSG.GET.O", json!({"seq": 3})).await["message"]["time"].clone();
            s.stream(json!({"name": "N", "mirror": {"name": "O", "opt_start_time": time}})).await;
            s.stream_shows("N", &[("/messages", 1), ("/first_seq", 3), ("/last_seq", 3)]).await;
        }

        async fn takes_no_messages_of_its_own(s) {
            s.origin(&["o.1"]).await;
            s.stream(json!({"name": "M", "mirror": {"name": "O"}})).await;
            let client = s.client().await;
            let refused = client.request("M", "x".into()).await.unwrap_err();
            assert_eq!(refused.kind(), async_nats::RequestErrorKind::NoResponders);
        }

        async fn leaves_no_consumer_to_be_seen(s) {
            s.stream(json!({"name": "O", "subjects": ["o.*"], "max_consumers": 1})).await;
            s.publish("o.1", "x").await;
            s.stream(json!({"name": "M", "mirror": {"name": "O"}})).await;
            s.has("M", 1, 1).await;
            assert_eq!(s.api("CONSUMER.LIST.O", Value::Null).await["total"], 0);
            assert_eq!(s.api("CONSUMER.NAMES.O", Value::Null).await["total"], 0);
            assert_eq!(s.state("O").await["consumer_count"], 0);
            s.consumer("O", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
        }

        async fn goes_on_after_a_crash(s) {
            s.origin(&["o.1", "o.2"]).await;
            s.stream(json!({"name": "M", "mirror": {"name": "O"}})).await;
            s.has("M", 2, 2).await;
            s.kill_and_restart().await;
            s.publish("o.3", "x").await;
            s.has("M", 3, 3).await;
        }

        async fn catches_up_with_a_long_origin(s) {
            s.origin(&[]).await;
            let client = s.client().await;
            for _ in 1..MANY {
                client.publish("o.1", vec![b'x'; 300].into()).await.unwrap();
            }
            s.publish("o.2", "last").await;
            s.stream(json!({"name": "M", "mirror": {"name": "O"}})).await;
            s.has("M", MANY, MANY).await;
            s.stream(json!({"name": "S", "sources": [{"name": "O"}]})).await;
            s.has("S", MANY, MANY).await;
        }

        async fn of_a_mirror(s) {
            s.origin(&["o.1"]).await;
            s.stream(json!({"name": "M", "mirror": {"name": "O"}, "storage": "memory"})).await;
            s.stream(json!({"name": "N", "mirror": {"name": "M"}})).await;
            s.has("N", 1, 1).await;
            s.publish("o.2", "x").await;
            s.has("N", 2, 2).await;
        }

        async fn answers_direct_gets_for_its_origin(s) {
            s.stream(json!({"name": "O", "subjects": ["o.*"], "allow_direct": true})).await;
            s.publish("o.1", "x").await;
            s.stream(json!({"name": "M", "mirror": {"name": "O"}, "mirror_direct": true})).await;
            s.has("M", 1, 1).await;
            let mut names = std::collections::BTreeSet::new();
            eventually("both have answered", async || {
                let client = s.client().await;
                let answer = client.request("$JS.API.DIRECT.GET.O.o.1", "".into()).await.unwrap();
                let headers = answer.headers.unwrap();
                names.insert(headers.get("Nats-Stream").unwrap().to_string());
                (names.len() == 2).then_some(())
            })
            .await;
        }
    }
}

mod source {
    use super::*;

    on_both_servers! { JETSTREAM;
        async fn says_where_its_messages_come_from(s) {
            s.origin(&["o.1", "o.2"]).await;
            let renamed = json!({"name": "O", "subject_transforms": [{"src": "o.2", "dest": "t.2"}]});
            let filtered = json!({"name": "O", "filter_subject": "o.1"});
            s.stream(json!({"name": "A", "sources": [filtered]})).await;
            s.stream(json!({"name": "B", "sources": [renamed]})).await;
            s.stream(json!({"name": "C", "subjects": ["c"], "sources": [{"name": "O"}]})).await;
            s.has("A", 1, 1).await;
            s.has("B", 1, 1).await;
            s.has("C", 2, 2).await;
            assert_eq!(s.at("A", 1).await, triple("o.1", "o.1", "O 1 o.1 > o.1"));
            assert_eq!(s.at("B", 1).await, triple("t.2", "o.2", "O 2 o.2 t.2 o.2"));
            assert_eq!(s.at("C", 2).await, triple("o.2", "o.2", "O 2 > > o.2"));
            assert_eq!(s.publish("c", "own").await["seq"], 3);
            s.publish("o.1", "later").await;
            s.has("C", 4, 4).await;
            assert_eq!(s.at("C", 4).await, triple("o.1", "later", "O 3 > > o.1"));
        }

        async fn several_are_merged_and_shown(s) {
            s.origin(&["o.1"]).await;
            s.stream(json!({"name": "P", "subjects": ["p.*"]})).await;
            s.publish("p.1", "x").await;
            s.stream(json!({"name": "S", "sources": [{"name": "O"}, {"name": "P"}]})).await;
            s.has("S", 2, 2).await;
            let info = s.api("STREAM.INFO.S", Value::Null).await;
            // nats-server shows them in no order.
            let shown = info["sources"].as_array().unwrap();
            assert_eq!(shown.len(), 2);
            for name in ["O", "P"] {
                let source = shown.iter().find(|source| source["name"] == name).unwrap();
                assert_eq!((&source["seq"], &source["lag"]), (&json!(1), &json!(0)), "{info}");
            }
        }

        async fn a_client_may_not_claim_a_source(s) {
            s.origin(&[]).await;
            let answer = s.publish_with("o.1", &[("Nats-Stream-Source", "X 1 > > x")], "x").await;
            assert_eq!(err_code(&answer), 10227);
        }

        async fn of_a_source_tells_of_the_last_step(s) {
            s.origin(&["o.1"]).await;
            s.stream(json!({"name": "S", "sources": [{"name": "O"}]})).await;
            s.stream(json!({"name": "T", "sources": [{"name": "S"}]})).await;
            s.has("T", 1, 1).await;
            let stored = s.stored("T", 1).await.unwrap();
            assert_eq!(stored.headers.len(), 1, "{stored:?}");
            assert_eq!(s.at("T", 1).await, triple("o.1", "o.1", "S 1 > > o.1"));
        }

        async fn goes_on_after_a_crash_without_repeating_itself(s) {
            s.origin(&["o.1", "o.2", "o.3"]).await;
            s.stream(json!({"name": "S", "sources": [{"name": "O"}]})).await;
            s.has("S", 3, 3).await;
            s.kill_and_restart().await;
            s.publish("o.4", "x").await;
            s.has("S", 4, 4).await;
            assert_eq!(s.at("S", 4).await, triple("o.4", "x", "O 4 > > o.4"));
        }

        async fn goes_on_behind_what_was_purged_here(s) {
            s.origin(&["o.1", "o.2"]).await;
            s.stream(json!({"name": "S", "sources": [{"name": "O"}]})).await;
            s.has("S", 2, 2).await;
            s.api("STREAM.PURGE.S", json!({})).await;
            s.publish("o.3", "x").await;
            s.has("S", 1, 3).await;
        }

        async fn can_be_added_and_removed(s) {
            s.origin(&["o.1"]).await;
            s.stream(json!({"name": "S", "subjects": ["s"]})).await;
            let with = json!({"name": "S", "subjects": ["s"], "sources": [{"name": "O"}]});
            assert_eq!(s.update(with.clone()).await["error"], Value::Null);
            s.has("S", 1, 1).await;
            assert_eq!(s.update(json!({"name": "S", "subjects": ["s"]})).await["error"], Value::Null);
            s.publish("o.2", "missed").await;
            assert_eq!(s.publish("s", "own").await["seq"], 2);
            assert_eq!(s.update(with).await["error"], Value::Null);
            s.has("S", 3, 3).await;
            assert_eq!(s.at("S", 3).await, triple("o.2", "missed", "O 2 > > o.2"));
        }

        async fn messages_of_known_ids_are_passed_over(s) {
            s.origin(&[]).await;
            s.stream(json!({
                "name": "S", "subjects": ["s"], "sources": [{"name": "O"}], "duplicate_window": 60_000_000_000_u64,
            })).await;
            s.publish_with("s", &[("Nats-Msg-Id", "i")], "own").await;
            s.publish_with("o.1", &[("Nats-Msg-Id", "i")], "same id").await;
            s.publish_with("o.1", &[("Nats-Msg-Id", "j")], "other id").await;
            s.has("S", 2, 2).await;
            assert_eq!(s.at("S", 2).await.1, "other id");
        }

        async fn a_full_stream_takes_the_rest_when_there_is_room(s) {
            s.origin(&["o.1", "o.2", "o.3"]).await;
            s.stream(json!({
                "name": "S", "sources": [{"name": "O"}], "max_msgs": 2, "discard": "new",
            })).await;
            s.has("S", 2, 2).await;
            s.api("STREAM.PURGE.S", json!({})).await;
            s.has("S", 1, 3).await;
            assert_eq!(s.at("S", 3).await.1, "o.3");
        }
    }
}

#[test]
fn a_source_goes_on_at_once_with_another_origin_of_the_same_name() {
    run_with(Kind::Linnet, JETSTREAM, async |s| {
        s.origin(&[]).await;
        s.stream(json!({"name": "S", "sources": [{"name": "O"}]})).await;
        for round in 1..=4 {
            s.publish("o.1", "x").await;
            let since = Instant::now();
            s.has("S", round, round).await;
            // By silence and failed attempts alone it would notice later, and ever later.
            assert!(since.elapsed() < Duration::from_secs(2), "{:?} in round {round}", since.elapsed());
            s.api("STREAM.DELETE.O", Value::Null).await;
            let mut failed = 0;
            eventually("attempts fail", async || {
                let info = s.api("STREAM.INFO.S", Value::Null).await;
                failed += u32::from(info["sources"][0]["error"]["err_code"] == 10059);
                (failed > 100).then_some(())
            })
            .await;
            s.origin(&[]).await;
        }
    });
}

mod queue {
    use super::*;

    /// A push consumer that counts as acknowledged what answers to flow control say.
    fn stored_by_flow(name: &str, subject: &str) -> Value {
        json!({
            "durable_name": name, "deliver_subject": subject, "ack_policy": "flow_control",
            "flow_control": true, "idle_heartbeat": 1_000_000_000,
        })
    }

    on_both_servers! { JETSTREAM;
        async fn what_a_source_has_stored_leaves_the_work_queue(s) {
            s.stream(json!({"name": "O", "subjects": ["o.*"], "retention": "workqueue"})).await;
            s.publish("o.1", "x").await;
            s.stream(json!({"name": "S", "sources": [{"name": "O"}]})).await;
            s.has("S", 1, 1).await;
            s.has("O", 0, 1).await;
            let consumers = s.api("CONSUMER.LIST.O", Value::Null).await;
            let config = &consumers["consumers"][0]["config"];
            assert_eq!(config["ack_policy"], "flow_control");
            assert_eq!(config["sourcing"], true);
            assert_eq!(config["max_ack_pending"], 1000);
            assert!(config.get("ack_wait").is_none() && config.get("direct").is_none(), "{config}");
            assert_eq!(config["durable_name"], config["name"]);
        }

        async fn a_source_empties_a_long_interest_stream(s) {
            s.stream(json!({"name": "O", "subjects": ["o.*"], "retention": "interest"})).await;
            s.stream(json!({"name": "S", "sources": [{"name": "O"}]})).await;
            eventually("the consumer is there", async || {
                (s.state("O").await["consumer_count"] == 1).then_some(())
            })
            .await;
            let client = s.client().await;
            for _ in 1..MANY / 4 {
                client.publish("o.1", vec![b'x'; 100].into()).await.unwrap();
            }
            s.publish("o.2", "last").await;
            s.has("S", MANY / 4, MANY / 4).await;
            s.has("O", 0, MANY / 4).await;
        }

        async fn a_source_of_a_work_queue_goes_on_after_a_crash(s) {
            s.stream(json!({"name": "O", "subjects": ["o.*"], "retention": "workqueue"})).await;
            s.publish("o.1", "x").await;
            s.stream(json!({"name": "S", "sources": [{"name": "O"}]})).await;
            s.has("S", 1, 1).await;
            s.kill_and_restart().await;
            s.publish("o.2", "y").await;
            s.has("S", 2, 2).await;
            s.has("O", 0, 2).await;
        }

        async fn answers_to_flow_control_need_what_they_need(s) {
            s.origin(&[]).await;
            let with = |extra: Value| {
                let mut config = stored_by_flow("C", "d");
                config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
                config
            };
            let cases = [
                (json!({"deliver_subject": "", "idle_heartbeat": 0, "flow_control": false}), 10218),
                (json!({"max_ack_pending": -1}), 10220),
                (json!({"ack_wait": 1_000_000_000}), 10221),
                (json!({"max_deliver": 3}), 10222),
            ];
            for (extra, code) in cases {
                let answer = s.try_consumer("O", with(extra.clone())).await;
                assert_eq!(err_code(&answer), code, "{extra}: {answer}");
            }
            let answer = s.consumer("O", with(json!({"flow_control": false, "idle_heartbeat": 2_000_000_000_u64}))).await;
            assert_eq!(answer["config"]["flow_control"], true);
            assert_eq!(answer["config"]["idle_heartbeat"], 1_000_000_000);
        }

        async fn a_consumer_made_beforehand_is_used(s) {
            s.origin(&["o.1", "o.2"]).await;
            s.consumer("O", stored_by_flow("C", "d.c")).await;
            let origin = json!({"name": "O", "consumer": {"name": "C", "deliver_subject": "d.c"}});
            s.stream(json!({"name": "S", "sources": [origin]})).await;
            s.has("S", 2, 2).await;
            s.publish("o.3", "x").await;
            s.has("S", 3, 3).await;
            let stored = s.stored("S", 3).await.unwrap();
            let header = stored.header("Nats-Stream-Source").to_owned();
            assert!(header.starts_with("O:C=") && header.contains(" 3 > > o.3"), "{header}");
            s.consumer_shows("O", "C", &[("/ack_floor/stream_seq", 3)]).await;
        }

        async fn a_consumer_of_another_kind_is_not_used(s) {
            s.origin(&["o.1"]).await;
            let config = json!({"durable_name": "C", "deliver_subject": "d.c", "ack_policy": "explicit"});
            s.consumer("O", config).await;
            let origin = json!({"name": "O", "consumer": {"name": "C", "deliver_subject": "d.c"}});
            s.stream(json!({"name": "S", "sources": [origin]})).await;
            eventually("the source says why", async || {
                let info = s.api("STREAM.INFO.S", Value::Null).await;
                (info["sources"][0]["error"]["err_code"] == 10217).then_some(())
            })
            .await;
        }
    }
}

mod counters {
    use super::*;

    impl Fixture {
        async fn counting_stream(&mut self, mut config: Value) {
            config["allow_msg_counter"] = json!(true);
            self.stream(config).await;
        }

        /// Increment, what came from where, and value of a stored counter.
        async fn counted(&mut self, stream: &str, seq: u64) -> (String, Value, String) {
            let stored = self.stored(stream, seq).await.unwrap();
            let sources = serde_json::from_str(stored.header("Nats-Counter-Sources")).unwrap_or_default();
            (stored.header("Nats-Incr").to_owned(), sources, stored.body)
        }
    }

    fn row(increment: &str, sources: Value, value: &str) -> (String, Value, String) {
        (increment.to_owned(), sources, format!(r#"{{"val":"{value}"}}"#))
    }

    on_both_servers! { JETSTREAM;
        async fn of_several_streams_are_added_up(s) {
            s.counting_stream(json!({"name": "O", "subjects": ["o.*"]})).await;
            s.counting_stream(json!({"name": "P", "subjects": ["p.*"]})).await;
            s.add("o.a", "5").await;
            s.add("o.a", "2").await;
            let source = |name: &str, from: &str| {
                json!({"name": name, "subject_transforms": [{"src": from, "dest": "s.$1"}]})
            };
            s.counting_stream(json!({
                "name": "S", "subjects": ["s.*"], "sources": [source("O", "o.*"), source("P", "p.*")],
            })).await;
            s.has("S", 2, 2).await;
            assert_eq!(s.counted("S", 2).await, row("2", json!({"O": {"o.a": "7"}}), "7"));
            s.add("p.a", "10").await;
            s.has("S", 3, 3).await;
            let both = json!({"O": {"o.a": "7"}, "P": {"p.a": "10"}});
            assert_eq!(s.counted("S", 3).await, row("10", both.clone(), "17"));
            assert_eq!(s.add("s.a", "1").await["val"], "18");
            assert_eq!(s.counted("S", 4).await, row("1", both, "18"));
            s.add("o.a", "-3").await;
            s.has("S", 5, 5).await;
            let both = json!({"O": {"o.a": "4"}, "P": {"p.a": "10"}});
            assert_eq!(s.counted("S", 5).await, row("-3", both, "15"));
            s.counting_stream(json!({"name": "T", "sources": [{"name": "S"}]})).await;
            s.has("T", 5, 5).await;
            assert_eq!(s.counted("T", 5).await, row("-3", json!({"S": {"s.a": "15"}}), "15"));
        }

        async fn are_plain_messages_to_a_stream_that_does_not_count(s) {
            s.counting_stream(json!({"name": "O", "subjects": ["o.*"]})).await;
            s.add("o.a", "5").await;
            s.stream(json!({"name": "S", "sources": [{"name": "O"}]})).await;
            s.has("S", 1, 1).await;
            assert_eq!(s.counted("S", 1).await, row("5", Value::Null, "5"));
        }

        async fn what_is_no_counter_is_passed_over(s) {
            s.origin(&["o.1"]).await;
            s.counting_stream(json!({"name": "S", "sources": [{"name": "O"}]})).await;
            eventually("the origin is read", async || {
                let info = s.api("STREAM.INFO.S", Value::Null).await;
                (info["sources"][0]["active"] != -1 && info["sources"][0]["lag"] == 0).then_some(())
            })
            .await;
            s.publish("o.2", "x").await;
            s.stream(json!({"name": "T", "sources": [{"name": "O"}]})).await;
            s.has("T", 2, 2).await;
            s.has("S", 0, 0).await;
        }
    }
}
