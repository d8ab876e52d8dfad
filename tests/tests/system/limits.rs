//! Connections of an account are counted over all servers of the cluster.

use linnet_launch::{Server, Spec, free_port, poll_until};

use crate::harness::{Kind, LONG, Raw, program};

fn start(kind: Kind, name: &str, port: u16, dial: u16) -> Option<Server> {
    let config = format!(
        "server_name: {name}\nlisten: \"127.0.0.1:-1\"\nhttp: \"127.0.0.1:-1\"\n\
         accounts {{ A {{ limits {{ max_connections: 2 }}, users: [{{user: a, password: a}}] }} }}\n\
         cluster {{ name: C, listen: \"127.0.0.1:{port}\", routes: [\"nats://127.0.0.1:{dial}\"] }}\n"
    );
    Some(Spec::new(program(kind)?).config(config).start().unwrap())
}

fn routes(server: &Server) -> u64 {
    let page = server.monitor_get("/varz").unwrap().body;
    serde_json::from_str::<serde_json::Value>(&page).unwrap()["routes"].as_u64().unwrap()
}

/// What a client of the account reads after its login.
fn login(server: &Server) -> (Raw, String) {
    let mut raw = Raw::connect(server.client_addr().unwrap());
    assert!(raw.line().unwrap().starts_with("INFO "));
    raw.send(b"CONNECT {\"user\":\"a\",\"pass\":\"a\",\"verbose\":false}\r\nPING\r\n");
    let line = raw.line().unwrap_or_default();
    (raw, line)
}

fn a_third_connection_is_one_too_many(kinds: [Kind; 2]) {
    let (one, two) = (free_port().unwrap(), free_port().unwrap());
    let Some(first) = start(kinds[0], "N1", one, two) else { return };
    let Some(second) = start(kinds[1], "N2", two, one) else { return };
    assert!(poll_until(LONG, || routes(&first) == 4 && routes(&second) == 4));
    let mut held = Vec::new();
    let mut hold_two = || {
        held.retain_mut(|client: &mut Raw| {
            client.send(b"PING\r\n");
            client.line().as_deref() == Some("PONG")
        });
        while held.len() < 2 {
            let (client, said) = login(&first);
            assert_eq!(said, "PONG");
            held.push(client);
        }
    };
    // The news travels. Until then each server takes its own newest connection for the one too many.
    let refused = poll_until(LONG, || {
        hold_two();
        login(&second).1.starts_with("-ERR 'maximum account active connections")
    });
    assert!(refused, "{}", second.log_tail());
}

#[test]
fn connections_on_ours_count_on_ours() {
    a_third_connection_is_one_too_many([Kind::Linnet, Kind::Linnet]);
}

#[test]
fn connections_on_the_peer_count_here() {
    a_third_connection_is_one_too_many([Kind::Peer, Kind::Linnet]);
}

#[test]
fn connections_here_count_on_the_peer() {
    a_third_connection_is_one_too_many([Kind::Linnet, Kind::Peer]);
}
