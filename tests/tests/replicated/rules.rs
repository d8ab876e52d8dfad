//! Rules by which servers are found for streams.

use serde_json::{Value, json};

use super::trio::{Trio, run_with};
use crate::harness::eventually;

impl Trio {
    /// The answer to a call that is refused for good.
    async fn refusal(&mut self, call: &str, body: Value) -> Value {
        eventually("an answer", async || self.try_api("n0", call, &body).await).await
    }
}

/// All servers are in the same zone.
const TAGGED: &str = "server_tags: [\"AZ:1\"]\n";

on_both_kinds! {
    fn replicas_differ_in_the_tag_that_is_to_be_unique(kind) {
        let unique = |spec: linnet_launch::ClusterSpec| {
            let jetstream = linnet_launch::JetStream {
                extra: "unique_tag: \"az:\"".to_owned(), ..linnet_launch::JetStream::default()
            };
            spec.jetstream(jetstream).extra(TAGGED)
        };
        run_with(kind, 3, unique, async |trio| {
            let config = |replicas: u64| json!({"name": "S", "subjects": ["s"], "num_replicas": replicas});
            for replicas in [3, 2] {
                let refused = trio.refusal("STREAM.CREATE.S", config(replicas)).await;
                assert_eq!(refused["error"]["err_code"], json!(10005), "{refused}");
                let text = "no suitable peers for placement, server tag not unique";
                assert_eq!(refused["error"]["description"], json!(text));
            }
            trio.api("n0", "STREAM.CREATE.S", config(1)).await;
            // Who names such a tag means it.
            let mut placed = config(3);
            (placed["name"], placed["subjects"]) = (json!("T"), json!(["t"]));
            placed["placement"] = json!({"tags": ["az:1"]});
            trio.api("n0", "STREAM.CREATE.T", placed).await;
            trio.all_current("T").await;
        });
    }

    fn a_server_takes_as_many_replicated_assets_as_it_may(kind) {
        let limited = |spec: linnet_launch::ClusterSpec| {
            let jetstream = linnet_launch::JetStream {
                extra: "limits: { max_ha_assets: 2 }".to_owned(), ..linnet_launch::JetStream::default()
            };
            spec.jetstream(jetstream)
        };
        run_with(kind, 3, limited, async |trio| {
            trio.stream("A", 3, json!({})).await;
            trio.stream("B", 3, json!({})).await;
            trio.stream("R", 1, json!({})).await;
            let full = async |trio: &mut Trio, call: &str, body: Value| {
                // Servers of nats-server tell now and then how many they have.
                eventually("a refusal", async || {
                    let answer = trio.try_api("n0", call, &body).await?;
                    if answer["error"].is_null() {
                        trio.api("n0", "STREAM.DELETE.C", Value::Null).await;
                        return None;
                    }
                    assert_eq!(answer["error"]["err_code"], json!(10005), "{answer}");
                    let text = "no suitable peers for placement, miscellaneous issue";
                    assert_eq!(answer["error"]["description"], json!(text));
                    Some(())
                })
                .await;
            };
            let config = json!({"name": "C", "subjects": ["c"], "num_replicas": 3});
            full(trio, "STREAM.CREATE.C", config.clone()).await;
            trio.api("n0", "STREAM.DELETE.B", Value::Null).await;
            let consumer = json!({"stream_name": "A", "config": {"durable_name": "D", "ack_policy": "explicit"}});
            trio.api("n0", "CONSUMER.DURABLE.CREATE.A.D", consumer).await;
            full(trio, "STREAM.CREATE.C", config.clone()).await;
            trio.api("n0", "CONSUMER.DELETE.A.D", Value::Null).await;
            trio.api("n0", "STREAM.CREATE.C", config).await;
        });
    }
}
