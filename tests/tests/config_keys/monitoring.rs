//! Keys of monitoring and of the log.

use std::fs;

use linnet_launch::poll_until;

use super::running::Case;
use crate::harness::LONG;

pub(super) const MONITORING_AND_LOG: &[Case] = &[
    Case {
        keys: &["http"],
        config: "http: \"127.0.0.1:-1\"",
        look: |s| assert_eq!(s.server.monitor_get("/varz").unwrap().status, 200),
    },
    Case {
        keys: &["http_port"],
        config: "host: 127.0.0.1\nport: -1\nhttp_port: -1",
        look: |s| assert_eq!(s.server.monitor_get("/varz").unwrap().status, 200),
    },
    Case {
        keys: &["http_base_path"],
        config: "http_base_path: /base",
        look: |s| {
            assert_eq!(s.server.monitor_get("/base/varz").unwrap().status, 200);
            assert_eq!(s.server.monitor_get("/varz").unwrap().status, 404);
        },
    },
    Case {
        keys: &["debug"],
        config: "debug: true",
        look: |s| {
            s.client();
            s.wait_log("[DBG]");
            assert!(!s.log().contains("[TRC]"));
        },
    },
    Case {
        keys: &["trace"],
        config: "trace: true",
        look: |s| {
            s.client();
            s.wait_log("<<- [PING]");
            assert!(!s.log().contains("[DBG]"));
        },
    },
    Case {
        keys: &["trace_verbose"],
        config: "trace_verbose: true",
        look: |s| {
            s.client();
            s.wait_log("<<- [PING]");
        },
    },
    Case {
        keys: &["max_traced_msg_len"],
        config: "trace: true\nmax_traced_msg_len: 3",
        look: |s| {
            s.client().send(b"PUB a 6\r\nabcdef\r\nPING\r\n");
            s.wait_log("<<- MSG_PAYLOAD: [\"abc");
            assert!(!s.log().contains("abcd"), "{}", s.log());
        },
    },
    Case {
        keys: &["pid_file"],
        config: "pid_file: \"$DIR/pid\"",
        look: |s| {
            assert_eq!(fs::read_to_string(s.server.dir().join("pid")).unwrap(), s.server.pid().to_string())
        },
    },
    Case {
        keys: &["log_file"],
        config: "log_file: \"$DIR/the.log\"",
        look: |s| {
            let text = || fs::read_to_string(s.server.dir().join("the.log")).unwrap_or_default();
            assert!(poll_until(LONG, || text().contains("Server is ready")));
        },
    },
];
