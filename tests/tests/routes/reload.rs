//! Other settings of a cluster that runs.

use linnet_launch::{free_port, poll_until};
use rustix::process::Signal;

use super::{Node, PER_PAIR, Setup, formed, message};
use crate::harness::{Kind, LONG};

pub(super) const PAIRS: [[Kind; 2]; 3] =
    [[Kind::Linnet, Kind::Linnet], [Kind::Linnet, Kind::Peer], [Kind::Peer, Kind::Linnet]];

pub(super) fn pair(kinds: [Kind; 2], top: &str) -> Option<[Node; 2]> {
    let first = Setup::new(kinds[0], "first").top(top).start()?;
    let second = Setup::new(kinds[1], "second").top(top).dialling(&[first.setup.port]).start()?;
    let nodes = [first, second];
    formed(&nodes, PER_PAIR);
    Some(nodes)
}

pub(super) fn messages_cross(nodes: &[Node; 2], subject: &str) {
    for [from, to] in [[&nodes[0], &nodes[1]], [&nodes[1], &nodes[0]]] {
        let mut listener = to.client();
        listener.send(format!("SUB {subject} 1\r\n").as_bytes());
        from.knows(subject, true);
        from.client().send(format!("PUB {subject} 2\r\nhi\r\n").as_bytes());
        assert_eq!(message(&mut listener).1, b"hi");
        listener.send(b"UNSUB 1\r\n");
        from.knows(subject, false);
    }
}

#[test]
fn compression_begins_and_ends_with_a_reload() {
    for kinds in PAIRS {
        let Some(mut nodes) = pair(kinds, "") else { return };
        for mode in ["s2_fast", "off"] {
            nodes[1].reload(|setup| setup.cluster = format!("compression: {mode}"));
            let is_so = |node: &Node| {
                let routes = node.routes();
                routes.len() == PER_PAIR && routes.iter().all(|route| route["compression"] == mode)
            };
            let all = poll_until(LONG, || nodes.iter().all(is_so));
            assert!(all, "{mode}: {:?}\n{}", nodes[0].routes(), nodes[1].server.log_tail());
            messages_cross(&nodes, mode);
        }
        assert_eq!(nodes[1].logged("Reloaded: cluster"), 2);
    }
}

#[test]
fn routes_come_and_go_with_a_reload() {
    for kind in [Kind::Linnet, Kind::Peer] {
        let Some(first) = Setup::new(kind, "first").start() else { return };
        let second = Setup::new(Kind::Linnet, "second").start().unwrap();
        let port = first.setup.port;
        let mut nodes = [first, second];
        nodes[1].reload(|setup| setup.routes = vec![format!("127.0.0.1:{port}")]);
        nodes[1].logs("Reloaded: cluster routes");
        formed(&nodes, PER_PAIR);
        messages_cross(&nodes, "a");
        nodes[1].reload(|setup| setup.routes.clear());
        for node in &nodes {
            node.is_connected_to(&[], PER_PAIR);
        }
        nodes[1].logs(&format!("Removed route nats://127.0.0.1:{port}"));
        nodes[1].logs("Router connection closed: Route Removed");
    }
}

#[test]
fn pools_and_accounts_change_with_a_reload() {
    let accounts = "accounts { A { users: [{user: a, password: p}] }, $SYS {} }\nno_auth_user: a";
    for kinds in PAIRS {
        let Some(mut nodes) = pair(kinds, accounts) else { return };
        for (text, per_pair) in
            [("pool_size: 5", 6), ("pool_size: 1", 2), ("pool_size: 2, accounts: [A]", 4), ("", 4)]
        {
            for node in &mut nodes {
                node.reload(|setup| setup.cluster = text.to_owned());
            }
            formed(&nodes, per_pair);
            messages_cross(&nodes, "a");
            let is_dedicated = nodes[0].routes().iter().any(|route| route["account"] == "A");
            assert_eq!(is_dedicated, text.contains("[A]"), "{kinds:?} {text}");
        }
    }
}

#[test]
fn who_shows_the_wrong_password_after_a_reload_is_closed() {
    for kinds in PAIRS {
        let Some(mut nodes) = pair(kinds, "") else { return };
        nodes[0].reload(|setup| setup.cluster = "authorization { user: u, password: p }".to_owned());
        nodes[0].logs("Router connection closed: Authentication Failure");
        nodes[0].is_connected_to(&[], PER_PAIR);
        let port = nodes[0].setup.port;
        nodes[1].reload(|setup| setup.routes = vec![format!("u:p@127.0.0.1:{port}")]);
        formed(&nodes, PER_PAIR);
    }
}

