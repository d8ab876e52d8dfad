//! A route from its first byte until it carries messages (cluster protocols, "Routes").

#[cfg(test)]
mod tests;

use linnet_wire::route::Op;
use linnet_wire::{GossipMode, ServerConnect, ServerInfo};

use crate::cluster_name::{ClusterName, Verdict};
use crate::compression::Mode;
use crate::peers::{Peers, Slot};

/// Which side of a connection this server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// The other one dialled.
    Accepted,
    /// This one did.
    Dialled {
        /// For this account only.
        account: Option<String>,
        /// User and password to show.
        credentials: Option<(String, String)>,
        /// What the server that told of the address said.
        gossip: GossipMode,
    },
}

/// What the owner of a connection has to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send these bytes.
    Send(Vec<u8>),
    /// What is sent and what is read from here on is compressed.
    Compress(Mode),
    /// Our cluster has this name from now on: tell [`Peers::adopt`].
    Adopt(ClusterName),
    /// The connection carries messages if [`Peers::admit`] lets it.
    Established(Box<Established>),
    /// Send what is to be said and close.
    Close(Closing),
}

/// A connection that can carry messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Established {
    /// The other server.
    pub info: ServerInfo,
    /// What it carries.
    pub slot: Slot,
    /// How it is compressed.
    pub compression: Mode,
}

/// Why a connection ends before it carries anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The other side is told this.
    Said(String),
    /// Its cluster has another name than ours.
    ClusterNameConflict,
    /// It is this very server, or connected already.
    DuplicateRoute,
    /// Another server has our name.
    DuplicateServerName,
    /// What it says cannot be understood, or does not belong here.
    ProtocolViolation,
    /// It said this and will close.
    Told(String),
}

impl Closing {
    /// True if dialling again leads to the same.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::DuplicateRoute)
    }
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// CONNECT.
    Connect,
    /// The first INFO, which tells whether both compress.
    Info,
    /// The INFO behind it, which is compressed.
    CompressedInfo(Mode),
    /// Nothing.
    Done,
}

/// The beginning of one connection.
#[derive(Debug)]
pub struct Handshake {
    role: Role,
    step: Step,
    nonce: String,
}

impl Handshake {
    /// A connection that was just opened. `nonce` is random text for our INFO.
    pub fn new(role: Role, nonce: String) -> Self {
        let step = if role == Role::Accepted { Step::Connect } else { Step::Info };
        Self { role, step, nonce }
    }

    /// True until the other side has said who it is.
    pub fn awaits_connect(&self) -> bool {
        self.step == Step::Connect
    }

    /// What to do first.
    pub fn begin(&self, peers: &Peers) -> Vec<Effect> {
        let first = match &self.role {
            Role::Accepted => self.info(peers, peers.local().compression, None),
            Role::Dialled { credentials, .. } => connect(peers, credentials.as_ref()),
        };
        vec![first]
    }

    /// Takes what the other side says.
    pub fn on_op(&mut self, op: Op<'_>, peers: &Peers) -> Vec<Effect> {
        let outcome = match (self.step, op) {
            (Step::Done, _) => Ok(Vec::new()),
            (_, Op::Err(text)) => Err(Closing::Told(String::from_utf8_lossy(text).into_owned())),
            (Step::Connect, Op::Connect(json)) => self.on_connect(json, peers),
            // Until it has said who it is, it says nothing else.
            (Step::Connect, _) => Err(Closing::Said("Authorization Violation".to_owned())),
            (_, Op::Ping) => Ok(vec![Effect::Send(linnet_wire::encode::PONG.to_vec())]),
            (_, Op::Pong | Op::Ok) => Ok(Vec::new()),
            (Step::Info, Op::Info(json)) => self.on_first_info(json, peers),
            (Step::CompressedInfo(mode), Op::Info(json)) => {
                parse(json).and_then(|info| self.establish(info, mode, peers))
            }
            _ => Err(Closing::ProtocolViolation),
        };
        outcome.unwrap_or_else(|closing| {
            self.step = Step::Done;
            vec![Effect::Close(closing)]
        })
    }

