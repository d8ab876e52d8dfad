//! What the cluster consists of: as the directory has it, or anew.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use linnet_env::{OsRng, Rng as _};
use linnet_launch::{ClusterSpec, Dial, JetStream, Login, MemberPorts, lasting_ports};
use serde::{Deserialize, Serialize};

use crate::home::Home;
use crate::{Error, Options, Result};

/// Servers unless told otherwise.
const SERVERS: u16 = 3;

/// User of the system account.
const SYSTEM_USER: &str = "sys";

/// Characters of a generated password, of 32 kinds each.
const PASSWORD_LENGTH: usize = 26;

/// The name of the cluster.
const CLUSTER_NAME: &str = "up";

/// Keep-alive of routes, so that a server that is paused is noticed within seconds.
const PINGS: &str = "ping_interval: \"1s\"\nping_max: 2";

/// A server that is of another program, as `NAME=PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binary {
    /// The server.
    pub name: String,
    /// The program.
    pub path: PathBuf,
}

impl FromStr for Binary {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.split_once('=') {
            Some((name, path)) if !name.is_empty() && !path.is_empty() => {
                Ok(Self { name: name.to_owned(), path: path.into() })
            }
            _ => Err("expected NAME=PATH, as in n3=/usr/bin/nats-server".to_owned()),
        }
    }
}

/// The servers of a cluster and how to get in; saved in the directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    system_password: String,
    servers: Vec<Planned>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Planned {
    name: String,
    /// Another program than the one that runs the cluster.
    program: Option<PathBuf>,
    client: u16,
    cluster: u16,
    monitor: u16,
}

impl Plan {
    /// The plan of the directory with these options, saved again.
    pub(crate) fn of(home: &Home, options: &Options) -> Result<Self> {
        let mut plan = match Self::load(&home.saved_file())? {
            Some(plan) => {
                plan.check(home.dir(), options)?;
                plan
            }
            None => Self::new(options)?,
        };
        plan.use_binaries(&options.binaries)?;
        plan.save(home)?;
        Ok(plan)
    }

    fn new(options: &Options) -> Result<Self> {
        let count = options.servers.unwrap_or(SERVERS);
        let mut ports =
            lasting_ports(3 * usize::from(count)).map_err(linnet_launch::Error::NoPorts)?.into_iter();
        let mut next =
            || ports.next().ok_or_else(|| linnet_launch::Error::NoPorts(io::ErrorKind::AddrInUse.into()));
        let mut servers = Vec::new();
        for at in 0..count {
            let chosen = match options.port {
                Some(first) => Some(first.checked_add(at).ok_or(Error::PortRange(first))?),
                None => None,
            };
            let (free, cluster, monitor) = (next()?, next()?, next()?);
            let name = format!("n{}", at + 1);
            servers.push(Planned { name, program: None, client: chosen.unwrap_or(free), cluster, monitor });
        }
        Ok(Self { system_password: password(), servers })
    }

    fn load(path: &Path) -> Result<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::File { path: path.to_owned(), source }),
        };
        let parsed = serde_json::from_str(&text);
        parsed.map(Some).map_err(|source| Error::Saved { path: path.to_owned(), source })
    }

    /// What the directory has stays as it is.
    fn check(&self, dir: &Path, options: &Options) -> Result<()> {
        let (dir, found) = (dir.to_owned(), self.servers.len());
        if let Some(asked) = options.servers.filter(|asked| usize::from(*asked) != found) {
            return Err(Error::Count { dir, found, asked });
        }
        let first = self.servers.first().map_or(0, |server| server.client);
        match options.port.filter(|asked| *asked != first) {
            Some(asked) => Err(Error::OtherPort { dir, found: first, asked }),
            None => Ok(()),
        }
    }

    fn use_binaries(&mut self, binaries: &[Binary]) -> Result<()> {
        let known: Vec<String> = self.servers.iter().map(|server| server.name.clone()).collect();
        for Binary { name, path } in binaries {
            let Some(server) = self.servers.iter_mut().find(|server| server.name == *name) else {
                return Err(Error::UnknownServer { name: name.clone(), known });
            };
            let checked = executable(path);
            let wrong = |source| Error::Binary { name: name.clone(), path: path.clone(), source };
            server.program = Some(checked.map_err(wrong)?);
        }
        Ok(())
    }

    fn save(&self, home: &Home) -> Result<()> {
        let path = home.saved_file();
        let written = tempfile::NamedTempFile::new_in(home.dir()).and_then(|mut file| {
            serde_json::to_writer_pretty(&mut file, self)?;
            file.flush()?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        });
        written.map_err(Error::file(&path))
    }

    /// The cluster to start.
    pub(crate) fn spec(&self, home: &Home, options: &Options) -> ClusterSpec {
        let login = Login { user: SYSTEM_USER.to_owned(), password: self.system_password.clone() };
        let mut spec = ClusterSpec::new(CLUSTER_NAME).dir(home.dir()).system_user(login);
        for server in &self.servers {
            let ports =
                MemberPorts { client: server.client, cluster: server.cluster, monitor: server.monitor };
            spec = spec.server_at(&server.name, server.program.as_ref().unwrap_or(&options.program), ports);
        }
        if self.servers.len() > 1 {
            spec = spec.dial(Dial::All).cluster_extra(PINGS);
        }
        if self.has_jetstream() { spec.jetstream(JetStream::default()) } else { spec }
    }

    /// Whether JetStream is on: it is one implementation's in a cluster.
    pub(crate) fn has_jetstream(&self) -> bool {
        self.servers.len() == 1 || self.servers.iter().all(|server| server.program.is_none())
    }

    /// User and password of the system account as they stand in a URL.
    pub(crate) fn system_login(&self) -> String {
        format!("{SYSTEM_USER}:{}", self.system_password)
    }

    /// The other program that this server is of.
    pub(crate) fn program_of(&self, name: &str) -> Option<&Path> {
        self.servers.iter().find(|server| server.name == name)?.program.as_deref()
    }
}

