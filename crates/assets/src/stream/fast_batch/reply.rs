//! What the reply subject of a message in a fast batch says, and what is sent to it.

use linnet_jsapi::errors::{self, ApiError};

/// Last token of such a reply subject.
const MARK: &[u8] = b".$FI";
/// Longest id of a batch.
const ID_MAX: usize = 64;
/// Messages between acknowledgements where a client asks for no number that could be one.
const FLOW_DEFAULT: u64 = 10;
const FLOW_MAX: u64 = 65_535;

/// `<prefix>.<id>.<flow>.<gap>.<sequence>.<operation>.$FI`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FastReply<'a> {
    pub(super) id: &'a str,
    /// Most messages between two acknowledgements.
    pub(super) flow: u64,
    /// The batch goes on if messages are missing.
    pub(super) gaps_ok: bool,
    /// Where the message stands in the batch, from 1 on.
    pub(super) seq: u64,
    pub(super) operation: Operation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Begins the batch.
    Start,
    Append,
    /// Ends the batch with this message.
    Commit,
    /// Ends the batch without it.
    End,
    /// Asks how far the batch has come.
    Ping,
}

/// True for the reply subject of a message in a fast batch.
pub(in crate::stream) fn is_fast(reply: &[u8]) -> bool {
    reply.ends_with(MARK)
}

impl<'a> FastReply<'a> {
    pub(super) fn parse(reply: &'a [u8]) -> Result<Self, ApiError> {
        let reply = Self::read(reply).ok_or(errors::BATCH_PUBLISH_INVALID_PATTERN)?;
        if reply.id.len() > ID_MAX {
            return Err(errors::BATCH_PUBLISH_INVALID_BATCH_ID);
        }
        Ok(reply)
    }

    fn read(reply: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(reply.strip_suffix(MARK)?).ok()?;
        let mut tokens = text.rsplitn(6, '.');
        let operation = tokens.next()?;
        let seq = tokens.next()?.parse().ok().filter(|seq| *seq > 0)?;
        let gap = tokens.next()?;
        let flow = tokens.next()?;
        let id = tokens.next()?;
        // The prefix.
        tokens.next()?;
        let operation = match (operation, seq) {
            ("0", 1) => Operation::Start,
            ("1", 2..) => Operation::Append,
            ("2", _) => Operation::Commit,
            ("3", 2..) => Operation::End,
            ("4", _) => Operation::Ping,
            _ => return None,
        };
        let gaps_ok = match gap {
            "ok" => true,
            "fail" => false,
            _ => return None,
        };
        let flow =
            flow.parse().ok().filter(|flow| *flow > 0).map_or(FLOW_DEFAULT, |flow: u64| flow.min(FLOW_MAX));
        Some(Self { id, flow, gaps_ok, seq, operation })
    }
}

/// Everything up to `seq` is stored; the next one tells after `msgs` more.
pub(in crate::stream) fn flow_ack(seq: u64, msgs: u64) -> Vec<u8> {
    format!(r#"{{"type":"ack","seq":{seq},"msgs":{msgs}}}"#).into_bytes()
}

/// Sequence `expected` was next, and `seq` came.
pub(super) fn gap(expected: u64, seq: u64) -> Vec<u8> {
    format!(r#"{{"type":"gap","last_seq":{expected},"seq":{seq}}}"#).into_bytes()
}

/// A message is refused.
pub(super) fn refusal(seq: u64, error: &ApiError) -> Vec<u8> {
    let error = linnet_jsapi::to_json(error);
    let head = format!(r#"{{"type":"err","seq":{seq},"error":"#);
    [head.as_bytes(), &error, b"}"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(reply: &str) -> Result<FastReply<'_>, u16> {
        FastReply::parse(reply.as_bytes()).map_err(|error| error.err_code)
    }

    #[test]
    fn reply_subjects_are_read_from_their_end() {
        let read = parse("_INBOX.a.b.id.7.ok.3.1.$FI").unwrap();
        assert_eq!(
            read,
            FastReply { id: "id", flow: 7, gaps_ok: true, seq: 3, operation: Operation::Append }
        );
        for (flow, expected) in [("x", 10), ("0", 10), ("-5", 10), ("70000", 65_535), ("500", 500)] {
            assert_eq!(parse(&format!("p.id.{flow}.fail.1.0.$FI")).unwrap().flow, expected, "{flow}");
        }
        for (operation, seq, is_one) in [
            (0, 1, true),
            (0, 2, false),
            (1, 1, false),
            (1, 2, true),
            (2, 1, true),
            (3, 1, false),
            (3, 2, true),
            (4, 9, true),
            (5, 2, false),
        ] {
            let reply = format!("p.id.5.fail.{seq}.{operation}.$FI");
            assert_eq!(parse(&reply).is_ok(), is_one, "{reply}");
        }
        for bad in
            ["p.$FI", "id.5.fail.1.0.$FI", "p.id.5.bad.1.0.$FI", "p.id.5.ok.0.4.$FI", "p.id.5.ok.x.4.$FI"]
        {
            assert_eq!(parse(bad), Err(10206), "{bad}");
        }
        assert_eq!(parse(&format!("p.{}.5.ok.1.0.$FI", "i".repeat(65))), Err(10207));
    }
}
