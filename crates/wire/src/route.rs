//! What the servers of a cluster send each other (cluster protocols, "Routes").
//!
//! A connection that carries one account only leaves the account out of every line: the caller says which kind it is
//! with [`Form`] when it reads and with an empty account when it writes.

use crate::encode;
use crate::line::{Error, arguments, error_text, size, verb};

/// One operation, borrowing the read buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// `CONNECT {json}`.
    Connect(&'a [u8]),
    /// `INFO {json}`.
    Info(&'a [u8]),
    /// `RS+`, `RS-`, `LS+` or `LS-`.
    Interest(Interest<'a>),
    /// `RMSG`, `HMSG` or `LMSG`.
    Message(Message<'a>),
    /// `PING`.
    Ping,
    /// `PONG`.
    Pong,
    /// `+OK`.
    Ok,
    /// `-ERR 'text'`, without the quotes.
    Err(&'a [u8]),
    /// A line that has no meaning on a route and does no harm: `A+`, `A-`, `SUB`, `UNSUB`, `PUB`.
    Meaningless,
}

/// Interest that appears, changes or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest<'a> {
    /// Cluster of the leaf that is interested; `None` if a client of the sending server is.
    pub origin: Option<&'a [u8]>,
    /// Account; empty on a connection of one account.
    pub account: &'a [u8],
    /// Subject, may have wildcards.
    pub subject: &'a [u8],
    /// Queue group.
    pub queue: Option<&'a [u8]>,
    /// Members of the queue group on the sending server; 1 without a group, 0 when the interest goes.
    pub weight: u32,
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Cluster of the leaf it came from.
    pub origin: Option<&'a [u8]>,
    /// Account; empty on a connection of one account.
    pub account: &'a [u8],
    /// Subject.
    pub subject: &'a [u8],
    /// Reply subject; empty when absent.
    pub reply: &'a [u8],
    /// Queue groups that the receiver is to serve.
    pub queues: Queues<'a>,
    /// Length of the header block at the start of `body`.
    pub header_len: usize,
    /// Header block and payload.
    pub body: &'a [u8],
}

/// Names of queue groups with spaces between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queues<'a>(&'a [u8]);

impl<'a> Queues<'a> {
    /// The names in order.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        words(self.0)
    }

    /// True if there is none.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }
}

/// Result of looking at the front of the read buffer.
pub type Parsed<'a> = crate::line::Parsed<Op<'a>>;

/// What lines look like on a connection.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// Lines name their account.
    pub has_account: bool,
    /// The other side names the cluster in `LS-`; servers before 2.10 do not.
    pub has_origin_in_removal: bool,
    /// Longest line without its end, in bytes.
    pub max_line: usize,
}

/// Bytes of the largest message that is taken from another server. What clients may publish is bounded by the server
/// they are connected to, by 64 MiB unless its configuration says otherwise.
pub const BODY_MAX: usize = 128 << 20;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Connect,
    Info,
    Add { leaf: bool },
    Remove { leaf: bool },
    Message,
    HeaderMessage,
    LeafMessage,
    Publish,
    Ping,
    Pong,
    Ok,
    Err,
    Meaningless,
}

fn candidates(first: u8) -> &'static [(&'static [u8], Verb)] {
    match first {
        b'R' => &[
            (b"RMSG", Verb::Message),
            (b"RS+", Verb::Add { leaf: false }),
            (b"RS-", Verb::Remove { leaf: false }),
        ],
        b'L' => &[
            (b"LMSG", Verb::LeafMessage),
            (b"LS+", Verb::Add { leaf: true }),
            (b"LS-", Verb::Remove { leaf: true }),
        ],
        b'H' => &[(b"HMSG", Verb::HeaderMessage)],
        b'P' => &[(b"PING", Verb::Ping), (b"PONG", Verb::Pong), (b"PUB", Verb::Publish)],
        b'I' => &[(b"INFO", Verb::Info)],
        b'C' => &[(b"CONNECT", Verb::Connect)],
        b'+' => &[(b"+OK", Verb::Ok)],
        b'-' => &[(b"-ERR", Verb::Err)],
        b'A' => &[(b"A+", Verb::Meaningless), (b"A-", Verb::Meaningless)],
        b'S' => &[(b"SUB", Verb::Meaningless)],
        b'U' => &[(b"UNSUB", Verb::Meaningless)],
        _ => &[],
    }
}

