//! Several servers as one cluster: started with generated configurations, watched until they know each other, and
//! disturbed one by one.

mod config;
mod formed;
mod spec;

use std::ops::Index;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use tempfile::TempDir;

pub use spec::{ClusterSpec, Dial, Login, MemberPorts, Place};

use crate::ports::check_port;
use crate::{Error, Ready, Result, Server, Spec, State, lasting_ports};

/// A running cluster.
///
/// Dropping it kills its processes; a temporary directory is removed with it.
#[derive(Debug)]
pub struct Cluster {
    spec: ClusterSpec,
    members: Vec<Member>,
    dir: PathBuf,
    /// Removed when dropped, after the processes.
    _temp_dir: Option<TempDir>,
}

/// A server of a [`Cluster`], whether it runs or not.
#[derive(Debug)]
pub struct Member {
    name: String,
    ports: MemberPorts,
    server: Server,
}

impl Member {
    /// The server's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its ports, which stay the same over restarts.
    pub fn ports(&self) -> MemberPorts {
        self.ports
    }

    /// The process.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The process, to wait for its end.
    pub fn server_mut(&mut self) -> &mut Server {
        &mut self.server
    }

    /// What the process does now.
    pub fn state(&mut self) -> State {
        self.server.state()
    }
}

impl Cluster {
    pub(super) fn start(spec: ClusterSpec) -> Result<Self> {
        let (dir, temp_dir) = match &spec.dir {
            Some(dir) => (dir.clone(), None),
            None => {
                let temp_dir = temp_dir()?;
                (temp_dir.path().to_owned(), Some(temp_dir))
            }
        };
        let ports = ports(&spec)?;
        let mut cluster = Self { spec, members: Vec::new(), dir, _temp_dir: temp_dir };
        for (at, own) in ports.iter().enumerate() {
            let name = cluster.spec.servers[at].name.clone();
            let server = cluster.start_server(at, &ports).map_err(Error::member(&name))?;
            cluster.members.push(Member { name, ports: *own, server });
        }
        cluster.wait_formed(cluster.spec.timeout)?;
        Ok(cluster)
    }

    fn start_server(&self, at: usize, ports: &[MemberPorts]) -> Result<Server> {
        let described = &self.spec.servers[at];
        check_free(ports[at])?;
        // The servers of a cluster are ready together.
        let is_alone = self.spec.servers.len() == 1;
        let ready = if self.spec.jetstream.is_some() && is_alone { Ready::Healthz } else { Ready::Info };
        let mut spec = Spec::new(&described.program)
            .config(config::render(&self.spec, at, ports))
            .dir(self.dir.join(&described.name))
            .ready(ready, self.spec.timeout)
            .launcher(match described.place.launcher.is_empty() {
                true => self.spec.launcher.clone(),
                false => described.place.launcher.clone(),
            });
        if let Some(flag) = &self.spec.give_up {
            spec = spec.give_up_when(flag.clone());
        }
        spec.start()
    }

    /// The directory of everything, with one below it for each server.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The servers in the order they were described.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The servers, to ask for their state.
    pub fn members_mut(&mut self) -> &mut [Member] {
        &mut self.members
    }

    /// The server of this name.
    pub fn member(&mut self, name: &str) -> Result<&mut Member> {
        let known = || self.members.iter().map(|member| member.name.clone()).collect();
        match self.members.iter().position(|member| member.name == name) {
            Some(at) => Ok(&mut self.members[at]),
            None => Err(Error::NoSuchMember { name: name.to_owned(), known: known() }),
        }
    }

    fn server(&mut self, name: &str) -> Result<&mut Server> {
        self.member(name).map(|member| &mut member.server)
    }

    /// Stops a server at once, as a crash would.
    pub fn kill(&mut self, name: &str) -> Result<ExitStatus> {
        self.server(name)?.kill().map_err(Error::member(name))
    }

    /// Freezes a server: it keeps its connections and does nothing.
    pub fn pause(&mut self, name: &str) -> Result<()> {
        self.server(name)?.pause().map_err(Error::member(name))
    }

    /// Lets a paused server continue.
    pub fn resume(&mut self, name: &str) -> Result<()> {
        self.server(name)?.resume().map_err(Error::member(name))
    }

    /// Asks a server to stop, and kills it if it has not after `timeout`.
    pub fn terminate(&mut self, name: &str, timeout: Duration) -> Result<ExitStatus> {
        let server = self.server(name)?;
        let ended = match server.terminate(timeout) {
            Err(Error::StillRunning { .. }) => server.kill(),
            ended => ended,
        };
        ended.map_err(Error::member(name))
    }

    /// Starts a server again, on the same ports and in the same directory. One that runs is asked to stop first, and
    /// killed if it has not after `timeout`.
    pub fn restart(&mut self, name: &str, timeout: Duration) -> Result<()> {
        if self.server(name)?.is_running() {
            self.terminate(name, timeout)?;
        }
        let member = self.member(name)?;
        let started = check_free(member.ports).and_then(|()| member.server.restart());
        started.map_err(Error::member(name))
    }

    /// Asks all servers to stop at the same time, and kills those that have not after `timeout`; those killed.
    pub fn stop(&mut self, timeout: Duration) -> Vec<String> {
        let deadline = crate::Deadline::after(timeout);
        for member in &self.members {
            // One that has ended already needs no signal.
            let _ = member.server.request_stop();
        }
        let mut killed = Vec::new();
        for member in &mut self.members {
            if matches!(member.server.wait_end(deadline.remaining()), Err(Error::StillRunning { .. })) {
                killed.push(member.name.clone());
                // Nothing can be done about a process that cannot be killed.
                let _ = member.server.kill();
            }
        }
        killed
    }
}

impl Index<usize> for Cluster {
    type Output = Member;

    fn index(&self, at: usize) -> &Member {
        &self.members[at]
    }
}

fn temp_dir() -> Result<TempDir> {
    let parent = std::env::temp_dir();
    tempfile::Builder::new().prefix("linnet-cluster-").tempdir().map_err(Error::file(parent))
}

fn ports(spec: &ClusterSpec) -> Result<Vec<MemberPorts>> {
    let missing = spec.servers.iter().filter(|server| server.ports.is_none()).count();
    let mut free = lasting_ports(3 * missing).map_err(Error::NoPorts)?.into_iter();
    let mut next = || free.next().ok_or_else(|| Error::NoPorts(std::io::ErrorKind::AddrInUse.into()));
    let mut all = Vec::with_capacity(spec.servers.len());
    for server in &spec.servers {
        all.push(match server.ports {
            Some(ports) => ports,
            None => MemberPorts { client: next()?, cluster: next()?, monitor: next()? },
        });
    }
    Ok(all)
}

/// A server whose port is taken would tell it in its log only.
fn check_free(ports: MemberPorts) -> Result<()> {
    let purposes = [(ports.client, "clients"), (ports.cluster, "routes"), (ports.monitor, "monitoring")];
    for (port, purpose) in purposes {
        check_port(port).map_err(|source| Error::Port { port, purpose, source })?;
    }
    Ok(())
}
