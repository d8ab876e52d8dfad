//! Clusters of servers of both programs, with raw clients.

use std::collections::BTreeSet;

use linnet_launch::{Dial, Member, Server, Spec, free_port, poll_until};
use serde_json::Value;

use crate::harness::{Inside as _, Kind, LONG, PER_PAIR, Raw, mesh, program, single};

fn message(client: &mut Raw) -> (String, String) {
    let head = client.line().expect("a message");
    assert!(head.starts_with("MSG ") || head.starts_with("HMSG "), "{head}");
    let size: usize = head.rsplit(' ').next().unwrap().parse().unwrap();
    let body = String::from_utf8_lossy(&client.bytes(size)).into_owned();
    client.bytes(2);
    (head.rsplit_once(' ').unwrap().0.to_owned(), body)
}

const MIXES: &[&[Kind]] = &[
    &[Kind::Linnet, Kind::Linnet, Kind::Linnet],
    &[Kind::Linnet, Kind::Linnet, Kind::Peer],
    &[Kind::Peer, Kind::Linnet, Kind::Peer],
];

#[test]
fn messages_cross_in_every_direction() {
    for kinds in MIXES {
        let Some(spec) = mesh(kinds) else { return };
        let nodes = spec.start().unwrap();
        for (at, node) in nodes.members().iter().enumerate() {
            let mut listener = node.client();
            listener.send(format!("SUB all.{at}.* 1\r\n").as_bytes());
            for other in nodes.members().iter().filter(|other| other.ports().cluster != node.ports().cluster)
            {
                other.knows(&format!("all.{at}.*"), true);
                let mut publisher = other.client();
                let big = "x".repeat(1 << 20);
                publisher.send(format!("PUB all.{at}.a re.ply 2\r\nhi\r\n").as_bytes());
                publisher.send(format!("HPUB all.{at}.b 12 14\r\nNATS/1.0\r\n\r\nhi\r\n").as_bytes());
                publisher.send(format!("PUB all.{at}.c {}\r\n{big}\r\n", big.len()).as_bytes());
                assert_eq!(message(&mut listener), (format!("MSG all.{at}.a 1 re.ply"), "hi".to_owned()));
                let (head, body) = message(&mut listener);
                assert_eq!((head, body.as_str()), (format!("HMSG all.{at}.b 1 12"), "NATS/1.0\r\n\r\nhi"));
                assert_eq!(message(&mut listener).1.len(), big.len());
            }
            listener.send(b"UNSUB 1\r\n");
            for other in nodes.members().iter().filter(|other| other.ports().cluster != node.ports().cluster)
            {
                other.knows(&format!("all.{at}.*"), false);
            }
        }
    }
}

#[test]
fn pool_sizes_of_both_programs_fit() {
    for (size, per_pair) in [(1, 2), (-1, 1), (5, 6)] {
        for kinds in [&[Kind::Linnet, Kind::Peer], &[Kind::Peer, Kind::Linnet]] {
            let Some(spec) = mesh(kinds) else { return };
            let nodes = spec.pool_size(size).start().unwrap();
            assert_eq!([nodes[0].peers().len(), nodes[1].peers().len()], [per_pair; 2]);
            let mut listener = nodes[0].client();
            listener.send(b"SUB a 1\r\n");
            nodes[1].knows("a", true);
            nodes[1].client().send(b"PUB a 2\r\nhi\r\n");
            assert_eq!(message(&mut listener).1, "hi");
        }
    }
}

/// Somebody who begins to listen and asks at once is answered: interest and answer come by the same connection. Where the
/// smaller pool is nats-server's, answers can overtake the interest, as between two of them.
#[test]
fn no_answer_comes_too_early_between_pools_of_different_sizes() {
    const QUESTIONS: u32 = 200;
    for large in [Kind::Linnet, Kind::Peer] {
        let Some(program) = program(large) else { return };
        let small = single(Kind::Linnet, "small").unwrap().pool_size(1).start().unwrap();
        let port = small[0].server().ports().cluster[0].port();
        let config = format!(
            "server_name: large\nlisten: \"127.0.0.1:-1\"\nhttp: \"127.0.0.1:-1\"\n\
             cluster {{ name: C, listen: \"127.0.0.1:-1\", routes: [\"nats://127.0.0.1:{port}\"], pool_size: 3 }}\n"
        );
        let large = Spec::new(program).config(config).start().unwrap();
        assert!(poll_until(LONG, || small[0].peers().len() == PER_PAIR));
        let mut worker = Raw::login(large.client_addr().unwrap());
        worker.send(b"SUB ask 1\r\n");
        worker.ping();
        small[0].knows("ask", true);
        for number in 0..QUESTIONS {
            let mut asking = small[0].client();
            asking.send(format!("SUB answer.{number} 9\r\nPUB ask answer.{number} 1\r\n?\r\n").as_bytes());
            assert_eq!(message(&mut worker).1, "?");
            worker.send(format!("PUB answer.{number} 1\r\n!\r\n").as_bytes());
            assert_eq!(message(&mut asking).1, "!");
        }
    }
}

