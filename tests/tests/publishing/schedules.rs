//! Messages that tell when others are to be published.

use linnet_env::{Clock as _, RealClock};
use linnet_ids::Wall;
use linnet_launch::{JetStream, Options, Spec};
use serde_json::{Value, json};

use crate::harness::{Fixture, JETSTREAM, Kind, LONG, Stored, err_code, eventually, program, run};

const FAR: &str = "@at 2099-01-01T00:00:00Z";
const TARGET: (&str, &str) = ("Nats-Schedule-Target", "t.a");

/// A schedule for so many milliseconds from now, or before.
fn at(millis: i64) -> String {
    format!("@at {}", Wall(RealClock::new().wall().0 + millis * 1_000_000).rfc3339())
}

fn time(text: &str) -> Wall {
    Wall::parse_rfc3339(text).unwrap()
}

impl Fixture {
    async fn scheduling(&mut self, more: Value) {
        let mut config = json!({"name": "S", "subjects": ["s.*", "t.*"], "allow_msg_schedules": true});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.stream(config).await;
    }

    /// Publishes a schedule with the usual target; the code of the error, 0 for none.
    async fn schedule(&mut self, subject: &str, pattern: &str, more: &[(&str, &str)]) -> u64 {
        let headers = [&[("Nats-Schedule", pattern), TARGET], more].concat();
        err_code(&self.publish_with(subject, &headers, "own").await)
    }

    /// Publishes with headers; the code of the error, 0 for none.
    async fn code(&mut self, subject: &str, headers: &[(&str, &str)]) -> u64 {
        err_code(&self.publish_with(subject, headers, "x").await)
    }

    /// Waits for the message.
    async fn arrives(&mut self, seq: u64) -> Stored {
        eventually("a scheduled message", async || self.stored("S", seq).await).await
    }
}

