//! Routes in detail: compression, TLS, permissions, limits, reloads. Clusters of both programs, with raw clients.

mod compression;
mod fairness;
mod gossip;
mod limits;
mod moving;
mod permissions;
mod proxy;
mod reload;
mod tls;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;

use linnet_launch::{Server, Spec, free_port, poll_until};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Kind, LONG, Raw, program};

/// Connections between two servers with the default pool: three and one for the system account.
const PER_PAIR: usize = 4;

/// What a server of a cluster is started with.
#[derive(Clone)]
struct Setup {
    kind: Kind,
    name: String,
    port: u16,
    /// Servers to dial, as `[user:pass@]host:port`.
    routes: Vec<String>,
    /// What stands in `cluster {}` beside that.
    cluster: String,
    /// What stands outside of it.
    top: String,
}

/// A running server of a cluster.
struct Node {
    server: Server,
    setup: Setup,
}

impl Setup {
    fn new(kind: Kind, name: &str) -> Self {
        let port = free_port().unwrap();
        Self {
            kind,
            name: name.to_owned(),
            port,
            routes: Vec::new(),
            cluster: String::new(),
            top: String::new(),
        }
    }

    fn dialling(mut self, ports: &[u16]) -> Self {
        self.routes.extend(ports.iter().map(|port| format!("127.0.0.1:{port}")));
        self
    }

    fn cluster(mut self, text: &str) -> Self {
        text.clone_into(&mut self.cluster);
        self
    }

    fn top(mut self, text: &str) -> Self {
        text.clone_into(&mut self.top);
        self
    }

    fn text(&self) -> String {
        let Self { name, port, cluster, top, .. } = self;
        let mut urls = String::new();
        for route in &self.routes {
            write!(urls, "\"nats://{route}\", ").unwrap();
        }
        format!(
            "server_name: {name}\nlisten: \"127.0.0.1:-1\"\nhttp: \"127.0.0.1:-1\"\n{top}\n\
             cluster {{ name: C, listen: \"127.0.0.1:{port}\", routes: [{urls}]\n {cluster} }}\n"
        )
    }

    /// `None` if there is no program of the kind. The port may have been taken by somebody else meanwhile; nobody knows of it
    /// yet, so that another one does as well.
    fn start(mut self) -> Option<Node> {
        const ATTEMPTS: u32 = 5;
        let program = program(self.kind)?;
        for _ in 1..ATTEMPTS {
            if let Ok(server) = Spec::new(&program).config(self.text()).start() {
                return Some(Node { server, setup: self });
            }
            self.port = free_port().unwrap();
        }
        let server = Spec::new(&program).config(self.text()).start().unwrap();
        Some(Node { server, setup: self })
    }
}

impl Node {
    fn page(&self, path: &str) -> Value {
        serde_json::from_str(&self.server.monitor_get(path).unwrap().body).unwrap()
    }

    fn routes(&self) -> Vec<Value> {
        self.page("/routez")["routes"].as_array().unwrap().clone()
    }

    fn client(&self) -> Raw {
        Raw::login(self.server.client_addr().unwrap())
    }

    /// A connection to the route listener.
    fn stranger(&self) -> Raw {
        Raw::connect(SocketAddr::from(([127, 0, 0, 1], self.setup.port)))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.server.log_file()).unwrap()
    }

    /// How often the log says so.
    fn logged(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    fn logs(&self, text: &str) {
        assert!(
            poll_until(LONG, || self.logged(text) > 0),
            "{text:?} is not logged:\n{}",
            self.server.log_tail()
        );
    }

    /// What routes say that other servers are interested in.
    fn interests(&self) -> BTreeSet<String> {
        let page = self.page("/routez?subs=1");
        let lists = page["routes"].as_array().unwrap().iter().filter_map(|route| {
            Some(route["subscriptions_list"].as_array()?.iter().filter_map(|s| s.as_str().map(str::to_owned)))
        });
        lists.flatten().collect()
    }

    fn knows(&self, subject: &str, is_known: bool) {
        let found = poll_until(LONG, || self.interests().contains(subject) == is_known);
        assert!(found, "{subject} should be known: {is_known}, {:?}", self.interests());
    }

    /// Waits until the routes lead to these servers, and no others.
    fn is_connected_to(&self, names: &[&str], per_pair: usize) {
        let peers = || {
            let mut peers: Vec<String> =
                self.routes().iter().map(|route| route["remote_name"].as_str().unwrap().to_owned()).collect();
            peers.sort();
            peers
        };
        let wanted: Vec<String> = names.iter().flat_map(|name| vec![(*name).to_owned(); per_pair]).collect();
        assert!(poll_until(LONG, || peers() == wanted), "{:?}\n{}", peers(), self.server.log_tail());
    }

    /// Writes another configuration and waits until it is in force.
    fn reload(&mut self, change: impl FnOnce(&mut Setup)) {
        let before = self.logged("Reloaded server configuration");
        self.ask_to_reload(change);
        let is_done = poll_until(LONG, || self.logged("Reloaded server configuration") > before);
        assert!(is_done, "{}", self.server.log_tail());
    }

    /// Writes another configuration and tells the server.
    fn ask_to_reload(&mut self, change: impl FnOnce(&mut Setup)) {
        change(&mut self.setup);
        std::fs::write(self.server.dir().join("server.conf"), self.setup.text()).unwrap();
        self.server.signal(Signal::HUP).unwrap();
    }
}

/// Waits until every server has all routes to every other.
fn formed(nodes: &[Node], per_pair: usize) {
    for node in nodes {
        let mut others: Vec<&str> =
            nodes.iter().map(|n| n.setup.name.as_str()).filter(|name| *name != node.setup.name).collect();
        others.sort_unstable();
        node.is_connected_to(&others, per_pair);
    }
}

/// The next message: its line without the size, and its content.
fn message(client: &mut Raw) -> (String, Vec<u8>) {
    let mut head = client.line().expect("a message");
    while head == "PING" {
        head = client.line().expect("a message");
    }
    assert!(head.starts_with("MSG ") || head.starts_with("HMSG "), "{head}");
    let size: usize = head.rsplit(' ').next().unwrap().parse().unwrap();
    let body = client.bytes(size);
    client.bytes(2);
    (head.rsplit_once(' ').unwrap().0.to_owned(), body)
}

/// Shakes hands as the server `X`, and says nothing of compression.
fn enter_as_server(raw: &mut Raw) {
    raw.line();
    raw.send(
        b"CONNECT {\"name\":\"X\",\"cluster\":\"C\"}\r\nINFO {\"server_id\":\"X\",\"server_name\":\"x\",\"cluster\":\"C\",\
          \"route_pool_size\":3}\r\n",
    );
}