#[test]
fn servers_meet_through_a_third() {
    for kinds in MIXES {
        let Some(spec) = mesh(kinds) else { return };
        let nodes = spec.dial(Dial::First).start().unwrap();
        assert!(nodes.members().iter().all(|node| node.peers().len() == 2 * PER_PAIR));
    }
}

#[test]
fn a_question_is_answered_by_one_of_a_group_elsewhere() {
    for kinds in MIXES {
        let Some(spec) = mesh(kinds) else { return };
        let nodes = spec.start().unwrap();
        let mut workers: Vec<Raw> = nodes.members()[1..].iter().map(Member::client).collect();
        for worker in &mut workers {
            worker.send(b"SUB ask workers 1\r\n");
        }
        let account_of = |node: &Member| {
            let page = node.page("/routez?subs=1");
            let lists = page["routes"].as_array().unwrap().iter();
            lists.filter_map(|r| r["subscriptions_list"].as_array()).flatten().filter(|s| *s == "ask").count()
        };
        assert!(poll_until(LONG, || account_of(&nodes[0]) == 2));
        let mut asking = nodes[0].client();
        asking.send(b"SUB answers 9\r\n");
        nodes[1].knows("answers", true);
        nodes[2].knows("answers", true);
        const QUESTIONS: usize = 300;
        asking.send("PUB ask answers 1\r\n?\r\n".repeat(QUESTIONS).as_bytes());
        // Each worker answers until it is told to stop.
        asking.send(b"PUB stop 0\r\n\r\n");
        let mut served = Vec::new();
        for (worker, node) in workers.iter_mut().zip(&nodes.members()[1..]) {
            worker.send(b"SUB end 2\r\n");
            nodes[0].knows("end", true);
            asking.send(b"PUB end 0\r\n\r\n");
            let mut count = 0;
            loop {
                let (head, _) = message(worker);
                if head.starts_with("MSG end") {
                    break;
                }
                worker.send(b"PUB answers 1\r\n!\r\n");
                count += 1;
            }
            worker.send(b"UNSUB 2\r\n");
            for other in nodes.members().iter().filter(|other| other.ports().cluster != node.ports().cluster)
            {
                other.knows("end", false);
            }
            served.push(count);
        }
        assert_eq!(served.iter().sum::<usize>(), QUESTIONS, "{served:?}");
        assert!(served.iter().all(|count| *count > QUESTIONS / 4), "{served:?}");
        for _ in 0..QUESTIONS {
            assert_eq!(message(&mut asking).1, "!");
        }
    }
}

#[test]
fn interest_is_the_same_everywhere_after_a_server_was_killed() {
    for kinds in MIXES {
        let Some(spec) = mesh(kinds) else { return };
        let mut nodes = spec.start().unwrap();
        let mut clients: Vec<Raw> = nodes.members().iter().map(Member::client).collect();
        for (at, client) in clients.iter_mut().enumerate() {
            client.send(format!("SUB kept.{at} 1\r\n").as_bytes());
        }
        nodes[0].knows("kept.2", true);
        nodes.kill("n2").unwrap();
        nodes[0].knows("kept.2", false);
        nodes[1].knows("kept.2", false);
        nodes.restart("n2", LONG).unwrap();
        nodes.wait_formed(LONG).unwrap();
        nodes[2].knows("kept.0", true);
        nodes[2].knows("kept.1", true);
        let mut back = nodes[2].client();
        back.send(b"SUB kept.2 1\r\n");
        nodes[0].knows("kept.2", true);
        nodes[0].client().send(b"PUB kept.2 2\r\nhi\r\n");
        assert_eq!(message(&mut back).1, "hi");
    }
}

