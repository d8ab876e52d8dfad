//! Addresses to listen on: from configured hosts, into the log, and the errors that name them.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// A host and a port as one text, with brackets around a host that has colons itself.
pub(crate) struct HostPort<'a>(pub(crate) &'a str, pub(crate) u16);

impl fmt::Display for HostPort<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(host, port) = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Why nobody listens at an address, in nats-server's words.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// Brackets belong around an IPv6 address with a port, not around a host alone.
    #[error("listen tcp: address {address}: missing port in address")]
    Brackets { address: String },
    /// The name has no address.
    #[error("listen tcp: lookup {host}: {source}")]
    Lookup { host: String, source: io::Error },
    /// The system does not give the address.
    #[error("listen tcp {address}: bind: {}", without_number(.source))]
    Bind { address: SocketAddr, source: io::Error },
}

/// The address to listen on.
pub(crate) fn resolve(host: &str, port: u16) -> Result<SocketAddr, ListenError> {
    if host.contains(['[', ']']) {
        return Err(ListenError::Brackets { address: HostPort(host, port).to_string() });
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let failed = |source| ListenError::Lookup { host: host.to_owned(), source };
    let mut found = (host, port).to_socket_addrs().map_err(failed)?;
    found.next().ok_or_else(|| failed(io::Error::other("no such host")))
}

/// The system's text for an error, as it stands in the middle of a sentence.
fn without_number(error: &io::Error) -> String {
    let text = error.to_string();
    let number = error.raw_os_error().map(|code| format!(" (os error {code})")).unwrap_or_default();
    let text = text.strip_suffix(&number).unwrap_or(&text);
    let mut rest = text.chars();
    rest.next().map(|first| first.to_lowercase().chain(rest).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_with_colons_get_brackets() {
        for (host, expected) in
            [("::1", "[::1]:4"), ("localhost", "localhost:4"), ("127.0.0.1", "127.0.0.1:4")]
        {
            assert_eq!(HostPort(host, 4).to_string(), expected);
        }
    }

    #[test]
    fn a_host_in_brackets_is_no_address() {
        let error = resolve("[::1]", 4).unwrap_err().to_string();
        assert_eq!(error, "listen tcp: address [[::1]]:4: missing port in address");
        assert_eq!(resolve("::1", 4).unwrap().to_string(), "[::1]:4");
    }

    #[test]
    fn the_systems_reason_stands_without_its_number() {
        let source = io::Error::from_raw_os_error(98);
        let error = ListenError::Bind { address: SocketAddr::from(([127, 0, 0, 1], 4)), source };
        assert_eq!(error.to_string(), "listen tcp 127.0.0.1:4: bind: address already in use");
    }
}
