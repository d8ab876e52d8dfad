//! Subjects renamed on the way in, and copies of stored messages.

use async_nats::Message;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::harness::{Fixture, JETSTREAM, within};

impl Fixture {
    async fn renaming(&mut self, src: &str, dest: &str) {
        let transform = json!({"src": src, "dest": dest});
        self.stream(json!({"name": "S", "subjects": ["a.>", "b"], "subject_transform": transform})).await;
    }

    /// Publishes and says under which subject it is stored.
    async fn becomes(&mut self, subject: &str) -> String {
        let seq = self.publish(subject, "x").await["seq"].as_u64().unwrap();
        self.stored("S", seq).await.unwrap().subject
    }
}

fn header(message: &Message, key: &str) -> String {
    let headers = message.headers.as_ref();
    headers.and_then(|h| h.get(key)).map_or_else(|| "none".to_owned(), ToString::to_string)
}

on_both_servers! { JETSTREAM;
    async fn messages_are_stored_under_the_subject_they_are_renamed_to(s) {
        for (src, dest, subject, expected) in [
            ("a.*.*", "x.$2.$1", "a.q.r", "x.r.q"),
            ("a.*.*", "x.$2.$1", "a.q", "a.q"),
            ("", "x.>", "b", "x.b"),
            ("a.*.>", "x.{{wildcard(1)}}.>", "a.q.r.s", "x.q.r.s"),
            ("a.*.*", "p.{{partition(7,1,2)}}", "a.foo.bar", "p.0"),
            ("a.*", "p.{{partition(7)}}", "a.foo", "p.4"),
            ("a.*", "x.{{splitfromleft(1,2)}}", "a.abcdef", "x.ab.cdef"),
            ("a.*", "x.{{SplitFromRight(1,2)}}", "a.abcdef", "x.abcd.ef"),
            ("a.*", "x.{{slicefromleft(1,3)}}", "a.abcdefgh", "x.abc.def.gh"),
            ("a.*", "x.{{slicefromright(1,3)}}", "a.abcdefgh", "x.ab.cde.fgh"),
            ("a.*", "x.{{split(1,-)}}", "a.-b--c-", "x.b.c"),
            ("a.*", "x.{{left(1,2)}}", "a.abc", "x.ab"),
            ("a.*", "x.{{right(1,2)}}", "a.abc", "x.bc"),
            ("a.*", "x.{{random(1)}}", "a.abc", "x.0"),
        ] {
            s.renaming(src, dest).await;
            assert_eq!(s.becomes(subject).await, expected, "{src} {dest} {subject}");
            s.api("STREAM.DELETE.S", Value::Null).await;
        }
    }

    async fn what_is_checked_is_the_new_subject(s) {
        s.renaming("a.*", "x.one").await;
        assert_eq!(s.publish("a.q", "x").await["seq"], 1);
        let expected = [("Nats-Expected-Last-Subject-Sequence", "1")];
        assert_eq!(s.publish_with("a.r", &expected, "x").await["seq"], 2);
        let config = json!({"name": "S", "subjects": ["a.>", "b"], "subject_transform": {"src": "a.*", "dest": "y.$1"}});
        assert_eq!(s.api("STREAM.UPDATE.S", config).await["error"], Value::Null);
        assert_eq!(s.becomes("a.q").await, "y.q");
        let config = json!({"name": "S", "subjects": ["a.>", "b"]});
        assert_eq!(s.api("STREAM.UPDATE.S", config).await["error"], Value::Null);
        assert_eq!(s.becomes("a.q").await, "a.q");
    }

    async fn impossible_transforms_are_refused(s) {
        for (src, dest, code, text) in [
            ("a b", "x", 10155, "stream transform source: invalid subject a b"),
            ("a.*", "x..y", 10156, "stream transform: invalid mapping destination: invalid transform"),
            ("a.*", "x.*", 10156, "stream transform: invalid subject"),
            ("a.>", "x", 10156, "stream transform: invalid subject"),
            ("a.*", "x.$2", 10156,
                "stream transform: invalid mapping destination: wildcard index out of range in $2: [2]"),
            ("b", "x.$1", 10156, "stream transform: invalid mapping destination: wildcard index out of range in $1"),
            ("a.*", "x.{{foo(1)}}", 10156,
                "stream transform: invalid mapping destination: unknown function in {{foo(1)}}"),
        ] {
            let transform = json!({"src": src, "dest": dest});
            let refused =
                s.refused_stream(json!({"name": "S", "subjects": ["a.*"], "subject_transform": transform})).await;
            assert_eq!(refused, (code, text.to_owned()), "{src} {dest}");
        }
    }

    async fn copies_say_where_they_come_from(s) {
        s.stream(json!({"name": "S", "subjects": ["a.*"], "republish": {"src": "a.*", "dest": "r.$1"}})).await;
        let client = s.client().await;
        let mut copies = client.subscribe("r.>").await.unwrap();
        s.publish("a.b", "one").await;
        let copy = within("a copy", copies.next()).await.unwrap();
        assert_eq!((copy.subject.as_str(), copy.payload.as_ref()), ("r.b", b"one".as_slice()));
        assert_eq!(copy.reply, None);
        let of = |copy: &Message| ["Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Last-Sequence", "X",
            "Nats-Msg-Size"].map(|key| header(copy, key));
        assert_eq!(of(&copy), ["S", "a.b", "1", "0", "none", "none"]);
        assert_ne!(header(&copy, "Nats-Time-Stamp"), "none");
        s.publish("a.c", "other").await;
        s.publish_with("a.b", &[("X", "y")], "two").await;
        within("a copy", copies.next()).await.unwrap();
        let copy = within("a copy", copies.next()).await.unwrap();
        assert_eq!(of(&copy), ["S", "a.b", "3", "1", "y", "none"]);
        let republish = json!({"src": "a.b", "dest": "r.only", "headers_only": true});
        let config = json!({"name": "S", "subjects": ["a.*"], "republish": republish});
        assert_eq!(s.api("STREAM.UPDATE.S", config).await["error"], Value::Null);
        s.publish("a.c", "no copy").await;
        s.publish("a.b", "three").await;
        let copy = within("a copy", copies.next()).await.unwrap();
        assert_eq!((copy.subject.as_str(), copy.payload.as_ref()), ("r.only", b"".as_slice()));
        assert_eq!(of(&copy), ["S", "a.b", "5", "3", "none", "5"]);
    }

    async fn what_is_not_stored_is_not_copied(s) {
        let republish = json!({"src": "a.>", "dest": "r.>"});
        s.stream(json!({"name": "S", "subjects": ["a.*"], "retention": "interest", "republish": republish})).await;
        let client = s.client().await;
        let mut copies = client.subscribe("r.>").await.unwrap();
        s.publish("a.nobody", "x").await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
        s.publish("a.wanted", "x").await;
        let copy = within("a copy", copies.next()).await.unwrap();
        assert_eq!(copy.subject.as_str(), "r.wanted");
    }

    async fn renamed_messages_can_be_copied_to_where_they_are(s) {
        let config = json!({"name": "S", "subjects": ["a.>"], "republish": {"src": ">", "dest": ">"},
            "subject_transform": {"src": "a.>", "dest": "r.>"}});
        let answer = s.stream(config).await;
        assert_eq!(answer["config"]["republish"], json!({"src": "r.>", "dest": "r.>"}));
        let client = s.client().await;
        let mut copies = client.subscribe("r.>").await.unwrap();
        s.publish("a.b", "x").await;
        assert_eq!(within("a copy", copies.next()).await.unwrap().subject.as_str(), "r.b");
    }

    async fn impossible_copies_are_refused(s) {
        for (src, dest, pedantic, code, text) in [
            ("a.*", "a.x", false, 10052, "stream configuration for republish destination forms a cycle"),
            (">", ">", false, 10052, "stream configuration for republish destination forms a cycle"),
            ("a.*", "r.$2", false, 10052,
                "stream configuration for republish with transform from 'a.*' to 'r.$2' not valid"),
            ("", "r.>", true, 10157, "pedantic mode: republish source can not be empty"),
        ] {
            let republish = json!({"src": src, "dest": dest});
            let refused = s.refused_stream(json!({"name": "S", "subjects": ["a.*"], "republish": republish,
                "pedantic": pedantic})).await;
            assert_eq!(refused, (code, text.to_owned()), "{src} {dest}");
        }
    }
}
