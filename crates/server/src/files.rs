//! The pid file and the ports file (configuration, "Files").

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
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
    let mut all: Vec<IpAddr> = vec![IpAddr::from([127, 0, 0, 1])];
    for ip in ipv4(&table("fib_trie")).into_iter().chain(ipv6(&table("if_inet6"))) {
        if !all.contains(&ip) {
            all.push(ip);
        }
    }
    all.into_iter().map(|ip| SocketAddr::new(ip, addr.port())).collect()
}

/// A table of the kernel's network; empty where there is none, as that of IPv6 without IPv6.
fn table(name: &str) -> String {
    fs::read_to_string(Path::new("/proc/net").join(name)).unwrap_or_default()
}

/// Local addresses in the routing table: every `/32 host LOCAL` line follows the line with its address.
fn ipv4(table: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut last: Option<IpAddr> = None;
    for line in table.lines().map(str::trim) {
        if let Some(ip) = line.strip_prefix("|-- ") {
            last = ip.parse().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(last);
        }
    }
    found
}

/// Addresses of the interfaces: every line begins with one, as 32 hexadecimal digits; that of the machine itself comes
/// first.
fn ipv6(table: &str) -> Vec<IpAddr> {
    let address = |line: &str| u128::from_str_radix(line.split_whitespace().next()?, 16).ok();
    let mut found: Vec<Ipv6Addr> = table.lines().filter_map(address).map(Ipv6Addr::from_bits).collect();
    found.sort_by_key(|ip| !ip.is_loopback());
    found.into_iter().map(IpAddr::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_both_protocols_and_an_address_for_itself() {
        let urls = expand(SocketAddr::from(([0, 0, 0, 0], 4)));
        assert_eq!(urls[0], SocketAddr::from(([127, 0, 0, 1], 4)));
        let has_ipv6 = !table("if_inet6").is_empty();
        assert_eq!(urls.contains(&SocketAddr::from((Ipv6Addr::LOCALHOST, 4))), has_ipv6);
        assert_eq!(expand(urls[0]), [urls[0]]);
    }

    #[test]
    fn the_kernels_tables_are_understood() {
        let routes = "  +-- 127.0.0.0/8 2 0 2\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 127.255.255.255\n        \
                      /32 link BROADCAST\n     |-- 192.0.2.2\n        /32 host LOCAL\n";
        assert_eq!(ipv4(routes), ["127.0.0.1", "192.0.2.2"].map(|ip| ip.parse::<IpAddr>().unwrap()));
        let interfaces = "fd000000000000000000000000000002 04 40 00 82     eth0\n\
                          00000000000000000000000000000001 01 80 10 80       lo\nnonsense\n";
        assert_eq!(ipv6(interfaces), ["::1", "fd00::2"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    }
}
