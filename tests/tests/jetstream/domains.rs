//! The API of a server whose JetStream is a domain.

use futures_util::StreamExt as _;
use linnet_launch::{JetStream, Options};
use serde_json::{Value, json};

use crate::harness::{JETSTREAM, within};

const IN_A_DOMAIN: fn() -> Options = || Options {
    jetstream: Some(JetStream { extra: "domain: hub".to_owned(), ..JetStream::default() }),
    ..JETSTREAM()
};

on_both_servers! { IN_A_DOMAIN;
    async fn its_api_is_known_by_its_name(s) {
        let config = json!({"name": "S", "subjects": ["a"], "allow_direct": true}).to_string();
        let created = s.request("$JS.hub.API.STREAM.CREATE.S", config).await;
        assert_eq!((&created["did_create"], &created["domain"]), (&json!(true), &Value::Null));
        assert_eq!(s.publish("a", "x").await, json!({"stream": "S", "domain": "hub", "seq": 1}));
        assert_eq!(s.api("STREAM.INFO.S", Value::Null).await["domain"], "hub");
        assert_eq!(s.api("INFO", Value::Null).await["domain"], "hub");
        assert_eq!(s.request("$JS.hub.API.STREAM.NAMES", "").await["streams"], json!(["S"]));
        let client = s.client().await;
        let direct = client.request("$JS.hub.API.DIRECT.GET.S", r#"{"seq":1}"#.into());
        assert_eq!(within("a direct get", direct).await.unwrap().payload, "x");
        let config = json!({"stream_name": "S", "config": {"durable_name": "C"}}).to_string();
        let created = s.request("$JS.hub.API.CONSUMER.CREATE.S.C", config).await;
        assert_eq!(created["name"], "C", "{created}");
        let mut pulled = client.subscribe("i").await.unwrap();
        client.publish_with_reply("$JS.hub.API.CONSUMER.MSG.NEXT.S.C", "i", "1".into()).await.unwrap();
        assert_eq!(within("a pull", pulled.next()).await.unwrap().payload, "x");
        let other = within("nobody", client.request("$JS.other.API.INFO", "".into())).await;
        assert_eq!(other.unwrap_err().kind(), async_nats::RequestErrorKind::NoResponders);
    }

    async fn values_of_a_bucket_are_published_through_it(s) {
        s.stream(json!({"name": "KV_B", "subjects": ["$KV.B.>"]})).await;
        let ack = s.publish("$JS.hub.API.$KV.B.k", "v").await;
        assert_eq!(ack, json!({"stream": "KV_B", "domain": "hub", "seq": 1}));
        assert_eq!(s.stored("KV_B", 1).await.unwrap().subject, "$KV.B.k");
        assert_eq!(s.publish("$KV.B.k", "v").await["seq"], 2);
        let client = s.client().await;
        for nobody in ["$JS.other.API.$KV.B.k", "$JS.hub.API.$KV.C.k"] {
            let refused = within("nobody", client.request(nobody, "v".into())).await.unwrap_err();
            assert_eq!(refused.kind(), async_nats::RequestErrorKind::NoResponders, "{nobody}");
        }
    }
}
