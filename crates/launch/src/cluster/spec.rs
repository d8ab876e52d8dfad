use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::Cluster;
use crate::spec::READY_TIMEOUT;
use crate::{Error, JetStream, Result};

/// A cluster to start: its servers, and what stands in their configurations. Every listener is on the loopback
/// interface, unless a server is given another place.
#[derive(Clone, Debug)]
pub struct ClusterSpec {
    pub(super) name: String,
    pub(super) servers: Vec<Described>,
    pub(super) dial: Dial,
    pub(super) outside: Vec<u16>,
    pub(super) detours: Vec<Detour>,
    pub(super) pool_size: Option<i32>,
    pub(super) compression: Option<String>,
    pub(super) accounts: Vec<String>,
    pub(super) system_user: Option<Login>,
    pub(super) jetstream: Option<JetStream>,
    pub(super) cluster_extra: String,
    pub(super) extra: String,
    pub(super) dir: Option<PathBuf>,
    pub(super) launcher: Vec<OsString>,
    pub(super) timeout: Duration,
    pub(super) give_up: Option<Arc<AtomicBool>>,
}

/// One server of a [`ClusterSpec`].
#[derive(Clone, Debug)]
pub(super) struct Described {
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) ports: Option<MemberPorts>,
    pub(super) place: Place,
}

/// Where a server runs.
#[derive(Clone, Debug)]
pub struct Place {
    /// What it listens on, and is dialled at. The process that starts the cluster has to reach it.
    pub host: Ipv4Addr,
    /// Starts this server instead of the cluster's own one if it is not empty; see [`crate::Spec::launcher`].
    pub launcher: Vec<OsString>,
}

impl Default for Place {
    fn default() -> Self {
        Self { host: Ipv4Addr::LOCALHOST, launcher: Vec::new() }
    }
}

/// A loopback port at which one server dials another one.
#[derive(Clone, Debug)]
pub(super) struct Detour {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) port: u16,
}

/// The ports of a server of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberPorts {
    /// Clients.
    pub client: u16,
    /// Routes.
    pub cluster: u16,
    /// Monitoring pages.
    pub monitor: u16,
}

/// A name and a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

/// Whom the servers of a cluster are told to dial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dial {
    /// Each all others.
    #[default]
    Others,
    /// Each all, itself too, as when all have the same configuration.
    All,
    /// Each those named before it.
    Earlier,
    /// All the first one.
    First,
}

