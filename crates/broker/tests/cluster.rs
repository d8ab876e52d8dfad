//! Servers of one cluster in one process, each with its own listeners, and clients by raw sockets.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use linnet_auth::Authenticator;
use linnet_broker::{
    Account, AccountLimits, Broker, ClusterConfig, Config, Conn, Leads, Observer, RouteUrl, ServerIdentity,
    WritePolicy,
};
use linnet_env::{OsRng, RealClock};
use linnet_links::{ClusterName, Local, Mode, Thresholds};
use linnet_wire::ServerInfo;
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

/// How long anything may take.
const LONG: Duration = Duration::from_secs(20);

struct Server {
    broker: Broker,
    client: SocketAddr,
    route: SocketAddr,
    stop: watch::Sender<bool>,
}

/// Waits until `is_true`.
async fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let polling = async {
        while !is_true() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(LONG, polling).await.is_ok(), "{what} does not come true");
}

fn local(name: &str, pool_size: Option<usize>, addr: SocketAddr) -> Local {
    let info = ServerInfo {
        server_id: format!("N{name}"),
        server_name: name.to_owned(),
        version: "2.15.1".to_owned(),
        proto: 3,
        host: addr.ip().to_string(),
        port: addr.port(),
        headers: true,
        max_payload: 1 << 20,
        lnoc: true,
        lnocu: true,
        ln: true,
        ..ServerInfo::default()
    };
    Local {
        cluster: ClusterName { name: "C".to_owned(), is_dynamic: false },
        info,
        pool_size,
        accounts: vec!["$SYS".to_owned()],
        compression: Mode::Off,
        credentials: None,
        tls: false,
    }
}

fn url(addr: &SocketAddr) -> RouteUrl {
    RouteUrl { host: addr.ip().to_string(), port: addr.port(), credentials: None }
}

fn settings(local: Local, routes: &[SocketAddr]) -> ClusterConfig {
    ClusterConfig {
        local,
        routes: routes.iter().map(url).collect(),
        ping_interval: Duration::from_secs(30),
        ping_max: 2,
        handshake_timeout: Duration::from_secs(2),
        rtt_thresholds: Thresholds::default(),
        connect_retries: 0,
        connect_backoff: false,
        advertises_clients: true,
        tls: None,
        permissions: None,
        write_policy: WritePolicy { deadline: Duration::from_secs(10), is_strict: false },
    }
}

/// A server that dials `routes`.
fn start(name: &str, pool_size: Option<usize>, routes: &[SocketAddr]) -> Server {
    let identity = ServerIdentity {
        id: format!("N{name}"),
        xkey: String::new(),
        name: name.to_owned(),
        version: "2.15.1".to_owned(),
        git_commit: String::new(),
        go: String::new(),
    };
    let accounts = [("$G", false), ("$SYS", true)];
    let accounts = accounts.map(|(name, is_system)| Account::new(name, is_system, AccountLimits::default()));
    let broker = Broker::new(
        identity,
        Config::default(),
        Authenticator::open("$G"),
        accounts,
        Arc::new(RealClock::new()),
        Arc::new(OsRng),
        tokio::runtime::Handle::current(),
    );
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (clients, client) = broker.bind(anywhere).unwrap();
    let (listener, route) = broker.bind(anywhere).unwrap();
    broker.expect_cluster(None);
    broker.join_cluster(settings(local(name, pool_size, route), routes));
    let (stop, stopped) = watch::channel(false);
    let serving = broker.clone();
    let also_stopped = stopped.clone();
    tokio::spawn(async move { serving.serve(clients, also_stopped).await });
    let routing = broker.clone();
    tokio::spawn(async move { routing.serve_routes(listener, stopped).await });
    Server { broker, client, route, stop }
}

impl Server {
    /// Routes that carry messages, by the name of the other server.
    fn routes_to(&self, name: &str) -> usize {
        self.broker.routes().iter().filter(|route| route.remote_name == name).count()
    }

