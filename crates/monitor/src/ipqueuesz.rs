//! What waits in queues inside the server.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::answer::{Page, json};
use crate::json::Layout;
use crate::monitor::Monitor;
use crate::params::Params;

/// A queue.
#[derive(Serialize)]
pub(crate) struct Queue {
    pending: usize,
}

/// What is asked for. The names are those in JSON.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Question {
    all: bool,
    filter: String,
}

/// `/ipqueuesz`.
pub(crate) fn page(monitor: &Monitor, params: &Params) -> Page {
    let question = Question { all: params.bool("all")?, filter: params.text("queues").to_owned() };
    Ok(json(StatusCode::OK, &report(monitor, &question), Layout::Three))
}

/// What the page shows: queues by name.
pub(crate) fn report(monitor: &Monitor, question: &Question) -> BTreeMap<String, Queue> {
    let mut queues = BTreeMap::new();
    for account in monitor.engine().iter().flat_map(|e| e.accounts()) {
        for stream in account.streams() {
            let name = format!("[ACC:{}] stream '{}' messages", account.name(), stream.config().name);
            let pending = stream.waiting();
            if (question.all || pending > 0) && name.contains(&question.filter) {
                queues.insert(name, Queue { pending });
            }
        }
    }
    queues
}