#[test]
fn pages_tell_own_subscriptions_from_those_of_other_servers() {
    for kinds in [[Kind::Linnet, Kind::Peer], [Kind::Peer, Kind::Linnet]] {
        let Some(spec) = mesh(&kinds) else { return };
        let nodes = spec.start().unwrap();
        let (mut own, mut other) = (nodes[0].client(), nodes[1].client());
        own.send(b"SUB own 1\r\nSUB work workers 2\r\n");
        other.send(b"SUB other 1\r\n");
        nodes[0].knows("other", true);
        nodes[1].knows("work", true);
        let listed = |node: &Member| {
            let page = node.page("/subsz?subs=1&acc=$G");
            let list = page["subscriptions_list"].as_array().unwrap().iter();
            let subjects: Vec<String> = list.map(|sub| sub["subject"].as_str().unwrap().to_owned()).collect();
            subjects.into_iter().filter(|subject| !subject.starts_with('$')).collect::<BTreeSet<_>>()
        };
        assert_eq!(listed(&nodes[0]), ["own", "work"].map(str::to_owned).into());
        assert_eq!(listed(&nodes[1]), ["other".to_owned()].into());
        let page = nodes[1].page("/routez?subs=detail");
        let routes = page["routes"].as_array().unwrap().iter();
        let mut details: Vec<Value> = Vec::new();
        for route in routes {
            assert_eq!(route["subscriptions_list"], Value::Null, "{route}");
            for detail in route["subscriptions_list_detail"].as_array().into_iter().flatten() {
                assert_eq!(detail["cid"], route["rid"]);
                let is_of_clients = !detail["subject"].as_str().unwrap().starts_with('$');
                details.extend(is_of_clients.then(|| detail.clone()));
            }
        }
        details.sort_by_key(|detail| detail["subject"].to_string());
        assert_eq!(details.len(), 2, "{details:?}");
        assert_eq!((&details[0]["subject"], &details[0]["qgroup"]), (&"own".into(), &Value::Null));
        assert_eq!((&details[1]["subject"], &details[1]["qgroup"]), (&"work".into(), &"workers".into()));
        assert_eq!(
            (&details[0]["sid"], &details[1]["sid"]),
            (&"R $G own".into(), &"R $G work workers".into())
        );
    }
}

#[test]
fn a_cluster_with_a_password_lets_only_those_in_who_know_it() {
    let login = "authorization { user: r, password: s, timeout: 3 }";
    for kinds in [[Kind::Linnet, Kind::Peer], [Kind::Peer, Kind::Linnet]] {
        let Some(spec) = single(kinds[0], "first") else { return };
        let first = &spec.cluster_extra(login).start().unwrap()[0];
        let with = |login: &str, name: &str| {
            let config = format!(
                "server_name: {name}\nlisten: \"127.0.0.1:-1\"\nhttp: \"127.0.0.1:-1\"\n\
                 cluster {{ name: C, listen: \"127.0.0.1:-1\", routes: [\"nats://{login}127.0.0.1:{}\"] }}\n",
                first.ports().cluster
            );
            Spec::new(program(kinds[1]).unwrap()).config(config).start().unwrap()
        };
        let known = with("r:s@", "known");
        let stranger = with("r:x@", "stranger");
        let is_in = poll_until(LONG, || first.peers().len() == PER_PAIR);
        assert!(is_in, "{}", known.log_tail());
        assert!(poll_until(LONG, || stranger.log_tail().contains("Authorization Violation")));
        assert!(first.peers().iter().all(|name| name == "known"), "{:?}", first.peers());
    }
}

#[test]
fn servers_of_other_clusters_and_of_the_same_name_stay_out() {
    for kinds in [[Kind::Linnet, Kind::Peer], [Kind::Peer, Kind::Linnet]] {
        let Some(spec) = single(kinds[0], "first") else { return };
        let first = &spec.start().unwrap()[0];
        let other = format!(
            "server_name: other\nlisten: \"127.0.0.1:-1\"\n\
             cluster {{ name: D, listen: \"127.0.0.1:-1\", routes: [\"nats://127.0.0.1:{}\"] }}\n",
            first.ports().cluster
        );
        let other = Spec::new(program(kinds[1]).unwrap()).config(other).start().unwrap();
        let is_told = |server: &Server| {
            let log = server.log_tail();
            log.contains("does not match") || log.contains("Cluster Name Conflict")
        };
        assert!(poll_until(LONG, || is_told(&other) || is_told(first.server())), "{}", other.log_tail());
        let same = single(kinds[1], "first").unwrap().route(first.ports().cluster).start().unwrap();
        let is_noticed = poll_until(LONG, || {
            let log = format!("{}{}", first.server().log_tail(), same[0].server().log_tail());
            log.contains("Duplicate Server Name")
        });
        assert!(is_noticed, "{}{}", first.server().log_tail(), same[0].server().log_tail());
        assert!(first.peers().is_empty());
    }
}

