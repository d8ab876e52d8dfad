//! Strings, words, numbers and dates: everything that is one token.

use linnet_ids::Wall;

use super::cursor::Cursor;
use super::error::{Found, Grammar, Problem, SyntaxError};
use super::value::Value;

/// A token that stands for a value.
pub(super) enum Scalar {
    Value(Value),
    /// `$name`
    Variable(String),
}

impl Scalar {
    fn string(bytes: &[u8]) -> Self {
        Self::Value(Value::String(lossy(bytes)))
    }
}

/// Reads the scalar that begins at the cursor, which is not at `[` or `{`.
pub(super) fn scalar(cur: &mut Cursor<'_>) -> Result<Scalar, SyntaxError> {
    match cur.peek() {
        Some('"') => {
            cur.bump();
            double_quoted(cur).map(Scalar::Value)
        }
        Some('\'') => {
            cur.bump();
            single_quoted(cur).map(|text| Scalar::Value(Value::String(text)))
        }
        Some('(') => {
            cur.bump();
            block(cur).map(Scalar::Value)
        }
        Some('-') => {
            cur.bump();
            negative(cur).map(Scalar::Value)
        }
        Some('.') => Err(cur.unexpected(|_| Grammar::FloatDot)),
        Some(c) if c.is_ascii_digit() => number(cur),
        _ => word(cur),
    }
}

/// Text up to the closing `'`, taken literally.
pub(super) fn single_quoted(cur: &mut Cursor<'_>) -> Result<String, SyntaxError> {
    quoted(cur, '\'')
}

/// Text up to `quote`, taken literally.
pub(super) fn quoted(cur: &mut Cursor<'_>, quote: char) -> Result<String, SyntaxError> {
    let text = cur.take_while(|c| c != quote).to_owned();
    if cur.eat(quote) { Ok(text) } else { Err(cur.unexpected(|_| Grammar::Eof)) }
}

fn double_quoted(cur: &mut Cursor<'_>) -> Result<Value, SyntaxError> {
    let mut bytes = Vec::new();
    loop {
        bytes.extend_from_slice(cur.take_while(|c| !matches!(c, '"' | '\\')).as_bytes());
        match cur.peek() {
            Some('"') => {
                cur.bump();
                return Ok(Value::String(lossy(&bytes)));
            }
            Some(_) => bytes.push(escape(cur)?),
            None => return Err(cur.unexpected(|_| Grammar::Eof)),
        }
    }
}

/// The byte that an escape at the cursor stands for.
fn escape(cur: &mut Cursor<'_>) -> Result<u8, SyntaxError> {
    cur.bump();
    let byte = match cur.peek() {
        Some('x') => {
            cur.bump();
            let digits: String = cur.rest().chars().take(2).collect();
            let value = (digits.len() == 2).then(|| u8::from_str_radix(&digits, 16).ok()).flatten();
            // The radix parser takes a sign.
            let Some(value) = value.filter(|_| !digits.starts_with('+')) else {
                let shown = digits.chars().map(|c| Found(Some(c)).to_string()).collect();
                return Err(cur.unexpected(|_| Grammar::HexEscape(shown)));
            };
            cur.bump();
            value
        }
        Some('t') => b'\t',
        Some('n') => b'\n',
        Some('r') => b'\r',
        Some('"') => b'"',
        Some('\\') => b'\\',
        _ => return Err(cur.unexpected(Grammar::Escape)),
    };
    cur.bump();
    Ok(byte)
}

/// `( … )`: everything up to a `)` that is a whole line.
fn block(cur: &mut Cursor<'_>) -> Result<Value, SyntaxError> {
    let start = cur.mark();
    loop {
        cur.take_while(|c| c != '\n');
        if !cur.eat('\n') {
            return Err(cur.unexpected(|_| Grammar::EofInBlock));
        }
        let content = cur.since(start);
        let rest = cur.rest();
        if let Some(after) = rest.strip_prefix(')')
            && (after.is_empty() || after.starts_with(['\n', '\r']))
        {
            cur.bump();
            return Ok(Value::String(content.to_owned()));
        }
    }
}

/// An unquoted word: a truth value, a variable or a string.
fn word(cur: &mut Cursor<'_>) -> Result<Scalar, SyntaxError> {
    let (bytes, escaped) = word_bytes(cur, Vec::new())?;
    if escaped {
        return Ok(Scalar::string(&bytes));
    }
    let text = lossy(&bytes);
    if let Some(name) = text.strip_prefix('$')
        // The prefix of bcrypt hashes, which so many people leave unquoted.
        && !name.starts_with("2a$")
    {
        return Ok(Scalar::Variable(name.to_owned()));
    }
    Ok(Scalar::Value(match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Value::Bool(true),
        "false" | "no" | "off" => Value::Bool(false),
        _ => Value::String(text),
    }))
}

/// The rest of a word whose beginning is known, and whether it has an escape. A `'` ends it and is dropped.
fn word_bytes(cur: &mut Cursor<'_>, start: Vec<u8>) -> Result<(Vec<u8>, bool), SyntaxError> {
    let mut bytes = start;
    let mut escaped = false;
    loop {
        let plain = cur.take_while(|c| !ends_word(c) && !matches!(c, '\'' | '\\'));
        bytes.extend_from_slice(plain.as_bytes());
        match cur.peek() {
            Some('\\') => {
                bytes.push(escape(cur)?);
                escaped = true;
            }
            Some('\'') => {
                cur.bump();
                return Ok((bytes, escaped));
            }
            _ => return Ok((bytes, escaped)),
        }
    }
}

fn ends_word(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | ',' | ';' | ']' | '}')
}

