//! The configuration read again while the server runs. What is said of nats-server runs against it, too.

mod jetstream;

use std::fs;
use std::path::Path;
use std::process::Command;

use futures_util::StreamExt as _;
use linnet_launch::{Server, Spec, poll_until};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Authority, Kind, LONG, Raw, TlsClient, program, round_trip, run, within};

/// What every configuration here has.
const BASE: &str = "listen: \"127.0.0.1:-1\"\nhttp: \"127.0.0.1:-1\"\nserver_name: one\n";

struct Running {
    server: Server,
    /// Length of the log before the last reload.
    log_before: usize,
}

impl Running {
    fn start(kind: Kind, dir: Option<&Path>, config: &str) -> Option<Self> {
        let mut spec = Spec::new(program(kind)?).config(format!("{BASE}{config}"));
        if let Some(dir) = dir {
            spec = spec.dir(dir);
        }
        let server = spec.start().unwrap_or_else(|error| panic!("{error}"));
        Some(Self { server, log_before: 0 })
    }

    fn log(&self) -> String {
        let log = fs::read(self.server.log_file()).unwrap();
        String::from_utf8_lossy(&log[self.log_before..]).into_owned()
    }

    /// Puts this configuration in place and waits for what comes of the reload; everything it logged.
    fn reload(&mut self, config: &str) -> String {
        self.reload_all(&format!("{BASE}{config}"))
    }

    fn reload_all(&mut self, config: &str) -> String {
        let dir = self.server.dir().display().to_string();
        fs::write(self.server.dir().join("server.conf"), config.replace("$DIR", &dir)).unwrap();
        self.log_before = fs::metadata(self.server.log_file()).unwrap().len().try_into().unwrap();
        self.server.signal(Signal::HUP).unwrap();
        let done = || {
            let log = self.log();
            log.contains("Reloaded server configuration (sha256:")
                || log.contains("Failed to reload server configuration: ")
        };
        assert!(poll_until(LONG, done), "{}", self.log());
        self.log()
    }

    fn page(&self, path: &str) -> Value {
        serde_json::from_str(&self.server.monitor_get(path).unwrap().body).unwrap()
    }

    fn closed_for(&self, cid: &Value, reason: &str) -> bool {
        poll_until(LONG, || {
            let closed = self.page("/connz?state=closed");
            let all = closed["connections"].as_array().unwrap();
            all.iter().any(|c| c["cid"] == *cid && c["reason"] == reason)
        })
    }

    /// A connection of this user, whose password is `p`, with its id.
    fn user(&self, name: &str) -> (Raw, Value) {
        let mut raw = Raw::connect(self.server.client_addr().unwrap());
        let info: Value = serde_json::from_str(raw.line().unwrap().strip_prefix("INFO ").unwrap()).unwrap();
        let login = if name.is_empty() { json!({}) } else { json!({"user": name, "pass": "p"}) };
        let mut fields = json!({"verbose": false, "headers": true, "protocol": 0});
        fields.as_object_mut().unwrap().extend(login.as_object().unwrap().clone());
        raw.send(format!("CONNECT {fields}\r\n").as_bytes());
        raw.ping();
        (raw, info["client_id"].clone())
    }
}

