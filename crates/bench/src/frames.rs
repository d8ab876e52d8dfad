//! The client protocol, as much of it as a load generator needs.

use std::io::Write as _;

use anyhow::{Result, bail};

/// One frame from the server. It borrows from the read buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// MSG or HMSG.
    Msg(Msg<'a>),
    /// The answer to a PING.
    Pong,
    /// INFO, PING or +OK, to which a generator does nothing.
    Other,
    /// -ERR with its text.
    Err(&'a [u8]),
}

/// A delivered message. Arguments are split only when asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Msg<'a> {
    args: &'a [u8],
    has_headers: bool,
    /// The header block, empty for MSG.
    pub(crate) headers: &'a [u8],
    /// The payload without headers.
    pub(crate) payload: &'a [u8],
}

impl<'a> Msg<'a> {
    fn args(&self) -> impl Iterator<Item = &'a [u8]> {
        self.args.split(|&byte| byte == b' ').filter(|arg| !arg.is_empty())
    }

    /// The subject.
    pub(crate) fn subject(&self) -> &'a [u8] {
        self.args().next().unwrap_or_default()
    }

    /// The reply subject, if there is one.
    pub(crate) fn reply(&self) -> Option<&'a [u8]> {
        let sizes = if self.has_headers { 2 } else { 1 };
        let reply = self.args().nth(2)?;
        (self.args().count() == 3 + sizes).then_some(reply)
    }

    /// The status line of the headers, as `503`, if there is one.
    pub(crate) fn status(&self) -> Option<&'a [u8]> {
        let line = self.headers.strip_prefix(b"NATS/1.0 ")?;
        line.split(|&byte| byte == b'\r').next()
    }
}

/// The longest line a server is believed.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// The first frame in `input` and its length; `None` if it is not complete.
#[inline]
pub(crate) fn decode(input: &[u8]) -> Result<Option<(Frame<'_>, usize)>> {
    let Some(newline) = memchr::memchr(b'\n', input) else {
        if input.len() > LINE_BYTES_MAX {
            bail!("the server sent a line of more than {LINE_BYTES_MAX} bytes");
        }
        return Ok(None);
    };
    let line = input[..newline].strip_suffix(b"\r").unwrap_or(&input[..newline]);
    let after_line = newline + 1;
    if let Some(args) = line.strip_prefix(b"MSG ") {
        return message(input, after_line, args, false);
    }
    if let Some(args) = line.strip_prefix(b"HMSG ") {
        return message(input, after_line, args, true);
    }
    let frame = match line {
        b"PONG" => Frame::Pong,
        b"PING" | b"+OK" => Frame::Other,
        _ if line.starts_with(b"INFO ") => Frame::Other,
        _ => match line.strip_prefix(b"-ERR") {
            Some(text) => Frame::Err(text.trim_ascii()),
            None => bail!("the server sent {:?}", String::from_utf8_lossy(&line[..line.len().min(80)])),
        },
    };
    Ok(Some((frame, after_line)))
}

#[inline]
fn message<'a>(
    input: &'a [u8],
    start: usize,
    args: &'a [u8],
    has_headers: bool,
) -> Result<Option<(Frame<'a>, usize)>> {
    let (before_size, size) = last_number(args)?;
    let header_size = if has_headers { last_number(before_size.trim_ascii_end())?.1 } else { 0 };
    if header_size > size {
        bail!("the server sent a message whose headers are longer than itself");
    }
    let end = start + size;
    let Some(tail) = input.get(end..end + 2) else { return Ok(None) };
    if tail != b"\r\n" {
        bail!("the server sent a message that is longer than it said");
    }
    let (headers, payload) = input[start..end].split_at(header_size);
    Ok(Some((Frame::Msg(Msg { args, has_headers, headers, payload }), end + 2)))
}

/// The number that ends a line of arguments, and what precedes it.
#[inline]
fn last_number(args: &[u8]) -> Result<(&[u8], usize)> {
    let mut value = 0;
    let mut unit = 1;
    let mut rest = args;
    while let Some((&digit @ b'0'..=b'9', before)) = rest.split_last() {
        value += usize::from(digit - b'0') * unit;
        unit = unit.saturating_mul(10);
        rest = before;
        if args.len() - rest.len() > 9 {
            bail!("the server sent a size of more than nine digits");
        }
    }
    if rest.len() == args.len() {
        bail!("the server sent a message without a size");
    }
    Ok((rest, value))
}

