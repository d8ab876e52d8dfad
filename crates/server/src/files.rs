//! The pid file and the ports file (configuration, "Files").

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
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

/// A wildcard address stands for every address of the machine.
fn expand(addr: SocketAddr) -> Vec<SocketAddr> {
    if !addr.ip().is_unspecified() {
        return vec![addr];
    }
    let mut all: Vec<IpAddr> = vec![IpAddr::from([127, 0, 0, 1])];
    // The kernel's table of local addresses; every `/32 host LOCAL` line follows the line with its address.
    if let Ok(table) = fs::read_to_string("/proc/net/fib_trie") {
        let mut last = None;
        for line in table.lines() {
            let line = line.trim();
            if let Some(ip) = line.strip_prefix("|-- ") {
                last = ip.parse::<IpAddr>().ok();
            } else if line == "/32 host LOCAL"
                && let Some(ip) = last
                && !all.contains(&ip)
            {
                all.push(ip);
            }
        }
    }
    all.into_iter().map(|ip| SocketAddr::new(ip, addr.port())).collect()
}