    /// Waits until a message on the subject would be wanted, or not.
    async fn wants(&self, subject: &str, is_wanted: bool) {
        let account = self.broker.account("$G").unwrap();
        let what = format!("interest in {subject}");
        eventually(&what, || account.has_interest(subject.as_bytes()) == is_wanted).await;
    }

    fn stop(&self) {
        let _ = self.stop.send(true);
        self.broker.close_clients();
        self.broker.close_routes();
    }
}

/// Waits until every server has all routes to every other.
async fn formed(servers: &[&Server], per_pair: usize) {
    for server in servers {
        for other in servers.iter().filter(|other| other.route != server.route) {
            let name = other.broker.identity().name.clone();
            let what = format!("routes of {} to {name}", server.broker.identity().name);
            eventually(&what, || server.routes_to(&name) == per_pair).await;
        }
    }
}

struct Client {
    input: BufReader<OwnedReadHalf>,
    output: OwnedWriteHalf,
}

/// Subject, reply and payload of a message.
type Got = (String, String, String);

impl Client {
    async fn connect(server: &Server) -> Self {
        let (input, output) = TcpStream::connect(server.client).await.unwrap().into_split();
        let mut client = Self { input: BufReader::new(input), output };
        client.line().await;
        client.say("CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n").await;
        client.settle().await;
        client
    }

    async fn say(&mut self, text: &str) {
        self.output.write_all(text.as_bytes()).await.unwrap();
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        tokio::time::timeout(LONG, self.input.read_line(&mut line)).await.expect("a line in time").unwrap();
        line.trim_end().to_owned()
    }

    /// Waits until everything said so far is acted on.
    async fn settle(&mut self) {
        self.say("PING\r\n").await;
        while self.line().await != "PONG" {}
    }

    /// The next message.
    async fn message(&mut self) -> Got {
        loop {
            let line = self.line().await;
            let words: Vec<&str> = line.split_whitespace().collect();
            let sizes = match words.first() {
                Some(&"MSG") => 1,
                Some(&"HMSG") => 2,
                _ => continue,
            };
            let reply = if words.len() == 3 + sizes + 1 { words[3] } else { "" };
            let size: usize = words.last().unwrap().parse().unwrap();
            let mut body = vec![0; size + 2];
            self.input.read_exact(&mut body).await.unwrap();
            body.truncate(size);
            return (words[1].to_owned(), reply.to_owned(), String::from_utf8_lossy(&body).into_owned());
        }
    }

    /// Everything that has arrived.
    async fn all(&mut self) -> Vec<String> {
        self.say("PING\r\n").await;
        let mut payloads = Vec::new();
        loop {
            let line = self.line().await;
            if line == "PONG" {
                return payloads;
            }
            if line.starts_with("MSG ") {
                let size: usize = line.rsplit(' ').next().unwrap().parse().unwrap();
                let mut body = vec![0; size + 2];
                self.input.read_exact(&mut body).await.unwrap();
                payloads.push(String::from_utf8_lossy(&body[..size]).into_owned());
            }
        }
    }
}

