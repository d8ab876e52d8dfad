//! TLS below a connection: the session that encrypts and decrypts, how it begins, and what the listener asks
//! of clients.

mod handshake;
mod policy;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};

use linnet_tls::Peer;
use parking_lot::Mutex;
use rustls::Connection;
use tokio::net::TcpStream;

use crate::chunk::Chunk;
use crate::link::{How, NonBlocking, Wrote, advance, read_socket, with_slices};

pub(crate) use handshake::{HandshakeError, shake_hands};
pub use policy::{HandshakeFirst, RouteTls, TlsPolicy};
pub(crate) use policy::{RateLimit, is_pinned};

/// Bytes read from the socket per call.
const READ_MAX: usize = 64 * 1024;

thread_local! {
    /// What was read and is not decrypted yet never outlives a call, except for the rest that is stashed.
    static CIPHERTEXT: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_MAX]);
}

/// What monitoring and logins know of a connection's TLS.
#[derive(Clone, Debug)]
pub struct ConnTls {
    /// Version, as `1.3`.
    pub version: &'static str,
    /// Name of the cipher suite.
    pub cipher_suite: &'static str,
    /// The handshake came before INFO.
    pub is_first: bool,
    /// The client's certificates, if it had to show one.
    pub peer: Option<Peer>,
}

/// An established session. Reader and writer take turns; neither holds it while it waits.
pub(crate) struct Tls {
    session: Mutex<Session>,
}

struct Session {
    tls: Connection,
    /// Read from the socket and not decrypted yet, because what was decrypted had no room.
    stash: Vec<u8>,
    state: State,
    /// Why it is broken.
    error: Option<rustls::Error>,
}

/// What can still come from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The client has said that nothing more comes.
    Ended,
    /// Something came that is no record of this session.
    Broken,
}

impl Tls {
    /// Over a session whose handshake is done; `stash` was read behind it.
    fn new(tls: Connection, stash: Vec<u8>) -> Self {
        Self { session: Mutex::new(Session { tls, stash, state: State::Open, error: None }) }
    }

    /// Reads as much as fits into `out`. 0 is the end.
    pub(crate) fn read(&self, tcp: &TcpStream, out: &mut [u8]) -> io::Result<usize> {
        let session = &mut *self.session.lock();
        let stash = std::mem::take(&mut session.stash);
        let mut got = session.decrypt(tcp, &stash, out)?;
        while got == 0 {
            match session.state {
                State::Open => {}
                State::Ended => return Ok(0),
                State::Broken => {
                    let error = session.error.clone().unwrap_or(rustls::Error::General(String::new()));
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            }
            let read = CIPHERTEXT.with_borrow_mut(|buffer| {
                let read = read_socket(tcp, buffer)?;
                if read > 0 {
                    got = session.decrypt(tcp, &buffer[..read], out)?;
                }
                io::Result::Ok(read)
            })?;
            if read == 0 {
                return Ok(0);
            }
        }
        Ok(got)
    }

    /// Writes as [`crate::link::Link::write`] does. What is encrypted and did not fit into the socket is written
    /// before anything else; there is never more of it than rustls buffers.
    pub(crate) fn write(
        &self,
        mut socket: NonBlocking<'_>,
        chunks: &mut VecDeque<Chunk>,
        skip: &mut usize,
    ) -> Wrote {
        loop {
            // Released at each turn, so that the reader gets its own.
            let session = &mut *self.session.lock();
            match session.flush(&mut socket) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Wrote::Blocked,
                Err(_) => return Wrote::Failed,
            }
            let is_encrypted = chunks.len() < 2 && chunks.front().is_none_or(|c| c.bytes().len() == *skip);
            if is_encrypted {
                *skip = 0;
                return Wrote::All;
            }
            match with_slices(chunks, *skip, |slices| session.tls.writer().write_vectored(slices)) {
                // The session's buffer is empty, and an empty buffer takes something.
                Ok(0) | Err(_) => return Wrote::Failed,
                Ok(taken) => advance(chunks, skip, taken),
            };
        }
    }

    /// Tells the client that nothing more comes, as far as the socket takes it.
    pub(crate) fn say_goodbye(&self, tcp: &TcpStream) {
        let session = &mut *self.session.lock();
        session.tls.send_close_notify();
        // The connection is shut down next; nobody waits for a client that reads nothing.
        let _ = session.flush(&mut NonBlocking(tcp, How::WhenReady));
    }
}

