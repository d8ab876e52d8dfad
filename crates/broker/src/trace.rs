//! Trace lines of the protocol (configuration, "Run-time lines operators match").

use linnet_wire::client::Op;

use crate::config::Config;
use crate::conn::Conn;
use crate::outbound::Frame;

/// Fields of CONNECT that nobody is to read in a log.
const SECRETS: [&str; 4] = ["pass", "auth_token", "jwt", "sig"];

/// Whether anybody reads them.
pub(crate) fn is_on() -> bool {
    tracing::enabled!(tracing::Level::TRACE)
}

/// An operation of the client.
pub(crate) fn received(conn: &Conn, op: &Op<'_>, config: &Config) {
    let line = match op {
        Op::Connect(json) => words(&["CONNECT", &without_secrets(json)]),
        Op::Pub(p) if p.header_len > 0 => words(&[
            "HPUB",
            &text(p.subject),
            &text(p.reply),
            &p.header_len.to_string(),
            &p.body.len().to_string(),
        ]),
        Op::Pub(p) => words(&["PUB", &text(p.subject), &text(p.reply), &p.body.len().to_string()]),
        Op::Sub { subject, queue, sid } => {
            words(&["SUB", &text(subject), &text(queue.unwrap_or_default()), &text(sid)])
        }
        Op::Unsub { sid, max } => {
            words(&["UNSUB", &text(sid), &max.map_or(String::new(), |max| max.to_string())])
        }
        Op::Ping => "PING".to_owned(),
        Op::Pong => "PONG".to_owned(),
        Op::Info(_) => "INFO".to_owned(),
        Op::Ok => "+OK".to_owned(),
        Op::Err(error) => words(&["-ERR", &text(error)]),
    };
    tracing::trace!("{} - <<- [{line}]", conn.log_prefix());
    if let Op::Pub(p) = op
        && let Some(payload) = shown(p.body, p.header_len, config)
    {
        tracing::trace!("{} - <<- MSG_PAYLOAD: [{payload:?}]", conn.log_prefix());
    }
}

/// A message on its way to the client.
pub(crate) fn delivered(conn: &Conn, frame: &Frame<'_>, config: &Config) {
    let total = frame.body.len().to_string();
    let (subject, sid, reply) = (text(frame.subject), text(frame.sid), text(frame.reply));
    let line = if frame.header_len > 0 {
        words(&["HMSG", &subject, &sid, &reply, &frame.header_len.to_string(), &total])
    } else {
        words(&["MSG", &subject, &sid, &reply, &total])
    };
    tracing::trace!("{} - ->> [{line}]", conn.log_prefix());
    if let Some(payload) = shown(frame.body, frame.header_len, config) {
        tracing::trace!("{} - ->> MSG_PAYLOAD: [{payload:?}]", conn.log_prefix());
    }
}

/// A protocol line on its way to the client.
pub(crate) fn said(conn: &Conn, line: &[u8]) {
    tracing::trace!("{} - ->> [{}]", conn.log_prefix(), text(line).trim_end());
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What is there, separated by single spaces.
fn words(parts: &[&str]) -> String {
    let present: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    present.join(" ")
}

/// What is printed of a message, headers included: nothing if only headers are wanted and there are none. They are
/// printed without the empty line that ends them.
fn shown(body: &[u8], header_len: usize, config: &Config) -> Option<String> {
    let body = match (config.trace_headers, header_len) {
        (false, _) => body,
        (true, 0) => return None,
        (true, len) => {
            let headers = body.get(..len).unwrap_or(body);
            headers.strip_suffix(b"\r\n\r\n").unwrap_or(headers)
        }
    };
    let max = config.max_traced_msg_len;
    let end = if max == 0 { body.len() } else { max.min(body.len()) };
    Some(text(&body[..end]))
}

/// The JSON of a CONNECT; nothing of it if it cannot be understood.
fn without_secrets(json: &[u8]) -> String {
    let Ok(mut fields) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(json) else {
        return String::new();
    };
    for secret in SECRETS {
        if let Some(value) = fields.get_mut(secret).filter(|value| !value.is_null()) {
            *value = "[REDACTED]".into();
        }
    }
    serde_json::Value::Object(fields).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_is_shown_without_its_secrets() {
        let json = br#"{"user":"a","pass":"b","auth_token":null,"name":"n"}"#;
        let shown = r#"{"user":"a","pass":"[REDACTED]","auth_token":null,"name":"n"}"#;
        assert_eq!(without_secrets(json), shown);
        assert_eq!(without_secrets(br#"{"pass":"b"#), "");
    }
}
