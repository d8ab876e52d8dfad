//! Keys of connections and their limits.

use linnet_launch::poll_until;
use rustix::process::Signal;
use serde_json::json;

use super::running::{Case, SHORT};
use crate::harness::LONG;

pub(super) const CONNECTIONS: &[Case] = &[
    Case {
        keys: &["host", "port"],
        config: "host: 127.0.0.1\nport: -1\nhttp: \"127.0.0.1:-1\"",
        look: |s| {
            let at = s.server.client_addr().unwrap();
            assert!(at.ip().is_loopback() && at.port() != 4222, "{at}");
        },
    },
    Case {
        keys: &["listen"],
        config: "listen: \"127.0.0.1:-1\"",
        look: |s| assert!(s.server.client_addr().unwrap().ip().is_loopback()),
    },
    Case {
        keys: &["server_name"],
        config: "server_name: x",
        look: |s| {
            assert_eq!((&s.info()["server_name"], &s.varz()["server_name"]), (&json!("x"), &json!("x")))
        },
    },
    Case {
        keys: &["server_tags", "server_metadata"],
        config: "server_tags: [A, b]\nserver_metadata: {k: v}",
        look: |s| {
            assert_eq!((&s.varz()["tags"], &s.varz()["metadata"]), (&json!(["a", "b"]), &json!({"k": "v"})))
        },
    },
    Case {
        keys: &["feature_flags"],
        config: "feature_flags: {js_raft_delete_range: false}",
        look: |s| assert_eq!(s.varz()["feature_flags"]["js_raft_delete_range"], false),
    },
    Case {
        keys: &["no_header_support"],
        config: "no_header_support: true",
        look: |s| {
            assert_ne!(s.info()["headers"], true);
            let mut raw = s.enter(&json!({})).0;
            raw.send(b"HPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\n");
            raw.until_closed();
        },
    },
    Case {
        keys: &["write_deadline"],
        config: "write_deadline: \"300ms\"",
        look: |s| assert_eq!(s.flood(), "Slow Consumer (Write Deadline)"),
    },
    Case {
        keys: &["max_pending"],
        config: "max_pending: 2MB",
        look: |s| {
            assert_eq!(s.flood(), "Slow Consumer (Pending Bytes)");
            assert_ne!(s.varz()["stalled_clients"].as_u64().unwrap_or_default(), 0);
        },
    },
    Case {
        keys: &["no_fast_producer_stall"],
        config: "max_pending: 2MB\nno_fast_producer_stall: true",
        look: |s| {
            assert_eq!(s.flood(), "not closed");
            assert_eq!(s.varz()["stalled_clients"].as_u64().unwrap_or_default(), 0);
        },
    },
    Case {
        keys: &["max_closed_clients"],
        config: "max_closed_clients: 2",
        look: |s| {
            for n in 1..=4 {
                drop(s.client());
                let closed =
                    || s.varz()["connections"] == 0 && s.varz()["total_connections"].as_u64() >= Some(n);
                assert!(poll_until(LONG, closed));
            }
            assert_eq!(s.page("/connz?state=closed")["connections"].as_array().unwrap().len(), 2);
        },
    },
    Case {
        keys: &["lame_duck_grace_period"],
        config: "lame_duck_grace_period: \"100ms\"",
        look: |s| {
            let _client = s.client();
            s.server.signal(Signal::USR2).unwrap();
            s.server.wait_end(SHORT).unwrap();
        },
    },
];
