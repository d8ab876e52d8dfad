//! Streams and consumers of every kind go from nats-server to this server and back, and are the same each time.

use linnet_launch::Spec;
use serde_json::{Value, json};

use crate::harness::{Fixture, JETSTREAM, Kind, program, run};

/// A stream and what is done to it: messages as subject, headers, payload.
type Case = (&'static str, Value, &'static [(&'static str, &'static [(&'static str, &'static str)])]);

const PLAIN: &[(&str, &[(&str, &str)])] = &[("s.a", &[]), ("s.b", &[]), ("s.a", &[]), ("s.c", &[])];

fn cases() -> Vec<Case> {
    let config = |more: Value| {
        let mut config = json!({"name": "S", "subjects": ["s.>"]});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    vec![
        ("plain", config(json!({"description": "d", "metadata": {"k": "v"}})), PLAIN),
        ("memory", config(json!({"storage": "memory"})), PLAIN),
        ("compressed", config(json!({"compression": "s2"})), PLAIN),
        ("first sequence", config(json!({"first_seq": 100})), PLAIN),
        (
            "counter",
            config(json!({"allow_msg_counter": true})),
            &[
                ("s.a", &[("Nats-Incr", "+5")]),
                ("s.a", &[("Nats-Incr", "-2")]),
                ("s.b", &[("Nats-Incr", "+7")]),
            ],
        ),
        (
            "new ones of a subject are refused",
            config(json!({"discard": "new", "discard_new_per_subject": true, "max_msgs_per_subject": 2})),
            PLAIN,
        ),
        (
            "schedules",
            config(json!({"allow_msg_schedules": true, "allow_msg_ttl": true, "allow_direct": true})),
            &[
                ("s.a", &[]),
                (
                    "s.later",
                    &[("Nats-Schedule", "@at 2099-01-01T00:00:00Z"), ("Nats-Schedule-Target", "s.then")],
                ),
            ],
        ),
        (
            "times to live",
            config(json!({"allow_msg_ttl": true, "subject_delete_marker_ttl": 3_600_000_000_000_u64})),
            &[("s.a", &[("Nats-TTL", "1h")]), ("s.b", &[("Nats-TTL", "never")]), ("s.c", &[])],
        ),
        (
            "duplicates",
            config(json!({"duplicate_window": 3_600_000_000_000_u64})),
            &[("s.a", &[("Nats-Msg-Id", "one")]), ("s.a", &[("Nats-Msg-Id", "two")])],
        ),
        (
            "rollups",
            config(json!({"allow_rollup_hdrs": true})),
            &[("s.a", &[]), ("s.b", &[]), ("s.a", &[("Nats-Rollup", "sub")])],
        ),
        ("batches", config(json!({"allow_atomic": true, "allow_batched": true})), PLAIN),
        ("denied", config(json!({"deny_delete": true, "deny_purge": true})), PLAIN),
        (
            "limits",
            config(json!({"max_msgs": 3, "max_bytes": 9000, "max_age": 3_600_000_000_000_u64})),
            PLAIN,
        ),
        ("transform", config(json!({"subject_transform": {"src": "s.>", "dest": "t.>"}})), PLAIN),
        (
            "republish",
            config(json!({"republish": {"src": "s.>", "dest": "r.>", "headers_only": true}})),
            PLAIN,
        ),
        ("sources", config(json!({"sources": [{"name": "NONE", "filter_subject": "x"}]})), PLAIN),
        ("mirror", json!({"name": "S", "mirror": {"name": "NONE", "opt_start_seq": 5}}), &[]),
        ("work queue", config(json!({"retention": "workqueue"})), PLAIN),
        ("interest", config(json!({"retention": "interest"})), PLAIN),
        ("consumer limits", config(json!({"consumer_limits": {"max_ack_pending": 2000}})), PLAIN),
    ]
}

fn consumers(retention: &Value) -> Vec<Value> {
    let minute = 60_000_000_000_u64;
    if retention == "workqueue" {
        return vec![json!({"durable_name": "W", "ack_policy": "explicit"})];
    }
    let mut all = vec![json!({"durable_name": "W", "ack_policy": "explicit", "ack_wait": 60 * minute})];
    if retention == "interest" {
        return all;
    }
    all.extend([
        json!({"durable_name": "none", "ack_policy": "none"}),
        json!({"durable_name": "all", "ack_policy": "all", "filter_subjects": ["s.a", "s.b"]}),
        json!({"durable_name": "push", "ack_policy": "explicit", "deliver_subject": "p", "flow_control": true, "idle_heartbeat": 5_000_000_000_u64}),
        json!({"durable_name": "group", "ack_policy": "explicit", "deliver_subject": "p2", "deliver_group": "g", "rate_limit_bps": 100_000}),
        json!({"durable_name": "pinned", "ack_policy": "explicit", "priority_groups": ["a"], "priority_policy": "pinned_client", "priority_timeout": minute}),
        json!({"durable_name": "overflow", "ack_policy": "explicit", "priority_groups": ["b"], "priority_policy": "overflow"}),
        json!({"durable_name": "paused", "ack_policy": "explicit", "pause_until": "2099-01-01T00:00:00Z"}),
        json!({"durable_name": "backoff", "ack_policy": "explicit", "max_deliver": 3, "backoff": [minute, 2 * minute]}),
        json!({"durable_name": "late", "ack_policy": "explicit", "deliver_policy": "by_start_sequence", "opt_start_seq": 2, "replay_policy": "original"}),
        json!({"durable_name": "last", "ack_policy": "explicit", "deliver_policy": "last_per_subject", "filter_subject": "s.>", "headers_only": true, "sample_freq": "50%"}),
        json!({"durable_name": "bounded", "ack_policy": "explicit", "max_waiting": 5, "max_batch": 7, "max_expires": minute, "max_bytes": 1000, "max_ack_pending": 9, "inactive_threshold": 60 * minute, "metadata": {"m": "n"}, "mem_storage": true}),
    ]);
    all
}

/// Without what every server adds of its own.
fn plain(mut config: Value) -> Value {
    if let Some(metadata) = config["metadata"].as_object_mut() {
        metadata.retain(|key, _| !key.starts_with("_nats."));
    }
    config
}

impl Fixture {
    async fn make(&mut self, (name, config, messages): &Case) {
        self.stream(config.clone()).await;
        let consumers = consumers(&config["retention"]);
        self.consumer("S", consumers[0].clone()).await;
        for (n, (subject, headers)) in messages.iter().enumerate() {
            let is_counter = config.get("allow_msg_counter").is_some();
            let body = if is_counter { String::new() } else { format!("{name} {n}") };
            let answer = self.publish_with(subject, headers, &body).await;
            let may_refuse = config.get("discard_new_per_subject").is_some();
            assert!(answer["error"].is_null() || may_refuse, "{name} {n}: {answer}");
        }
        for consumer in &consumers[1..] {
            self.consumer("S", consumer.clone()).await;
        }
        // What a consumer of last messages had to deliver is not in a backup.
        let may_delete = ["deny_delete", "allow_msg_counter"].iter().all(|key| config.get(*key).is_none());
        if messages.len() > 2 && may_delete {
            self.api("STREAM.MSG.DELETE.S", json!({"seq": 2})).await;
        }
        let pulled = self.pull("S", "W", json!({"batch": 3, "no_wait": true})).await;
        if let Some(first) = pulled.messages.first() {
            self.ack(first, "+ACK").await;
        }
        if let Some(last) = pulled.messages.get(1) {
            self.ack(last, "-NAK").await;
            self.pull("S", "W", json!({"batch": 1, "expires": 1_000_000_000})).await;
        }
        if *name == "plain" {
            self.api("STREAM.UPDATE.S", json!({"name": "S", "subjects": ["s.>"], "sealed": true})).await;
        }
    }

    /// All that the API tells of the stream.
    async fn everything(&mut self) -> Value {
        let info = self.api("STREAM.INFO.S", json!({"deleted_details": true})).await;
        let mut messages = Vec::new();
        // Where an empty stream begins is said in more than one way.
        let is_empty = info["state"]["messages"] == 0;
        let state = if is_empty { info["state"]["last_seq"].clone() } else { info["state"].clone() };
        let first = if is_empty { u64::MAX } else { info["state"]["first_seq"].as_u64().unwrap() };
        for seq in first..=info["state"]["last_seq"].as_u64().unwrap() {
            let answer = self.api("STREAM.MSG.GET.S", json!({"seq": seq})).await;
            messages.push(answer["message"].clone());
        }
        let mut consumers = Vec::new();
        for name in self.api("CONSUMER.NAMES.S", Value::Null).await["consumers"].as_array().unwrap() {
            let info = self.consumer_info("S", name.as_str().unwrap()).await;
            let counts =
                ["num_ack_pending", "num_redelivered", "num_pending", "paused"].map(|key| info[key].clone());
            // Where one stands that has delivered nothing depends on what is left when it is asked.
            let at = ["delivered", "ack_floor"].map(|at| match info[at]["consumer_seq"].as_u64() {
                Some(0) => Value::Null,
                seq => json!([seq, info[at]["stream_seq"]]),
            });
            consumers.push(json!([name, plain(info["config"].clone()), counts, at]));
        }
        consumers.sort_by_key(|consumer| consumer[0].to_string());
        json!({
            "config": plain(info["config"].clone()), "state": state, "messages": messages,
            "consumers": consumers,
        })
    }
}

/// What is not the same, with its place.
fn differences(place: &str, left: &Value, right: &Value) -> Vec<String> {
    match (left, right) {
        (Value::Object(l), Value::Object(r)) => {
            let keys: std::collections::BTreeSet<_> = l.keys().chain(r.keys()).collect();
            keys.iter()
                .flat_map(|key| differences(&format!("{place}.{key}"), &left[key], &right[key]))
                .collect()
        }
        (Value::Array(l), Value::Array(r)) if l.len() == r.len() => {
            l.iter().zip(r).flat_map(|(l, r)| differences(&format!("{place} {}", r[0]), l, r)).collect()
        }
        _ if left == right => Vec::new(),
        _ => vec![format!("{place}: {left} instead of {right}")],
    }
}

#[test]
fn every_kind_of_stream_and_consumer_goes_there_and_back() {
    let (Some(peer), Some(linnet)) = (program(Kind::Peer), program(Kind::Linnet)) else { return };
    run(async move || {
        let mut wrong = Vec::new();
        for case in cases() {
            let name = case.0;
            let mut peer = Fixture::start(Kind::Peer, Spec::new(&peer).options(JETSTREAM()));
            let mut linnet = Fixture::start(Kind::Linnet, Spec::new(&linnet).options(JETSTREAM()));
            peer.make(&case).await;
            let made = peer.everything().await;
            let backup = peer.back_up("S", 32 << 10).await;
            let answer = linnet.restore(&backup).await;
            assert_eq!(answer["error"], Value::Null, "{name}: {answer}");
            wrong.extend(differences(&format!("{name}, there"), &linnet.everything().await, &made));
            let backup = linnet.back_up("S", 32 << 10).await;
            peer.api("STREAM.DELETE.S", Value::Null).await;
            let answer = peer.restore(&backup).await;
            assert_eq!(answer["error"], Value::Null, "{name}: {answer}");
            wrong.extend(differences(&format!("{name}, back"), &peer.everything().await, &made));
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}
