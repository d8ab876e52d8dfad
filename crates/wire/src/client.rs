//! What a client sends (cluster protocols, "Client protocol recap").

use crate::line::{arguments as arguments_of, error_text, size, verb};

pub use crate::line::Error;

/// One operation, borrowing the read buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// `CONNECT {json}`.
    Connect(&'a [u8]),
    /// `INFO {json}`: servers send it, clients may not use it for anything.
    Info(&'a [u8]),
    /// `PUB` or `HPUB`.
    Pub(Pub<'a>),
    /// `SUB subject [queue] sid`.
    Sub {
        /// Subject, not validated.
        subject: &'a [u8],
        /// Queue group.
        queue: Option<&'a [u8]>,
        /// The client's name for the subscription.
        sid: &'a [u8],
    },
    /// `UNSUB sid [max]`.
    Unsub {
        /// The client's name for the subscription.
        sid: &'a [u8],
        /// Remove after this many deliveries in total; `None` removes now.
        max: Option<u64>,
    },
    /// `PING`.
    Ping,
    /// `PONG`.
    Pong,
    /// `+OK`.
    Ok,
    /// `-ERR 'text'`, without the quotes.
    Err(&'a [u8]),
}

/// A publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pub<'a> {
    /// Subject, not validated.
    pub subject: &'a [u8],
    /// Reply subject; empty when absent.
    pub reply: &'a [u8],
    /// Length of the header block at the start of `body`; 0 for `PUB`.
    pub header_len: usize,
    /// Header block and payload.
    pub body: &'a [u8],
}

/// Result of looking at the front of the read buffer.
pub type Parsed<'a> = crate::line::Parsed<Op<'a>>;

/// What the parser enforces.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest line without its end, in bytes.
    pub max_control_line: usize,
    /// Largest header block plus payload, in bytes; `None` for no limit.
    pub max_payload: Option<usize>,
    /// Both sides speak headers.
    pub headers: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Connect,
    Info,
    Pub,
    Hpub,
    Sub,
    Unsub,
    Ping,
    Pong,
    Ok,
    Err,
}

/// Candidates by first byte (upper case). Every verb is at most 7 bytes.
fn candidates(first: u8) -> &'static [(&'static [u8], Verb)] {
    match first {
        b'P' => &[(b"PUB", Verb::Pub), (b"PING", Verb::Ping), (b"PONG", Verb::Pong)],
        b'H' => &[(b"HPUB", Verb::Hpub)],
        b'S' => &[(b"SUB", Verb::Sub)],
        b'U' => &[(b"UNSUB", Verb::Unsub)],
        b'C' => &[(b"CONNECT", Verb::Connect)],
        b'I' => &[(b"INFO", Verb::Info)],
        b'+' => &[(b"+OK", Verb::Ok)],
        b'-' => &[(b"-ERR", Verb::Err)],
        _ => &[],
    }
}

/// Looks at the front of `buf`.
pub fn parse<'a>(buf: &'a [u8], limits: &Limits) -> Parsed<'a> {
    let (verb, verb_len) = match verb(buf, candidates) {
        Ok(Some(found)) => found,
        Ok(None) => return Parsed::MORE,
        Err(e) => return Parsed::Error(e),
    };
    let takes_arguments = !matches!(verb, Verb::Ping | Verb::Pong | Verb::Ok);
    match buf.get(verb_len) {
        None => return Parsed::MORE,
        Some(b' ' | b'\t') => {}
        // CONNECT and INFO accept anything after the verb: the peer does, and some clients glue the brace to it.
        Some(_) if matches!(verb, Verb::Connect | Verb::Info) || !takes_arguments => {}
        Some(_) => return Parsed::Error(Error::UnknownOperation),
    }
    let (line, used) = match arguments_of(buf, verb_len, limits.max_control_line) {
        Ok(Some(found)) => found,
        Ok(None) => return Parsed::MORE,
        Err(e) => return Parsed::Error(e),
    };
    let op = match verb {
        Verb::Ping => Ok(Op::Ping),
        Verb::Pong => Ok(Op::Pong),
        Verb::Ok => Ok(Op::Ok),
        Verb::Connect => Ok(Op::Connect(line.trim_ascii())),
        Verb::Info => Ok(Op::Info(line.trim_ascii())),
        Verb::Err => Ok(Op::Err(error_text(line))),
        Verb::Sub => sub(line),
        Verb::Unsub => unsub(line),
        Verb::Pub | Verb::Hpub => return publication(buf, line, used, verb == Verb::Hpub, limits),
    };
    Parsed::of(op, used)
}

