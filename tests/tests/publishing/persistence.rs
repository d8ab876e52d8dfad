//! Streams that need not be on the disk when they acknowledge.

use serde_json::{Value, json};

use crate::harness::{JETSTREAM, err_code};

on_both_servers! { JETSTREAM;
    async fn such_a_stream_stores_and_acknowledges(s) {
        let config = json!({"name": "S", "subjects": ["s"], "persist_mode": "async"});
        assert_eq!(s.stream(config.clone()).await["config"]["persist_mode"], "async");
        for seq in 1..=3 {
            assert_eq!(s.publish("s", "x").await, json!({"stream": "S", "seq": seq}));
        }
        s.stream_shows("S", &[("/messages", 3), ("/last_seq", 3)]).await;
        let mut changed = config;
        changed["persist_mode"] = json!("default");
        let refused = s.api("STREAM.UPDATE.S", changed).await;
        assert_eq!(refused["error"]["description"], "stream configuration update can not change persist mode");
    }

    async fn the_default_is_not_shown(s) {
        let answer = s.stream(json!({"name": "S", "subjects": ["s"], "persist_mode": "default"})).await;
        assert_eq!(answer["config"].get("persist_mode"), None);
    }

    async fn what_does_not_go_with_it_is_refused(s) {
        for (more, text) in [
            (json!({"storage": "memory"}), "async persist mode is only supported on file storage"),
            (json!({"num_replicas": 3}), "async persist mode is not supported on replicated streams"),
            (json!({"allow_atomic": true}), "async persist mode is not supported with atomic batch publish"),
        ] {
            let mut config = json!({"name": "S", "subjects": ["s"], "persist_mode": "async"});
            config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            assert_eq!(s.refused_stream(config).await, (10052, text.to_owned()));
        }
        let unknown = s.api("STREAM.CREATE.S", json!({"name": "S", "persist_mode": "x"})).await;
        assert_eq!((err_code(&unknown), &unknown["config"]), (10025, &Value::Null));
    }
}
