//! Which servers of the domain there are, by the routes to them.

use std::collections::BTreeMap;
use std::time::Duration;

use linnet_broker::RoutedServer;
use linnet_ids::{Mono, PeerId};
use linnet_raft::MEMBERS_MAX;
use linnet_replication::raft::{History, Liveness};

/// A server that has been silent for so long counts as offline.
pub(crate) const OFFLINE_AFTER: Duration = Duration::from_secs(10);
/// A server that has said that its disk takes nothing says so again before this, for as long as it is so.
const TROUBLE_LASTS: Duration = Duration::from_secs(5);

/// A server of the domain, for whoever watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerView {
    pub(crate) id: PeerId,
    pub(crate) name: String,
    /// Id of its newest start.
    pub(crate) server_id: String,
    /// Name of its cluster.
    pub(crate) cluster: String,
    /// There is a connection to it.
    pub(crate) is_connected: bool,
    /// It can be heard and hears this server.
    pub(crate) is_reachable: bool,
    /// How long it has been silent; `None` if it was never heard.
    pub(crate) silence: Option<Duration>,
    /// It said that it stops or drains or that its disk takes nothing, or has been silent for [`OFFLINE_AFTER`].
    pub(crate) is_offline: bool,
    /// The cluster that it said it belongs to.
    pub(crate) history: Option<History>,
}

/// A server of the domain that belongs to another cluster's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stranger {
    pub(crate) id: PeerId,
    pub(crate) name: String,
    pub(crate) history: History,
}

/// True if two servers were founded apart. One that knows of no cluster yet may come to any.
fn are_strangers(one: Option<History>, other: Option<History>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one.cluster != other.cluster)
}

#[derive(Debug)]
struct Entry {
    name: String,
    server_id: String,
    cluster: String,
    /// The connection that carries what is said; number by which a new one is told from the one before.
    conn: Option<u64>,
    is_draining: bool,
    /// Number of the process that said that it stops.
    stopped: Option<u64>,
    /// Until when its disk takes nothing, as far as it said.
    trouble_until: Option<Mono>,
    /// The cluster that it said it belongs to.
    history: Option<History>,
    /// When it was seen first.
    met: Mono,
}

/// The servers that there are or were connections to.
#[derive(Debug)]
pub(super) struct Directory {
    me: PeerId,
    domain: String,
    entries: BTreeMap<PeerId, Entry>,
}

/// What a look around found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// There is a connection to these, and was none or another one.
    pub(super) came: Vec<PeerId>,
    /// The connection that there was to these is gone.
    pub(super) lost: Vec<PeerId>,
}

impl Directory {
    pub(super) fn new(me: PeerId, domain: &str) -> Self {
        Self { me, domain: domain.to_owned(), entries: BTreeMap::new() }
    }

    /// There are routes to these servers now.
    pub(super) fn update(&mut self, now: Mono, servers: Vec<RoutedServer>) -> Found {
        let mut found = Found::default();
        let mut connected: BTreeMap<PeerId, RoutedServer> = BTreeMap::new();
        for server in servers.into_iter().filter(|s| s.has_jetstream && s.domain == self.domain) {
            connected.insert(PeerId::of_name(&server.name), server);
        }
        connected.remove(&self.me);
        for (peer, entry) in &mut self.entries {
            let conn = connected.get(peer).and_then(|server| server.system_conn);
            if entry.conn != conn && entry.conn.take().is_some() {
                found.lost.push(*peer);
            }
        }
        for (peer, server) in connected {
            let Some(conn) = server.system_conn else { continue };
            if !self.entries.contains_key(&peer) && !self.make_room() {
                continue;
            }
            let entry = self.entries.entry(peer).or_insert_with(|| Entry {
                name: server.name.clone(),
                server_id: String::new(),
                cluster: String::new(),
                conn: None,
                is_draining: false,
                stopped: None,
                trouble_until: None,
                history: None,
                met: now,
            });
            if entry.conn.replace(conn) != Some(conn) {
                found.came.push(peer);
            }
            entry.server_id = server.id;
            entry.cluster = server.cluster;
            entry.is_draining = server.is_draining;
        }
        found
    }

    /// Forgets a server that is not connected if there are as many as a group can have. False if all are.
    fn make_room(&mut self) -> bool {
        if self.entries.len() < MEMBERS_MAX {
            return true;
        }
        let gone = self.entries.iter().find(|(_, entry)| entry.conn.is_none()).map(|(peer, _)| *peer);
        gone.is_some_and(|peer| self.entries.remove(&peer).is_some())
    }

