//! A real server process: started, asked, paused, stopped, killed, started again.

use std::path::PathBuf;
use std::time::Duration;

use linnet_launch::{Error, JetStream, Options, Ready, Spec, SyncMode, free_port, poll_until};

const LONG: Duration = Duration::from_secs(20);

/// The reference server, or `None` with a note that the test did not run; that is a failure in CI.
#[allow(clippy::print_stdout, reason = "a test that did not run says so")]
fn program() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("NATS_SERVER").map(PathBuf::from)
        && path.exists()
    {
        return Some(path);
    }
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "NATS_SERVER must name a server in CI");
    println!("NOT RUN: NATS_SERVER does not name a server");
    None
}

fn jetstream() -> Options {
    Options {
        jetstream: Some(JetStream { sync: SyncMode::Always, ..JetStream::default() }),
        ..Options::default()
    }
}

#[test]
fn started_server_is_healthy_and_stops_when_asked() {
    let Some(program) = program() else { return };
    let mut server = Spec::new(program).options(jetstream()).ready(Ready::Healthz, LONG).start().unwrap();
    assert!(server.dir().join("store").is_dir());
    assert_eq!(server.monitor_get("/healthz").unwrap().body, r#"{"status":"ok"}"#);
    let usage = server.usage().unwrap();
    assert!(usage.rss_bytes > 1024 * 1024, "{usage:?}");
    let dir = server.dir().to_owned();
    server.terminate(LONG).unwrap();
    assert!(!server.is_running());
    assert!(matches!(server.kill(), Err(Error::NotRunning)));
    drop(server);
    assert!(!dir.exists(), "the temporary directory is gone");
}

#[test]
fn killed_server_starts_again_on_its_store() {
    let Some(program) = program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let options = Options { port: Some(port), ..jetstream() };
    let spec = Spec::new(program).options(options).dir(dir.path()).ready(Ready::Healthz, LONG);
    let mut server = spec.start().unwrap();
    assert_eq!(server.client_addr().unwrap().port(), port);
    let first = server.pid();
    assert_eq!(server.kill().unwrap().code(), None, "killed by a signal");
    server.restart().unwrap();
    assert_ne!(server.pid(), first);
    assert!(server.is_running());
    drop(server);
    assert!(dir.path().join("server.log").exists(), "a given directory stays");
}

#[test]
fn paused_server_does_not_answer_until_it_is_resumed() {
    let Some(program) = program() else { return };
    let server = Spec::new(program).start().unwrap();
    server.pause().unwrap();
    assert!(poll_until(LONG, || server.monitor_get("/varz").is_err()));
    server.resume().unwrap();
    assert!(poll_until(LONG, || server.monitor_get("/varz").is_ok()));
}

#[test]
fn refused_configuration_is_reported_with_the_log() {
    let Some(program) = program() else { return };
    let error = Spec::new(program).config("listen: nonsense::").start().unwrap_err();
    let Error::Ended { log_tail, status, .. } = error else { panic!("{error}") };
    assert!(!status.success());
    assert!(log_tail.contains("nats-server"), "{log_tail}");
}

#[test]
fn missing_program_is_named() {
    let error = Spec::new("/no/such/server").start().unwrap_err();
    assert!(error.to_string().starts_with("cannot start /no/such/server"), "{error}");
}
