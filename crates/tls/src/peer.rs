use std::sync::Arc;

use linnet_auth::CertificateNames;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use crate::subject::{Attribute, Subject};

/// What the certificates of a client say.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// As they were sent, the client's own first.
    pub certificates: Vec<PeerCertificate>,
    /// Names in the client's own.
    pub names: Arc<CertificateNames>,
}

/// One certificate, for monitoring and pinning.
#[derive(Clone, Debug)]
pub struct PeerCertificate {
    /// Subject as text.
    pub subject: String,
    /// SHA-256 of its public key with the key's algorithm.
    pub spki_sha256: [u8; 32],
    /// SHA-256 of the whole.
    pub cert_sha256: [u8; 32],
}

impl Peer {
    /// Reads a chain that has been verified. What cannot be read is left out, and so matches nothing.
    pub fn new(chain: &[CertificateDer<'_>]) -> Self {
        let parsed = chain.iter().filter_map(|der| {
            let (_, cert) = X509Certificate::from_der(der).ok()?;
            Some((der, cert))
        });
        let mut peer = Self::default();
        for (n, (der, cert)) in parsed.enumerate() {
            let subject = subject(cert.subject());
            if n == 0 {
                peer.names = Arc::new(CertificateNames {
                    alternatives: alternatives(&cert),
                    subject: subject.named_text(),
                    dn: subject.dn(),
                });
            }
            peer.certificates.push(PeerCertificate {
                subject: subject.full_text(),
                spki_sha256: Sha256::digest(cert.tbs_certificate.subject_pki.raw).into(),
                cert_sha256: Sha256::digest(der).into(),
            });
        }
        peer
    }
}

/// When a certificate expires, in seconds since 1970.
pub(crate) fn not_after(der: &CertificateDer<'_>) -> Option<i64> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    Some(cert.validity().not_after.timestamp())
}

/// E-mail addresses, DNS names, URIs.
fn alternatives(cert: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = cert.subject_alternative_name() else { return Vec::new() };
    let names = &extension.value.general_names;
    let pick = |choose: fn(&GeneralName<'_>) -> Option<String>| names.iter().filter_map(choose);
    let emails = pick(|name| match name {
        GeneralName::RFC822Name(text) => Some((*text).to_owned()),
        _ => None,
    });
    let hosts = pick(|name| match name {
        GeneralName::DNSName(text) => Some((*text).to_owned()),
        _ => None,
    });
    let uris = pick(|name| match name {
        GeneralName::URI(text) => Some((*text).to_owned()),
        _ => None,
    });
    emails.chain(hosts).chain(uris).collect()
}

fn subject(name: &X509Name<'_>) -> Subject {
    Subject(name.iter().map(|part| part.iter().map(attribute).collect()).collect())
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> Attribute {
    let value = match attribute.as_str() {
        Ok(text) => text.to_owned(),
        Err(_) => format!("#{}", hex(attribute.as_slice())),
    };
    Attribute { oid: attribute.attr_type().to_id_string(), value }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use linnet_auth::Dn;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    fn peer(names: Vec<SanType>, subject: &[(DnType, &str)]) -> Peer {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.subject_alt_names = names;
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Peer::new(&[certificate.der().clone()])
    }

    #[test]
    fn names_come_in_the_order_in_which_they_are_tried() {
        let names = vec![
            SanType::URI("spiffe://acme/joe".try_into().unwrap()),
            SanType::DnsName("joe.acme".try_into().unwrap()),
            SanType::Rfc822Name("joe@acme".try_into().unwrap()),
        ];
        let subject = [(DnType::OrganizationName, "Acme, Inc."), (DnType::CommonName, "joe")];
        let peer = peer(names, &subject);
        assert_eq!(peer.names.alternatives, ["joe@acme", "joe.acme", "spiffe://acme/joe"]);
        assert_eq!(peer.names.subject, "CN=joe,O=Acme\\, Inc.");
        assert_eq!(peer.names.dn, Dn::parse("CN=joe,O=Acme\\, Inc."));
        assert_eq!(peer.certificates[0].subject, peer.names.subject);
    }

    #[test]
    fn nothing_is_no_name() {
        let nobody = peer(Vec::new(), &[]);
        assert!(nobody.names.alternatives.is_empty() && nobody.names.dn.is_none());
        assert!(Peer::new(&[CertificateDer::from(vec![1, 2, 3])]).certificates.is_empty());
    }
}
