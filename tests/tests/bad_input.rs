//! Clients that break rules, stop half-way or never read: they get what the peer gives them, memory stays bounded, and
//! nobody else notices.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use linnet_launch::{Options, Spec, poll_until};

use crate::harness::{JETSTREAM, Kind, LONG, PLAIN, Raw, program, setting};

const MIB: u64 = 1024 * 1024;

fn linnet(options: Options) -> linnet_launch::Server {
    Spec::new(program(Kind::Linnet).unwrap())
        .options(options)
        .start()
        .unwrap_or_else(|error| panic!("{error}"))
}

/// A subscriber and a publisher whose message must come through, whatever happens around them.
struct Bystander {
    raw: Raw,
    sent: u64,
}

impl Bystander {
    fn new(addr: SocketAddr) -> Self {
        let mut raw = Raw::login(addr);
        raw.send(b"SUB bystander 1\r\n");
        raw.ping();
        Self { raw, sent: 0 }
    }

    fn is_served(&mut self) {
        self.sent += 1;
        let text = format!("{:08}", self.sent);
        self.raw.send(format!("PUB bystander 8\r\n{text}\r\n").as_bytes());
        loop {
            let line = self.raw.line().expect("the bystander stays connected");
            if line == "PING" {
                self.raw.send(b"PONG\r\n");
                continue;
            }
            assert_eq!(line, "MSG bystander 1 8");
            assert_eq!(self.raw.line().as_deref(), Some(text.as_str()));
            return;
        }
    }
}

#[test]
fn garbage_closes_its_own_connection_only() {
    let mut server = linnet(PLAIN());
    let addr = server.client_addr().unwrap();
    let mut bystander = Bystander::new(addr);
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..500 {
        let mut stream = TcpStream::connect(addr).unwrap();
        let size = random.usize(1..3000);
        let mut bytes: Vec<u8> = (0..size).map(|_| random.u8(..)).collect();
        if round % 3 == 0 {
            bytes.splice(..0, b"CONNECT {\"verbose\":false}\r\nPUB a ".iter().copied());
        }
        // The server may close before everything is written.
        let _ = stream.write_all(&bytes);
        if round % 50 == 0 {
            bystander.is_served();
        }
    }
    bystander.is_served();
    assert!(server.is_running(), "{}", server.log_tail());
}

#[test]
fn mutated_dialogues_do_no_harm() {
    let mut server = linnet(PLAIN());
    let addr = server.client_addr().unwrap();
    let mut bystander = Bystander::new(addr);
    let dialogue: &[u8] =
        b"CONNECT {\"verbose\":false,\"headers\":true}\r\nSUB a.* q 1\r\nUNSUB 1 5\r\nPUB a.b r 5\r\n\
        hello\r\nHPUB a.c 22 27\r\nNATS/1.0\r\nKey: x yz\r\n\r\nhello\r\nPING\r\n";
    let mut random = fastrand::Rng::with_seed(11);
    for round in 0..1000 {
        let mut bytes = dialogue.to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            match random.u8(..3) {
                0 => bytes[at] = random.u8(..),
                1 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, *random.choice(b"\r\n 09-").unwrap()),
            }
        }
        let mut stream = TcpStream::connect(addr).unwrap();
        let _ = stream.write_all(&bytes);
        if round % 100 == 0 {
            bystander.is_served();
        }
    }
    bystander.is_served();
    assert!(server.is_running(), "{}", server.log_tail());
}

#[test]
fn half_a_message_and_silence_is_ended_by_pings() {
    let options = Options { extra: "ping_interval: \"300ms\"\nping_max: 2".into(), ..PLAIN() };
    let server = linnet(options);
    let addr = server.client_addr().unwrap();
    let mut halves: Vec<Raw> = (0..50)
        .map(|n| {
            let mut raw = Raw::login(addr);
            raw.send(b"PUB a 1000000\r\nhalf");
            if n % 2 == 0 {
                raw.send(&[b'x'; 300_000]);
            }
            raw
        })
        .collect();
    for half in &mut halves {
        let said = half.until_closed();
        assert_eq!(said.last().map(String::as_str), Some("-ERR 'Stale Connection'"), "{said:?}");
    }
    Bystander::new(addr).is_served();
}