/// Looks at the front of `buf`.
pub fn parse<'a>(buf: &'a [u8], form: &Form) -> Parsed<'a> {
    let (verb, verb_len) = match verb(buf, candidates) {
        Ok(Some(found)) => found,
        Ok(None) => return Parsed::MORE,
        Err(error) => return Parsed::Error(error),
    };
    let (line, used) = match arguments(buf, verb_len, form.max_line) {
        Ok(Some(found)) => found,
        Ok(None) => return Parsed::MORE,
        Err(error) => return Parsed::Error(error),
    };
    let op = match verb {
        Verb::Ping => Ok(Op::Ping),
        Verb::Pong => Ok(Op::Pong),
        Verb::Ok => Ok(Op::Ok),
        Verb::Meaningless => Ok(Op::Meaningless),
        Verb::Connect => Ok(Op::Connect(line.trim_ascii())),
        Verb::Info => Ok(Op::Info(line.trim_ascii())),
        Verb::Err => Ok(Op::Err(error_text(line))),
        Verb::Add { leaf } => addition(line, leaf, form).map(Op::Interest),
        Verb::Remove { leaf } => removal(line, leaf, form).map(Op::Interest),
        Verb::Message | Verb::HeaderMessage | Verb::LeafMessage => {
            return match head(line, verb, form) {
                Ok((head, total)) => {
                    Parsed::with_body(buf, used, total, |body| Op::Message(Message { body, ..head }))
                }
                Err(error) => Parsed::Error(error),
            };
        }
        Verb::Publish => {
            return match words(line).last().map_or(Err(Error::Malformed), size) {
                Ok(total) => Parsed::with_body(buf, used, total, |_| Op::Meaningless),
                Err(error) => Parsed::Error(error),
            };
        }
    };
    Parsed::of(op, used)
}

/// Words between runs of spaces and tabs.
fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|b| matches!(b, b' ' | b'\t')).filter(|word| !word.is_empty())
}

/// Takes the first word off.
fn word<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Error> {
    let start = rest.iter().position(|b| !matches!(b, b' ' | b'\t')).ok_or(Error::Malformed)?;
    let text = rest.get(start..).unwrap_or_default();
    let end = text.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(text.len());
    let (word, behind) = text.split_at(end);
    *rest = behind;
    Ok(word)
}

/// Takes the last word off.
fn last_word<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Error> {
    let text = rest.trim_ascii_end();
    let start = text.iter().rposition(|b| matches!(b, b' ' | b'\t')).map_or(0, |at| at + 1);
    let (before, word) = text.split_at(start);
    *rest = before;
    if word.is_empty() { Err(Error::Malformed) } else { Ok(word) }
}

fn account<'a>(rest: &mut &'a [u8], form: &Form) -> Result<&'a [u8], Error> {
    if form.has_account { word(rest) } else { Ok(b"") }
}

fn addition<'a>(line: &'a [u8], leaf: bool, form: &Form) -> Result<Interest<'a>, Error> {
    let mut rest = line;
    let origin = leaf.then(|| word(&mut rest)).transpose()?;
    let account = account(&mut rest, form)?;
    let subject = word(&mut rest)?;
    let mut behind = words(rest);
    let (queue, weight) = match (behind.next(), behind.next(), behind.next()) {
        (None, ..) => (None, 1),
        // What is no number is no member, as on nats-server.
        (Some(queue), Some(weight), None) => {
            (Some(queue), size(weight).ok().and_then(|weight| u32::try_from(weight).ok()).unwrap_or(0))
        }
        _ => return Err(Error::Malformed),
    };
    Ok(Interest { origin, account, subject, queue, weight })
}

