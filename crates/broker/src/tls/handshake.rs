use std::io;

use linnet_tls::{Peer, names};
use rustls::{Connection, InvalidMessage};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::{ConnTls, Tls};
use crate::link::{How, NonBlocking, read_socket};

/// Bytes read per call while a handshake lasts.
const HANDSHAKE_READ: usize = 4096;

/// The alert of an internal error before anything is encrypted (RFC 8446, section 6; the version is that of a first record).
const INTERNAL_ERROR: [u8; 7] = [21, 3, 1, 0, 2, 2, 80];

/// Why there is no session. Texts are those nats-server logs, where it has any.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("EOF")]
    End,
    #[error("{0}")]
    Socket(#[from] io::Error),
    #[error("tls: first record does not look like a TLS handshake")]
    NoHandshake,
    #[error("tls: client didn't provide a certificate")]
    NoCertificate,
    #[error("certificate not pinned")]
    NotPinned,
    #[error("tls: {0}")]
    Tls(rustls::Error),
    #[error("i/o timeout")]
    TimedOut,
}

impl From<rustls::Error> for HandshakeError {
    fn from(error: rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NoHandshake,
            rustls::Error::NoCertificatesPresented => Self::NoCertificate,
            other => Self::Tls(other),
        }
    }
}

/// One side of a handshake. Its computations take turns at `turns`, so that many handshakes at a time leave
/// room for messages; clients that do not answer hold no turn.
pub(crate) async fn shake_hands(
    tcp: &TcpStream,
    mut tls: Connection,
    turns: &Semaphore,
) -> Result<(Tls, ConnTls), HandshakeError> {
    let mut buffer = vec![0; HANDSHAKE_READ];
    let mut rest = Vec::new();
    loop {
        flush(tcp, &mut tls).await?;
        if !tls.is_handshaking() {
            break;
        }
        let read = match read_socket(tcp, &mut buffer) {
            Ok(0) => return Err(HandshakeError::End),
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                tcp.readable().await?;
                continue;
            }
            Err(e) => return Err(e.into()),
        };
        let turn = turns.acquire().await;
        let outcome = feed(&mut tls, &buffer[..read], &mut rest);
        drop(turn);
        if let Err(error) = outcome {
            alert(tcp, &mut tls, &error);
            return Err(error);
        }
    }
    let facts = ConnTls {
        version: tls.protocol_version().map_or("", names::version_name),
        cipher_suite: tls.negotiated_cipher_suite().map_or("", |suite| names::suite_name(suite.suite())),
        is_first: false,
        peer: tls.peer_certificates().map(Peer::new),
    };
    Ok((Tls::new(tls, rest), facts))
}

/// Tells the other side why, as far as the socket takes it; to one that speaks something else it would say nothing.
fn alert(tcp: &TcpStream, tls: &mut Connection, error: &HandshakeError) {
    let mut socket = NonBlocking(tcp, How::WhenReady);
    let _ = match error {
        HandshakeError::NoHandshake => return,
        // rustls has no alert for it, Go's is this.
        HandshakeError::Tls(rustls::Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge))
            if tls.protocol_version().is_none() =>
        {
            io::Write::write(&mut socket, &INTERNAL_ERROR)
        }
        _ => tls.write_tls(&mut socket),
    };
}

/// Takes what was read as far as it belongs to the handshake; what comes behind it goes to `rest`.
fn feed(tls: &mut Connection, mut read: &[u8], rest: &mut Vec<u8>) -> Result<(), HandshakeError> {
    while !read.is_empty() && tls.is_handshaking() {
        tls.read_tls(&mut read)?;
        tls.process_new_packets()?;
    }
    rest.extend_from_slice(read);
    Ok(())
}

async fn flush(tcp: &TcpStream, tls: &mut Connection) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(&mut NonBlocking(tcp, How::WhenReady)) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => tcp.writable().await?,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
