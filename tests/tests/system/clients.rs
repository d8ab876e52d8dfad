//! Operators' programs in other languages.

use std::process::Command;

use serde_json::{Value, json};

use super::{SYSTEM, ask};
use crate::harness::{nats_cli, python};

on_both_servers! { SYSTEM;
    /// Operator contract, row A21: the same from Rust, Python and Go. There are no peers to be offline without a cluster.
    async fn a21_jetstream_of_all_servers_is_asked_for_as_a_system_user(s) {
        let a = s.user("a").await;
        ask(&a, "$JS.API.STREAM.CREATE.ORDERS", json!({"name": "ORDERS", "subjects": ["orders"]}).to_string()).await;
        let sys = s.user("sys").await;
        let rust = ask(&sys, "$SYS.REQ.SERVER.PING.JSZ", "").await;
        assert_eq!((&rust["server"]["name"], &rust["data"]["streams"]), (&json!("S1"), &json!(1)));

        let url = s.server.client_url().unwrap();
        if let Some(python) = python() {
            let program = concat!(env!("CARGO_MANIFEST_DIR"), "/python/jsz.py");
            let output = Command::new(python).args([program, &url]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(said.trim(), "S1 1 ['ORDERS'] []", "{}", String::from_utf8_lossy(&output.stderr));
        }
        if let Some(cli) = nats_cli() {
            let words = ["-s", &url, "--user", "sys", "--password", "sys", "--no-context", "server", "request", "jetstream"];
            let output = Command::new(cli).args(words).output().unwrap();
            let go: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!((&go["server"]["name"], &go["data"]["streams"]), (&json!("S1"), &json!(1)));
        }
    }
}
