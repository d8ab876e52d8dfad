//! Servers, and the connections between them as queues of lines.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use linnet_auth::Authenticator;
use linnet_env::{ManualClock, Rng as _, SeededRng};
use linnet_ids::{Mono, Wall};
use linnet_links::{ClusterName, Local, Mode, Origin, Role, Thresholds};
use linnet_wire::{GossipMode, ServerInfo};
use tokio::runtime::Handle;

use super::super::super::{Cluster, ClusterConfig, Route};
use super::super::{RouteSession, Stop};
use crate::account::{Account, AccountLimits, InternalSubscription};
use crate::broker::{Broker, ServerIdentity};
use crate::close::CloseReason;
use crate::config::Config;
use crate::conn::{Conn, ConnKind};
use crate::link::Link;
use crate::outbound::WritePolicy;
use crate::sink::{Delivery, Sink};

const ACCOUNTS: [&str; 5] = ["$G", "$SYS", "A", "B", "C"];
const SUBJECTS: [&str; 4] = ["s.0", "s.1", "s.*", "t.>"];
const QUEUES: [Option<&str>; 3] = [None, Some("q"), Some("r")];
/// Subscriptions per server and connections at a time.
const SUBSCRIPTIONS_MAX: usize = 40;
const CONNECTIONS_MAX: usize = 40;
/// Lines that arrive together.
const LINES_MAX: u64 = 8;
/// Times that everything arrives and a connection that is missing is made, until there is none.
const ROUNDS_MAX: usize = 1000;

/// What the world does wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// Now and then a line of interest does not arrive.
    Loses,
    /// Now and then a line of interest overtakes the one before it.
    Reorders,
    /// Interest stays when the route that told of it is gone.
    Keeps,
}

/// Interest as one server says it and others know it: account, subject, queue group, members.
type Known = (String, String, Option<String>, u32);

struct Nobody;

impl Sink for Nobody {
    fn deliver(&self, _: &Delivery<'_>) {}
}

struct Node {
    broker: Broker,
    cluster: Arc<Cluster>,
    /// Accounts that routes of a pool have connections of their own for.
    dedicated: Vec<String>,
    subs: Vec<(Known, InternalSubscription)>,
}

/// One side of a connection.
struct End {
    route: Arc<Route>,
    /// `None` once it has ended.
    session: Option<RouteSession>,
    /// Lines that are on their way to it.
    arriving: VecDeque<Vec<u8>>,
}

struct Wire {
    ends: [End; 2],
    /// Nothing arrives any more.
    is_cut: bool,
}

pub(super) struct World {
    rng: SeededRng,
    fault: Fault,
    link: Arc<Link>,
    clock: Arc<ManualClock>,
    nodes: Vec<Node>,
    wires: Vec<Wire>,
    /// Accounts that all servers give connections of their own in the end.
    dedicated: Vec<String>,
}

/// A socket that every connection has and none uses.
pub(super) async fn unused_link() -> Arc<Link> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    Arc::new(Link::new(tokio::net::TcpStream::connect(address).await.unwrap()))
}

/// What does not wait for anything.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

fn config(name: &str, pool_size: Option<usize>, dedicated: &[String]) -> ClusterConfig {
    let info = ServerInfo {
        server_id: format!("N{name}"),
        server_name: name.to_owned(),
        host: "127.0.0.1".to_owned(),
        headers: true,
        lnoc: true,
        lnocu: true,
        ln: true,
        ..ServerInfo::default()
    };
    ClusterConfig {
        local: Local {
            cluster: ClusterName { name: "C".to_owned(), is_dynamic: false },
            info,
            pool_size,
            accounts: dedicated.to_vec(),
            compression: Mode::Off,
            credentials: None,
            tls: false,
        },
        routes: Vec::new(),
        ping_interval: Duration::from_secs(30),
        ping_max: 2,
        handshake_timeout: Duration::from_secs(2),
        rtt_thresholds: Thresholds::default(),
        connect_retries: 0,
        connect_backoff: false,
        advertises_clients: false,
        tls: None,
        permissions: None,
        write_policy: WritePolicy { deadline: Duration::from_secs(10), is_strict: false },
    }
}

