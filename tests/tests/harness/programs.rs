use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Which server a test runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The server under test.
    Linnet,
    /// The reference server.
    Peer,
}

/// The program of this kind; `None` after saying that the test did not run.
pub(crate) fn program(kind: Kind) -> Option<PathBuf> {
    match kind {
        Kind::Linnet => Some(linnet().clone()),
        Kind::Peer => peer(),
    }
}

fn linnet() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        if let Some(path) = std::env::var_os("LINNET_BIN") {
            return path.into();
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo).args(["build", "--quiet", "--package", "linnet"]).status().unwrap();
        assert!(status.success(), "the server does not build");
        target_dir().join("debug/linnet")
    })
}

fn peer() -> Option<PathBuf> {
    let path = std::env::var_os("NATS_SERVER")
        .map_or_else(|| target_dir().join("tools/venv/bin/nats-server"), PathBuf::from);
    or_not_run(path, "nats-server")
}

/// The Python with nats-py.
pub(crate) fn python() -> Option<PathBuf> {
    or_not_run(target_dir().join("tools/venv/bin/python"), "Python with nats-py")
}

/// The `nats` CLI.
pub(crate) fn nats_cli() -> Option<PathBuf> {
    or_not_run(target_dir().join("tools/bin/nats"), "the nats CLI")
}

/// Node.js, and the directory with the clients of npm.
pub(crate) fn node() -> Option<(PathBuf, PathBuf)> {
    let modules = or_not_run(target_dir().join("tools/node/node_modules"), "a directory of npm clients")?;
    let runs = Command::new("node").arg("--version").output().is_ok_and(|output| output.status.success());
    if !runs {
        not_run("Node.js is missing");
        return None;
    }
    Some(("node".into(), modules))
}

fn or_not_run(path: PathBuf, what: &str) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    not_run(&format!("{what} is missing; `cargo xtask tools` installs it"));
    None
}

/// Names the running test as one that this machine does not allow.
pub(crate) fn not_allowed(why: &str) {
    let thread = std::thread::current();
    let _ = writeln!(std::io::stderr(), "NOT RUN: {}: {why}", thread.name().unwrap_or("a test"));
}

/// Names the running test as not run, even where the output of passing tests is hidden; in CI that is a failure.
fn not_run(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{test} cannot run: {why}");
    let _ = writeln!(std::io::stderr(), "NOT RUN: {test}: {why}");
}

fn target_dir() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap()
}
