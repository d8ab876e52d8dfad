//! TLS of routes, with both programs on either side.

use std::path::Path;

use linnet_launch::poll_until;
use tempfile::TempDir;

use super::{Node, PER_PAIR, Setup, formed, message};
use crate::harness::{Authority, Kind, LONG, TlsClient};

const PAIRS: [[Kind; 2]; 3] =
    [[Kind::Linnet, Kind::Linnet], [Kind::Linnet, Kind::Peer], [Kind::Peer, Kind::Linnet]];

/// The block with the certificate of this name, by which others are verified with this authority.
fn block(dir: &Path, name: &str, authority: &str, more: &str) -> String {
    let dir = dir.display();
    format!(
        "tls {{ cert_file: \"{dir}/{name}.pem\", key_file: \"{dir}/{name}.key\", ca_file: \"{dir}/{authority}.pem\" {more} }}"
    )
}

/// Two authorities that do not know each other, `good` and `other`, each with certificates for two servers.
fn authorities() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (authority, names) in [("good", ["a", "b"]), ("other", ["x", "y"])] {
        let authority = Authority::new(dir.path(), authority);
        names.iter().for_each(|name| drop(authority.server(name)));
    }
    dir
}

fn messages_cross(nodes: &[Node]) {
    let mut listener = nodes[0].client();
    listener.send(b"SUB a 1\r\n");
    nodes[1].knows("a", true);
    let big = "x".repeat(1 << 20);
    let mut publisher = nodes[1].client();
    publisher.send(format!("PUB a 2\r\nhi\r\nPUB a {}\r\n{big}\r\n", big.len()).as_bytes());
    assert_eq!(message(&mut listener).1, b"hi");
    assert!(message(&mut listener).1 == big.as_bytes());
}

#[test]
fn servers_that_trust_each_other_meet_over_tls() {
    let dir = authorities();
    for kinds in PAIRS {
        for more in
            ["", ", min_version: \"1.3\"", ", cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]"]
        {
            let text = |name| format!("{}\ncompression: s2_fast", block(dir.path(), name, "good", more));
            let Some(first) = Setup::new(kinds[0], "first").cluster(&text("a")).start() else { return };
            let setup = Setup::new(kinds[1], "second").dialling(&[first.setup.port]).cluster(&text("b"));
            let nodes = [first, setup.start().unwrap()];
            formed(&nodes, PER_PAIR);
            messages_cross(&nodes);
            for node in &nodes {
                let cluster = &node.page("/varz")["cluster"];
                assert_eq!((&cluster["tls_required"], &cluster["tls_verify"]), (&true.into(), &true.into()));
                assert_eq!((&cluster["tls_timeout"], &cluster["auth_timeout"]), (&2.into(), &3.into()));
                assert!(cluster["tls_cert_not_after"].is_string(), "{cluster}");
            }
        }
    }
}

/// A third server is told of by another, by its address; it is dialled by it, and its certificate is for it.
#[test]
fn servers_meet_over_tls_through_a_third() {
    let dir = authorities();
    for kinds in [[Kind::Linnet, Kind::Peer, Kind::Linnet], [Kind::Peer, Kind::Linnet, Kind::Linnet]] {
        let text = block(dir.path(), "a", "good", "");
        let Some(seed) = Setup::new(kinds[0], "seed").cluster(&text).start() else { return };
        let mut nodes = vec![seed];
        for (name, kind) in [("second", kinds[1]), ("third", kinds[2])] {
            let mut setup = Setup::new(kind, name).cluster(&text);
            // By its name, which servers that are told of have to have as well.
            setup.routes.push(format!("localhost:{}", nodes[0].setup.port));
            nodes.push(setup.start().unwrap());
        }
        formed(&nodes, PER_PAIR);
    }
}

/// Nobody gets in, the reason is logged at each attempt and attempts do not follow each other at once.
fn stay_apart(kinds: [Kind; 2], first: &str, second: &str, reason: &str) {
    let Some(first) = Setup::new(kinds[0], "first").cluster(first).start() else { return };
    let setup = Setup::new(kinds[1], "second").dialling(&[first.setup.port]).cluster(second);
    let nodes = [first, setup.start().unwrap()];
    let says = || nodes.iter().any(|node| node.log().contains(reason));
    assert!(poll_until(LONG, says), "{reason}:\n{}\n{}", nodes[0].log(), nodes[1].log());
    let attempts = |node: &Node| node.logged("Router connection closed");
    let goes_on = || nodes.iter().any(|node| attempts(node) > 2);
    assert!(poll_until(LONG, goes_on), "{}", nodes[1].log());
    assert!(nodes.iter().all(|node| attempts(node) < 9 && node.routes().is_empty()), "{}", nodes[1].log());
    let linnet = nodes.iter().find(|node| node.setup.kind == Kind::Linnet).unwrap();
    let (reasons, attempts) = (linnet.logged("TLS route handshake error: "), linnet.logged("rid:"));
    assert!(reasons <= attempts, "{}", linnet.log());
}

