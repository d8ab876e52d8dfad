//! Every configuration key acts: each is set to something that is not its default, and what it changes is looked at.
//! Each row runs against both servers. A key that is accepted and neither proven here nor listed with the test that
//! proves it fails [`every_key_is_proven`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use linnet_conf::{Support, options};
use linnet_launch::{Deadline, Server, Spec, poll_until};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Kind, LONG, Raw, program};

/// Well below the defaults of the durations that are shortened here.
const SHORT: Duration = Duration::from_secs(6);

struct Case {
    /// The keys that this proves, with their sections.
    keys: &'static [&'static str],
    config: &'static str,
    look: fn(&mut Running),
}

struct Running {
    server: Server,
}

impl Running {
    /// A connection that has read INFO, which is returned with it, and has sent CONNECT.
    fn enter(&self, connect: &Value) -> (Raw, Value) {
        let mut raw = Raw::connect(self.server.client_addr().unwrap());
        let line = raw.line().unwrap();
        let info = serde_json::from_str(line.strip_prefix("INFO ").unwrap()).unwrap();
        let mut fields = json!({"verbose": false, "headers": true});
        fields.as_object_mut().unwrap().extend(connect.as_object().unwrap().clone());
        raw.send(format!("CONNECT {fields}\r\n").as_bytes());
        (raw, info)
    }

    fn client(&self) -> Raw {
        self.user("")
    }

    /// A connection of this user, whose password is `p`; of nobody if the name is empty.
    fn user(&self, name: &str) -> Raw {
        let login = if name.is_empty() { json!({}) } else { json!({"user": name, "pass": "p"}) };
        let mut raw = self.enter(&login).0;
        raw.ping();
        raw
    }

    fn info(&self) -> Value {
        self.enter(&json!({})).1
    }

    fn page(&self, path: &str) -> Value {
        serde_json::from_str(&self.server.monitor_get(path).unwrap().body).unwrap()
    }

    fn varz(&self) -> Value {
        self.page("/varz")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.server.log_file()).unwrap()
    }

    fn wait_log(&self, text: &str) {
        assert!(poll_until(LONG, || self.log().contains(text)), "no {text:?} in:\n{}", self.log());
    }

    /// The reason with which the connection that does not read was closed, once much has been sent to it.
    fn flood(&self) -> String {
        let mut deaf = self.enter(&json!({"name": "deaf"})).0;
        deaf.send(b"SUB flood 1\r\nPING\r\n");
        assert_eq!(deaf.line().as_deref(), Some("PONG"));
        let mut publisher = self.client();
        let message = [b"PUB flood 524288\r\n".as_slice(), &[b'x'; 524_288], b"\r\n"].concat();
        for _ in 0..64 {
            publisher.send(&message);
        }
        publisher.ping();
        let mut reason = None;
        poll_until(SHORT, || {
            let page = self.page("/connz?state=closed");
            let closed = page["connections"].as_array().unwrap();
            reason =
                closed.iter().find(|c| c["name"] == "deaf").map(|c| c["reason"].as_str().unwrap().to_owned());
            reason.is_some()
        });
        reason.unwrap_or_else(|| "not closed".to_owned())
    }
}

fn api(raw: &mut Raw, subject: &str, body: &Value) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    raw.send(format!("SUB answer 9\r\nPUB $JS.API.{subject} answer {}\r\n{body}\r\n", body.len()).as_bytes());
    let head = raw.line().unwrap();
    assert!(head.starts_with("MSG answer 9 "), "{subject}: {head}");
    let size: usize = head.rsplit(' ').next().unwrap().parse().unwrap();
    let answer = raw.bytes(size);
    raw.bytes(2);
    raw.send(b"UNSUB 9\r\n");
    serde_json::from_slice(&answer).unwrap()
}

fn code(answer: &Value) -> u64 {
    answer["error"]["err_code"].as_u64().unwrap_or_default()
}

fn stream(raw: &mut Raw, mut config: Value) -> u64 {
    let name = config["name"].as_str().unwrap().to_owned();
    if config["subjects"].is_null() {
        config["subjects"] = json!([format!("{name}.>")]);
    }
    code(&api(raw, &format!("STREAM.CREATE.{name}"), &config))
}

fn consumer(raw: &mut Raw, stream: &str, config: &Value) -> u64 {
    let name = config["durable_name"].as_str().unwrap();
    let body = json!({"stream_name": stream, "config": config});
    code(&api(raw, &format!("CONSUMER.CREATE.{stream}.{name}"), &body))
}

const BURST: usize = 3000;

