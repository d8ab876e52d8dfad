//! nats-py, the clients of npm and the `nats` CLI against the server.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::JoinHandle;

use linnet_launch::{Options, Server, Spec, free_port, poll_until};

use crate::harness::{JETSTREAM, Kind, LONG, nats_cli, node, program, python};

fn start(kind: Kind, options: Options) -> Option<Server> {
    Some(Spec::new(program(kind)?).options(options).start().unwrap_or_else(|error| panic!("{error}")))
}

/// Waits for the process, which is killed if it takes too long.
fn wait(child: &mut Child) -> ExitStatus {
    let mut status = None;
    let ended = poll_until(3 * LONG, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    if !ended {
        child.kill().unwrap();
    }
    status.unwrap_or_else(|| child.wait().unwrap())
}

/// A running script of `tests/python` or `tests/node` and what it says of itself.
struct Running {
    name: &'static str,
    child: Child,
    said: JoinHandle<String>,
}

impl Running {
    fn start(mut command: Command, name: &'static str, server: &Server) -> Self {
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).arg(server.client_url().unwrap());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        // Read while it runs, so that it never waits for us.
        let said = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        Self { name, child, said }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn succeeds(mut self) {
        let status = wait(&mut self.child);
        assert!(status.success(), "{}: {status}\n{}", self.name, self.said.join().unwrap());
    }
}

fn run_python(kind: Kind, name: &'static str) {
    let (Some(python), Some(server)) = (python(), start(kind, JETSTREAM())) else { return };
    Running::start(Command::new(python), name, &server).succeeds();
}

fn run_node(kind: Kind, name: &'static str) {
    let (Some((node, modules)), Some(server)) = (node(), start(kind, JETSTREAM())) else { return };
    let mut command = Command::new(node);
    command.env("NODE_PATH", modules);
    Running::start(command, name, &server).succeeds();
}

/// nats-py stays connected through a restart.
fn reconnect(kind: Kind) {
    let options = Options { port: Some(free_port().unwrap()), ..JETSTREAM() };
    let (Some(python), Some(mut server)) = (python(), start(kind, options)) else { return };
    let mut client = Running::start(Command::new(python), "python/reconnect.py", &server);
    assert_eq!(client.line(), "READY");
    server.terminate(LONG).unwrap();
    server.restart().unwrap();
    client.succeeds();
}

/// The CLI with a server to talk to.
struct Cli {
    program: PathBuf,
    server: Server,
}

impl Cli {
    fn new(kind: Kind) -> Option<Self> {
        Some(Self { program: nats_cli()?, server: start(kind, JETSTREAM())? })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        // No context of the user who runs the tests.
        command.env("XDG_CONFIG_HOME", self.server.dir()).env("HOME", self.server.dir());
        command.args(["--server", &self.server.client_url().unwrap(), "--timeout", "10s"]).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    fn try_run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What it prints; it must succeed.
    fn run(&self, arguments: &[&str]) -> String {
        let output = self.try_run(arguments);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(output.status.success(), "nats {}: {}\n{said}", arguments.join(" "), output.status);
        said
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.try_run(arguments);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("nats {}: {error}: {output:?}", arguments.join(" "));
        })
    }
}

