//! Every workload, for a moment, on a real server.

use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: linnet_bench::Args,
}

/// The reference server, or `None` with a note that the test did not run; that is a failure in CI.
#[allow(clippy::print_stdout, reason = "a test that did not run says so")]
fn program() -> Option<String> {
    if let Ok(path) = std::env::var("NATS_SERVER")
        && std::path::Path::new(&path).exists()
    {
        return Some(path);
    }
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "NATS_SERVER must name a server in CI");
    println!("NOT RUN: NATS_SERVER does not name a server");
    None
}

fn run(arguments: &[&str]) -> anyhow::Result<()> {
    linnet_bench::run(&Cli::parse_from([&["bench"], arguments].concat()).args)
}

#[test]
fn every_workload_completes_on_both_servers() {
    let Some(program) = program() else { return };
    run(&["--ours", &program, "--peer", &program, "--quick", "--messages", "2000", "--json"]).unwrap();
}

#[test]
fn unknown_workload_is_refused() {
    let error = run(&["--only", "nonsense"]).unwrap_err();
    assert!(error.to_string().contains("nonsense"), "{error}");
}

#[test]
fn program_that_is_no_server_is_reported() {
    let error = run(&["--ours", "/no/such/server", "--only", "publish-16", "--runs", "1"]).unwrap_err();
    assert_eq!(error.to_string(), "1 workloads failed");
}
