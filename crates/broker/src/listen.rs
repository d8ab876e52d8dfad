//! Listening sockets.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections the kernel holds for us before they are accepted.
const BACKLOG: i32 = 4096;

/// Listens at `addr`. A wildcard address stands for all addresses of the machine, IPv6 included, as in nats-server;
/// where there is no IPv6, for those of IPv4. Returns the address as it was given, with the port in use. Needs the
/// context of a runtime.
pub fn listen(addr: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let everywhere = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), addr.port());
    let socket = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => match open(everywhere) {
            Err(e) if e.kind() != io::ErrorKind::AddrInUse => open(addr)?,
            outcome => outcome?,
        },
        _ => open(addr)?,
    };
    let listener = TcpListener::from_std(socket.into())?;
    let port = listener.local_addr()?.port();
    Ok((listener, SocketAddr::new(addr.ip(), port)))
}

fn open(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() && addr.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// A client of IPv4 as such, although the socket is one of IPv6.
pub(crate) fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    #[tokio::test]
    async fn the_wildcard_address_is_reached_by_both_protocols() {
        let (listener, addr) = listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))).unwrap();
        assert_eq!(addr.ip(), Ipv4Addr::UNSPECIFIED);
        let has_ipv6 = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        let ways = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
        for ip in ways.into_iter().filter(|ip| ip.is_ipv4() || has_ipv6) {
            let client = TcpStream::connect((ip, addr.port())).unwrap();
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(canonical(peer), client.local_addr().unwrap());
        }
    }

    #[tokio::test]
    async fn a_port_in_use_is_refused() {
        let (_listener, addr) = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        assert_eq!(listen(addr).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
