//! JSON output as Go's encoder writes it.

use std::io;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

/// Compact JSON in which `<`, `>`, `&` and the two Unicode line separators are escaped inside strings, as clients
/// that compare raw text (and their golden files) expect from a NATS server.
pub fn to_json<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    append_json(value, &mut out);
    out
}

/// As [`to_json`], appended to `out`.
pub fn append_json<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    let mut serializer = Serializer::with_formatter(out, GoEscapes(CompactFormatter));
    value
        .serialize(&mut serializer)
        .expect("types of this crate have string keys and writing to memory works");
}

struct GoEscapes(CompactFormatter);

impl Formatter for GoEscapes {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, from) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut chars = from.chars();
            if let Some(special) = chars.next() {
                write!(writer, "\\u{:04x}", u32::from(special))?;
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn html_characters_are_escaped_in_keys_and_values() {
        let map = std::collections::BTreeMap::from([("a<", "x > \"y\" & \u{2028}\n\u{8}é")]);
        assert_eq!(
            String::from_utf8(super::to_json(&map)).unwrap(),
            "{\"a\\u003c\":\"x \\u003e \\\"y\\\" \\u0026 \\u2028\\n\\bé\"}"
        );
    }
}
