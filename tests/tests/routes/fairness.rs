//! What one client does is no other's business, and what was promised at a stop is kept.

use linnet_launch::poll_until;
use rustix::process::Signal;

use crate::harness::{Inside as _, Kind, LONG, Raw, mesh};

/// The head of the next message, its body read away.
fn next(client: &mut Raw) -> Option<String> {
    let head = client.line()?;
    let size: usize = head.rsplit(' ').next()?.parse().ok()?;
    client.bytes(size + 2);
    Some(head)
}

#[test]
fn members_of_a_group_share_what_comes_by_a_route_alike() {
    const MESSAGES: u32 = 4000;
    for kinds in [[Kind::Linnet, Kind::Linnet, Kind::Linnet], [Kind::Linnet, Kind::Linnet, Kind::Peer]] {
        let Some(spec) = mesh(&kinds) else { return };
        let nodes = spec.start().unwrap();
        let mut few = nodes[0].client();
        (0..3).for_each(|sid| few.send(format!("SUB work g {sid}\r\n").as_bytes()));
        let mut many = nodes[1].client();
        (0..7).for_each(|sid| many.send(format!("SUB work g {sid}\r\n").as_bytes()));
        few.ping();
        many.ping();
        let knows_both = || {
            let page = nodes[2].page("/routez?subs=1").to_string();
            page.matches("\"work\"").count() == 2
        };
        assert!(poll_until(LONG, knows_both));
        // Weights that have not come yet would give one server more.
        for client in [&mut few, &mut many] {
            client.send(b"SUB ready 99\r\n");
        }
        assert!(poll_until(LONG, || {
            nodes[2].page("/routez?subs=1").to_string().matches("\"ready\"").count() == 2
        }));
        let mut publisher = nodes[2].client();
        publisher.send("PUB work 1\r\nx\r\n".repeat(MESSAGES as usize).as_bytes());
        publisher.send(b"PUB ready 1\r\nx\r\n");
        let mut counts = Vec::new();
        for (client, members) in [(&mut few, 3), (&mut many, 7)] {
            let mut shares = vec![0_u32; members];
            while let Some(head) = next(client) {
                if head.starts_with("MSG ready") {
                    break;
                }
                let sid: usize = head.split(' ').nth(2).unwrap().parse().unwrap();
                shares[sid] += 1;
            }
            counts.extend(shares);
        }
        assert_eq!(counts.iter().sum::<u32>(), MESSAGES);
        let fair = MESSAGES / 10;
        assert!(counts.iter().all(|share| (fair * 7 / 10..fair * 13 / 10).contains(share)), "{counts:?}");
    }
}

#[test]
fn a_client_that_does_not_keep_up_holds_nobody_up() {
    let kinds = [Kind::Linnet, Kind::Linnet];
    let Some(spec) = mesh(&kinds) else { return };
    let nodes = spec.pool_size(1).extra("max_pending: 8MB").start().unwrap();
    let mut deaf = nodes[1].client();
    deaf.send(b"SUB flood 1\r\n");
    nodes[0].knows("flood", true);
    let mut listener = nodes[1].client();
    listener.send(b"SUB calm 1\r\n");
    nodes[0].knows("calm", true);
    let mut publisher = nodes[0].client();
    let chunk = format!("PUB flood {}\r\n{}\r\n", 64 << 10, "x".repeat(64 << 10)).repeat(16);
    // Far more than the deaf client and all buffers on the way hold.
    for _ in 0..100 {
        publisher.send(chunk.as_bytes());
        publisher.send(b"PUB calm 1\r\nx\r\n");
        publisher.ping();
    }
    for _ in 0..100 {
        assert_eq!(next(&mut listener).as_deref(), Some("MSG calm 1 1"));
    }
    let slow = |node: usize| nodes[node].page("/varz")["slow_consumers"].as_u64().unwrap();
    assert!(poll_until(LONG, || slow(1) == 1), "the deaf client is closed");
    assert_eq!(slow(0), 0, "no route is");
}

#[test]
fn what_was_promised_before_a_stop_arrives() {
    const MESSAGES: usize = 20_000;
    let kinds = [Kind::Linnet, Kind::Linnet];
    let Some(spec) = mesh(&kinds) else { return };
    let mut nodes = spec.start().unwrap();
    let mut listener = nodes[1].client();
    listener.send(b"SUB news 1\r\nSUB over 2\r\n");
    nodes[0].knows("over", true);
    let mut publisher = nodes[0].client();
    nodes.pause("n1").unwrap();
    let message = format!("PUB news 1000\r\n{}\r\n", "x".repeat(1000));
    publisher.send(message.repeat(MESSAGES).as_bytes());
    publisher.send(b"PUB over 1\r\nx\r\n");
    publisher.ping();
    nodes[0].server().signal(Signal::TERM).unwrap();
    nodes.resume("n1").unwrap();
    let mut count = 0;
    while next(&mut listener).unwrap().starts_with("MSG news") {
        count += 1;
    }
    assert_eq!(count, MESSAGES);
}
