use std::fmt::Write as _;

/// `text` in double quotes as Go's `%q` prints it, which is how nats-server quotes names in errors.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        push_escaped(&mut out, c);
    }
    out.push('"');
    out
}

fn push_escaped(out: &mut String, c: char) {
    let short = match c {
        '"' | '\\' => Some(c),
        '\x07' => Some('a'),
        '\x08' => Some('b'),
        '\x0c' => Some('f'),
        '\n' => Some('n'),
        '\r' => Some('r'),
        '\t' => Some('t'),
        '\x0b' => Some('v'),
        _ => None,
    };
    let code = u32::from(c);
    // Writing to a String cannot fail.
    let _ = match (short, code) {
        (Some(letter), _) => write!(out, "\\{letter}"),
        (None, 0..0x20 | 0x7f) => write!(out, "\\x{code:02x}"),
        _ if is_printable(c) => out.write_char(c),
        (None, ..0x1_0000) => write!(out, "\\u{code:04x}"),
        _ => write!(out, "\\U{code:08x}"),
    };
}

/// What Rust prints unescaped inside a text is what Go does: letters, marks, numbers, punctuation, symbols, space.
/// The letter in front is there because Rust escapes a combining mark that starts a text.
fn is_printable(c: char) -> bool {
    let text: String = ['a', c].iter().collect();
    c == '\'' || text.escape_debug().skip(1).eq([c])
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn names_are_quoted_as_go_does() {
        for (text, expected) in [
            ("n2", r#""n2""#),
            ("a\"b\\\té\u{1}\u{200b}😀", r#""a\"b\\\té\x01\u200b😀""#),
            ("it's e\u{301}\u{a0}\u{7f}\0", "\"it's e\u{301}\\u00a0\\x7f\\x00\""),
            ("\u{301}\u{10ffff}\u{7}\u{8}\u{c}\n\r\u{b}", "\"\u{301}\\U0010ffff\\a\\b\\f\\n\\r\\v\""),
        ] {
            assert_eq!(quoted(text), expected, "{text:?}");
        }
    }
}