on_both_servers! { JETSTREAM;
    async fn a_schedule_is_a_message_that_replaces_what_is_on_its_subject(s) {
        s.scheduling(json!({})).await;
        s.publish("s.a", "plain").await;
        assert_eq!(s.schedule("s.a", FAR, &[]).await, 0);
        assert_eq!(s.schedule("s.a", FAR, &[("Nats-Rollup", "sub")]).await, 0);
        s.counts(1, 3).await;
        assert_eq!(s.schedule("s.a", "@hourly", &[]).await, 0);
        s.counts(1, 4).await;
        let kept = s.stored("S", 4).await.unwrap();
        assert_eq!((kept.header("Nats-Schedule"), kept.header("Nats-Rollup")), ("@hourly", "sub"));
        let config = s.api("STREAM.INFO.S", Value::Null).await["config"].clone();
        assert_eq!(config["allow_rollup_hdrs"], true);
        assert_eq!(config["metadata"]["_nats.req.level"], "2");
    }

    async fn what_is_due_is_published_once_and_the_schedule_goes(s) {
        s.scheduling(json!({"allow_msg_ttl": true})).await;
        let more = [
            ("A", "b"),
            ("Nats-Msg-Id", "id"),
            ("Nats-Expected-Stream", "S"),
            ("Nats-TTL", "50"),
            ("Nats-Schedule-TTL", "5s"),
            ("Nats-Schedule-Rollup", "sub"),
        ];
        let due = at(700);
        assert_eq!(s.schedule("s.soon", &due, &more).await, 0);
        assert_eq!(s.schedule("s.past", &at(-5000), &[]).await, 0);
        let past = s.arrives(3).await;
        assert_eq!((past.subject.as_str(), past.body.as_str()), ("t.a", "own"));
        assert_eq!(past.headers, ["Nats-Scheduler: s.past", "Nats-Schedule-Next: purge"]);
        let fired = s.arrives(4).await;
        let expected =
            ["A: b", "Nats-Scheduler: s.soon", "Nats-Schedule-Next: purge", "Nats-TTL: 5s", "Nats-Rollup: sub"];
        assert_eq!(fired.headers, expected);
        assert!(time(&fired.time) >= time(due.trim_start_matches("@at ")));
        s.counts(1, 4).await;
    }

    async fn intervals_and_clocks_tell_when_they_are_due_next(s) {
        s.scheduling(json!({})).await;
        assert_eq!(s.schedule("s.every", "@every 1.5s", &[]).await, 0);
        let first = s.arrives(2).await;
        let next = first.header("Nats-Schedule-Next").to_owned();
        assert!(next.ends_with(".5Z"), "{next}");
        let second = s.arrives(3).await;
        assert!(time(&second.time) >= time(&next));
        s.api("STREAM.PURGE.S", Value::Null).await;
        assert_eq!(s.schedule("s.clock", "* * * * * *", &[("Nats-Schedule-Time-Zone", "Asia/Tokyo")]).await, 0);
        let first = s.arrives(5).await;
        let next = first.header("Nats-Schedule-Next").to_owned();
        assert!(next.ends_with("+09:00"), "{next}");
        assert_eq!(time(&next).0 % 1_000_000_000, 0);
        assert!(time(&s.arrives(6).await.time) >= time(&next));
        assert!(s.stored("S", 4).await.is_some());
    }

    async fn a_source_lends_its_newest_message(s) {
        s.scheduling(json!({})).await;
        let source = [("Nats-Schedule-Source", "t.source"), ("X", "own")];
        assert_eq!(s.schedule("s.none", &at(0), &source).await, 0);
        let own = s.arrives(2).await;
        assert_eq!((own.header("X"), own.body.as_str()), ("own", "own"));
        s.publish_with("t.source", &[("Y", "lent"), ("Nats-Msg-Id", "q")], "lent").await;
        assert_eq!(s.schedule("s.lent", &at(0), &source).await, 0);
        let lent = s.arrives(5).await;
        assert_eq!(lent.headers, ["Y: lent", "Nats-Scheduler: s.lent", "Nats-Schedule-Next: purge"]);
        assert_eq!(lent.body, "lent");
    }

    async fn schedules_are_refused_for_what_is_wrong_first(s) {
        s.scheduling(json!({"allow_msg_ttl": true})).await;
        for (pattern, more, code) in [
            ("x", &[("Nats-Schedule-Time-Zone", "Nope")] as &[_], 10223),
            ("@daily", &[("Nats-Schedule-Time-Zone", "europe/berlin")], 10223),
            ("@daily", &[("Nats-Schedule-Time-Zone", "")], 10223),
            ("@every 5s", &[("Nats-Schedule-Time-Zone", "UTC")], 10189),
            ("x", &[("Nats-Schedule-TTL", "x")], 10189),
            ("0 0 0 31 2 *", &[], 10189),
            ("* * * * *", &[], 10189),
            ("@every 999ms", &[], 10189),
            ("@at 2099-01-01 00:00:00Z", &[], 10189),
            ("@at 2099-01-01t00:00:00Z", &[], 10189),
            ("@at 2099-01-01T00:00:00z", &[], 10189),
            ("@at 2099-01-01T1:00:00Z", &[], 0),
            (FAR, &[("Nats-Schedule-TTL", "500ms"), ("Nats-Schedule-Rollup", "all")], 10191),
            (FAR, &[("Nats-Schedule-Rollup", "all"), ("Nats-Schedule-Source", "x.y")], 10192),
            (FAR, &[("Nats-Schedule-Source", "x.y"), ("Nats-Rollup", "all")], 10203),
            (FAR, &[("Nats-Schedule-Rollup", "SUB")], 10192),
            (FAR, &[("Nats-Rollup", "SUB")], 0),
            (FAR, &[("Nats-Schedule-Source", "s.a")], 10203),
            (FAR, &[("Nats-Schedule-Source", "t.a")], 10203),
            (FAR, &[("Nats-Schedule-Source", "t.*")], 10203),
            (FAR, &[("Nats-Rollup", "all")], 10192),
            (FAR, &[("Nats-Rollup", "foo")], 10192),
            (FAR, &[("Nats-TTL", "x")], 10165),
            ("x", &[("Nats-Expected-Last-Subject-Sequence", "99")], 10071),
            (FAR, &[("Nats-Schedule-Source", "")], 0),
            ("", &[], 0),
        ] {
            assert_eq!(s.schedule("s.a", pattern, more).await, code, "{pattern} {more:?}");
        }
        for target in ["", "x.y", "t.*", "s.a", "t..b"] {
            let headers = [("Nats-Schedule", FAR), ("Nats-Schedule-Target", target)];
            assert_eq!(s.code("s.a", &headers).await, 10190, "{target}");
        }
        let sources = [("Nats-Schedule", FAR), ("Nats-Schedule-Target", "x.y"), ("Nats-Schedule-Source", "x.y")];
        assert_eq!(s.code("s.a", &sources).await, 10203);
        let sources = [("Nats-Schedule", FAR), ("Nats-Schedule-Target", "x.y"), ("Nats-Schedule-Source", "x.z")];
        assert_eq!(s.code("s.a", &sources).await, 10190);
    }

    async fn a_stream_without_schedules_takes_none(s) {
        s.stream(json!({"name": "S", "subjects": ["s.*", "t.*"]})).await;
        assert_eq!(s.schedule("s.a", "x", &[("Nats-Schedule-Time-Zone", "Nope")]).await, 10188);
        assert_eq!(s.code("t.b", &[("Nats-Scheduler", "s.a"), ("Nats-Schedule-Next", "purge")]).await, 10188);
        assert_eq!(s.code("t.b", &[("Nats-Scheduler", "s.a")]).await, 10212);
        assert_eq!(s.code("s.a", &[("Nats-Schedule-Target", "x")]).await, 0);
        s.api("STREAM.UPDATE.S", json!({"name": "S", "subjects": ["s.*", "t.*"], "allow_msg_schedules": true})).await;
        assert_eq!(s.schedule("s.a", FAR, &[("Nats-Schedule-TTL", "5s")]).await, 10166);
        assert_eq!(s.schedule("s.a", &at(0), &[]).await, 0);
        assert_eq!(s.arrives(3).await.header("Nats-Scheduler"), "s.a");
    }

    async fn clients_may_say_that_a_schedule_is_over_and_nothing_else(s) {
        s.scheduling(json!({})).await;
        assert_eq!(s.schedule("s.a", FAR, &[]).await, 0);
        s.publish("s.plain", "x").await;
        let end = ("Nats-Schedule-Next", "purge");
        for headers in [
            &[("Nats-Scheduler", "s.a")] as &[_],
            &[end],
            &[("Nats-Scheduler", "s.a"), ("Nats-Schedule-Next", "2099-01-01T00:00:00Z")],
            &[("Nats-Scheduler", "s.*"), end],
            &[("Nats-Scheduler", "t.b"), end],
            &[("Nats-Scheduler", "s.plain"), end],
        ] {
            assert_eq!(s.code("t.b", headers).await, 10212, "{headers:?}");
        }
        assert_eq!(s.code("t.b", &[("Nats-Scheduler", "s.none"), end]).await, 0);
        s.counts(3, 3).await;
        assert_eq!(s.code("t.b", &[("Nats-Scheduler", "s.a"), end, ("Y", "z")]).await, 0);
        s.counts(3, 4).await;
        assert!(s.stored("S", 1).await.is_none());
        assert_eq!(s.stored("S", 4).await.unwrap().header("Y"), "z");
    }

    async fn what_ends_a_schedule_in_time_keeps_it_from_publishing(s) {
        s.scheduling(json!({})).await;
        for subject in ["s.plain", "s.purged", "s.deleted", "s.ended"] {
            assert_eq!(s.schedule(subject, &at(1200), &[]).await, 0);
        }
        s.publish("s.plain", "later").await;
        s.api("STREAM.PURGE.S", json!({"filter": "s.purged"})).await;
        s.api("STREAM.MSG.DELETE.S", json!({"seq": 3})).await;
        s.publish_with("t.b", &[("Nats-Scheduler", "s.ended"), ("Nats-Schedule-Next", "purge")], "x").await;
        // One that is due later shows that the others had their time.
        assert_eq!(s.schedule("s.last", &at(1600), &[]).await, 0);
        assert_eq!(s.arrives(8).await.header("Nats-Scheduler"), "s.last");
        s.counts(4, 8).await;
    }

    async fn schedules_may_stand_in_a_batch_one_on_each_subject(s) {
        s.scheduling(json!({"allow_atomic": true})).await;
        let part = |id: &'static str, seq| [("Nats-Batch-Id", id), ("Nats-Batch-Sequence", seq)];
        let commit = ("Nats-Batch-Commit", "1");
        let schedule = [("Nats-Schedule", FAR), TARGET];
        let client = s.client().await;
        for (id, subject, code) in [("twice", "s.a", 10111), ("two", "s.b", 0)] {
            let mut headers = async_nats::HeaderMap::new();
            for (key, value) in part(id, "1").iter().chain(&schedule) {
                headers.append(*key, *value);
            }
            client.publish_with_headers("s.a", headers, "x".into()).await.unwrap();
            let last = [&part(id, "2") as &[_], &schedule, &[commit]].concat();
            assert_eq!(s.code(subject, &last).await, code, "{id}");
        }
        s.counts(2, 2).await;
    }

    async fn streams_that_schedule_may_not_do_everything(s) {
        for (more, code) in [
            (json!({"discard": "new"}), 10052),
            (json!({"sources": [{"name": "O"}]}), 10187),
            (json!({"mirror": {"name": "O"}}), 10186),
            (json!({"allow_msg_counter": true}), 10052),
        ] {
            let mut config = json!({"name": "S", "allow_msg_schedules": true});
            config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            assert_eq!(s.refused_stream(config).await.0, code, "{more}");
        }
        s.scheduling(json!({})).await;
        let answer = s.api("STREAM.UPDATE.S", json!({"name": "S", "subjects": ["s.*", "t.*"]})).await;
        assert_eq!(answer["error"]["description"], "message schedules can not be disabled");
    }
}