#[test]
fn servers_that_do_not_trust_each_other_stay_apart() {
    let dir = authorities();
    for kinds in PAIRS {
        let (good, other) = (block(dir.path(), "a", "good", ""), block(dir.path(), "x", "other", ""));
        stay_apart(kinds, &good, &other, "TLS route handshake error: ");
        // Without TLS on one side.
        stay_apart(kinds, &good, "", "tls: first record does not look like a TLS handshake");
        stay_apart(kinds, "", &good, "tls: first record does not look like a TLS handshake");
        // A key that is not one of those known.
        let pinned = block(dir.path(), "a", "good", &format!(", pinned_certs: [\"{}\"]", "a".repeat(64)));
        let known = block(dir.path(), "b", "good", "");
        stay_apart(kinds, &pinned, &known, "TLS route handshake error: certificate not pinned");
        stay_apart(kinds, &known, &pinned, "TLS route handshake error: certificate not pinned");
    }
}

/// The certificate of whoever dials is verified all the same.
#[test]
fn an_insecure_server_dials_whoever_it_is_told_to() {
    let dir = authorities();
    for kinds in PAIRS {
        // The second one knows nothing of the first one's authority.
        let first = block(dir.path(), "a", "good", "");
        let second = block(dir.path(), "b", "other", ", insecure: true");
        let Some(first) = Setup::new(kinds[0], "first").cluster(&first).start() else { return };
        let setup = Setup::new(kinds[1], "second").dialling(&[first.setup.port]).cluster(&second);
        let nodes = [first, setup.start().unwrap()];
        formed(&nodes, PER_PAIR);
        nodes[1].logs("of solicited routes will not be verified. DO NOT USE IN PRODUCTION!");
    }
}

#[test]
fn who_shows_no_certificate_is_refused() {
    let dir = authorities();
    for kind in [Kind::Linnet, Kind::Peer] {
        let text = block(dir.path(), "a", "good", "");
        let Some(node) = Setup::new(kind, "n").cluster(&text).start() else { return };
        let client = TlsClient::new(&dir.path().join("good.pem"), None);
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], node.setup.port));
        assert!(poll_until(LONG, || std::net::TcpStream::connect(address).is_ok()));
        // With the newest version the refusal comes after the client's side of the handshake.
        if let Ok(mut secure) = client.connect_first(address) {
            assert_eq!(secure.rest(), "", "{kind:?}");
        }
        node.logs("TLS route handshake error: tls: client didn't provide a certificate");
    }
}

#[test]
fn who_says_nothing_during_the_handshake_is_closed() {
    let dir = authorities();
    let Some(node) =
        Setup::new(Kind::Linnet, "n").cluster(&block(dir.path(), "a", "good", ", timeout: 0.3")).start()
    else {
        return;
    };
    let mut raw = node.stranger();
    assert_eq!(raw.until_closed(), [""; 0]);
    node.logs("TLS route handshake error: i/o timeout");
}

#[test]
fn other_certificates_are_shown_after_a_reload() {
    let dir = authorities();
    for kinds in PAIRS {
        let text = |name, authority| block(dir.path(), name, authority, "");
        let Some(first) = Setup::new(kinds[0], "first").cluster(&text("a", "good")).start() else { return };
        let setup = Setup::new(kinds[1], "second").dialling(&[first.setup.port]).cluster(&text("x", "other"));
        let mut nodes = [first, setup.start().unwrap()];
        assert!(poll_until(LONG, || nodes[1].logged("TLS route handshake error") > 0));
        nodes[1].reload(|setup| setup.cluster = text("b", "good"));
        formed(&nodes, PER_PAIR);
        messages_cross(&nodes);
    }
}

/// Routes that are there go on as they are; those that come from then on begin as configured.
#[test]
fn tls_begins_and_ends_with_a_reload() {
    let dir = authorities();
    for kinds in PAIRS {
        let Some(first) = Setup::new(kinds[0], "first").start() else { return };
        let second = Setup::new(kinds[1], "second").dialling(&[first.setup.port]).start().unwrap();
        let mut nodes = vec![first, second];
        formed(&nodes, PER_PAIR);
        for (first, second) in [
            (block(dir.path(), "a", "good", ""), block(dir.path(), "b", "good", "")),
            (String::new(), String::new()),
        ] {
            let before = nodes.iter().map(Node::routes).collect::<Vec<_>>();
            let stays = |node: &Node, before: &[serde_json::Value]| {
                let ids = |routes: &[serde_json::Value]| {
                    routes.iter().map(|r| r["rid"].clone()).collect::<Vec<_>>()
                };
                ids(&node.routes()) == ids(before)
            };
            nodes[0].reload(|setup| setup.cluster.clone_from(&first));
            nodes[1].reload(|setup| setup.cluster.clone_from(&second));
            assert!(nodes.iter().zip(&before).all(|(node, before)| stays(node, before)), "{kinds:?}");
            messages_cross(&nodes);
            // nats-server's page shows what it has shown first.
            if kinds[0] == Kind::Linnet {
                let shown = nodes[0].page("/varz")["cluster"]["tls_required"] == true;
                assert_eq!(shown, !first.is_empty());
            }
            // Whoever comes has to do as they do.
            let port = nodes[0].setup.port;
            for kind in kinds {
                let third = Setup::new(kind, "third").dialling(&[port]).cluster(&first).start().unwrap();
                nodes.push(third);
                formed(&nodes, PER_PAIR);
                nodes.pop();
                formed(&nodes, PER_PAIR);
            }
        }
    }
}
