//! What of a publisher's header block is not stored as it came (nats-server `server/stream.go`).

use linnet_wire::headers;

use super::draft::Incoming;

/// Servers add it to requests that cross accounts, to say who asks. What a publisher says there is made up.
const REQUEST_INFO: &str = "Nats-Request-Info";
/// Asks for events about the message's way. What is stored has gone it, and is not to be traced whenever it is
/// delivered or copied.
const TRACE_DEST: &str = "Nats-Trace-Dest";
/// What stands in the place of a destination for traces.
const TRACE_DISABLED: &[u8] = b"trace disabled";

/// True for what follows `Nats-` in the keys of headers that are not stored as they come.
pub(super) fn is_about(key: &[u8]) -> bool {
    matches!(key, b"Request-Info" | b"Trace-Dest")
}

/// Takes a status and what a publisher may not say out of the header block. Returns the new header length with the
/// message in `out`, or `None` if nothing has to change.
pub(super) fn clean(message: &Incoming<'_>, out: &mut Vec<u8>) -> Option<usize> {
    let block = message.headers();
    if !message.wishes.is_unclean && headers::status(block).is_empty() {
        return None;
    }
    out.clear();
    headers::retain(out, block, |key| key == REQUEST_INFO.as_bytes());
    if let Some(dest) = headers::position(out, TRACE_DEST)
        && !out.get(dest.clone()).unwrap_or_default().trim_ascii().is_empty()
    {
        out.splice(dest, TRACE_DISABLED.iter().copied());
    }
    let header_len = out.len();
    out.extend_from_slice(message.payload());
    Some(header_len)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is stored of these lines; `None` if it is what came.
    fn cleaned(lines: &str) -> Option<String> {
        let block = format!("NATS/1.0{lines}\r\n\r\n");
        let body = format!("{block}payload");
        let mut out = Vec::new();
        let header_len = clean(&Incoming::new(b"s", block.len(), body.as_bytes()), &mut out)?;
        assert_eq!(out.split_off(header_len), b"payload");
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn what_a_publisher_may_not_say_is_taken_out() {
        for (came, stored) in [
            (" 503\r\nA: 1", "NATS/1.0\r\nA: 1\r\n\r\n"),
            (" 503", ""),
            ("\r\nNats-Request-Info: {}", ""),
            ("\r\nNats-Request-Info: a\r\nA: 1\r\nNats-Request-Info:b", "NATS/1.0\r\nA: 1\r\n\r\n"),
            ("\r\nA: 1\r\nNats-Trace-Dest: t", "NATS/1.0\r\nA: 1\r\nNats-Trace-Dest: trace disabled\r\n\r\n"),
            (
                "\r\nNats-Trace-Dest:a\r\nNats-Trace-Dest: b",
                "NATS/1.0\r\nNats-Trace-Dest:trace disabled\r\nNats-Trace-Dest: b\r\n\r\n",
            ),
            ("\r\nNats-Trace-Dest:  ", "NATS/1.0\r\nNats-Trace-Dest:  \r\n\r\n"),
        ] {
            assert_eq!(cleaned(came).as_deref(), Some(stored), "{came:?}");
        }
    }

    #[test]
    fn other_headers_stay_as_they_came() {
        for lines in
            ["", "\r\nA: 1", "\r\nnats-request-info: a", "\r\nX-Nats-Trace-Dest: a", "\r\nNats-Trace-Only: 0"]
        {
            assert_eq!(cleaned(lines), None, "{lines:?}");
        }
    }
}
