//! Reading request bodies. Servers are strict by default: a field that does not exist is an error.
//!
//! Requests are bounded in size and depth before anything is built from them. All errors are 10025 with Go's texts
//! as far as clients could notice; only the prefix `invalid JSON: ` is a promise.

mod de;
mod scan;

use std::cell::RefCell;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::errors::{self, ApiError};
use crate::requests::{NextRequest, StreamConfigRequest};
use crate::stream_config::StreamConfig;
use crate::time::Nanos;
use de::{NodeDeserializer, Unknown};
use scan::{Kind, Node};

/// Largest request body that is read. The greatest legitimate ones, stream configurations with many subjects and
/// 128 KiB of metadata, are well below.
pub const BODY_MAX: usize = 8 << 20;
/// Unknown fields of one request that are remembered when they are no error.
pub const UNKNOWN_FIELDS_MAX: usize = 32;

/// Whether unknown fields are errors (`jetstream { strict: … }`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Strictness {
    /// They are.
    #[default]
    Strict,
    /// They are ignored, and named for the log.
    Lenient,
}

/// A decoded request, and the fields in it that do not exist (never any when strict).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded<T> {
    /// The request.
    pub value: T,
    /// Names of unknown fields.
    pub unknown: Vec<String>,
}

/// Decodes a body; blank bodies give the default value.
pub fn decode<T: DeserializeOwned + Default>(
    body: &[u8],
    strictness: Strictness,
) -> Result<Decoded<T>, ApiError> {
    if is_blank(body) {
        return Ok(Decoded { value: T::default(), unknown: Vec::new() });
    }
    read(body, strictness).map_err(errors::invalid_json)
}

/// Decodes a body in which unknown fields are errors.
pub fn decode_strict<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, ApiError> {
    decode(body, Strictness::Strict).map(|decoded| decoded.value)
}

/// Decodes a body in which unknown fields are ignored. `MSG.NEXT` and `DIRECT.GET` do that however the server is set.
pub fn decode_lenient<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, ApiError> {
    decode(body, Strictness::Lenient).map(|decoded| decoded.value)
}

/// The same for `RESET` and `UNPIN`, whose errors have other words, and for which a blank body is one of them.
pub fn decode_whole<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    if body.len() > BODY_MAX {
        return Err(errors::invalid_json("request too large"));
    }
    let node = scan::parse(body).map_err(|e| errors::invalid_json(e.unmarshal_text()))?;
    decode_node(&node, Strictness::Lenient).map(|decoded| decoded.value).map_err(errors::invalid_json)
}

/// Decodes the body of a request that may have none: what does not start with `{` or `[` is ignored.
pub fn decode_optional<T: DeserializeOwned + Default>(
    body: &[u8],
    strictness: Strictness,
) -> Result<Decoded<T>, ApiError> {
    match first_non_blank(body) {
        Some(b'{' | b'[') => decode(body, strictness),
        _ => Ok(Decoded { value: T::default(), unknown: Vec::new() }),
    }
}

/// Decodes the body of `STREAM.CREATE` and `STREAM.UPDATE`.
pub fn stream_config_request(
    body: &[u8],
    strictness: Strictness,
) -> Result<Decoded<StreamConfigRequest>, ApiError> {
    if is_blank(body) {
        return Ok(Decoded { value: StreamConfigRequest::default(), unknown: Vec::new() });
    }
    let mut node = parse(body).map_err(errors::invalid_json)?;
    let mut pedantic = None;
    let mut names_storage = false;
    if let Kind::Object(members) = &mut node.kind {
        while let Some(at) = members.iter().rposition(|(key, _)| key.eq_ignore_ascii_case("pedantic")) {
            let (_, value) = members.remove(at);
            pedantic.get_or_insert(value);
        }
        let mut given = members.iter().filter(|(_, value)| !matches!(value.kind, Kind::Null));
        names_storage = given.any(|(key, _)| key.eq_ignore_ascii_case("storage"));
    }
    let Decoded { value: config, unknown } =
        decode_node::<StreamConfig>(&node, strictness).map_err(errors::invalid_json)?;
    let pedantic = match pedantic.map(|node| node.kind) {
        None | Some(Kind::Null) => false,
        Some(Kind::Bool(pedantic)) => pedantic,
        Some(_) => {
            return Err(errors::invalid_json(
                "json: cannot unmarshal into Go struct field StreamConfigRequest.pedantic of type bool",
            ));
        }
    };
    Ok(Decoded { value: StreamConfigRequest { config, pedantic, names_storage }, unknown })
}

