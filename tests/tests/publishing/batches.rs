//! Messages that are stored together or not at all.

use async_nats::HeaderMap;
use futures_util::StreamExt as _;
use linnet_launch::Options;
use serde_json::{Value, json};

use crate::harness::{Fixture, err_code, within};

/// A server on which limits are soon reached.
const TIGHT: fn() -> Options = || Options {
    monitor: false,
    extra: "jetstream {
        store_dir: \"$DIR/store\"
        limits { batch { max_msgs: 4, max_inflight_per_stream: 3, max_inflight_total: 4, timeout: \"1s\" } }
    }"
    .to_owned(),
    ..Options::default()
};

/// What an answer to a part comes to: nothing for one that waits, the error's code, or the acknowledgement.
#[derive(Debug, PartialEq)]
enum Answer {
    Staged,
    Refused(u64),
    Ack(Value),
}

use Answer::{Ack, Refused, Staged};

impl Fixture {
    async fn batching(&mut self, more: Value) {
        let mut config =
            json!({"name": "S", "subjects": ["a.*"], "allow_atomic": true, "allow_rollup_hdrs": true});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.stream(config).await;
    }

    async fn part(&mut self, id: &str, seq: &str, more: &[(&str, &str)]) -> Answer {
        self.part_on("a.b", id, seq, more, "x").await
    }

    async fn part_on(
        &mut self,
        subject: &str,
        id: &str,
        seq: &str,
        more: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut map = HeaderMap::new();
        let own = [("Nats-Batch-Id", id), ("Nats-Batch-Sequence", seq)];
        for (name, value) in
            own.iter().chain(more).filter(|(name, value)| *name == "Nats-Batch-Commit" || !value.is_empty())
        {
            map.append(*name, *value);
        }
        let client = self.client().await;
        let sent = client.request_with_headers(subject.to_owned(), map, body.to_owned().into());
        let answer = within("an answer to a part", sent).await.unwrap();
        if answer.payload.is_empty() {
            return Staged;
        }
        let json: Value = serde_json::from_slice(&answer.payload).unwrap();
        match err_code(&json) {
            0 => Ack(json),
            code => Refused(code),
        }
    }

    /// A batch of two parts with these headers, the first on `a.one`, the second on `a.two`.
    async fn pair(&mut self, first: &[(&str, &str)], second: &[(&str, &str)]) -> Answer {
        self.pair_on(["a.one", "a.two"], first, second).await
    }

    async fn pair_on(
        &mut self,
        subjects: [&str; 2],
        first: &[(&str, &str)],
        second: &[(&str, &str)],
    ) -> Answer {
        assert_eq!(self.part_on(subjects[0], "pair", "1", first, "x").await, Staged);
        self.part_on(subjects[1], "pair", "2", &[second, &COMMIT].concat(), "x").await
    }
}

const COMMIT: [(&str, &str); 1] = [("Nats-Batch-Commit", "1")];
const END: [(&str, &str); 1] = [("Nats-Batch-Commit", "eob")];

fn ack(seq: u64, id: &str, count: u64) -> Answer {
    Ack(json!({"stream": "S", "seq": seq, "batch": id, "count": count}))
}

on_both_servers! { TIGHT;
    async fn a_batch_appears_when_it_is_committed(s) {
        s.batching(json!({})).await;
        assert_eq!(s.part("A", "1", &[]).await, Staged);
        assert_eq!(s.part_on("a.c", "A", "2", &[("X", "y")], "two").await, Staged);
        assert_eq!(s.state("S").await["last_seq"], 0);
        assert_eq!(s.publish("a.d", "between").await["seq"], 1);
        assert_eq!(s.part("A", "3", &COMMIT).await, ack(4, "A", 3));
        let mut stored = s.stored("S", 3).await.unwrap();
        stored.headers.sort_unstable();
        assert_eq!((stored.subject.as_str(), stored.body.as_str()), ("a.c", "two"));
        assert_eq!(stored.headers, ["Nats-Batch-Id: A", "Nats-Batch-Sequence: 2", "X: y"]);
        assert_eq!(s.part("A", "1", &COMMIT).await, ack(5, "A", 1));
    }

    /// By 10060 (another stream), 10071 (another sequence), 10201 (repeated), 10111 (replaces others).
    async fn a_part_is_judged_in_the_order_of_other_messages(s) {
        s.batching(json!({})).await;
        let stream = ("Nats-Expected-Stream", "X");
        let last = ("Nats-Expected-Last-Sequence", "7");
        let of_subject = ("Nats-Expected-Last-Subject-Sequence", "7");
        let (id, roll) = (("Nats-Msg-Id", "a"), ("Nats-Rollup", "sub"));
        let (ttl, increment) = (("Nats-TTL", "1m"), ("Nats-Incr", "1"));
        let wishes = [
            (vec![stream, last], 10060),
            (vec![stream, of_subject, id, roll], 10060),
            (vec![stream, increment], 10168),
            (vec![ttl, last, id, roll], 10166),
            (vec![id, last, of_subject], 10201),
            (vec![id, roll], 10201),
            (vec![last, roll], 10071),
            (vec![roll], 10111),
        ];
        for (headers, code) in wishes {
            let answer = s.pair_on(["a.one", "a.one"], &[id], &headers).await;
            assert_eq!(answer, Refused(code), "{headers:?}");
        }
    }

    async fn the_end_of_a_batch_may_be_no_message_of_it(s) {
        s.batching(json!({})).await;
        assert_eq!(s.part("B", "1", &[]).await, Staged);
        assert_eq!(s.part("B", "2", &END).await, ack(1, "B", 1));
        let stored = s.stored("S", 1).await.unwrap();
        assert_eq!(stored.headers.last().unwrap(), "Nats-Batch-Commit: 1", "it shows where the batch ends");
        assert_eq!(stored.headers.len(), 3);
        assert_eq!(s.state("S").await["messages"], 1);
        assert_eq!(s.part("C", "1", &END).await, Refused(10176));
        for seq in ["1", "2", "3", "4"] {
            assert_eq!(s.part("D", seq, &[]).await, Staged);
        }
        assert_eq!(s.part("D", "5", &END).await, ack(5, "D", 4));
        for (seq, marks) in [(4, 0), (5, 1)] {
            let stored = s.stored("S", seq).await.unwrap();
            assert_eq!(stored.headers.iter().filter(|h| h.starts_with("Nats-Batch-Commit")).count(), marks);
        }
    }

    async fn the_mark_of_the_end_makes_no_message_too_long(s) {
        let part = "NATS/1.0\r\nNats-Batch-Id: B\r\nNats-Batch-Sequence: 1\r\n\r\n".len() + 100;
        s.batching(json!({"max_msg_size": part})).await;
        assert_eq!(s.part_on("a.b", "B", "1", &[], &"x".repeat(101)).await, Refused(10054));
        assert_eq!(s.part_on("a.b", "B", "1", &[], &"x".repeat(100)).await, Staged);
        assert_eq!(s.part_on("a.b", "B", "2", &END, "").await, ack(1, "B", 1));
        // A message with headers counts as 34 bytes besides them, its subject and its payload.
        let bytes = part + "Nats-Batch-Commit: 1\r\n".len() + "a.b".len() + 34;
        assert_eq!(s.state("S").await["bytes"], bytes);
    }

    async fn parts_that_make_no_batch_are_refused(s) {
        s.batching(json!({})).await;
        assert_eq!(s.part("A", "2", &[]).await, Refused(10176));
        assert_eq!(s.part("A", "9", &[]).await, Refused(10199));
        assert_eq!(s.part("A", "", &[]).await, Refused(10175));
        assert_eq!(s.part("A", "x", &[]).await, Refused(10175));
        assert_eq!(s.part("A", "0", &[]).await, Refused(10176));
        assert_eq!(s.part(&"i".repeat(64), "1", &COMMIT).await, ack(1, &"i".repeat(64), 1));
        assert_eq!(s.part(&"i".repeat(65), "1", &COMMIT).await, Refused(10179));
        for value in ["", "0", "x"] {
            assert_eq!(s.part("A", "1", &[("Nats-Batch-Commit", value)]).await, Refused(10200), "{value}");
        }
        s.stream(json!({"name": "T", "subjects": ["t"]})).await;
        assert_eq!(s.part_on("t", "A", "1", &[], "x").await, Refused(10174));
    }

    async fn batches_that_cannot_be_finished_are_given_up(s) {
        s.batching(json!({})).await;
        let client = s.client().await;
        let mut advisories = client.subscribe("$JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED.S").await.unwrap();
        s.part("gap", "1", &[]).await;
        assert_eq!(s.part("gap", "3", &[]).await, Refused(10176));
        assert_eq!(s.part("gap", "2", &COMMIT).await, Refused(10176));
        for seq in ["1", "2", "3", "4"] {
            assert_eq!(s.part("large", seq, &[]).await, Staged);
        }
        assert_eq!(s.part("large", "5", &[]).await, Refused(10199));
        s.part("level", "1", &[]).await;
        assert_eq!(s.part("level", "2", &[("Nats-Required-Api-Level", "99")]).await, Refused(10185));
        assert_eq!(s.part("level", "2", &COMMIT).await, Refused(10176));
        s.part("slow", "1", &[]).await;
        for (id, reason) in
            [("gap", "incomplete"), ("large", "large"), ("level", "unsupported"), ("slow", "timeout")]
        {
            let advisory = within("an advisory", advisories.next()).await.unwrap();
            let advisory: Value = serde_json::from_slice(&advisory.payload).unwrap();
            assert_eq!(advisory["type"], "io.nats.jetstream.advisory.v1.stream_batch_abandoned");
            assert_eq!((&advisory["stream"], &advisory["batch"], &advisory["reason"]), (&json!("S"), &json!(id), &json!(reason)));
        }
        assert_eq!(s.part("slow", "2", &COMMIT).await, Refused(10176));
        assert_eq!(s.state("S").await["last_seq"], 0);
    }

    async fn only_so_many_batches_are_open(s) {
        s.batching(json!({})).await;
        for id in ["1", "2", "3"] {
            assert_eq!(s.part(id, "1", &[]).await, Staged);
        }
        assert_eq!(s.part("4", "1", &[]).await, Refused(10210));
        s.stream(json!({"name": "T", "subjects": ["t"], "allow_atomic": true})).await;
        assert_eq!(s.part_on("t", "4", "1", &[], "x").await, Staged);
        assert_eq!(s.part_on("t", "5", "1", &[], "x").await, Refused(10210));
        assert_eq!(s.part("1", "2", &COMMIT).await, ack(2, "1", 2));
        assert_eq!(s.part_on("t", "5", "1", &[], "x").await, Staged);
    }

    async fn one_wrong_part_refuses_all(s) {
        s.batching(json!({"allow_msg_ttl": true})).await;
        s.publish_with("a.b", &[("Nats-Msg-Id", "known")], "x").await;
        for (first, second, code) in [
            (("Nats-Expected-Last-Msg-Id", "known"), ("X", ""), 10177),
            (("Nats-Expected-Last-Sequence", "9"), ("X", ""), 10071),
            (("X", ""), ("Nats-Expected-Last-Sequence", "2"), 10164),
            (("X", ""), ("Nats-Expected-Last-Sequence", "1"), 10071),
            (("X", ""), ("Nats-Expected-Last-Sequence", "3"), 10071),
            (("X", ""), ("Nats-Expected-Last-Sequence", "x"), 10071),
            (("Nats-Msg-Id", "known"), ("X", ""), 10201),
            (("Nats-Msg-Id", "i"), ("Nats-Msg-Id", "i"), 10201),
            (("X", ""), ("Nats-Rollup", "all"), 10111),
            (("Nats-Rollup", "x"), ("X", ""), 10111),
            (("Nats-TTL", "x"), ("X", ""), 10165),
            (("Nats-Expected-Stream", "T"), ("X", ""), 10060),
            (("Nats-Incr", "1"), ("X", ""), 10168),
            (("X", ""), ("Nats-Stream-Source", "T"), 10227),
        ] {
            assert_eq!(s.pair(&[first], &[second]).await, Refused(code), "{first:?} {second:?}");
        }
        let expected = [("Nats-Expected-Last-Subject-Sequence", "0")];
        assert_eq!(s.pair_on(["a.c", "a.c"], &[], &expected).await, Refused(10164));
        assert_eq!(s.pair_on(["a.c", "a.c"], &[], &[("Nats-Rollup", "sub")]).await, Refused(10111));
        assert_eq!(s.state("S").await["last_seq"], 1);
        assert_eq!(s.pair_on(["a.c", "a.d"], &expected, &expected).await, ack(3, "pair", 2));
        assert_eq!(s.pair(&[("Nats-Expected-Last-Sequence", "3")], &[]).await, ack(5, "pair", 2));
        assert_eq!(s.pair(&[("Nats-Rollup", "all"), ("Nats-Msg-Id", "i")], &[]).await, ack(7, "pair", 2));
        assert_eq!(s.state("S").await["messages"], 2);
        assert_eq!(s.publish_with("a.b", &[("Nats-Msg-Id", "i")], "").await["duplicate"], true);
    }

    async fn a_batch_has_to_find_room(s) {
        s.batching(json!({"discard": "new", "max_msgs": 3})).await;
        s.publish("a.b", "x").await;
        s.part("A", "1", &[]).await;
        s.part("A", "2", &[]).await;
        assert_eq!(s.part("A", "3", &COMMIT).await, Refused(10077));
        assert_eq!(s.pair(&[], &[]).await, ack(3, "pair", 2));
        s.api("STREAM.DELETE.S", Value::Null).await;
        s.batching(json!({"discard": "new", "max_msgs_per_subject": 1, "discard_new_per_subject": true})).await;
        assert_eq!(s.pair_on(["a.c", "a.c"], &[], &[]).await, Refused(10077));
        assert_eq!(s.pair(&[], &[]).await, ack(2, "pair", 2));
    }

    async fn counters_add_up_within_a_batch(s) {
        s.batching(json!({"allow_msg_counter": true})).await;
        let mut counts = async |seq: &str, increment: &str, more: &[(&str, &str)]| {
            let headers = [&[("Nats-Incr", increment)], more].concat();
            s.part_on("a.b", "A", seq, &headers, "").await
        };
        assert_eq!(counts("1", "1", &[]).await, Staged);
        assert_eq!(counts("2", "5", &COMMIT).await, ack(2, "A", 2));
        assert_eq!(counts("1", "1", &COMMIT).await, ack(3, "A", 1));
        assert_eq!(s.stored("S", 2).await.unwrap().body, r#"{"val":"6"}"#);
        assert_eq!(s.stored("S", 3).await.unwrap().body, r#"{"val":"7"}"#);
    }

    async fn without_leave_open_batches_are_dropped(s) {
        s.batching(json!({})).await;
        s.part("A", "1", &[]).await;
        let config = |allow: bool| {
            json!({"name": "S", "subjects": ["a.*"], "allow_rollup_hdrs": true, "allow_atomic": allow})
        };
        assert_eq!(s.api("STREAM.UPDATE.S", config(false)).await["error"], Value::Null);
        assert_eq!(s.part("A", "2", &COMMIT).await, Refused(10174));
        assert_eq!(s.api("STREAM.UPDATE.S", config(true)).await["error"], Value::Null);
        assert_eq!(s.part("A", "2", &COMMIT).await, Refused(10176));
    }

    async fn a_header_about_the_level_is_not_stored(s) {
        s.batching(json!({})).await;
        let headers = [("Nats-Required-Api-Level", "2"), ("Nats-Batch-Commit", "1")];
        assert_eq!(s.part("A", "1", &headers).await, ack(1, "A", 1));
        let mut stored = s.stored("S", 1).await.unwrap();
        stored.headers.sort_unstable();
        assert_eq!(stored.headers, ["Nats-Batch-Commit: 1", "Nats-Batch-Id: A", "Nats-Batch-Sequence: 1"]);
    }
}
