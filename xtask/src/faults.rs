//! `cargo xtask faults`: every test of faults over real servers, for long.

use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::metadata;

/// Tests of faults: their module in the black-box tests, and the variable that says how long they run.
const SUITES: [(&str, &str); 3] = [
    ("replicated::", "LINNET_FAULT_ROUNDS"),
    ("cluster_faults::", "LINNET_FAULT_ROUNDS"),
    ("crash::", "LINNET_CRASH_ROUNDS"),
];
const ROUNDS: u64 = 10;
/// Runs at a time: each has three servers or more, which mostly wait.
const AT_A_TIME: &str = "2";

/// How much to run.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    rounds: u64,
    seed: Option<u64>,
}

fn plan(words: &[&str]) -> anyhow::Result<Plan> {
    let mut plan = Plan { rounds: ROUNDS, seed: None };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} needs a number"))?;
        let number: u64 = value.parse().with_context(|| format!("{word} {value}: not a number"))?;
        match *word {
            "--rounds" => plan.rounds = number,
            "--seed" => plan.seed = Some(number),
            other => bail!("unknown option {other}: there are --rounds and --seed"),
        }
    }
    Ok(plan)
}

/// Runs all of them over so many faults each; a seed repeats the runs of it. What this machine does not allow is named as
/// not run.
pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    let plan = plan(words)?;
    let cargo = || Command::new(metadata::cargo());
    let built = cargo().args(["build", "--quiet", "--package", "linnet"]).status();
    ensure!(built.context("cannot run cargo")?.success(), "the server does not build");
    let binary = metadata::load()?.target_directory.join("debug/linnet");
    let mut failed = Vec::new();
    for (suite, rounds) in SUITES {
        println!("== {suite} {} rounds", plan.rounds);
        let mut command = cargo();
        command.args(["test", "--quiet", "-p", "linnet-tests", "--", suite, "--nocapture"]);
        command.args(["--test-threads", AT_A_TIME]);
        command.env("LINNET_BIN", &binary).env(rounds, plan.rounds.to_string());
        if let Some(seed) = plan.seed {
            command.env("LINNET_FAULT_SEED", seed.to_string()).env("LINNET_CRASH_SEED", seed.to_string());
        }
        if !command.status().context("cannot run cargo")?.success() {
            failed.push(suite);
        }
    }
    ensure!(failed.is_empty(), "failed: {}; a seed that was printed repeats its run", failed.join(", "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_and_a_seed_are_understood() {
        assert_eq!(plan(&[]).unwrap(), Plan { rounds: ROUNDS, seed: None });
        let words = ["--rounds", "3", "--seed", "7"];
        assert_eq!(plan(&words).unwrap(), Plan { rounds: 3, seed: Some(7) });
        assert!(
            plan(&["--rounds"]).is_err() && plan(&["--seed", "x"]).is_err() && plan(&["--x", "1"]).is_err()
        );
    }
}
