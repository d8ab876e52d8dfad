//! Dialogues of servers as data (`testdata/route_*.txt`), each against both servers. The script is the other servers, on
//! connections `A` to `F`, and clients, on connections `1` to `9`. Cases are written as in `wire_scripts`; the steps are:
//!
//! ```text
//! A> RS+ $G a                   the server A sends this line
//! A>> half a line               the server A sends these bytes
//! A>! \xff\x06                  the same as they are, where others are compressed
//! A packed                      from here on both sides compress
//! A< RS+ $G a                   the server under test sends A this line; `…` at the end: one that starts so
//! A<~ INFO {"cluster":"C","nonce":true,"ip":null}
//!                               it sends A such a JSON: these values; `true` for a text that is there, null for none
//! A enter {"route_pool_idx":1}  A reads INFO and shakes hands, with these values in its INFO
//! A closed                      the server has closed the connection
//! A idle                        the connection is open and there is nothing to read: a PING gets its PONG
//! 1> SUB a 1                    the same for a client, which is logged in
//! L< CONNECT…                   connections `L` to `P` are those that the server under test opens to `{port}`
//! M accept {"route_pool_idx":1} the server L shakes hands, on the connection whose INFO says so
//! peer A< PONG                  only if nats-server is under test; `linnet` only if it is not
//! ```
//!
//! `{A}` stands for the id of the server A, `{own}` for that of the server under test. PING, and interest of the system
//! account, is not waited for.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use linnet_launch::{Options, Spec, poll_until};
use serde_json::{Value, json};

use crate::harness::{Fixture, Kind, LONG, PLAIN, Raw, program};
use crate::wire_scripts::{Case, bytes, cases};

/// The connections of one case.
struct Play<'a> {
    kind: Kind,
    fixture: &'a Fixture,
    /// Number of the case: servers of others may not have gone yet.
    number: usize,
    own: String,
    connections: BTreeMap<char, Raw>,
    listener: &'a TcpListener,
    /// Connections that were opened for something else than what was waited for, and their INFO.
    others: Vec<(Raw, Value)>,
}

/// A server, the configuration it has, and where others are that it may dial.
struct Running {
    config: String,
    fixture: Fixture,
    listener: TcpListener,
}

impl Running {
    fn start(kind: Kind, program: &Path, config: &str) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let extra = config.replace("{port}", &port);
        let options = Options { name: Some("n".to_owned()), extra, monitor: true, ..PLAIN() };
        let fixture = Fixture::start(kind, Spec::new(program).options(options));
        Self { config: config.to_owned(), fixture, listener }
    }
}

fn run(kind: Kind, script: &str) {
    let Some(program) = program(kind) else { return };
    let mut failed = Vec::new();
    let mut running: Option<Running> = None;
    for (number, case) in cases(script).iter().enumerate() {
        // Servers that are dialled are dialled anew for each case.
        let dials = case.steps.iter().any(|(_, step)| step.starts_with(is_dialled));
        if dials || running.as_ref().is_none_or(|running| running.config != case.config) {
            running = Some(Running::start(kind, &program, &case.config));
        }
        let Running { fixture, listener, .. } = running.as_mut().unwrap();
        let (connections, others) = (BTreeMap::new(), Vec::new());
        let mut play = Play { kind, fixture, number, own: String::new(), connections, listener, others };
        if let Err(why) = play.case(case) {
            failed.push(format!("{}: {why}", case.title));
        }
        drop(play);
        if !fixture.server.is_running() {
            failed.push(format!("{}: the server has ended", case.title));
            running = None;
        } else if !poll_until(LONG, || has_no_client(fixture)) {
            // What clients were interested in would be told to the servers of the next case.
            failed.push(format!("{}: clients do not go", case.title));
        }
    }
    assert!(failed.is_empty(), "{} cases failed on {kind:?}:\n{}", failed.len(), failed.join("\n"));
}

fn has_no_client(fixture: &Fixture) -> bool {
    let page = fixture.server.monitor_get("/connz").unwrap();
    serde_json::from_str::<Value>(&page.body).unwrap()["num_connections"] == 0
}

