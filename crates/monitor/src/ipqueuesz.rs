//! What waits in queues inside the server.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde::Serialize;

use crate::answer::{Page, json};
use crate::json::Layout;
use crate::monitor::Monitor;
use crate::params::Params;

#[derive(Serialize)]
struct Queue {
    pending: usize,
}

/// `/ipqueuesz`.
pub(crate) fn page(monitor: &Monitor, params: &Params) -> Page {
    let all = params.bool("all")?;
    let filter = params.text("queues");
    let mut queues = BTreeMap::new();
    for account in monitor.engine().iter().flat_map(|e| e.accounts()) {
        for stream in account.streams() {
            let name = format!("[ACC:{}] stream '{}' messages", account.name(), stream.config().name);
            let pending = stream.waiting();
            if (all || pending > 0) && name.contains(filter) {
                queues.insert(name, Queue { pending });
            }
        }
    }
    Ok(json(StatusCode::OK, &queues, Layout::Three))
}
