//! The load generator as a program of its own.

use anyhow::Result;
use clap::Parser;

#[derive(Parser)]
#[command(name = "linnet-bench", about = "Measures a NATS server, or two side by side")]
struct Cli {
    #[command(flatten)]
    args: linnet_bench::Args,
}

fn main() -> Result<()> {
    linnet_bench::run(&Cli::parse().args)
}
