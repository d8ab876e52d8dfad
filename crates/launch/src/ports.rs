use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::path::Path;

use linnet_env::{OsRng, Rng as _};
use parking_lot::Mutex;
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with};
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
    Ok(SocketAddrV4::try_from(getsockname(bound(0)?)?)?.port())
}

/// An error if something listens on this loopback port.
pub(crate) fn check_port(port: u16) -> io::Result<()> {
    bound(port).map(drop)
}

/// A socket that has the port and does not listen.
///
/// A process that another thread starts has a copy of the socket until it executes its program, so that closing it here is
/// not enough. One that does not listen keeps nobody from listening.
fn bound(port: u16) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    Ok(socket)
}

/// The lowest port of [`lasting_ports`]: below it are the well-known ones.
const LASTING_MIN: u16 = 10_000;

/// Where the system's own choice begins if it does not say.
const EPHEMERAL_MIN: u16 = 32_768;

/// How many ports are tried for each that is wanted.
const ATTEMPTS: usize = 100;

/// Ports that were given out: whoever got them may not listen yet, and whoever does may be down for a while.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Different loopback ports that this process has not been given before and that nothing listens on now, for servers that keep theirs over restarts.
///
/// They are outside of the range from which the system takes ports of outgoing connections: a port in there may be taken
/// by a client while its server is down, even by a connection to itself.
pub fn lasting_ports(count: usize) -> io::Result<Vec<u16>> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let end = lasting_end(&range);
    let mut ports = Vec::with_capacity(count);
    let mut failure = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..count.saturating_mul(ATTEMPTS) {
        if ports.len() == count {
            break;
        }
        let offset = OsRng.below(u64::from(end - LASTING_MIN));
        let port = LASTING_MIN + u16::try_from(offset).unwrap_or(0);
        match check_port(port) {
            Ok(()) if !GIVEN.lock().insert(port) => {}
            Ok(()) => ports.push(port),
            Err(error) => failure = error,
        }
    }
    if ports.len() == count { Ok(ports) } else { Err(failure) }
}

/// The first port that is not for [`lasting_ports`], from the range the system tells.
fn lasting_end(range: &str) -> u16 {
    let start = range.split_ascii_whitespace().next().and_then(|text| text.parse().ok());
    // A range that leaves hardly anything below it is no guide.
    start.filter(|start| *start >= LASTING_MIN + 1_000).unwrap_or(EPHEMERAL_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lasting_ports_are_different_and_not_those_of_outgoing_connections() {
        let ports = lasting_ports(20).unwrap();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 20, "{ports:?}");
        // Nobody listens on them, and still nobody else gets them.
        let others = (0..100).flat_map(|_| lasting_ports(20).unwrap());
        assert!(others.into_iter().all(|port| !ports.contains(&port)));
        let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        assert!(ports.iter().all(|port| (LASTING_MIN..lasting_end(&range)).contains(port)), "{ports:?}");
        assert_eq!(lasting_end("20000\t60999\n"), 20_000);
        assert_eq!([lasting_end("1024 65535"), lasting_end(""), lasting_end("x y")], [EPHEMERAL_MIN; 3]);
    }

    #[test]
    fn port_is_free_unless_somebody_listens() {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(check_port(port).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        // A copy of the socket with which a port was looked at keeps nobody from listening.
        let _copy = bound(port).unwrap();
        assert!(check_port(port).is_ok());
        assert!(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
        assert_ne!(free_port().unwrap(), 0);
    }

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
