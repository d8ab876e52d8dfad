use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::LONG;

/// How a test speaks TLS.
pub(crate) struct TlsClient {
    config: Arc<ClientConfig>,
}

/// A TLS connection that sends and receives bytes as they are.
pub(crate) struct Secure {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

impl TlsClient {
    /// Trusts this authority and shows `<name>.pem` of the directory, if a name is given.
    pub(crate) fn new(authority: &Path, shown: Option<(&Path, &str)>) -> Self {
        Self::speaking(&[&rustls::version::TLS13, &rustls::version::TLS12], authority, shown)
    }

    /// As [`TlsClient::new`], with these versions only.
    pub(crate) fn speaking(
        versions: &[&'static SupportedProtocolVersion],
        authority: &Path,
        shown: Option<(&Path, &str)>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match shown {
            None => builder.with_no_client_auth(),
            Some((dir, name)) => {
                let chain = vec![CertificateDer::from_pem_file(dir.join(format!("{name}.pem"))).unwrap()];
                let key = PrivateKeyDer::from_pem_file(dir.join(format!("{name}.key"))).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        Self { config: Arc::new(config) }
    }

    /// Reads INFO in plain text, then begins TLS.
    pub(crate) fn connect(&self, addr: SocketAddr) -> io::Result<(String, Secure)> {
        let mut plain = TcpStream::connect_timeout(&addr, LONG)?;
        plain.set_read_timeout(Some(LONG))?;
        let mut info = Vec::new();
        let mut byte = [0];
        while plain.read(&mut byte)? == 1 && byte != *b"\n" {
            info.extend_from_slice(&byte);
        }
        Ok((String::from_utf8_lossy(&info).into_owned(), self.over(plain)?))
    }

    /// Begins TLS at once.
    pub(crate) fn connect_first(&self, addr: SocketAddr) -> io::Result<Secure> {
        let plain = TcpStream::connect_timeout(&addr, LONG)?;
        plain.set_read_timeout(Some(LONG))?;
        self.over(plain)
    }

    fn over(&self, plain: TcpStream) -> io::Result<Secure> {
        let name = "localhost".try_into().unwrap();
        let session = ClientConnection::new(self.config.clone(), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(session, plain);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Secure { stream: BufReader::new(stream) })
    }
}

impl Secure {
    /// Sends bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)?;
        self.stream.get_mut().flush()
    }

    /// The next line without its end; `None` at the end.
    pub(crate) fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line)?;
        Ok((read > 0).then(|| line.trim_end().to_owned()))
    }

    /// Everything until the server closes the connection.
    pub(crate) fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        // A server may cut the connection without saying so.
        let _ = self.stream.read_to_end(&mut rest);
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// Logs in with these fields of CONNECT; what the server answers to a PING.
    pub(crate) fn login(&mut self, fields: &str) -> io::Result<Option<String>> {
        self.send(
            format!("CONNECT {{\"verbose\":false,\"pedantic\":false{fields}}}\r\nPING\r\n").as_bytes(),
        )?;
        self.line()
    }

    /// Version of the session.
    pub(crate) fn version(&self) -> rustls::ProtocolVersion {
        self.stream.get_ref().conn.protocol_version().unwrap()
    }

    /// Cipher suite of the session.
    pub(crate) fn suite(&self) -> rustls::CipherSuite {
        self.stream.get_ref().conn.negotiated_cipher_suite().unwrap().suite()
    }

    /// The server's certificate.
    pub(crate) fn certificate(&self) -> Vec<u8> {
        self.stream.get_ref().conn.peer_certificates().unwrap()[0].to_vec()
    }
}