/// A schedule that was due while the server was down is made up for once, and nothing is published twice.
async fn restart_between(kind: Kind, is_killed: bool) {
    let Some(program) = program(kind) else { return };
    let options = Options {
        port: Some(linnet_launch::free_port().unwrap()),
        jetstream: Some(JetStream::default()),
        ..JETSTREAM()
    };
    let mut s = Fixture::start(kind, Spec::new(program).options(options));
    s.scheduling(json!({"subjects": ["s.*", "t.*"]})).await;
    assert_eq!(s.schedule("s.once", &at(0), &[]).await, 0);
    s.arrives(2).await;
    assert_eq!(s.schedule("s.again", "@every 1s", &[]).await, 0);
    assert_eq!(s.schedule("s.daily", "@daily", &[]).await, 0);
    let before = s.arrives(5).await;
    if is_killed {
        s.server.kill().unwrap();
    } else {
        s.server.terminate(LONG).unwrap();
    }
    let next = time(before.header("Nats-Schedule-Next"));
    eventually("the next time is over", async || {
        (time(at(-100).trim_start_matches("@at ")) > next).then_some(())
    })
    .await;
    s.server.restart().unwrap();
    s.forget_client();
    let after = [s.arrives(6).await, s.arrives(7).await];
    assert!(after.iter().all(|fired| fired.header("Nats-Scheduler") == "s.again"), "{after:?}");
    assert!(time(&after[1].time) >= time(after[0].header("Nats-Schedule-Next")), "{after:?}");
    assert!(s.stored("S", 1).await.is_none());
}

#[test]
fn schedules_go_on_after_a_restart_of_linnet() {
    run(async || restart_between(Kind::Linnet, false).await);
    run(async || restart_between(Kind::Linnet, true).await);
}

#[test]
fn schedules_go_on_after_a_restart_of_the_peer() {
    run(async || restart_between(Kind::Peer, false).await);
}