/// The path wherever this process is started next time.
fn executable(path: &Path) -> io::Result<PathBuf> {
    let path = fs::canonicalize(path)?;
    let metadata = fs::metadata(&path)?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "not a program"));
    }
    Ok(path)
}

/// Letters and digits, so that it can stand in a URL and in a configuration.
fn password() -> String {
    const KINDS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0; PASSWORD_LENGTH];
    OsRng.fill(&mut bytes);
    bytes.iter().map(|byte| char::from(KINDS[usize::from(byte % 32)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            servers: None,
            dir: None,
            port: None,
            binaries: Vec::new(),
            program: "linnet".into(),
            launcher: Vec::new(),
        }
    }

    #[test]
    fn plan_stays_as_it_was_first() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::take(Some(dir.path())).unwrap();
        let first = Plan::of(&home, &Options { servers: Some(2), port: Some(14000), ..options() }).unwrap();
        assert_eq!(first.servers.iter().map(|s| s.client).collect::<Vec<_>>(), [14000, 14001]);
        assert_eq!(first.servers.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["n1", "n2"]);
        assert_eq!(Plan::of(&home, &options()).unwrap(), first);
        let other = Plan::of(&home, &Options { servers: Some(3), ..options() }).unwrap_err().to_string();
        assert!(other.ends_with("has a cluster of 2 servers; --servers 3 does not fit"), "{other}");
        let other = Plan::of(&home, &Options { port: Some(15000), ..options() }).unwrap_err().to_string();
        assert!(other.ends_with("first client port is 14000; --port 15000 does not fit"), "{other}");
        let mode = fs::metadata(home.saved_file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "there is a password in it");
        fs::write(home.saved_file(), "{").unwrap();
        assert!(matches!(Plan::of(&home, &options()), Err(Error::Saved { .. })));
    }

    #[test]
    fn new_plan_has_three_servers_a_password_of_its_own_and_different_ports() {
        let (a, b) = (Plan::new(&options()).unwrap(), Plan::new(&options()).unwrap());
        assert_ne!(a.system_password, b.system_password);
        assert_eq!(a.system_password.len(), PASSWORD_LENGTH);
        let ports = a.servers.iter().flat_map(|s| [s.client, s.cluster, s.monitor]);
        assert_eq!(ports.collect::<std::collections::BTreeSet<_>>().len(), 9);
        let past = Plan::new(&Options { port: Some(65534), ..options() });
        assert!(matches!(past, Err(Error::PortRange(65534))));
    }

    #[test]
    fn programs_of_servers_are_checked_and_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::take(Some(dir.path())).unwrap();
        let with = |text: &str| {
            let binaries = vec![text.parse().unwrap()];
            Plan::of(&home, &Options { binaries, ..options() }).map_err(|error| error.to_string())
        };
        assert_eq!(
            with("n9=x").unwrap_err(),
            "--binary n9=…: there is no server \"n9\"; there are n1, n2, n3"
        );
        assert!(with("n1=no/such/file").unwrap_err().starts_with("--binary n1=no/such/file: "));
        let file = home.dir().join("up.lock").display().to_string();
        assert_eq!(with(&format!("n1={file}")).unwrap_err(), format!("--binary n1={file}: not a program"));
        with("n2=/bin/sh").unwrap();
        let kept = Plan::of(&home, &options()).unwrap();
        assert!(kept.program_of("n2").is_some() && kept.program_of("n1").is_none());
        for wrong in ["n1", "=x", "n1="] {
            assert!(wrong.parse::<Binary>().is_err(), "{wrong}");
        }
    }
}