    fn on_connect(&mut self, json: &[u8], peers: &Peers) -> Result<Vec<Effect>, Closing> {
        let connect = ServerConnect::parse(json).map_err(|_| Closing::ProtocolViolation)?;
        let local = peers.local();
        if !connect.lang.is_empty() {
            return Err(Closing::Said("attempted to connect to route port".to_owned()));
        }
        if !connect.gateway.is_empty() {
            let text = format!("Rejecting connection from gateway {:?} on the Route port", connect.gateway);
            return Err(Closing::Said(text));
        }
        if local.credentials.as_ref().is_some_and(|(user, pass)| {
            let is_right = is_equal(&connect.user, user) & is_equal(&connect.pass, pass);
            !is_right
        }) {
            return Err(Closing::Said("Authorization Violation".to_owned()));
        }
        let theirs = ClusterName { name: connect.cluster, is_dynamic: connect.cluster_dynamic };
        self.step = Step::Info;
        match local.cluster.judge(&theirs) {
            Verdict::Same => Ok(Vec::new()),
            Verdict::Adopt => Ok(vec![Effect::Adopt(theirs)]),
            Verdict::Conflict => {
                let ours = &local.cluster.name;
                let text =
                    format!("Rejecting connection, cluster name {:?} does not match {ours:?}", theirs.name);
                Err(Closing::Said(text))
            }
        }
    }

    fn on_first_info(&mut self, json: &[u8], peers: &Peers) -> Result<Vec<Effect>, Closing> {
        let info = parse(json)?;
        let local = peers.local();
        let theirs = ClusterName { name: info.cluster.clone(), is_dynamic: info.cluster_dynamic };
        let mut effects = Vec::new();
        match local.cluster.judge(&theirs) {
            Verdict::Same => {}
            Verdict::Adopt => effects.push(Effect::Adopt(theirs)),
            Verdict::Conflict => return Err(Closing::ClusterNameConflict),
        }
        if info.server_id == local.info.server_id {
            return Err(Closing::DuplicateRoute);
        }
        let mode = Mode::parse(&info.compression).map_err(|error| Closing::Said(error.to_string()))?;
        let agreed = local.compression.negotiate(mode);
        if !agreed.is_on() {
            let none = if mode == Mode::NotSupported { Mode::NotSupported } else { Mode::Off };
            effects.extend(self.establish(info, none, peers)?);
            return Ok(effects);
        }
        self.step = Step::CompressedInfo(agreed);
        // The side that dialled says what was agreed on, in clear, and compresses from then on; the other one switches
        // when it has read that, and answers compressed.
        let answer = self.info(peers, agreed, None);
        match self.role {
            Role::Dialled { .. } => effects.extend([answer, Effect::Compress(agreed)]),
            Role::Accepted => effects.extend([Effect::Compress(agreed), answer]),
        }
        Ok(effects)
    }

    /// The INFO that counts has come.
    fn establish(
        &mut self,
        info: ServerInfo,
        compression: Mode,
        peers: &Peers,
    ) -> Result<Vec<Effect>, Closing> {
        let mut effects = Vec::new();
        let slot = match &self.role {
            Role::Accepted => accepted_slot(&info, peers)?,
            Role::Dialled { account, .. } => {
                let slot = dialled_slot(&info, account.as_deref(), peers)?;
                effects.push(self.info(peers, compression, Some(&slot)));
                slot
            }
        };
        self.step = Step::Done;
        effects.push(Effect::Established(Box::new(Established { info, slot, compression })));
        Ok(effects)
    }

