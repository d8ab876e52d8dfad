//! What JetStream in a cluster needs to be configured.

use std::process::{Command, Stdio};

use crate::harness::{Kind, program};

/// What a server says that ends with an error; `None` if there is no server of this kind.
fn refused(kind: Kind, arguments: &[&str]) -> Option<String> {
    let server = program(kind)?;
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().display().to_string();
    let always = ["-js", "-sd", &store, "-a", "127.0.0.1", "-p", "-1", "--cluster", "nats://127.0.0.1:-1"];
    let mut command = Command::new(server);
    let output = command.args(always).args(arguments).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    Some(String::from_utf8_lossy(&output.stderr).into_owned())
}

on_both_kinds! {
    fn jetstream_of_a_cluster_needs_names_and_somebody_to_talk_to(kind) {
        let cases: [(&[&str], &str); 4] = [
            (&[], "jetstream cluster requires `server_name` to be set"),
            (&["--cluster_name", "C"], "jetstream cluster requires `server_name` to be set"),
            (&["-n", "x"], "jetstream cluster requires `cluster.name` to be set"),
            (
                &["-n", "x", "--cluster_name", "C"],
                "[FTL] Can't start JetStream: JetStream cluster requires configured routes or solicited leafnode for \
                 the system account",
            ),
        ];
        for (arguments, expected) in cases {
            let Some(said) = refused(kind, arguments) else { return };
            assert!(said.contains(expected), "{said}");
        }
    }
}
