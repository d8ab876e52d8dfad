//! Messages that are stored one by one while their client is told only now and then how far it has come.

use async_nats::{HeaderMap, Subscriber};
use futures_util::StreamExt as _;
use linnet_launch::Options;
use serde_json::{Value, json};

use crate::harness::{Fixture, JETSTREAM, eventually, within};

/// A server that soon forgets a batch.
const HASTY: fn() -> Options = || Options {
    monitor: false,
    extra: "jetstream { store_dir: \"$DIR/store\", limits { batch { timeout: \"500ms\" } } }".to_owned(),
    ..Options::default()
};

/// What a client of batches says and hears.
struct Batcher {
    client: async_nats::Client,
    answers: Subscriber,
}

const UNKNOWN: &str = r#"{"error":{"code":400,"err_code":10208,"description":"batch publish ID unknown"},"stream":"S","seq":0}"#;
const STALE: (&str, &str) = ("Nats-Expected-Last-Sequence", "999");

impl Batcher {
    async fn new(s: &mut Fixture, more: Value) -> Self {
        let mut config =
            json!({"name": "S", "subjects": ["a.*"], "storage": "memory", "allow_batched": true});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        s.stream(config).await;
        let client = s.client().await;
        let answers = client.subscribe("fb.>").await.unwrap();
        Self { client, answers }
    }

    async fn send(&self, reply: &str, headers: &[(&str, &str)]) {
        let mut map = HeaderMap::new();
        for (key, value) in headers {
            map.append(*key, *value);
        }
        let reply = format!("fb.{reply}.$FI");
        let sent = self.client.publish_with_reply_and_headers("a.b", reply, map, "x".into());
        sent.await.unwrap();
    }

    /// Publishes `<id>.<flow>.<gap>.<sequence>.<operation>` and awaits the answers.
    async fn says(&mut self, reply: &str, headers: &[(&str, &str)], answers: &[&str]) {
        self.send(reply, headers).await;
        for expected in answers {
            let answer = within(reply, self.answers.next()).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&answer.payload), *expected, "{reply}");
            assert_eq!(answer.subject.as_str(), format!("fb.{reply}.$FI"));
        }
    }

    /// The same, each without headers.
    async fn hears(&mut self, steps: &[(&str, &[&str])]) {
        for (reply, answers) in steps {
            self.says(reply, &[], answers).await;
        }
    }
}

