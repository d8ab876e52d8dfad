//! Who would get a message, counted over all servers.

use std::net::SocketAddr;

use crate::harness::{Inside as _, Kind, LONG, Raw, mesh};
use linnet_launch::poll_until;

const ACCOUNTS: &str = "accounts { SYS { users: [{user: sys, password: sys}] } }\nsystem_account: SYS";

fn login(addr: SocketAddr) -> Raw {
    let mut raw = Raw::connect(addr);
    assert!(raw.line().unwrap().starts_with("INFO "));
    raw.send(b"CONNECT {\"user\":\"sys\",\"pass\":\"sys\",\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n");
    raw.ping();
    raw
}

/// The payloads of the next messages to the subscription 9, so many.
fn answers(client: &mut Raw, count: usize) -> Vec<String> {
    let mut answers = Vec::new();
    while answers.len() < count {
        let line = client.line().expect("an answer");
        if line.starts_with("MSG ") && line.split(' ').nth(2) == Some("9") {
            answers.push(client.line().unwrap());
        }
    }
    answers.sort();
    answers
}

#[test]
fn subscriptions_of_clients_are_counted_over_all_servers() {
    for kinds in [
        vec![Kind::Linnet],
        vec![Kind::Peer],
        vec![Kind::Linnet, Kind::Linnet],
        vec![Kind::Linnet, Kind::Peer],
        vec![Kind::Peer, Kind::Linnet],
        vec![Kind::Linnet, Kind::Peer, Kind::Linnet],
    ] {
        let Some(spec) = mesh(&kinds) else { return };
        let nodes = spec.extra(ACCOUNTS).start().unwrap();
        let addr = |at: usize| nodes[at].server().client_addr().unwrap();
        let mut clients: Vec<Raw> = (0..kinds.len()).map(|at| login(addr(at))).collect();
        for client in &mut clients {
            client.send(b"SUB foo.x 1\r\nSUB foo.x q 2\r\nSUB foo.x q 3\r\nSUB foo.* z 4\r\nSUB foo.> 5\r\nSUB bar 6\r\n");
            client.ping();
        }
        let servers = kinds.len();
        if servers > 1 {
            // All of them know each other as members of the system.
            let active = |at: usize| {
                let page = nodes[at].page("/routez?subs=1").to_string();
                page.matches("\"$SYS.REQ.ACCOUNT.NSUBS\"").count() == servers - 1
            };
            assert!(poll_until(LONG, || (0..servers).all(active)), "{kinds:?}");
        }
        let rows = [
            ("foo.x", 5),
            ("foo.x q", 2),
            ("foo.x z", 1),
            ("foo.y", 2),
            ("foo.*", 4),
            ("foo.>", 5),
            ("foo.* q", 2),
            ("*", 1),
            ("nothing", 0),
            ("foo.x nothing", 0),
        ];
        let asking = &mut clients[0];
        asking.send(b"SUB answer 9\r\n");
        for (question, count) in rows {
            let bytes = question.len();
            asking.send(format!("PUB $SYS.DEBUG.SUBSCRIBERS answer {bytes}\r\n{question}\r\n").as_bytes());
            // The question's own subject is not among them.
            let extra = usize::from(question == "*");
            let expected = (count * servers + extra).to_string();
            assert_eq!(answers(asking, 1), [expected], "{question:?} of {kinds:?}");
        }
        // As servers ask each other.
        for (question, count) in [
            (r#"{"acc":"SYS","subject":"foo.x"}"#, "5"),
            (r#"{"acc":"SYS","subject":"foo.x","queue":"cQ=="}"#, "2"),
            (r#"{"acc":"SYS"}"#, "0"),
        ] {
            let bytes = question.len();
            asking.send(format!("PUB $SYS.REQ.ACCOUNT.NSUBS answer {bytes}\r\n{question}\r\n").as_bytes());
            assert_eq!(answers(asking, servers), vec![count; servers], "{question} of {kinds:?}");
        }
        // What cannot be read, and accounts that do not exist, are not answered.
        for question in
            [r#"{"acc":"NO","subject":"foo.x"}"#, "x", r#"{"acc":"SYS","subject":"foo.x","queue":"q"}"#]
        {
            let bytes = question.len();
            asking.send(format!("PUB $SYS.REQ.ACCOUNT.NSUBS answer {bytes}\r\n{question}\r\n").as_bytes());
        }
        asking.send(b"PUB $SYS.REQ.ACCOUNT.NSUBS answer 13\r\n{\"acc\":\"SYS\"}\r\n");
        assert_eq!(answers(asking, servers), vec!["0"; servers], "{kinds:?}");
    }
}
