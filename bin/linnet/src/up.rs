//! `linnet up`: a local cluster to try things on.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};

use clap::{Args, Parser, Subcommand};
use linnet_up::{Binary, Fault, Options, Request};

/// The command was wrong.
const USAGE: u8 = 2;
/// A server could not be executed; what shells say for that.
const NOT_EXECUTED: u8 = 127;
/// Servers of one cluster.
const SERVERS_MAX: i64 = 32;
/// The word for starting a server of the cluster.
const EXECUTE: &str = "execute";

#[derive(Parser)]
#[command(
    name = "linnet up",
    bin_name = "linnet up",
    about = "Starts a cluster of servers on this machine, shows it, and stops it on Ctrl-C",
    args_conflicts_with_subcommands = true
)]
struct Command {
    #[command(flatten)]
    start: Start,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Args)]
struct Start {
    /// How many servers, named n1, n2 and so on. Without this, as many as DIR has, or 3. A single one has JetStream.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=SERVERS_MAX))]
    servers: Option<u16>,
    /// Keep configurations, stores, ports and passwords here. Without this, they are temporary.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Client port of n1; that of n2 is the next one, and so on. Without this, free ports.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Run another program, for instance nats-server, as this server. Can be given for several servers.
    #[arg(long = "binary", value_name = "NAME=PATH")]
    binaries: Vec<Binary>,
}

#[derive(Subcommand)]
enum Action {
    /// Ends a server at once, as a crash would.
    Kill(Target),
    /// Freezes a server: it keeps its connections and does nothing.
    Pause(Target),
    /// Lets a paused server continue.
    Resume(Target),
    /// Stops a server if it runs, and starts it again on the same ports.
    Restart(Target),
    /// Becomes a server that ends with the process that has started this one.
    #[command(name = EXECUTE, hide = true)]
    Execute {
        parent: u32,
        program: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

#[derive(Args)]
struct Target {
    /// The server.
    name: String,
    /// Directory of the cluster. Without this, the only one of this user that runs.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Runs the command line behind the program's name.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let command = match Command::try_parse_from(arguments) {
        Ok(command) => command,
        Err(error) => {
            let code = if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
            let _ = error.print();
            return code;
        }
    };
    match command.action {
        None => start(command.start),
        Some(Action::Kill(target)) => ask(Fault::Kill, target),
        Some(Action::Pause(target)) => ask(Fault::Pause, target),
        Some(Action::Resume(target)) => ask(Fault::Resume, target),
        Some(Action::Restart(target)) => ask(Fault::Restart, target),
        Some(Action::Execute { parent, program, arguments }) => execute(parent, &program, arguments),
    }
}

fn start(start: Start) -> ExitCode {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return failed(&format!("cannot find this program: {error}")),
    };
    let launcher = vec![program.clone().into(), "up".into(), EXECUTE.into()];
    let Start { servers, dir, port, binaries } = start;
    let options = Options { servers, dir, port, binaries, program, launcher };
    match linnet_up::run(&options, &mut std::io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error.to_string()),
    }
}

fn ask(fault: Fault, target: Target) -> ExitCode {
    let request = Request { fault, server: target.name };
    match linnet_up::ask(target.dir.as_deref(), &request) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error.to_string()),
    }
}

fn execute(parent: u32, program: &Path, arguments: Vec<OsString>) -> ExitCode {
    let error = linnet_up::become_server(parent, process::Command::new(program).args(arguments));
    eprintln!("linnet up: cannot run {}: {error}", program.display());
    ExitCode::from(NOT_EXECUTED)
}

fn failed(text: &str) -> ExitCode {
    eprintln!("linnet up: {text}");
    ExitCode::FAILURE
}
