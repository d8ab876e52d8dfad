//! What a route may take: time, memory, places.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use linnet_launch::{Deadline, poll_until};

use super::moving::enter;
use super::{PER_PAIR, Setup, enter_as_server, formed};
use crate::harness::{Kind, LONG, Raw};

/// A server that says it is interested in `a`, and reads nothing any more.
fn deaf(node: &super::Node) -> Raw {
    let mut raw = node.stranger();
    enter_as_server(&mut raw);
    raw.send(b"RS+ $G a\r\n");
    node.knows("a", true);
    raw
}

#[test]
fn nobody_waits_for_a_message_of_a_stranger() {
    for kind in [Kind::Linnet, Kind::Peer] {
        let Some(node) = Setup::new(kind, "n").start() else { return };
        for line in ["RMSG $G foo 120000000\r\n", "HMSG $G foo 12 120000000\r\n"] {
            let mut raw = node.stranger();
            assert!(raw.line().unwrap().starts_with("INFO "));
            raw.send(line.as_bytes());
            assert_eq!(raw.line().as_deref(), Some("-ERR 'Authorization Violation'"), "{kind:?} {line}");
        }
    }
}

#[test]
fn a_server_that_reads_nothing_is_closed_and_publishers_go_on() {
    for policy in ["default", "close", "retry"] {
        let text = format!("write_deadline: \"300ms\", write_timeout: {policy}");
        let Some(node) = Setup::new(Kind::Linnet, "n").cluster(&text).top("max_pending: 8M").start() else {
            return;
        };
        assert_eq!(node.page("/varz")["cluster"]["write_deadline"], 300_000_000);
        let raw = deaf(&node);
        let before = node.server.usage().unwrap().rss_bytes;
        let mut publisher = node.client();
        let batch = format!("PUB a 1000\r\n{}\r\n", "x".repeat(1000)).repeat(1000);
        let deadline = Deadline::after(LONG);
        for _ in 0..100 {
            publisher.send(batch.as_bytes());
        }
        publisher.ping();
        assert!(!deadline.has_passed());
        assert!(poll_until(LONG, || node.routes().is_empty()), "{}", node.server.log_tail());
        node.logs(" - rid:");
        let log = node.log();
        let line = log.lines().find(|line| line.contains("Slow Consumer Detected: ")).unwrap();
        assert!(line.contains(" - rid:") && !line.contains("cid:"), "{line}");
        let is_said = ["WriteDeadline of 300ms exceeded with ", "MaxPending of 32000000 Exceeded"];
        assert!(is_said.iter().any(|text| line.contains(&format!("Detected: {text}"))), "{line}");
        let counted = node.page("/varz")["slow_consumer_stats"].clone();
        assert_eq!((&counted["clients"], &counted["routes"]), (&0.into(), &1.into()));
        let after = node.server.usage().unwrap().rss_bytes;
        assert!(after < before + (64 << 20), "{before} became {after}");
        drop(raw);
    }
}

#[test]
fn more_than_may_wait_for_a_client_waits_for_a_server() {
    const MESSAGES: usize = 14_000;
    for kind in [Kind::Linnet, Kind::Peer] {
        let Some(node) = Setup::new(kind, "n").top("max_pending: 4M").start() else { return };
        let mut raw = deaf(&node);
        let mut publisher = node.client();
        let message = format!("PUB a 1000\r\n{}\r\n", "x".repeat(1000));
        publisher.send(message.repeat(MESSAGES).as_bytes());
        publisher.ping();
        let waits = || node.routes().first().is_some_and(|r| r["pending_size"].as_u64() > Some(4_000_000));
        assert!(poll_until(LONG, waits), "{kind:?}: {:?}", node.routes());
        let mut got = 0;
        while got < MESSAGES {
            let line = raw.line().expect("the route stays");
            if line.starts_with("RMSG $G a ") {
                raw.bytes(1002);
                got += 1;
            }
        }
        assert_eq!(node.routes().len(), 1, "{kind:?}");
    }
}

