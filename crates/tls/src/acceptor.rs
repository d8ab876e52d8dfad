use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use sha2::{Digest, Sha256};

use crate::certificates::{Certificates, KeyPair, certificates};
use crate::names;

/// What TLS of a listener needs.
#[derive(Clone, Default)]
pub struct Settings {
    /// Certificates of the server, at least one.
    pub key_pairs: Vec<KeyPair>,
    /// Ask clients for certificates of these authorities and refuse clients without one.
    pub authorities: Option<Authorities>,
    /// Oldest version to speak.
    pub min_version: Version,
    /// Suites for TLS 1.2 by name; none for all. Those of 1.3 cannot be chosen, as in nats-server.
    pub cipher_suites: Vec<String>,
    /// Curves by name in order of preference; none for all.
    pub curves: Vec<String>,
}

/// Who signs certificates of clients.
#[derive(Clone)]
pub enum Authorities {
    /// Those of this PEM file.
    Pem(Vec<u8>),
    /// Those the machine trusts.
    Machine(Vec<CertificateDer<'static>>),
}

impl Authorities {
    /// Whether they can be used.
    pub fn check(&self) -> Result<(), TlsError> {
        roots(self).map(drop)
    }
}

/// Versions of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// 1.2
    #[default]
    Tls12,
    /// 1.3
    Tls13,
}

/// Why there can be no TLS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// Nothing to show to clients.
    #[error("no certificate: 'cert_file' and 'key_file' are missing in TLS configuration")]
    NoCertificate,
    /// A certificate or a key that cannot be used.
    #[error("error parsing X509 certificate/key pair: {0}")]
    Certificate(String),
    /// The file of authorities has none.
    #[error("failed to parse root ca certificate")]
    Authorities,
    /// No authority is known at all.
    #[error("no certificate authority to verify clients with: 'ca_file' is missing and the machine has none")]
    NoAuthorities,
    /// A suite this server does not have.
    #[error("cipher suite {0} is not supported")]
    Suite(String),
    /// A curve this server does not have.
    #[error("curve {0} is not supported")]
    Curve(String),
    /// The parts do not fit together.
    #[error("{0}")]
    Rules(String),
}

/// TLS of a server, ready to be used.
#[derive(Clone, Debug)]
pub struct Acceptor {
    /// For clients.
    pub clients: Arc<ServerConfig>,
    /// For monitoring pages, which ask nobody for a certificate.
    pub pages: Arc<ServerConfig>,
    /// When the certificate expires, in seconds since 1970.
    pub not_after: i64,
    /// Hash of everything it was made from, to tell whether another one differs.
    pub digest: [u8; 32],
}

impl Acceptor {
    /// Puts the parts together.
    pub fn new(settings: &Settings) -> Result<Self, TlsError> {
        let provider = Arc::new(provider(settings)?);
        let shown = Arc::new(Certificates::load(&settings.key_pairs, &provider)?);
        let rules = |error: rustls::Error| TlsError::Rules(error.to_string());
        let builder = || {
            ServerConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(&versions(settings))
                .map_err(rules)
        };
        let pages = builder()?.with_no_client_auth().with_cert_resolver(shown.clone());
        let clients = match &settings.authorities {
            None => builder()?.with_no_client_auth().with_cert_resolver(shown.clone()),
            Some(authorities) => {
                let roots = Arc::new(roots(authorities)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
                    .build()
                    .map_err(|error| TlsError::Rules(error.to_string()))?;
                builder()?.with_client_cert_verifier(verifier).with_cert_resolver(shown.clone())
            }
        };
        Ok(Self {
            clients: Arc::new(without_resumption(clients)),
            pages: Arc::new(without_resumption(pages)),
            not_after: shown.not_after,
            digest: digest(settings),
        })
    }
}

fn digest(settings: &Settings) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update(bytes.len().to_be_bytes());
        hash.update(bytes);
    };
    for pair in &settings.key_pairs {
        add(&pair.chain);
        add(&pair.key);
    }
    match &settings.authorities {
        None => {}
        Some(Authorities::Pem(pem)) => add(pem),
        Some(Authorities::Machine(all)) => all.iter().for_each(|cert| add(cert)),
    }
    let rules = (settings.min_version, &settings.cipher_suites, &settings.curves);
    add(format!("{rules:?}").as_bytes());
    hash.finalize().into()
}

