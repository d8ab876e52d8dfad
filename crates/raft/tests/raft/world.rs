//! A group of production nodes over fake disks, a fake network and a fake clock.

use std::collections::{BTreeMap, BTreeSet};

use linnet_ids::{GroupId, LogIndex, Mono, PeerId, Term};
use linnet_raft::{
    Effect, Incarnation, Member, Membership, Message, Node, Opening, Replica, Standing, WriteNo,
};

use crate::disk::Disk;
use crate::ghost::Ghost;
use crate::mutation::Mutation;

pub(crate) const GROUP: GroupId = GroupId { epoch: 0, meta_index: 7, random: 99 };

pub(crate) fn peer(n: usize) -> PeerId {
    PeerId::of_name(&format!("n{n}"))
}

/// A server with a replica.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) peer: PeerId,
    pub(crate) node: Option<Node>,
    pub(crate) disk: Disk,
    /// As what it begins while its disk has nothing of the group and never had.
    pub(crate) founding: Option<Opening>,
    /// A disk that was taken out and may come back.
    pub(crate) old_disk: Option<Disk>,
    /// Hash of everything applied, and up to where.
    pub(crate) state: u64,
    pub(crate) applied: LogIndex,
    pub(crate) standing: Standing,
    pub(crate) timer: Option<Mono>,
    /// The newest write that the node takes for durable.
    pub(crate) reported: WriteNo,
    /// Commit and applied as last shown.
    pub(crate) seen: (LogIndex, LogIndex),
}

/// What happened, to count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    Crash,
    Wipe,
    Remount,
    Partition,
    Deafness,
    Drop,
    Duplicate,
    LeaderElected,
    SnapshotInstalled,
    MemberAdded,
    MemberPromoted,
    MemberRemoved,
    Transfer,
    ReadConfirmed,
    Acknowledged,
    FromDisk,
    Readmitted,
}

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) random: fastrand::Rng,
    pub(crate) now: Mono,
    pub(crate) servers: Vec<Server>,
    pub(crate) network: Vec<Message>,
    /// Of equal messages on their way there is one.
    pub(crate) is_mail_a_set: bool,
    /// Pairs that do not hear each other.
    pub(crate) cut: BTreeSet<(usize, usize)>,
    /// Servers that nothing reaches, though others take them for reachable.
    pub(crate) deaf: BTreeSet<usize>,
    pub(crate) founders: Membership,
    pub(crate) ghost: Ghost,
    pub(crate) proposed: BTreeMap<(PeerId, LogIndex), (Term, bytes::Bytes)>,
    pub(crate) reads: BTreeMap<(PeerId, u64), LogIndex>,
    pub(crate) next_read: u64,
    pub(crate) next_value: u64,
    pub(crate) events: BTreeMap<Event, u64>,
    /// What happened, if somebody wants to know.
    pub(crate) trace: Option<Vec<String>>,
    /// Lives of servers, in the order in which they were seen.
    pub(crate) lives: BTreeMap<PeerId, Vec<Incarnation>>,
    pub(crate) mutation: Option<Mutation>,
    /// Promises are held against disks; else only what comes of them is looked at.
    pub(crate) sees_disks: bool,
    /// An operator let a minority go on: there may be two histories, and nothing is held against what all disks hold.
    pub(crate) is_rescued: bool,
}

/// What a world found wrong: thrown, so that whoever looks for it needs not ask after every step.
pub(crate) struct Violation(pub(crate) String);

impl World {
    /// `voters` of `servers` found the group.
    pub(crate) fn new(seed: u64, servers: usize, voters: usize) -> Self {
        Self::with_mutation(seed, servers, voters, None)
    }

    pub(crate) fn with_mutation(
        seed: u64,
        servers: usize,
        voters: usize,
        mutation: Option<Mutation>,
    ) -> Self {
        let founders: Vec<Replica> =
            (0..voters).map(|n| Replica { peer: peer(n), incarnation: n as u64 + 1 }).collect();
        let membership = Membership::of_voters(founders.clone());
        let mut world = Self {
            seed,
            random: fastrand::Rng::with_seed(seed),
            now: Mono(1),
            servers: (0..servers).map(Server::new).collect(),
            network: Vec::new(),
            is_mail_a_set: false,
            cut: BTreeSet::new(),
            deaf: BTreeSet::new(),
            founders: membership.clone(),
            ghost: Ghost::default(),
            proposed: BTreeMap::new(),
            reads: BTreeMap::new(),
            next_read: 0,
            next_value: 0,
            events: BTreeMap::new(),
            trace: std::env::var_os("LINNET_TRACE").map(|_| Vec::new()),
            lives: BTreeMap::new(),
            mutation,
            sees_disks: true,
            is_rescued: false,
        };
        for (at, me) in founders.into_iter().enumerate() {
            let seed = world.random.u64(..);
            let opening = Opening::founding(GROUP, me, membership.clone(), seed);
            world.ghost.may_count(me);
            world.servers[at].founding = Some(opening.clone());
            world.open(at, opening);
        }
        world
    }

