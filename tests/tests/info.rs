//! What INFO tells clients, against both servers.

use serde_json::Value;

use crate::harness::{JETSTREAM, Raw};

fn info(raw: &mut Raw) -> Value {
    let line = raw.line().unwrap();
    serde_json::from_str(line.strip_prefix("INFO ").unwrap_or_else(|| panic!("no INFO: {line}"))).unwrap()
}

fn keys(info: &Value) -> Vec<&str> {
    info.as_object().unwrap().keys().map(String::as_str).collect()
}

const START: [&str; 13] = [
    "server_id",
    "server_name",
    "version",
    "proto",
    "git_commit",
    "go",
    "host",
    "port",
    "headers",
    "max_payload",
    "jetstream",
    "client_id",
    "client_ip",
];

on_both_servers! { JETSTREAM;
    async fn the_fields_come_in_order(s) {
        let mut raw = s.raw();
        assert_eq!(keys(&info(&mut raw)), [&START[..], &["api_lvl", "xkey"]].concat());
        raw.send(b"CONNECT {\"verbose\":false,\"protocol\":1}\r\nPING\r\n");
        assert_eq!(raw.line().as_deref(), Some("PONG"));
        let connected = ["connect_info", "remote_account", "api_lvl", "xkey"];
        assert_eq!(keys(&info(&mut raw)), [&START[..], &connected].concat());
    }

    async fn the_server_has_one_key_to_sign_and_one_to_seal(s) {
        let greetings = [info(&mut s.raw()), info(&mut s.raw())];
        for (key, kind) in [("server_id", 'N'), ("xkey", 'X')] {
            let keys = greetings.each_ref().map(|info| info[key].as_str().unwrap());
            assert_eq!(keys[0], keys[1], "all clients are told the same");
            assert!(keys[0].len() == 56 && keys[0].starts_with(kind), "{key}: {}", keys[0]);
        }
    }
}