/// Sends so many requests at once that a short queue cannot take them all; how many answers came with which code.
fn burst(raw: &mut Raw, subject: &str, body: &str) -> BTreeMap<u64, usize> {
    let request = |reply: &str| format!("PUB {subject} {reply} {}\r\n{body}\r\n", body.len());
    raw.send(format!("SUB many 1\r\n{}PING\r\n", request("many").repeat(BURST)).as_bytes());
    let mut answers = BTreeMap::new();
    let deadline = Deadline::after(LONG);
    loop {
        let line = raw.line().unwrap();
        assert!(!deadline.has_passed(), "so far: {answers:?}");
        if line == "PONG" {
            // Requests are taken in order: once this one is, none that was taken before still waits.
            raw.send(format!("SUB last 2\r\n{}PING\r\n", request("last")).as_bytes());
            continue;
        }
        let words: Vec<&str> = line.split(' ').collect();
        let size: usize = words[words.len() - 1].parse().unwrap();
        let header: usize = if words[0] == "HMSG" { words[words.len() - 2].parse().unwrap() } else { 0 };
        let answer = raw.bytes(size + 2);
        let code = code(&serde_json::from_slice(&answer[header..size]).unwrap());
        match words[1] {
            "many" => *answers.entry(code).or_default() += 1,
            _ if code == 0 => return answers,
            _ => {}
        }
    }
}

fn says(raw: &mut Raw, sent: &str, expected: &str) {
    raw.send(sent.as_bytes());
    assert_eq!(raw.line().as_deref(), Some(expected));
}

