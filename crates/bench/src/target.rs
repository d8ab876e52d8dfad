use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, Result};
use linnet_launch::{Server, Usage};

/// The server under load.
#[derive(Debug)]
pub(crate) struct Target {
    /// Where its clients connect.
    pub(crate) addr: SocketAddr,
    /// The process, if it was started for this measurement.
    server: Option<Server>,
}

impl Target {
    /// A server that was started for this measurement.
    pub(crate) fn launched(server: Server) -> Result<Self> {
        Ok(Self { addr: server.client_addr()?, server: Some(server) })
    }

    /// A server that runs already.
    pub(crate) fn running(url: &str) -> Result<Self> {
        let host = url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/');
        let host = if host.contains(':') { host.to_owned() } else { format!("{host}:4222") };
        let addr = host.to_socket_addrs().with_context(|| format!("cannot resolve {host}"))?.next();
        Ok(Self { addr: addr.with_context(|| format!("{host} has no address"))?, server: None })
    }

    /// What the process has used so far; `None` if it is not ours to look at.
    pub(crate) fn usage(&self) -> Result<Option<Usage>> {
        self.server.as_ref().map(|server| server.usage().context("reading the server's usage")).transpose()
    }

    /// Stops the process, if it was started for this measurement.
    pub(crate) fn stop(self, timeout: Duration) -> Result<()> {
        let Some(mut server) = self.server else { return Ok(()) };
        match server.terminate(timeout) {
            Ok(_) => Ok(()),
            Err(linnet_launch::Error::StillRunning { .. }) => {
                server.kill().map(|_| ()).context("killing the server")
            }
            Err(error) => Err(error).context("stopping the server"),
        }
    }

    /// The end of the server's log, for an error.
    pub(crate) fn log_tail(&self) -> String {
        self.server.as_ref().map(Server::log_tail).unwrap_or_default()
    }
}
