use std::collections::{BTreeMap, BTreeSet};

use linnet_wire::{GossipMode, ServerInfo};

use crate::cluster_name::ClusterName;
use crate::compression::Mode;
use crate::handshake::Established;
use crate::pool::{POOL_SIZE_MAX, pool_index};

/// A connection, as the caller numbers them.
pub type ConnId = u64;

/// This server, as routes see it.
#[derive(Clone, Debug)]
pub struct Local {
    /// Name of the cluster.
    pub cluster: ClusterName,
    /// What every INFO on a route says, without what differs between connections.
    pub info: ServerInfo,
    /// Connections per pair of servers; `None` for one connection without a pool.
    pub pool_size: Option<usize>,
    /// Accounts with connections of their own, the system account included.
    pub accounts: Vec<String>,
    /// How routes are compressed.
    pub compression: Mode,
    /// User and password that others must show.
    pub credentials: Option<(String, String)>,
    /// Routes use TLS.
    pub tls: bool,
}

/// What a connection between two servers carries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// Every account: one of the two has no pool.
    Only,
    /// The accounts of this place in the pool.
    Pool(usize),
    /// One account.
    Account(String),
}

/// Whether a connection takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is the first one of a server that was not known.
    First,
    /// It joins others of its server.
    Another,
    /// Its place is taken: it must be closed.
    Duplicate,
}

#[derive(Debug)]
struct Peer {
    info: ServerInfo,
    /// The connection that it came by; it need not be there any more.
    first: ConnId,
    slots: BTreeMap<Slot, ConnId>,
    /// Accounts that it wants connections of their own for: their interest is not told by the pool any more.
    moved: BTreeSet<String>,
}

/// The other servers of the cluster and the connections to them.
#[derive(Debug)]
pub struct Peers {
    local: Local,
    peers: BTreeMap<String, Peer>,
    /// Accounts that others have asked for: they may have connections of their own, whatever the settings say.
    asked_for: BTreeSet<String>,
}

impl Peers {
    /// Nobody but this server.
    pub fn new(local: Local) -> Self {
        Self { local, peers: BTreeMap::new(), asked_for: BTreeSet::new() }
    }

    /// This server.
    pub fn local(&self) -> &Local {
        &self.local
    }

    /// Other settings of this server; what is connected stays. A server that drains goes on doing so.
    pub fn set_local(&mut self, mut local: Local) {
        if self.local.info.ldm {
            local.info.ldm = true;
            local.info.connect_urls.clear();
        }
        let before = std::mem::replace(&mut self.local, local);
        for account in before.accounts.iter().filter(|account| !self.local.accounts.contains(account)) {
            self.asked_for.remove(account);
            self.peers.values_mut().for_each(|peer| {
                peer.moved.remove(account);
            });
        }
    }

    /// Another server has asked for connections of its own for an account.
    pub fn move_account(&mut self, server_id: &str, account: &str) {
        if let Some(peer) = self.peers.get_mut(server_id) {
            peer.moved.insert(account.to_owned());
            self.asked_for.insert(account.to_owned());
        }
    }

    /// True if this server tells a connection of an account's interest. By a place of the pool it tells of the accounts that
    /// the larger of the two pool sizes puts there, but for those with connections of their own. Whoever goes by the same
    /// size tells its own interest by the same connection, and messages come by that: an answer cannot overtake the interest
    /// in it. nats-server goes by its own size, whichever is larger.
    pub fn tells(&self, server_id: &str, slot: &Slot, account: &str) -> bool {
        match slot {
            Slot::Only => true,
            Slot::Account(name) => name == account,
            Slot::Pool(at) => {
                let peer = self.peers.get(server_id);
                let size = peer.and_then(|peer| self.pool_size(&peer.info)).or(self.local.pool_size);
                pool_index(account.as_bytes(), size.unwrap_or(1)) == *at
                    && !self.local.has_own(account)
                    && !peer.is_some_and(|peer| peer.moved.contains(account))
            }
        }
    }

    /// The connection by which a server is told of interest in an account.
    pub fn carrier(&self, server_id: &str, account: &str) -> Option<ConnId> {
        let slots = &self.peers.get(server_id)?.slots;
        slots.iter().find(|(slot, _)| self.tells(server_id, slot, account)).map(|(_, conn)| *conn)
    }

    /// True if what a server says of its interest in an account by the pool does not count: it has asked for connections of
    /// the account's own. Where this server's settings say the same, the other one may have changed its own back before.
    pub fn has_moved(&self, server_id: &str, account: &str) -> bool {
        !self.local.has_own(account)
            && self.peers.get(server_id).is_some_and(|peer| peer.moved.contains(account))
    }

