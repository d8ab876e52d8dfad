//! What keeps a consumer that has an inactivity threshold, against both servers.

use linnet_launch::Deadline;
use serde_json::json;

use crate::harness::{Fixture, JETSTREAM, LONG};

impl Fixture {
    async fn short_lived(&mut self, name: &str) {
        let second = 1_000_000_000;
        let config = json!({
            "durable_name": name, "ack_policy": "explicit", "inactive_threshold": second,
            "max_batch": 2, "max_bytes": 100, "max_expires": second,
        });
        self.consumer("S", config).await;
    }

    async fn exists(&mut self, name: &str) -> bool {
        self.api(&format!("CONSUMER.INFO.S.{name}"), json!(null)).await["error"].is_null()
    }

    async fn any_exists(&mut self, names: &[String]) -> bool {
        for name in names {
            if self.exists(name).await {
                return true;
            }
        }
        false
    }
}

on_both_servers! { JETSTREAM;
    async fn requests_that_may_not_be_made_keep_no_consumer(s) {
        s.stream(json!({"name": "S", "subjects": ["s"]})).await;
        let keeping = [r#"{"batch":1,"no_wait":true}"#, r#"{"batch":1,"expires":-5}"#];
        let refused = [
            r#"{"batch":2"#,
            r#"{"batch":5}"#,
            r#"{"batch":1,"max_bytes":1000}"#,
            r#"{"batch":1,"expires":5000000000}"#,
            r#"{"batch":1,"idle_heartbeat":900000000,"expires":1000000000}"#,
            r#"{"batch":1,"priority":10}"#,
        ];
        let named = |bodies: &[&'static str], prefix: &str| -> Vec<(String, &'static str)> {
            bodies.iter().zip(0..).map(|(body, n)| (format!("{prefix}{n}"), *body)).collect()
        };
        // Those that are to stay are older.
        let requests = [named(&keeping, "KEPT"), named(&refused, "LOST")].concat();
        for (name, _) in &requests {
            s.short_lived(name).await;
        }
        let names: Vec<String> = requests.iter().map(|(name, _)| name.clone()).collect();
        let (kept, lost) = names.split_at(keeping.len());
        let client = s.client().await;
        let deadline = Deadline::after(LONG);
        while s.any_exists(lost).await {
            assert!(!deadline.has_passed(), "a refused request keeps its consumer");
            for (name, body) in &requests {
                let subject = format!("$JS.API.CONSUMER.MSG.NEXT.S.{name}");
                client.publish_with_reply(subject, "answers", (*body).into()).await.unwrap();
            }
        }
        for name in kept {
            assert!(s.exists(name).await, "{name} is not kept by its requests");
        }
    }
}