on_both_servers! { JETSTREAM;
    async fn a_batch_tells_now_and_then_how_far_it_has_come(s) {
        let mut b = Batcher::new(s, json!({})).await;
        b.hears(&[
            ("A.3.fail.1.0", &[r#"{"type":"ack","seq":0,"msgs":3}"#]),
            ("A.3.fail.2.1", &[]),
            ("A.3.fail.3.1", &[r#"{"type":"ack","seq":3,"msgs":3}"#]),
            ("A.3.fail.4.1", &[]),
            ("A.3.fail.4.4", &[r#"{"type":"ack","seq":3,"msgs":3}"#]),
            ("A.3.fail.5.2", &[r#"{"stream":"S","seq":5,"batch":"A","count":5}"#]),
            ("A.3.fail.6.1", &[UNKNOWN]),
            ("B.2.ok.1.0", &[r#"{"type":"ack","seq":0,"msgs":2}"#]),
            ("B.2.ok.2.3", &[r#"{"stream":"S","seq":6,"batch":"B","count":1}"#]),
            ("C.2.ok.1.2", &[r#"{"stream":"S","seq":7,"batch":"C","count":1}"#]),
        ]).await;
        s.stream_shows("S", &[("/messages", 7)]).await;
    }

    async fn only_so_many_batches_are_open(s) {
        let mut b = Batcher::new(s, json!({})).await;
        b.hears(&[
            ("A.501.fail.1.0", &[r#"{"type":"ack","seq":0,"msgs":500}"#]),
            ("A.501.fail.2.2", &[r#"{"stream":"S","seq":2,"batch":"A","count":2}"#]),
        ]).await;
        for n in 0..1000 {
            b.send(&format!("{n}.9.fail.1.0"), &[]).await;
        }
        b.send("more.9.fail.1.0", &[]).await;
        loop {
            let answer = within("an answer", b.answers.next()).await.unwrap();
            let json: Value = serde_json::from_slice(&answer.payload).unwrap();
            if answer.subject.starts_with("fb.more.") {
                assert_eq!(json["error"]["err_code"], 10211, "{json}");
                break;
            }
            assert_eq!(json["type"], "ack", "{json}");
        }
    }

    async fn batches_share_what_may_be_unacknowledged(s) {
        let mut b = Batcher::new(s, json!({})).await;
        b.hears(&[
            ("A.2.fail.1.0", &[r#"{"type":"ack","seq":0,"msgs":2}"#]),
            ("B.5.fail.1.0", &[r#"{"type":"ack","seq":0,"msgs":1}"#, r#"{"type":"ack","seq":1,"msgs":2}"#]),
            ("B.5.fail.2.1", &[]),
            ("B.5.fail.3.1", &[r#"{"type":"ack","seq":3,"msgs":4}"#]),
            ("B.5.fail.4.2", &[r#"{"stream":"S","seq":5,"batch":"B","count":4}"#]),
            ("A.2.fail.2.1", &[r#"{"type":"ack","seq":2,"msgs":2}"#]),
        ]).await;
    }

    async fn a_gap_ends_a_batch_that_may_have_none(s) {
        let mut b = Batcher::new(s, json!({})).await;
        b.hears(&[
            ("A.5.fail.1.0", &[r#"{"type":"ack","seq":0,"msgs":5}"#]),
            ("A.5.fail.3.1", &[r#"{"type":"gap","last_seq":2,"seq":3}"#, r#"{"stream":"S","seq":1,"batch":"A","count":1}"#]),
            ("A.5.fail.4.1", &[UNKNOWN]),
            ("B.5.fail.1.0", &[r#"{"type":"ack","seq":0,"msgs":5}"#]),
            ("B.5.fail.4.4", &[r#"{"type":"gap","last_seq":2,"seq":5}"#, r#"{"stream":"S","seq":2,"batch":"B","count":1}"#]),
            ("B.5.fail.4.4", &[UNKNOWN]),
        ]).await;
        s.stream_shows("S", &[("/messages", 2)]).await;
    }

    async fn a_batch_that_may_have_gaps_tells_of_them_and_goes_on(s) {
        let mut b = Batcher::new(s, json!({})).await;
        b.hears(&[
            ("A.5.ok.1.0", &[r#"{"type":"ack","seq":0,"msgs":5}"#]),
            ("A.5.ok.3.1", &[r#"{"type":"gap","last_seq":2,"seq":3}"#]),
            ("A.5.ok.6.2", &[r#"{"type":"gap","last_seq":4,"seq":6}"#, r#"{"stream":"S","seq":3,"batch":"A","count":6}"#]),
            ("B.5.ok.1.0", &[r#"{"type":"ack","seq":0,"msgs":5}"#]),
            ("B.5.ok.4.4", &[r#"{"type":"gap","last_seq":2,"seq":5}"#, r#"{"type":"ack","seq":0,"msgs":5}"#]),
            ("B.5.ok.2.1", &[r#"{"type":"gap","last_seq":5,"seq":2}"#, r#"{"stream":"S","seq":4,"batch":"B","count":4}"#]),
            ("C.5.ok.1.0", &[r#"{"type":"ack","seq":0,"msgs":5}"#]),
            ("C.5.ok.5.3", &[r#"{"type":"gap","last_seq":2,"seq":5}"#, r#"{"stream":"S","seq":5,"batch":"C","count":4}"#]),
        ]).await;
        s.stream_shows("S", &[("/messages", 5)]).await;
    }

    async fn a_refused_message_ends_its_batch_or_is_a_gap(s) {
        let mut b = Batcher::new(s, json!({})).await;
        let wrong = |last: u64| format!(r#""error":{{"code":400,"err_code":10071,"description":"wrong last sequence: {last}"}}"#);
        let plain = |last| format!(r#"{{{},"stream":"S","seq":0}}"#, wrong(last));
        let within = |seq: u64, last| format!(r#"{{"type":"err","seq":{seq},{}}}"#, wrong(last));
        b.says("A.3.fail.1.0", &[STALE], &[r#"{"type":"ack","seq":0,"msgs":3}"#, &plain(0)]).await;
        b.says("A.3.fail.2.1", &[], &[UNKNOWN]).await;
        b.says("A.3.fail.1.2", &[STALE], &[&plain(0)]).await;
        b.says("B.3.fail.1.0", &[], &[r#"{"type":"ack","seq":0,"msgs":3}"#]).await;
        b.says("B.3.fail.2.1", &[STALE], &[&within(2, 1), r#"{"stream":"S","seq":1,"batch":"B","count":1}"#]).await;
        b.says("C.3.ok.1.0", &[STALE], &[r#"{"type":"ack","seq":0,"msgs":3}"#, &within(1, 1)]).await;
        b.says("C.3.ok.2.1", &[], &[]).await;
        b.says("C.3.ok.3.1", &[STALE], &[&within(3, 2)]).await;
        b.says("C.3.ok.4.1", &[], &[r#"{"type":"ack","seq":3,"msgs":3}"#]).await;
        b.says("C.3.ok.5.2", &[STALE], &[&within(5, 3), r#"{"stream":"S","seq":3,"batch":"C","count":4}"#]).await;
        b.says("D.3.ok.1.2", &[STALE], &[&within(1, 3), r#"{"stream":"S","seq":0,"batch":"D","count":0}"#]).await;
    }

    async fn a_repeated_message_counts_as_stored(s) {
        let mut b = Batcher::new(s, json!({})).await;
        let id = |id| [("Nats-Msg-Id", id)];
        b.says("A.3.fail.1.0", &id("1"), &[r#"{"type":"ack","seq":0,"msgs":3}"#]).await;
        b.says("A.3.fail.2.1", &id("1"), &[]).await;
        b.says("A.3.fail.3.1", &id("2"), &[r#"{"type":"ack","seq":3,"msgs":3}"#]).await;
        b.says("A.3.fail.4.2", &id("1"), &[r#"{"stream":"S","seq":2,"batch":"A","count":4}"#]).await;
    }

    async fn reply_subjects_that_are_none_are_refused(s) {
        let mut b = Batcher::new(s, json!({})).await;
        let invalid = r#"{"error":{"code":400,"err_code":10206,"description":"batch publish pattern is invalid"},"stream":"S","seq":0}"#;
        let id = r#"{"error":{"code":400,"err_code":10207,"description":"batch publish ID is invalid"},"stream":"S","seq":0}"#;
        b.hears(&[
            ("A.3.fail.1.9", &[invalid]),
            ("A.3.bad.1.0", &[invalid]),
            ("A.3.fail.0.0", &[invalid]),
            ("A.3.fail.2.0", &[invalid]),
            ("A.3.fail.1.1", &[invalid]),
            ("A.3.fail.1.3", &[invalid]),
            ("1.fail.1.2", &[invalid]),
            (&format!("{}.3.fail.1.2", "i".repeat(65)), &[id]),
            ("A.3.fail.2.1", &[UNKNOWN]),
            ("A.3.fail.2.2", &[UNKNOWN]),
            ("A.3.ok.2.3", &[UNKNOWN]),
            ("A.3.ok.1.4", &[UNKNOWN]),
            ("A.x.ok.1.0", &[r#"{"type":"ack","seq":0,"msgs":10}"#]),
        ]).await;
    }

    async fn levels_and_other_batches_are_no_matter(s) {
        let mut b = Batcher::new(s, json!({"allow_atomic": true})).await;
        let level = r#"{"error":{"code":412,"err_code":10185,"description":"JetStream minimum api level required"},"stream":"S","seq":0}"#;
        b.says("A.3.fail.1.0", &[("Nats-Required-Api-Level", "9")], &[level]).await;
        b.says("B.3.fail.1.2", &[("Nats-Required-Api-Level", "4")], &[r#"{"stream":"S","seq":1,"batch":"B","count":1}"#]).await;
        let part = [("Nats-Batch-Id", "q"), ("Nats-Batch-Sequence", "1")];
        b.says("C.3.fail.1.2", &part, &[r#"{"stream":"S","seq":2,"batch":"C","count":1}"#]).await;
        assert_eq!(s.stored("S", 1).await.unwrap().headers, [""; 0]);
        assert_eq!(s.stored("S", 2).await.unwrap().header("Nats-Batch-Id"), "q");
    }

    async fn a_stream_that_takes_no_batches_any_more_forgets_them(s) {
        let mut b = Batcher::new(s, json!({})).await;
        b.says("A.3.fail.1.0", &[], &[r#"{"type":"ack","seq":0,"msgs":3}"#]).await;
        let disabled = r#"{"error":{"code":400,"err_code":10205,"description":"batch publish is disabled"},"stream":"S","seq":0}"#;
        let config = json!({"name": "S", "subjects": ["a.*"], "storage": "memory"});
        s.api("STREAM.UPDATE.S", config.clone()).await;
        b.says("A.3.fail.2.1", &[], &[disabled]).await;
        let mut again = config;
        again["allow_batched"] = true.into();
        s.api("STREAM.UPDATE.S", again).await;
        b.says("A.3.fail.2.1", &[], &[UNKNOWN]).await;
    }

    async fn without_acknowledgements_a_batch_that_begins_is_not_told(s) {
        let mut b = Batcher::new(s, json!({"no_ack": true})).await;
        b.hears(&[
            ("A.2.ok.1.0", &[]),
            ("A.2.ok.2.1", &[r#"{"type":"ack","seq":2,"msgs":2}"#]),
            ("A.2.ok.5.1", &[r#"{"type":"gap","last_seq":3,"seq":5}"#, r#"{"type":"ack","seq":4,"msgs":2}"#]),
            ("A.2.ok.6.4", &[r#"{"type":"gap","last_seq":6,"seq":7}"#, r#"{"type":"ack","seq":6,"msgs":2}"#]),
            ("A.2.ok.7.3", &[r#"{"stream":"S","seq":3,"batch":"A","count":6}"#]),
            ("A.2.ok.8.1", &[]),
            ("A.2.bad.1.0", &[]),
            ("B.2.ok.1.2", &[r#"{"stream":"S","seq":4,"batch":"B","count":1}"#]),
        ]).await;
    }
}

mod forgetting {
    use super::{Batcher, HASTY, UNKNOWN, eventually, json, within};
    use futures_util::StreamExt as _;

    on_both_servers! { HASTY;
        async fn a_batch_that_nothing_comes_of_is_forgotten(s) {
            let mut b = Batcher::new(s, json!({})).await;
            b.says("A.3.fail.1.0", &[], &[r#"{"type":"ack","seq":0,"msgs":3}"#]).await;
            let mut n = 0;
            // Another one is granted all that it wants once it is alone.
            eventually("the batch is forgotten", async || {
                n += 1;
                b.send(&format!("{n}.3.fail.1.0"), &[]).await;
                let granted = within("an answer to a start", b.answers.next()).await.unwrap();
                b.send(&format!("{n}.3.fail.2.3"), &[]).await;
                while !within("an end", b.answers.next()).await.unwrap().payload.starts_with(b"{\"stream\"") {}
                (granted.payload == r#"{"type":"ack","seq":0,"msgs":3}"#).then_some(())
            })
            .await;
            b.says("A.3.fail.2.1", &[], &[UNKNOWN]).await;
        }
    }
}
