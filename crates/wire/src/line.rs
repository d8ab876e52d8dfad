//! What the lines of every protocol have in common: a verb, arguments up to the end of the line, for some a body behind it.

use memchr::memchr;
use thiserror::Error;

/// Result of looking at the front of the read buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<O> {
    /// A whole operation and how many bytes it took.
    Op(O, usize),
    /// More bytes are needed. `total` is the size of the whole operation where it is known.
    Incomplete {
        /// Bytes from the front of the buffer to the end of the operation, if known.
        total: Option<usize>,
    },
    /// The stream cannot be understood any further.
    Error(Error),
}

/// Why bytes are refused. All are fatal for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// Not an operation, or a payload that does not end where it should.
    #[error("Unknown Protocol Operation")]
    UnknownOperation,
    /// A line longer than `max_control_line`.
    #[error("maximum control line exceeded")]
    ControlLine,
    /// A payload larger than `max_payload`; the value is the announced size.
    #[error("Maximum Payload Violation")]
    MaxPayload(usize),
    /// Wrong number of arguments, a bad size, headers without support: closed without a text.
    #[error("malformed arguments")]
    Malformed,
    /// `HPUB` on a connection without header support on both sides.
    #[error("message headers not supported")]
    HeadersUnsupported,
}

/// Digits accepted in a size; more than that is malformed, which keeps the arithmetic far from overflow.
const SIZE_DIGITS_MAX: usize = 9;

impl<O> Parsed<O> {
    /// Nothing is known of the operation yet but that it is not whole.
    pub(crate) const MORE: Self = Self::Incomplete { total: None };

    /// An operation that ends with its line.
    pub(crate) fn of(op: Result<O, Error>, used: usize) -> Self {
        match op {
            Ok(op) => Self::Op(op, used),
            Err(error) => Self::Error(error),
        }
    }

    /// An operation with a body of `total` bytes behind its line, which ends at `start`.
    #[inline]
    pub(crate) fn with_body<'a>(
        buf: &'a [u8],
        start: usize,
        total: usize,
        op: impl FnOnce(&'a [u8]) -> O,
    ) -> Self {
        let end = start + total;
        let Some(body) = buf.get(start..end) else { return Self::Incomplete { total: Some(end + 2) } };
        match buf.get(end..) {
            Some([b'\r', b'\n', ..]) => Self::Op(op(body), end + 2),
            Some([] | [b'\r']) | None => Self::Incomplete { total: Some(end + 2) },
            Some(_) => Self::Error(Error::UnknownOperation),
        }
    }
}

/// Recognises the verb at the front among those that begin with its first letter: the verb and its length, `None` when
/// more bytes are needed, or an error as soon as the bytes cannot become a verb any more.
#[inline]
pub(crate) fn verb<V: Copy + 'static>(
    buf: &[u8],
    candidates: impl FnOnce(u8) -> &'static [(&'static [u8], V)],
) -> Result<Option<(V, usize)>, Error> {
    let Some(first) = buf.first() else { return Ok(None) };
    for (text, verb) in candidates(first.to_ascii_uppercase()) {
        let seen = buf.len().min(text.len());
        if buf[..seen].eq_ignore_ascii_case(&text[..seen]) {
            return Ok((seen == text.len()).then_some((*verb, seen)));
        }
    }
    Err(Error::UnknownOperation)
}

/// What stands between the verb and the end of the line, and where the next line begins; `None` when the line is not
/// whole. `max` bounds it without its end.
#[inline]
pub(crate) fn arguments(buf: &[u8], verb_len: usize, max: usize) -> Result<Option<(&[u8], usize)>, Error> {
    let rest = &buf[verb_len..];
    let Some(newline) = memchr(b'\n', rest) else {
        return if rest.len() > max { Err(Error::ControlLine) } else { Ok(None) };
    };
    let line = &rest[..newline];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > max + 1 {
        return Err(Error::ControlLine);
    }
    Ok(Some((line, verb_len + newline + 1)))
}

/// The text of `-ERR`, without its quotes.
pub(crate) fn error_text(line: &[u8]) -> &[u8] {
    let text = line.trim_ascii();
    text.strip_prefix(b"'").and_then(|t| t.strip_suffix(b"'")).unwrap_or(text)
}

/// A decimal size of at most nine digits.
#[inline]
pub(crate) fn size(text: &[u8]) -> Result<usize, Error> {
    if text.is_empty() || text.len() > SIZE_DIGITS_MAX {
        return Err(Error::Malformed);
    }
    text.iter().try_fold(0_usize, |n, b| {
        if b.is_ascii_digit() { Ok(n * 10 + usize::from(b - b'0')) } else { Err(Error::Malformed) }
    })
}
