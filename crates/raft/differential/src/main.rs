//! Writes schedules and what the crate `raft` does with them, one schedule a line. `tests/raft/differential.rs` of
//! linnet-raft says what the steps are and does the same.

use raft::eraftpb::Message;
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};

/// Schedules, unless an argument says how many.
const SCHEDULES: u64 = 300;
const STEPS: usize = 40;

struct Server {
    node: RawNode<MemStorage>,
    store: MemStorage,
    applied: u64,
    values: Vec<u8>,
}

struct Group {
    servers: Vec<Server>,
    mail: Vec<Message>,
    /// One bit a server; those whose bits are alike hear each other.
    side: u32,
    next: u8,
}

fn node(at: usize, store: &MemStorage, applied: u64) -> RawNode<MemStorage> {
    let config = Config { id: at as u64 + 1, pre_vote: true, applied, ..Config::default() };
    RawNode::new(&config, store.clone(), &slog::Logger::root(slog::Discard, slog::o!())).expect("a node")
}

impl Group {
    fn new(size: usize) -> Self {
        let voters: Vec<u64> = (1..=size as u64).collect();
        let server = |at| {
            let store = MemStorage::new_with_conf_state((voters.clone(), vec![]));
            Server { node: node(at, &store, 0), store, applied: 0, values: Vec::new() }
        };
        Self { servers: (0..size).map(server).collect(), mail: Vec::new(), side: 0, next: b'a' }
    }

    fn hears(&self, a: usize, b: usize) -> bool {
        (self.side >> a) & 1 == (self.side >> b) & 1
    }

    /// How many a server hears, itself included.
    fn heard(&self, at: usize) -> usize {
        (0..self.servers.len()).filter(|other| self.hears(at, *other)).count()
    }

    fn has_quorum(&self, at: usize) -> bool {
        self.heard(at) > self.servers.len() / 2
    }

    fn leader(&self) -> Option<usize> {
        let leads = |s: &Server| s.node.raft.state == StateRole::Leader;
        (0..self.servers.len()).filter(|at| leads(&self.servers[*at])).max_by_key(|at| self.servers[*at].node.raft.term)
    }

    /// Everything a node wants is done; what it sends is on its way.
    fn work(&mut self, at: usize) {
        let Server { node, store, applied, values } = &mut self.servers[at];
        let mut apply = |entries: Vec<raft::eraftpb::Entry>| {
            for entry in entries {
                *applied = entry.index;
                values.extend(entry.data.first());
            }
        };
        while node.has_ready() {
            let mut ready = node.ready();
            self.mail.extend(ready.take_messages());
            apply(ready.take_committed_entries());
            store.wl().append(ready.entries()).expect("a log");
            if let Some(hard) = ready.hs() {
                store.wl().set_hardstate(hard.clone());
            }
            self.mail.extend(ready.take_persisted_messages());
            let mut light = node.advance(ready);
            if let Some(commit) = light.commit_index() {
                store.wl().mut_hard_state().commit = commit;
            }
            self.mail.extend(light.take_messages());
            apply(light.take_committed_entries());
            node.advance_apply();
        }
    }

    fn exchange(&mut self) {
        loop {
            for at in 0..self.servers.len() {
                self.work(at);
            }
            if self.mail.is_empty() {
                return;
            }
            for message in std::mem::take(&mut self.mail) {
                let (from, to) = (message.from as usize - 1, message.to as usize - 1);
                if self.hears(from, to) {
                    let _ = self.servers[to].node.step(message);
                }
            }
        }
    }

    fn rest(&mut self) {
        self.exchange();
        for _ in 0..2 {
            if let Some(leader) = self.leader() {
                self.servers[leader].node.ping();
            }
            self.exchange();
        }
    }

    fn restart(&mut self, at: usize) {
        self.work(at);
        let (store, applied) = (self.servers[at].store.clone(), self.servers[at].applied);
        self.servers[at].node = node(at, &store, applied);
    }

    fn propose(&mut self, at: usize) {
        let value = vec![self.next];
        self.next = if self.next == b'z' { b'a' } else { self.next + 1 };
        self.servers[at].node.propose(vec![], value).expect("a leader");
    }

    fn take(&mut self, step: &str) {
        let digit = |at: usize| (step.as_bytes()[at] - b'0') as usize;
        match step.as_bytes()[0] {
            b'c' => drop(self.servers[digit(1)].node.campaign()),
            b'p' => self.propose(digit(1)),
            b'l' | b'h' => {
                let at = digit(1);
                self.propose(at);
                self.work(at);
                for message in std::mem::take(&mut self.mail) {
                    let to = message.to as usize - 1;
                    if step.as_bytes()[0] == b'h' && to == digit(2) && self.hears(at, to) {
                        let _ = self.servers[to].node.step(message);
                        self.work(to);
                    }
                }
                self.mail.clear();
                self.restart(at);
            }
            b's' => {
                self.side = step[1..].parse().expect("a number");
                if let Some(leader) = self.leader().filter(|leader| !self.has_quorum(*leader)) {
                    self.restart(leader);
                }
            }
            _ => {
                let at = digit(1);
                // A leader that loses its majority for that moment leads no more.
                let size = self.servers.len();
                let is_left = |leader: &usize| self.hears(*leader, at) && self.heard(*leader) - 1 <= size / 2;
                if let Some(leader) = self.leader().filter(is_left) {
                    self.restart(leader);
                }
                self.restart(at);
            }
        }
        self.rest();
    }

    /// A step that means the same to everybody.
    fn choose(&self, random: &mut fastrand::Rng) -> String {
        let size = self.servers.len();
        let at = random.usize(..size);
        match (self.leader(), random.u8(..20)) {
            (_, 0..3) => format!("s{}", random.u32(..1 << size)),
            (_, 3..5) => "s0".into(),
            (_, 5) => format!("r{at}"),
            (None, _) if self.has_quorum(at) => format!("c{at}"),
            (Some(leader), 6..9) => format!("l{leader}"),
            (Some(leader), 9..13) if at != leader => format!("h{leader}{at}"),
            (Some(leader), _) => format!("p{leader}"),
            _ => "s0".into(),
        }
    }
}

fn main() {
    let schedules = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(SCHEDULES);
    for seed in 0..schedules {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut group = Group::new([3, 5, 4][(seed % 3) as usize]);
        print!("{}", group.servers.len());
        for _ in 0..STEPS {
            let step = group.choose(&mut random);
            group.take(&step);
            let leader = group.leader().map_or("-".into(), |leader| leader.to_string());
            let most = group.servers.iter().map(|s| s.values.len()).max().unwrap_or(0);
            print!(" {step}>{leader}/{most}");
        }
        let longest = group.servers.iter().map(|s| &s.values).max_by_key(|values| values.len());
        println!(" = {}", String::from_utf8_lossy(longest.map_or(&[], |values| values)));
    }
}