impl Session {
    /// Decrypts `ciphertext` into `out`; what has no room is kept for the next call.
    fn decrypt(&mut self, tcp: &TcpStream, mut ciphertext: &[u8], out: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        loop {
            match self.tls.reader().read(&mut out[filled..]) {
                Ok(got) => filled += got,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
            if self.state != State::Open {
                return Ok(filled);
            }
            if filled == out.len() || ciphertext.is_empty() {
                self.stash.extend_from_slice(ciphertext);
                return Ok(filled);
            }
            self.tls.read_tls(&mut ciphertext)?;
            match self.tls.process_new_packets() {
                Ok(state) if state.peer_has_closed() => self.state = State::Ended,
                Ok(_) => {}
                Err(error) => {
                    self.state = State::Broken;
                    self.error = Some(error);
                }
            }
            // An alert, or an answer to new keys; the next writer takes along what does not fit now.
            let _ = self.flush(&mut NonBlocking(tcp, How::WhenReady));
        }
    }

    /// Writes what is encrypted; `WouldBlock` if the socket is full.
    fn flush(&mut self, socket: &mut NonBlocking<'_>) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(socket)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::sync::Arc;

    use linnet_tls::{Acceptor, KeyPair, Settings};
    use rustls::pki_types::CertificateDer;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

    use super::*;

    type Client = StreamOwned<ClientConnection, std::net::TcpStream>;

    /// A session over a socket, and a client of it that waits.
    async fn pair() -> (Tls, TcpStream, Client) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let pair = KeyPair { chain: certificate.pem().into_bytes(), key: key.serialize_pem().into_bytes() };
        let acceptor = Acceptor::new(&Settings { key_pairs: vec![pair], ..Settings::default() }).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let der = certificate.der().clone();
        let client = tokio::task::spawn_blocking(move || connect(addr, der));
        let (tcp, _) = listener.accept().await.unwrap();
        let turns = tokio::sync::Semaphore::new(1);
        let (tls, facts) =
            shake_hands(&tcp, rustls::ServerConnection::new(acceptor.clients).unwrap().into(), &turns)
                .await
                .unwrap();
        assert_eq!((facts.version, facts.cipher_suite), ("1.3", "TLS_AES_128_GCM_SHA256"));
        (tls, tcp, client.await.unwrap())
    }

    fn connect(addr: std::net::SocketAddr, trusted: CertificateDer<'static>) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(trusted).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let session = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        let mut client = StreamOwned::new(session, std::net::TcpStream::connect(addr).unwrap());
        client.conn.complete_io(&mut client.sock).unwrap();
        client
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect()
    }

    #[tokio::test]
    async fn what_has_no_room_waits_for_the_next_read() {
        let (tls, tcp, mut client) = pair().await;
        let sent = pattern(300_000);
        let expected = sent.clone();
        let sending = tokio::task::spawn_blocking(move || {
            client.write_all(&sent).unwrap();
            client.conn.send_close_notify();
            client.flush().unwrap();
            client
        });
        let mut received = Vec::new();
        for size in [1, 7, 100_000, 3, 20_000].into_iter().cycle() {
            let mut out = vec![0; size];
            match tls.read(&tcp, &mut out) {
                Ok(0) => break,
                Ok(got) => received.extend_from_slice(&out[..got]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => tcp.readable().await.unwrap(),
                Err(e) => panic!("{e}"),
            }
        }
        assert!(received == expected, "{} of {} bytes", received.len(), expected.len());
        drop(sending.await.unwrap());
    }

    #[tokio::test]
    async fn a_full_socket_stops_the_writer_and_nothing_is_lost() {
        let (tls, tcp, mut client) = pair().await;
        let bytes = pattern(16 << 20);
        let mut chunks: VecDeque<Chunk> = bytes.chunks(50_000).map(|c| Chunk::Owned(c.to_vec())).collect();
        let mut skip = 0;
        assert_eq!(tls.write(NonBlocking(&tcp, How::WhenReady), &mut chunks, &mut skip), Wrote::Blocked);
        let reading = tokio::task::spawn_blocking(move || {
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap();
            all
        });
        loop {
            match tls.write(NonBlocking(&tcp, How::WhenReady), &mut chunks, &mut skip) {
                Wrote::All => break,
                Wrote::Blocked => tcp.writable().await.unwrap(),
                Wrote::Failed => panic!("the client reads"),
            }
        }
        assert_eq!(skip, 0);
        tls.say_goodbye(&tcp);
        drop(tcp);
        assert!(reading.await.unwrap() == bytes);
    }

    #[tokio::test]
    async fn what_is_no_record_is_an_error() {
        let (tls, tcp, mut client) = pair().await;
        client.sock.write_all(b"PUB a 0\r\n\r\n").unwrap();
        let error = loop {
            match tls.read(&tcp, &mut [0; 100]) {
                Ok(got) => panic!("{got} bytes"),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => tcp.readable().await.unwrap(),
                Err(e) => break e,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