/// Bytes that are taken now and then are enough for one policy and too little for the other.
#[test]
fn a_slow_server_is_closed_if_that_is_wanted() {
    for (policy, is_closed) in [("retry", false), ("close", true)] {
        let text = format!("write_deadline: \"1s\", write_timeout: {policy}");
        let Some(node) = Setup::new(Kind::Linnet, "n").cluster(&text).start() else { return };
        let mut raw = deaf(&node);
        let mut publisher = node.client();
        let body = "x".repeat(1 << 20);
        publisher.send(format!("PUB a {}\r\n{body}\r\n", body.len()).repeat(30).as_bytes());
        publisher.ping();
        // A megabyte now and then.
        let deadline = Deadline::after(Duration::from_secs(3));
        let mut ticks = 0;
        while !deadline.has_passed() && node.routes().len() == 1 {
            if poll_until(Duration::from_millis(200), || node.routes().is_empty()) {
                break;
            }
            raw.bytes(1 << 20);
            ticks += 1;
        }
        assert!(ticks > 0);
        assert_eq!(node.routes().is_empty(), is_closed, "{policy}: {}", node.server.log_tail());
    }
}

#[test]
fn there_is_not_any_number_of_unfinished_handshakes() {
    const LIMIT: usize = 1024;
    let text = "authorization { user: u, password: p, timeout: 60 }";
    let Some(node) = Setup::new(Kind::Linnet, "n").cluster(text).start() else { return };
    let mut silent: Vec<Raw> = (0..LIMIT).map(|_| node.stranger()).collect();
    assert!(silent.iter_mut().all(|raw| raw.line().is_some_and(|line| line.starts_with("INFO "))));
    let mut refused = node.stranger();
    assert_eq!(refused.until_closed(), [""; 0]);
    // When one of them leaves, there is room for somebody else.
    drop(silent.pop());
    assert!(poll_until(LONG, || node.stranger().line().is_some()));
}

#[test]
fn a_server_that_was_told_of_and_refuses_is_not_asked_for_ever() {
    let Some(node) = Setup::new(Kind::Linnet, "n").cluster("pool_size: -1").start() else { return };
    // Another cluster: it accepts, and refuses.
    let other = "cluster { name: D, listen: \"127.0.0.1:-1\" }\n";
    let Some(program) = crate::harness::program(Kind::Linnet) else { return };
    let other = linnet_launch::Spec::new(program)
        .config(format!("server_name: other\nlisten: \"127.0.0.1:-1\"\n{other}"))
        .start()
        .unwrap();
    let port = other.ports().cluster[0].port();
    let mut raw = node.stranger();
    enter_as_server(&mut raw);
    raw.send(
        format!("INFO {{\"server_id\":\"Y\",\"ip\":\"nats-route://127.0.0.1:{port}/\"}}\r\n").as_bytes(),
    );
    let attempts =
        || std::fs::read_to_string(other.log_file()).unwrap().matches("Router connection closed").count();
    assert!(poll_until(LONG, || attempts() == 4), "{}", other.log_tail());
    // It has given up: attempts follow each other after a second.
    assert!(!poll_until(Duration::from_secs(3), || attempts() > 4), "{}", other.log_tail());
}

/// Tells of a server.
fn tell(raw: &mut Raw, id: &str, address: &str) {
    raw.send(format!("INFO {{\"server_id\":\"{id}\",\"ip\":\"nats-route://{address}/\"}}\r\n").as_bytes());
}

#[test]
fn a_server_that_is_dialled_is_not_dialled_a_second_time_for_being_told_of() {
    let Some(node) = Setup::new(Kind::Linnet, "n").cluster("pool_size: -1, connect_retries: 4").start()
    else {
        return;
    };
    let mut raw = node.stranger();
    enter_as_server(&mut raw);
    let nobody = format!("127.0.0.1:{}", linnet_launch::free_port().unwrap());
    let attempts = |nth: u32| node.logged(&format!("(attempt {nth}): dial tcp {nobody}"));
    tell(&mut raw, "Y", &nobody);
    // It is told of again while it is dialled.
    assert!(poll_until(LONG, || {
        tell(&mut raw, "Y", &nobody);
        attempts(3) > 0
    }));
    assert_eq!(attempts(1), 1, "{}", node.server.log_tail());
}