    /// The places of the pool shared with a server that carry an account: by the larger size and by its own.
    pub fn places(&self, server_id: &str, account: &str) -> [Option<usize>; 2] {
        let info = self.peers.get(server_id).map(|peer| &peer.info);
        let place = |size: usize| pool_index(account.as_bytes(), size);
        let shared = info.and_then(|info| self.pool_size(info)).map(place);
        let theirs = info.and_then(|info| usize::try_from(info.route_pool_size).ok());
        let theirs = theirs.filter(|size| *size > 0).map(place);
        [shared, theirs.filter(|_| theirs != shared)]
    }

    /// Takes another cluster's name. What is connected under the old one must be closed: returned are the connections
    /// to all servers but `but`.
    pub fn adopt(&mut self, name: ClusterName, but: &str) -> Vec<ConnId> {
        self.local.info.cluster.clone_from(&name.name);
        self.local.info.cluster_dynamic = name.is_dynamic;
        self.local.cluster = name;
        let others = self.peers.iter().filter(|(id, _)| id.as_str() != but);
        others.flat_map(|(_, peer)| peer.slots.values().copied()).collect()
    }

    /// Connections in the pool shared with a server; `None` if there is no pool between the two.
    pub fn pool_size(&self, theirs: &ServerInfo) -> Option<usize> {
        let theirs = usize::try_from(theirs.route_pool_size).ok().filter(|size| *size > 0)?;
        Some(self.local.pool_size?.max(theirs).min(POOL_SIZE_MAX))
    }

    /// The first place in the pool that has no connection; `None` if all have one or there is no pool.
    pub fn free_slot(&self, theirs: &ServerInfo) -> Option<usize> {
        let size = self.pool_size(theirs)?;
        let taken = self.peers.get(&theirs.server_id).map(|peer| &peer.slots);
        (0..size).find(|at| taken.is_none_or(|slots| !slots.contains_key(&Slot::Pool(*at))))
    }

    /// True if a connection that is dialled to the server, for all accounts or for one, would find its place free.
    pub fn lacks(&self, server_id: &str, account: Option<&str>) -> bool {
        let Some(peer) = self.peers.get(server_id) else { return true };
        match account {
            Some(account) => !peer.slots.contains_key(&Slot::Account(account.to_owned())),
            None => !peer.slots.contains_key(&Slot::Only) && self.free_slot(&peer.info).is_some(),
        }
    }

    /// True if the account may have connections of its own: the settings say so, or another server has asked for it.
    pub fn is_dedicated(&self, account: &str) -> bool {
        self.local.has_own(account) || self.asked_for.contains(account)
    }

    /// True if others have not been told of this: of the server itself when its first connection of the pool comes, and of
    /// each account that it has a connection for.
    pub fn is_news(&self, established: &Established) -> bool {
        let is_shared = |slot: &Slot| !matches!(slot, Slot::Account(_));
        let known = self.peers.get(&established.info.server_id);
        !is_shared(&established.slot) || known.is_none_or(|peer| !peer.slots.keys().any(is_shared))
    }

    /// Gives a connection its place.
    pub fn admit(&mut self, conn: ConnId, established: &Established) -> Admission {
        let id = &established.info.server_id;
        let Some(peer) = self.peers.get_mut(id) else {
            let slots = BTreeMap::from([(established.slot.clone(), conn)]);
            let mut peer =
                Peer { info: established.info.clone(), first: conn, slots, moved: BTreeSet::new() };
            peer.note_own_account(&established.slot);
            self.peers.insert(id.clone(), peer);
            return Admission::First;
        };
        if peer.slots.contains_key(&established.slot) || peer.has_other_shape(&established.slot) {
            return Admission::Duplicate;
        }
        peer.slots.insert(established.slot.clone(), conn);
        if !matches!(established.slot, Slot::Account(_)) {
            // It may have been reloaded while connections of single accounts stayed.
            peer.info.route_pool_size = established.info.route_pool_size;
        }
        peer.note_own_account(&established.slot);
        Admission::Another
    }

    /// A connection ended. Returns the server it was to and whether that was its last.
    pub fn leave(&mut self, conn: ConnId) -> Option<(ServerInfo, bool)> {
        let (id, slot) = self.peers.iter().find_map(|(id, peer)| {
            let slot = peer.slots.iter().find(|(_, at)| **at == conn)?.0;
            Some((id.clone(), slot.clone()))
        })?;
        let peer = self.peers.get_mut(&id)?;
        peer.slots.remove(&slot);
        if !peer.slots.is_empty() {
            return Some((peer.info.clone(), false));
        }
        self.peers.remove(&id).map(|peer| (peer.info, true))
    }

    /// True if there is a connection to the server.
    pub fn is_known(&self, server_id: &str) -> bool {
        self.peers.contains_key(server_id)
    }

