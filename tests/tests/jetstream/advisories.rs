//! What the server tells of streams and consumers.

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::harness::{Fixture, JETSTREAM, round_trip, within};

impl Fixture {
    /// Listens to advisories.
    async fn told(&mut self, subject: &str) -> async_nats::Subscriber {
        let client = self.client().await;
        let told = client.subscribe(format!("$JS.EVENT.ADVISORY.{subject}")).await.unwrap();
        round_trip(&client).await;
        told
    }
}

/// The next advisory: its subject behind the prefix, and its content.
async fn next(told: &mut async_nats::Subscriber) -> (String, Value) {
    let advisory = within("an advisory", told.next()).await.unwrap();
    let content: Value = serde_json::from_slice(&advisory.payload).unwrap();
    assert!(content["id"].is_string() && content["timestamp"].is_string(), "{content}");
    (advisory.subject.strip_prefix("$JS.EVENT.ADVISORY.").unwrap().to_owned(), content)
}

/// What an advisory says, by the last part of its type and these fields.
fn says(content: &Value, kind: &str, fields: Value) {
    assert_eq!(content["type"], format!("io.nats.jetstream.advisory.v1.{kind}"), "{content}");
    for (field, value) in fields.as_object().unwrap() {
        assert_eq!(&content[field], value, "{field} in {content}");
    }
}

/// The next advisory is about this consumer of `S`.
async fn consumer_told(told: &mut async_nats::Subscriber, verb: &str, name: &str, action: &str) {
    let (subject, content) = next(told).await;
    assert_eq!(subject, format!("CONSUMER.{verb}.S.{name}"));
    says(&content, "consumer_action", json!({"stream": "S", "consumer": name, "action": action}));
}

on_both_servers! { JETSTREAM;
    async fn streams_come_change_and_go(s) {
        let mut told = s.told("STREAM.>").await;
        let config = json!({"name": "S", "subjects": ["a"]});
        let mut changed = config.clone();
        changed["description"] = json!("d");
        // One after the other: the order of advisories of calls in a hurry is nobody's promise.
        for (call, body, verb, action) in [
            ("CREATE", config, "CREATED", "create"),
            ("UPDATE", changed, "UPDATED", "modify"),
            ("DELETE", Value::Null, "DELETED", "delete"),
        ] {
            let answer = s.api(&format!("STREAM.{call}.S"), body).await;
            assert_eq!(answer["error"], Value::Null, "{answer}");
            let (subject, content) = next(&mut told).await;
            assert_eq!(subject, format!("STREAM.{verb}.S"));
            says(&content, "stream_action", json!({"stream": "S", "action": action}));
        }
    }

    async fn consumers_come_and_go_and_change_in_silence(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        let mut told = s.told("CONSUMER.>").await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
        consumer_told(&mut told, "CREATED", "C", "create").await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit", "description": "d"})).await;
        s.api("CONSUMER.DELETE.S.C", Value::Null).await;
        consumer_told(&mut told, "DELETED", "C", "delete").await;
        s.consumer("S", json!({"durable_name": "D"})).await;
        consumer_told(&mut told, "CREATED", "D", "create").await;
        s.api("STREAM.DELETE.S", Value::Null).await;
        consumer_told(&mut told, "DELETED", "D", "delete").await;
    }

    async fn refused_given_up_and_removed_messages_are_told_of(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
        for body in ["1", "2", "3"] {
            s.publish("a", body).await;
        }
        let mut told = s.told("CONSUMER.>").await;
        let pulled = s.pull("S", "C", json!({"batch": 3})).await;
        s.ack(&pulled.messages[0], "-NAK").await;
        let place = |seq: u64| json!({"stream": "S", "consumer": "C", "stream_seq": seq, "consumer_seq": seq, "deliveries": 1});
        let (subject, content) = next(&mut told).await;
        assert_eq!(subject, "CONSUMER.MSG_NAKED.S.C");
        says(&content, "nak", place(1));
        s.ack(&pulled.messages[1], "+TERM  in vain ").await;
        let (subject, content) = next(&mut told).await;
        assert_eq!(subject, "CONSUMER.MSG_TERMINATED.S.C");
        says(&content, "terminated", place(2));
        assert_eq!(content["reason"], "in vain");
        s.api("STREAM.MSG.DELETE.S", json!({"seq": 3})).await;
        let (subject, content) = next(&mut told).await;
        assert_eq!(subject, "CONSUMER.MSG_TERMINATED.S.C");
        says(&content, "terminated", place(3));
        assert_eq!(content["reason"], "Unacknowledged message was deleted");
    }

    async fn calls_are_told_of_but_for_reading(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.publish("a", "x").await;
        let mut told = s.told("API").await;
        s.api("STREAM.MSG.GET.S", json!({"seq": 1})).await;
        s.api("STREAM.NAMES", json!({"subject": "a"})).await;
        s.api("STREAM.INFO.NO", Value::Null).await;
        let (_, content) = next(&mut told).await;
        says(&content, "api_audit", json!({"subject": "$JS.API.STREAM.NAMES", "request": "{\"subject\":\"a\"}"}));
        assert_eq!(content["client"]["acc"], "$G", "{content}");
        assert!(content["client"]["rtt"].as_u64().is_some_and(|nanos| nanos > 0), "{content}");
        let response: Value = serde_json::from_str(content["response"].as_str().unwrap()).unwrap();
        assert_eq!(response["streams"], json!(["S"]));
        let (_, content) = next(&mut told).await;
        says(&content, "api_audit", json!({"subject": "$JS.API.STREAM.INFO.NO"}));
    }

    async fn backups_are_told_of(s) {
        s.stream(json!({"name": "S", "subjects": ["a"]})).await;
        s.publish("a", "x").await;
        let mut told = s.told("STREAM.>").await;
        let backup = s.back_up("S", 1 << 16).await;
        let (subject, content) = next(&mut told).await;
        assert_eq!(subject, "STREAM.SNAPSHOT_CREATE.S");
        says(&content, "snapshot_create", json!({"stream": "S"}));
        assert_eq!(content["state"]["messages"], 1, "{content}");
        let (subject, content) = next(&mut told).await;
        assert_eq!(subject, "STREAM.SNAPSHOT_COMPLETE.S");
        says(&content, "snapshot_complete", json!({"stream": "S", "error": null}));
        assert!(content["start"].is_string() && content["end"].is_string(), "{content}");
        s.api("STREAM.DELETE.S", Value::Null).await;
        s.restore(&backup).await;
        let mut came = Vec::new();
        while came.len() < 3 {
            let (subject, content) = next(&mut told).await;
            if subject == "STREAM.RESTORE_COMPLETE.S" {
                says(&content, "restore_complete", json!({"stream": "S"}));
                assert!(content["bytes"].as_u64().unwrap() > 0, "{content}");
            }
            came.push(subject);
        }
        // Whether the stream is told of before or after the restore is nobody's promise.
        for subject in ["STREAM.DELETED.S", "STREAM.RESTORE_CREATE.S"] {
            assert!(came.iter().any(|told| told == subject), "{subject} in {came:?}");
        }
    }
}
