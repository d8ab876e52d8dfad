use std::fmt;

use crate::lang::{Position, SyntaxError};

/// One thing wrong, or worth a warning, in a configuration. Prints as `file:line:col: message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The key concerned; `None` if the message is about the file as a whole and names it.
    pub at: Option<Position>,
    /// What is wrong, in nats-server's words where it has any.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            Some(at) => write!(f, "{at}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl From<SyntaxError> for Diagnostic {
    fn from(error: SyntaxError) -> Self {
        // A file that cannot be opened has no place to point at; the message names it.
        let at = (!error.is_missing_file()).then(|| error.at.clone());
        Self { at, message: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use crate::{ProcessSource, lang};

    use super::Diagnostic;

    #[test]
    fn a_position_is_printed_once() {
        for text in [
            "port: {\n",
            "a: 1\nport",
            "port:\n1",
            "a: \"x",
            "port: $LINNET_IS_NOT_SET\n",
            "a: .5",
            "a: 99999999999999999999",
        ] {
            let error = lang::parse_text(text.as_bytes(), "t.conf", &ProcessSource).unwrap_err();
            let printed = Diagnostic::from(error).to_string();
            assert!(printed.starts_with("t.conf:"), "{printed}");
            assert_eq!(printed.matches("t.conf").count(), 1, "{printed}");
            assert!(!printed.contains("on line"), "{printed}");
        }
    }
}
