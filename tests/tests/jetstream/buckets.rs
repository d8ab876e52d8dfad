//! What key-value buckets and object stores ask of the server; the clients themselves are tested beside this.

use serde_json::{Value, json};

use crate::harness::{JETSTREAM, err_code};

/// The stream of a bucket as the clients configure it.
fn bucket(history: u64) -> Value {
    json!({
        "name": "KV_B", "subjects": ["$KV.B.>"], "max_msgs_per_subject": history, "discard": "new", "allow_direct": true,
        "allow_rollup_hdrs": true, "deny_delete": true, "allow_msg_ttl": true, "subject_delete_marker_ttl": 1_000_000_000,
    })
}

on_both_servers! { JETSTREAM;
    async fn a_bucket_replaces_creates_updates_and_purges(s) {
        s.stream(bucket(2)).await;
        let expect = |seq: &'static str| [("Nats-Expected-Last-Subject-Sequence", seq)];
        for seq in 1..=3 {
            assert_eq!(s.publish("$KV.B.k", "v").await["seq"], seq);
        }
        s.stream_shows("KV_B", &[("/messages", 2), ("/first_seq", 2)]).await;
        assert_eq!(err_code(&s.publish_with("$KV.B.k", &expect("0"), "new").await), 10071);
        assert_eq!(s.publish_with("$KV.B.k", &expect("3"), "updated").await["seq"], 4);
        assert_eq!(s.publish_with("$KV.B.other", &expect("0"), "created").await["seq"], 5);
        let subjects = s.api("STREAM.INFO.KV_B", json!({"subjects_filter": "$KV.B.>"})).await["state"]["subjects"].clone();
        assert_eq!(subjects, json!({"$KV.B.k": 2, "$KV.B.other": 1}));
        let client = s.client().await;
        let value = client.request("$JS.API.DIRECT.GET.KV_B.$KV.B.k", "".into()).await.unwrap();
        assert_eq!(value.payload, "updated");
        let purge = [("KV-Operation", "PURGE"), ("Nats-Rollup", "sub")];
        assert_eq!(s.publish_with("$KV.B.k", &purge, "").await["seq"], 6);
        let subjects = s.api("STREAM.INFO.KV_B", json!({"subjects_filter": "$KV.B.>"})).await["state"]["subjects"].clone();
        assert_eq!(subjects, json!({"$KV.B.k": 1, "$KV.B.other": 1}));
        // A marker is a message: what creates a key again names it.
        assert_eq!(err_code(&s.publish_with("$KV.B.k", &expect("0"), "again").await), 10071);
        assert_eq!(s.publish_with("$KV.B.k", &expect("6"), "again").await["seq"], 7);
        assert_eq!(err_code(&s.api("STREAM.MSG.DELETE.KV_B", json!({"seq": 7})).await), 10057);
    }

    async fn a_value_that_expires_leaves_a_marker_and_a_purge_none(s) {
        s.stream(bucket(1)).await;
        s.publish_with("$KV.B.short", &[("Nats-TTL", "1")], "v").await;
        s.publish_with("$KV.B.purged", &[("Nats-TTL", "1"), ("KV-Operation", "PURGE"), ("Nats-Rollup", "sub")], "").await;
        s.stream_shows("KV_B", &[("/last_seq", 3)]).await;
        let marker = s.stored("KV_B", 3).await.unwrap();
        assert_eq!((marker.subject.as_str(), marker.header("Nats-Marker-Reason")), ("$KV.B.short", "MaxAge"));
        s.stream_shows("KV_B", &[("/messages", 0), ("/last_seq", 3)]).await;
    }

    async fn listeners_see_what_is_there_and_what_comes(s) {
        use futures_util::StreamExt as _;
        s.stream(bucket(1)).await;
        for key in ["a", "b", "a"] {
            s.publish(&format!("$KV.B.{key}"), key).await;
        }
        let client = s.client().await;
        let mut watched = client.subscribe("d").await.unwrap();
        let created = s.consumer("KV_B", json!({"durable_name": "W", "deliver_subject": "d", "deliver_policy": "last_per_subject",
            "filter_subject": "$KV.B.>", "headers_only": true, "mem_storage": true})).await;
        assert_eq!(created["num_pending"], 2);
        s.publish("$KV.B.c", "c").await;
        let mut seen = Vec::new();
        for _ in 0..3 {
            let change = crate::harness::within("a change", watched.next()).await.unwrap();
            assert_eq!(change.payload, "");
            seen.push(change.subject.to_string());
        }
        assert_eq!(seen, ["$KV.B.b", "$KV.B.a", "$KV.B.c"]);
    }
}