    /// A process of a server said that it stops.
    pub(super) fn stopped(&mut self, peer: PeerId, boot: u64) {
        if let Some(entry) = self.entries.get_mut(&peer) {
            entry.stopped = entry.stopped.max(Some(boot));
        }
    }

    /// A server says whether its disk takes nothing.
    pub(super) fn note_trouble(&mut self, now: Mono, peer: PeerId, has_trouble: bool) {
        if let Some(entry) = self.entries.get_mut(&peer) {
            entry.trouble_until = has_trouble.then(|| now + TROUBLE_LASTS);
        }
    }

    /// A server says which cluster it belongs to. True if that is another one than `ours`.
    pub(super) fn note_history(
        &mut self,
        peer: PeerId,
        history: Option<History>,
        ours: Option<History>,
    ) -> bool {
        if let Some(entry) = self.entries.get_mut(&peer) {
            entry.history = history;
        }
        are_strangers(history, ours)
    }

    /// True if a server said that it belongs to another cluster than `ours`.
    pub(super) fn is_stranger(&self, peer: PeerId, ours: Option<History>) -> bool {
        self.entries.get(&peer).is_some_and(|entry| are_strangers(entry.history, ours))
    }

    /// Those that there are connections to and that belong to another cluster than `ours`, by name.
    pub(super) fn strangers(&self, ours: Option<History>) -> Vec<Stranger> {
        let connected = self.entries.iter().filter(|(_, entry)| entry.conn.is_some());
        let strangers = connected.filter_map(|(id, entry)| {
            let history = entry.history.filter(|history| are_strangers(Some(*history), ours))?;
            Some(Stranger { id: *id, name: entry.name.clone(), history })
        });
        let mut strangers: Vec<Stranger> = strangers.collect();
        strangers.sort_by(|a, b| a.name.cmp(&b.name));
        strangers
    }

    pub(super) fn name_of(&self, peer: PeerId) -> Option<String> {
        self.entries.get(&peer).map(|entry| entry.name.clone())
    }

    /// The servers that there are connections to.
    pub(super) fn connected(&self) -> impl Iterator<Item = PeerId> {
        self.entries.iter().filter(|(_, entry)| entry.conn.is_some()).map(|(peer, _)| *peer)
    }

    /// All servers that do not belong to another cluster than `ours`, by name.
    pub(super) fn views(&self, now: Mono, liveness: &Liveness, ours: Option<History>) -> Vec<PeerView> {
        let view = |(id, entry): (&PeerId, &Entry)| {
            let silence = liveness.silence(now, *id);
            let has_stopped = entry.stopped.is_some_and(|boot| liveness.boot_of(*id) <= boot);
            let is_silent = silence.unwrap_or_else(|| now.since(entry.met)) >= OFFLINE_AFTER;
            let has_trouble = entry.trouble_until.is_some_and(|until| now < until);
            PeerView {
                id: *id,
                name: entry.name.clone(),
                server_id: entry.server_id.clone(),
                cluster: entry.cluster.clone(),
                is_connected: entry.conn.is_some(),
                is_reachable: liveness.hears(*id),
                silence,
                is_offline: has_stopped || entry.is_draining || is_silent || has_trouble,
                history: entry.history,
            }
        };
        let own = self.entries.iter().filter(|(_, entry)| !are_strangers(entry.history, ours));
        let mut views: Vec<PeerView> = own.map(view).collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(1) + Duration::from_secs(seconds)
    }

    fn server(name: &str, conn: u64) -> RoutedServer {
        RoutedServer {
            id: format!("N{name}{conn}"),
            name: name.to_owned(),
            cluster: "C".to_owned(),
            has_jetstream: true,
            domain: "hub".to_owned(),
            is_draining: false,
            system_conn: Some(conn),
        }
    }

    fn peer(name: &str) -> PeerId {
        PeerId::of_name(name)
    }

    fn directory() -> Directory {
        Directory::new(peer("me"), "hub")
    }

