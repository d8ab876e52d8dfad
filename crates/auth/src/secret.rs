use std::fmt;

/// A password or token as configured: plain text or a bcrypt hash.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// Compared as it is.
    Plain(String),
    /// A `$2a$…` hash.
    Bcrypt(String),
}

impl Secret {
    /// Recognises a bcrypt hash by its prefix, as nats-server does.
    pub fn new(text: &str) -> Self {
        let is_hash = ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|p| text.starts_with(p));
        if is_hash { Self::Bcrypt(text.to_owned()) } else { Self::Plain(text.to_owned()) }
    }

    /// True if verifying takes milliseconds of CPU.
    pub fn is_slow(&self) -> bool {
        matches!(self, Self::Bcrypt(_))
    }

    /// True if `given` is the secret.
    pub fn verify(&self, given: &str) -> bool {
        match self {
            Self::Plain(expected) => equal_in_constant_time(expected.as_bytes(), given.as_bytes()),
            // A hash that cannot be parsed matches nothing.
            Self::Bcrypt(hash) => bcrypt::verify(given, hash).unwrap_or(false),
        }
    }
}

/// Takes the same time wherever the first difference is; the length is not secret.
fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (x, y)| diff | (x ^ y)) == 0
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn plain_and_hashed_secrets() {
        assert!(Secret::new("s3cr3t").verify("s3cr3t"));
        assert!(!Secret::new("s3cr3t").verify("s3cr3"));
        let hash = bcrypt::hash("pw", 4).unwrap().replace("$2b$", "$2a$");
        let secret = Secret::new(&hash);
        assert!(secret.is_slow() && secret.verify("pw") && !secret.verify(&hash));
        assert!(!Secret::new("$2a$garbage").verify("$2a$garbage"));
        assert_eq!(format!("{secret:?}"), "[REDACTED]");
    }
}
