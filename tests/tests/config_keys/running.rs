//! A server with the configuration of a row, and what is asked of it.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use linnet_launch::{Deadline, Server, poll_until};
use serde_json::{Value, json};

use crate::harness::{LONG, Raw};

/// Well below the defaults of the durations that are shortened here.
pub(super) const SHORT: Duration = Duration::from_secs(6);

pub(super) struct Case {
    /// The keys that this proves, with their sections.
    pub(super) keys: &'static [&'static str],
    pub(super) config: &'static str,
    pub(super) look: fn(&mut Running),
}

pub(super) struct Running {
    pub(super) server: Server,
}

impl Running {
    /// A connection that has read INFO, which is returned with it, and has sent CONNECT.
    pub(super) fn enter(&self, connect: &Value) -> (Raw, Value) {
        let mut raw = Raw::connect(self.server.client_addr().unwrap());
        let line = raw.line().unwrap();
        let info = serde_json::from_str(line.strip_prefix("INFO ").unwrap()).unwrap();
        let mut fields = json!({"verbose": false, "headers": true});
        fields.as_object_mut().unwrap().extend(connect.as_object().unwrap().clone());
        raw.send(format!("CONNECT {fields}\r\n").as_bytes());
        (raw, info)
    }

    pub(super) fn client(&self) -> Raw {
        self.user("")
    }

    /// A connection of this user, whose password is `p`; of nobody if the name is empty.
    pub(super) fn user(&self, name: &str) -> Raw {
        let login = if name.is_empty() { json!({}) } else { json!({"user": name, "pass": "p"}) };
        let mut raw = self.enter(&login).0;
        raw.ping();
        raw
    }

    pub(super) fn info(&self) -> Value {
        self.enter(&json!({})).1
    }

    pub(super) fn page(&self, path: &str) -> Value {
        serde_json::from_str(&self.server.monitor_get(path).unwrap().body).unwrap()
    }

    pub(super) fn varz(&self) -> Value {
        self.page("/varz")
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.server.log_file()).unwrap()
    }

    pub(super) fn wait_log(&self, text: &str) {
        assert!(poll_until(LONG, || self.log().contains(text)), "no {text:?} in:\n{}", self.log());
    }

    /// The reason with which the connection that does not read was closed, once much has been sent to it.
    pub(super) fn flood(&self) -> String {
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

pub(super) fn api(raw: &mut Raw, subject: &str, body: &Value) -> Value {
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

pub(super) fn code(answer: &Value) -> u64 {
    answer["error"]["err_code"].as_u64().unwrap_or_default()
}

pub(super) fn stream(raw: &mut Raw, mut config: Value) -> u64 {
    let name = config["name"].as_str().unwrap().to_owned();
    if config["subjects"].is_null() {
        config["subjects"] = json!([format!("{name}.>")]);
    }
    code(&api(raw, &format!("STREAM.CREATE.{name}"), &config))
}

pub(super) fn consumer(raw: &mut Raw, stream: &str, config: &Value) -> u64 {
    let name = config["durable_name"].as_str().unwrap();
    let body = json!({"stream_name": stream, "config": config});
    code(&api(raw, &format!("CONSUMER.CREATE.{stream}.{name}"), &body))
}

pub(super) const BURST: usize = 3000;

/// Sends so many requests at once that a short queue cannot take them all; how many answers came with which code.
pub(super) fn burst(raw: &mut Raw, subject: &str, body: &str) -> BTreeMap<u64, usize> {
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
        // From nats-server, a while after the login.
        if line == "PING" {
            raw.send(b"PONG\r\n");
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

pub(super) fn says(raw: &mut Raw, sent: &str, expected: &str) {
    raw.send(sent.as_bytes());
    assert_eq!(raw.line().as_deref(), Some(expected));
}