/// Every connection proves itself anew: what was verified under one set of authorities does not count under another,
/// and nothing is kept for clients that may never come back.
fn without_resumption(mut config: ServerConfig) -> ServerConfig {
    // Ours puts the cheap ones first.
    config.ignore_client_order = true;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

/// Versions to speak.
pub(crate) fn versions(settings: &Settings) -> Vec<&'static SupportedProtocolVersion> {
    match settings.min_version {
        Version::Tls12 => vec![&rustls::version::TLS13, &rustls::version::TLS12],
        Version::Tls13 => vec![&rustls::version::TLS13],
    }
}

pub(crate) fn provider(settings: &Settings) -> Result<CryptoProvider, TlsError> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites = names::suites().collect();
    if !settings.cipher_suites.is_empty() {
        provider.cipher_suites.retain(|suite| suite.tls13().is_some());
        for name in &settings.cipher_suites {
            let suite = names::suite(name).ok_or_else(|| TlsError::Suite(name.clone()))?;
            if suite.tls13().is_none() {
                provider.cipher_suites.push(suite);
            }
        }
    }
    if !settings.curves.is_empty() {
        let curve = |name: &String| names::curve(name).ok_or_else(|| TlsError::Curve(name.clone()));
        provider.kx_groups = settings.curves.iter().map(curve).collect::<Result<_, _>>()?;
    }
    Ok(provider)
}

pub(crate) fn roots(authorities: &Authorities) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Authorities::Pem(pem) => {
            let found = certificates(pem).map_err(|()| TlsError::Authorities)?;
            if found.is_empty() {
                return Err(TlsError::Authorities);
            }
            for cert in found {
                roots.add(cert).map_err(|_| TlsError::Authorities)?;
            }
        }
        Authorities::Machine(found) => {
            // What the machine trusts is not ours to judge.
            roots.add_parsable_certificates(found.iter().cloned());
            if roots.is_empty() {
                return Err(TlsError::NoAuthorities);
            }
        }
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair as Key};

    use super::*;

    fn settings() -> Settings {
        let key = Key::generate().unwrap();
        let certificate = CertificateParams::new(["a".to_owned()]).unwrap().self_signed(&key).unwrap();
        let pair = KeyPair { chain: certificate.pem().into_bytes(), key: key.serialize_pem().into_bytes() };
        Settings { key_pairs: vec![pair], ..Settings::default() }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let error = |settings: &Settings| Acceptor::new(settings).unwrap_err().to_string();
        assert_eq!(error(&Settings::default()), TlsError::NoCertificate.to_string());
        let (mut mixed, other) = (settings(), settings());
        mixed.key_pairs[0].key.clone_from(&other.key_pairs[0].key);
        let prefix = "error parsing X509 certificate/key pair: tls: ";
        assert_eq!(error(&mixed), format!("{prefix}private key does not match public key"));
        mixed.key_pairs[0].chain.clear();
        assert_eq!(error(&mixed), format!("{prefix}failed to find any PEM data in certificate input"));
        let pem = Some(Authorities::Pem(b"nothing".to_vec()));
        assert_eq!(
            error(&Settings { authorities: pem, ..settings() }),
            "failed to parse root ca certificate"
        );
        let none = Some(Authorities::Machine(Vec::new()));
        assert_eq!(error(&Settings { authorities: none, ..settings() }), TlsError::NoAuthorities.to_string());
    }

    #[test]
    fn the_digest_tells_whether_anything_differs() {
        let digest = |settings: &Settings| Acceptor::new(settings).unwrap().digest;
        let one = settings();
        assert_eq!(digest(&one), digest(&one));
        assert_ne!(digest(&one), digest(&settings()));
        assert_ne!(digest(&one), digest(&Settings { min_version: Version::Tls13, ..one.clone() }));
    }
}