#[test]
fn clients_are_told_of_all_servers_unless_that_is_not_wanted() {
    for kinds in [[Kind::Linnet, Kind::Linnet], [Kind::Linnet, Kind::Peer], [Kind::Peer, Kind::Linnet]] {
        for (more, count) in [("", 2), ("no_advertise: true", 0)] {
            let Some(spec) = mesh(&kinds) else { return };
            for node in spec.cluster_extra(more).start().unwrap().members() {
                let urls = || {
                    let line = Raw::connect(node.server().client_addr().unwrap()).line().unwrap();
                    let info: Value = serde_json::from_str(line.strip_prefix("INFO ").unwrap()).unwrap();
                    assert_eq!(info["cluster"], "C");
                    info["connect_urls"].as_array().map_or(0, Vec::len)
                };
                assert!(poll_until(LONG, || urls() == count), "{} of {count} for {more:?}", urls());
            }
        }
    }
}

#[test]
fn accounts_stay_apart() {
    let accounts =
        "accounts { A { users: [{user: a, password: p}] }, B { users: [{user: b, password: p}] } }";
    for kinds in [[Kind::Linnet, Kind::Peer], [Kind::Peer, Kind::Linnet]] {
        // One of them has connections of its own.
        let Some(spec) = mesh(&kinds) else { return };
        let nodes = spec.account("A").extra(accounts).start().unwrap();
        let enter = |node: &Member, user: &str| {
            let mut raw = Raw::connect(node.server().client_addr().unwrap());
            raw.line();
            raw.send(
                format!("CONNECT {{\"verbose\":false,\"user\":\"{user}\",\"pass\":\"p\"}}\r\n").as_bytes(),
            );
            raw.ping();
            raw
        };
        let dedicated = |node: &Member| {
            let page = node.page("/routez");
            let routes = page["routes"].as_array().unwrap().iter();
            routes.filter(|route| route["account"] == "A").count()
        };
        assert_eq!((dedicated(&nodes[0]), dedicated(&nodes[1])), (1, 1));
        let (mut a, mut b) = (enter(&nodes[0], "a"), enter(&nodes[0], "b"));
        a.send(b"SUB x 1\r\nSUB mark.a 2\r\n");
        b.send(b"SUB x 1\r\nSUB mark.b 2\r\n");
        nodes[1].knows("mark.a", true);
        nodes[1].knows("mark.b", true);
        enter(&nodes[1], "a").send(b"PUB x 1\r\na\r\nPUB mark.a 0\r\n\r\n");
        enter(&nodes[1], "b").send(b"PUB x 1\r\nb\r\nPUB mark.b 0\r\n\r\n");
        assert_eq!(message(&mut a).1, "a");
        assert_eq!(message(&mut b).1, "b");
        assert_eq!(message(&mut a).0, "MSG mark.a 2");
        assert_eq!(message(&mut b).0, "MSG mark.b 2");
    }
}

#[test]
fn garbage_on_the_route_port_is_refused_and_harms_nobody() {
    let mut nodes = mesh(&[Kind::Linnet, Kind::Linnet]).unwrap().start().unwrap();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], nodes[0].ports().cluster));
    let rows: &[(&[u8], &str)] = &[
        (b"GET / HTTP/1.1\r\n\r\n", "-ERR"),
        (b"CONNECT {\"lang\":\"go\"}\r\n", "-ERR 'attempted to connect to route port'"),
        (b"CONNECT {\"gateway\":\"G\"}\r\n", "-ERR 'Rejecting connection from gateway \"G\" on the Route port'"),
        (b"CONNECT {\"cluster\":\"X\"}\r\n", "-ERR 'Rejecting connection, cluster name \"X\" does not match \"C\"'"),
        (b"PING\r\n", "-ERR 'Authorization Violation'"),
        (b"CONNECT {\"cluster\":\"C\"}\r\nINFO {\"server_id\":\"X\",\"cluster\":\"C\",\"route_pool_size\":3,\"route_pool_idx\":9}\r\n",
            "-ERR 'Invalid route pool index: 9 - pool size is 3'"),
    ];
    for (bytes, expected) in rows {
        let mut raw = Raw::connect(address);
        raw.send(bytes);
        let lines = raw.until_closed();
        assert!(lines.iter().any(|line| line.starts_with(expected)), "{expected}: {lines:?}");
    }
    // A server that names accounts that are not there, and then nonsense.
    let mut raw = Raw::connect(address);
    raw.send(b"CONNECT {\"name\":\"X\",\"cluster\":\"C\"}\r\nINFO {\"server_id\":\"X\",\"server_name\":\"x\",\"cluster\":\"C\",\"route_pool_size\":3}\r\n");
    raw.send(b"RMSG NOBODY a 2\r\nhi\r\nRS+ NOBODY a\r\nRS- NOBODY a\r\nPING\r\n");
    let mut lines = Vec::new();
    while let Some(line) = raw.line() {
        lines.push(line);
        if lines.last().is_some_and(|line| line == "PONG") {
            break;
        }
    }
    raw.send(b"RS+ too many words for a line\r\n");
    raw.until_closed();
    nodes.wait_formed(LONG).unwrap();
}

