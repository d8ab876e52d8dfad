use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::{ResolvesClientCert, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::TlsError;
use crate::peer;

/// A certificate chain and its key, as PEM.
#[derive(Clone)]
pub struct KeyPair {
    /// The server's certificate first, then those that lead to an authority.
    pub chain: Vec<u8>,
    /// The private key of the first certificate.
    pub key: Vec<u8>,
}

/// The certificates of the server.
#[derive(Debug)]
pub(crate) struct Certificates {
    all: Vec<Arc<CertifiedKey>>,
    /// When the first one expires, in seconds since 1970.
    pub(crate) not_after: i64,
}

impl Certificates {
    pub(crate) fn load(pairs: &[KeyPair], provider: &CryptoProvider) -> Result<Self, TlsError> {
        let all = pairs.iter().map(|pair| certified(pair, provider)).collect::<Result<Vec<_>, _>>()?;
        let first = all.first().and_then(|key| key.cert.first()).ok_or(TlsError::NoCertificate)?;
        let not_after = peer::not_after(first)
            .ok_or_else(|| TlsError::Certificate("x509: malformed certificate".into()))?;
        Ok(Self { all, not_after })
    }
}

fn certified(pair: &KeyPair, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
    let bad = |why: &str| TlsError::Certificate(why.to_owned());
    let chain = certificates(&pair.chain).map_err(|()| bad("tls: failed to parse certificate PEM data"))?;
    if chain.is_empty() {
        return Err(bad("tls: failed to find any PEM data in certificate input"));
    }
    let key = PrivateKeyDer::from_pem_slice(&pair.key)
        .map_err(|_| bad("tls: failed to find any PEM data in key input"))?;
    let key =
        provider.key_provider.load_private_key(key).map_err(|_| bad("tls: failed to parse private key"))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(Arc::new(certified))
        }
        Err(rustls::Error::InconsistentKeys(_)) => Err(bad("tls: private key does not match public key")),
        Err(error) => Err(bad(&format!("x509: {error}"))),
    }
}

/// Every certificate of a PEM file.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ()> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| ())
}

impl ResolvesServerCert for Certificates {
    /// The first that is for the name the client asks for, else the first the client can use at all.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let asked = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let named = |key: &&Arc<CertifiedKey>| {
            let parsed = key.cert.first().and_then(|cert| ParsedCertificate::try_from(cert).ok());
            parsed.zip(asked.as_ref()).is_some_and(|(cert, name)| verify_server_name(&cert, name).is_ok())
        };
        let usable = || self.all.iter().filter(fits);
        usable().find(named).or_else(|| usable().next()).cloned()
    }
}

impl ResolvesClientCert for Certificates {
    /// The first that the other server can use.
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.all.iter().find(|key| key.key.choose_scheme(schemes).is_some()).cloned()
    }

    fn has_certs(&self) -> bool {
        !self.all.is_empty()
    }
}