    #[test]
    fn only_jetstream_of_the_domain_is_met() {
        let mut directory = directory();
        let servers = vec![
            server("a", 1),
            server("me", 2),
            RoutedServer { has_jetstream: false, ..server("core", 3) },
            RoutedServer { domain: "leaf".to_owned(), ..server("b", 4) },
            RoutedServer { system_conn: None, ..server("c", 5) },
        ];
        assert_eq!(directory.update(at(0), servers), Found { came: vec![peer("a")], lost: vec![] });
        assert_eq!(directory.connected().collect::<Vec<_>>(), [peer("a")]);
        assert_eq!(directory.name_of(peer("a")).as_deref(), Some("a"));
        assert_eq!(directory.name_of(peer("core")), None);
    }

    #[test]
    fn another_connection_means_that_one_was_lost() {
        let mut directory = directory();
        let both = |came, lost| Found { came, lost };
        directory.update(at(0), vec![server("a", 1)]);
        assert_eq!(directory.update(at(1), vec![server("a", 1)]), Found::default());
        assert_eq!(directory.update(at(2), vec![server("a", 2)]), both(vec![peer("a")], vec![peer("a")]));
        assert_eq!(directory.update(at(3), vec![]), both(vec![], vec![peer("a")]));
        assert_eq!(directory.connected().count(), 0);
        assert_eq!(directory.name_of(peer("a")).as_deref(), Some("a"), "its name is remembered");
        assert_eq!(directory.update(at(4), vec![server("a", 3)]), both(vec![peer("a")], vec![]));
        let off = RoutedServer { has_jetstream: false, ..server("a", 3) };
        assert_eq!(directory.update(at(5), vec![off]), both(vec![], vec![peer("a")]));
    }

    #[test]
    fn who_is_silent_drains_or_says_that_it_stops_is_offline() {
        let mut directory = directory();
        let mut liveness = Liveness::new(1, at(0));
        directory.update(at(0), vec![server("a", 1)]);
        let offline = |directory: &Directory, liveness: &Liveness, seconds| {
            let views = directory.views(at(seconds), liveness, None);
            (views[0].is_offline, views[0].silence.map(|s| s.as_secs()))
        };
        assert_eq!(offline(&directory, &liveness, 9), (false, None));
        assert_eq!(offline(&directory, &liveness, 10), (true, None), "it never said anything");
        liveness.on_frame(at(20), peer("a"), 7);
        assert_eq!(offline(&directory, &liveness, 29), (false, Some(9)));
        assert_eq!(offline(&directory, &liveness, 30), (true, Some(10)));
        liveness.on_frame(at(30), peer("a"), 7);
        directory.stopped(peer("a"), 7);
        assert_eq!(offline(&directory, &liveness, 30), (true, Some(0)));
        directory.update(at(31), vec![]);
        assert!(offline(&directory, &liveness, 31).0);
        liveness.on_frame(at(32), peer("a"), 8);
        assert!(!offline(&directory, &liveness, 32).0, "it is another process");
        directory.update(at(33), vec![RoutedServer { is_draining: true, ..server("a", 2) }]);
        assert!(offline(&directory, &liveness, 33).0);
        directory.update(at(34), vec![server("a", 3)]);
        assert!(!offline(&directory, &liveness, 34).0, "its next start does not drain");
    }

    #[test]
    fn a_server_whose_disk_takes_nothing_is_offline_until_it_says_otherwise_or_nothing() {
        let mut directory = directory();
        directory.update(at(0), vec![server("a", 1)]);
        let mut liveness = Liveness::new(1, at(0));
        liveness.on_frame(at(8), peer("a"), 1);
        let is_offline =
            |directory: &Directory, seconds| directory.views(at(seconds), &liveness, None)[0].is_offline;
        assert!(!is_offline(&directory, 8));
        directory.note_trouble(at(8), peer("a"), true);
        assert!(is_offline(&directory, 8) && is_offline(&directory, 12) && !is_offline(&directory, 13));
        directory.note_trouble(at(8), peer("a"), false);
        assert!(!is_offline(&directory, 8));
    }

    #[test]
    fn there_are_never_more_than_a_group_can_have() {
        let mut directory = directory();
        let many = |from: usize| (from..from + MEMBERS_MAX).map(|n| server(&n.to_string(), 1)).collect();
        assert_eq!(directory.update(at(0), many(0)).came.len(), MEMBERS_MAX);
        let mut more: Vec<RoutedServer> = many(0);
        more.push(server("one more", 1));
        assert_eq!(directory.update(at(1), more), Found::default());
        assert_eq!(directory.update(at(2), many(5)).came.len(), 5, "those that are gone make room");
        assert_eq!(directory.views(at(2), &Liveness::new(1, at(0)), None).len(), MEMBERS_MAX);
    }
}
