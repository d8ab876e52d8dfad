//! Errors as the JetStream API reports them. The codes and texts are in `table`, re-exported here:
//! `errors::STREAM_NOT_FOUND`, `errors::stream_invalid_config("…")`.

mod table;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

pub use table::*;

/// The `error` object of an API response or a publish acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{description} ({err_code})")]
pub struct ApiError {
    /// Class of the error, after the HTTP status codes.
    pub code: u16,
    /// The number that identifies the error.
    pub err_code: u16,
    /// The text people read, and some clients compare.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub description: Cow<'static, str>,
}

/// Why `STREAM.MSG.DELETE` fails where `deny_delete` is set.
pub const DELETE_DENIED: &str = "message delete not permitted";

impl ApiError {
    /// The same error with the reason behind its text.
    #[must_use]
    pub fn because(&self, reason: &str) -> Self {
        Self { description: format!("{}: {reason}", self.description).into(), ..*self }
    }
}

/// A row of the error table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorEntry {
    /// Class of the error, after the HTTP status codes.
    pub code: u16,
    /// The number that identifies the error.
    pub err_code: u16,
    /// The text; `{…}` stands for an argument.
    pub text: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_complete_and_in_order() {
        let codes: Vec<u16> = ALL.iter().map(|e| e.err_code).collect();
        assert_eq!(codes, (10002..=10228).collect::<Vec<_>>());
    }

    #[test]
    fn errors_serialise_in_field_order() {
        let json = serde_json::to_string(&stream_wrong_last_sequence(2)).unwrap();
        assert_eq!(json, r#"{"code":400,"err_code":10071,"description":"wrong last sequence: 2"}"#);
        assert_eq!(serde_json::from_str::<ApiError>(&json).unwrap(), stream_wrong_last_sequence(2));
    }

    #[test]
    fn arguments_land_in_their_places() {
        assert_eq!(
            stream_external_del_prefix_overlaps("p", "s").description,
            "stream external delivery prefix p overlaps with stream subject s"
        );
        assert_eq!(STREAM_NOT_FOUND.to_string(), "stream not found (10059)");
        assert_eq!(STREAM_NOT_FOUND.because("it went").to_string(), "stream not found: it went (10059)");
    }
}
