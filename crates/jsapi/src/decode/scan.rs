//! A JSON reader with the limits and the error texts of the JetStream API. It keeps numbers as they were written, so
//! that a sequence above 2^53 or a misplaced `1e3` is judged exactly.

use std::borrow::Cow;

/// Nesting that is accepted. The deepest valid request uses five levels.
pub(super) const DEPTH_MAX: usize = 64;

/// A parsed value and the text it came from.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub(super) raw: &'a [u8],
    pub(super) kind: Kind<'a>,
}

#[derive(Debug)]
pub(super) enum Kind<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    Text(Cow<'a, str>),
    Array(Vec<Node<'a>>),
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

/// Why a text is not JSON.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("unexpected EOF")]
    Truncated,
    #[error("invalid character {} {context} at offset {offset}", quoted(*.byte))]
    Character { byte: u8, context: &'static str, offset: usize },
    #[error("invalid character {} in literal {word} (expecting {}) at offset {offset}", quoted(*.byte), quoted(*.expected))]
    Literal { byte: u8, word: &'static str, expected: u8, offset: usize },
    #[error("invalid escape sequence `{sequence}` in string at offset {offset}")]
    Escape { sequence: String, offset: usize },
    #[error("invalid character {} looking for beginning of value at offset {offset}", quoted(*.byte))]
    Behind { byte: u8, offset: usize },
    #[error("exceeded max depth")]
    TooDeep,
}

impl Error {
    /// As Go's `json.Unmarshal` words it, which looks at the whole text first; the words above are those of its decoder.
    pub(super) fn unmarshal_text(&self) -> String {
        match self {
            Self::Truncated => "unexpected end of JSON input".to_owned(),
            Self::Behind { byte, .. } => format!("invalid character {} after top-level value", quoted(*byte)),
            other => {
                let text = other.to_string();
                text.split(" at offset ").next().unwrap_or_default().to_owned()
            }
        }
    }
}

/// Parses one value with nothing but blanks around it.
pub(super) fn parse(bytes: &[u8]) -> Result<Node<'_>, Error> {
    let mut scanner = Scanner { bytes, at: 0 };
    let node = scanner.value(0)?;
    scanner.skip_blanks();
    match scanner.peek() {
        None => Ok(node),
        Some(byte) => Err(Error::Behind { byte, offset: scanner.at + 1 }),
    }
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The error for the byte at hand; the offset counts it in.
    fn unexpected(&self, context: &'static str) -> Error {
        match self.peek() {
            Some(byte) => Error::Character { byte, context, offset: self.at + 1 },
            None => Error::Truncated,
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node<'a>, Error> {
        if depth > DEPTH_MAX {
            return Err(Error::TooDeep);
        }
        self.skip_blanks();
        let start = self.at;
        let kind = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => Kind::Text(self.text()?),
            Some(b't') => self.literal("true", Kind::Bool(true))?,
            Some(b'f') => self.literal("false", Kind::Bool(false))?,
            Some(b'n') => self.literal("null", Kind::Null)?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => return Err(self.unexpected("looking for beginning of value")),
        };
        Ok(Node { raw: self.bytes.get(start..self.at).unwrap_or_default(), kind })
    }

    fn object(&mut self, depth: usize) -> Result<Kind<'a>, Error> {
        self.at += 1;
        let mut members = Vec::new();
        self.skip_blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Kind::Object(members));
        }
        loop {
            self.skip_blanks();
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("looking for beginning of object key string"));
            }
            let key = self.text()?;
            self.skip_blanks();
            if self.peek() != Some(b':') {
                return Err(self.unexpected("after object key"));
            }
            self.at += 1;
            members.push((key, self.value(depth + 1)?));
            self.skip_blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Kind::Object(members));
                }
                _ => return Err(self.unexpected("after object key:value pair")),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Kind<'a>, Error> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip_blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Kind::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.skip_blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Kind::Array(items));
                }
                _ => return Err(self.unexpected("after array element")),
            }
        }
    }

    fn literal(&mut self, word: &'static str, kind: Kind<'a>) -> Result<Kind<'a>, Error> {
        for expected in word.bytes() {
            match self.peek() {
                None => return Err(Error::Truncated),
                Some(byte) if byte == expected => self.at += 1,
                Some(byte) => return Err(Error::Literal { byte, word, expected, offset: self.at + 1 }),
            }
        }
        Ok(kind)
    }

    fn number(&mut self) -> Result<Kind<'a>, Error> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.skip_digits(),
            _ => return Err(self.unexpected("in numeric literal")),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.some_digits()?;
        }
        let digits = self.bytes.get(start..self.at).unwrap_or_default();
        Ok(Kind::Number(str::from_utf8(digits).unwrap_or_default()))
    }

    fn some_digits(&mut self) -> Result<(), Error> {
        if !self.peek().is_some_and(|b| b.is_ascii_digit()) {
            return Err(self.unexpected("in numeric literal"));
        }
        self.skip_digits();
        Ok(())
    }

    fn skip_digits(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
    }

    /// A string; bytes that are not UTF-8 become replacement characters, as Go has it.
    fn text(&mut self) -> Result<Cow<'a, str>, Error> {
        self.at += 1;
        let start = self.at;
        let mut unescaped: Option<Vec<u8>> = None;
        loop {
            match self.peek() {
                Some(b'"') => {
                    let plain = self.bytes.get(start..self.at).unwrap_or_default();
                    self.at += 1;
                    return Ok(match unescaped {
                        None => String::from_utf8_lossy(plain),
                        Some(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
                    });
                }
                Some(b'\\') => {
                    let plain = self.bytes.get(start..self.at).unwrap_or_default();
                    let out = unescaped.get_or_insert_with(|| plain.to_vec());
                    self.at += 1;
                    let c = self.escape()?;
                    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                Some(byte) if byte >= 0x20 => {
                    if let Some(out) = &mut unescaped {
                        out.push(byte);
                    }
                    self.at += 1;
                }
                _ => return Err(self.unexpected("in string")),
            }
        }
    }

    /// What follows a backslash. A surrogate without its partner becomes a replacement character.
    fn escape(&mut self) -> Result<char, Error> {
        let c = match self.peek() {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode_escape();
            }
            _ => return Err(self.bad_escape(self.at - 1, 2)),
        };
        self.at += 1;
        Ok(c)
    }

    fn unicode_escape(&mut self) -> Result<char, Error> {
        let first = self.hex4()?;
        if (0xd800..0xdc00).contains(&first) && self.bytes.get(self.at..self.at + 2) == Some(b"\\u") {
            let after_first = self.at;
            self.at += 2;
            let second = self.hex4()?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = after_first;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Result<u32, Error> {
        let backslash = self.at - 2;
        let mut value = 0;
        for _ in 0..4 {
            let Some(digit) = self.peek().and_then(|b| char::from(b).to_digit(16)) else {
                return Err(self.bad_escape(backslash, 6));
            };
            value = value * 16 + digit;
            self.at += 1;
        }
        Ok(value)
    }
}

impl Scanner<'_> {
    /// The error for an escape that starts at `backslash` and should be `len` bytes long.
    fn bad_escape(&self, backslash: usize, len: usize) -> Error {
        let offset = backslash + len;
        match self.bytes.get(backslash..offset) {
            Some(bytes) => Error::Escape { sequence: String::from_utf8_lossy(bytes).into_owned(), offset },
            None => Error::Truncated,
        }
    }
}

/// A byte in single quotes, escaped as Go does.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        0..0x20 | 0x7f => format!(r"'\x{byte:02x}'"),
        _ => format!("'{}'", char::from(byte)),
    }
}
