//! Answers: what stands around a report, and how it is packed.

use std::io::{self, Write as _};

use linnet_wire::headers;
use serde::Serialize;
use serde_json::value::RawValue;

use super::description::ServerDescription;
use crate::json::{Layout, to_json};

/// Why there is no report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The request cannot be read.
    Unreadable(String),
    /// The report could not be made.
    Failed(String),
    /// What was to be done could not be done; such requests have no report at all.
    Refused(String),
    /// The request is for others, or nobody is to know.
    Silence,
}

/// An answer.
#[derive(Serialize)]
pub(crate) struct Envelope {
    server: ServerDescription,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Error>,
}

/// A report, or `null` where it failed.
#[derive(Serialize)]
#[serde(transparent)]
struct Data(Option<Box<RawValue>>);

#[derive(Serialize)]
struct Error {
    code: u16,
    description: String,
}

impl Envelope {
    /// A report in JSON; nothing for what is only done.
    pub(crate) fn report(server: ServerDescription, json: Option<Box<RawValue>>) -> Self {
        Self { server, data: json.map(|json| Data(Some(json))), error: None }
    }

    /// Why there is none; nothing is said of silence.
    pub(crate) fn failure(server: ServerDescription, failure: Failure) -> Option<Self> {
        let (code, description, data) = match failure {
            Failure::Unreadable(text) => (400, text, None),
            Failure::Failed(text) => (500, text, Some(Data(None))),
            Failure::Refused(text) => (500, text, None),
            Failure::Silence => return None,
        };
        Some(Self { server, data, error: Some(Error { code, description }) })
    }

    /// True if it is an error, which is never packed.
    pub(crate) fn is_error(&self) -> bool {
        self.error.is_some()
    }
}

/// Text of `value` in JSON, on one line.
pub(crate) fn text<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    to_json(value, Layout::Compact)
}

/// The same, to be put into other JSON as it is.
pub(crate) fn raw<T: Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    let json = String::from_utf8(text(value)).unwrap_or_default();
    RawValue::from_string(json).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// How an answer is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    /// As it is, without a word about it.
    Plain,
    /// As it is: the asker named only what is not known here.
    Identity,
    Snappy,
    Gzip,
}

impl Packing {
    /// What the asker can unpack, by the headers of the request.
    pub(crate) fn accepted(block: &[u8]) -> Self {
        let Some(value) = headers::get(block, "Accept-Encoding") else { return Self::Plain };
        let value = String::from_utf8_lossy(value).to_ascii_lowercase();
        if value.contains("snappy") || value.contains("s2") {
            Self::Snappy
        } else if value.contains("gzip") {
            Self::Gzip
        } else {
            Self::Identity
        }
    }

    /// Header block and payload of the answer `json`, and the length of the block.
    pub(crate) fn pack(self, json: &[u8]) -> io::Result<(usize, Vec<u8>)> {
        let name = match self {
            Self::Plain => return Ok((0, json.to_vec())),
            Self::Identity => "identity",
            Self::Snappy => "snappy",
            Self::Gzip => "gzip",
        };
        let mut message = Vec::with_capacity(json.len() / 2 + 64);
        headers::begin(&mut message, "");
        headers::push(&mut message, "Content-Encoding", name.as_bytes());
        headers::end(&mut message);
        let header_len = message.len();
        match self {
            Self::Plain | Self::Identity => message.extend_from_slice(json),
            Self::Snappy => {
                let mut encoder = snap::write::FrameEncoder::new(&mut message);
                encoder.write_all(json)?;
                encoder.flush()?;
            }
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(&mut message, flate2::Compression::default());
                encoder.write_all(json)?;
                encoder.try_finish()?;
            }
        }
        Ok((header_len, message))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn block(value: &str) -> Vec<u8> {
        format!("NATS/1.0\r\nAccept-Encoding: {value}\r\n\r\n").into_bytes()
    }

    #[test]
    fn askers_get_what_they_can_unpack() {
        let json =
            br#"{"data":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#;
        for (value, packing, name) in [
            ("snappy", Packing::Snappy, "snappy"),
            ("br, S2", Packing::Snappy, "snappy"),
            ("gzip", Packing::Gzip, "gzip"),
            ("zstd", Packing::Identity, "identity"),
        ] {
            assert_eq!(Packing::accepted(&block(value)), packing);
            let (header_len, message) = packing.pack(json).unwrap();
            let (head, body) = message.split_at(header_len);
            assert_eq!(head, format!("NATS/1.0\r\nContent-Encoding: {name}\r\n\r\n").as_bytes());
            let mut unpacked = Vec::new();
            match packing {
                Packing::Snappy => {
                    _ = snap::read::FrameDecoder::new(body).read_to_end(&mut unpacked).unwrap()
                }
                Packing::Gzip => _ = flate2::read::GzDecoder::new(body).read_to_end(&mut unpacked).unwrap(),
                _ => unpacked.extend_from_slice(body),
            }
            assert_eq!(unpacked, json);
        }
        assert_eq!(Packing::accepted(b""), Packing::Plain);
        assert_eq!(Packing::Plain.pack(json).unwrap(), (0, json.to_vec()));
    }
}