    fn info(&self, peers: &Peers, compression: Mode, slot: Option<&Slot>) -> Effect {
        let local = peers.local();
        let mut info = local.info.clone();
        info.nonce.clone_from(&self.nonce);
        compression.as_str().clone_into(&mut info.compression);
        info.cluster.clone_from(&local.cluster.name);
        info.cluster_dynamic = local.cluster.is_dynamic;
        info.route_pool_size = local.pool_size.and_then(|size| i64::try_from(size).ok()).unwrap_or(0);
        match slot {
            Some(Slot::Pool(at)) => info.route_pool_idx = i64::try_from(*at).unwrap_or(0),
            Some(Slot::Account(account)) => info.route_account.clone_from(account),
            Some(Slot::Only) | None => {}
        }
        if let Role::Dialled { gossip, .. } = &self.role {
            info.gossip_mode = gossip.number();
        }
        let mut line = Vec::with_capacity(512);
        info.encode(&mut line);
        Effect::Send(line)
    }
}

fn parse(json: &[u8]) -> Result<ServerInfo, Closing> {
    ServerInfo::parse(json).map_err(|_| Closing::ProtocolViolation)
}

fn connect(peers: &Peers, credentials: Option<&(String, String)>) -> Effect {
    let local = peers.local();
    let (user, pass) = credentials.cloned().unwrap_or_default();
    let connect = ServerConnect {
        echo: true,
        user,
        pass,
        tls_required: local.tls,
        headers: local.info.headers,
        name: local.info.server_id.clone(),
        cluster: local.cluster.name.clone(),
        cluster_dynamic: local.cluster.is_dynamic,
        lnoc: true,
        ln: true,
        ..ServerConnect::default()
    };
    let mut line = Vec::with_capacity(256);
    connect.encode(&mut line);
    Effect::Send(line)
}

/// Compares without telling by its time where two texts differ.
fn is_equal(a: &str, b: &str) -> bool {
    let differing = a.bytes().zip(b.bytes()).fold(0, |differing, (a, b)| differing | (a ^ b));
    a.len() == b.len() && differing == 0
}

/// What the other side says that the connection carries.
fn accepted_slot(info: &ServerInfo, peers: &Peers) -> Result<Slot, Closing> {
    let local = &peers.local().info;
    if info.server_id == local.server_id {
        return Err(Closing::DuplicateRoute);
    }
    if info.server_name == local.server_name {
        return Err(Closing::DuplicateServerName);
    }
    let pool = peers.pool_size(info);
    let account = &info.route_account;
    if !account.is_empty() {
        return dedicated(account, pool, peers);
    }
    let Some(size) = pool else { return Ok(Slot::Only) };
    match usize::try_from(info.route_pool_idx).ok().filter(|at| *at < size) {
        Some(at) => Ok(Slot::Pool(at)),
        None => {
            let at = info.route_pool_idx;
            Err(Closing::Said(format!("Invalid route pool index: {at} - pool size is {size}")))
        }
    }
}

/// What this side makes of a connection that it dialled.
fn dialled_slot(info: &ServerInfo, account: Option<&str>, peers: &Peers) -> Result<Slot, Closing> {
    if info.route_pool_idx != 0 {
        let at = info.route_pool_idx;
        return Err(Closing::Said(format!("Route pool index should not be set but is set to {at}")));
    }
    let pool = peers.pool_size(info);
    if let Some(account) = account {
        return dedicated(account, pool, peers);
    }
    match pool {
        None => Ok(Slot::Only),
        Some(_) => peers.free_slot(info).map(Slot::Pool).ok_or(Closing::DuplicateRoute),
    }
}

fn dedicated(account: &str, pool: Option<usize>, peers: &Peers) -> Result<Slot, Closing> {
    if pool.is_none() {
        let text =
            format!("Not possible to have a dedicated route for account {account:?} between those servers");
        return Err(Closing::Said(text));
    }
    if !peers.is_dedicated(account) {
        return Err(Closing::Said(format!("No route for account {account:?}")));
    }
    Ok(Slot::Account(account.to_owned()))
}
