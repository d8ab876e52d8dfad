use std::collections::BTreeSet;
use std::time::Duration;

use crate::lang::{Position, Value};
use crate::read;
use crate::report::Report;
use crate::table::{Field, Row, Table, key, not_yet, unknown_field};

/// TLS of a listener. Files are named here and read by whoever listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Where the block stands.
    pub at: Place,
    /// The block was put together from flags.
    pub from_flags: bool,
    /// File of the server's certificate and those that lead to an authority.
    pub cert_file: Option<String>,
    /// File of its private key.
    pub key_file: Option<String>,
    /// Several certificates instead of one.
    pub certs: Vec<CertificateFiles>,
    /// File of the authorities that sign certificates of clients; the machine's if not set.
    pub ca_file: Option<String>,
    /// Refuse clients without a valid certificate.
    pub verify: bool,
    /// As `verify`, and the certificate says which user the client is.
    pub verify_and_map: bool,
    /// Do not verify servers when connecting to them.
    pub insecure: bool,
    /// Suites for TLS 1.2; empty for all.
    pub cipher_suites: Vec<String>,
    /// Curves in order of preference; empty for all.
    pub curve_preferences: Vec<String>,
    /// Suites with known weaknesses may be named.
    pub allow_insecure_cipher_suites: bool,
    /// Oldest version to speak.
    pub min_version: TlsVersion,
    /// Time for a handshake.
    pub timeout: Duration,
    /// Whether the handshake comes before INFO.
    pub handshake_first: HandshakeFirst,
    /// New connections per second; `None` for no limit.
    pub connection_rate_limit: Option<u32>,
    /// SHA-256 of the public keys that clients may have, in lower hex; `None` for any.
    pub pinned_certs: Option<BTreeSet<String>>,
}

/// A place in a configuration file. All are equal: moving a block changes nothing.
#[derive(Clone, Debug, Default)]
pub struct Place(pub Option<Position>);

impl PartialEq for Place {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Place {}

/// Files of one certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and those that lead to an authority.
    pub cert_file: String,
    /// Its private key.
    pub key_file: String,
}

/// Versions of TLS that can be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2
    #[default]
    Tls12,
    /// 1.3
    Tls13,
}

/// Whether a client's handshake comes before INFO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HandshakeFirst {
    /// INFO comes first, in plain text.
    #[default]
    No,
    /// The handshake comes first.
    Yes,
    /// The handshake comes first if it begins within this time.
    Within(Duration),
}

/// How long `auto` waits for a handshake.
pub const HANDSHAKE_FIRST_AUTO: Duration = Duration::from_millis(50);

impl Default for Tls {
    fn default() -> Self {
        Self {
            at: Place(None),
            from_flags: false,
            cert_file: None,
            key_file: None,
            certs: Vec::new(),
            ca_file: None,
            verify: false,
            verify_and_map: false,
            insecure: false,
            cipher_suites: Vec::new(),
            curve_preferences: Vec::new(),
            allow_insecure_cipher_suites: false,
            min_version: TlsVersion::default(),
            timeout: Duration::from_secs(2),
            handshake_first: HandshakeFirst::No,
            connection_rate_limit: None,
            pinned_certs: None,
        }
    }
}

impl Tls {
    /// Whether clients have to show a certificate.
    pub fn verifies(&self) -> bool {
        self.verify || self.verify_and_map
    }

    /// Every certificate with its key.
    pub fn certificates(&self) -> Vec<CertificateFiles> {
        let single = self.cert_file.clone().zip(self.key_file.clone());
        let single = single.map(|(cert_file, key_file)| CertificateFiles { cert_file, key_file });
        single.into_iter().chain(self.certs.iter().cloned()).collect()
    }
}

pub(crate) const TABLE: Table<Tls> = Table { section: "tls", rows: &[KEYS], unknown };

fn unknown(key: &str) -> String {
    format!("error parsing tls config, {}", unknown_field(key))
}

