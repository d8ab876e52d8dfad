//! An encrypted store shows nothing of what is stored.

use std::path::Path;

use super::{Check, broken};

/// A part of every longer payload that clients here publish.
const TEXT: &[u8] = b"abcdefghijklmnop";

/// A file as it is on disk.
pub(crate) fn is_kept(path: &Path, bytes: &[u8]) -> Check {
    if bytes.windows(TEXT.len()).any(|part| part == TEXT) {
        return broken("secrecy", format!("{} shows a payload", path.display()));
    }
    Ok(())
}
