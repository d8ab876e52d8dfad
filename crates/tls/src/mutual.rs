use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};

use crate::acceptor::{Acceptor, Settings, TlsError, provider, roots, versions};
use crate::certificates::Certificates;

/// TLS between servers: both show a certificate, and each verifies the other's.
#[derive(Clone, Debug)]
pub struct Mutual {
    /// For connections that others open.
    pub accept: Arc<ServerConfig>,
    /// For connections that are opened here.
    pub dial: Arc<ClientConfig>,
    /// When the certificate expires, in seconds since 1970.
    pub not_after: i64,
    /// Hash of everything it was made from, to tell whether another one differs.
    pub digest: [u8; 32],
}

impl Mutual {
    /// Puts the parts together. Without `verifies_servers` whoever is dialled may show any certificate.
    ///
    /// # Errors
    /// The certificates or the authorities cannot be used; there must be both.
    pub fn new(settings: &Settings, verifies_servers: bool) -> Result<Self, TlsError> {
        let authorities = settings.authorities.as_ref().ok_or(TlsError::NoAuthorities)?;
        let Acceptor { clients, not_after, digest, .. } = Acceptor::new(settings)?;
        let provider = Arc::new(provider(settings)?);
        let shown = Arc::new(Certificates::load(&settings.key_pairs, &provider)?);
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions(settings))
            .map_err(|error| TlsError::Rules(error.to_string()))?;
        let mut dial = if verifies_servers {
            builder.with_root_certificates(roots(authorities)?).with_client_cert_resolver(shown)
        } else {
            let anybody = Arc::new(Anybody(provider));
            builder.dangerous().with_custom_certificate_verifier(anybody).with_client_cert_resolver(shown)
        };
        dial.resumption = Resumption::disabled();
        Ok(Self { accept: clients, dial: Arc::new(dial), not_after, digest })
    }
}

/// Takes every certificate whose key the other side has.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