fn removal<'a>(line: &'a [u8], leaf: bool, form: &Form) -> Result<Interest<'a>, Error> {
    let mut rest = line;
    let origin = match (leaf, form.has_origin_in_removal) {
        (false, _) => None,
        (true, true) => Some(word(&mut rest)?),
        (true, false) => Some(b"".as_slice()),
    };
    let account = account(&mut rest, form)?;
    let subject = word(&mut rest)?;
    let mut behind = words(rest);
    let queue = behind.next();
    if behind.next().is_some() {
        return Err(Error::Malformed);
    }
    Ok(Interest { origin, account, subject, queue, weight: 0 })
}

/// The line in front of a message's body, and how long that is.
fn head<'a>(line: &'a [u8], verb: Verb, form: &Form) -> Result<(Message<'a>, usize), Error> {
    let mut rest = line;
    let origin = (verb == Verb::LeafMessage).then(|| word(&mut rest)).transpose()?;
    let account = account(&mut rest, form)?;
    let subject = word(&mut rest)?;
    let total = size(last_word(&mut rest)?)?;
    let header_len = if verb == Verb::Message { 0 } else { size(last_word(&mut rest)?)? };
    if header_len > total {
        return Err(Error::Malformed);
    }
    if total > BODY_MAX {
        return Err(Error::MaxPayload(total));
    }
    let (reply, queues) = targets(rest)?;
    Ok((Message { origin, account, subject, reply, queues, header_len, body: b"" }, total))
}

/// What stands between subject and sizes: `[reply]`, `+ reply queue…`, `| queue…`.
fn targets(middle: &[u8]) -> Result<(&[u8], Queues<'_>), Error> {
    let mut rest = middle;
    let Ok(first) = word(&mut rest) else { return Ok((b"", Queues::default())) };
    // One word is a reply subject, also if a client has chosen one that looks like a mark.
    if words(rest).next().is_none() {
        return Ok((first, Queues::default()));
    }
    let (reply, queues) = match first {
        b"+" => (word(&mut rest)?, Queues(rest)),
        b"|" => (b"".as_slice(), Queues(rest)),
        _ => return Err(Error::Malformed),
    };
    if queues.is_empty() { Err(Error::Malformed) } else { Ok((reply, queues)) }
}

/// Appends a line of interest. Leaves out what `form` says the other side does not expect.
pub fn write_interest(out: &mut Vec<u8>, interest: &Interest<'_>, form: &Form) {
    let is_removal = interest.weight == 0;
    let verb: &[u8] = match (interest.origin.is_some(), is_removal) {
        (false, false) => b"RS+",
        (false, true) => b"RS-",
        (true, false) => b"LS+",
        (true, true) => b"LS-",
    };
    out.extend_from_slice(verb);
    let origin = interest.origin.filter(|_| !is_removal || form.has_origin_in_removal);
    let account = Some(interest.account).filter(|_| form.has_account);
    for part in [origin, account, Some(interest.subject), interest.queue].into_iter().flatten() {
        out.push(b' ');
        out.extend_from_slice(part);
    }
    if interest.queue.is_some() && !is_removal {
        out.push(b' ');
        encode::number(out, u64::from(interest.weight));
    }
    out.extend_from_slice(encode::CRLF);
}