    pub(crate) fn count(&mut self, event: Event) {
        *self.events.entry(event).or_default() += 1;
    }

    pub(crate) fn note(&mut self, text: impl FnOnce(&Self) -> String) {
        if self.trace.is_some() {
            let text = text(self);
            self.trace.get_or_insert_default().push(text);
        }
    }

    pub(crate) fn fail(&self, text: &str) -> ! {
        if self.trace.is_some() {
            for server in &self.servers {
                if let Some(node) = &server.node {
                    eprintln!("{:?} {} {:?}", server.peer, node.incarnation(), node.status());
                    for other in &self.servers {
                        eprintln!("  {:?} {:?}", other.peer, node.progress(other.peer));
                    }
                }
            }
        }
        for line in self.trace.iter().flatten() {
            eprintln!("{line}");
        }
        std::panic::resume_unwind(Box::new(Violation(format!("seed {}: {text}", self.seed))));
    }

    pub(crate) fn require(&self, outcome: Result<(), String>) {
        if let Err(text) = outcome
            && !self.is_rescued
        {
            self.fail(&text);
        }
    }

    pub(crate) fn open(&mut self, at: usize, opening: Opening) {
        let mut out = Vec::new();
        let (now, base) = (self.now, opening.base.index);
        let mut node = Node::open(opening, now, &mut out);
        for other in 0..self.servers.len() {
            if other != at && self.servers[other].node.is_some() && self.hears(at, other) {
                node.set_reachable(now, peer(other), true, &mut out);
            }
        }
        let server = &mut self.servers[at];
        server.node = Some(node);
        (server.state, server.applied, server.seen) = (server.disk.durable.state, base, (0, 0));
        (server.standing, server.reported) = (Standing::Leaderless, 0);
        if server.node.as_ref().is_some_and(|n| !n.status().is_amnesiac) {
            let outcome = self.check_counts(at, self.life(at));
            self.require(outcome);
        }
        self.know_life(self.life(at));
        self.carry_out(at, out);
        for other in 0..self.servers.len() {
            if other != at && self.hears(at, other) {
                self.with(other, |node, now, out| {
                    node.set_reachable(now, peer(at), true, out);
                    node.on_restarted(now, peer(at), out);
                });
            }
        }
    }

    pub(crate) fn hears(&self, a: usize, b: usize) -> bool {
        !self.cut.contains(&(a.min(b), a.max(b)))
    }

    /// Lets a node act, then does what it wants.
    pub(crate) fn with<R>(
        &mut self,
        at: usize,
        act: impl FnOnce(&mut Node, Mono, &mut Vec<Effect>) -> R,
    ) -> Option<R> {
        let mut out = Vec::new();
        let now = self.now;
        let node = self.servers[at].node.as_mut()?;
        let result = act(node, now, &mut out);
        self.carry_out(at, out);
        Some(result)
    }

    pub(crate) fn node(&self, at: usize) -> Option<&Node> {
        self.servers[at].node.as_ref()
    }

    pub(crate) fn at(&self, peer: PeerId) -> Option<usize> {
        self.servers.iter().position(|s| s.peer == peer)
    }

    /// Who is up, and leads.
    pub(crate) fn leader(&self) -> Option<usize> {
        self.servers
            .iter()
            .enumerate()
            .filter(|(_, s)| s.node.as_ref().is_some_and(Node::is_leading))
            .max_by_key(|(_, s)| s.node.as_ref().map(|n| n.status().term))
            .map(|(at, _)| at)
    }

    /// The newest membership that any disk holds.
    pub(crate) fn membership(&self) -> Membership {
        let of = |server: &Server| {
            let image = &server.disk.visible;
            let last = image.last();
            image.hard.as_ref().map(|hard| ((last.term, last.index), hard.membership().clone()))
        };
        self.servers.iter().filter_map(of).max_by_key(|(last, _)| *last).map(|(_, m)| m).unwrap_or_default()
    }

    /// Every membership that some disk holds: any of them may be the one that counts.
    pub(crate) fn memberships(&self) -> Vec<Membership> {
        let hards = self.servers.iter().filter_map(|s| s.disk.visible.hard.as_ref());
        let mut found: Vec<Membership> = hards.map(|hard| hard.membership().clone()).collect();
        found.dedup();
        found
    }
}

impl Server {
    pub(crate) fn new(at: usize) -> Self {
        Self {
            peer: peer(at),
            node: None,
            disk: Disk::new(GROUP),
            founding: None,
            old_disk: None,
            state: 0,
            applied: 0,
            standing: Standing::Leaderless,
            timer: None,
            reported: 0,
            seen: (0, 0),
        }
    }

    /// It counts as the member it is in its group.
    pub(crate) fn remembers(&self, member: Member) -> bool {
        match (&self.node, &self.disk.durable.hard) {
            (Some(node), _) => !node.status().is_amnesiac && node.incarnation() == member.incarnation,
            (None, Some(hard)) => !hard.is_amnesiac && hard.incarnation == member.incarnation,
            (None, None) => false,
        }
    }
}