fn got(subject: &str, reply: &str, payload: &str) -> Got {
    (subject.to_owned(), reply.to_owned(), payload.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_fill_and_servers_that_do_not_know_each_other_meet() {
    for (pool_size, per_pair) in [(Some(3), 4), (Some(1), 2), (None, 1)] {
        let a = start("A", pool_size, &[]);
        let b = start("B", pool_size, &[a.route]);
        let c = start("C", pool_size, &[a.route]);
        // B and C hear of each other from A.
        formed(&[&a, &b, &c], per_pair).await;
        for server in [&a, &b, &c] {
            server.stop();
        }
    }
}

/// Looks when it is told that servers have come or gone.
struct Lookout(Broker, Mutex<Vec<Vec<String>>>);

impl Observer for Lookout {
    fn connected(&self, _: &Arc<Conn>, _: &Arc<Account>) {}
    fn disconnected(&self, _: &Arc<Conn>) {}
    fn refused(&self, _: &Arc<Conn>) {}
    fn servers_changed(&self) {
        self.1.lock().push(self.0.connected_servers().into_keys().collect());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_seen_as_they_come_and_go() {
    let a = start("A", Some(3), &[]);
    let lookout = Arc::new(Lookout(a.broker.clone(), Mutex::default()));
    a.broker.observe(lookout.clone());
    let b = start("B", Some(3), &[a.route]);
    formed(&[&a, &b], 4).await;
    let before = a.broker.connected_servers();
    b.stop();
    eventually("B leaves", || a.routes_to("B") == 0).await;
    eventually("both are seen", || lookout.1.lock().len() == 2).await;
    assert_eq!(*lookout.1.lock(), [vec!["NB".to_owned()], Vec::new()]);
    let again = start("B", Some(3), &[a.route]);
    formed(&[&a, &again], 4).await;
    let after = a.broker.connected_servers();
    assert!(before.keys().eq(after.keys()) && before != after, "{before:?} {after:?}");
    again.stop();
    a.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_seen_where_configured_addresses_lead() {
    let a = start("A", Some(3), &[]);
    let b = start("B", Some(3), &[a.route]);
    let nobody = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let leads = || b.broker.configured_routes().into_iter().map(|(_, leads)| leads).collect::<Vec<_>>();
    eventually("A is reached", || leads() == [Leads::To("NA".to_owned())]).await;
    let mut changes = b.broker.watch_servers();
    changes.mark_unchanged();
    b.broker.reload_cluster(settings(local("B", Some(3), b.route), &[b.route, nobody, a.route]));
    let expected = [Leads::Here, Leads::Nowhere, Leads::To("NA".to_owned())];
    eventually("B has reached itself", || leads() == expected).await;
    assert!(changes.has_changed().unwrap());
    a.stop();
    eventually("A is gone", || leads() == [Leads::Here, Leads::Nowhere, Leads::Nowhere]).await;
    b.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_tell_of_their_jetstream_whenever_it_changes() {
    let a = start("A", Some(3), &[]);
    let b = start("B", Some(3), &[a.route]);
    formed(&[&a, &b], 4).await;
    assert!(a.broker.routed_servers()[0].system_conn.is_some());
    let seen = || {
        let servers = a.broker.routed_servers();
        servers.into_iter().map(|s| (s.name, s.cluster, s.has_jetstream, s.domain)).collect::<Vec<_>>()
    };
    let expected = |has_jetstream, domain: &str| {
        vec![("B".to_owned(), "C".to_owned(), has_jetstream, domain.to_owned())]
    };
    assert_eq!(seen(), expected(false, ""));
    let mut changes = a.broker.watch_servers();
    changes.mark_unchanged();
    let mut with_jetstream = local("B", Some(3), b.route);
    with_jetstream.info.jetstream = true;
    with_jetstream.info.domain = "hub".to_owned();
    b.broker.reload_cluster(settings(with_jetstream, &[a.route]));
    tokio::time::timeout(LONG, changes.changed()).await.unwrap().unwrap();
    assert_eq!(seen(), expected(true, "hub"));
    assert!(!a.broker.routed_servers()[0].is_draining);
    b.broker.announce_lame_duck();
    eventually("B drains", || a.broker.routed_servers()[0].is_draining).await;
    a.stop();
    b.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_reach_who_is_interested_elsewhere() {
    let a = start("A", Some(3), &[]);
    let b = start("B", Some(3), &[a.route]);
    formed(&[&a, &b], 4).await;
    let (mut near, mut far) = (Client::connect(&a).await, Client::connect(&b).await);
    far.say("SUB orders.* 7\r\n").await;
    a.wants("orders.new", true).await;
    near.say("PUB orders.new re.ply 5\r\nhello\r\nHPUB orders.old 12 14\r\nNATS/1.0\r\n\r\nhi\r\n").await;
    assert_eq!(far.message().await, got("orders.new", "re.ply", "hello"));
    assert_eq!(far.message().await, got("orders.old", "", "NATS/1.0\r\n\r\nhi"));

    // A question there, an answer back.
    near.say("SUB _INBOX.1 1\r\n").await;
    b.wants("_INBOX.1", true).await;
    near.say("PUB orders.ask _INBOX.1 1\r\n?\r\n").await;
    let (_, reply, _) = far.message().await;
    far.say(&format!("PUB {reply} 1\r\n!\r\n")).await;
    assert_eq!(near.message().await, got("_INBOX.1", "", "!"));

    let interests = || a.broker.routes().iter().map(|route| route.interests).sum::<usize>();
    assert_eq!(interests(), 1);
    far.say("UNSUB 7\r\n").await;
    a.wants("orders.new", false).await;
    eventually("no interest is left", || interests() == 0).await;
    near.say("PUB orders.new _INBOX.1 1\r\nx\r\n").await;
    // Nobody listens any more, which whoever asks is told.
    let (subject, _, header) = near.message().await;
    assert_eq!(subject, "_INBOX.1");
    assert!(header.starts_with("NATS/1.0 503"), "{header}");
    a.stop();
    b.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn interest_from_before_is_told_and_gone_with_the_route() {
    let a = start("A", Some(3), &[]);
    let mut early = Client::connect(&a).await;
    early.say("SUB early 1\r\nSUB early.q workers 2\r\n").await;
    early.settle().await;
    let b = start("B", Some(3), &[a.route]);
    b.wants("early", true).await;
    b.wants("early.q", true).await;
    a.stop();
    b.wants("early", false).await;
    b.wants("early.q", false).await;
    b.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_group_shares_by_the_number_of_members() {
    const MESSAGES: usize = 3000;
    let a = start("A", Some(3), &[]);
    let b = start("B", Some(3), &[a.route]);
    formed(&[&a, &b], 4).await;
    let (mut near, mut far) = (Client::connect(&a).await, Client::connect(&b).await);
    let mut publisher = Client::connect(&a).await;
    near.say("SUB jobs workers 1\r\n").await;
    far.say("SUB jobs workers 1\r\nSUB jobs workers 2\r\nSUB mark.far 3\r\n").await;
    a.wants("mark.far", true).await;
    near.settle().await;
    let mut jobs = "PUB jobs 1\r\nj\r\n".repeat(MESSAGES);
    jobs.push_str("PUB mark.far 0\r\n\r\n");
    publisher.say(&jobs).await;
    publisher.settle().await;
    let here = near.all().await.len();
    let mut there = 0;
    while far.message().await.0 == "jobs" {
        there += 1;
    }
    assert_eq!(here + there, MESSAGES, "each job is done once");
    // One member of three.
    assert!((MESSAGES / 4..MESSAGES * 5 / 12).contains(&here), "{here} of {MESSAGES}");
    a.stop();
    b.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_to_each_server_once_and_not_further() {
    let a = start("A", Some(3), &[]);
    let b = start("B", Some(3), &[a.route]);
    let c = start("C", Some(3), &[a.route, b.route]);
    formed(&[&a, &b, &c], 4).await;
    let mut clients = Vec::new();
    for server in [&a, &b, &c] {
        let mut client = Client::connect(server).await;
        client.say("SUB all.> 1\r\nSUB all.* 2\r\nSUB all.one q 3\r\n").await;
        client.settle().await;
        clients.push(client);
    }
    for server in [&a, &b, &c] {
        server.wants("all.one", true).await;
    }
    let mut publisher = Client::connect(&a).await;
    // The subscriptions of the other two are known when their answers come back.
    for server in [&b, &c] {
        let mut probe = Client::connect(server).await;
        probe.say("SUB probe 1\r\n").await;
        a.wants("probe", true).await;
        probe.say("UNSUB 1\r\n").await;
        a.wants("probe", false).await;
    }
    publisher.say("PUB all.one 1\r\nx\r\n").await;
    publisher.settle().await;
    for client in &mut clients {
        for _ in 0..2 {
            assert_eq!(client.message().await, got("all.one", "", "x"));
        }
    }
    // The queue group has members on all three and is served once.
    publisher.say("PUB all.end 1\r\ne\r\n").await;
    let mut extra = 0;
    for client in &mut clients {
        while client.message().await.2 == "x" {
            extra += 1;
        }
    }
    assert_eq!(extra, 1);
    for server in [&a, &b, &c] {
        server.stop();
    }
}
