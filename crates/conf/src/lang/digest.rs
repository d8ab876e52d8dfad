use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::value::{Map, Value};

/// Name of a configuration's content: `sha256:` and the hash of the tree as JSON, as nats-server computes it.
/// Comments, layout, key order, and whether a value came through a variable or an include do not matter.
pub fn digest(tree: &Map) -> String {
    let mut json = String::new();
    write_map(&mut json, tree);
    json.push('\n');
    let mut out = String::from("sha256:");
    for byte in Sha256::digest(json.as_bytes()) {
        let _infallible = write!(out, "{byte:02x}");
    }
    out
}

/// The tree as compact JSON with sorted keys.
pub fn to_json(tree: &Map) -> String {
    let mut json = String::new();
    write_map(&mut json, tree);
    json
}

fn write_map(out: &mut String, map: &Map) {
    out.push('{');
    for (i, entry) in map.sorted().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_string(out, &entry.key);
        out.push(':');
        write_value(out, &entry.node.value);
    }
    out.push('}');
}

fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::String(text) | Value::Date(text) => write_string(out, text),
        Value::Integer(n) => out.push_str(&n.to_string()),
        Value::Float(x) => write_float(out, *x),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_value(out, &item.value);
            }
            out.push(']');
        }
        Value::Map(map) => write_map(out, map),
    }
}

/// Shortest form that reads back the same; an exponent only below 1e-6 and from 1e21 on.
fn write_float(out: &mut String, x: f64) {
    let size = x.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{x:e}");
        match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => {
                out.push_str(digits);
                out.push_str("e+");
                out.push_str(exponent);
            }
            _ => out.push_str(&text),
        }
    } else {
        out.push_str(&x.to_string());
    }
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _infallible = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}
