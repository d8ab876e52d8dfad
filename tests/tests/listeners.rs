//! What a server says of the addresses it listens on, or cannot listen on, against both servers.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};

use linnet_launch::{Options, Spec};

use crate::harness::{Fixture, Kind, PLAIN, program};

/// A server with this configuration and nothing else.
fn started(kind: Kind, config: &str) -> Fixture {
    Fixture::start(kind, Spec::new(program(kind).unwrap()).config(config))
}

/// What comes behind `[FTL]` when the start with these arguments fails.
fn refusal(kind: Kind, arguments: &[&str]) -> String {
    let output = Command::new(program(kind).unwrap()).args(arguments).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let (_, fatal) = text.trim_end().split_once("[FTL] ").unwrap_or_else(|| panic!("no [FTL] in {text}"));
    fatal.to_owned()
}

on_both_servers! { || Options { monitor: true, ..PLAIN() };
    async fn an_ipv6_address_has_brackets_wherever_a_port_follows(s) {
        if TcpListener::bind("[::1]:0").is_err() {
            return;
        }
        for config in [
            "listen: \"[::1]:-1\"\nhttp: \"[::1]:-1\"",
            "host: \"::1\"\nport: -1\nhttp_port: -1",
        ] {
            let server = started(s.kind, config).server;
            let client = server.client_addr().unwrap();
            assert!(client.is_ipv6(), "{client}");
            let log = fs::read_to_string(server.log_file()).unwrap();
            for line in [
                format!("[INF] Starting http monitor on [::1]:{}\n", server.monitor_addr().unwrap().port()),
                format!("[INF] Listening for client connections on [::1]:{}\n", client.port()),
            ] {
                assert!(log.contains(&line), "no {line:?} in {log}");
            }
        }
    }

    async fn a_host_is_told_as_it_is_configured(s) {
        let server = started(s.kind, "host: localhost\nport: -1\nhttp_port: -1").server;
        let log = fs::read_to_string(server.log_file()).unwrap();
        let line = format!("Starting http monitor on localhost:{}\n", server.monitor_addr().unwrap().port());
        assert!(log.contains(&line), "no {line:?} in {log}");
    }

    async fn brackets_without_a_port_are_no_host(s) {
        let client = refusal(s.kind, &["-a", "[::1]", "-p", "4"]);
        let reason = "listen tcp: address [[::1]]:4: missing port in address";
        assert_eq!(client, format!("Error listening on port: [[::1]]:4, \"{reason}\""));
        let monitor = refusal(s.kind, &["-a", "[::1]", "-p", "5", "-m", "4"]);
        assert_eq!(monitor, format!("Can't start monitoring: can't listen to the monitor port: {reason}"));
    }

    async fn a_port_in_use_is_named_with_the_reason(s) {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        let reason = format!("listen tcp 127.0.0.1:{port}: bind: address already in use");
        let client = refusal(s.kind, &["-a", "127.0.0.1", "-p", &port]);
        assert_eq!(client, format!("Error listening on port: 127.0.0.1:{port}, \"{reason}\""));
        let monitor = refusal(s.kind, &["-a", "127.0.0.1", "-p", "-1", "-m", &port]);
        assert_eq!(monitor, format!("Can't start monitoring: can't listen to the monitor port: {reason}"));
    }

    async fn an_unknown_host_is_named(s) {
        let refused = refusal(s.kind, &["-a", "nobody.invalid", "-p", "4"]);
        let start = "Error listening on port: nobody.invalid:4, \"listen tcp: lookup nobody.invalid";
        assert!(refused.starts_with(start), "{refused}");
    }
}