fn core(kind: Kind) {
    let Some(cli) = Cli::new(kind) else { return };
    let mut subscriber =
        cli.command(&["sub", "greet.*", "--count", "2", "--raw"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut answering =
        cli.command(&["reply", "help", "it depends", "--count", "1"]).stdout(Stdio::piped()).spawn().unwrap();
    // A request finds the answerer once it has subscribed; before, there are no responders.
    let mut answer = String::new();
    assert!(
        poll_until(LONG, || {
            let output = cli.try_run(&["request", "help", "me", "--raw"]);
            answer = String::from_utf8_lossy(&output.stdout).into_owned();
            answer.contains("it depends")
        }),
        "no answer: {answer}"
    );
    wait(&mut answering);
    // A subscriber shows no such sign; what it misses is sent again.
    assert!(poll_until(LONG, || {
        cli.run(&["pub", "greet.a", "hello", "-H", "Key:value"]);
        subscriber.try_wait().unwrap().is_some()
    }));
    let mut heard = String::new();
    subscriber.stdout.take().unwrap().read_to_string(&mut heard).unwrap();
    assert_eq!(heard.matches("hello").count(), 2, "{heard}");
    let rtt = cli.run(&["rtt"]);
    assert!(rtt.contains(&cli.server.client_url().unwrap()), "{rtt}");
}

fn streams(kind: Kind) {
    let Some(cli) = Cli::new(kind) else { return };
    let made = cli.run(&["stream", "add", "ORDERS", "--subjects", "orders.>", "--defaults"]);
    assert!(made.contains("ORDERS"), "{made}");
    for n in 0..10 {
        cli.run(&["pub", "orders.new", &format!("order {n}"), "--jetstream"]);
    }
    let info = cli.json(&["stream", "info", "ORDERS", "--json"]);
    assert_eq!(info["state"]["messages"], 10);
    assert!(cli.run(&["stream", "ls"]).contains("ORDERS"));
    assert!(cli.run(&["stream", "get", "ORDERS", "3"]).contains("order 2"));
    assert!(cli.run(&["stream", "subjects", "ORDERS"]).contains("orders.new"));
    cli.run(&["stream", "edit", "ORDERS", "--max-msgs", "100", "--force"]);
    assert_eq!(cli.json(&["stream", "info", "ORDERS", "--json"])["config"]["max_msgs"], 100);
    cli.run(&["stream", "rmm", "ORDERS", "1", "--force"]);
    assert_eq!(cli.json(&["stream", "info", "ORDERS", "--json"])["state"]["first_seq"], 2);

    cli.run(&["consumer", "add", "ORDERS", "C", "--pull", "--ack", "explicit", "--defaults"]);
    assert!(cli.run(&["consumer", "ls", "ORDERS"]).contains('C'));
    for n in 1..4 {
        assert!(cli.run(&["consumer", "next", "ORDERS", "C", "--ack"]).contains(&format!("order {n}")));
    }
    let info = cli.json(&["consumer", "info", "ORDERS", "C", "--json"]);
    assert_eq!(
        (info["ack_floor"]["stream_seq"].as_u64(), info["num_pending"].as_u64()),
        (Some(4), Some(6)),
        "{info}"
    );
    cli.run(&["consumer", "rm", "ORDERS", "C", "--force"]);

    cli.run(&["stream", "purge", "ORDERS", "--force"]);
    assert_eq!(cli.json(&["stream", "info", "ORDERS", "--json"])["state"]["messages"], 0);
    cli.run(&["stream", "rm", "ORDERS", "--force"]);
    assert!(!cli.try_run(&["stream", "info", "ORDERS"]).status.success());
    assert!(cli.run(&["account", "info"]).contains("JetStream"));
}

fn key_value(kind: Kind) {
    let Some(cli) = Cli::new(kind) else { return };
    cli.run(&["kv", "add", "B", "--history", "5"]);
    cli.run(&["kv", "put", "B", "k", "one"]);
    cli.run(&["kv", "put", "B", "k", "two"]);
    assert_eq!(cli.run(&["kv", "get", "B", "k", "--raw"]).trim(), "two");
    assert!(!cli.try_run(&["kv", "create", "B", "k", "three"]).status.success());
    cli.run(&["kv", "update", "B", "k", "three", "2"]);
    assert!(!cli.try_run(&["kv", "update", "B", "k", "four", "2"]).status.success());
    let history = cli.run(&["kv", "history", "B", "k"]);
    assert!(["one", "two", "three"].iter().all(|value| history.contains(value)), "{history}");
    assert!(cli.run(&["kv", "ls", "B"]).contains('k'));
    let mut watch = cli.command(&["kv", "watch", "B", "k"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("three"), "the present value comes first");
    cli.run(&["kv", "put", "B", "k", "five"]);
    assert!(lines.next().unwrap().unwrap().contains("five"));
    cli.run(&["kv", "del", "B", "k", "--force"]);
    assert!(lines.next().unwrap().unwrap().contains("DEL"));
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert!(!cli.try_run(&["kv", "get", "B", "k", "--raw"]).status.success());
    assert!(cli.run(&["kv", "status", "B"]).contains('B'));
    cli.run(&["kv", "purge", "B", "k", "--force"]);
    cli.run(&["kv", "rm", "B", "--force"]);
    assert!(!cli.try_run(&["kv", "get", "B", "k"]).status.success());
}

fn objects(kind: Kind) {
    let Some(cli) = Cli::new(kind) else { return };
    let path = |name: &str| cli.server.dir().join(name).to_str().unwrap().to_owned();
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(7919) >> 8).to_le_bytes()[0]).collect();
    std::fs::write(path("large"), &content).unwrap();
    std::fs::write(path("small"), "hello").unwrap();
    cli.run(&["object", "add", "B"]);
    let mut watch = cli.command(&["object", "watch", "B"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut changes = BufReader::new(watch.stdout.take().unwrap()).lines();
    for name in ["large", "small"] {
        cli.run(&["object", "put", "B", &path(name), "--name", name, "--force", "--no-progress"]);
        // It may not listen yet when the first one is stored: then it begins with that.
        let change = changes.next().unwrap().unwrap();
        assert!(change.contains("PUT") && change.contains(name), "{change}");
    }
    cli.run(&["object", "get", "B", "large", "--output", &path("copy"), "--force", "--no-progress"]);
    assert!(std::fs::read(path("copy")).unwrap() == content);
    let info = cli.run(&["object", "info", "B", "large"]);
    assert!(info.contains("SHA-256") && info.contains("2.9 MiB"), "{info}");
    let listed = cli.run(&["object", "ls", "B"]);
    assert!(listed.contains("large") && listed.contains("small"), "{listed}");
    cli.run(&["object", "rm", "B", "large", "--force"]);
    let change = changes.next().unwrap().unwrap();
    assert!(change.contains("DEL") && change.contains("large"), "{change}");
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert!(
        !cli.try_run(&["object", "get", "B", "large", "--output", &path("gone"), "--no-progress"])
            .status
            .success()
    );
    cli.run(&["object", "seal", "B", "--force"]);
    assert_eq!(cli.json(&["stream", "info", "OBJ_B", "--json"])["config"]["sealed"], true);
    assert!(
        !cli.try_run(&["object", "put", "B", &path("small"), "--name", "late", "--no-progress"])
            .status
            .success()
    );
    cli.run(&["object", "rm", "B", "--force"]);
    assert!(!cli.try_run(&["object", "info", "B"]).status.success());
}

fn bench(kind: Kind) {
    let Some(cli) = Cli::new(kind) else { return };
    let said = cli.run(&["bench", "pub", "b", "--clients", "2", "--msgs", "20000", "--no-progress"]);
    assert!(said.contains("msgs/sec"), "{said}");
    let said = cli.run(&["bench", "js", "pub", "sync", "jsb", "--create", "--msgs", "500", "--no-progress"]);
    assert!(said.contains("msgs/sec"), "{said}");
}

/// A backup of all streams, and everything back from it.
fn backups(kind: Kind) {
    let Some(cli) = Cli::new(kind) else { return };
    let dir = cli.server.dir().join("backup");
    let dir = dir.to_str().unwrap();
    let messages =
        |stream: &str| cli.json(&["stream", "info", stream, "--json"])["state"]["messages"].clone();
    for name in ["ONE", "TWO"] {
        cli.run(&["stream", "add", name, "--subjects", &format!("{name}.*"), "--defaults"]);
        cli.run(&["pub", &format!("{name}.a"), "hello", "--count", "50"]);
    }
    cli.run(&["consumer", "add", "ONE", "C", "--pull", "--defaults"]);
    assert_eq!((messages("ONE"), messages("TWO")), (50.into(), 50.into()));
    cli.run(&["backup", "account", dir, "--force"]);
    for name in ["ONE", "TWO"] {
        cli.run(&["stream", "rm", name, "--force"]);
    }
    cli.run(&["backup", "restore", "account", dir]);
    assert_eq!((messages("ONE"), messages("TWO")), (50.into(), 50.into()));
    assert_eq!(cli.json(&["consumer", "info", "ONE", "C", "--json"])["num_pending"], 50);
}

macro_rules! both {
    ($($name:ident => $run:expr;)+) => {
        mod linnet {
            use super::*;
            $(#[test] fn $name() {
                $run(Kind::Linnet);
            })+
        }
        mod peer {
            use super::*;
            $(#[test] fn $name() {
                $run(Kind::Peer);
            })+
        }
    };
}

both! {
    nats_py_does_core_messaging => |kind| run_python(kind, "python/core.py");
    nats_py_uses_jetstream => |kind| run_python(kind, "python/jetstream.py");
    nats_py_keeps_objects => |kind| run_python(kind, "python/objects.py");
    npm_clients_do_core_messaging => |kind| run_node(kind, "node/core.js");
    npm_clients_use_streams => |kind| run_node(kind, "node/streams.js");
    npm_clients_keep_values => |kind| run_node(kind, "node/key_value.js");
    npm_clients_keep_objects => |kind| run_node(kind, "node/objects.js");
    nats_py_comes_back_after_a_restart => reconnect;
    the_cli_publishes_subscribes_and_asks => core;
    the_cli_manages_streams_and_consumers => streams;
    the_cli_keeps_values => key_value;
    the_cli_keeps_objects => objects;
    the_cli_measures => bench;
    the_cli_backs_everything_up => backups;
}