/// How many messages `input` holds, and the length of the complete frames.
pub(crate) fn count(input: &[u8]) -> Result<(u64, usize)> {
    let mut messages = 0;
    let mut used = 0;
    while let Some((frame, length)) = decode(&input[used..])? {
        used += length;
        match frame {
            Frame::Msg(_) => messages += 1,
            Frame::Err(text) => bail!("the server sent -ERR {}", String::from_utf8_lossy(text)),
            Frame::Pong | Frame::Other => {}
        }
    }
    Ok((messages, used))
}

/// Appends a PUB frame.
pub(crate) fn put_pub(out: &mut Vec<u8>, subject: &[u8], reply: Option<&[u8]>, payload: &[u8]) {
    out.extend_from_slice(b"PUB ");
    out.extend_from_slice(subject);
    if let Some(reply) = reply {
        out.push(b' ');
        out.extend_from_slice(reply);
    }
    // Writing to a Vec cannot fail.
    let _ = write!(out, " {}\r\n", payload.len());
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// Appends a SUB line.
pub(crate) fn put_sub(out: &mut Vec<u8>, subject: &str, queue: Option<&str>, sid: u64) {
    let _ = match queue {
        Some(queue) => write!(out, "SUB {subject} {queue} {sid}\r\n"),
        None => write!(out, "SUB {subject} {sid}\r\n"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"INFO {\"a\":1} \r\nPONG\r\nMSG a.b 1 5\r\nhe\r\no\r\nMSG a 22 in.box 0\r\n\r\n\
        HMSG a 1 r 12 17\r\nNATS/1.0\r\n\r\nMSG a\r\nHMSG tr 1  16 16\r\nNATS/1.0 503\r\n\r\n\r\nPING\r\n+OK\r\n";

    /// Subject, reply and payload of each message, separated by blanks.
    fn messages(input: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        let mut rest = input;
        while let Some((frame, length)) = decode(rest).unwrap() {
            if let Frame::Msg(msg) = frame {
                let parts = [msg.subject(), msg.reply().unwrap_or(b"-"), msg.payload];
                found.push(parts.map(|part| String::from_utf8_lossy(part).into_owned()).join(" "));
            }
            rest = &rest[length..];
        }
        assert!(rest.is_empty());
        found
    }

    #[test]
    fn arguments_and_payloads_are_found() {
        assert_eq!(messages(STREAM), ["a.b - he\r\no", "a in.box ", "a r MSG a", "tr - "]);
    }

    #[test]
    fn input_split_anywhere_counts_the_same() {
        for split in 0..=STREAM.len() {
            let (first, used) = count(&STREAM[..split]).unwrap();
            let (second, used_later) = count(&STREAM[used..]).unwrap();
            assert_eq!((first + second, used + used_later), (4, STREAM.len()), "split at {split}");
        }
    }

    #[test]
    fn input_byte_by_byte_counts_the_same() {
        let mut carry = Vec::new();
        let mut total = 0;
        for &byte in STREAM {
            carry.push(byte);
            let (messages, used) = count(&carry).unwrap();
            total += messages;
            carry.drain(..used);
        }
        assert_eq!((total, carry.len()), (4, 0));
    }

    #[test]
    fn status_is_the_first_header_line() {
        let (frame, _) = decode(b"HMSG a 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n").unwrap().unwrap();
        let Frame::Msg(msg) = frame else { panic!("{frame:?}") };
        assert_eq!(msg.status(), Some(b"503".as_slice()));
    }

    #[test]
    fn nonsense_is_refused() {
        let wrong: [&[u8]; 7] = [
            b"HELLO\r\n",
            b"MSG a 1 x\r\n",
            b"MSG a 1 1\r\nabc\r\n",
            b"MSG a 1 1234567890\r\n",
            b"HMSG a 1 9 2\r\n",
            b"HMSG 1\r\n",
            b"-ERR 'Slow'\r\n",
        ];
        for input in wrong {
            assert!(count(input).is_err(), "{}", String::from_utf8_lossy(input));
        }
    }

    #[test]
    fn frames_are_built() {
        let mut out = Vec::new();
        put_pub(&mut out, b"a", Some(b"r"), b"xyz");
        put_pub(&mut out, b"a", None, b"");
        put_sub(&mut out, "a.*", Some("q"), 7);
        put_sub(&mut out, "b", None, 8);
        assert_eq!(out, b"PUB a r 3\r\nxyz\r\nPUB a 0\r\n\r\nSUB a.* q 7\r\nSUB b 8\r\n");
    }
}
