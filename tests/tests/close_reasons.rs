//! Why a connection was closed, as monitoring tells it, against both servers.

use linnet_launch::Options;
use serde_json::Value;

use crate::harness::{Fixture, PLAIN, eventually};

const CONNECT: &str = "CONNECT {\"verbose\":false,\"headers\":true}\r\n";
const WITHOUT_HEADERS: &str = "CONNECT {\"verbose\":false,\"headers\":false}\r\n";

impl Fixture {
    /// Sends this on a new connection, which the server closes; what it said before, and the reason it shows.
    async fn close_reason(&self, bytes: &str) -> (Vec<String>, String) {
        let mut raw = self.raw();
        let greeting = raw.line().unwrap();
        let info: Value = serde_json::from_str(greeting.strip_prefix("INFO ").unwrap()).unwrap();
        raw.send(bytes.as_bytes());
        let said = raw.until_closed();
        let page = format!("/connz?state=closed&cid={}", info["client_id"]);
        let reason = eventually("the connection counts as closed", async || {
            let page: Value = serde_json::from_str(&self.server.monitor_get(&page).unwrap().body).unwrap();
            Some(page["connections"].get(0)?["reason"].as_str()?.to_owned())
        });
        (said, reason.await)
    }

    async fn all_close_as(&self, reason: &str, text: Option<&str>, cases: &[&str]) {
        for case in cases {
            let (said, found) = self.close_reason(case).await;
            assert_eq!((said.last().map(String::as_str), found.as_str()), (text, reason), "{case:?}");
        }
    }
}

on_both_servers! { || Options { monitor: true, extra: "max_control_line: 1024\nmax_payload: 1000".into(), ..PLAIN() };
    async fn malformed_arguments_violate_the_protocol(s) {
        let lines = [
            "PUB v x", "PUB v -1", "PUB v 99999999999999999999", "PUB v", "PUB ", "PUB a b c 1", "HPUB v 10 5",
            "HPUB v 10", "HPUB v x 5", "HPUB v -1 5", "HPUB a b c 1 14", "SUB a", "SUB ", "SUB a b c d", "UNSUB ",
            "UNSUB 1 2 3",
        ];
        let cases: Vec<String> = lines.iter().map(|line| format!("{CONNECT}{line}\r\n")).collect();
        let cases: Vec<&str> = cases.iter().map(String::as_str).collect();
        s.all_close_as("Protocol Violation", None, &cases).await;
    }

    async fn unknown_operations_violate_the_protocol(s) {
        let cases = ["x\r\n", "PUB\r\n", "GET / HTTP/1.1\r\n", "PUB a 2\r\nhello\r\n", "MSG a 1 2\r\nhi\r\n"];
        s.all_close_as("Protocol Violation", Some("-ERR 'Unknown Protocol Operation'"), &cases).await;
    }

    async fn headers_need_the_clients_consent_before_it_uses_them(s) {
        let message = "HPUB v 12 14\r\nNATS/1.0\r\n\r\nhi\r\n";
        let cases = [message.to_owned(), format!("{WITHOUT_HEADERS}{message}"), format!("{WITHOUT_HEADERS}HPUB v x\r\n")];
        let cases: Vec<&str> = cases.iter().map(String::as_str).collect();
        s.all_close_as("Protocol Violation", None, &cases).await;
    }

    async fn json_that_is_none_violates_the_protocol(s) {
        let cases = [
            "CONNECT x\r\n", "CONNECT\r\n", "CONNECT {\"verbose\":\"x\"}\r\n", "INFO x\r\n", "INFO\r\n", "INFO []\r\n",
            "INFO {\"port\":\"x\"}\r\n",
        ];
        s.all_close_as("Protocol Violation", None, &cases).await;
        let mut raw = s.raw();
        raw.line().unwrap();
        raw.send(b"INFO {}\r\nINFO null\r\n");
        raw.ping();
    }

    async fn limits_and_errors_of_the_client_have_reasons_of_their_own(s) {
        let payload = "-ERR 'Maximum Payload Violation'";
        s.all_close_as("Maximum Message Payload Exceeded", Some(payload), &["PUB a 1001\r\n"]).await;
        let line = "-ERR 'maximum control line exceeded'";
        let long = format!("SUB {} 1\r\n", "a".repeat(2000));
        s.all_close_as("Maximum Control Line Exceeded", Some(line), &[&long]).await;
        s.all_close_as("Parse Error", None, &["-ERR 'x'\r\n"]).await;
        let version = "-ERR 'invalid client protocol'";
        s.all_close_as("Bad Client Protocol Version", Some(version), &["CONNECT {\"protocol\":5}\r\n"]).await;
    }
}

mod refused {
    use super::*;

    on_both_servers! { || Options { extra: "authorization { user: u, password: p }".into(), ..PLAIN() };
        async fn the_log_says_who_may_not_log_in(s) {
            let shown = [
                (r#"{"user":"x","pass":"y"}"#, "authentication error - User \"x\"\n"),
                (r#"{"auth_token":"secret"}"#, "authentication error - Token \"[REDACTED]\"\n"),
                ("{}", "authentication error\n"),
            ];
            for (connect, text) in shown {
                let mut raw = s.raw();
                raw.send(format!("CONNECT {connect}\r\n").as_bytes());
                raw.until_closed();
                let log = || std::fs::read_to_string(s.server.log_file()).unwrap();
                eventually("the log says so", async || log().contains(text).then_some(())).await;
            }
        }
    }
}