    /// The ids of the other servers, each with the connection that it came by: whoever goes and comes back has another.
    pub fn present(&self) -> BTreeMap<String, ConnId> {
        self.peers.iter().map(|(id, peer)| (id.clone(), peer.first)).collect()
    }

    /// The other servers, by id.
    pub fn infos(&self) -> impl Iterator<Item = &ServerInfo> {
        self.peers.values().map(|peer| &peer.info)
    }

    /// A server drains: clients are not to be sent there any more. False if it is not known.
    pub fn drains(&mut self, server_id: &str) -> bool {
        let Some(peer) = self.peers.get_mut(server_id) else { return false };
        peer.info.connect_urls.clear();
        peer.info.ws_connect_urls.clear();
        peer.info.ldm = true;
        true
    }

    /// A server tells again who it is: whether it has JetStream, and in which domain. True if that is another answer than
    /// before.
    pub fn take_news(&mut self, theirs: &ServerInfo) -> bool {
        let Some(Peer { info, .. }) = self.peers.get_mut(&theirs.server_id) else { return false };
        let is_news = (info.jetstream, &info.domain) != (theirs.jetstream, &theirs.domain);
        info.jetstream = theirs.jetstream;
        info.domain.clone_from(&theirs.domain);
        is_news
    }

    /// This server drains: its clients are not to come back. Returns a connection to each other server, to tell it.
    pub fn drain(&mut self) -> Vec<ConnId> {
        self.local.info.connect_urls.clear();
        self.local.info.ldm = true;
        self.peers.values().filter_map(|peer| peer.slots.values().next().copied()).collect()
    }

    /// Whom to tell of a server whose first connection was just admitted: a connection to each other server, with what
    /// to say there. `addr` is where the new server is dialled; `is_solicited` and `is_explicit` say how its connection
    /// came to be, `is_explicit_route` the same of the connection told on.
    pub fn gossip(
        &self,
        about: &ServerInfo,
        addr: &str,
        origin: Origin,
        is_explicit_route: impl Fn(ConnId) -> bool,
    ) -> Vec<(ConnId, ServerInfo)> {
        if !origin.may_be_told(about) {
            return Vec::new();
        }
        let others = self.peers.iter().filter(|(id, _)| **id != about.server_id);
        let told = others.filter_map(|(_, peer)| {
            let conn = peer.told_by(&about.route_account)?;
            let mode = match (origin, is_explicit_route(conn)) {
                (Origin::Accepted, true) | (Origin::Configured, _) => GossipMode::Override,
                (Origin::Accepted, false) => GossipMode::Disabled,
                (Origin::Told(_), _) => GossipMode::Default,
            };
            let mut info = about.clone();
            info.nonce.clear();
            info.route_pool_idx = 0;
            if info.ip.is_empty() {
                info.ip = format!("nats-route://{addr}/");
            }
            info.gossip_mode = mode.number();
            Some((conn, info))
        });
        told.collect()
    }
}

impl Local {
    /// True if the settings want connections of its own for the account.
    pub fn has_own(&self, account: &str) -> bool {
        self.accounts.iter().any(|own| own == account)
    }
}

impl Peer {
    /// An account that has a connection of its own has moved there.
    fn note_own_account(&mut self, slot: &Slot) {
        if let Slot::Account(account) = slot {
            self.moved.insert(account.clone());
        }
    }

    /// The connection for an INFO about a connection of this account, or of the pool if it is empty: one that carries the
    /// same, else any.
    fn told_by(&self, account: &str) -> Option<ConnId> {
        let carries_it = |slot: &Slot| match slot {
            Slot::Account(name) => name == account,
            Slot::Only | Slot::Pool(_) => account.is_empty(),
        };
        let same = self.slots.iter().find(|(slot, _)| carries_it(slot));
        same.or_else(|| self.slots.iter().next()).map(|(_, conn)| *conn)
    }

    /// True if the server is connected without a pool and this connection would be of one, or the other way round.
    fn has_other_shape(&self, slot: &Slot) -> bool {
        let has_only = self.slots.contains_key(&Slot::Only);
        match slot {
            Slot::Only => self.slots.keys().any(|taken| matches!(taken, Slot::Pool(_))),
            Slot::Pool(_) => has_only,
            Slot::Account(_) => false,
        }
    }
}

/// How a connection came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The other server dialled.
    Accepted,
    /// We dialled what the configuration names.
    Configured,
    /// We dialled what another server told us of, in this mode.
    Told(GossipMode),
}

impl Origin {
    fn may_be_told(self, about: &ServerInfo) -> bool {
        match self {
            Self::Accepted | Self::Configured => {
                GossipMode::from_number(about.gossip_mode) != GossipMode::Disabled
            }
            Self::Told(mode) => mode == GossipMode::Override,
        }
    }
}
