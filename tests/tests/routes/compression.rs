//! Compression of routes, with the real thing on the other side.

use linnet_launch::poll_until;

use super::proxy::Proxy;
use super::{Node, PER_PAIR, Setup, enter_as_server, formed, message};
use crate::harness::{Kind, LONG};

const MODES: [&str; 6] = ["off", "accept", "s2_fast", "s2_better", "s2_best", "s2_auto"];
/// What a stream of frames begins with.
const FRAMES: &[u8] = b"S2sTwO";

/// What a server of one mode shows about a route to one of another; `s2_` stands for any level.
fn shown(own: &'static str, theirs: &'static str) -> &'static str {
    match (own, theirs) {
        ("off", _) | (_, "off") | ("accept", "accept") => "off",
        ("accept", "s2_auto") => "s2_fast",
        ("accept", level) => level,
        // Which level it is depends on how busy the machine is.
        ("s2_auto", _) => "s2_",
        (level, _) => level,
    }
}

fn mode(node: &Node) -> &'static str {
    MODES.into_iter().find(|mode| node.setup.cluster.ends_with(mode)).unwrap()
}

/// Every server shows what was agreed on with every other.
fn agree(nodes: &[Node]) {
    for node in nodes {
        for other in nodes.iter().filter(|other| other.setup.name != node.setup.name) {
            let expected = shown(mode(node), mode(other));
            let is_shown = poll_until(LONG, || {
                let routes = node.routes();
                let mut to_other =
                    routes.iter().filter(|route| route["remote_name"] == other.setup.name.as_str());
                to_other.all(|route| {
                    let level = route["compression"].as_str().unwrap();
                    level == expected || (expected == "s2_" && level.starts_with(expected))
                })
            });
            let (from, to) = (&node.setup.name, &other.setup.name);
            assert!(is_shown, "{from} to {to}: not {expected}, {:#?}", node.routes());
        }
    }
}

/// Messages of every kind and size, from everybody to everybody.
fn messages_cross(nodes: &[Node]) {
    let big: String =
        (0..1_u32 << 17).map(|n| format!("{:08x}", n.wrapping_mul(2_654_435_761) >> 4)).collect();
    assert_eq!(big.len(), 1 << 20);
    for node in nodes {
        let mut listener = node.client();
        let subject = format!("to.{}", node.setup.name);
        listener.send(format!("SUB {subject} 1\r\n").as_bytes());
        for other in nodes.iter().filter(|other| other.setup.name != node.setup.name) {
            other.knows(&subject, true);
            let mut publisher = other.client();
            publisher.send(format!("PUB {subject} re.ply 2\r\nhi\r\n").as_bytes());
            publisher.send(format!("PUB {subject} {}\r\n{big}\r\n", big.len()).as_bytes());
            publisher.send(format!("HPUB {subject} 18 20\r\nNATS/1.0\r\na: b\r\n\r\nhi\r\n").as_bytes());
            publisher.send(format!("PUB {subject} 5\r\nsmall\r\n").repeat(3000).as_bytes());
            let first = message(&mut listener);
            let (kind, name) = (other.setup.kind, &other.setup.name);
            assert!(
                first == (format!("MSG {subject} 1 re.ply"), b"hi".to_vec()),
                "{kind:?} {name}: {}",
                first.0
            );
            assert!(message(&mut listener).1 == big.as_bytes(), "a large message is another one");
            let (head, body) = message(&mut listener);
            assert_eq!(
                (head, body.as_slice()),
                (format!("HMSG {subject} 1 18"), b"NATS/1.0\r\na: b\r\n\r\nhi".as_slice())
            );
            for _ in 0..3000 {
                assert_eq!(message(&mut listener), (format!("MSG {subject} 1"), b"small".to_vec()));
            }
        }
    }
}

/// A server of the first kind and mode, and two of the other mode: both dial the first.
fn crossed(own: &'static str, kinds: [Kind; 3]) {
    for theirs in MODES {
        let Some(seed) = Setup::new(kinds[0], "a").cluster(&format!("compression: {own}")).start() else {
            return;
        };
        let mut nodes = vec![seed];
        for (name, kind) in [("b", kinds[1]), ("c", kinds[2])] {
            let ports: Vec<u16> = nodes.iter().map(|node| node.setup.port).collect();
            let setup = Setup::new(kind, name).dialling(&ports).cluster(&format!("compression: {theirs}"));
            nodes.push(setup.start().unwrap());
        }
        formed(&nodes, PER_PAIR);
        agree(&nodes);
        messages_cross(&nodes);
        assert!(nodes.iter().all(|node| node.logged("read error: ") == 0));
    }
}

