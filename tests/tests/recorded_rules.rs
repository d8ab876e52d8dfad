//! The recorded tables of `crates/jsapi/testdata`, row by row against both servers: what every field of a stream and of a
//! consumer is by default, how it is bounded, and what an update may change. The rules themselves are tested with the
//! same tables where they are written; here it shows that the tables are true and that the API keeps to them.

use serde_json::{Value, json};

use crate::harness::{Fixture, JETSTREAM, err_code, eventually};

const STREAMS: &str = include_str!("../../crates/jsapi/testdata/stream_rules.txt");
const CONSUMERS: &str = include_str!("../../crates/jsapi/testdata/consumer_rules.txt");

/// The tab-separated fields of each line that is no comment, with `@x<n>@` expanded to n times `x`.
fn rows(table: &str) -> Vec<Vec<String>> {
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split('\t').map(expand).collect()).collect()
}

fn expand(field: &str) -> String {
    let mut out = String::new();
    for (at, part) in field.split('@').enumerate() {
        match part.strip_prefix('x').and_then(|n| n.parse().ok()) {
            Some(n) if at % 2 == 1 => out.push_str(&"x".repeat(n)),
            _ => out.push_str(part),
        }
    }
    out
}

/// The configuration of an answer without what only answers have, or its error.
fn outcome(answer: &Value) -> Result<Value, (u64, String)> {
    if answer["error"] != Value::Null {
        let text = answer["error"]["description"].as_str().unwrap_or_default();
        return Err((err_code(answer), text.to_owned()));
    }
    let mut config = answer["config"].clone();
    if let Some(metadata) = config.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("_nats.ver");
        metadata.remove("_nats.level");
    }
    Ok(config)
}

fn expected(code: &str, text: &str) -> Result<Value, (u64, String)> {
    match code {
        "ok" => Ok(serde_json::from_str(text).unwrap()),
        code => Err((code.parse().unwrap(), text.to_owned())),
    }
}

impl Fixture {
    /// The answer to a call. The peer removes files of a deleted stream after it has answered, and says 10049 to one of
    /// the same name until it has.
    async fn sent(&mut self, subject: &str, body: &str) -> Value {
        eventually("the peer has tidied up", async || {
            let answer = self.request(&format!("$JS.API.{subject}"), body.to_owned()).await;
            (err_code(&answer) != 10049).then_some(answer)
        })
        .await
    }

    async fn stream_row(&mut self, row: &[String]) {
        let (verb, name) = row[0].split_once(' ').unwrap();
        let (body, told) = match verb {
            "create" => (&row[1], &row[2..]),
            _ => {
                let created = self.sent("STREAM.CREATE.Z", &row[1]).await;
                assert_eq!(created["error"], Value::Null, "{row:?}");
                (&row[2], &row[3..])
            }
        };
        let answer = self.sent(&format!("STREAM.{}.{name}", verb.to_uppercase()), body).await;
        assert_eq!(outcome(&answer), expected(&told[0], &told[1]), "{row:?}");
        for name in [name, "Z"].into_iter().filter(|name| *name != "OTHER") {
            self.api(&format!("STREAM.DELETE.{name}"), Value::Null).await;
        }
    }

    async fn consumer_row(&mut self, row: &[String]) {
        let stream = &row[1];
        for config in serde_json::from_str::<Vec<Value>>(&row[2]).unwrap() {
            let subject = format!("CONSUMER.CREATE.{stream}.{}", config["name"].as_str().unwrap());
            let created = self.api(&subject, json!({"stream_name": stream, "config": config})).await;
            assert_eq!(created["error"], Value::Null, "{row:?}");
        }
        let answer = self.sent(&format!("CONSUMER.{}", row[0]), &row[3]).await;
        let (mut outcome, expected) = (outcome(&answer), expected(&row[4], &row[5]));
        if let (Ok(config), Ok(expected)) = (&mut outcome, &expected) {
            // A name that the server made up.
            if expected["name"] == Value::Null {
                config.as_object_mut().unwrap().remove("name");
            }
        }
        assert_eq!(outcome, expected, "{row:?}");
        let names = self.api(&format!("CONSUMER.NAMES.{stream}"), Value::Null).await;
        for name in names["consumers"].as_array().unwrap() {
            let name = name.as_str().unwrap();
            self.api(&format!("CONSUMER.DELETE.{stream}.{name}"), Value::Null).await;
        }
    }
}

on_both_servers! { JETSTREAM;
    async fn streams_are_configured_as_recorded(s) {
        s.stream(json!({"name": "OTHER", "subjects": ["other.>", "o.*.x"]})).await;
        for row in rows(STREAMS) {
            s.stream_row(&row).await;
        }
    }

    async fn consumers_are_configured_as_recorded(s) {
        let second = 1_000_000_000_i64;
        s.stream(json!({"name": "S", "subjects": ["s.>"]})).await;
        s.stream(json!({"name": "W", "subjects": ["w.>"], "retention": "workqueue"})).await;
        s.stream(json!({"name": "I", "subjects": ["i.>"], "retention": "interest"})).await;
        s.stream(json!({"name": "MC", "subjects": ["mc.>"], "max_consumers": 1})).await;
        let limits = json!({"inactive_threshold": 10 * second, "max_ack_pending": 20});
        s.stream(json!({"name": "LIM", "subjects": ["lim.>"], "consumer_limits": limits})).await;
        for row in rows(CONSUMERS) {
            s.consumer_row(&row).await;
        }
    }

    async fn direct_consumers_are_not_durable(s) {
        s.stream(json!({"name": "S", "subjects": ["s"]})).await;
        let refused = s.try_consumer("S", json!({"durable_name": "C", "direct": true})).await;
        assert_eq!(err_code(&refused), 10090);
        let push = json!({"durable_name": "C", "direct": true, "deliver_subject": "d"});
        assert_eq!(err_code(&s.try_consumer("S", push).await), 10091);
    }
}