const CONNECTIONS: &[Case] = &[
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

const MONITORING_AND_LOG: &[Case] = &[
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

const ACCOUNTS: &[Case] = &[
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

const IN_AN_ACCOUNT: &str = "jetstream { store_dir: \"$DIR/store\" }\n\
     accounts { A { users: [{user: u, password: p}], jetstream { @ } } }";

const ACCOUNT_JETSTREAM: &[Case] = &[
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

const JETSTREAM: &[Case] = &[
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
            assert_eq!(s.varz()["jetstream"]["config"]["max_memory"], 1000);
            let config = json!({"name": "S", "storage": "memory", "max_bytes": 1001});
            assert_eq!(stream(&mut s.client(), config), 10028);
        },
    },
    Case {
        keys: &["jetstream.max_file"],
        config: "jetstream { store_dir: \"$DIR/store\", max_file: 1000 }",
        look: |s| {
            assert_eq!(s.varz()["jetstream"]["config"]["max_storage"], 1000);
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

/// Keys whose effect another test shows.
const ELSEWHERE: &[(&str, &str)] = &[
    ("client_advertise", "processes::clients_are_told_the_advertised_address"),
    ("ping_interval", "errors.txt: client that does not answer PING"),
    ("ping_max", "errors.txt: client that does not answer PING"),
    ("max_connections", "errors.txt: connections over the maximum"),
    ("max_subscriptions", "errors.txt: subscriptions over the maximum"),
    ("max_sub_tokens", "errors.txt: too many tokens in a subscription"),
    ("max_control_line", "errors.txt: control line over a configured maximum"),
    ("max_payload", "errors.txt: payload over a configured maximum"),
    ("lame_duck_duration", "linnet-server: lame_duck_duration_is_both_phases_together"),
    ("trace_headers", "processes::trace_headers_shows_no_payload"),
    ("logtime", "processes::log_lines_may_come_without_a_time"),
    ("logtime_utc", "processes::the_log_may_tell_the_time_in_utc"),
    ("log_size_limit", "processes::a_log_at_its_limit_is_put_aside_and_old_ones_go"),
    ("log_max_num", "processes::a_log_at_its_limit_is_put_aside_and_old_ones_go"),
    ("ports_file_dir", "processes::pid_file_and_ports_file_are_as_the_tools_expect_them"),
    ("authorization.user", "logins.txt: right password"),
    ("authorization.pass", "logins.txt: wrong password"),
    ("authorization.token", "logins.txt: wrong token"),
    ("authorization.timeout", "logins.txt: no login at all"),
    ("user.permissions", "logins.txt: publish permissions"),
    ("permissions.publish", "logins.txt: publish permissions"),
    ("permissions.subscribe", "logins.txt: subscribe permissions"),
    ("permissions.allow_responses", "logins.txt: answers are allowed by the request"),
    ("subject permissions.allow", "logins.txt: publish permissions"),
    ("subject permissions.deny", "logins.txt: publish permissions"),
    ("tls", "tls::info_comes_in_plain_text_and_the_rest_is_encrypted"),
    ("allow_non_tls", "tls::clients_may_do_without_tls_if_that_is_configured"),
    ("https", "tls::monitoring_pages_come_over_tls"),
    ("tls.cert_file", "tls::clients_do_not_trust_a_server_of_an_unknown_authority"),
    ("tls.key_file", "tls::clients_do_not_trust_a_server_of_an_unknown_authority"),
    ("tls.certs", "tls::the_name_a_client_asks_for_chooses_the_certificate"),
    ("tls.ca_file", "tls::only_clients_with_a_valid_certificate_are_let_in"),
    ("tls.verify", "tls::only_clients_with_a_valid_certificate_are_let_in"),
    ("tls.verify_and_map", "tls::a_certificate_says_which_user_a_client_is"),
    ("tls.cipher_suites", "tls::versions_and_suites_are_as_configured"),
    ("tls.curve_preferences", "tls::versions_and_suites_are_as_configured"),
    ("tls.min_version", "tls::versions_and_suites_are_as_configured"),
    ("tls.timeout", "tls::who_does_not_shake_hands_is_closed_without_a_word"),
    ("tls.handshake_first", "tls::the_handshake_comes_first_if_that_is_configured"),
    ("tls.connection_rate_limit", "tls::a_second_admits_as_many_connections_as_configured"),
    ("tls.pinned_certs", "tls::only_pinned_keys_are_let_in"),
    ("https_port", "tls::monitoring_pages_come_over_tls"),
    ("linnet", "scrub::damage_is_found_before_somebody_reads_it"),
    ("linnet.scrub", "scrub::damage_is_found_before_somebody_reads_it"),
    ("linnet.scrub.interval", "scrub::damage_is_found_before_somebody_reads_it"),
    ("linnet.scrub.rate", "linnet-server: how_fast_stored_messages_are_verified_reaches_jetstream"),
    ("cluster", "cluster::servers_meet_through_a_third"),
    ("cluster.name", "cluster::servers_of_other_clusters_and_of_the_same_name_stay_out"),
    ("cluster.listen", "cluster::messages_cross_in_every_direction"),
    ("cluster.host", "cluster::a_route_listener_of_host_and_port_and_other_settings_take_effect"),
    ("cluster.port", "cluster::a_route_listener_of_host_and_port_and_other_settings_take_effect"),
    ("cluster.routes", "cluster::messages_cross_in_every_direction"),
    ("cluster.authorization", "cluster::a_cluster_with_a_password_lets_only_those_in_who_know_it"),
    ("cluster.advertise", "cluster::a_route_listener_of_host_and_port_and_other_settings_take_effect"),
    ("cluster.no_advertise", "cluster::clients_are_told_of_all_servers_unless_that_is_not_wanted"),
    ("cluster.connect_retries", "cluster::a_server_that_was_told_of_is_dialled_as_often_as_configured"),
    ("cluster.connect_backoff", "linnet-broker: pauses_grow_up_to_half_a_minute"),
    ("cluster.pool_size", "cluster::pool_sizes_of_both_programs_fit"),
    ("cluster.accounts", "cluster::accounts_stay_apart"),
    ("cluster.compression", "routes::the_wire_carries_frames_only_if_that_was_agreed_on"),
    ("compression.mode", "routes::automatic_levels_are_those_of_the_configured_times"),
    ("compression.rtt_thresholds", "routes::automatic_levels_are_those_of_the_configured_times"),
    ("cluster.permissions", "routes::only_interest_that_is_allowed_crosses"),
    ("cluster.authorization.permissions", "routes::only_interest_that_is_allowed_crosses"),
    ("cluster.tls", "routes::servers_that_trust_each_other_meet_over_tls"),
    ("tls.insecure", "routes::an_insecure_server_dials_whoever_it_is_told_to"),
    ("cluster.write_deadline", "routes::a_server_that_reads_nothing_is_closed_and_publishers_go_on"),
    ("cluster.write_timeout", "routes::a_slow_server_is_closed_if_that_is_wanted"),
    ("cluster.ping_interval", "cluster::a_route_listener_of_host_and_port_and_other_settings_take_effect"),
    ("cluster.ping_max", "cluster::a_route_whose_other_side_is_silent_is_closed"),
    ("cluster.authorization.user", "cluster::a_cluster_with_a_password_lets_only_those_in_who_know_it"),
    ("cluster.authorization.pass", "cluster::a_cluster_with_a_password_lets_only_those_in_who_know_it"),
    (
        "cluster.authorization.timeout",
        "cluster::a_route_listener_of_host_and_port_and_other_settings_take_effect",
    ),
    ("allow_responses.max", "logins.txt: answers are allowed by the request"),
];

/// Keys of which `docs/operations/differences.md` says that they have no effect, or none beside the default's.
const WITHOUT_EFFECT: &[&str] = &[
    "write_timeout",
    "tls.allow_insecure_cipher_suites",
    "disable_sublist_cache",
    "connect_error_reports",
    "reconnect_error_reports",
    "account limits.max_leafnodes",
    "account jetstream.cluster_traffic",
    "jetstream.limits.max_ha_assets",
    "jetstream.limits.batch",
];

#[test]
fn tests_elsewhere_exist() {
    for (key, test) in ELSEWHERE {
        let there = match test.split_once(": ").or_else(|| test.split_once("::")) {
            Some(("errors.txt", title)) => {
                include_str!("../testdata/errors.txt").contains(&format!("== {title}\n"))
            }
            Some(("logins.txt", title)) => {
                include_str!("../testdata/logins.txt").contains(&format!("== {title}\n"))
            }
            Some(("processes", name)) => include_str!("processes.rs").contains(&format!("fn {name}()")),
            Some(("tls", name)) => {
                let text = include_str!("tls.rs");
                text.contains(&format!("fn {name}(kind)")) || text.contains(&format!("fn {name}()"))
            }
            Some(("linnet-broker", name)) => {
                include_str!("../../crates/broker/src/cluster/dial.rs").contains(&format!("fn {name}()"))
            }
            Some(("cluster", name)) => include_str!("cluster.rs").contains(&format!("fn {name}()")),
            Some(("routes", name)) => {
                let texts = [
                    include_str!("routes/compression.rs"),
                    include_str!("routes/limits.rs"),
                    include_str!("routes/permissions.rs"),
                    include_str!("routes/tls.rs"),
                ];
                texts.iter().any(|text| text.contains(&format!("fn {name}()")))
            }
            Some(("scrub", name)) => include_str!("scrub.rs").contains(&format!("fn {name}()")),
            Some(("linnet-server", name)) => {
                include_str!("../../crates/server/src/build.rs").contains(&format!("fn {name}()"))
            }
            _ => false,
        };
        assert!(there, "{key}: {test}");
    }
}

#[test]
fn every_key_is_proven() {
    let tables = [CONNECTIONS, MONITORING_AND_LOG, ACCOUNTS, ACCOUNT_JETSTREAM, JETSTREAM];
    let mut proven: BTreeSet<&str> = tables.iter().copied().flatten().flat_map(|c| c.keys).copied().collect();
    proven.extend(ELSEWHERE.iter().map(|(key, _)| key));
    proven.extend(WITHOUT_EFFECT);
    let accepted: BTreeSet<String> = options::sections()
        .iter()
        // Its keys go with the block, which has no effect.
        .filter(|section| section.path != "jetstream.limits.batch")
        .flat_map(|section| {
            let dot = if section.path.is_empty() { "" } else { "." };
            let now = section.keys.iter().filter(|key| key.support == Support::Now);
            now.map(move |key| format!("{}{dot}{}", section.path, key.name)).collect::<Vec<_>>()
        })
        .collect();
    let missing: Vec<_> = accepted.iter().filter(|key| !proven.contains(key.as_str())).collect();
    let unknown: Vec<_> = proven.iter().filter(|key| !accepted.contains(**key)).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "not proven: {missing:?}\nnot accepted: {unknown:?}");
}

fn run(kind: Kind, cases: &[Case], around: &str) {
    let Some(program) = program(kind) else { return };
    let mut failed = Vec::new();
    for case in cases {
        let mut text = around.replace('@', case.config);
        if !text.contains("port: -1") && !text.contains("listen:") {
            text += "\nlisten: \"127.0.0.1:-1\"";
        }
        if !text.contains("http:") && !text.contains("http_port:") {
            text += "\nhttp: \"127.0.0.1:-1\"";
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let spec = Spec::new(&program).config(text).ready(linnet_launch::Ready::Info, LONG);
            (case.look)(&mut Running { server: spec.start().unwrap_or_else(|error| panic!("{error}")) });
        }));
        if outcome.is_err() {
            failed.push(case.config);
        }
    }
    assert!(failed.is_empty(), "on {kind:?}, without the effect seen above:\n{}", failed.join("\n"));
}

macro_rules! tables {
    ($($name:ident: $cases:ident in $around:expr;)+) => {
        mod linnet {
            $(#[test] fn $name() { super::run(super::Kind::Linnet, super::$cases, $around); })+
        }
        mod peer {
            $(#[test] fn $name() { super::run(super::Kind::Peer, super::$cases, $around); })+
        }
    };
}

tables! {
    connections: CONNECTIONS in "@";
    monitoring_and_log: MONITORING_AND_LOG in "@";
    accounts: ACCOUNTS in "@";
    account_jetstream: ACCOUNT_JETSTREAM in super::IN_AN_ACCOUNT;
    jetstream: JETSTREAM in "@";
}