impl Node {
    fn new(name: &str, config: ClusterConfig, seed: u64, clock: Arc<ManualClock>, runtime: Handle) -> Self {
        let identity = ServerIdentity {
            id: config.local.info.server_id.clone(),
            xkey: String::new(),
            name: name.to_owned(),
            version: String::new(),
            git_commit: String::new(),
            go: String::new(),
        };
        let accounts = ACCOUNTS.map(|name| Account::new(name, name == "$SYS", AccountLimits::default()));
        let rng = Arc::new(SeededRng::new(seed));
        let open = Authenticator::open("$G");
        let broker = Broker::new(identity, Config::default(), open, accounts, clock, rng, runtime);
        broker.expect_cluster(None);
        let dedicated = config.local.accounts.clone();
        broker.join_cluster(config);
        let cluster = broker.shared.cluster.get().unwrap().clone();
        Self { broker, cluster, dedicated, subs: Vec::new() }
    }

    fn id(&self) -> &str {
        &self.broker.identity().id
    }

    /// Gives these accounts connections of their own, and no others.
    fn reload(&mut self, dedicated: &[String]) {
        let mut config = self.cluster.config().as_ref().clone();
        config.local.accounts = dedicated.to_vec();
        self.broker.reload_cluster(config);
        self.dedicated = dedicated.to_vec();
    }

    fn has_pool(&self) -> bool {
        self.cluster.config().local.pool_size.is_some()
    }

    /// What it says itself.
    fn truth(&self) -> Vec<Known> {
        let mut members = BTreeMap::new();
        for ((account, subject, queue, _), _) in &self.subs {
            *members.entry((account.clone(), subject.clone(), queue.clone())).or_insert(0) += 1;
        }
        let truth = members.into_iter().map(|((account, subject, queue), count)| {
            let weight = if queue.is_some() { count } else { 1 };
            (account, subject, queue, weight)
        });
        truth.collect()
    }

    /// What it has heard of another server, in order; twice what two connections have told.
    fn heard_of(&self, other: &str) -> Vec<Known> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut heard = Vec::new();
        for account in self.broker.accounts() {
            for sub in account.subscriptions() {
                let is_its =
                    sub.route().and_then(|route| route.bound()).is_some_and(|b| b.server_id == other);
                if is_its {
                    let weight = sub.weight.load(Ordering::Relaxed);
                    let queue = sub.queue.as_deref().map(text);
                    heard.push((account.name().to_owned(), text(&sub.subject), queue, weight));
                }
            }
        }
        heard.sort();
        heard
    }
}

impl End {
    fn new(on: &Node, role: Role, link: &Arc<Link>) -> Self {
        let shared = on.broker.shared.clone();
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let conn =
            Conn::new(ConnKind::Route, shared.registry.next_cid(), peer, link.clone(), Wall(0), Mono(0));
        conn.outbound.unlink();
        let route = Route::new(Arc::new(conn), None, false);
        let origin = if role == Role::Accepted { Origin::Accepted } else { Origin::Configured };
        if role == Role::Accepted {
            on.cluster.unfinished.fetch_add(1, Ordering::Relaxed);
        }
        let mut session =
            RouteSession::new(shared, on.cluster.clone(), route.clone(), link.clone(), role, origin, None);
        assert!(at_once(session.begin()).is_ok());
        Self { route, session: Some(session), arriving: VecDeque::new() }
    }

    /// Acts on lines that arrive. True if there was any.
    fn hear(&mut self, lines: usize, fault: Fault) -> bool {
        let bytes: Vec<u8> = self.arriving.drain(..lines.min(self.arriving.len())).flatten().collect();
        let Some(session) = self.session.as_mut().filter(|_| !bytes.is_empty()) else {
            return !bytes.is_empty();
        };
        session.buffer.extend(bytes);
        if let Err(stop) = session.act_on_buffer() {
            self.end(&stop, fault);
        }
        true
    }

    fn end(&mut self, stop: &Stop, fault: Fault) {
        if let Some(mut session) = self.session.take() {
            if fault == Fault::Keeps {
                session.remote = Default::default();
            }
            session.end(stop);
        }
    }
}

