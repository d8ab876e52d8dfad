//! Header blocks: `NATS/1.0[ status[ description]]\r\n(Key: value\r\n)*\r\n`. Keys are matched case-sensitively.

use std::ops::Range;

use memchr::memchr;

/// First bytes of every header block.
pub const VERSION: &[u8] = b"NATS/1.0";

/// The value of the first header called `key`, without the spaces before it.
pub fn get<'a>(block: &'a [u8], key: &str) -> Option<&'a [u8]> {
    iter(block).find(|(k, _)| *k == key.as_bytes()).map(|(_, v)| v)
}

/// Key and value of every header, in order. Lines without a colon are skipped, and spaces before a value; what follows
/// belongs to it, as nats-server takes it.
pub fn iter(block: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    lines(block).skip(1).filter_map(|line| {
        let colon = memchr(b':', line)?;
        let value = &line[colon + 1..];
        let spaces = value.iter().take_while(|b| **b == b' ').count();
        Some((&line[..colon], &value[spaces..]))
    })
}

/// Where in `block` the value of the first header called `key` is, without the spaces before it.
pub fn position(block: &[u8], key: &str) -> Option<Range<usize>> {
    let mut start = 0;
    for line in block.split_inclusive(|b| *b == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.is_empty() {
            return None;
        }
        if let Some(value) = text.strip_prefix(key.as_bytes()).and_then(|rest| rest.strip_prefix(b":")) {
            let spaces = value.iter().take_while(|b| **b == b' ').count();
            let end = start + text.len();
            return Some(end - value.len() + spaces..end);
        }
        start += line.len();
    }
    None
}

/// The text after the version on the first line, empty when there is none.
pub fn status(block: &[u8]) -> &[u8] {
    lines(block).next().and_then(|l| l.strip_prefix(VERSION)).unwrap_or_default().trim_ascii()
}

fn lines(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    block.split(|b| *b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l)).take_while(|l| !l.is_empty())
}

/// Starts a block with an optional status such as `503` or `100 Idle Heartbeat`.
pub fn begin(out: &mut Vec<u8>, status: &str) {
    out.extend_from_slice(VERSION);
    if !status.is_empty() {
        out.push(b' ');
        out.extend_from_slice(status.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends one header to a block that is not ended yet.
pub fn push(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// As [`push`], of a number.
pub fn push_number(out: &mut Vec<u8>, key: &str, value: u64) {
    push(out, key, itoa::Buffer::new().format(value).as_bytes());
}

/// Ends a block.
pub fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Appends `block` without its end, so that more headers can follow; starts a fresh block if it is empty.
pub fn reopen(out: &mut Vec<u8>, block: &[u8]) {
    match block.strip_suffix(b"\r\n") {
        Some(open) if !open.is_empty() => out.extend_from_slice(open),
        _ => begin(out, ""),
    }
}

/// Appends `block` without the headers for which `drop` holds and without a status. Nothing is appended if no
/// header remains.
pub fn retain(out: &mut Vec<u8>, block: &[u8], mut drop: impl FnMut(&[u8]) -> bool) {
    let start = out.len();
    begin(out, "");
    let empty = out.len();
    for line in lines(block).skip(1) {
        let key = memchr(b':', line).map_or(line, |colon| &line[..colon]);
        if !drop(key) {
            out.extend_from_slice(line);
            out.extend_from_slice(b"\r\n");
        }
    }
    if out.len() == empty {
        out.truncate(start);
    } else {
        end(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &[u8] = b"NATS/1.0 503 No Responders\r\nA: 1\r\nB:2 \r\na: x\r\nnocolon\r\n\r\n";

    #[test]
    fn reading() {
        assert_eq!(get(BLOCK, "A"), Some(b"1".as_slice()));
        assert_eq!(get(BLOCK, "B"), Some(b"2 ".as_slice()));
        assert_eq!(get(BLOCK, "C"), None);
        assert_eq!(status(BLOCK), b"503 No Responders");
        assert_eq!(iter(BLOCK).count(), 3);
        assert_eq!(get(b"", "A"), None);
        assert_eq!(status(b"garbage"), b"");
        for key in ["A", "B", "a", "C", "NATS/1.0 503 No Responders", "ocolon"] {
            assert_eq!(position(BLOCK, key).and_then(|at| BLOCK.get(at)), get(BLOCK, key), "{key}");
        }
    }

    #[test]
    fn editing() {
        let mut out = Vec::new();
        reopen(&mut out, b"NATS/1.0\r\nA: 1\r\n\r\n");
        push(&mut out, "B", b"2");
        end(&mut out);
        assert_eq!(out, b"NATS/1.0\r\nA: 1\r\nB: 2\r\n\r\n");
        let mut kept = Vec::new();
        retain(&mut kept, &out, |key| key == b"A");
        assert_eq!(kept, b"NATS/1.0\r\nB: 2\r\n\r\n");
        kept.clear();
        retain(&mut kept, &out, |_| true);
        assert!(kept.is_empty());
    }
}
