//! The `linnet` binary: the server, also when started as `nats-server`; a tool when one of its own words comes first.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program talks on its terminal")]

mod store;
mod up;

use std::process::ExitCode;

use clap::Parser;
use linnet_conf::flags::{self, Action, Invocation};
use linnet_conf::{Options, ProcessSource, Rejected};
use linnet_server::{LINNET_VERSION, NATS_VERSION};

/// `linnet bench`.
#[derive(Parser)]
#[command(name = "linnet bench", about = "Measures a NATS server, or two side by side")]
struct Bench {
    #[command(flatten)]
    args: linnet_bench::Args,
}

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == "bench") {
        return bench();
    }
    if std::env::args_os().nth(1).is_some_and(|word| word == "store") {
        // The name of the program and the word stand for the command.
        return store::run(std::env::args_os().skip(1));
    }
    if std::env::args_os().nth(1).is_some_and(|word| word == "up") {
        return up::run(std::env::args_os().skip(1));
    }
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let invocation = match flags::parse(&arguments) {
        Ok(invocation) => invocation,
        Err(error) => {
            eprintln!("nats-server: {error}");
            return ExitCode::FAILURE;
        }
    };
    match &invocation.action {
        Action::Help => {
            println!("{}", flags::usage("nats-server"));
            ExitCode::SUCCESS
        }
        Action::HelpTls => {
            println!("{}", flags::help_tls());
            ExitCode::SUCCESS
        }
        Action::Version => {
            println!("nats-server: v{NATS_VERSION} (linnet {LINNET_VERSION})");
            ExitCode::SUCCESS
        }
        Action::Signal(request) => match linnet_server::send_signal(request) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("nats-server: {error}");
                ExitCode::FAILURE
            }
        },
        Action::Check => check(invocation.config.as_deref().unwrap_or_default()),
        Action::Serve => serve(invocation),
    }
}

fn bench() -> ExitCode {
    let program = std::env::args_os().take(1);
    let bench = Bench::parse_from(program.chain(std::env::args_os().skip(2)));
    match linnet_bench::run(&bench.args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("linnet bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `-t`: judges the configuration file.
fn check(path: &str) -> ExitCode {
    let loaded = linnet_conf::load(path, &ProcessSource).and_then(|parsed| {
        match linnet_server::check_tls(&parsed.options) {
            Ok(()) => Ok(parsed),
            Err(error) => Err(Rejected { errors: vec![error], warnings: parsed.warnings }),
        }
    });
    match flags::check_outcome(path, &loaded) {
        Ok(text) => {
            eprintln!("{text}");
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn serve(invocation: Invocation) -> ExitCode {
    let (mut options, config) = match &invocation.config {
        None => (Options::default(), None),
        Some(path) => match linnet_conf::load(path, &ProcessSource) {
            Ok(parsed) => {
                for warning in &parsed.warnings {
                    eprintln!("{warning}");
                }
                (parsed.options, Some((path.clone(), parsed.digest)))
            }
            Err(rejected) => {
                eprintln!("nats-server: {rejected}\n");
                return ExitCode::FAILURE;
            }
        },
    };
    invocation.overrides.apply(&mut options);
    if let Err(errors) = linnet_conf::check(&options) {
        for error in errors {
            eprintln!("nats-server: {error}");
        }
        return ExitCode::FAILURE;
    }
    if let Err(error) = linnet_server::check_tls(&options) {
        eprintln!("nats-server: {error}");
        return ExitCode::FAILURE;
    }
    match linnet_server::run(options, invocation.overrides, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