/// Appends a message: its line, its body and the line end. `queues` are served besides plain interest.
pub fn write_message<'a>(
    out: &mut Vec<u8>,
    message: &Message<'_>,
    queues: impl Iterator<Item = &'a [u8]>,
    form: &Form,
) {
    let has_header_len = message.origin.is_some() || message.header_len > 0;
    let verb: &[u8] = match (message.origin.is_some(), has_header_len) {
        (true, _) => b"LMSG",
        (false, true) => b"HMSG",
        (false, false) => b"RMSG",
    };
    out.extend_from_slice(verb);
    let account = Some(message.account).filter(|_| form.has_account);
    for part in [message.origin, account, Some(message.subject)].into_iter().flatten() {
        out.push(b' ');
        out.extend_from_slice(part);
    }
    write_targets(out, message.reply, queues);
    if has_header_len {
        out.push(b' ');
        encode::number(out, message.header_len as u64);
    }
    out.push(b' ');
    encode::number(out, message.body.len() as u64);
    out.extend_from_slice(encode::CRLF);
    out.extend_from_slice(message.body);
    out.extend_from_slice(encode::CRLF);
}

fn write_targets<'a>(out: &mut Vec<u8>, reply: &[u8], queues: impl Iterator<Item = &'a [u8]>) {
    let mut queues = queues.peekable();
    if queues.peek().is_some() {
        out.extend_from_slice(if reply.is_empty() { b" |" } else { b" +" });
    }
    if !reply.is_empty() {
        out.push(b' ');
        out.extend_from_slice(reply);
    }
    for queue in queues {
        out.push(b' ');
        out.extend_from_slice(queue);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POOLED: Form = Form { has_account: true, has_origin_in_removal: true, max_line: 256 };
    const DEDICATED: Form = Form { has_account: false, ..POOLED };
    const OLD: Form = Form { has_origin_in_removal: false, ..POOLED };

    fn one<'a>(bytes: &'a [u8], form: &Form) -> Op<'a> {
        match parse(bytes, form) {
            Parsed::Op(op, used) if used == bytes.len() => op,
            other => panic!("{other:?}"),
        }
    }

    fn interest<'a>(bytes: &'a [u8], form: &Form) -> Interest<'a> {
        match one(bytes, form) {
            Op::Interest(interest) => interest,
            other => panic!("{other:?}"),
        }
    }

    /// Origin, account, subject, reply, queues, length of the headers, body.
    type Fields = (String, String, String, String, String, usize, String);

    fn message(bytes: &[u8], form: &Form) -> Fields {
        let Op::Message(m) = one(bytes, form) else { panic!("no message") };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let queues: Vec<String> = m.queues.iter().map(text).collect();
        let origin = m.origin.map(text).unwrap_or_default();
        (
            origin,
            text(m.account),
            text(m.subject),
            text(m.reply),
            queues.join(","),
            m.header_len,
            text(m.body),
        )
    }

    #[test]
    fn interest_lines() {
        let plain = Interest { origin: None, account: b"X", subject: b"foo", queue: None, weight: 1 };
        let queue = Interest { queue: Some(b"q"), weight: 3, ..plain };
        let leaf = Interest { origin: Some(b"LC"), ..queue };
        let rows: [(&[u8], Form, Interest<'_>); 14] = [
            (b"RS+ X foo\r\n", POOLED, plain),
            (b"RS+ X foo q 3\r\n", POOLED, queue),
            (b"RS- X foo\r\n", POOLED, Interest { weight: 0, ..plain }),
            (b"RS- X foo q\r\n", POOLED, Interest { weight: 0, ..queue }),
            (b"LS+ LC X foo q 3\r\n", POOLED, leaf),
            (b"LS+ LC X foo\r\n", POOLED, Interest { origin: Some(b"LC"), ..plain }),
            (b"LS- LC X foo q\r\n", POOLED, Interest { weight: 0, ..leaf }),
            (b"LS- X foo q\r\n", OLD, Interest { weight: 0, origin: Some(b""), ..leaf }),
            (b"RS+ foo\r\n", DEDICATED, Interest { account: b"", ..plain }),
            (b"RS+ foo q 3\r\n", DEDICATED, Interest { account: b"", ..queue }),
            (b"RS- foo q\r\n", DEDICATED, Interest { account: b"", weight: 0, ..queue }),
            (b"LS+ LC foo q 3\r\n", DEDICATED, Interest { account: b"", ..leaf }),
            (b"LS- LC foo\r\n", DEDICATED, Interest { account: b"", weight: 0, queue: None, ..leaf }),
            (
                b"LS- foo\r\n",
                Form { has_account: false, ..OLD },
                Interest { account: b"", weight: 0, queue: None, origin: Some(b""), ..leaf },
            ),
        ];
        for (line, form, expected) in rows {
            assert_eq!(interest(line, &form), expected, "{}", String::from_utf8_lossy(line));
            let mut written = Vec::new();
            write_interest(&mut written, &expected, &form);
            assert_eq!(written, line);
        }
        assert_eq!(interest(b"rs+\tX  foo\n", &POOLED), plain);
    }

    #[test]
    fn a_weight_that_is_no_number_is_none() {
        for weight in ["-1", "+1", "x", "1.5", "1000000000"] {
            let line = format!("RS+ X foo q {weight}\r\n");
            assert_eq!(interest(line.as_bytes(), &POOLED).weight, 0, "{line}");
        }
        assert_eq!(interest(b"RS+ X foo q 999999999\r\n", &POOLED).weight, 999_999_999);
    }

    #[test]
    fn messages() {
        let rows: [(&[u8], Form, [&str; 6], usize); 14] = [
            (b"RMSG X foo | 2\r\nhi\r\n", POOLED, ["", "X", "foo", "|", "", "hi"], 0),
            (b"RMSG X foo + 2\r\nhi\r\n", POOLED, ["", "X", "foo", "+", "", "hi"], 0),
            (b"RMSG X foo + | q 2\r\nhi\r\n", POOLED, ["", "X", "foo", "|", "q", "hi"], 0),
            (b"RMSG X foo 2\r\nhi\r\n", POOLED, ["", "X", "foo", "", "", "hi"], 0),
            (b"RMSG X foo rep.ly 2\r\nhi\r\n", POOLED, ["", "X", "foo", "rep.ly", "", "hi"], 0),
            (b"RMSG X foo | qa qb 1\r\nh\r\n", POOLED, ["", "X", "foo", "", "qa,qb", "h"], 0),
            (b"RMSG X foo + re qa qb 1\r\nh\r\n", POOLED, ["", "X", "foo", "re", "qa,qb", "h"], 0),
            (
                b"HMSG X foo + re q 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
                POOLED,
                ["", "X", "foo", "re", "q", "NATS/1.0\r\n\r\nhi"],
                12,
            ),
            (
                b"HMSG X foo 12 12\r\nNATS/1.0\r\n\r\n\r\n",
                POOLED,
                ["", "X", "foo", "", "", "NATS/1.0\r\n\r\n"],
                12,
            ),
            (b"LMSG LC X m.a rep 0 2\r\nhi\r\n", POOLED, ["LC", "X", "m.a", "rep", "", "hi"], 0),
            (b"LMSG LC X m.a | qa 0 1\r\nh\r\n", POOLED, ["LC", "X", "m.a", "", "qa", "h"], 0),
            (b"RMSG foo 0\r\n\r\n", DEDICATED, ["", "", "foo", "", "", ""], 0),
            (b"RMSG foo + re q 1\r\nh\r\n", DEDICATED, ["", "", "foo", "re", "q", "h"], 0),
            (b"LMSG LC foo 0 2\r\nhi\r\n", DEDICATED, ["LC", "", "foo", "", "", "hi"], 0),
        ];
        for (line, form, [origin, account, subject, reply, queues, body], header_len) in rows {
            let found = message(line, &form);
            let expected = [origin, account, subject, reply, queues].map(str::to_owned);
            assert_eq!([found.0, found.1, found.2, found.3, found.4], expected);
            assert_eq!((found.5, found.6.as_str()), (header_len, body));
            let Op::Message(m) = one(line, &form) else { panic!("no message") };
            let mut written = Vec::new();
            write_message(&mut written, &m, m.queues.iter(), &form);
            assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn other_operations() {
        assert_eq!(one(b"CONNECT {}\r\n", &POOLED), Op::Connect(b"{}"));
        assert_eq!(one(b"INFO {\"a\":1} \r\n", &POOLED), Op::Info(b"{\"a\":1}"));
        assert_eq!(one(b"PING\r\n", &POOLED), Op::Ping);
        assert_eq!(one(b"PONG\r\n", &POOLED), Op::Pong);
        assert_eq!(one(b"+OK\r\n", &POOLED), Op::Ok);
        assert_eq!(one(b"-ERR 'Stale Connection'\r\n", &POOLED), Op::Err(b"Stale Connection"));
        for harmless in
            [b"A+ X\r\n".as_slice(), b"A- X\r\n", b"SUB a 1\r\n", b"UNSUB 1\r\n", b"PUB a 2\r\nhi\r\n"]
        {
            assert_eq!(one(harmless, &POOLED), Op::Meaningless);
        }
    }

    #[test]
    fn refusals() {
        for (bytes, error) in [
            (b"GET / HTTP/1.1\r\n".as_slice(), Error::UnknownOperation),
            (b"RX", Error::UnknownOperation),
            (b"RS+ X\r\n", Error::Malformed),
            (b"RS+ X foo q\r\n", Error::Malformed),
            (b"RS+ X foo q 1 2\r\n", Error::Malformed),
            (b"RS- X foo q 1\r\n", Error::Malformed),
            (b"LS+ LC X\r\n", Error::Malformed),
            (b"RMSG X foo\r\n", Error::Malformed),
            (b"RMSG X foo a b 1\r\n", Error::Malformed),
            (b"RMSG X foo + re 1\r\n", Error::Malformed),
            (b"RMSG X foo 1x\r\n", Error::Malformed),
            (b"RMSG X foo 9999999999\r\n", Error::Malformed),
            (b"RMSG X foo 999999999\r\n", Error::MaxPayload(999_999_999)),
            (b"HMSG X foo 3 2\r\n", Error::Malformed),
            (b"HMSG X foo 2\r\n", Error::Malformed),
            (b"RMSG X foo 2\r\nabc\r\n", Error::UnknownOperation),
        ] {
            assert_eq!(parse(bytes, &POOLED), Parsed::Error(error), "{}", String::from_utf8_lossy(bytes));
        }
        let endless = [b"RS+ X ".as_slice(), &[b'a'; 300]].concat();
        assert_eq!(parse(&endless, &POOLED), Parsed::Error(Error::ControlLine));
    }

    #[test]
    fn every_prefix_of_a_valid_operation_is_incomplete() {
        for whole in [
            b"RMSG X foo | qa qb 5\r\nhello\r\n".as_slice(),
            b"HMSG X foo 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
            b"LS+ LC X a.b q 1\r\n",
            b"PUB a 2\r\nhi\r\n",
            b"PING\r\n",
        ] {
            for len in 0..whole.len() {
                let found = parse(&whole[..len], &POOLED);
                let is_incomplete =
                    matches!(found, Parsed::Incomplete { total } if total.is_none_or(|t| t == whole.len()));
                assert!(is_incomplete, "{found:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes, &POOLED);
            let _ = parse(&bytes, &DEDICATED);
        }

        #[test]
        fn near_misses_never_panic(
            text in "(RMSG|HMSG|LMSG|RS\\+|RS-|LS\\+|LS-|PUB) [a-c+| \t]{0,12}[ \t][0-9-]{0,11}\r?\n[a-z\r\n]{0,20}"
        ) {
            let _ = parse(text.as_bytes(), &POOLED);
        }
    }
}
