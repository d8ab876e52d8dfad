//! JSON text as Go's encoder writes it: HTML characters escaped, whole floats without a fraction, indented or not.

use std::io;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

/// How a page is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// On one line.
    Compact,
    /// Two spaces a level.
    Two,
    /// Three spaces a level.
    Three,
}

/// The text of `value`.
pub(crate) fn to_json<T: Serialize + ?Sized>(value: &T, layout: Layout) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    let written = match layout {
        Layout::Compact => write(value, &mut out, CompactFormatter),
        Layout::Two => write(value, &mut out, PrettyFormatter::with_indent(b"  ")),
        Layout::Three => write(value, &mut out, PrettyFormatter::with_indent(b"   ")),
    };
    written.expect("types of this crate have string keys and writing to memory works");
    out
}

fn write<T: Serialize + ?Sized, F: Formatter>(
    value: &T,
    out: &mut Vec<u8>,
    layout: F,
) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, Go(layout)))
}

/// A layout with Go's strings and numbers.
struct Go<F>(F);

impl<F: Formatter> Formatter for Go<F> {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, w: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, from) = rest.split_at(at);
            w.write_all(plain.as_bytes())?;
            let mut chars = from.chars();
            if let Some(special) = chars.next() {
                write!(w, "\\u{:04x}", u32::from(special))?;
            }
            rest = chars.as_str();
        }
        w.write_all(rest.as_bytes())
    }

    fn write_f64<W: ?Sized + io::Write>(&mut self, w: &mut W, value: f64) -> io::Result<()> {
        if value.fract() == 0.0 && value.abs() < 1e21 {
            write!(w, "{value:.0}")
        } else {
            self.0.write_f64(w, value)
        }
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.begin_array(w)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.end_array(w)
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(w, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.end_array_value(w)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.begin_object(w)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.end_object(w)
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(w, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.begin_object_value(w)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.end_object_value(w)
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::{Layout, to_json};

    #[derive(Serialize)]
    struct Sample {
        text: &'static str,
        whole: f64,
        part: f64,
        none: [u8; 0],
        some: [u8; 2],
    }

    const SAMPLE: Sample = Sample { text: "foo.> & <é>", whole: 2.0, part: 0.1, none: [], some: [1, 2] };

    fn text(layout: Layout) -> String {
        String::from_utf8(to_json(&SAMPLE, layout)).unwrap()
    }

    #[test]
    fn one_line_has_no_spaces() {
        assert_eq!(
            text(Layout::Compact),
            "{\"text\":\"foo.\\u003e \\u0026 \\u003cé\\u003e\",\"whole\":2,\"part\":0.1,\"none\":[],\"some\":[1,2]}"
        );
    }

    #[test]
    fn empty_lists_stay_on_their_line() {
        assert!(text(Layout::Two).ends_with("  \"none\": [],\n  \"some\": [\n    1,\n    2\n  ]\n}"));
        assert!(text(Layout::Three).starts_with("{\n   \"text\": \"foo."));
    }
}