const KEYS: &[Row<Tls>] = &[
    key!(["cert_file"], "path", "", Live, cert_file => cert_file, "File of the server's certificate chain, as PEM."),
    key!(["key_file"], "path", "", Live, key_file => key_file, "File of the certificate's private key, as PEM."),
    key!(
        ["certs", "certificates"],
        "array of maps",
        "",
        Live,
        certs = certs,
        "Several certificates, each with cert_file and key_file; the name a client asks for chooses."
    ),
    key!(["ca_file"], "path", "(the machine's authorities)", Live, ca_file => ca_file,
        "File of the authorities that sign certificates of clients, as PEM."),
    key!(
        ["verify"],
        "boolean",
        "false",
        Live,
        verify = read::boolean,
        "Refuse clients without a valid certificate."
    ),
    key!(
        ["verify_and_map"],
        "boolean",
        "false",
        Refused,
        verify_and_map = read::boolean,
        "As verify, and the names in the certificate say which user the client is."
    ),
    key!(
        ["insecure"],
        "boolean",
        "false",
        Live,
        insecure = read::boolean,
        "Do not verify servers when connecting to them; without effect for clients."
    ),
    key!(
        ["cipher_suites"],
        "array of names",
        "",
        Live,
        cipher_suites = cipher_suites,
        "Cipher suites for TLS 1.2; those of TLS 1.3 cannot be chosen."
    ),
    key!(
        ["curve_preferences"],
        "array of names",
        "",
        Live,
        curve_preferences = curves,
        "Curves of the key exchange in order of preference."
    ),
    key!(
        ["allow_insecure_cipher_suites"],
        "boolean",
        "false",
        Live,
        allow_insecure_cipher_suites = read::boolean,
        "Allow suites with known weaknesses in cipher_suites; this server has none of them."
    ),
    key!(
        ["min_version"],
        "1.2 or 1.3",
        "1.2",
        Live,
        min_version = min_version,
        "Oldest version of TLS to speak."
    ),
    key!(
        ["timeout"],
        "seconds or duration",
        "2",
        Live,
        timeout = timeout,
        "Time a client has for its handshake."
    ),
    key!(
        ["handshake_first", "first", "immediate"],
        "boolean, auto or duration",
        "false",
        Live,
        handshake_first = handshake_first,
        "Whether the handshake comes before INFO; auto or a duration accepts both."
    ),
    key!(
        ["connection_rate_limit"],
        "integer",
        "",
        Refused,
        connection_rate_limit = rate_limit,
        "New connections per second."
    ),
    key!(
        ["pinned_certs"],
        "array of hashes",
        "",
        Live,
        pinned_certs = pinned_certs,
        "SHA-256 of the public keys that clients may have."
    ),
    not_yet!(["ocsp_peer"], Live, "Ask whether a client's certificate has been revoked."),
    not_yet!(["cert_store"], Live, "Take the certificate from the store of Windows."),
    not_yet!(["cert_match_by"], Live, "How to look for the certificate in the store of Windows."),
    not_yet!(["cert_match"], Live, "What to look for in the store of Windows."),
    not_yet!(["cert_match_skip_invalid"], Live, "Pass over invalid certificates in the store of Windows."),
    not_yet!(["ca_certs_match"], Live, "Authorities to take from the store of Windows."),
    not_yet!(["verify_cert_and_check_known_urls"], Live, "Only for connections between servers."),
];

fn path(field: &Field<'_>, report: &mut Report) -> Option<String> {
    read::string(field, report).filter(|p| !p.is_empty())
}

fn cert_file(tls: &mut Tls, field: &Field<'_>, report: &mut Report) {
    tls.cert_file = path(field, report);
}

fn key_file(tls: &mut Tls, field: &Field<'_>, report: &mut Report) {
    tls.key_file = path(field, report);
}

fn ca_file(tls: &mut Tls, field: &Field<'_>, report: &mut Report) {
    tls.ca_file = path(field, report);
}

