//! Keys of JetStream, of the server and of an account.

use serde_json::{Value, json};

use super::running::{BURST, Case, api, burst, consumer, stream};

pub(super) const IN_AN_ACCOUNT: &str = "jetstream { store_dir: \"$DIR/store\" }\n\
     accounts { A { users: [{user: u, password: p}], jetstream { @ } } }";

pub(super) const ACCOUNT_JETSTREAM: &[Case] = &[
    Case {
        keys: &["account.jetstream", "account jetstream.max_memory"],
        config: "max_memory: 1000",
        look: |s| {
            let u = &mut s.user("u");
            assert_eq!(api(u, "INFO", &Value::Null)["limits"]["max_memory"], 1000);
            assert_eq!(stream(u, json!({"name": "S", "storage": "memory", "max_bytes": 1001})), 10028);
        },
    },
    Case {
        keys: &["account jetstream.max_store"],
        config: "max_store: 1000",
        look: |s| {
            let u = &mut s.user("u");
            assert_eq!(api(u, "INFO", &Value::Null)["limits"]["max_storage"], 1000);
            assert_eq!(stream(u, json!({"name": "S", "max_bytes": 1001})), 10047);
        },
    },
    Case {
        keys: &["account jetstream.max_streams"],
        config: "max_streams: 1",
        look: |s| {
            let u = &mut s.user("u");
            assert_eq!((stream(u, json!({"name": "S"})), stream(u, json!({"name": "T"}))), (0, 10027));
        },
    },
    Case {
        keys: &["account jetstream.max_consumers"],
        config: "max_consumers: 1",
        look: |s| {
            let u = &mut s.user("u");
            stream(u, json!({"name": "S"}));
            assert_eq!(consumer(u, "S", &json!({"durable_name": "C"})), 0);
            assert_eq!(consumer(u, "S", &json!({"durable_name": "D"})), 10026);
        },
    },
    Case {
        keys: &["account jetstream.mem_max_stream_bytes"],
        config: "mem_max_stream_bytes: 1000",
        look: |s| {
            let u = &mut s.user("u");
            assert_eq!(stream(u, json!({"name": "S", "storage": "memory", "max_bytes": 1001})), 10122);
            assert_eq!(stream(u, json!({"name": "S", "max_bytes": 1001})), 0);
        },
    },
    Case {
        keys: &["account jetstream.disk_max_stream_bytes"],
        config: "disk_max_stream_bytes: 1000",
        look: |s| {
            let u = &mut s.user("u");
            assert_eq!(stream(u, json!({"name": "S", "max_bytes": 1001})), 10122);
            assert_eq!(stream(u, json!({"name": "S", "storage": "memory", "max_bytes": 1001})), 0);
        },
    },
    Case {
        keys: &["account jetstream.max_ack_pending"],
        config: "max_ack_pending: 5",
        look: |s| {
            let u = &mut s.user("u");
            stream(u, json!({"name": "S"}));
            let config = |max| json!({"durable_name": "C", "ack_policy": "explicit", "max_ack_pending": max});
            assert_eq!((consumer(u, "S", &config(6)), consumer(u, "S", &config(5))), (10121, 0));
        },
    },
    Case {
        keys: &["account jetstream.max_bytes_required"],
        config: "max_bytes_required: true",
        look: |s| assert_eq!(stream(&mut s.user("u"), json!({"name": "S"})), 10113),
    },
];