/// Reads the body of `MSG.NEXT`: nothing, a number, or JSON. Text that is neither asks for one message, and so
/// does JSON without a number, whose `batch` stays 0. The error is the reason in the status `400 Bad Request - <reason>`.
pub fn next_request(body: &[u8]) -> Result<NextRequest, String> {
    if first_non_blank(body) == Some(b'{') {
        return Ok(read::<NextRequest>(body, Strictness::Lenient)?.value);
    }
    let number = str::from_utf8(body).ok().and_then(|text| text.trim().parse().ok());
    Ok(NextRequest { batch: number.unwrap_or(1), ..NextRequest::default() })
}

/// Whether a request counts as having no body: no bytes, or an object without members. Blanks are a body.
pub fn is_empty_request(body: &[u8]) -> bool {
    if body.is_empty() {
        return true;
    }
    body.len() <= BODY_MAX
        && matches!(scan::parse(body), Ok(Node { kind: Kind::Object(members), .. }) if members.is_empty())
}

/// For requests that take no body (10038).
pub fn require_empty(body: &[u8]) -> Result<(), ApiError> {
    if is_empty_request(body) { Ok(()) } else { Err(errors::NOT_EMPTY_REQUEST) }
}

/// For requests that make no sense without a body (10003).
pub fn require_body(body: &[u8]) -> Result<(), ApiError> {
    if is_empty_request(body) { Err(errors::BAD_REQUEST) } else { Ok(()) }
}

/// Judges the value of the header `Nats-Required-Api-Level`, trimmed (10185). An empty one counts as absent.
pub fn check_required_api_level(header: Option<&str>) -> Result<(), ApiError> {
    match header.filter(|header| !header.is_empty()).map(str::parse::<i64>) {
        None => Ok(()),
        Some(Ok(level)) if level <= crate::API_LEVEL.cast_signed() => Ok(()),
        Some(_) => Err(errors::REQUIRED_API_LEVEL),
    }
}

/// As [`decode`], with the bare reason for an error.
fn read<T: DeserializeOwned>(body: &[u8], strictness: Strictness) -> Result<Decoded<T>, String> {
    decode_node(&parse(body)?, strictness)
}

fn parse(body: &[u8]) -> Result<Node<'_>, String> {
    if body.len() > BODY_MAX {
        return Err("request too large".to_owned());
    }
    scan::parse(body).map_err(|e| e.to_string())
}

fn decode_node<T: DeserializeOwned>(node: &Node<'_>, strictness: Strictness) -> Result<Decoded<T>, String> {
    let unknown = RefCell::new(Vec::new());
    let policy = match strictness {
        Strictness::Strict => Unknown::Refuse,
        Strictness::Lenient => Unknown::Collect(&unknown),
    };
    let value = T::deserialize(NodeDeserializer::new(node, &policy)).map_err(|e| e.to_string())?;
    Ok(Decoded { value, unknown: unknown.into_inner() })
}

/// For fields that are an `int` in the reference server, which its error texts tell from `int64`.
pub(crate) fn go_int<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename = "int")]
    struct Int(i64);
    Int::deserialize(deserializer).map(|number| number.0)
}

/// For lists of durations, which error texts of the reference server tell from lists of text.
pub(crate) fn go_durations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Nanos>, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename = "[]time.Duration")]
    struct Durations(Vec<Nanos>);
    Durations::deserialize(deserializer).map(|durations| durations.0)
}

fn first_non_blank(body: &[u8]) -> Option<u8> {
    body.iter().copied().find(|b| !b.is_ascii_whitespace())
}

fn is_blank(body: &[u8]) -> bool {
    first_non_blank(body).is_none()
}

#[cfg(test)]
mod tests;
