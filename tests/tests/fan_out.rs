//! What many receivers get of one publisher who sends much at a time.

use std::collections::BTreeMap;

use crate::harness::{Fixture, PLAIN, Raw};

const MESSAGES: usize = 4000;

/// Subscriptions of one receiver.
struct Receiver {
    subs: &'static [(&'static str, &'static str)],
    with_headers: bool,
    /// Messages after which the first subscription ends.
    limit: Option<usize>,
}

const fn receiver(subs: &'static [(&'static str, &'static str)]) -> Receiver {
    Receiver { subs, with_headers: true, limit: None }
}

/// Most name their subscriptions alike; the others differ in one thing each.
const RECEIVERS: [Receiver; 12] = [
    receiver(&[("a.*", "1")]),
    receiver(&[("a.*", "1")]),
    receiver(&[("a.*", "1")]),
    receiver(&[("a.1", "1")]),
    receiver(&[("a.*", "77")]),
    receiver(&[("a.*", "1"), ("a.1", "2")]),
    receiver(&[("a.1", "2"), ("a.*", "1")]),
    receiver(&[("a.0", "1"), ("a.1", "2"), ("a.2", "3"), ("a.3", "4")]),
    receiver(&[("a.*", "a"), ("a.>", "b"), (">", "c"), ("*.*", "d")]),
    Receiver { with_headers: false, ..receiver(&[("a.*", "1")]) },
    Receiver { limit: Some(MESSAGES / 3), ..receiver(&[("a.*", "1")]) },
    receiver(&[("a.3", "77")]),
];

struct Message {
    subject: String,
    reply: String,
    header: String,
    body: String,
}

/// Mostly small ones, some with headers, some so large that receivers share the body.
fn messages() -> Vec<Message> {
    let rng = fastrand::Rng::with_seed(7);
    let make = |mut rng: fastrand::Rng, n: usize| {
        let size = if rng.u8(..) < 8 { 5000 } else { rng.usize(..300) };
        let has_header = rng.u8(..) < 40;
        // Runs of one subject, as publishers send them.
        let subject = format!("a.{}", (n / 50 + usize::from(rng.u8(..) < 20)) % 4);
        Message {
            subject,
            reply: if rng.u8(..) < 40 { format!("r.{n}") } else { String::new() },
            header: if has_header { format!("NATS/1.0\r\nN: {n}\r\n\r\n") } else { String::new() },
            body: format!("{n}:{}", "x".repeat(size)),
        }
    };
    (0..MESSAGES).scan(rng, |rng, n| Some(make(rng.fork(), n))).collect()
}

impl Message {
    fn publication(&self) -> String {
        let (header, total) = (self.header.len(), self.header.len() + self.body.len());
        let Self { subject, reply, .. } = self;
        let line = if header > 0 {
            format!("HPUB {subject} {reply} {header} {total}")
        } else {
            format!("PUB {subject} {reply} {total}")
        };
        format!("{line}\r\n{}{}\r\n", self.header, self.body)
    }

    /// What a receiver gets.
    fn delivery(&self, sid: &str, with_headers: bool) -> String {
        let Self { subject, reply, .. } = self;
        let reply = if reply.is_empty() { String::new() } else { format!("{reply} ") };
        let header = if with_headers { self.header.as_str() } else { "" };
        let total = header.len() + self.body.len();
        let line = if header.is_empty() {
            format!("MSG {subject} {sid} {reply}{total}")
        } else {
            format!("HMSG {subject} {sid} {reply}{} {total}", header.len())
        };
        format!("{line}\r\n{header}{}", self.body)
    }
}

/// What came of each subscription.
fn received(raw: &mut Raw) -> BTreeMap<String, Vec<String>> {
    raw.send(b"PING\r\n");
    let mut deliveries: BTreeMap<String, Vec<String>> = BTreeMap::new();
    loop {
        let line = raw.line().unwrap();
        match line.as_str() {
            "PONG" => return deliveries,
            "PING" => raw.send(b"PONG\r\n"),
            _ => {
                let words: Vec<&str> = line.split(' ').collect();
                let body = raw.bytes(words.last().unwrap().parse().unwrap());
                assert_eq!(raw.bytes(2), b"\r\n");
                let delivery = format!("{line}\r\n{}", String::from_utf8(body).unwrap());
                deliveries.entry(words[2].to_owned()).or_default().push(delivery);
            }
        }
    }
}

/// Subjects of four tokens at most, as this test uses them.
fn is_wanted(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

on_both_servers! {
    PLAIN;

    /// Every receiver gets every message it wants, whole, in order and under the name of its own subscription.
    async fn receivers_get_everything_in_order(s) {
        deliver_to_all(s);
    }
}

fn deliver_to_all(s: &Fixture) {
    let mut connections: Vec<Raw> = RECEIVERS
        .iter()
        .map(|receiver| {
            let mut raw = s.raw();
            raw.line().unwrap();
            raw.send(
                format!("CONNECT {{\"verbose\":false,\"headers\":{}}}\r\n", receiver.with_headers).as_bytes(),
            );
            for (subject, sid) in receiver.subs {
                raw.send(format!("SUB {subject} {sid}\r\n").as_bytes());
            }
            if let Some(limit) = receiver.limit {
                raw.send(format!("UNSUB {} {limit}\r\n", receiver.subs[0].1).as_bytes());
            }
            raw.ping();
            raw
        })
        .collect();
    let messages = messages();
    let all: String = messages.iter().map(Message::publication).collect();
    let mut publisher = Raw::login(s.addr());
    publisher.send(all.as_bytes());
    publisher.ping();
    for (n, (raw, receiver)) in connections.iter_mut().zip(&RECEIVERS).enumerate() {
        let received = received(raw);
        for (subject, sid) in receiver.subs {
            let limit = receiver.limit.unwrap_or(usize::MAX);
            let wanted = messages.iter().filter(|message| is_wanted(subject, &message.subject)).take(limit);
            let expected: Vec<String> =
                wanted.map(|message| message.delivery(sid, receiver.with_headers)).collect();
            assert!(received.get(*sid) == Some(&expected), "receiver {n}, subscription {sid} on {subject}");
        }
    }
}