/// Keys that cannot change, and what is said of them.
const REFUSED: &[(&str, &str)] = &[
    ("max_pending: 100MB", "MaxPending: old=67108864, new=104857600"),
    ("max_subs: 5", "MaxSubs: old=0, new=5"),
    ("max_sub_tokens: 5", "MaxSubTokens: old=0, new=5"),
    ("max_closed_clients: 5", "MaxClosedClients: old=10000, new=5"),
    ("lame_duck_duration: \"40s\"", "LameDuckDuration: old=2m0s, new=40s"),
    ("lame_duck_grace_period: \"5s\"", "LameDuckGracePeriod: old=10s, new=5s"),
    ("no_header_support: true", "NoHeaderSupport: old=false, new=true"),
    ("disable_sublist_cache: true", "NoSublistCache: old=false, new=true"),
    ("write_timeout: close", "WriteTimeout: old=, new=close"),
    ("http_base_path: /x", "HTTPBasePath: old=, new=/x"),
    ("https_port: 5", "HTTPSPort: old=0, new=5"),
    ("log_size_limit: 1000", "LogSizeLimit: old=0, new=1000"),
    ("log_max_num: 4", "LogMaxFiles: old=0, new=4"),
    ("accounts {S {users: [{user: z}]}}\nsystem_account: S", "SystemAccount: old=, new=S"),
    ("accounts {S {users: [{user: z}]}}\nno_auth_user: z", "NoAuthUser: old=, new=z"),
    ("no_system_account: true", "NoSystemAccount: old=false, new=true"),
    ("feature_flags {a: true}", "FeatureFlags: old=map[], new=map[a:true]"),
    ("allow_non_tls: true", "AllowNonTLS: old=false, new=true"),
];

