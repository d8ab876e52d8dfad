use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use serde::Deserialize;

/// The addresses a server listens on, as its ports file tells them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Clients.
    pub client: Vec<SocketAddr>,
    /// Monitoring over HTTP or HTTPS.
    pub monitor: Vec<SocketAddr>,
    /// Routes.
    pub cluster: Vec<SocketAddr>,
    /// Leafnodes.
    pub leafnode: Vec<SocketAddr>,
    /// WebSocket clients.
    pub websocket: Vec<SocketAddr>,
}

/// The ports file as it is written.
#[derive(Default, Deserialize)]
#[serde(default)]
struct PortsFile {
    nats: Vec<String>,
    monitoring: Vec<String>,
    cluster: Vec<String>,
    leafnodes: Vec<String>,
    websocket: Vec<String>,
}

impl Ports {
    /// Reads the ports file of process `pid` in `dir`; `None` while it is absent or incomplete.
    pub(crate) fn read(dir: &Path, pid: u32) -> Option<Self> {
        // The name starts with the program's name, which need not be the name of the file that was executed.
        let suffix = format!("_{pid}.ports");
        let entry = fs::read_dir(dir)
            .ok()?
            .filter_map(Result::ok)
            .find(|entry| entry.file_name().to_string_lossy().ends_with(&suffix))?;
        Self::parse(&fs::read_to_string(entry.path()).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let file: PortsFile = serde_json::from_str(text).ok()?;
        Some(Self {
            client: addresses(&file.nats),
            monitor: addresses(&file.monitoring),
            cluster: addresses(&file.cluster),
            leafnode: addresses(&file.leafnodes),
            websocket: addresses(&file.websocket),
        })
    }
}

/// The loopback-reachable addresses in `scheme://host:port` form; IPv4 ones first.
fn addresses(urls: &[String]) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = urls
        .iter()
        .filter_map(|url| url.split_once("://").map_or(url.as_str(), |(_, rest)| rest).parse().ok())
        .collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found
}

/// A loopback port that nothing listens on now.
///
/// Prefer port -1 in a configuration; this is for ports that must be known before the server starts, as those of the
/// routes of a cluster.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_file_is_understood_and_a_partial_one_is_not() {
        let text = r#"{"nats":["nats://[::1]:4222","nats://127.0.0.1:4222"],"monitoring":["http://127.0.0.1:8222"]}"#;
        let ports = Ports::parse(text).unwrap();
        assert_eq!(ports.client[0], "127.0.0.1:4222".parse().unwrap());
        assert_eq!(ports.client.len(), 2);
        assert_eq!(ports.monitor, ["127.0.0.1:8222".parse().unwrap()]);
        assert!(ports.cluster.is_empty());
        assert!(Ports::parse(&text[..40]).is_none());
    }
}
