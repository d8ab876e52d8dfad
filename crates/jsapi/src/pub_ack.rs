//! The acknowledgement of a publish, formatted by hand: it is written once per message.

use linnet_ids::StreamSeq;

use crate::errors::ApiError;
use crate::json::append_json;

/// What a publish is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PubAck<'a> {
    /// The stream that stored it.
    pub stream: &'a str,
    /// Its JetStream domain; empty when there is none.
    pub domain: &'a str,
    /// Sequence of the message, or of the one it repeats.
    pub seq: StreamSeq,
    /// It was stored before under the same id.
    pub duplicate: bool,
    /// Id and size of the batch it ends.
    pub batch: Option<(&'a str, u64)>,
    /// New value of a counter; empty when it is none.
    pub val: &'a str,
}

impl PubAck<'_> {
    /// Appends the JSON. The space in `"duplicate": true` is nats-server's.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut number = itoa::Buffer::new();
        out.extend_from_slice(b"{\"stream\":");
        write_string(self.stream, out);
        if !self.domain.is_empty() {
            out.extend_from_slice(b",\"domain\":");
            write_string(self.domain, out);
        }
        out.extend_from_slice(b",\"seq\":");
        out.extend_from_slice(number.format(self.seq).as_bytes());
        if self.duplicate {
            out.extend_from_slice(b",\"duplicate\": true");
        }
        if let Some((id, count)) = self.batch {
            out.extend_from_slice(b",\"batch\":");
            write_string(id, out);
            out.extend_from_slice(b",\"count\":");
            out.extend_from_slice(number.format(count).as_bytes());
        }
        if !self.val.is_empty() {
            out.extend_from_slice(b",\"val\":");
            write_string(self.val, out);
        }
        out.push(b'}');
    }
}

/// Appends the answer to a publish that was refused.
pub fn write_pub_error(error: &ApiError, stream: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"error\":");
    append_json(error, out);
    out.extend_from_slice(b",\"stream\":");
    write_string(stream, out);
    out.extend_from_slice(b",\"seq\":0}");
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    let plain = |b: u8| (0x20..0x7f).contains(&b) && !matches!(b, b'"' | b'\\' | b'<' | b'>' | b'&');
    if text.bytes().all(plain) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        append_json(text, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors;

    fn ack(ack: PubAck<'_>) -> String {
        let mut out = Vec::new();
        ack.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn acknowledgements_are_spelled_as_the_server_does() {
        let plain = PubAck { stream: "S", seq: 7, ..PubAck::default() };
        assert_eq!(ack(plain), r#"{"stream":"S","seq":7}"#);
        assert_eq!(ack(PubAck { domain: "hub", ..plain }), r#"{"stream":"S","domain":"hub","seq":7}"#);
        assert_eq!(ack(PubAck { duplicate: true, ..plain }), r#"{"stream":"S","seq":7,"duplicate": true}"#);
        assert_eq!(
            ack(PubAck { batch: Some(("id", 3)), ..plain }),
            r#"{"stream":"S","seq":7,"batch":"id","count":3}"#
        );
        assert_eq!(ack(PubAck { val: "5", ..plain }), r#"{"stream":"S","seq":7,"val":"5"}"#);
        assert_eq!(ack(PubAck { stream: "a\"<é", ..plain }), "{\"stream\":\"a\\\"\\u003cé\",\"seq\":7}");
    }

    #[test]
    fn refusals_have_the_error_first_and_sequence_zero() {
        let mut out = Vec::new();
        write_pub_error(&errors::stream_wrong_last_sequence(2), "S", &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 2"},"stream":"S","seq":0}"#
        );
    }
}
