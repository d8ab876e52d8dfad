use std::borrow::Cow;

use linnet_wire::headers;

use super::counter::Tally;
use super::wishes::Wishes;

/// A message as it is judged.
#[derive(Clone, Copy)]
pub(super) struct Incoming<'a> {
    pub(super) subject: &'a [u8],
    pub(super) header_len: usize,
    pub(super) body: &'a [u8],
    pub(super) wishes: Wishes<'a>,
    /// Where it comes from, if that is another stream.
    pub(super) sourced: Option<Sourced<'a>>,
}

/// Origin of a message of another stream.
#[derive(Clone, Copy)]
pub(super) struct Sourced<'a> {
    /// Name of the stream.
    pub(super) origin: &'a str,
    /// Its subject there.
    pub(super) subject: &'a [u8],
}

impl<'a> Incoming<'a> {
    pub(super) fn new(subject: &'a [u8], header_len: usize, body: &'a [u8]) -> Self {
        let block = body.get(..header_len).unwrap_or_default();
        let wishes = if block.is_empty() { Wishes::default() } else { Wishes::read(block) };
        Self { subject, header_len, body, wishes, sourced: None }
    }

    pub(super) fn headers(&self) -> &'a [u8] {
        self.body.get(..self.header_len).unwrap_or_default()
    }

    pub(super) fn payload(&self) -> &'a [u8] {
        self.body.get(self.header_len..).unwrap_or_default()
    }

    /// What is stored of it, unless something is changed.
    pub(super) fn draft(&self) -> Draft<'a> {
        Draft { header_len: self.header_len, body: Cow::Borrowed(self.body), bytes: 0, tally: None }
    }
}

/// What is about to be stored of a message. Nothing is copied unless the server changes something.
pub(super) struct Draft<'a> {
    pub(super) header_len: usize,
    /// Header block and payload.
    pub(super) body: Cow<'a, [u8]>,
    /// Accounted size.
    pub(super) bytes: u64,
    /// Where its counter stands after it.
    pub(super) tally: Option<Tally>,
}

impl Draft<'_> {
    pub(super) fn headers(&self) -> &[u8] {
        self.body.get(..self.header_len).unwrap_or_default()
    }

    fn payload(&self) -> &[u8] {
        self.body.get(self.header_len..).unwrap_or_default()
    }

    /// Replaces the headers called `key` by one at the end, or with `None` by none.
    pub(super) fn set_header(&mut self, key: &str, value: Option<&[u8]>) {
        let mut kept = Vec::with_capacity(self.body.len() + 48);
        headers::retain(&mut kept, self.headers(), |other| other == key.as_bytes());
        let mut message = Vec::with_capacity(self.body.len() + 48);
        match value {
            None => message.extend_from_slice(&kept),
            Some(value) => {
                headers::reopen(&mut message, &kept);
                headers::push(&mut message, key, value);
                headers::end(&mut message);
            }
        }
        let header_len = message.len();
        message.extend_from_slice(self.payload());
        self.header_len = header_len;
        self.body = Cow::Owned(message);
    }

    /// Replaces the payload.
    pub(super) fn set_payload(&mut self, payload: &[u8]) {
        self.body = Cow::Owned([self.headers(), payload].concat());
    }
}
