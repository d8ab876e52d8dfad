//! `cargo xtask sim`: long sweeps of the simulator and of the walks of consensus.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::metadata;

/// What is swept: a package, a test binary, a test, and whether stored data rots.
const SWEEPS: [(&str, &str, &str, bool); 6] = [
    ("linnet-sim", "smoke", "smoke", false),
    ("linnet-sim", "smoke", "smoke", true),
    ("linnet-sim", "clusters", "no_fault_of_a_minority_breaks_a_promise", false),
    ("linnet-sim", "replicas", "no_fault_of_a_minority_breaks_a_promise", false),
    ("linnet-sim", "fleets", "no_fault_breaks_a_promise", false),
    ("linnet-raft", "raft", "walk::", false),
];

/// How much to run.
struct Plan {
    seeds: u64,
    from: u64,
    minutes: Option<u64>,
}

fn plan(words: &[&str]) -> anyhow::Result<Plan> {
    let mut plan = Plan { seeds: 1000, from: 0, minutes: None };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} needs a number"))?;
        let number: u64 = value.parse().with_context(|| format!("{word} {value}: not a number"))?;
        match *word {
            "--seeds" => plan.seeds = number,
            "--from" => plan.from = number,
            "--minutes" => plan.minutes = Some(number),
            other => bail!("unknown option {other}: there are --seeds, --from and --minutes"),
        }
    }
    Ok(plan)
}

/// Runs every sweep over the seeds; with `--minutes` over further ones until the time is up. The first failure ends it.
#[allow(clippy::disallowed_methods, reason = "a developer task runs in real time only")]
pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    let plan = plan(words)?;
    let limit = plan.minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let start = std::time::Instant::now();
    let mut from = plan.from;
    loop {
        for (package, binary, test, with_damage) in SWEEPS {
            println!("== {package} {test}{} from {from}", if with_damage { " with damage" } else { "" });
            let mut command = Command::new(metadata::cargo());
            command
                .args(["test", "--quiet", "-p", package, "--test", binary, test])
                .env("LINNET_SEEDS", plan.seeds.to_string())
                .env("LINNET_FROM", from.to_string());
            if with_damage {
                command.env("LINNET_DAMAGE", "1");
            }
            let status = command.status().context("cannot run cargo")?;
            ensure!(status.success(), "{package} {test} failed");
        }
        from += plan.seeds;
        if limit.is_none_or(|limit| start.elapsed() >= limit) {
            return Ok(());
        }
    }
}
