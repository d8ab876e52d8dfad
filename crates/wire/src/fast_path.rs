//! Publications as clients write them: one space between fields, CRLF behind the line, whole in the buffer. They are
//! nearly all that a busy connection sends, and a parser that knows only them costs half as much as the general one
//! in [`client`](crate::client), which everything else is left to.

use crate::client::{Limits, Pub};
use crate::line::size;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x80 * ONES;
/// Clears the bit that tells lower from upper case.
const UPPER: u8 = 0xdf;

/// A publication at the front of `buf` and how many bytes it took; `None` is no judgement: ask
/// [`client::parse`](crate::client::parse), which gives the same answer wherever this gives one.
#[inline]
pub fn publication<'a>(buf: &'a [u8], limits: &Limits) -> Option<(Pub<'a>, usize)> {
    let verb = buf.first_chunk::<4>()?;
    let (with_headers, verb_len) = if is_verb(*verb, *b"PUB ", [UPPER, UPPER, UPPER, 0xff]) {
        (false, 3)
    } else if limits.headers && is_verb(*verb, *b"HPUB", [UPPER; 4]) && buf.get(4) == Some(&b' ') {
        (true, 4)
    } else {
        return None;
    };
    let mut line = Line { buf, at: verb_len + 1 };
    let subject = line.inner_field()?;
    let (first, is_last) = line.field()?;
    let (reply, header_len, total) = match (with_headers, is_last) {
        (false, true) => (b"".as_slice(), 0, first),
        (false, false) => (first, 0, line.last_field()?),
        (true, true) => return None,
        (true, false) => {
            let (second, is_last) = line.field()?;
            let (reply, header, total) =
                if is_last { (b"".as_slice(), first, second) } else { (first, second, line.last_field()?) };
            (reply, size(header).ok()?, total)
        }
    };
    let total = size(total).ok()?;
    let start = line.at;
    let line_len = start - verb_len - 2;
    if line_len > limits.max_control_line + 1
        || limits.max_payload.is_some_and(|max| total > max)
        || header_len > total
    {
        return None;
    }
    let rest = &buf[start..];
    let body = rest.get(..total)?;
    let ends_well = rest.get(total..)?.first_chunk::<2>()? == b"\r\n";
    ends_well.then_some((Pub { subject, reply, header_len, body }, start + total + 2))
}

#[inline]
fn is_verb(found: [u8; 4], verb: [u8; 4], mask: [u8; 4]) -> bool {
    u32::from_le_bytes(found) & u32::from_le_bytes(mask) == u32::from_le_bytes(verb)
}

/// The arguments of a line, taken one by one.
struct Line<'a> {
    buf: &'a [u8],
    /// Where the next field begins; behind the last one, where the body begins.
    at: usize,
}

impl<'a> Line<'a> {
    /// The next field, and whether the line ends behind it.
    #[inline]
    fn field(&mut self) -> Option<(&'a [u8], bool)> {
        let end = self.control_from(self.at)?;
        let field = &self.buf[self.at..end];
        if field.is_empty() {
            return None;
        }
        match self.buf[end..] {
            [b' ', ..] => {
                self.at = end + 1;
                Some((field, false))
            }
            [b'\r', b'\n', ..] => {
                self.at = end + 2;
                Some((field, true))
            }
            _ => None,
        }
    }

    /// The next field, if more follow.
    #[inline]
    fn inner_field(&mut self) -> Option<&'a [u8]> {
        self.field().and_then(|(field, is_last)| (!is_last).then_some(field))
    }

    /// The next field, if no more follow.
    #[inline]
    fn last_field(&mut self) -> Option<&'a [u8]> {
        self.field().and_then(|(field, is_last)| is_last.then_some(field))
    }

    /// Where the first space or control character at or behind `at` is, eight bytes at a time. Gives up in the last
    /// seven bytes of the buffer.
    #[inline]
    fn control_from(&self, mut at: usize) -> Option<usize> {
        loop {
            let word = u64::from_le_bytes(*self.buf.get(at..)?.first_chunk::<8>()?);
            // The lowest set bit belongs to the first byte below `!`; higher ones may be borrowed.
            let below = word.wrapping_sub(0x21 * ONES) & !word & HIGH_BITS;
            if below != 0 {
                return Some(at + (below.trailing_zeros() / 8) as usize);
            }
            at += 8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Op, Parsed, parse};
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { max_control_line: 40, max_payload: Some(100), headers: true };

    /// Both parsers' answers, of which the general one's counts.
    fn check(bytes: &[u8], limits: &Limits) -> bool {
        let found = publication(bytes, limits);
        if let Some((publication, used)) = found {
            assert_eq!(
                parse(bytes, limits),
                Parsed::Op(Op::Pub(publication), used),
                "{}",
                bytes.escape_ascii()
            );
        }
        found.is_some()
    }

    #[test]
    fn takes_what_clients_send() {
        for text in [
            "PUB a 0\r\n\r\n.......",
            "PUB a.b.c 5\r\nhello\r\n",
            "pub subject.of.some.length _INBOX.x 5\r\nhello\r\nPUB",
            "HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
            "hpub a.b reply 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
            "PUB gr\u{fc}n.\u{1f600} 2\r\nhi\r\n.......",
        ] {
            assert!(check(text.as_bytes(), &LIMITS), "{text}");
        }
    }

    #[test]
    fn leaves_the_rest() {
        let without_headers = Limits { headers: false, ..LIMITS };
        assert!(!check(b"HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", &without_headers));
        for text in [
            "PUB a 5\nhello\r\n",
            "PUB  a 5\r\nhello\r\n",
            "PUB a\t5\r\nhello\r\n",
            "PUB a 5 \r\nhello\r\n",
            "PUB a 6\r\nhello\r\n",
            "PUB a 4\r\nhello\r\n",
            "PUB a b c 5\r\nhello\r\n",
            "PUB a -5\r\nhello\r\n",
            "PUB a 1234567890\r\nhello\r\n",
            "PUB a\r\nhello\r\n.......",
            "HPUB a 5\r\nhello\r\n...",
            "HPUB a 6 5\r\nhello\r\n",
            "PUBX a 5\r\nhello\r\n",
            "PUB a 101\r\n",
            "PUB a.subject.as.long.as.the.whole.limit.allows 1\r\nx\r\nPING\r\n",
            "PING\r\nPUB a 1\r\nx\r\n",
        ] {
            assert!(!check(text.as_bytes(), &LIMITS), "{text}");
        }
    }

    #[test]
    fn the_longest_line_is_taken_and_one_byte_more_is_not() {
        for (subject_len, is_taken) in [(38, true), (39, false)] {
            let text = format!("PUB {} 1\r\nx\r\nPING\r\n", "a".repeat(subject_len));
            assert_eq!(check(text.as_bytes(), &LIMITS), is_taken, "{subject_len}");
        }
    }

    proptest! {
        #[test]
        fn never_contradicts_the_general_parser(
            text in "(PUB|HPUB|pUb|SUB)[ \t]{1,2}[a-c.*]{0,40}( [a-z]{1,3})?( [0-9]{1,3}){0,2}\r?\n(.{0,12}\r\n){0,3}"
        ) {
            check(text.as_bytes(), &LIMITS);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            check(&[b"PUB ".as_slice(), &bytes].concat(), &LIMITS);
            check(&bytes, &LIMITS);
        }
    }
}
