use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use linnet_launch::{Cluster, ClusterSpec, JetStream, Member, Server, Usage, poll_until};

/// How long interest may take to be known at another server.
const INTEREST_TIMEOUT: Duration = Duration::from_secs(10);

/// The status of a healthy server.
const HEALTHY: u16 = 200;

/// The server under load, or a cluster of them.
#[derive(Debug)]
pub(crate) struct Target {
    /// Where clients connect, of a cluster to its first server.
    pub(crate) addr: SocketAddr,
    processes: Processes,
}

/// What was started for this measurement.
#[derive(Debug)]
enum Processes {
    /// Nothing: the server runs already.
    None,
    One(Server),
    Several(Cluster),
}

impl Target {
    /// A server that was started for this measurement.
    pub(crate) fn launched(server: Server) -> Result<Self> {
        Ok(Self { addr: server.client_addr()?, processes: Processes::One(server) })
    }

    /// Starts a cluster of so many servers of a program.
    pub(crate) fn launch_cluster(
        program: &Path,
        servers: usize,
        jetstream: Option<JetStream>,
        timeout: Duration,
    ) -> Result<Self> {
        let mut spec = ClusterSpec::new("bench").timeout(timeout);
        if let Some(jetstream) = &jetstream {
            spec = spec.jetstream(jetstream.clone());
        }
        for number in 0..servers {
            spec = spec.server(format!("n{number}"), program);
        }
        let has_jetstream = jetstream.is_some();
        let cluster = spec.start().context("starting the cluster")?;
        // What is asked of a cluster that has no leader yet may get no answer.
        let is_healthy = |member: &Member| {
            member.server().monitor_get("/healthz").is_ok_and(|page| page.status == HEALTHY)
        };
        if has_jetstream && !poll_until(timeout, || cluster.members().iter().all(is_healthy)) {
            bail!("the cluster is not healthy within {timeout:?}");
        }
        Ok(Self { addr: cluster[0].server().client_addr()?, processes: Processes::Several(cluster) })
    }

    /// A server that runs already.
    pub(crate) fn running(url: &str) -> Result<Self> {
        let host = url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/');
        let host = if host.contains(':') { host.to_owned() } else { format!("{host}:4222") };
        let addr = host.to_socket_addrs().with_context(|| format!("cannot resolve {host}"))?.next();
        let addr = addr.with_context(|| format!("{host} has no address"))?;
        Ok(Self { addr, processes: Processes::None })
    }

    /// The processes that are ours to look at.
    fn servers(&self) -> Vec<&Server> {
        match &self.processes {
            Processes::None => Vec::new(),
            Processes::One(server) => vec![server],
            Processes::Several(cluster) => cluster.members().iter().map(|member| member.server()).collect(),
        }
    }

    /// Where clients of a server of the cluster connect, the first being 0.
    pub(crate) fn addr_of(&self, place: usize) -> Result<SocketAddr> {
        if place == 0 {
            return Ok(self.addr);
        }
        let servers = self.servers();
        let server = servers.get(place).context("the workload needs a cluster that is started for it")?;
        server.client_addr().context("a server of the cluster")
    }

    /// Where clients of the server of this name connect.
    pub(crate) fn addr_of_named(&self, name: &str) -> Result<SocketAddr> {
        let Processes::Several(cluster) = &self.processes else {
            bail!("the workload needs a cluster that is started for it")
        };
        let member = cluster.members().iter().find(|member| member.name() == name);
        let member = member.with_context(|| format!("the cluster has no server {name}"))?;
        member.server().client_addr().with_context(|| format!("the server {name}"))
    }

    /// Waits until so many other servers have told the first one of their interest.
    pub(crate) fn await_interest(&self, others: usize) -> Result<()> {
        let Some(first) = self.servers().into_iter().next().filter(|_| others > 0) else { return Ok(()) };
        let known = || {
            let page = first.monitor_get("/routez?subs=1").map(|page| page.body).unwrap_or_default();
            page.matches("\"bench.").count() >= others
        };
        if !poll_until(INTEREST_TIMEOUT, known) {
            bail!("interest of {others} other servers is not known within {INTEREST_TIMEOUT:?}");
        }
        Ok(())
    }

    /// What the processes have used so far, together; `None` if they are not ours to look at.
    pub(crate) fn usage(&self) -> Result<Option<Usage>> {
        let mut sum: Option<Usage> = None;
        for server in self.servers() {
            let usage = server.usage().context("reading the server's usage")?;
            sum = Some(match sum {
                None => usage,
                Some(sum) => Usage { cpu: sum.cpu + usage.cpu, rss_bytes: sum.rss_bytes + usage.rss_bytes },
            });
        }
        Ok(sum)
    }

    /// Stops what was started for this measurement.
    pub(crate) fn stop(self, timeout: Duration) -> Result<()> {
        match self.processes {
            Processes::None => Ok(()),
            Processes::Several(mut cluster) => {
                // Those that are late are killed, which is all the same for a measurement.
                cluster.stop(timeout);
                Ok(())
            }
            Processes::One(mut server) => match server.terminate(timeout) {
                Ok(_) => Ok(()),
                Err(linnet_launch::Error::StillRunning { .. }) => {
                    server.kill().map(|_| ()).context("killing the server")
                }
                Err(error) => Err(error).context("stopping the server"),
            },
        }
    }

    /// The end of the servers' logs, for an error.
    pub(crate) fn log_tail(&self) -> String {
        self.servers().into_iter().map(Server::log_tail).collect::<Vec<_>>().join("\n")
    }
}
