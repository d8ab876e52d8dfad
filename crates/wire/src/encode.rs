//! What the server sends. Everything appends to a buffer the caller reuses.

/// `PING`.
pub const PING: &[u8] = b"PING\r\n";
/// `PONG`.
pub const PONG: &[u8] = b"PONG\r\n";
/// `+OK`.
pub const OK: &[u8] = b"+OK\r\n";
/// End of a line and of a payload.
pub const CRLF: &[u8] = b"\r\n";

/// Appends a decimal number.
pub fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends `-ERR 'text'`.
pub fn err(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b"-ERR '");
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"'\r\n");
}

/// Appends the line before a delivered message's body: `MSG`, or `HMSG` if `header_len` is not 0. `total` counts
/// header block and payload.
pub fn msg_line(
    out: &mut Vec<u8>,
    subject: &[u8],
    sid: &[u8],
    reply: &[u8],
    header_len: usize,
    total: usize,
) {
    msg_line_before_sid(out, subject, header_len);
    out.extend_from_slice(sid);
    msg_line_behind_sid(out, reply, header_len, total);
}

/// Appends the part of [`msg_line`] that is the same for all receivers and comes before the subscription's name.
#[inline]
pub fn msg_line_before_sid(out: &mut Vec<u8>, subject: &[u8], header_len: usize) {
    out.extend_from_slice(if header_len > 0 { b"HMSG " } else { b"MSG " });
    out.extend_from_slice(subject);
    out.push(b' ');
}

/// Appends the part of [`msg_line`] that is the same for all receivers and comes behind the subscription's name.
#[inline]
pub fn msg_line_behind_sid(out: &mut Vec<u8>, reply: &[u8], header_len: usize, total: usize) {
    out.push(b' ');
    if !reply.is_empty() {
        out.extend_from_slice(reply);
        out.push(b' ');
    }
    if header_len > 0 {
        number(out, header_len as u64);
        out.push(b' ');
    }
    number(out, total as u64);
    out.extend_from_slice(CRLF);
}

/// Longest line [`msg_line`] writes for these arguments.
pub fn msg_line_bound(subject: &[u8], sid: &[u8], reply: &[u8]) -> usize {
    subject.len() + sid.len() + reply.len() + 54
}

#[cfg(test)]
mod tests {
    #[test]
    fn message_lines() {
        let mut out = Vec::new();
        super::msg_line(&mut out, b"a.b", b"7", b"", 0, 5);
        super::msg_line(&mut out, b"a.b", b"7", b"r", 12, 14);
        super::err(&mut out, "Invalid Subject");
        assert_eq!(out, b"MSG a.b 7 5\r\nHMSG a.b 7 r 12 14\r\n-ERR 'Invalid Subject'\r\n");
    }
}