on_both_kinds! {
    fn what_cannot_change_refuses_the_whole_reload(kind) {
        let Some(mut running) = Running::start(kind, None, "") else { return };
        let before = running.page("/varz")["config_digest"].clone();
        for (change, said) in REFUSED {
            let log = running.reload(&format!("{change}\nmax_payload: 1000\nserver_tags: [x]\n"));
            let expected = format!("Failed to reload server configuration: config reload not supported for {said}\n");
            assert!(log.contains(&expected), "{change}: {log}");
        }
        for (from, to, said) in [
            ("server_name: one", "server_name: two", "ServerName: old=one, new=two"),
            ("listen: \"127.0.0.1:-1\"", "listen: \"0.0.0.0:-1\"", "Host: old=127.0.0.1, new=0.0.0.0"),
        ] {
            let log = running.reload_all(&BASE.replace(from, to));
            assert!(log.contains(&format!("config reload not supported for {said}\n")), "{log}");
        }
        let log = running.reload("max_payload: 1000\nnonsense: 1\n");
        assert!(log.contains("Failed to reload server configuration: ") && log.contains("unknown field \"nonsense\""), "{log}");
        let log = running.reload("max_payload: 1000\ntls { cert_file: \"$DIR/no.pem\", key_file: \"$DIR/no.key\" }\n");
        assert!(log.contains("no such file or directory"), "{log}");
        let varz = running.page("/varz");
        assert_eq!((&varz["max_payload"], &varz["tags"]), (&1_048_576.into(), &Value::Null));
        assert_eq!((&varz["config_digest"], &varz["tls_required"]), (&before, &Value::Null));
    }

    fn what_can_change_is_changed_and_said(kind) {
        let Some(mut running) = Running::start(kind, None, "") else { return };
        let log = running.reload("");
        for line in ["Trapped \"hangup\" signal", "Reloaded: authorization users", "Reloaded: accounts"] {
            assert!(log.contains(line), "{line:?} not in {log}");
        }
        let log = running.reload(
            "max_control_line: 2000\nmax_payload: 3000\nping_interval: \"30s\"\nping_max: 3\nwrite_deadline: \"5s\"\n\
             max_traced_msg_len: 7\nclient_advertise: \"here:7\"\npid_file: \"$DIR/pid\"\nserver_tags: [q]\n\
             server_metadata: {a: b}\nno_fast_producer_stall: true\nlogtime_utc: true\nmax_connections: 100\n\
             connect_error_reports: 5\nreconnect_error_reports: 6\nauthorization {timeout: 3}\n",
        );
        for line in [
            "Reloaded: max_control_line = 2000", "Reloaded: max_payload = 3000", "Reloaded: ping_interval = 30s",
            "Reloaded: ping_max = 3", "Reloaded: write_deadline = 5s", "Reloaded: max_traced_msg_len = 7",
            "Reload: client_advertise = here:7", "Reloaded: pid_file = ", "Reloaded: tags", "Reloaded: metadata",
            "Reloaded: fast producers will not be stalled", "Reloaded: logtime_utc = true",
            "Reloaded: max_connections = 100", "Reloaded: connect_error_reports = 5",
            "Reloaded: reconnect_error_reports = 6", "Reloaded: authorization timeout = 3",
        ] {
            assert!(log.contains(line), "{line:?} not in {log}");
        }
        let varz = running.page("/varz");
        for (field, value) in [
            ("max_control_line", json!(2000)), ("max_payload", json!(3000)), ("ping_max", json!(3)),
            ("ping_interval", json!(30_000_000_000_u64)), ("write_deadline", json!(5_000_000_000_u64)),
            ("tags", json!(["q"])), ("metadata", json!({"a": "b"})), ("max_connections", json!(100)),
        ] {
            assert_eq!(varz[field], value, "{field}");
        }
        assert_eq!(varz["auth_timeout"].as_f64(), Some(3.0));
        assert!(log.contains(varz["config_digest"].as_str().unwrap()), "{log}");
        assert_eq!(fs::read_to_string(running.server.dir().join("pid")).unwrap(), running.server.pid().to_string());
        let mut raw = Raw::connect(running.server.client_addr().unwrap());
        let info: Value = serde_json::from_str(raw.line().unwrap().strip_prefix("INFO ").unwrap()).unwrap();
        assert_eq!((&info["host"], &info["port"], &info["max_payload"]), (&"here".into(), &7.into(), &3000.into()));
    }

    fn limits_hold_for_clients_that_are_connected(kind) {
        let Some(mut running) = Running::start(kind, None, "") else { return };
        let (mut raw, _) = running.user("");
        raw.send(format!("PUB a 200\r\n{}\r\n", "x".repeat(200)).as_bytes());
        raw.ping();
        running.reload("max_payload: 100\n");
        raw.send(format!("PUB a 200\r\n{}\r\n", "x".repeat(200)).as_bytes());
        assert_eq!(raw.until_closed(), ["-ERR 'Maximum Payload Violation'"]);
    }

    fn levels_and_file_of_the_log_change(kind) {
        let Some(mut running) = Running::start(kind, None, "") else { return };
        let log = running.reload("debug: true\ntrace: true\n");
        assert!(log.contains("Reloaded: debug = true") && log.contains("Reloaded: trace = true"), "{log}");
        let (_raw, _) = running.user("");
        let shown = || running.log().contains("[DBG]") && running.log().contains("<<- [PING]");
        assert!(poll_until(LONG, shown), "{}", running.log());
        let file = running.server.dir().join("other.log");
        fs::write(running.server.dir().join("server.conf"), format!("{BASE}log_file: \"{}\"\n", file.display())).unwrap();
        running.server.signal(Signal::HUP).unwrap();
        let text = || fs::read_to_string(&file).unwrap_or_default();
        assert!(poll_until(LONG, || text().contains("Reloaded server configuration")), "{}", text());
        let (_raw, _) = running.user("");
        assert!(!text().contains("<<- [PING]"), "{}", text());
    }

    fn permissions_that_go_take_subscriptions_along(kind) {
        let users = |rules: &str| format!(
            "authorization {{ users: [{{user: a, password: p}}, {{user: u, password: p, permissions: {{{rules}}}}}] }}\n"
        );
        let Some(mut running) = Running::start(kind, None, &users("subscribe: [\"x.>\"], publish: ok")) else { return };
        let (mut raw, _) = running.user("u");
        raw.send(b"SUB x.a 1\r\nSUB x.* 2\r\nPUB ok 0\r\n\r\n");
        raw.ping();
        running.reload(&users("subscribe: {allow: [\"x.>\"], deny: [\"x.a\"]}, publish: other"));
        let gone = "-ERR 'Permissions Violation for Subscription to \"x.a\" (sid \"1\")'";
        assert_eq!(raw.line().as_deref(), Some(gone));
        // What was allowed before is judged anew.
        raw.send(b"PUB ok 0\r\n\r\n");
        assert_eq!(raw.line().as_deref(), Some("-ERR 'Permissions Violation for Publish to \"ok\"'"));
        let (mut publisher, _) = running.user("a");
        publisher.send(b"PUB x.a 0\r\n\r\nPUB x.b 0\r\n\r\n");
        publisher.ping();
        assert_eq!(raw.line().as_deref(), Some("MSG x.b 2 0"));
        assert_eq!(raw.line().as_deref(), Some(""));
        // And back.
        running.reload(&users("subscribe: [\"x.>\"], publish: ok"));
        publisher.send(b"PUB x.a 0\r\n\r\n");
        assert_eq!(raw.line().as_deref(), Some("MSG x.a 2 0"));
        assert_eq!(raw.line().as_deref(), Some(""));
        raw.send(b"PUB ok 0\r\n\r\n");
        raw.ping();
    }

    fn who_may_not_be_here_any_more_is_closed(kind) {
        let users = "accounts { A { users: [{user: a, password: p}, {user: b, password: p}, {user: c, password: p}, {user: d, password: p}] } }\n";
        let Some(mut running) = Running::start(kind, None, users) else { return };
        let (mut stays, _) = running.user("a");
        let (mut other_password, refused) = running.user("b");
        let (mut gone, gone_id) = running.user("c");
        let (mut moved, moved_id) = running.user("d");
        running.reload(
            "accounts { A { users: [{user: a, password: p}, {user: b, password: q}] }, B { users: [{user: d, password: p}] } }\n",
        );
        assert_eq!(other_password.until_closed(), ["-ERR 'Authorization Violation'"]);
        assert_eq!(gone.until_closed(), Vec::<String>::new());
        assert_eq!(moved.until_closed(), Vec::<String>::new());
        stays.ping();
        assert!(running.closed_for(&refused, "Authentication Failure"));
        assert!(running.closed_for(&gone_id, "Client Closed") && running.closed_for(&moved_id, "Client Closed"));
        // The accounts are what the file says, too.
        let (mut moved, _) = running.user("d");
        moved.send(b"SUB t 1\r\n");
        moved.ping();
        stays.send(b"SUB t 1\r\nPUB t 0\r\n\r\n");
        assert_eq!(stays.line().as_deref(), Some("MSG t 1 0"));
        assert_eq!(stays.line().as_deref(), Some(""));
        moved.ping();
        running.reload("");
        assert_eq!(stays.until_closed(), Vec::<String>::new());
    }

    fn clients_over_the_new_maximum_are_closed(kind) {
        let Some(mut running) = Running::start(kind, None, "") else { return };
        let mut clients: Vec<Raw> = (0..3).map(|_| running.user("").0).collect();
        let log = running.reload("max_connections: 1\n");
        assert!(log.contains("Closed 2 connections to fall within max_connections"), "{log}");
        assert!(poll_until(LONG, || running.page("/varz")["connections"] == 1));
        drop(clients.drain(..));
    }

    fn a_new_certificate_is_shown_to_new_clients_and_nobody_is_disturbed(kind) {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path(), "ca");
        let first = authority.server("server");
        let tls = "tls { cert_file: \"$DIR/server.pem\", key_file: \"$DIR/server.key\" }\n";
        let Some(mut running) = Running::start(kind, Some(dir.path()), tls) else { return };
        let addr = running.server.client_addr().unwrap();
        let trusting = TlsClient::new(&authority.file(), None);
        let (_, mut kept) = trusting.connect(addr).unwrap();
        assert_eq!(kept.certificate(), first.der().to_vec());
        assert_eq!(kept.login("").unwrap().as_deref(), Some("PONG"));
        run(async || {
            let connect = || {
                let options = async_nats::ConnectOptions::new().add_root_certificates(authority.file());
                options.connect(format!("tls://localhost:{}", addr.port()))
            };
            let (sender, receiver) = (connect().await.unwrap(), connect().await.unwrap());
            let mut messages = receiver.subscribe("load").await.unwrap();
            round_trip(&receiver).await;
            let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
            let sending = tokio::spawn(async move {
                let mut sent = 0_u64;
                while stopped.try_recv().is_err() {
                    sender.publish("load", sent.to_string().into()).await.unwrap();
                    sent += 1;
                    tokio::task::yield_now().await;
                }
                sender.flush().await.unwrap();
                sent
            });
            for _ in 0..3 {
                let next = authority.server("server");
                running.reload(tls);
                let (_, mut fresh) = trusting.connect(addr).unwrap();
                assert_eq!(fresh.certificate(), next.der().to_vec());
                assert_eq!(fresh.login("").unwrap().as_deref(), Some("PONG"));
                let heard = within("a message", messages.next()).await.unwrap();
                assert_eq!(heard.subject.as_str(), "load");
            }
            stop.send(()).unwrap();
            let sent = sending.await.unwrap();
            // Three of them have been taken above; each bears its number.
            for n in 3..sent {
                let message = within("the rest", messages.next()).await.unwrap();
                assert_eq!(message.payload, n.to_string());
            }
            let conns = running.page("/varz");
            assert!(conns["slow_consumers"] == 0, "{conns}");
        });
        kept.send(b"PING\r\n").unwrap();
        assert_eq!(kept.line().unwrap().as_deref(), Some("PONG"));
    }

    fn tls_comes_and_goes(kind) {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path(), "ca");
        authority.server("server");
        authority.client("joe", &[]);
        let Some(mut running) = Running::start(kind, Some(dir.path()), "") else { return };
        let (mut plain, _) = running.user("");
        let tls = |more: &str| format!("tls {{ cert_file: \"$DIR/server.pem\", key_file: \"$DIR/server.key\"{more} }}\n");
        let log = running.reload(&tls(""));
        assert!(log.contains("Reloaded: tls = enabled"), "{log}");
        plain.ping();
        let addr = running.server.client_addr().unwrap();
        let joe = TlsClient::new(&authority.file(), Some((dir.path(), "joe")));
        let (info, mut secure) = joe.connect(addr).unwrap();
        assert!(info.contains("\"tls_required\":true"), "{info}");
        assert_eq!(secure.login("").unwrap().as_deref(), Some("PONG"));
        let log = running.reload(&tls(", verify_and_map: true, ca_file: \"$DIR/ca.pem\""));
        assert!(log.contains("config reload not supported for TLSMap: old=false, new=true"), "{log}");
        let log = running.reload(&tls(", connection_rate_limit: 4"));
        assert!(log.contains("config reload not supported for TLSRateLimit: old=0, new=4"), "{log}");
        running.reload(&tls(", verify: true, ca_file: \"$DIR/ca.pem\", timeout: 3"));
        let (_, mut verified) = joe.connect(addr).unwrap();
        assert_eq!(verified.login("").unwrap().as_deref(), Some("PONG"));
        let pins = format!(", verify: true, ca_file: \"$DIR/ca.pem\", pinned_certs: [\"{}\"]", "a".repeat(64));
        let log = running.reload(&tls(&pins));
        assert!(log.contains("Reloaded: 1 pinned_certs"), "{log}");
        assert_eq!(verified.rest(), "", "a client whose key is not pinned is closed");
        let log = running.reload("");
        assert!(log.contains("Reloaded: tls = disabled"), "{log}");
        running.user("").0.ping();
    }

    fn the_signal_flag_reloads(kind) {
        let Some(running) = Running::start(kind, None, "") else { return };
        let config = format!("{BASE}server_tags: [later]\n");
        fs::write(running.server.dir().join("server.conf"), config).unwrap();
        let sent = Command::new(program(kind).unwrap())
            .args(["--signal", &format!("reload={}", running.server.pid())])
            .status()
            .unwrap();
        assert!(sent.success());
        assert!(poll_until(LONG, || running.page("/varz")["tags"] == json!(["later"])));
    }
}
