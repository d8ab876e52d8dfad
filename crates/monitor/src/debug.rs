//! `/stacksz` and `/debug/vars`: the paths exist on every nats-server, the content is this process's own.

use axum::http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::answer::{Page, data, response};
use crate::json::{Layout, to_json};
use crate::monitor::Monitor;
use crate::process;

/// Command line and memory.
#[derive(Serialize)]
pub(crate) struct Vars {
    cmdline: Vec<String>,
    memstats: MemStats,
}

#[derive(Serialize)]
struct MemStats {
    /// Address space.
    #[serde(rename = "Sys")]
    sys: u64,
    /// Resident.
    #[serde(rename = "Resident")]
    resident: u64,
}

/// The threads of the process.
pub(crate) fn stacksz(_: &Monitor) -> Page {
    Ok(data(StatusCode::OK, process::threads().into_bytes()))
}

/// Command line and memory.
pub(crate) fn vars(_: &Monitor) -> Page {
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    Ok(response(StatusCode::OK, json, to_json(&expvars(), Layout::Two)))
}

/// What `/debug/vars` shows.
pub(crate) fn expvars() -> Vars {
    let (sys, resident) = process::memory();
    let cmdline = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    Vars { cmdline, memstats: MemStats { sys, resident } }
}
