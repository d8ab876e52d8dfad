//! The pid file and the ports file (configuration, "Files").

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Writes the process id without a newline, as reloaders read it.
pub(crate) fn write_pid(path: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(std::process::id().to_string().as_bytes())
}

/// Writes where the server listens, each address with its scheme; the file is named after the program and the process id.
pub(crate) fn write_ports(
    dir: &str,
    clients: (&str, SocketAddr),
    monitoring: Option<(&str, SocketAddr)>,
    routes: Option<SocketAddr>,
) -> io::Result<PathBuf> {
    let program = std::env::args_os().next().map(PathBuf::from);
    let name = program.as_deref().and_then(Path::file_name).and_then(|n| n.to_str()).unwrap_or("nats-server");
    let path = Path::new(dir).join(format!("{name}_{}.ports", std::process::id()));
    let list = |scheme: &str, addr: SocketAddr| {
        let urls: Vec<String> = expand(addr).into_iter().map(|a| format!("\"{scheme}://{a}\"")).collect();
        urls.join(",")
    };
    let mut json = format!("{{\"nats\":[{}]", list(clients.0, clients.1));
    if let Some((scheme, addr)) = monitoring {
        json.push_str(&format!(",\"monitoring\":[{}]", list(scheme, addr)));
    }
    if let Some(addr) = routes {
        json.push_str(&format!(",\"cluster\":[{}]", list("nats", addr)));
    }
    json.push('}');
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&path)?;
    file.write_all(json.as_bytes())?;
    Ok(path)
}

/// Removes the ports file; it may be gone already.
pub(crate) fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}

/// A wildcard address stands for every address of the machine, whichever protocol it is written in.
fn expand(addr: SocketAddr) -> Vec<SocketAddr> {
    if !addr.ip().is_unspecified() {
        return vec![addr];
    }
    addresses().into_iter().map(|ip| SocketAddr::new(ip, addr.port())).collect()
}

/// Addresses of the machine: those of IPv4 before those of IPv6, the machine's own before others.
pub(crate) fn addresses() -> Vec<IpAddr> {
    // A machine that does not tell still reaches itself.
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let mut all = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    all.extend(interfaces.iter().map(if_addrs::Interface::ip));
    all.sort_by_key(|ip| (ip.is_ipv6(), !ip.is_loopback()));
    let mut seen = HashSet::new();
    all.retain(|ip| seen.insert(*ip));
    all
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn a_wildcard_stands_for_both_protocols_and_an_address_for_itself() {
        let urls = expand(SocketAddr::from(([0, 0, 0, 0], 4)));
        assert_eq!(urls[0], SocketAddr::from(([127, 0, 0, 1], 4)));
        let has_ipv6 = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        assert_eq!(urls.contains(&SocketAddr::from((Ipv6Addr::LOCALHOST, 4))), has_ipv6);
        assert!(urls.is_sorted_by_key(|url| url.is_ipv6()));
        assert_eq!(expand(urls[0]), [urls[0]]);
    }
}
