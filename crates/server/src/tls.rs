//! TLS from options: reads the files they name and puts the parts together.

use std::collections::HashSet;
use std::io;

use linnet_broker::{HandshakeFirst, RouteTls, TlsPolicy};
use linnet_conf::Diagnostic;
use linnet_conf::options::{self, Options, Tls, TlsVersion};
use linnet_tls::{Acceptor, Authorities, KeyPair, Mutual, Settings, TlsError, Version};

/// Whether the files of the `tls` blocks can be used, as `-t` and a start want to know.
pub fn check_tls(options: &Options) -> Result<(), Diagnostic> {
    acceptor(options)?;
    of_routes(options).map(drop)
}

/// TLS of routes; `None` if the options have none.
pub(crate) fn of_routes(options: &Options) -> Result<Option<RouteTls>, Diagnostic> {
    let Some(tls) = &options.cluster.tls else { return Ok(None) };
    // Both sides always verify.
    let tls = Tls { verify: true, ..tls.clone() };
    let built = settings(&tls).and_then(|settings| Mutual::new(&settings, !tls.insecure));
    let mutual = built.map_err(|error| Diagnostic { at: tls.at.0.clone(), message: error.to_string() })?;
    Ok(Some(RouteTls {
        accept: mutual.accept,
        dial: mutual.dial,
        not_after: mutual.not_after,
        timeout: tls.timeout,
        pinned: pinned(&tls),
    }))
}

fn pinned(tls: &Tls) -> Option<HashSet<[u8; 32]>> {
    tls.pinned_certs.as_ref().map(|pins| pins.iter().filter_map(|pin| hash(pin)).collect())
}

/// TLS of the options; `None` if they have none.
pub(crate) fn acceptor(options: &Options) -> Result<Option<Acceptor>, Diagnostic> {
    let Some(tls) = &options.client.tls else { return Ok(None) };
    let built = settings(tls).and_then(|settings| Acceptor::new(&settings));
    built.map(Some).map_err(|error| Diagnostic { at: tls.at.0.clone(), message: error.to_string() })
}

/// What the client listener asks of its clients.
pub(crate) fn policy(options: &Options, acceptor: &Acceptor) -> Option<TlsPolicy> {
    let tls = options.client.tls.as_ref()?;
    Some(TlsPolicy {
        config: acceptor.clients.clone(),
        timeout: tls.timeout,
        handshake_first: match tls.handshake_first {
            options::HandshakeFirst::No => HandshakeFirst::No,
            options::HandshakeFirst::Yes => HandshakeFirst::Yes,
            options::HandshakeFirst::Within(time) => HandshakeFirst::Within(time),
        },
        verify: tls.verifies(),
        allow_plain: options.client.allow_non_tls,
        pinned: pinned(tls),
        rate_limit: tls.connection_rate_limit,
    })
}

fn settings(tls: &Tls) -> Result<Settings, TlsError> {
    let pair = |cert: &str, key: &str| {
        let read = |path: &str| std::fs::read(path).map_err(|e| TlsError::Certificate(unreadable(path, &e)));
        Ok(KeyPair { chain: read(cert)?, key: read(key)? })
    };
    let pairs = tls.certificates();
    Ok(Settings {
        key_pairs: pairs.iter().map(|f| pair(&f.cert_file, &f.key_file)).collect::<Result<_, _>>()?,
        authorities: if tls.verifies() { Some(authorities(tls)?) } else { unused_authorities(tls)? },
        min_version: match tls.min_version {
            TlsVersion::Tls12 => Version::Tls12,
            TlsVersion::Tls13 => Version::Tls13,
        },
        cipher_suites: tls.cipher_suites.clone(),
        curves: tls.curve_preferences.clone(),
    })
}

fn authorities(tls: &Tls) -> Result<Authorities, TlsError> {
    let Some(path) = &tls.ca_file else {
        return Ok(Authorities::Machine(rustls_native_certs::load_native_certs().certs));
    };
    std::fs::read(path).map(Authorities::Pem).map_err(|e| TlsError::Rules(unreadable(path, &e)))
}

/// A file of authorities that nobody is verified with must be good all the same.
fn unused_authorities(tls: &Tls) -> Result<Option<Authorities>, TlsError> {
    if tls.ca_file.is_some() {
        authorities(tls)?.check()?;
    }
    Ok(None)
}

/// The error in the words of nats-server.
fn unreadable(path: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("open {path}: no such file or directory"),
        io::ErrorKind::PermissionDenied => format!("open {path}: permission denied"),
        _ => format!("open {path}: {error}"),
    }
}

fn hash(hex: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    for (n, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * n..2 * n + 2)?, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use linnet_conf::{ProcessSource, interpret, lang};

    use super::*;

    #[test]
    fn every_suite_and_curve_the_configuration_takes_is_there() {
        let suites = [
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
        let curves = ["X25519", "CurveP256", "CurveP384"];
        let text = format!(
            "tls {{cert_file: a, key_file: b, cipher_suites: [{}], curve_preferences: [{}]}}",
            suites.join(","),
            curves.join(",")
        );
        let tree = lang::parse_text(text.as_bytes(), "t.conf", &ProcessSource).unwrap();
        let tls = interpret(&tree, "t.conf").unwrap().options.client.tls.unwrap();
        assert!(tls.cipher_suites.iter().all(|name| linnet_tls::names::suite(name).is_some()));
        assert!(tls.curve_preferences.iter().all(|name| linnet_tls::names::curve(name).is_some()));
    }

    #[test]
    fn a_file_that_is_missing_is_named_with_the_place_of_the_block() {
        let text = "port: 1\ntls {cert_file: nowhere.pem, key_file: b}";
        let tree = lang::parse_text(text.as_bytes(), "t.conf", &ProcessSource).unwrap();
        let error = check_tls(&interpret(&tree, "t.conf").unwrap().options).unwrap_err();
        assert_eq!(
            error.to_string(),
            "t.conf:2:1: error parsing X509 certificate/key pair: open nowhere.pem: no such file or directory"
        );
    }
}