/// Splits at runs of spaces and tabs into at most `N` arguments.
fn arguments<const N: usize>(line: &[u8]) -> Result<([&[u8]; N], usize), Error> {
    let mut out: [&[u8]; N] = [b""; N];
    let mut count = 0;
    let mut rest = line;
    loop {
        while let [b' ' | b'\t', tail @ ..] = rest {
            rest = tail;
        }
        if rest.is_empty() {
            return Ok((out, count));
        }
        // Arguments are short: a plain loop beats a vectorised search.
        let end = rest.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(rest.len());
        let (part, tail) = rest.split_at(end);
        *out.get_mut(count).ok_or(Error::Malformed)? = part;
        count += 1;
        rest = tail;
    }
}

fn sub(line: &[u8]) -> Result<Op<'_>, Error> {
    match arguments::<3>(line)? {
        ([subject, sid, _], 2) => Ok(Op::Sub { subject, queue: None, sid }),
        ([subject, queue, sid], 3) => Ok(Op::Sub { subject, queue: Some(queue), sid }),
        _ => Err(Error::Malformed),
    }
}

fn unsub(line: &[u8]) -> Result<Op<'_>, Error> {
    match arguments::<2>(line)? {
        ([sid, _], 1) => Ok(Op::Unsub { sid, max: None }),
        // A bad or zero count removes now: the peer reads it as "no limit set".
        ([sid, max], 2) => Ok(Op::Unsub { sid, max: size(max).ok().filter(|n| *n > 0).map(|n| n as u64) }),
        _ => Err(Error::Malformed),
    }
}

fn publication<'a>(
    buf: &'a [u8],
    line: &'a [u8],
    line_end: usize,
    with_headers: bool,
    limits: &Limits,
) -> Parsed<'a> {
    let parsed = if with_headers { hpub_arguments(line, limits) } else { pub_arguments(line) };
    let (subject, reply, header_len, total) = match parsed {
        Ok(found) => found,
        Err(e) => return Parsed::Error(e),
    };
    if limits.max_payload.is_some_and(|max| total > max) {
        return Parsed::Error(Error::MaxPayload(total));
    }
    Parsed::with_body(buf, line_end, total, |body| Op::Pub(Pub { subject, reply, header_len, body }))
}

type PubArguments<'a> = (&'a [u8], &'a [u8], usize, usize);

fn pub_arguments(line: &[u8]) -> Result<PubArguments<'_>, Error> {
    match arguments::<3>(line)? {
        ([subject, total, _], 2) => Ok((subject, b"", 0, size(total)?)),
        ([subject, reply, total], 3) => Ok((subject, reply, 0, size(total)?)),
        _ => Err(Error::Malformed),
    }
}