/// The INFO of a route listener.
fn route_info(raw: &mut Raw) -> Value {
    let line = raw.line().unwrap();
    serde_json::from_str(line.strip_prefix("INFO ").unwrap()).unwrap()
}

fn route_client(port: u16) -> Raw {
    Raw::connect(std::net::SocketAddr::from(([127, 0, 0, 1], port)))
}

/// Shakes hands as the server `X`.
fn enter_as_server(raw: &mut Raw) {
    raw.send(
        b"CONNECT {\"name\":\"X\",\"cluster\":\"C\"}\r\nINFO {\"server_id\":\"X\",\"server_name\":\"x\",\"cluster\":\"C\",\
          \"route_pool_size\":3}\r\n",
    );
}

#[test]
fn a_route_listener_of_host_and_port_and_other_settings_take_effect() {
    for kind in [Kind::Linnet, Kind::Peer] {
        let Some(program) = program(kind) else { return };
        let port = free_port().unwrap();
        let config = format!(
            "server_name: n\nlisten: \"127.0.0.1:-1\"\ncluster {{ name: C, host: \"127.0.0.1\", port: {port},\n\
             advertise: \"127.0.0.2:{port}\", authorization {{ user: r, password: s, timeout: 0.5 }} }}\n"
        );
        let server = Spec::new(program).config(config).start().unwrap();
        assert!(poll_until(LONG, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()));
        assert_eq!(server.ports().cluster, [std::net::SocketAddr::from(([127, 0, 0, 1], port))]);
        let mut raw = route_client(port);
        let info = route_info(&mut raw);
        assert_eq!((&info["host"], &info["port"]), (&"127.0.0.2".into(), &port.into()));
        assert_eq!(info["ip"], format!("nats-route://127.0.0.2:{port}/"));
        assert_eq!((&info["cluster"], &info["auth_required"]), (&"C".into(), &true.into()));
        // Whoever says nothing is sent away.
        let lines = raw.until_closed();
        assert!(lines.iter().any(|line| line == "-ERR 'Authentication Timeout'"), "{lines:?}");
        drop(server);
    }
}

#[test]
fn a_route_whose_other_side_is_silent_is_closed() {
    for kind in [Kind::Linnet, Kind::Peer] {
        let more = "ping_interval: \"200ms\", ping_max: 2";
        let Some(spec) = single(kind, "n") else { return };
        let node = &spec.cluster_extra(more).start().unwrap()[0];
        assert!(
            poll_until(LONG, || std::net::TcpStream::connect(("127.0.0.1", node.ports().cluster)).is_ok())
        );
        let mut raw = route_client(node.ports().cluster);
        route_info(&mut raw);
        enter_as_server(&mut raw);
        let lines = raw.until_closed();
        assert_eq!(lines.iter().filter(|line| *line == "PING").count(), 2, "{lines:?}");
        assert_eq!(lines.last().map(String::as_str), Some("-ERR 'Stale Connection'"), "{lines:?}");
    }
}

#[test]
fn a_server_that_was_told_of_is_dialled_as_often_as_configured() {
    let spec = single(Kind::Linnet, "n").unwrap().pool_size(-1).cluster_extra("connect_retries: 1");
    let node = &spec.start().unwrap()[0];
    assert!(poll_until(LONG, || std::net::TcpStream::connect(("127.0.0.1", node.ports().cluster)).is_ok()));
    let nobody = free_port().unwrap();
    let mut raw = route_client(node.ports().cluster);
    route_info(&mut raw);
    enter_as_server(&mut raw);
    let told = format!("INFO {{\"server_id\":\"Y\",\"ip\":\"nats-route://127.0.0.1:{nobody}/\"}}\r\n");
    raw.send(told.as_bytes());
    let attempts = || node.server().log_tail().matches(&format!("127.0.0.1:{nobody}")).count();
    assert!(poll_until(LONG, || attempts() == 2), "{}", node.server().log_tail());
    // Told again, it tries again: had it not given up, it would know of the server.
    let again = || {
        raw.send(told.as_bytes());
        attempts() > 2
    };
    assert!(poll_until(LONG, again));
}

