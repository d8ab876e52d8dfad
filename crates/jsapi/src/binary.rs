//! `#[serde(with = "crate::binary")]`: bytes as padded standard base64.

use std::borrow::Cow;

use data_encoding::BASE64;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

pub(crate) fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&BASE64.encode(bytes))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
    let text = Cow::<str>::deserialize(d)?;
    BASE64.decode(text.as_bytes()).map_err(|e| D::Error::custom(format_args!("illegal base64 data: {e}")))
}