fn at_end(cur: &Cursor<'_>) -> bool {
    cur.peek().is_none_or(ends_word)
}

fn digits<'a>(cur: &mut Cursor<'a>) -> &'a str {
    cur.take_while(|c| c.is_ascii_digit())
}

/// What begins with a digit: an integer, a size, a float, an address, a date, or a word after all.
fn number(cur: &mut Cursor<'_>) -> Result<Scalar, SyntaxError> {
    let start = cur.mark();
    let whole = digits(cur);
    match cur.peek() {
        Some('-') if whole.len() == 4 => return date(cur, start).map(Scalar::Value),
        Some('-') => return Err(cur.unexpected(|_| Grammar::DateForm)),
        Some('.') => return fraction(cur, start).map(Scalar::Value),
        _ => {}
    }
    let suffix = suffix(cur);
    if at_end(cur) {
        return sized(cur, start, whole, suffix).map(Scalar::Value);
    }
    // It is a word. Its first odd character belongs to it whatever it is, also a quote or a backslash.
    cur.bump();
    let head = cur.since(start).as_bytes().to_vec();
    word_bytes(cur, head).map(|(bytes, _)| Scalar::string(&bytes))
}

/// What follows a minus sign.
fn negative(cur: &mut Cursor<'_>) -> Result<Value, SyntaxError> {
    // One byte before: the sign.
    let start = cur.mark() - 1;
    match cur.peek() {
        Some(c) if c.is_ascii_digit() => {}
        Some('.') => return Err(cur.unexpected(|_| Grammar::NegativeFloatDot)),
        _ => return Err(cur.unexpected(Grammar::NegativeDigit)),
    }
    digits(cur);
    if cur.peek() == Some('.') {
        return fraction(cur, start);
    }
    let whole = cur.since(start);
    let suffix = suffix(cur);
    sized(cur, start, whole, suffix)
}

/// The letters after a number as far as a size may have them.
fn suffix<'a>(cur: &mut Cursor<'a>) -> &'a str {
    let start = cur.mark();
    if cur.peek().is_some_and(|c| matches!(c.to_ascii_lowercase(), 'k' | 'm' | 'g' | 't' | 'p' | 'e')) {
        cur.bump();
        cur.take_while(|c| matches!(c, 'b' | 'B' | 'i' | 'I'));
    }
    cur.since(start)
}

fn sized(cur: &Cursor<'_>, start: usize, whole: &str, suffix: &str) -> Result<Value, SyntaxError> {
    let text = || cur.since(start).to_owned();
    let suffix = suffix.to_ascii_lowercase();
    let base: i64 = match suffix.get(1..).unwrap_or("") {
        "" => 1000,
        "b" | "i" | "ib" => 1024,
        _ => return Err(cur.fail(Problem::SizeSuffix(text()))),
    };
    let power = suffix.chars().next().and_then(|c| "kmgtpe".find(c)).map_or(0, |i| i + 1);
    let scaled = whole.parse::<i64>().ok().and_then(|n| (0..power).try_fold(n, |n, _| n.checked_mul(base)));
    scaled.map(Value::Integer).ok_or_else(|| cur.fail(Problem::IntegerRange(text())))
}

/// A dot after digits: a float, or with a second dot an address.
fn fraction(cur: &mut Cursor<'_>, start: usize) -> Result<Value, SyntaxError> {
    cur.bump();
    if digits(cur).is_empty() {
        return Err(cur.unexpected(Grammar::FloatFraction));
    }
    if cur.peek() == Some('.') {
        cur.take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':' | '-'));
        return Ok(Value::String(cur.since(start).to_owned()));
    }
    let text = cur.since(start);
    match text.parse::<f64>() {
        Ok(x) if x.is_finite() => Ok(Value::Float(x)),
        _ => Err(cur.fail(Problem::IntegerRange(text.to_owned()))),
    }
}

/// The rest of a date of which the year is read.
fn date(cur: &mut Cursor<'_>, start: usize) -> Result<Value, SyntaxError> {
    const SHAPE: [(char, &str); 16] = [
        ('-', "'-'"),
        ('0', "digit"),
        ('0', "digit"),
        ('-', "'-'"),
        ('0', "digit"),
        ('0', "digit"),
        ('T', "'T'"),
        ('0', "digit"),
        ('0', "digit"),
        (':', "':'"),
        ('0', "digit"),
        ('0', "digit"),
        (':', "':'"),
        ('0', "digit"),
        ('0', "digit"),
        ('Z', "'Z'"),
    ];
    for (shape, expected) in SHAPE {
        let fits = cur.peek().is_some_and(|c| if shape == '0' { c.is_ascii_digit() } else { c == shape });
        if !fits {
            return Err(cur.unexpected(|found| Grammar::DatePart { expected, found }));
        }
        cur.bump();
    }
    let text = cur.since(start);
    if is_real_date(text) {
        Ok(Value::Date(text.to_owned()))
    } else {
        Err(cur.fail(Problem::Date(text.to_owned())))
    }
}

/// The calendar repeats every 400 years, so that any year can be judged by one that fits into a [`Wall`].
fn is_real_date(text: &str) -> bool {
    let Some((year, rest)) = text.split_at_checked(4) else {
        return false;
    };
    let year = year.parse::<u32>().unwrap_or(0) % 400;
    let year = if year < 200 { 2000 + year } else { 1600 + year };
    Wall::parse_rfc3339(&format!("{year}{rest}")).is_some()
}

/// Text of bytes; each byte that is not part of UTF-8 becomes one U+FFFD.
pub(super) fn lossy(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(std::iter::repeat_n('\u{fffd}', chunk.invalid().len()));
    }
    out
}