#[test]
fn there_is_not_any_number_of_servers_to_dial_at_a_time() {
    const LIMIT: usize = 256;
    let Some(node) = Setup::new(Kind::Linnet, "n").cluster("pool_size: -1").start() else { return };
    let mut raw = node.stranger();
    enter_as_server(&mut raw);
    let mut told = String::new();
    for n in 0..2 * LIMIT {
        let (high, low) = (n / 200, n % 200);
        told += &format!("INFO {{\"server_id\":\"Y{n}\",\"ip\":\"nats-route://127.1.{high}.{low}:1/\"}}\r\n");
    }
    raw.send(format!("{told}PING\r\n").as_bytes());
    while raw.line().unwrap() != "PONG" {}
    let attempts = || node.logged("Error trying to connect to route (attempt 1)");
    assert!(poll_until(LONG, || attempts() == LIMIT), "{}", attempts());
    // Later others have their turn.
    assert!(poll_until(LONG, || {
        tell(&mut raw, "Z", "127.1.9.9:1");
        attempts() > LIMIT
    }));
}

/// However often a server comes back, as many dial it as there are places.
#[test]
fn as_many_dial_a_server_as_there_are_places() {
    let Some(first) = Setup::new(Kind::Linnet, "first").start() else { return };
    let second = Setup::new(Kind::Linnet, "second").dialling(&[first.setup.port]).start().unwrap();
    let mut nodes = [first, second];
    for _ in 0..3 {
        formed(&nodes, PER_PAIR);
        nodes[0].server.kill().unwrap();
        nodes[1].is_connected_to(&[], PER_PAIR);
        nodes[0].server.restart().unwrap();
    }
    formed(&nodes, PER_PAIR);
    let attempts = |node: &super::Node| node.logged("Error trying to connect to route (attempt 2)");
    let before = attempts(&nodes[1]);
    nodes[0].server.kill().unwrap();
    assert!(poll_until(LONG, || attempts(&nodes[1]) == before + PER_PAIR), "{}", nodes[1].server.log_tail());
    let third = || nodes[1].logged("Error trying to connect to route (attempt 3)") >= PER_PAIR;
    assert!(poll_until(LONG, third));
    assert_eq!(attempts(&nodes[1]), before + PER_PAIR, "{}", nodes[1].server.log_tail());
}

#[test]
fn messages_of_other_servers_are_not_clients_messages() {
    for kind in [Kind::Linnet, Kind::Peer] {
        let Some(first) = Setup::new(kind, "first").start() else { return };
        let second = Setup::new(Kind::Linnet, "second").dialling(&[first.setup.port]).start().unwrap();
        let nodes = [first, second];
        formed(&nodes, PER_PAIR);
        let mut listener = nodes[0].client();
        listener.send(b"SUB a 1\r\n");
        nodes[1].knows("a", true);
        nodes[1].client().send(b"PUB a 2\r\nhi\r\n");
        assert_eq!(super::message(&mut listener).1, b"hi");
        let varz = nodes[0].page("/varz");
        assert_eq!((&varz["in_client_msgs"], &varz["in_client_bytes"]), (&0.into(), &0.into()), "{kind:?}");
        assert!(varz["in_msgs"].as_u64() >= Some(1), "{kind:?}");
        let varz = nodes[1].page("/varz");
        assert_eq!((&varz["in_client_msgs"], &varz["out_client_msgs"]), (&1.into(), &0.into()));
        assert!(varz["out_msgs"].as_u64() >= Some(1));
    }
}

/// A route that is never silent, because the other side sends faster than this one reads.
#[test]
fn interest_is_told_while_messages_come_without_end() {
    for kind in [Kind::Linnet, Kind::Peer] {
        let Some(node) = Setup::new(kind, "n").cluster("pool_size: 1").start() else { return };
        let mut raw = node.stranger();
        enter(&mut raw, None);
        raw.send(b"RS+ $G mark\r\n");
        node.knows("mark", true);
        let mut flood = raw.sending_end();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let chunk = "RMSG $G nobody 1\r\nx\r\n".repeat(50_000);
                let until = Deadline::after(LONG * 2);
                let goes_on = || !is_over.load(Ordering::Relaxed) && !until.has_passed();
                while goes_on() && flood.write_all(chunk.as_bytes()).is_ok() {}
            });
            let mut client = node.client();
            let slowest = (0..10).map(|number| {
                let begun = Deadline::after(LONG);
                client.send(format!("SUB near.{number} {number}\r\n").as_bytes());
                let expected = format!("RS+ $G near.{number}");
                while raw.line().is_some_and(|line| line != expected) {}
                LONG - begun.remaining()
            });
            let slowest = slowest.max().unwrap();
            is_over.store(true, Ordering::Relaxed);
            assert!(slowest < Duration::from_secs(1), "{kind:?}: {slowest:?}");
        });
    }
}