/// Reads a block; `None` if it is no map. A block that contradicts itself has been reported.
pub(crate) fn read(field: &Field<'_>, report: &mut Report) -> Option<Tls> {
    let map = read::map(field, report)?;
    let errors = report.errors.len();
    let mut tls = Tls { at: Place(Some(field.at.clone())), ..Tls::default() };
    TABLE.read(map, &mut tls, report);
    if report.errors.len() == errors
        && let Some(problem) = contradiction(&tls)
    {
        report.error(field.at, problem);
    }
    Some(tls)
}

fn contradiction(tls: &Tls) -> Option<String> {
    let text = match (&tls.cert_file, &tls.key_file) {
        (Some(_), None) => "missing 'key_file' in TLS configuration",
        (None, Some(_)) => "missing 'cert_file' in TLS configuration",
        (Some(_), Some(_)) if !tls.certs.is_empty() => {
            "error parsing tls config, cannot combine 'cert_file' option with 'certs' option"
        }
        (None, None) if tls.certs.is_empty() => {
            "no certificate: 'cert_file' and 'key_file' are missing in TLS configuration"
        }
        _ => {
            let insecure = tls.cipher_suites.iter().find(|name| INSECURE_SUITES.contains(&name.as_str()))?;
            return Some(if tls.allow_insecure_cipher_suites {
                format!("cipher suite {insecure} is not supported: it has known weaknesses")
            } else {
                format!(
                    "insecure cipher suites configured without 'allow_insecure_cipher_suites' option set: {insecure}"
                )
            });
        }
    };
    Some(text.to_owned())
}

fn certs(field: &Field<'_>, report: &mut Report) -> Option<Vec<CertificateFiles>> {
    const INCOMPLETE: &str =
        "error parsing certificates config: both 'cert_file' and 'cert_key' options are required";
    let Value::Array(items) = field.value else {
        report.mismatch(field, "an array of certificates");
        return None;
    };
    let mut all = Vec::new();
    for item in items {
        let Value::Map(map) = &item.value else {
            report.error(
                &item.at,
                format!("error parsing certificates config: unsupported type {}", item.value.kind()),
            );
            continue;
        };
        let mut files = CertificateFiles::default();
        for entry in map.in_order() {
            let inner = Field { name: &entry.key, at: &entry.at, value: &entry.node.value };
            match entry.key.to_lowercase().as_str() {
                "cert_file" => files.cert_file = read::string(&inner, report).unwrap_or_default(),
                "key_file" => files.key_file = read::string(&inner, report).unwrap_or_default(),
                name if !entry.used => {
                    report
                        .error(&entry.at, format!("error parsing tls certs config, unknown field {name:?}"));
                }
                _ => {}
            }
        }
        if files.cert_file.is_empty() || files.key_file.is_empty() {
            report.error(&item.at, INCOMPLETE);
        }
        all.push(files);
    }
    Some(all)
}

/// The names of an array that must not be empty, with their positions.
fn names<'a>(field: &Field<'a>, report: &mut Report) -> Option<Vec<(&'a str, &'a Position)>> {
    let Value::Array(items) = field.value else {
        report.mismatch(field, "an array of names");
        return None;
    };
    if items.is_empty() {
        report.error(field.at, format!("error parsing tls config, '{}' cannot be empty", field.name));
        return None;
    }
    let mut names = Vec::new();
    for item in items {
        match &item.value {
            Value::String(name) => names.push((name.as_str(), &item.at)),
            other => {
                report.error(&item.at, format!("{}: expected a name, found {}", field.name, other.kind()))
            }
        }
    }
    Some(names)
}