macro_rules! crossed {
    ($($name:ident: $own:literal;)+) => {$(
        #[test]
        fn $name() {
            crossed($own, [Kind::Linnet, Kind::Peer, Kind::Linnet]);
            crossed($own, [Kind::Peer, Kind::Linnet, Kind::Peer]);
        }
    )+};
}

crossed! {
    off_with_every_other: "off";
    accept_with_every_other: "accept";
    fast_with_every_other: "s2_fast";
    better_with_every_other: "s2_better";
    best_with_every_other: "s2_best";
    auto_with_every_other: "s2_auto";
}

/// The bytes themselves, so that nobody's word has to be taken for it.
#[test]
fn the_wire_carries_frames_only_if_that_was_agreed_on() {
    for kinds in [[Kind::Linnet, Kind::Peer], [Kind::Peer, Kind::Linnet], [Kind::Linnet, Kind::Linnet]] {
        for (near, far, is_packed, is_small) in [
            ("off", "s2_fast", false, Some(false)),
            ("accept", "accept", false, Some(false)),
            ("accept", "s2_fast", true, Some(true)),
            ("s2_better", "s2_best", true, Some(true)),
            // Near servers do not compress, unless the machine is so busy that they look far.
            ("s2_auto", "s2_auto", true, None),
        ] {
            let Some(seed) = Setup::new(kinds[0], "a").cluster(&format!("compression: {far}")).start() else {
                return;
            };
            let proxy = Proxy::to(seed.setup.port);
            // Whoever finds out where the other one listens must not dial it past the proxy.
            let setup =
                Setup::new(kinds[1], "b").dialling(&[proxy.port]).cluster(&format!("compression: {near}"));
            let nodes = [seed, setup.start().unwrap()];
            formed(&nodes, PER_PAIR);
            let before = proxy.len();
            let mut listener = nodes[0].client();
            listener.send(b"SUB a 1\r\n");
            nodes[1].knows("a", true);
            let body = "so much of the same ".repeat(1000);
            nodes[1].client().send(format!("PUB a {}\r\n{body}\r\n", body.len()).repeat(50).as_bytes());
            for _ in 0..50 {
                assert_eq!(message(&mut listener).1, body.as_bytes());
            }
            let sent = proxy.len() - before;
            assert_eq!(proxy.count(FRAMES) > 8, is_packed, "{near} to {far}: {}", proxy.count(FRAMES));
            let Some(is_small) = is_small else { continue };
            assert_eq!(sent < 200_000, is_small, "{near} to {far}: {sent}");
            // A message that is not compressed can be read.
            assert_eq!(proxy.count(body.as_bytes()) > 0, !is_small, "{near} to {far}");
        }
    }
}

/// Shakes hands as a server that compresses, up to the point from which on everything is compressed.
fn begin_compressed(node: &Node) -> crate::harness::Raw {
    let mut raw = node.stranger();
    assert!(raw.line().unwrap().contains("\"compression\":\"s2_fast\""));
    raw.send(
        b"CONNECT {\"name\":\"X\",\"cluster\":\"C\"}\r\nINFO {\"server_id\":\"X\",\"server_name\":\"x\",\"cluster\":\"C\",\
          \"route_pool_size\":3,\"compression\":\"s2_fast\"}\r\n",
    );
    raw
}

fn frames(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    linnet_s2::Encoder::new(linnet_s2::Level::Fast).stream(&[text], &mut out);
    out
}

#[test]
fn what_is_no_frame_ends_the_route_and_harms_nobody() {
    let Some(seed) = Setup::new(Kind::Linnet, "a").cluster("compression: s2_fast").start() else { return };
    let other = Setup::new(Kind::Linnet, "b").dialling(&[seed.setup.port]).start().unwrap();
    let nodes = [seed, other];
    formed(&nodes, PER_PAIR);
    let mut damaged = frames(b"INFO {\"server_id\":\"X\",\"server_name\":\"x\",\"cluster\":\"C\"}\r\n");
    let end = damaged.len() - 3;
    damaged[end] ^= 1;
    let rows: [(&[u8], &str); 4] = [
        (b"PING\r\n", "read error: not compressed with S2 or snappy"),
        (&damaged, "read error: compressed block has a wrong checksum"),
        (b"\xff\x06\x00\x00S2sTwO\x00\xff\xff\xff", "read error: compressed block is too large"),
        (b"\xff\x06\x00\x00S2sTwO\x02\x01\x00\x00x", "read error: unknown kind of compressed chunk"),
    ];
    for (bytes, expected) in rows {
        let mut raw = begin_compressed(&nodes[0]);
        raw.send(bytes);
        raw.until_closed();
        nodes[0].logs(expected);
        assert_eq!(nodes[0].logged(expected), 1);
    }
    formed(&nodes, PER_PAIR);
    assert!(nodes.iter().all(|node| node.logged("Router connection closed") <= rows.len()));
}

