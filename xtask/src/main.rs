//! Developer tasks: `cargo xtask ci`, `cargo xtask tidy`, `cargo xtask tools`, `cargo xtask sim`,
//! `cargo xtask faults`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program talks on its terminal")]

mod ci;
mod faults;
mod layers;
mod links;
mod metadata;
mod sim;
mod text;
mod tidy;
mod tools;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask <task>

  ci      format, lints, tidy, tools, and all tests
  tidy    layers of the crates, and rules for the text of the files
  tools   installs what the tests need beyond Rust under the target directory
  sim     long sweeps of the simulator: --seeds N (1000), --from N, --minutes M
  faults  faults of processes, disks and networks over real servers: --rounds N (10), --seed S";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["ci"] => ci::run(),
        ["tidy"] => tidy::run(),
        ["sim", rest @ ..] => sim::run(rest),
        ["faults", rest @ ..] => faults::run(rest),
        ["tools"] => tools::install().map(|_| ()),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
