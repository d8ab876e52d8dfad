use crate::dn::Dn;

/// The names a client's certificate carries, for [`crate::Authenticator::mapping_certificates`].
#[derive(Clone, Debug, Default)]
pub struct CertificateNames {
    /// E-mail addresses, then DNS names, then URIs.
    pub alternatives: Vec<String>,
    /// The subject as text, without attributes that have no names.
    pub subject: String,
    /// The subject, to be compared with names of users in any order; `None` if it is empty
    /// or cannot be the name of a user.
    pub dn: Option<Dn>,
}