impl World {
    pub(super) fn new(seed: u64, fault: Fault, link: Arc<Link>, runtime: Handle) -> Self {
        let rng = SeededRng::new(seed);
        let clock = Arc::new(ManualClock::at(Wall(0)));
        let mut dedicated = vec!["$SYS".to_owned()];
        dedicated.extend((rng.below(2) == 0).then(|| "B".to_owned()));
        let nodes = (0..3 + rng.below(3)).map(|n| {
            let pool_size = [None, Some(1), Some(2), Some(3), Some(3)][pick(&rng, 5)];
            let name = format!("s{n}");
            let config = config(&name, pool_size, &dedicated);
            Node::new(&name, config, rng.next_u64(), clock.clone(), runtime.clone())
        });
        let nodes = nodes.collect();
        // Half of the clusters are reloaded, one server after the other.
        if rng.below(2) == 0 {
            dedicated = vec!["$SYS".to_owned()];
            dedicated.extend(["A", "B"].iter().filter(|_| rng.below(2) == 0).map(|name| (*name).to_owned()));
        }
        Self { rng, fault, link, clock, nodes, wires: Vec::new(), dedicated }
    }

    fn pick(&self, below: usize) -> usize {
        pick(&self.rng, below)
    }

    /// One of the things that can happen.
    pub(super) fn step(&mut self) {
        self.clock.advance(Duration::from_millis(1));
        match self.pick(100) {
            0..20 => self.subscribe(),
            20..35 => self.unsubscribe(),
            35..45 => self.dial_somebody(),
            45..47 => self.cut(),
            47 => {
                let which = self.pick(self.nodes.len());
                self.reload(which);
            }
            _ => self.deliver_some(),
        }
        self.wires.retain(|wire| wire.ends.iter().any(|end| end.session.is_some()));
    }

    fn subscribe(&mut self) {
        let (at, account) = (self.pick(self.nodes.len()), ACCOUNTS[self.pick(ACCOUNTS.len())]);
        let (subject, queue) = (SUBJECTS[self.pick(SUBJECTS.len())], QUEUES[self.pick(QUEUES.len())]);
        let node = &mut self.nodes[at];
        if node.subs.len() < SUBSCRIPTIONS_MAX {
            let of = node.broker.account(account).unwrap();
            let sub = of.subscribe(subject.as_bytes(), queue.map(str::as_bytes), Arc::new(Nobody));
            let known = (account.to_owned(), subject.to_owned(), queue.map(str::to_owned), 1);
            node.subs.push((known, sub));
        }
    }

    fn unsubscribe(&mut self) {
        let at = self.pick(self.nodes.len());
        let count = self.nodes[at].subs.len();
        if count > 0 {
            let which = self.pick(count);
            self.nodes[at].subs.swap_remove(which);
        }
    }

    fn dial_somebody(&mut self) {
        let (from, to) = (self.pick(self.nodes.len()), self.pick(self.nodes.len()));
        let wanted = self.wanted(from, to);
        // Servers that dial each other at the same time find places taken; so do those who do not look.
        let is_hasty = self.pick(4) == 0;
        if from != to && self.wires.len() < CONNECTIONS_MAX {
            let account = wanted[self.pick(wanted.len())].clone();
            if is_hasty || self.lacks(from, to, account.as_deref()) {
                self.dial(from, to, account);
            }
        }
    }

    /// What the connections between two servers are for: an account or, for `None`, a place in the pool.
    fn wanted(&self, from: usize, to: usize) -> Vec<Option<String>> {
        let have_pool = self.nodes[from].has_pool() && self.nodes[to].has_pool();
        let dedicated = self.nodes[from].dedicated.iter().filter(|_| have_pool).cloned().map(Some);
        dedicated.chain([None]).collect()
    }

    fn lacks(&self, from: usize, to: usize, account: Option<&str>) -> bool {
        self.nodes[from].cluster.peers.lock().lacks(self.nodes[to].id(), account)
    }

    fn dial(&mut self, from: usize, to: usize, account: Option<String>) {
        let role = Role::Dialled { account, credentials: None, gossip: GossipMode::Default };
        let end = |at: usize, role| End::new(&self.nodes[at], role, &self.link);
        let ends = [end(from, role), end(to, Role::Accepted)];
        self.wires.push(Wire { ends, is_cut: false });
    }

    /// What is on its way is lost; both sides notice that the connection is gone when it is their turn.
    fn cut(&mut self) {
        if !self.wires.is_empty() {
            let which = self.pick(self.wires.len());
            let wire = &mut self.wires[which];
            wire.is_cut = true;
            wire.ends.iter_mut().for_each(|end| end.arriving.clear());
        }
    }

    fn reload(&mut self, which: usize) {
        let node = &mut self.nodes[which];
        if node.dedicated != self.dedicated {
            node.reload(&self.dedicated);
        }
    }