#[test]
fn an_endless_line_costs_no_memory() {
    let server = linnet(PLAIN());
    let addr = server.client_addr().unwrap();
    let mut bystander = Bystander::new(addr);
    let before = server.usage().unwrap().rss_bytes;
    for _ in 0..20 {
        let mut stream = TcpStream::connect(addr).unwrap();
        let mut sent = 0;
        let _ = stream.write_all(b"CONNECT {\"verbose\":false}\r\nSUB ");
        // The server closes long before the end.
        while sent < 64 * MIB && stream.write_all(&[b'a'; 65_536]).is_ok() {
            sent += 65_536;
        }
        assert!(sent < 64 * MIB, "the line was taken");
        bystander.is_served();
    }
    let after = server.usage().unwrap().rss_bytes;
    assert!(after < before + 16 * MIB, "{before} then {after}");
}

#[test]
fn announced_sizes_are_not_allocated() {
    let options = Options { extra: "max_payload: 8MB".into(), ..PLAIN() };
    let server = linnet(options);
    let addr = server.client_addr().unwrap();
    let before = server.usage().unwrap().rss_bytes;
    let mut waiting: Vec<Raw> = (0..200).map(|_| Raw::login(addr)).collect();
    for raw in &mut waiting {
        raw.send(b"PUB a 8000000\r\n");
    }
    Bystander::new(addr).is_served();
    let after = server.usage().unwrap().rss_bytes;
    assert!(after < before + 64 * MIB, "200 announcements of 8 MB: {before} then {after}");
}

#[test]
fn connections_come_and_go_without_a_trace() {
    let server = linnet(PLAIN());
    let addr = server.client_addr().unwrap();
    let mut bystander = Bystander::new(addr);
    let connections = setting("LINNET_CONNECTIONS", 2000);
    let open_files = || std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
    let before = open_files();
    let round = |count: u64| {
        for n in 0..count {
            let mut stream = TcpStream::connect(addr).unwrap();
            match n % 4 {
                0 => {}
                1 => stream.write_all(b"CONNECT {\"verbose\":false}\r\nSUB a 1\r\nPING\r\n").unwrap(),
                2 => stream.write_all(b"CONNECT {\"verbo").unwrap(),
                _ => {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                }
            }
        }
        assert!(poll_until(LONG, || open_files() <= before), "{before} then {} open files", open_files());
    };
    round(connections / 2);
    let warm = server.usage().unwrap().rss_bytes;
    round(connections / 2);
    bystander.is_served();
    let after = server.usage().unwrap().rss_bytes;
    // What is remembered of closed connections is bounded, but not yet full after the first half.
    assert!(after < warm + 16 * MIB, "{warm} then {after}");
}

#[test]
fn a_subscriber_that_never_reads_large_messages_is_closed_and_others_miss_nothing() {
    flood_past_one_who_never_reads(64 * 1024, setting("LINNET_SLOW_MIB", 1024) * MIB);
}

#[test]
fn a_subscriber_that_never_reads_small_messages_is_closed_and_others_miss_nothing() {
    flood_past_one_who_never_reads(200, setting("LINNET_SLOW_MIB", 1024) * MIB / 16);
}

/// The line before the next message; PINGs are answered.
fn message_line(raw: &mut Raw) -> String {
    loop {
        let line = raw.line().expect("the connection stays open");
        if line != "PING" {
            return line;
        }
        raw.send(b"PONG\r\n");
    }
}

/// Messages of `size` bytes, `total` bytes in all, to a subscriber that does not read and one that does.
fn flood_past_one_who_never_reads(size: u64, total: u64) {
    const MAX_PENDING: u64 = 8 * MIB;
    /// Between two looks at the server's memory.
    const LOOK_AFTER: u64 = 4 * MIB;
    let options = Options { extra: "max_pending: 8MB\nwrite_deadline: \"2s\"".into(), ..PLAIN() };
    let server = linnet(options);
    let addr = server.client_addr().unwrap();
    let mut slow = Raw::login(addr);
    slow.send(b"SUB flood 1\r\n");
    slow.ping();
    let mut good = Raw::login(addr);
    good.send(b"SUB flood 1\r\n");
    good.ping();
    let mut publisher = Raw::login(addr);
    let before = server.usage().unwrap().rss_bytes;
    let count = total / size;
    let payload = usize::try_from(size).unwrap();
    let reader = std::thread::spawn(move || {
        let line_len = format!("MSG flood 1 {size}\r\n").len();
        for n in 0..count {
            let line = message_line(&mut good);
            assert_eq!(line.len() + 2, line_len, "{line}");
            let body = good.bytes(payload + 2);
            assert_eq!(u64::from_be_bytes(body[..8].try_into().unwrap()), n, "in order, none missing");
        }
    });
    let mut peak = 0;
    let mut message = format!("PUB flood {size}\r\n").into_bytes();
    let body_at = message.len();
    message.resize(body_at + payload, b'x');
    message.extend_from_slice(b"\r\n");
    for n in 0..count {
        message[body_at..body_at + 8].copy_from_slice(&n.to_be_bytes());
        publisher.send(&message);
        if n % (LOOK_AFTER / size) == 0 {
            peak = peak.max(server.usage().unwrap().rss_bytes);
        }
    }
    reader.join().unwrap();
    assert!(peak <= before + 2 * MAX_PENDING, "{before} before, {peak} at most");
    let log = std::fs::read_to_string(server.log_file()).unwrap();
    assert!(log.contains("Slow Consumer Detected"), "{log}");
}