#[test]
fn a_server_that_drains_is_not_recommended_any_more() {
    let lame_duck = "lame_duck_grace_period: \"5s\", lame_duck_duration: \"60s\"";
    for kinds in [[Kind::Linnet, Kind::Linnet], [Kind::Linnet, Kind::Peer], [Kind::Peer, Kind::Linnet]] {
        let Some(spec) = mesh(&kinds) else { return };
        let nodes = spec.extra(lame_duck).start().unwrap();
        let urls = |node: &Member| {
            let line = Raw::connect(node.server().client_addr().unwrap()).line().unwrap();
            let info: Value = serde_json::from_str(line.strip_prefix("INFO ").unwrap()).unwrap();
            info["connect_urls"].as_array().map_or(0, Vec::len)
        };
        assert!(poll_until(LONG, || urls(&nodes[1]) == 2));
        // One that listens to INFO, so that the server does not end at once.
        let mut client = Raw::connect(nodes[0].server().client_addr().unwrap());
        client.line();
        client.send(b"CONNECT {\"verbose\":false,\"protocol\":1}\r\nPING\r\n");
        assert_eq!(client.line().as_deref(), Some("PONG"));
        let other = nodes[1].server().client_addr().unwrap().to_string();
        nodes[0].server().signal(rustix::process::Signal::USR2).unwrap();
        let told = loop {
            let line = client.line().expect("an INFO about draining");
            let info: Value = serde_json::from_str(line.strip_prefix("INFO ").unwrap()).unwrap();
            if info["ldm"] == true {
                break info;
            }
        };
        assert_eq!(told["connect_urls"], serde_json::json!([other]));
        assert!(poll_until(LONG, || urls(&nodes[1]) == 1));
    }
}

#[test]
fn a_cluster_can_be_asked_for_by_flags() {
    for kind in [Kind::Linnet, Kind::Peer] {
        let Some(program) = program(kind) else { return };
        let login = "authorization { user: r, password: s }";
        let first = &single(Kind::Linnet, "first").unwrap().cluster_extra(login).start().unwrap()[0];
        let port = free_port().unwrap();
        let spec = Spec::new(program)
            .config("server_name: flags\nlisten: \"127.0.0.1:-1\"\nhttp: \"127.0.0.1:-1\"\n");
        let spec =
            spec.arg("--cluster_name").arg("C").arg("--cluster").arg(format!("nats://127.0.0.1:{port}"));
        let spec = spec.arg("--routes").arg(format!("nats://r:s@127.0.0.1:{}", first.ports().cluster));
        let server = spec.arg("--no_advertise").arg("--connect_retries").arg("3").start().unwrap();
        assert!(poll_until(LONG, || first.peers() == ["flags"; PER_PAIR]), "{}", server.log_tail());
        let mut client = Raw::connect(server.client_addr().unwrap());
        let line = client.line().unwrap();
        let info: Value = serde_json::from_str(line.strip_prefix("INFO ").unwrap()).unwrap();
        assert_eq!((&info["cluster"], &info["connect_urls"]), (&"C".into(), &Value::Null));
    }
}

#[test]
fn servers_that_all_name_each_other_and_themselves_come_to_rest() {
    for kinds in MIXES {
        let Some(spec) = mesh(kinds) else { return };
        let nodes = spec.dial(Dial::All).start().unwrap();
        let nodes = nodes.members();
        let closed = |node: &Member| {
            let log = std::fs::read_to_string(node.server().log_file()).unwrap();
            log.matches("Router connection closed").count()
        };
        let before: usize = nodes.iter().map(closed).sum();
        // Whoever finds a place taken does not try again as long as it is.
        let goes_on = || nodes.iter().map(closed).sum::<usize>() > before + 12;
        assert!(!poll_until(std::time::Duration::from_secs(3), goes_on), "{}", nodes[0].server().log_tail());
        assert!(nodes.iter().all(|node| node.peers().len() == 2 * PER_PAIR));
    }
}