    fn deliver_some(&mut self) {
        if !self.wires.is_empty() {
            let (wire, side) = (self.pick(self.wires.len()), self.pick(2));
            let lines = 1 + self.pick(LINES_MAX as usize);
            self.deliver(wire, side, lines);
        }
    }

    /// Up to so many lines, or the end of the connection, reach one side. True if anything does.
    fn deliver(&mut self, wire: usize, side: usize, lines: usize) -> bool {
        self.send(wire, 1 - side);
        let fault = self.fault;
        let Wire { ends, is_cut } = &mut self.wires[wire];
        if let Some(reason) = ends[side].route.conn.close_reason()
            && ends[side].session.is_some()
        {
            ends[side].end(&Stop::silent(reason), fault);
            return true;
        }
        if ends[side].hear(lines, fault) {
            return true;
        }
        let is_over = *is_cut || ends[1 - side].session.is_none();
        if is_over && ends[side].session.is_some() {
            ends[side].end(&Stop::silent(CloseReason::ClientClosed), fault);
            return true;
        }
        false
    }

    /// What one side has queued is on its way.
    fn send(&mut self, wire: usize, from: usize) {
        let bytes = self.wires[wire].ends[from].route.conn.outbound.take_queued();
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            let is_hit = line.starts_with(b"RS") && self.fault != Fault::None && self.pick(10) == 0;
            let Wire { ends, is_cut } = &mut self.wires[wire];
            let arriving = &mut ends[1 - from].arriving;
            let before = arriving.back().is_some_and(|before| before.starts_with(b"RS"));
            match self.fault {
                _ if *is_cut => {}
                Fault::Loses if is_hit => {}
                Fault::Reorders if is_hit && before => arriving.insert(arriving.len() - 1, line.to_vec()),
                _ => arriving.push_back(line.to_vec()),
            }
        }
    }

    /// Everything arrives, and what is missing is dialled, until nothing moves any more.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        (0..self.nodes.len()).for_each(|which| self.reload(which));
        self.come_to_rest()
    }

    /// One server alone gives one more account connections of its own, while everybody goes on.
    pub(super) fn move_an_account(&mut self) -> Result<(), String> {
        let which = self.pick(self.nodes.len());
        let mut dedicated = self.dedicated.clone();
        dedicated.push("C".to_owned());
        self.nodes[which].reload(&dedicated);
        for _ in 0..20 {
            match self.pick(4) {
                0 => self.subscribe(),
                1 => self.unsubscribe(),
                _ => self.deliver_some(),
            }
        }
        self.come_to_rest()?;
        self.check()?;
        // Who was asked remembers it when connections come anew.
        self.wires.iter_mut().for_each(|wire| wire.is_cut = true);
        self.come_to_rest()
    }

    fn come_to_rest(&mut self) -> Result<(), String> {
        for _ in 0..ROUNDS_MAX {
            let mut moves = false;
            for wire in 0..self.wires.len() {
                moves |= self.deliver(wire, 0, usize::MAX);
                moves |= self.deliver(wire, 1, usize::MAX);
            }
            self.wires.retain(|wire| wire.ends.iter().any(|end| end.session.is_some()));
            if moves {
                continue;
            }
            let Some((from, to, account)) = self.missing() else { return Ok(()) };
            self.dial(from, to, account);
        }
        Err("the servers do not come to rest".to_owned())
    }

    /// A connection that is not there.
    fn missing(&self) -> Option<(usize, usize, Option<String>)> {
        let pairs = (0..self.nodes.len()).flat_map(|from| (0..self.nodes.len()).map(move |to| (from, to)));
        let wanted = pairs
            .filter(|(from, to)| from != to)
            .flat_map(|(from, to)| self.wanted(from, to).into_iter().map(move |account| (from, to, account)));
        wanted.into_iter().find(|(from, to, account)| self.lacks(*from, *to, account.as_deref()))
    }

    /// Everybody knows the interest of everybody else.
    pub(super) fn check(&self) -> Result<(), String> {
        for node in &self.nodes {
            for other in self.nodes.iter().filter(|other| other.id() != node.id()) {
                let (heard, truth) = (node.heard_of(other.id()), other.truth());
                if heard != truth {
                    return Err(format!(
                        "{} knows of {}: {heard:?}\nbut it is {truth:?}",
                        node.id(),
                        other.id()
                    ));
                }
            }
        }
        Ok(())
    }
}

fn pick(rng: &SeededRng, below: usize) -> usize {
    usize::try_from(rng.below(below as u64)).unwrap()
}