#[test]
fn a_pull_far_larger_than_max_pending_is_served_at_the_speed_of_the_client() {
    const COUNT: usize = 1024;
    const SIZE: usize = 16 * 1024;
    let options = Options { extra: "max_pending: 2MB".into(), ..JETSTREAM() };
    let server = linnet(options);
    let addr = server.client_addr().unwrap();
    let mut other = Raw::login(addr);
    other.send(b"SUB in 1\r\n");
    let mut ask = |subject: &str, body: &str| {
        other.send(format!("PUB {subject} in {}\r\n{body}\r\n", body.len()).as_bytes());
        assert!(message_line(&mut other).starts_with("MSG in 1 "));
        let answer = other.line().unwrap();
        assert!(!answer.contains("error"), "{answer}");
    };
    ask("$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s"],"storage":"memory"}"#);
    let body = "x".repeat(SIZE);
    (0..COUNT).for_each(|_| ask("s", &body));
    let consumer = r#"{"stream_name":"S","config":{"name":"c","ack_policy":"none"}}"#;
    ask("$JS.API.CONSUMER.CREATE.S.c", consumer);
    let mut client = Raw::login(addr);
    let pull = format!("{{\"batch\":{COUNT},\"expires\":60000000000}}");
    client.send(
        format!("SUB p 1\r\nPUB $JS.API.CONSUMER.MSG.NEXT.S.c p {}\r\n{pull}\r\n", pull.len()).as_bytes(),
    );
    // The stream has had its turns before the client reads anything.
    (0..20).for_each(|_| ask("$JS.API.STREAM.INFO.S", ""));
    for n in 1..=COUNT {
        let line = message_line(&mut client);
        assert!(line.contains(&format!("$JS.ACK.S.c.1.{n}.")), "message {n}: {line}");
        client.bytes(SIZE + 2);
    }
    let log = std::fs::read_to_string(server.log_file()).unwrap();
    assert!(!log.contains("Slow Consumer"), "{log}");
}

/// Bytes that are taken now and then are enough for one policy and too little for the other. Without one, ours goes on.
#[test]
fn a_client_that_reads_slowly_is_closed_if_that_is_wanted() {
    const MESSAGES: u64 = 30;
    for (kind, policy, is_closed) in [
        (Kind::Linnet, "default", false),
        (Kind::Linnet, "retry", false),
        (Kind::Linnet, "close", true),
        (Kind::Peer, "retry", false),
        (Kind::Peer, "close", true),
    ] {
        let Some(program) = program(kind) else { return };
        let extra = format!("http: \"127.0.0.1:-1\"\nwrite_deadline: \"1s\"\nwrite_timeout: {policy}");
        let server = Spec::new(program).options(Options { extra, ..PLAIN() }).start().unwrap();
        let addr = server.client_addr().unwrap();
        let mut slow = Raw::login(addr);
        slow.send(b"SUB flood 1\r\n");
        slow.ping();
        let mut publisher = Raw::login(addr);
        let body = "x".repeat(1 << 20);
        (0..MESSAGES).for_each(|_| {
            publisher.send(format!("PUB flood {}\r\n{body}\r\n", body.len()).as_bytes());
        });
        publisher.ping();
        let connections = || {
            let page = server.monitor_get("/varz").unwrap().body;
            serde_json::from_str::<serde_json::Value>(&page).unwrap()["connections"].as_u64().unwrap()
        };
        // A megabyte now and then, for three deadlines.
        for _ in 0..15 {
            if poll_until(Duration::from_millis(200), || connections() == 1) {
                break;
            }
            slow.bytes(1 << 20);
        }
        assert_eq!(connections() == 1, is_closed, "{kind:?} {policy}: {}", server.log_tail());
    }
}
