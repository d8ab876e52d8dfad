//! The parser survives anything, and what it read can be written and read again.

use std::io;

use linnet_conf::lang::{self, Map, Value};
use linnet_conf::{Source, interpret};
use proptest::prelude::*;

/// Files and variables that refer to themselves and each other.
struct Knot;

impl Source for Knot {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        match path {
            "a" => Ok(b"include b\nx: 1\n".to_vec()),
            "b" => Ok(b"include a\ninclude a\n".to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn env(&self, name: &str) -> Option<String> {
        match name {
            "A" => Some("[$B, $B]".to_owned()),
            "B" => Some("{x: $C}".to_owned()),
            "C" => Some("$A".to_owned()),
            _ => None,
        }
    }
}

/// A text with the pieces the grammar is made of, to get deeper than random bytes do.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        "\n)\n",
        "\"",
        "'",
        "\\",
        "\\x4",
        "=",
        ":",
        ",",
        ";",
        "\n",
        "\r",
        " ",
        "\t",
        "#",
        "//",
        "/",
        "$",
        "$A",
        "$2a$",
        "include ",
        "include a",
        "port",
        "4222",
        "1k",
        "9EB",
        "-",
        ".",
        "1.5",
        "1.2.3.4",
        "2024-",
        "2024-02-30T00:00:00Z",
        "true",
        "é",
        "\u{2028}",
        "\0",
        "authorization",
        "users",
        "accounts",
        "jetstream",
        "limits",
        "permissions",
        "publish",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|parts| parts.concat())
}

fn value() -> impl Strategy<Value = Written> {
    let leaf = prop_oneof![
        any::<String>().prop_map(Written::String),
        any::<i64>().prop_map(Written::Integer),
        any::<bool>().prop_map(Written::Bool),
        (-1e12..1e12).prop_map(Written::Float),
    ];
    leaf.prop_recursive(4, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Written::Array),
            prop::collection::vec((key(), inner), 0..6).prop_map(Written::Map),
        ]
    })
}

/// Keys are quoted with an apostrophe, inside which nothing is special.
fn key() -> impl Strategy<Value = String> {
    "[^'\0]{0,8}"
}

/// A value to be written as text.
#[derive(Clone, Debug)]
enum Written {
    String(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Array(Vec<Self>),
    Map(Vec<(String, Self)>),
}

fn write(out: &mut String, value: &Written) {
    match value {
        Written::String(text) => write_string(out, text),
        Written::Integer(n) => out.push_str(&n.to_string()),
        Written::Float(x) => out.push_str(&format!("{x:.6}")),
        Written::Bool(b) => out.push_str(if *b { "yes" } else { "off" }),
        Written::Array(items) => {
            out.push('[');
            for item in items {
                write(out, item);
                out.push('\n');
            }
            out.push(']');
        }
        Written::Map(pairs) => {
            out.push('{');
            for (key, value) in pairs {
                write_pair(out, key, value);
                out.push(';');
            }
            out.push('}');
        }
    }
}

fn write_pair(out: &mut String, key: &str, value: &Written) {
    out.push_str(&format!("'{key}' = "));
    write(out, value);
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\0' => out.push_str("\\x00"),
            _ => out.push(c),
        }
    }
    out.push('"');
}

/// Writes a tree back as configuration text.
fn render(map: &Map) -> String {
    fn written(value: &Value) -> Written {
        match value {
            Value::String(text) | Value::Date(text) => Written::String(text.clone()),
            Value::Integer(n) => Written::Integer(*n),
            Value::Float(x) => Written::Float(*x),
            Value::Bool(b) => Written::Bool(*b),
            Value::Array(items) => Written::Array(items.iter().map(|n| written(&n.value)).collect()),
            Value::Map(map) => {
                Written::Map(map.sorted().map(|e| (e.key.clone(), written(&e.node.value))).collect())
            }
        }
    }
    let mut out = String::new();
    for entry in map.in_order() {
        write_pair(&mut out, &entry.key, &written(&entry.node.value));
        out.push('\n');
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(tree) = lang::parse_text(&bytes, "t.conf", &Knot) {
            let _options_or_errors = interpret(&tree, "t.conf");
        }
    }

    #[test]
    fn any_pieces_are_read_or_refused(text in pieces()) {
        if let Ok(tree) = lang::parse_text(text.as_bytes(), "t.conf", &Knot) {
            let _options_or_errors = interpret(&tree, "t.conf");
        }
    }

    #[test]
    fn a_tree_written_and_read_again_has_the_same_digest(pairs in prop::collection::vec((key(), value()), 0..6)) {
        let mut text = String::new();
        for (key, value) in &pairs {
            write_pair(&mut text, key, value);
            text.push('\n');
        }
        let first = lang::parse_text(text.as_bytes(), "t.conf", &Knot).unwrap();
        let second = lang::parse_text(render(&first).as_bytes(), "t.conf", &Knot).unwrap();
        prop_assert_eq!(lang::to_json(&first), lang::to_json(&second));
        prop_assert_eq!(lang::digest(&first), lang::digest(&second));
    }
}