fn hpub_arguments<'a>(line: &'a [u8], limits: &Limits) -> Result<PubArguments<'a>, Error> {
    if !limits.headers {
        return Err(Error::HeadersUnsupported);
    }
    let (subject, reply, header, total) = match arguments::<4>(line)? {
        ([subject, header, total, _], 3) => (subject, b"".as_slice(), size(header)?, size(total)?),
        ([subject, reply, header, total], 4) => (subject, reply, size(header)?, size(total)?),
        _ => return Err(Error::Malformed),
    };
    if header > total { Err(Error::Malformed) } else { Ok((subject, reply, header, total)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { max_control_line: 64, max_payload: Some(100), headers: true };

    fn one(bytes: &[u8]) -> (Op<'_>, usize) {
        match parse(bytes, &LIMITS) {
            Parsed::Op(op, used) => (op, used),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn publications() {
        let (op, used) = one(b"PUB a.b 5\r\nhello\r\nPING");
        assert_eq!(op, Op::Pub(Pub { subject: b"a.b", reply: b"", header_len: 0, body: b"hello" }));
        assert_eq!(used, 18);
        let (op, _) = one(b"pub\ta  r  0 \n\r\n");
        assert_eq!(op, Op::Pub(Pub { subject: b"a", reply: b"r", header_len: 0, body: b"" }));
        let (op, _) = one(b"HPUB a r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n");
        assert_eq!(
            op,
            Op::Pub(Pub { subject: b"a", reply: b"r", header_len: 12, body: b"NATS/1.0\r\n\r\nhi" })
        );
    }

    #[test]
    fn other_operations() {
        assert_eq!(one(b"SUB a 1\r\n").0, Op::Sub { subject: b"a", queue: None, sid: b"1" });
        assert_eq!(one(b"sub a q 1\n").0, Op::Sub { subject: b"a", queue: Some(b"q"), sid: b"1" });
        assert_eq!(one(b"UNSUB 1\r\n").0, Op::Unsub { sid: b"1", max: None });
        assert_eq!(one(b"UNSUB 1 5\r\n").0, Op::Unsub { sid: b"1", max: Some(5) });
        assert_eq!(one(b"PING\r\n").0, Op::Ping);
        assert_eq!(one(b"ping\n").0, Op::Ping);
        assert_eq!(one(b"+OK\r\n").0, Op::Ok);
        assert_eq!(one(b"-ERR 'x'\r\n").0, Op::Err(b"x"));
        assert_eq!(one(b"CONNECT {}\r\n").0, Op::Connect(b"{}"));
    }

    #[test]
    fn refusals() {
        for (bytes, error) in [
            (b"GET / HTTP/1.1\r\n".as_slice(), Error::UnknownOperation),
            (b"PX", Error::UnknownOperation),
            (b"PUBX a 1\r\n", Error::UnknownOperation),
            (b"PUB a\r\n", Error::Malformed),
            (b"PUB a b c 1\r\n", Error::Malformed),
            (b"PUB a -1\r\n", Error::Malformed),
            (b"PUB a 9999999999\r\n", Error::Malformed),
            (b"PUB a 101\r\n", Error::MaxPayload(101)),
            (b"PUB a 2\r\nabc\r\n", Error::UnknownOperation),
            (b"PUB a 2\r\nab\n\n", Error::UnknownOperation),
            (b"HPUB a 5 4\r\n", Error::Malformed),
            (b"SUB a\r\n", Error::Malformed),
            (b"SUB a b c d\r\n", Error::Malformed),
            (b"UNSUB\n", Error::UnknownOperation),
            (b"UNSUB  \n", Error::Malformed),
        ] {
            assert_eq!(parse(bytes, &LIMITS), Parsed::Error(error), "{}", String::from_utf8_lossy(bytes));
        }
        let endless = [b"SUB ".as_slice(), &[b'a'; 100]].concat();
        assert_eq!(parse(&endless, &LIMITS), Parsed::Error(Error::ControlLine));
        let long = [b"SUB ".as_slice(), &[b'a'; 100], b" 1\r\n"].concat();
        assert_eq!(parse(&long, &LIMITS), Parsed::Error(Error::ControlLine));
        let no_headers = Limits { headers: false, ..LIMITS };
        assert_eq!(parse(b"HPUB a 0 0\r\n", &no_headers), Parsed::Error(Error::HeadersUnsupported));
    }

    #[test]
    fn every_prefix_of_a_valid_operation_is_incomplete() {
        for whole in [
            b"PUB a r 5\r\nhello\r\n".as_slice(),
            b"HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
            b"SUB a.b q 1\r\n",
            b"CONNECT {\"a\":1}\r\n",
            b"PING\r\n",
        ] {
            for len in 0..whole.len() {
                let found = parse(&whole[..len], &LIMITS);
                assert!(
                    matches!(found, Parsed::Incomplete { total } if total.is_none_or(|t| t == whole.len())),
                    "{found:?}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes, &LIMITS);
        }

        #[test]
        fn near_misses_never_panic(text in "(PUB|HPUB|SUB|UNSUB|pUb) [a-c *>.]{0,10}[ \t][0-9-]{0,11}\r?\n[a-z\r\n]{0,20}") {
            let _ = parse(text.as_bytes(), &LIMITS);
        }
    }
}
