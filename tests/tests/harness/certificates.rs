use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};

/// A certificate authority that writes what it signs into a directory.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: PathBuf,
    name: String,
}

impl Authority {
    /// A new one; its certificate goes to `<name>.pem`.
    pub(crate) fn new(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(dir.join(format!("{name}.pem")), issuer.pem()).unwrap();
        Self { issuer, dir: dir.to_owned(), name: name.to_owned() }
    }

    /// File of its certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.dir.join(format!("{}.pem", self.name))
    }

    /// A certificate for this machine, as `<name>.pem` and `<name>.key`.
    pub(crate) fn server(&self, name: &str) -> rcgen::Certificate {
        let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        self.sign(name, params)
    }

    /// A client's certificate with the subject `CN=<name>,OU=dev,O=Acme`.
    pub(crate) fn client(&self, name: &str, emails: &[&str]) -> rcgen::Certificate {
        self.sign(name, client(name, emails))
    }

    /// A client's certificate with this subject.
    pub(crate) fn client_called(&self, name: &str, subject: &[(DnType, &str)]) -> rcgen::Certificate {
        let mut params = client(name, &[]);
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        self.sign(name, params)
    }

    /// A client's certificate that expired long ago.
    pub(crate) fn expired(&self, name: &str) -> rcgen::Certificate {
        let mut params = client(name, &[]);
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        self.sign(name, params)
    }

    fn sign(&self, name: &str, params: CertificateParams) -> rcgen::Certificate {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(self.dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        certificate
    }
}

fn client(name: &str, emails: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Acme");
    params.distinguished_name.push(DnType::OrganizationalUnitName, "dev");
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names =
        emails.iter().map(|email| SanType::Rfc822Name((*email).try_into().unwrap())).collect();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}
