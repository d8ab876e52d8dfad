//! What is told of calls to the JetStream API, against both servers.

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::harness::{Fixture, JETSTREAM, within};

const AUDITS: &str = "$JS.EVENT.ADVISORY.API";

impl Fixture {
    async fn audits(&self) -> async_nats::Subscriber {
        let listener = self.connect().await;
        let audits = listener.subscribe(AUDITS).await.unwrap();
        listener.flush().await.unwrap();
        audits
    }
}

async fn next(audits: &mut async_nats::Subscriber) -> Value {
    let message = within("an audit", audits.next()).await.unwrap();
    serde_json::from_slice(&message.payload).unwrap()
}

on_both_servers! { JETSTREAM;
    async fn a_call_is_told_with_its_answer(s) {
        let mut audits = s.audits().await;
        let config = json!({"name": "S", "subjects": ["s"]});
        let answer = s.api("STREAM.CREATE.S", config.clone()).await;
        let audit = next(&mut audits).await;
        assert_eq!(audit["type"], "io.nats.jetstream.advisory.v1.api_audit");
        assert_eq!(audit["subject"], "$JS.API.STREAM.CREATE.S");
        let text = |key: &str| audit[key].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Value>(text("request")).unwrap(), config);
        assert_eq!(serde_json::from_str::<Value>(text("response")).unwrap(), answer);
        assert!(!text("id").is_empty() && !text("timestamp").is_empty());
        let client = &audit["client"];
        assert_eq!(client["acc"], "$G");
        assert_eq!(client["host"], "127.0.0.1");
        assert_eq!(client["kind"], "Client");
        assert_eq!(client["client_type"], "nats");
        assert_eq!(client["lang"], "rust");
        assert_eq!(client["server"], audit["server"]);
        for key in ["start", "id", "ver"] {
            assert!(!client[key].is_null(), "{key}: {client}");
        }
    }

    async fn which_calls_are_told(s) {
        let mut audits = s.audits().await;
        s.stream(json!({"name": "S", "subjects": ["s"]})).await;
        s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
        s.publish("s", "x").await;
        for _ in 0..2 {
            next(&mut audits).await;
        }
        let calls = [
            ("INFO", Value::Null, true),
            ("STREAM.NAMES", Value::Null, true),
            ("STREAM.INFO.S", Value::Null, true),
            ("STREAM.INFO.X", Value::Null, true),
            ("STREAM.MSG.GET.S", json!({"seq": 1}), false),
            ("STREAM.MSG.GET.S", json!({"seq": 9}), true),
            ("CONSUMER.INFO.S.C", Value::Null, true),
            ("CONSUMER.RESET.S.C", Value::Null, false),
            ("CONSUMER.PAUSE.S.C", Value::Null, true),
            ("STREAM.PURGE.S", Value::Null, true),
        ];
        for (call, body, is_told) in calls {
            s.api(call, body).await;
            if is_told {
                assert_eq!(next(&mut audits).await["subject"], format!("$JS.API.{call}"));
            }
        }
        s.api("STREAM.DELETE.S", Value::Null).await;
        let audit = next(&mut audits).await;
        assert_eq!(audit["subject"], "$JS.API.STREAM.DELETE.S");
        assert!(audit.get("request").is_none());
    }

    async fn a_mirror_calls_as_the_server(s) {
        s.stream(json!({"name": "O", "subjects": ["o"]})).await;
        let mut audits = s.audits().await;
        s.stream(json!({"name": "M", "mirror": {"name": "O"}})).await;
        let client = loop {
            let audit = next(&mut audits).await;
            if audit["subject"] == "$JS.API.CONSUMER.CREATE.O" {
                break audit["client"].clone();
            }
        };
        assert_eq!(client["kind"], "JetStream");
        assert_eq!(client["acc"], "$G");
        assert!(client.get("host").is_none(), "{client}");
    }
}