#[test]
fn clients_are_told_of_other_servers_as_configured_now() {
    for kinds in [[Kind::Linnet, Kind::Linnet], [Kind::Linnet, Kind::Peer]] {
        let Some(mut nodes) = pair(kinds, "") else { return };
        let urls = |node: &Node| {
            let line = crate::harness::Raw::connect(node.server.client_addr().unwrap()).line().unwrap();
            let info: serde_json::Value = serde_json::from_str(line.strip_prefix("INFO ").unwrap()).unwrap();
            info["connect_urls"].as_array().map_or(0, Vec::len)
        };
        assert!(poll_until(LONG, || urls(&nodes[0]) == 2));
        let varz = nodes[0].page("/varz");
        assert_eq!((&varz["remotes"], varz["connect_urls"].as_array().map(Vec::len)), (&1.into(), Some(2)));
        nodes[0].reload(|setup| setup.cluster = "no_advertise: true".to_owned());
        assert!(poll_until(LONG, || urls(&nodes[0]) == 0));
        nodes[0].reload(|setup| setup.cluster = "advertise: \"127.0.0.9:1\"".to_owned());
        assert!(poll_until(LONG, || urls(&nodes[0]) == 2));
        let line = nodes[0].stranger().line().unwrap();
        assert!(line.contains("\"ip\":\"nats-route://127.0.0.9:1/\""), "{line}");
    }
}

#[test]
fn a_server_that_changes_its_clusters_name_leaves_the_cluster() {
    let Some([first, second]) = pair([Kind::Linnet, Kind::Linnet], "") else { return };
    assert!(poll_until(LONG, || !first.routes().is_empty() && !second.routes().is_empty()));
    let text = std::fs::read_to_string(second.server.dir().join("server.conf")).unwrap();
    std::fs::write(second.server.dir().join("server.conf"), text.replace("name: C,", "name: D,")).unwrap();
    second.server.signal(Signal::HUP).unwrap();
    second.logs("Cluster name updated to D");
    assert!(poll_until(LONG, || first.routes().is_empty() && second.routes().is_empty()));
}

#[test]
fn a_name_changes_and_what_cannot_change_is_refused() {
    for kind in [Kind::Linnet, Kind::Peer] {
        let Some(mut node) = Setup::new(kind, "n").start() else { return };
        let text = std::fs::read_to_string(node.server.dir().join("server.conf")).unwrap();
        std::fs::write(node.server.dir().join("server.conf"), text.replace("name: C,", "name: D,")).unwrap();
        node.server.signal(Signal::HUP).unwrap();
        node.logs("Cluster name updated to D");
        assert!(node.stranger().line().unwrap().contains("\"cluster\":\"D\""));

        let (old, new) = (node.setup.port, free_port().unwrap());
        node.ask_to_reload(|setup| setup.port = new);
        node.logs(&format!("config reload not supported for cluster port: old={old}, new={new}"));
        node.ask_to_reload(|setup| {
            setup.port = old;
            setup.cluster = "accounts: [NOBODY]".to_owned();
        });
        node.logs("unable to add account \"NOBODY\" to the list of dedicated routes: account missing");
    }
}

/// Time for a handshake, keep-alives and longest lines are looked at again by routes that exist.
#[test]
fn routes_follow_new_limits() {
    let Some(mut node) = Setup::new(Kind::Linnet, "n").start() else { return };
    let mut raw = node.stranger();
    super::enter_as_server(&mut raw);
    assert!(poll_until(LONG, || node.routes().len() == 1));
    node.reload(|setup| setup.top = "max_control_line: 100".to_owned());
    raw.send(format!("RS+ $G {}\r\n", "a".repeat(2000)).as_bytes());
    let lines = raw.until_closed();
    assert!(lines.iter().any(|line| line.contains("maximum control line exceeded")), "{lines:?}");

    let mut raw = node.stranger();
    super::enter_as_server(&mut raw);
    assert!(poll_until(LONG, || node.routes().len() == 1));
    node.reload(|setup| setup.cluster = "ping_interval: \"100ms\", ping_max: 1".to_owned());
    let lines = raw.until_closed();
    assert_eq!(lines.last().map(String::as_str), Some("-ERR 'Stale Connection'"), "{lines:?}");
}