/// Few bytes that stand for many, as lines that have an answer each.
#[test]
fn a_bomb_takes_little_memory() {
    const MANY: usize = 1 << 22;
    let Some(node) = Setup::new(Kind::Linnet, "a").cluster("compression: s2_fast").start() else { return };
    let mut raw = begin_compressed(&node);
    let info =
        b"INFO {\"server_id\":\"X\",\"server_name\":\"x\",\"cluster\":\"C\",\"route_pool_size\":3}\r\n";
    raw.send(&frames(info));
    let before = node.server.usage().unwrap().rss_bytes;
    let bomb = frames("PING\r\n".repeat(MANY).as_bytes());
    assert!(bomb.len() < MANY, "{}", bomb.len());
    for _ in 0..20 {
        raw.send(&bomb);
    }
    // It does not read answers. Either they are all on their way, or the server has had enough.
    let is_closed = poll_until(LONG, || node.logged("Slow Consumer (Pending Bytes)") > 0);
    assert!(is_closed, "{}", node.server.log_tail());
    let after = node.server.usage().unwrap().rss_bytes;
    assert!(after < before + (64 << 20), "{before} became {after}");
}

#[test]
fn who_says_nothing_of_compression_is_not_compressed() {
    for kind in [Kind::Linnet, Kind::Peer] {
        let Some(node) = Setup::new(kind, "a").cluster("compression: s2_best").start() else { return };
        let mut raw = node.stranger();
        enter_as_server(&mut raw);
        assert!(poll_until(LONG, || node.routes().len() == 1));
        assert_eq!(node.routes()[0]["compression"], "not supported");
        raw.send(b"PING\r\n");
        let lines = std::iter::from_fn(|| raw.line());
        assert!(lines.take(20).any(|line| line == "PONG"));
    }
}

#[test]
fn a_mode_that_does_not_exist_is_refused() {
    for kind in [Kind::Linnet, Kind::Peer] {
        let Some(node) = Setup::new(kind, "a").start() else { return };
        let mut raw = node.stranger();
        raw.line();
        raw.send(
            b"CONNECT {\"name\":\"X\",\"cluster\":\"C\"}\r\nINFO {\"server_id\":\"X\",\"server_name\":\"x\",\"cluster\":\"C\",\
              \"compression\":\"zip\"}\r\n",
        );
        let lines = raw.until_closed();
        assert_eq!(lines.last().unwrap(), "-ERR 'unsupported route compression mode \"zip\"'", "{kind:?}");
    }
}

/// A route that is slow uses a higher level than one that is fast, and where levels are left out, others.
#[test]
fn automatic_levels_are_those_of_the_configured_times() {
    let rows = [
        ("[\"0\", \"1m\"]", "s2_fast"),
        ("[\"0\", \"0\", \"1m\"]", "s2_better"),
        ("[\"1ns\", \"2ns\", \"3ns\"]", "s2_best"),
    ];
    for kind in [Kind::Linnet, Kind::Peer] {
        for (times, level) in rows {
            let text = format!("compression: {{ mode: auto, rtt_thresholds: {times} }}");
            let Some(seed) = Setup::new(kind, "a").cluster(&text).start() else { return };
            let other = Setup::new(Kind::Linnet, "b").dialling(&[seed.setup.port]).start().unwrap();
            let nodes = [seed, other];
            formed(&nodes, PER_PAIR);
            let is_used =
                poll_until(LONG, || nodes[0].routes().iter().all(|route| route["compression"] == level));
            assert!(is_used, "{times}: {:?}", nodes[0].routes());
            assert!(nodes[1].routes().iter().all(|route| route["compression"] == "s2_fast"));
        }
    }
}
