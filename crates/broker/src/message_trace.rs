//! Headers by which a client asks where a message goes (nats-server `server/msgtrace.go`). No trace is sent; what is
//! only meant to be traced must nevertheless not reach anybody.

use linnet_wire::headers;

/// No block with both headers and a value each is shorter.
const SHORTEST: usize = b"NATS/1.0\r\nNats-Trace-Dest:t\r\nNats-Trace-Only:1\r\n\r\n".len();

/// True if a message with this header block is to be traced and not delivered.
pub(crate) fn is_only_traced(block: &[u8]) -> bool {
    if block.len() < SHORTEST {
        return false;
    }
    let Some(only) = headers::get(block, "Nats-Trace-Only") else { return false };
    let only = only.trim_ascii();
    let is_on = [b"1".as_slice(), b"true", b"on"].iter().any(|on| only.eq_ignore_ascii_case(on));
    is_on && headers::get(block, "Nats-Trace-Dest").is_some_and(|dest| !dest.trim_ascii().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(lines: &[&str]) -> Vec<u8> {
        let mut block = b"NATS/1.0\r\n".to_vec();
        lines.iter().for_each(|line| block.extend(format!("{line}\r\n").bytes()));
        block.extend(b"\r\n");
        block
    }

    #[test]
    fn it_takes_a_destination_and_a_yes() {
        for yes in ["1", "true", "on", "TRUE", " On "] {
            let only = format!("Nats-Trace-Only:{yes}");
            assert!(is_only_traced(&block(&["Nats-Trace-Dest:t", &only])), "{yes}");
            assert!(!is_only_traced(&block(&[&only, "A: more than enough bytes for both"])), "{yes}");
            assert!(!is_only_traced(&block(&[&only, "Nats-Trace-Dest:          "])), "{yes}");
        }
        for no in ["0", "false", "off", "", "yes"] {
            let only = format!("Nats-Trace-Only:{no}");
            assert!(!is_only_traced(&block(&["Nats-Trace-Dest: some.subject", &only])), "{no}");
        }
    }
}
