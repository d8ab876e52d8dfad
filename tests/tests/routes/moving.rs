//! Accounts that get connections of their own by a reload, and lose them again.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::reload::{PAIRS, messages_cross, pair};
use super::{Node, PER_PAIR, Setup, formed};
use crate::harness::{Kind, Raw};

const ACCOUNTS: &str = "accounts { A { users: [{user: a, password: p}] }, $SYS {} }\nno_auth_user: a";

/// Shakes hands as the server `X`, for all accounts or for one.
pub(super) fn enter(raw: &mut Raw, account: Option<&str>) {
    raw.line();
    let mut info = json!({"server_id": "X", "server_name": "x", "cluster": "C", "route_pool_size": 1});
    if let Some(account) = account {
        info["route_account"] = account.into();
    }
    raw.send(format!("CONNECT {{\"name\":\"X\",\"cluster\":\"C\"}}\r\nINFO {info}\r\n").as_bytes());
}

/// What the server says before it has answered a PING, but for its own PINGs and what it tells of others.
fn said(raw: &mut Raw) -> Vec<String> {
    raw.send(b"PING\r\n");
    let mut lines = Vec::new();
    loop {
        let line = raw.line().expect("the connection is open");
        match line.as_str() {
            "PONG" => return lines,
            "PING" => {}
            told if told.contains("gossip_mode") => {}
            _ => lines.push(line),
        }
    }
}

/// The next line that asks for or confirms the move of an account.
fn moving(raw: &mut Raw) -> Value {
    loop {
        let line = raw.line().expect("the connection is open");
        if line.contains("route_acc_add_reqid") {
            return serde_json::from_str(line.strip_prefix("INFO ").unwrap()).unwrap();
        }
    }
}

/// A server of a pool of one, a route to it that carries everything, and a client.
fn start(kind: Kind) -> Option<(Node, Raw, Raw)> {
    let node = Setup::new(kind, "n").top(ACCOUNTS).cluster("pool_size: 1").start()?;
    let mut pool = node.stranger();
    enter(&mut pool, None);
    pool.send(b"RS+ A far\r\nRS+ $G stays\r\n");
    node.knows("far", true);
    let mut client = node.client();
    client.send(b"SUB near 1\r\n");
    client.ping();
    assert_eq!(said(&mut pool), ["RS+ A near"]);
    Some((node, pool, client))
}

/// The connection of the account's own is all that carries it.
fn carries_the_account(own: &mut Raw, pool: &mut Raw, client: &mut Raw, node: &Node) {
    assert_eq!(said(own), ["RS+ near"]);
    own.send(b"RS+ far\r\n");
    node.knows("far", true);
    client.send(b"SUB more 2\r\nPUB far 1\r\nx\r\n");
    client.ping();
    assert_eq!(said(own), ["RS+ more", "RMSG far 1", "x"]);
    assert_eq!(said(pool), [""; 0]);
}

#[test]
fn others_are_asked_and_told_by_the_pool_again() {
    for kind in [Kind::Linnet, Kind::Peer] {
        let Some((mut node, mut pool, mut client)) = start(kind) else { return };
        node.ask_to_reload(|setup| setup.cluster = "pool_size: 1, accounts: [A]".to_owned());
        let mut request = moving(&mut pool);
        assert_eq!((&request["route_account"], &request["route_pool_size"]), (&json!("A"), &json!(1)));
        request.as_object_mut().unwrap().remove("route_account");
        pool.send(format!("INFO {request}\r\n").as_bytes());
        node.knows("far", false);
        node.knows("stays", true);
        let mut own = node.stranger();
        enter(&mut own, Some("A"));
        carries_the_account(&mut own, &mut pool, &mut client, &node);
        node.reload(|setup| setup.cluster = "pool_size: 1".to_owned());
        own.until_closed();
        let mut told = said(&mut pool);
        told.sort();
        assert_eq!(told, ["RS+ A more", "RS+ A near"], "{kind:?}");
    }
}

#[test]
fn a_server_that_is_asked_confirms_and_is_ready() {
    for kind in [Kind::Linnet, Kind::Peer] {
        let Some((node, mut pool, mut client)) = start(kind) else { return };
        pool.send(
            b"INFO {\"route_pool_size\":1,\"route_account\":\"A\",\"route_acc_add_reqid\":\"REQ\"}\r\n",
        );
        let answer = moving(&mut pool);
        let said_back = (&answer["route_acc_add_reqid"], &answer["route_account"]);
        assert_eq!(said_back, (&json!("REQ"), &Value::Null));
        node.knows("far", false);
        node.knows("stays", true);
        client.send(b"SUB late 3\r\nUNSUB 3\r\nPUB far 1\r\nx\r\n");
        client.ping();
        // What has been on its way does not count any more.
        pool.send(b"RS+ A strange\r\nRS+ $G mark\r\n");
        node.knows("mark", true);
        node.knows("strange", false);
        assert_eq!(said(&mut pool), [""; 0]);
        let mut own = node.stranger();
        enter(&mut own, Some("A"));
        carries_the_account(&mut own, &mut pool, &mut client, &node);
    }
}

/// The ids of the routes that carry several accounts.
fn pools(nodes: &[Node]) -> Vec<BTreeSet<u64>> {
    let of = |node: &Node| {
        let routes = node.routes();
        let shared = routes.iter().filter(|route| route["account"].is_null());
        shared.map(|route| route["rid"].as_u64().unwrap()).collect()
    };
    nodes.iter().map(of).collect()
}

#[test]
fn other_routes_stay_while_accounts_come_and_go() {
    for kinds in PAIRS {
        let Some(mut nodes) = pair(kinds, ACCOUNTS) else { return };
        let before = pools(&nodes);
        // nats-server dials only where its configuration says to.
        let first = usize::from(kinds[0] == Kind::Peer);
        for which in [first, 1 - first] {
            nodes[which].reload(|setup| setup.cluster = "accounts: [A]".to_owned());
            formed(&nodes, PER_PAIR + 1);
            messages_cross(&nodes, "a");
        }
        for node in &mut nodes {
            node.reload(|setup| setup.cluster.clear());
        }
        formed(&nodes, PER_PAIR);
        messages_cross(&nodes, "b");
        assert_eq!(pools(&nodes), before, "{kinds:?}");
    }
}