fn is_dialled(who: char) -> bool {
    matches!(who, 'L'..='P')
}

impl Play<'_> {
    fn case(&mut self, case: &Case) -> Result<(), String> {
        for (number, step) in &case.steps {
            let (kind, step) = match step.split_once(' ') {
                Some(("linnet", step)) => (Kind::Linnet, step),
                Some(("peer", step)) => (Kind::Peer, step),
                _ => (self.kind, step.as_str()),
            };
            if kind != self.kind {
                continue;
            }
            let played = catch_unwind(AssertUnwindSafe(|| self.step(step)));
            let outcome = played.unwrap_or_else(|panic| {
                Err(panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "no answer".to_owned()))
            });
            outcome.map_err(|why| format!("line {number}: {step}: {why}"))?;
        }
        Ok(())
    }

    fn step(&mut self, step: &str) -> Result<(), String> {
        let who = step.chars().next().expect("a step has a connection");
        assert!(is_dialled(who) || matches!(who, 'A'..='F' | '1'..='9'), "not a step: {step}");
        let step = step[1..].trim_start();
        if let Some(wanted) = step.strip_prefix("accept ") {
            let raw = self.accept(&serde_json::from_str(wanted).unwrap());
            self.connections.insert(who, raw);
            return Ok(());
        }
        if !self.connections.contains_key(&who) {
            let raw = if is_dialled(who) {
                self.next_dialled()
            } else if who.is_ascii_digit() {
                Raw::login(self.fixture.addr())
            } else {
                Raw::connect(self.fixture.server.ports().cluster[0])
            };
            self.connections.insert(who, raw);
        }
        if step == "packed" {
            self.connections.get_mut(&who).unwrap().pack();
        } else if let Some(text) = step.strip_prefix(">! ") {
            let bytes = bytes(&self.named(text));
            self.connections.get_mut(&who).unwrap().send_as_it_is(&bytes);
        } else if let Some(text) = step.strip_prefix(">> ") {
            self.send(who, &bytes(&self.named(text)));
        } else if let Some(text) = step.strip_prefix("> ") {
            self.send(who, &[bytes(&self.named(text)), b"\r\n".to_vec()].concat());
        } else if let Some(text) = step.strip_prefix("<~ ") {
            return self.json(who, text);
        } else if let Some(text) = step.strip_prefix("< ") {
            let expected = String::from_utf8(bytes(&self.named(text))).unwrap();
            let got = self.line(who);
            let matches = got.as_ref().is_some_and(|line| match expected.strip_suffix('…') {
                Some(start) => line.starts_with(start),
                None => *line == expected,
            });
            return if matches { Ok(()) } else { Err(format!("got {got:?}")) };
        } else if let Some(fields) = step.strip_prefix("enter") {
            self.json(who, "INFO {}")?;
            self.enter(who, fields.trim());
        } else if step == "closed" {
            return self.line(who).map_or(Ok(()), |line| Err(format!("it is open, and says {line:?}")));
        } else if step == "idle" {
            self.send(who, b"PING\r\n");
            let got = self.line(who);
            return if got.as_deref() == Some("PONG") { Ok(()) } else { Err(format!("got {got:?}")) };
        } else {
            panic!("not a step: {step}");
        }
        Ok(())
    }

    /// The next connection that the server under test opens.
    fn next_dialled(&self) -> Raw {
        let mut accepted = None;
        poll_until(LONG, || {
            accepted = self.listener.accept().ok();
            accepted.is_some()
        });
        let (stream, _) = accepted.expect("nobody dials");
        stream.set_nonblocking(false).unwrap();
        Raw::over(stream)
    }

    /// Shakes hands with the server under test on every connection that it opens, until one is for what is wanted.
    fn accept(&mut self, wanted: &Value) -> Raw {
        let is_wanted =
            |info: &Value| wanted.as_object().unwrap().iter().all(|(key, value)| info[key] == *value);
        if let Some(at) = self.others.iter().position(|(_, info)| is_wanted(info)) {
            return self.others.remove(at).0;
        }
        loop {
            let mut raw = self.next_dialled();
            assert!(raw.line().unwrap().starts_with("CONNECT "));
            let info = json!({"server_id": self.id('L'), "server_name": self.id('L'), "cluster": "C", "headers": true,
                "host": "127.0.0.1", "port": 1, "route_pool_size": 2, "lnoc": true, "lnocu": true, "ln": true});
            raw.send(format!("INFO {info}\r\n").as_bytes());
            let line = raw.line().unwrap();
            let info = serde_json::from_str(line.strip_prefix("INFO ").expect("an INFO")).unwrap();
            if is_wanted(&info) {
                return raw;
            }
            self.others.push((raw, info));
        }
    }

    fn send(&mut self, who: char, bytes: &[u8]) {
        self.connections.get_mut(&who).unwrap().send(bytes);
    }

    /// The next line that is waited for; `None` at the end.
    fn line(&mut self, who: char) -> Option<String> {
        let raw = self.connections.get_mut(&who).unwrap();
        loop {
            let line = raw.line()?;
            let is_expected =
                ["RS+ $SYS", "RS- $SYS", "LS+ $SYS"].iter().all(|start| !line.starts_with(start));
            if line != "PING" && is_expected {
                return Some(line);
            }
        }
    }

    /// A line of a verb and JSON with these values.
    fn json(&mut self, who: char, expected: &str) -> Result<(), String> {
        let (verb, expected) = expected.split_once(' ').expect("a verb and values");
        let expected: Value = serde_json::from_str(&self.named(expected)).unwrap();
        let got = self.line(who);
        let text = got.as_deref().and_then(|line| line.strip_prefix(verb)).unwrap_or_default();
        let values: Value = serde_json::from_str(text).map_err(|_| format!("got {got:?}"))?;
        for (key, wanted) in expected.as_object().unwrap() {
            let value = &values[key];
            let is_right =
                *value == *wanted || (*wanted == true && value.as_str().is_some_and(|s| !s.is_empty()));
            if !is_right {
                return Err(format!("{key} is {value}"));
            }
        }
        if self.own.is_empty() {
            let id = values["server_id"].as_str().or_else(|| values["name"].as_str());
            id.unwrap_or_default().clone_into(&mut self.own);
        }
        Ok(())
    }

    fn enter(&mut self, who: char, fields: &str) {
        let id = self.id(who);
        let mut info = json!({"server_id": id, "server_name": id, "cluster": "C", "host": "127.0.0.1", "port": 1,
            "headers": true, "route_pool_size": 2, "lnoc": true, "lnocu": true, "ln": true});
        let fields = if fields.is_empty() { "{}".to_owned() } else { self.named(fields) };
        let fields: Value = serde_json::from_str(&fields).unwrap();
        for (key, value) in fields.as_object().unwrap() {
            info[key] = value.clone();
        }
        let connect = json!({"name": id, "cluster": "C", "headers": true, "lnoc": true, "ln": true});
        self.send(who, format!("CONNECT {connect}\r\nINFO {info}\r\n").as_bytes());
    }

    fn id(&self, who: char) -> String {
        format!("X{}{who}", self.number)
    }

    /// The text with the servers' ids in it.
    fn named(&self, text: &str) -> String {
        let port = self.listener.local_addr().unwrap().port().to_string();
        let mut text = text.replace("{own}", &self.own).replace("{port}", &port);
        for who in 'A'..='P' {
            text = text.replace(&format!("{{{who}}}"), &self.id(who));
        }
        text
    }
}

macro_rules! scripts {
    ($($name:ident)+) => {
        mod linnet {
            $(#[test] fn $name() {
                super::run(super::Kind::Linnet, include_str!(concat!("../testdata/", stringify!($name), ".txt")));
            })+
        }
        mod peer {
            $(#[test] fn $name() {
                super::run(super::Kind::Peer, include_str!(concat!("../testdata/", stringify!($name), ".txt")));
            })+
        }
    };
}

scripts! { route_compression route_handshake route_interest route_messages route_infos route_dialled }