impl ClusterSpec {
    /// A cluster of this name without servers yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            servers: Vec::new(),
            dial: Dial::default(),
            outside: Vec::new(),
            detours: Vec::new(),
            pool_size: None,
            compression: None,
            accounts: Vec::new(),
            system_user: None,
            jetstream: None,
            cluster_extra: String::new(),
            extra: String::new(),
            dir: None,
            launcher: Vec::new(),
            timeout: READY_TIMEOUT,
            give_up: None,
        }
    }

    /// Adds a server of this program, on ports that are chosen once and kept over restarts.
    #[must_use]
    pub fn server(mut self, name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        self.servers.push(Described {
            name: name.into(),
            program: program.into(),
            ports: None,
            place: Place::default(),
        });
        self
    }

    /// Adds a server of this program on these ports.
    #[must_use]
    pub fn server_at(
        mut self,
        name: impl Into<String>,
        program: impl Into<PathBuf>,
        ports: MemberPorts,
    ) -> Self {
        let (name, program, ports) = (name.into(), program.into(), Some(ports));
        self.servers.push(Described { name, program, ports, place: Place::default() });
        self
    }

    /// Has each server run where this says, by its position.
    #[must_use]
    pub fn places(mut self, place: impl Fn(usize) -> Place) -> Self {
        for (at, server) in self.servers.iter_mut().enumerate() {
            server.place = place(at);
        }
        self
    }

    /// Has each server listen on these ports, by its position, also over restarts.
    #[must_use]
    pub fn ports(mut self, ports: impl Fn(usize) -> MemberPorts) -> Self {
        for (at, server) in self.servers.iter_mut().enumerate() {
            server.ports = Some(ports(at));
        }
        self
    }

    /// Lets one server dial another one at this loopback port instead, behind which something passes on what comes.
    #[must_use]
    pub fn detour(mut self, from: impl Into<String>, to: impl Into<String>, port: u16) -> Self {
        self.detours.push(Detour { from: from.into(), to: to.into(), port });
        self
    }

    /// Whom each server dials.
    #[must_use]
    pub fn dial(mut self, dial: Dial) -> Self {
        self.dial = dial;
        self
    }

    /// Lets every server dial this loopback port as well, where a server of somebody else listens for routes.
    #[must_use]
    pub fn route(mut self, port: u16) -> Self {
        self.outside.push(port);
        self
    }

    /// `pool_size` of the `cluster` block; -1 for one connection that carries everything.
    #[must_use]
    pub fn pool_size(mut self, size: i32) -> Self {
        self.pool_size = Some(size);
        self
    }

    /// `compression` of the `cluster` block.
    #[must_use]
    pub fn compression(mut self, mode: impl Into<String>) -> Self {
        self.compression = Some(mode.into());
        self
    }

    /// Gives this account connections of its own.
    #[must_use]
    pub fn account(mut self, name: impl Into<String>) -> Self {
        self.accounts.push(name.into());
        self
    }

    /// Gives the system account this user. Everybody else is in the global account without a login.
    #[must_use]
    pub fn system_user(mut self, login: Login) -> Self {
        self.system_user = Some(login);
        self
    }

    /// Switches JetStream on in every server. A cluster of one server has no `cluster` block then.
    #[must_use]
    pub fn jetstream(mut self, jetstream: JetStream) -> Self {
        self.jetstream = Some(jetstream);
        self
    }

    /// More configuration inside of the `cluster` block, as it is.
    #[must_use]
    pub fn cluster_extra(mut self, text: impl Into<String>) -> Self {
        self.cluster_extra = text.into();
        self
    }

    /// More configuration of every server, added at the end as it is. `$DIR` stands for the server's directory.
    #[must_use]
    pub fn extra(mut self, text: impl Into<String>) -> Self {
        self.extra = text.into();
        self
    }

    /// Keeps everything below this directory, a directory for each server, and never removes it.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Starts servers through this command; see [`crate::Spec::launcher`].
    #[must_use]
    pub fn launcher(mut self, command: impl IntoIterator<Item = OsString>) -> Self {
        self.launcher = command.into_iter().collect();
        self
    }

    /// How long a server may take to be ready, and all together to know each other; ten seconds unless told otherwise.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Ends waiting with [`Error::GivenUp`] once this is true.
    #[must_use]
    pub fn give_up_when(mut self, flag: Arc<AtomicBool>) -> Self {
        self.give_up = Some(flag);
        self
    }

    /// Starts all servers and waits until each is connected with all others. On failure all are killed, and the error
    /// names the server and has the end of its log.
    pub fn start(self) -> Result<Cluster> {
        self.check()?;
        Cluster::start(self)
    }

    /// Routes between two servers: those of the pool, one for each account with its own and one for the system account;
    /// without a pool there is only one.
    pub(super) fn routes_per_pair(&self) -> usize {
        let pool = self.pool_size.unwrap_or(3);
        usize::try_from(pool).map_or(1, |pool| pool + 1 + self.accounts.len())
    }

    fn check(&self) -> Result<()> {
        let refuse = |text: String| Err(Error::Description(text));
        if self.servers.is_empty() {
            return refuse("a cluster has at least one server".to_owned());
        }
        for (at, server) in self.servers.iter().enumerate() {
            // The name is that of the server's directory, too.
            let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if server.name.is_empty() || !server.name.chars().all(is_plain) {
                return refuse(format!(
                    "{:?} is no name for a server: letters, digits, '-' and '_' are",
                    server.name
                ));
            }
            if self.servers[..at].iter().any(|earlier| earlier.name == server.name) {
                return refuse(format!("there are two servers {:?}", server.name));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(spec: ClusterSpec) -> String {
        spec.start().unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_started_is_refused_before_anything_is() {
        let one = ClusterSpec::new("C").server("a", "/no/such/program");
        assert_eq!(refused(ClusterSpec::new("C")), "a cluster has at least one server");
        assert_eq!(refused(one.clone().server("a", "x")), "there are two servers \"a\"");
        assert!(refused(one.clone().server("../b", "x")).starts_with("\"../b\" is no name"));
        assert!(refused(one.server("", "x")).starts_with("\"\" is no name"));
    }

    #[test]
    fn routes_of_a_pair_are_the_pool_the_system_account_and_those_with_their_own() {
        let spec = ClusterSpec::new("C");
        assert_eq!(spec.routes_per_pair(), 4);
        assert_eq!(spec.clone().account("A").routes_per_pair(), 5);
        assert_eq!(spec.clone().pool_size(1).routes_per_pair(), 2);
        assert_eq!(spec.pool_size(-1).routes_per_pair(), 1);
    }
}