/// Suites this server has.
const SUITES: &[&str] = &[
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

/// Suites nats-server has beside those.
const OTHER_SUITES: &[&str] = &[
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
];

/// Suites nats-server takes only if it is told that weak ones are fine.
const INSECURE_SUITES: &[&str] = &[
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_RC4_128_SHA",
];

fn cipher_suites(field: &Field<'_>, report: &mut Report) -> Option<Vec<String>> {
    let mut suites = Vec::new();
    for (name, at) in names(field, report)? {
        if OTHER_SUITES.contains(&name) {
            report.error(at, format!("cipher suite {name} is not supported: it encrypts block by block"));
        } else if SUITES.contains(&name) || INSECURE_SUITES.contains(&name) {
            suites.push(name.to_owned());
        } else {
            report.error(at, format!("unrecognized cipher {name}"));
        }
    }
    Some(suites)
}

/// Curves this server has.
const CURVES: &[&str] = &["X25519", "CurveP256", "CurveP384"];
/// Curves nats-server has beside those.
const OTHER_CURVES: &[&str] = &["CurveP521", "X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024"];

fn curves(field: &Field<'_>, report: &mut Report) -> Option<Vec<String>> {
    let mut curves = Vec::new();
    for (name, at) in names(field, report)? {
        if CURVES.contains(&name) {
            curves.push(name.to_owned());
        } else if OTHER_CURVES.contains(&name) {
            report.error(at, format!("curve {name} is not supported, only {}", CURVES.join(", ")));
        } else {
            report.error(at, format!("unrecognized curve preference {name}"));
        }
    }
    Some(curves)
}

fn min_version(field: &Field<'_>, report: &mut Report) -> Option<TlsVersion> {
    let Value::String(text) = field.value else {
        report.mismatch(field, "a version such as \"1.2\"");
        return None;
    };
    match text.as_str() {
        "1.2" => Some(TlsVersion::Tls12),
        "1.3" => Some(TlsVersion::Tls13),
        "1.0" | "1.1" => {
            report.error(field.at, format!("error parsing tls config: unsupported TLS version: TLS {text}"));
            None
        }
        _ => {
            report.error(field.at, format!("error parsing tls config: unknown version: {text}"));
            None
        }
    }
}

fn timeout(field: &Field<'_>, report: &mut Report) -> Option<Duration> {
    if let Value::String(text) = field.value
        && crate::duration::parse_nanos(text).is_none()
    {
        report
            .error(field.at, format!("error parsing tls config, 'timeout' time: invalid duration {text:?}"));
        return None;
    }
    read::seconds(field, report)
}

fn handshake_first(field: &Field<'_>, report: &mut Report) -> Option<HandshakeFirst> {
    let name = field.name;
    match field.value {
        Value::Bool(true) => Some(HandshakeFirst::Yes),
        Value::Bool(false) => Some(HandshakeFirst::No),
        Value::String(text) => {
            let found = match text.trim().to_lowercase().as_str() {
                "true" | "on" => Some(HandshakeFirst::Yes),
                "false" | "off" => Some(HandshakeFirst::No),
                "auto" | "auto_fallback" => Some(HandshakeFirst::Within(HANDSHAKE_FIRST_AUTO)),
                other => {
                    let nanos = crate::duration::parse_nanos(other).and_then(|n| u64::try_from(n).ok());
                    nanos.map(|n| HandshakeFirst::Within(Duration::from_nanos(n)))
                }
            };
            if found.is_none() {
                report.error(field.at, format!("field {name:?}'s value {text:?} is invalid"));
            }
            found
        }
        other => {
            let text = format!("field {name:?} should be a boolean or a string, got {}", other.kind());
            report.error(field.at, text);
            None
        }
    }
}

fn rate_limit(field: &Field<'_>, report: &mut Report) -> Option<Option<u32>> {
    let limit = read::integer(field, report)?;
    Some(u32::try_from(limit).ok().filter(|n| *n > 0))
}

/// No pins at all let in everybody, as in nats-server, where an empty list is the same as none.
fn pinned_certs(field: &Field<'_>, report: &mut Report) -> Option<Option<BTreeSet<String>>> {
    if matches!(field.value, Value::Array(items) if items.is_empty()) {
        return Some(None);
    }
    let mut pins = BTreeSet::new();
    for (pin, at) in names(field, report)? {
        let pin = pin.to_lowercase();
        if pin.len() == 64 && pin.bytes().all(|b| b.is_ascii_hexdigit()) {
            pins.insert(pin);
        } else {
            report.error(
                at,
                format!(
                    "error parsing tls config, 'pinned_certs' key {pin} does not look like hex-encoded sha256 of DER encoded SubjectPublicKeyInfo"
                ),
            );
        }
    }
    Some(Some(pins))
}