pub(super) const JETSTREAM: &[Case] = &[
    Case {
        keys: &["jetstream", "jetstream.store_dir"],
        config: "jetstream { store_dir: \"$DIR/store\" }",
        look: |s| {
            assert_eq!(s.info()["jetstream"], true);
            assert!(s.server.dir().join("store/jetstream").is_dir());
        },
    },
    Case {
        keys: &["store_dir"],
        config: "jetstream: enabled\nstore_dir: \"$DIR/store\"",
        look: |s| assert!(s.server.dir().join("store/jetstream").is_dir()),
    },
    Case {
        keys: &["jetstream.enabled"],
        config: "jetstream { store_dir: \"$DIR/store\", enabled: false }",
        look: |s| assert_ne!(s.info()["jetstream"], true),
    },
    Case {
        keys: &["jetstream.max_mem"],
        config: "jetstream { store_dir: \"$DIR/store\", max_mem: 1000 }",
        look: |s| {
            let shown = s.varz()["jetstream"]["config"].clone();
            assert_eq!((&shown["max_memory"], &shown["compress_ok"]), (&json!(1000), &Value::Null));
            let config = json!({"name": "S", "storage": "memory", "max_bytes": 1001});
            assert_eq!(stream(&mut s.client(), config), 10028);
        },
    },
    Case {
        keys: &["jetstream.max_file"],
        config: "jetstream { store_dir: \"$DIR/store\", max_file: 1000, max_mem: 2000, unique_tag: \"az:\" }",
        look: |s| {
            let shown = s.varz()["jetstream"]["config"].clone();
            assert_eq!((&shown["max_storage"], &shown["compress_ok"]), (&json!(1000), &json!(true)));
            assert_eq!(shown["unique_tag"], "az:");
            assert_eq!(stream(&mut s.client(), json!({"name": "S", "max_bytes": 1001})), 10047);
        },
    },
    Case {
        keys: &["jetstream.domain"],
        config: "jetstream { store_dir: \"$DIR/store\", domain: hub }",
        look: |s| {
            assert_eq!(s.info()["domain"], "hub");
            let mut raw = s.client();
            raw.send(b"SUB i 1\r\nPUB $JS.hub.API.INFO i 0\r\n\r\n");
            assert!(raw.line().unwrap().starts_with("MSG i 1 "));
        },
    },
    Case {
        keys: &["jetstream.sync_interval"],
        config: "jetstream { store_dir: \"$DIR/store\", sync_interval: \"7s\" }",
        look: |s| {
            assert_eq!(s.varz()["jetstream"]["config"]["sync_interval"], 7_000_000_000_u64);
            assert_ne!(s.varz()["jetstream"]["config"]["sync_always"], true);
        },
    },
    Case {
        keys: &["jetstream.key", "jetstream.prev_key", "jetstream.cipher"],
        config: "jetstream { store_dir: \"$DIR/store\", key: new, prev_key: old, cipher: aes }",
        look: |s| {
            assert!(s.log().contains("  Encryption:      AES-GCM"), "{}", s.log());
            assert!(!s.log().contains("  Converting"), "a new store has nothing of before");
        },
    },
    Case {
        keys: &["jetstream.strict"],
        config: "jetstream { store_dir: \"$DIR/store\", strict: false }",
        look: |s| assert_eq!(stream(&mut s.client(), json!({"name": "S", "nonsense": 1})), 0),
    },
    Case {
        keys: &["jetstream.max_buffered_msgs"],
        config: "jetstream { store_dir: \"$DIR/store\", max_buffered_msgs: 1 }",
        look: |s| {
            let raw = &mut s.client();
            stream(raw, json!({"name": "S"}));
            let answers = burst(raw, "S.a", "x");
            assert!(answers.contains_key(&10167), "{answers:?}");
        },
    },
    Case {
        keys: &["jetstream.max_buffered_size"],
        config: "jetstream { store_dir: \"$DIR/store\", max_buffered_size: 100 }",
        look: |s| {
            let raw = &mut s.client();
            stream(raw, json!({"name": "S"}));
            let answers = burst(raw, "S.a", "x");
            assert!(answers.contains_key(&10167), "{answers:?}");
        },
    },
    Case {
        keys: &["jetstream.request_queue_limit"],
        config: "jetstream { store_dir: \"$DIR/store\", request_queue_limit: 1 }",
        look: |s| {
            let answers = burst(&mut s.client(), "$JS.API.INFO", "");
            assert!(answers.values().sum::<usize>() < BURST / 2, "{answers:?}");
        },
    },
    Case {
        keys: &["jetstream.limits", "jetstream.limits.max_ack_pending"],
        config: "jetstream { store_dir: \"$DIR/store\", limits {max_ack_pending: 5} }",
        look: |s| {
            let raw = &mut s.client();
            stream(raw, json!({"name": "S"}));
            let config = |max| json!({"durable_name": "C", "ack_policy": "explicit", "max_ack_pending": max});
            assert_eq!((consumer(raw, "S", &config(6)), consumer(raw, "S", &config(5))), (10121, 0));
        },
    },
    Case {
        keys: &["jetstream.limits.max_request_batch"],
        config: "jetstream { store_dir: \"$DIR/store\", limits {max_request_batch: 5} }",
        look: |s| {
            let raw = &mut s.client();
            stream(raw, json!({"name": "S"}));
            let config = |max| json!({"durable_name": "C", "ack_policy": "explicit", "max_batch": max});
            assert_eq!((consumer(raw, "S", &config(6)), consumer(raw, "S", &config(5))), (10125, 0));
        },
    },
    Case {
        keys: &["jetstream.limits.duplicate_window"],
        config: "jetstream { store_dir: \"$DIR/store\", limits {duplicate_window: \"5s\"} }",
        look: |s| {
            let window = |seconds: u64| json!({"name": "S", "duplicate_window": seconds * 1_000_000_000});
            let raw = &mut s.client();
            assert_eq!((stream(raw, window(6)), stream(raw, window(5))), (10052, 0));
        },
    },
    Case {
        keys: &["jetstream.limits.default_max_consumers"],
        config: "jetstream { store_dir: \"$DIR/store\", limits {default_max_consumers: 1} }",
        look: |s| {
            let raw = &mut s.client();
            stream(raw, json!({"name": "S"}));
            assert_eq!(consumer(raw, "S", &json!({"durable_name": "C"})), 0);
            assert_eq!(consumer(raw, "S", &json!({"durable_name": "D"})), 10026);
        },
    },
];
