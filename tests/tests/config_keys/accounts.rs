//! Keys of users, accounts and permissions.

use linnet_launch::poll_until;
use serde_json::json;

use super::running::{Case, SHORT, says};

pub(super) const ACCOUNTS: &[Case] = &[
    Case {
        keys: &[
            "authorization",
            "authorization.users",
            "user.user",
            "user.pass",
            "authorization.default_permissions",
        ],
        config: "authorization { default_permissions: {publish: \"ok\"}, users: [{user: u, password: p}] }",
        look: |s| {
            says(&mut s.user("u"), "PUB a 0\r\n\r\n", "-ERR 'Permissions Violation for Publish to \"a\"'")
        },
    },
    Case {
        keys: &["accounts", "account.users", "account.default_permissions"],
        config: "accounts { A { default_permissions: {publish: \"ok\"}, users: [{user: u, password: p}] } }",
        look: |s| {
            says(&mut s.user("u"), "PUB a 0\r\n\r\n", "-ERR 'Permissions Violation for Publish to \"a\"'")
        },
    },
    Case {
        keys: &["user.allowed_connection_types"],
        config: "authorization { users: [{user: u, password: p, allowed_connection_types: [WEBSOCKET]}] }",
        look: |s| {
            let mut raw = s.enter(&json!({"user": "u", "pass": "p"})).0;
            assert_eq!(raw.line().as_deref(), Some("-ERR 'Authorization Violation'"));
        },
    },
    Case {
        keys: &["no_auth_user"],
        config: "authorization { users: [{user: u, password: p, permissions: {publish: \"ok\"}}] }\nno_auth_user: u",
        look: |s| {
            says(&mut s.client(), "PUB a 0\r\n\r\n", "-ERR 'Permissions Violation for Publish to \"a\"'")
        },
    },
    Case {
        keys: &["system_account"],
        config: "accounts { S { users: [{user: u, password: p}] } }\nsystem_account: S",
        look: |s| assert_eq!(s.varz()["system_account"], "S"),
    },
    Case {
        keys: &["no_system_account"],
        config: "no_system_account: true",
        look: |s| assert_eq!(s.varz()["system_account"].as_str().unwrap_or_default(), ""),
    },
    Case {
        keys: &["allow_responses.expires"],
        config: "authorization { users: [{user: a, password: p}, \
                 {user: u, password: p, permissions: {subscribe: q, allow_responses: {max: 1000000, expires: \"100ms\"}}}] }",
        look: |s| {
            let mut answering = s.user("u");
            answering.send(b"SUB q 1\r\n");
            answering.ping();
            s.user("a").send(b"PUB q r 0\r\n\r\nPING\r\n");
            assert_eq!(answering.line().as_deref(), Some("MSG q 1 r 0"));
            answering.line();
            let refused = poll_until(SHORT, || {
                answering.send(b"PUB r 0\r\n\r\nPING\r\n");
                let said = answering.line().unwrap();
                said == "-ERR 'Permissions Violation for Publish to \"r\"'"
            });
            assert!(refused, "answers are allowed for longer");
        },
    },
    Case {
        keys: &["account.limits", "account limits.max_connections"],
        config: "accounts { A { limits {max_connections: 1}, users: [{user: u, password: p}] } }",
        look: |s| {
            let _first = s.user("u");
            let mut second = s.enter(&json!({"user": "u", "pass": "p"})).0;
            assert_eq!(second.line().as_deref(), Some("-ERR 'maximum account active connections exceeded'"));
        },
    },
    Case {
        keys: &["account limits.max_subscriptions"],
        config: "accounts { A { limits {max_subscriptions: 1}, users: [{user: u, password: p}] } }",
        look: |s| says(&mut s.user("u"), "SUB a 1\r\nSUB b 2\r\n", "-ERR 'maximum subscriptions exceeded'"),
    },
    Case {
        keys: &["account limits.max_payload"],
        config: "accounts { A { limits {max_payload: 5}, users: [{user: u, password: p}] } }",
        look: |s| says(&mut s.user("u"), "PUB a 6\r\nabcdef\r\n", "-ERR 'Maximum Payload Violation'"),
    },
];
